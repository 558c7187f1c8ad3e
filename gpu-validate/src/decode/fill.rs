//! The contents of a rig's memory: weights, activations, KV, poison and guard bands.
//!
//! Weights are those of `weight_layers` different layers; layer `j` uses `j mod weight_layers`. All contents are random:
//! matrices so scaled that a row keeps its variance (uniform in ±√(3/inner)), KV in ±1 and different in every
//! (request, layer). The same (seed, request, layer) gives the same KV whether it starts on the device or on the host.

use super::layout::{GUARD_BYTES, KvLayout, Region};
use crate::case::Case;
use crate::device::{
    AttentionWork, CopyApi, CopyPiece, CopyWork, Device, DeviceBuffer, DeviceError, DeviceSlice, Direction,
    FillWith, HostBuffer, POISON, Stream, Work,
};

/// What guard bands hold: no poison and no random value.
pub(super) const GUARD_WORD: u32 = 0x5a5a_a5a5;

/// Slices of activations start at multiples of this, as cuBLAS likes it.
const ALIGNMENT: u64 = 256;

/// Weights of one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerWeights {
    pub qkv: DeviceSlice,
    pub output: DeviceSlice,
    pub gate_up: DeviceSlice,
    pub down: DeviceSlice,
    pub attention_norm: DeviceSlice,
    pub mlp_norm: DeviceSlice,
}

/// Activations; all but `qkv` are used again by every layer.
#[derive(Clone, Debug)]
pub(super) struct Activations {
    /// Residual stream, then what is added to it next.
    pub state: DeviceSlice,
    pub residual: DeviceSlice,
    pub delta: DeviceSlice,
    /// What `state` holds at the start of a step whose outputs are kept.
    pub initial: DeviceSlice,
    pub normed: DeviceSlice,
    /// One per layer: the write-back reads new K and V here until the layer's next step.
    pub qkv: Vec<DeviceSlice>,
    pub attended: DeviceSlice,
    pub gate_up: DeviceSlice,
    pub activated: DeviceSlice,
    pub logits: DeviceSlice,
    pub workspace: DeviceSlice,
    /// Per layer: attention's output, then what the layer adds; empty unless outputs are kept.
    pub trace: Vec<(DeviceSlice, DeviceSlice)>,
}

/// Allocates and fills, each buffer from a seed of its own.
pub(super) struct Filler<'d> {
    pub device: &'d mut dyn Device,
    pub compute: Stream,
    pub seed: u64,
    /// Device memory allocated so far, in bytes.
    pub used: u64,
}

impl Filler<'_> {
    fn alloc(&mut self, bytes: u64) -> Result<DeviceBuffer, DeviceError> {
        self.used += bytes;
        self.device.alloc(bytes)
    }

    /// A buffer, unless it is empty.
    pub fn some(&mut self, bytes: u64) -> Result<Option<DeviceBuffer>, DeviceError> {
        (bytes > 0).then(|| self.alloc(bytes)).transpose()
    }

    /// Slices of `sizes` bytes in a buffer of their own.
    fn slices(&mut self, sizes: &[u64]) -> Result<(DeviceBuffer, Vec<DeviceSlice>), DeviceError> {
        let starts: Vec<u64> = sizes
            .iter()
            .scan(0, |next, size| {
                let start = *next;
                *next += size.next_multiple_of(ALIGNMENT);
                Some(start)
            })
            .collect();
        let all = sizes.iter().map(|size| size.next_multiple_of(ALIGNMENT)).sum();
        let buffer = self.alloc(all)?;
        Ok((buffer, starts.iter().zip(sizes).map(|(start, size)| buffer.slice(*start, *size)).collect()))
    }

    fn random(&mut self, to: DeviceSlice, scale: f32, what: &[u64]) -> Result<(), DeviceError> {
        let with = FillWith::Random { seed: seed_of(self.seed, what), scale };
        self.device.submit(self.compute, &Work::Fill { to, with })
    }

    /// Weights of the layers, of the final norm and of the output head.
    pub fn weights(
        &mut self,
        case: &Case,
        weight_layers: u32,
    ) -> Result<(Vec<LayerWeights>, DeviceSlice, DeviceSlice), DeviceError> {
        let (shape, model) = (case.attention(), &case.model);
        let (hidden, intermediate) = (u64::from(model.hidden), u64::from(model.intermediate));
        let attended = u64::from(shape.heads) * u64::from(shape.head_dim);
        // (elements, columns of the input); a norm's weights are one column.
        let matrices = [
            (u64::from(shape.qkv_width()) * hidden, hidden),
            (hidden * attended, attended),
            (2 * intermediate * hidden, hidden),
            (hidden * intermediate, intermediate),
            (hidden, 3),
            (hidden, 3),
        ];
        let mut weights = Vec::new();
        for layer in 0..u64::from(weight_layers.clamp(1, case.layers)) {
            let slices = self.matrices(&matrices, 1 + layer)?;
            let [qkv, output, gate_up, down, attention_norm, mlp_norm] = slices[..] else {
                unreachable!("Invariant: as many slices as sizes")
            };
            weights.push(LayerWeights { qkv, output, gate_up, down, attention_norm, mlp_norm });
        }
        let last = self.matrices(&[(hidden, 3), (u64::from(model.vocab) * hidden, hidden)], 0)?;
        Ok((weights, last[0], last[1]))
    }

    fn matrices(&mut self, sizes: &[(u64, u64)], layer: u64) -> Result<Vec<DeviceSlice>, DeviceError> {
        let bytes: Vec<u64> = sizes.iter().map(|(elements, _)| 2 * elements).collect();
        let (_, slices) = self.slices(&bytes)?;
        for (place, (slice, (_, inner))) in slices.iter().zip(sizes).enumerate() {
            self.random(whole_words(*slice), (3.0 / *inner as f32).sqrt(), &[1, layer, place as u64])?;
        }
        Ok(slices)
    }

    /// Activations, and the buffer that q, k and v of all layers lie in.
    pub fn activations(
        &mut self,
        case: &Case,
        splits: u32,
        keep_outputs: bool,
    ) -> Result<(Activations, DeviceBuffer), DeviceError> {
        let (shape, model, rows) = (case.attention(), &case.model, u64::from(case.batch()));
        let row = |width: u64| 2 * rows * width;
        let hidden = row(u64::from(model.hidden));
        let attended = row(u64::from(shape.heads) * u64::from(shape.head_dim));
        let intermediate = row(u64::from(model.intermediate));
        let workspace = AttentionWork::workspace_bytes(shape, case.batch(), splits);
        let sizes = [
            2 * hidden,
            2 * hidden,
            hidden,
            attended,
            2 * intermediate,
            intermediate,
            row(u64::from(model.vocab)),
            workspace,
        ];
        let (_, slices) = self.slices(&sizes)?;
        let [state, initial, normed, attended_slice, gate_up, activated, logits, workspace] = slices[..]
        else {
            unreachable!("Invariant: as many slices as sizes")
        };
        self.random(state, 1.0, &[2])?;
        self.random(initial, 1.0, &[2])?;
        let layers = case.layers as usize;
        let (new_rows, qkv) = self.slices(&vec![row(u64::from(shape.qkv_width())); layers])?;
        let trace = if keep_outputs {
            let (_, slices) = self.slices(&[attended, hidden].repeat(layers))?;
            slices.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
        } else {
            Vec::new()
        };
        let (residual, delta) = (state.slice(0, hidden), state.slice(hidden, hidden));
        let activations = Activations {
            state,
            residual,
            delta,
            initial,
            normed,
            qkv,
            attended: attended_slice,
            gate_up,
            activated,
            logits,
            workspace,
            trace,
        };
        Ok((activations, new_rows))
    }

    /// Fills resident KV in place, host KV by way of a slot, then the staging buffer with poison and guard bands.
    pub fn kv(
        &mut self,
        layout: &KvLayout,
        resident: Option<DeviceBuffer>,
        staged: Option<(DeviceBuffer, HostBuffer)>,
    ) -> Result<(), DeviceError> {
        for (request, layer, region) in fresh(&layout.resident) {
            let buffer = resident.expect("Invariant: resident regions have a buffer");
            self.random(buffer.slice(region.offset, region.bytes), 1.0, &[3, request, layer])?;
        }
        let Some((staging, host)) = staged else { return Ok(()) };
        for (request, layer, region) in fresh(&layout.host) {
            let slot = layout.slots[request as usize][0];
            self.random(staging.slice(slot, region.bytes), 1.0, &[3, request, layer])?;
            let piece = CopyPiece { host_offset: region.offset, device_offset: slot, bytes: region.bytes };
            let copy = CopyWork {
                direction: Direction::D2h,
                api: CopyApi::Async,
                host,
                device: staging,
                pieces: &[piece],
            };
            self.device.copy(self.compute, &copy)?;
        }
        self.device.submit(self.compute, &Work::Fill { to: staging.all(), with: POISON })?;
        for guard in &layout.guards {
            let to = staging.slice(*guard, GUARD_BYTES);
            self.device.submit(self.compute, &Work::Fill { to, with: FillWith::Word(GUARD_WORD) })?;
        }
        Ok(())
    }
}

/// (request, layer index, region) of every region that is filled.
fn fresh(table: &[Vec<Option<Region>>]) -> impl Iterator<Item = (u64, u64, Region)> + '_ {
    table.iter().enumerate().flat_map(|(request, regions)| {
        regions.iter().enumerate().filter_map(move |(layer, region)| {
            region.filter(|region| region.fresh).map(|region| (request as u64, layer as u64, region))
        })
    })
}

/// A slice less the two bytes that a last odd element takes: fills are of whole words.
fn whole_words(slice: DeviceSlice) -> DeviceSlice {
    slice.slice(0, slice.bytes() / 4 * 4)
}

/// A seed for one thing, named by numbers (SplitMix64's finaliser over them, Steele, Lea and Flood 2014).
pub(crate) fn seed_of(seed: u64, what: &[u64]) -> u64 {
    what.iter().fold(seed, |state, part| {
        let mut bits = (state ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    })
}
