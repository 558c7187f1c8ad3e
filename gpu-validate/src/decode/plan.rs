//! A case turned into memory, streams and lists of work: everything a step needs, made before the first one.
//!
//! Weights are those of `weight_layers` different layers; layer `j` uses `j mod weight_layers`. All contents are random:
//! matrices so scaled that a row keeps its variance (uniform in ±√(3/inner)), KV in ±1 and different in every
//! (request, layer). The same (seed, request, layer) gives the same KV whether it starts on the device or on the host.

use orbitflow_sim::ids::Layer;

use super::RigOptions;
use super::layout::{GUARD_BYTES, KvLayout, Limits, Region};
use super::schedule::submission_order;
use crate::case::{Case, CopyStreams};
use crate::device::{
    AttentionWork, CopyApi, CopyPiece, CopyWork, Device, DeviceBuffer, DeviceError, DeviceSlice, Direction,
    Event, FillWith, HostBuffer, HostMemory, KvRow, KvTable, POISON, Stream, Work,
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

/// One prefetch, ready to be submitted.
#[derive(Clone, Debug)]
pub(super) struct Prefetch {
    pub layer: Layer,
    pub freed_by: Option<Layer>,
    pub slot: DeviceSlice,
    pub pieces: Vec<CopyPiece>,
    pub stream: Stream,
    /// Place among all copies of a step.
    pub place: usize,
    /// Whether a ready event follows: the last copy for its layer in its stream.
    pub signals: bool,
}

/// Everything a step needs.
pub(super) struct StepPlan {
    pub case: Case,
    pub options: RigOptions,
    pub splits: u32,
    pub weights: Vec<LayerWeights>,
    pub final_norm: DeviceSlice,
    pub head: DeviceSlice,
    pub activations: Activations,
    /// One per layer.
    pub tables: Vec<KvTable>,
    pub layout: KvLayout,
    pub staging: Option<DeviceBuffer>,
    pub host: Option<HostBuffer>,
    pub new_rows: DeviceBuffer,
    /// Per layer: what is submitted before its kernels.
    pub prefetches: Vec<Vec<Prefetch>>,
    /// Per layer: which copies' ready events its kernels wait for.
    pub ready: Vec<Vec<usize>>,
    /// Per layer: new rows of its offloaded requests, device to host.
    pub writes: Vec<Vec<CopyPiece>>,
    pub compute: Stream,
    pub copy_streams: Vec<Stream>,
    pub write_stream: Stream,
}

/// The events of a step, used again by the next. A captured step has its own.
pub(super) struct StepEvents {
    pub begin: Event,
    /// Per layer.
    pub layer_end: Vec<Event>,
    /// Per copy.
    pub ready: Vec<Event>,
    /// Per layer.
    pub written: Vec<Event>,
}

impl StepEvents {
    pub fn new(device: &mut dyn Device, plan: &StepPlan) -> Result<StepEvents, DeviceError> {
        let layers = plan.case.layers as usize;
        let mut events = |count| (0..count).map(|_| device.event()).collect::<Result<Vec<_>, _>>();
        let (layer_end, ready, written) = (events(layers)?, events(plan.copies())?, events(layers)?);
        Ok(StepEvents { begin: device.event()?, layer_end, ready, written })
    }
}

impl StepPlan {
    /// Copies of a step.
    pub fn copies(&self) -> usize {
        self.prefetches.iter().map(Vec::len).sum()
    }

    /// Whether a layer is offloaded by someone.
    pub fn is_fetched(&self, layer: Layer) -> bool {
        !self.ready[layer.index()].is_empty()
    }

    /// Allocates and fills everything and waits for it. Gives back whatever was on the device before.
    pub fn build(
        device: &mut dyn Device,
        case: &Case,
        options: &RigOptions,
    ) -> Result<StepPlan, DeviceError> {
        device.free_all()?;
        let compute = device.stream()?;
        let mut filler = Filler { device, compute, seed: options.seed, used: 0 };
        let splits = splits(filler.device, case, options);
        let (weights, final_norm, head) = filler.weights(case, options.weight_layers)?;
        let (activations, new_rows) = filler.activations(case, splits, options.keep_outputs)?;
        let layout = KvLayout::of(case, &limits(filler.device, filler.used, options))?;
        let resident = filler.some(layout.resident_bytes)?;
        let staging = filler.some(layout.staging_bytes)?;
        let host = match layout.host_bytes {
            0 => None,
            bytes => Some(filler.device.alloc_host(bytes, HostMemory::Pinned)?),
        };
        filler.kv(&layout, resident, staging.zip(host))?;
        let tables = tables(filler.device, case, &layout, resident, staging)?;
        let copy_streams = copy_streams(filler.device, case)?;
        let write_stream = filler.device.stream()?;
        filler.device.synchronize()?;
        let (prefetches, ready) = prefetches(case, &layout, staging, &copy_streams);
        let writes = writes(case, &layout, &activations);
        Ok(StepPlan {
            case: case.clone(),
            options: *options,
            splits,
            weights,
            final_norm,
            head,
            activations,
            tables,
            layout,
            staging,
            host,
            new_rows,
            prefetches,
            ready,
            writes,
            compute,
            copy_streams: distinct(&copy_streams),
            write_stream,
        })
    }
}

fn splits(device: &dyn Device, case: &Case, options: &RigOptions) -> u32 {
    let most = case.contexts.iter().copied().max().unwrap_or(1);
    (options.splits)(case.batch(), case.model.kv_heads, most, device.facts().sm_count)
}

/// What is left for KV, less a fiftieth of the device's memory for what libraries take.
fn limits(device: &dyn Device, used: u64, options: &RigOptions) -> Limits {
    let facts = device.facts();
    let host = match options.most_host_bytes {
        Some(most) if !options.keep_outputs => most.min(facts.host_memory_bytes),
        _ => facts.host_memory_bytes,
    };
    Limits {
        device: (facts.memory_bytes - facts.memory_bytes / 50).saturating_sub(used),
        host,
        least_shared: 8 * facts.l2_bytes,
        may_share: !options.keep_outputs,
    }
}

/// Allocates and fills, each buffer from a seed of its own.
struct Filler<'d> {
    device: &'d mut dyn Device,
    compute: Stream,
    seed: u64,
    used: u64,
}

impl Filler<'_> {
    fn alloc(&mut self, bytes: u64) -> Result<DeviceBuffer, DeviceError> {
        self.used += bytes;
        self.device.alloc(bytes)
    }

    fn some(&mut self, bytes: u64) -> Result<Option<DeviceBuffer>, DeviceError> {
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

    fn weights(
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

    fn activations(
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
    fn kv(
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

fn tables(
    device: &mut dyn Device,
    case: &Case,
    layout: &KvLayout,
    resident: Option<DeviceBuffer>,
    staging: Option<DeviceBuffer>,
) -> Result<Vec<KvTable>, DeviceError> {
    let mut fetched = vec![0; case.contexts.len()];
    let mut tables = Vec::new();
    for layer in Layer::all(case.layers) {
        let mut rows = Vec::new();
        for (request, tokens) in case.contexts.iter().enumerate() {
            let kv = match layout.resident[request][layer.index()] {
                Some(region) => {
                    let buffer = resident.expect("Invariant: resident regions have a buffer");
                    buffer.slice(region.offset, region.bytes)
                }
                None => {
                    let slots = &layout.slots[request];
                    let slot = slots[fetched[request] % slots.len()];
                    fetched[request] += 1;
                    let buffer = staging.expect("Invariant: offloaded layers have slots");
                    buffer.slice(slot, layout.layer_bytes[request])
                }
            };
            rows.push(KvRow { kv, tokens: *tokens });
        }
        tables.push(device.kv_table(&rows)?);
    }
    Ok(tables)
}

/// Per request its copy stream; `None` if it copies nothing. All the same one for [`CopyStreams::One`].
fn copy_streams(device: &mut dyn Device, case: &Case) -> Result<Vec<Option<Stream>>, DeviceError> {
    let mut streams = Vec::new();
    for offloaded in &case.offloaded {
        let shared = streams.iter().copied().flatten().next();
        streams.push(match (offloaded.is_empty(), case.streams, shared) {
            (true, _, _) => None,
            (false, CopyStreams::One, Some(stream)) => Some(stream),
            (false, _, _) => Some(device.stream()?),
        });
    }
    Ok(streams)
}

/// Each stream once.
fn distinct(streams: &[Option<Stream>]) -> Vec<Stream> {
    streams.iter().copied().flatten().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

type PrefetchTable = (Vec<Vec<Prefetch>>, Vec<Vec<usize>>);

fn prefetches(
    case: &Case,
    layout: &KvLayout,
    staging: Option<DeviceBuffer>,
    streams: &[Option<Stream>],
) -> PrefetchTable {
    let last_of = |layer: Layer| (0..case.contexts.len()).rfind(|r| case.offloaded[*r].contains(layer));
    let mut ready = vec![Vec::new(); case.layers as usize];
    let mut place = 0;
    let mut prefetch = |copy: super::schedule::PlannedCopy| {
        let slots = &layout.slots[copy.request];
        let offset = slots[copy.slot % slots.len()];
        let region = layout.host[copy.request][copy.layer.index()]
            .expect("Invariant: an offloaded layer has a host region");
        let signals = case.streams == CopyStreams::PerRequest || last_of(copy.layer) == Some(copy.request);
        if signals {
            ready[copy.layer.index()].push(place);
        }
        place += 1;
        Prefetch {
            layer: copy.layer,
            freed_by: copy.freed_by,
            slot: staging.expect("Invariant: offloaded layers have slots").slice(offset, region.bytes),
            pieces: KvLayout::pieces(case, region.offset, offset, region.bytes),
            stream: streams[copy.request].expect("Invariant: who copies has a stream"),
            place: place - 1,
            signals,
        }
    };
    let table = submission_order(case)
        .into_iter()
        .map(|copies| copies.into_iter().map(&mut prefetch).collect())
        .collect();
    (table, ready)
}

/// Per layer, the newest K and V row of each request that offloads it, from the layer's q, k and v.
fn writes(case: &Case, layout: &KvLayout, activations: &Activations) -> Vec<Vec<CopyPiece>> {
    let shape = case.attention();
    let row_bytes = 2 * u64::from(shape.qkv_width());
    let (queries, half) =
        (2 * u64::from(shape.heads) * u64::from(shape.head_dim), shape.kv_bytes_per_token() / 2);
    Layer::all(case.layers)
        .map(|layer| {
            let rows = activations.qkv[layer.index()];
            let piece = |request: usize, region: Region, value: bool| {
                let (key_row, value_row) = KvLayout::newest_rows(case, request);
                CopyPiece {
                    host_offset: region.offset + if value { value_row } else { key_row },
                    device_offset: rows.offset()
                        + request as u64 * row_bytes
                        + queries
                        + if value { half } else { 0 },
                    bytes: half,
                }
            };
            (0..case.contexts.len())
                .filter_map(|request| Some((request, layout.host[request][layer.index()]?)))
                .flat_map(|(request, region)| [false, true].map(|value| piece(request, region, value)))
                .collect()
        })
        .collect()
}
