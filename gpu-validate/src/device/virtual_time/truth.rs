//! The times that a virtual device has: known coefficients, and the simulator's cost model of the same.
//!
//! Every time is a whole number of picoseconds, rounded once per kernel, per context token and per piece of a copy, by
//! `orbitflow_sim`'s own rule (bytes over a rate round up). So a layer's compute equals
//! [`CostModel::layer_compute`] and a copy equals [`LinkModel::copy_time`] to the picosecond. The values say nothing
//! about any GPU.

use std::collections::BTreeMap;

use orbitflow_sim::cost::profile::Positive;
use orbitflow_sim::cost::{
    BatchTable, ComputeModel, Contention, CostModel, LayerAllReduce, LinkModel, MeasuredCompute,
    PrefillModel, PromptTable,
};
use orbitflow_sim::model::ModelSpec;
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration};

use super::link::{VirtualLink, VirtualLinks};
use crate::case::{Granularity, attention_shape};
use crate::device::{AttentionShape, CopyApi, CopyPiece, Direction, Work};

/// Kernels of a layer that are neither a product nor attention: two norms, rope, KV append, activation.
const SMALL_KERNELS: u64 = 5;

/// Rows at which [`VirtualTruth::cost_model`] tabulates a prefill.
const PROMPTS: [u32; 8] = [1, 16, 64, 256, 512, 2048, 8192, 32_768];

/// How long a host→device copy or a kernel takes while the other runs, over its time alone, in parts per million, at
/// least 1,000,000. Applied piecewise, to the overlapped part only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualContention {
    /// A copy beside a kernel.
    pub copy_ppm: u32,
    /// A kernel beside a copy.
    pub compute_ppm: u32,
}

impl VirtualContention {
    /// The simulator's form of it. Panics on factors below 1.
    fn factors(self) -> Contention {
        let factor = |ppm: u32| f64::from(ppm) / f64::from(Contention::ONE_PPM);
        Contention::of_factors(factor(self.copy_ppm), factor(self.compute_ppm))
            .expect("Invariant: a virtual slowdown is a factor of 1 or more")
    }
}

/// Noise on kernels and copies: each takes its time times a factor, uniform within ±`ppm` of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualNoise {
    /// Of the generator.
    pub seed: u64,
    /// Parts per million, below 1,000,000.
    pub ppm: u32,
}

/// What a virtual device is. Times of kernels, of copies, and of submitting them.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualTruth {
    /// A kernel that does nothing.
    pub empty_kernel: SimDuration,
    /// Norm, rope, KV append, activation, each; the least time of fills, checksums and copies within the device.
    pub small_kernel: SimDuration,
    /// The least time of a product.
    pub gemm_floor: SimDuration,
    /// Rate at which a product reads its weights.
    pub weights_rate: BytesPerSec,
    /// Products, in floating-point operations per second: 2 per row, output and inner column.
    pub flops_per_s: BytesPerSec,
    /// The least time of attention.
    pub attention_floor: SimDuration,
    /// Constant of the attention line.
    pub attention_constant: SimDuration,
    /// Rate at which attention reads K and V; rounded up to the picosecond once per token.
    pub attention_rate: BytesPerSec,
    /// Rate of fills, reads and copies within the device, bytes read plus bytes written.
    pub memory_rate: BytesPerSec,
    /// Host to device.
    pub h2d: VirtualLinks,
    /// Device to host.
    pub d2h: VirtualLinks,
    /// CPU time of each submission; of each piece where pieces are calls of their own.
    pub submit: SimDuration,
    /// `None`: copies and compute take no notice of each other.
    pub contention: Option<VirtualContention>,
    /// `None`: every repetition takes the same.
    pub noise: Option<VirtualNoise>,
    /// Multiprocessors that the device claims.
    pub sm_count: u32,
    /// Level-2 cache that it claims, in bytes; nothing is faster for being cached.
    pub l2_bytes: u64,
    /// Memory that can be allocated, in bytes, on each side.
    pub memory_bytes: u64,
}

fn rate(bytes_per_s: u64) -> BytesPerSec {
    BytesPerSec::try_from(bytes_per_s).expect("Invariant: the built-in rates are above 0")
}

const fn nanos(nanos: u64) -> SimDuration {
    SimDuration::from_picos(nanos * 1000)
}

impl Default for VirtualTruth {
    /// Of the size of a data-centre GPU on PCIe 5: real model shapes are memory-bound up to about 200 rows.
    fn default() -> Self {
        let by_call = VirtualLink {
            latency: nanos(4000),
            rate: rate(55_000_000_000),
            knee: Bytes::new(28 << 10),
            small_rate: rate(20_000_000_000),
            submit: nanos(1500),
            engine: nanos(500),
        };
        let batch = VirtualLink { submit: nanos(100), engine: nanos(300), ..by_call };
        let gather = VirtualLink {
            latency: nanos(6000),
            rate: rate(48_000_000_000),
            knee: Bytes::ZERO,
            small_rate: rate(48_000_000_000),
            submit: SimDuration::ZERO,
            engine: nanos(40),
        };
        let slower = |link: VirtualLink, bytes_per_s| VirtualLink { rate: rate(bytes_per_s), ..link };
        VirtualTruth {
            empty_kernel: nanos(1000),
            small_kernel: nanos(2000),
            gemm_floor: nanos(3000),
            weights_rate: rate(4_000_000_000_000),
            flops_per_s: rate(800_000_000_000_000),
            attention_floor: nanos(6000),
            attention_constant: nanos(4500),
            attention_rate: rate(3_200_000_000_000),
            memory_rate: rate(4_000_000_000_000),
            h2d: VirtualLinks { by_call, batch, gather },
            d2h: VirtualLinks {
                by_call: slower(by_call, 52_000_000_000),
                batch: slower(batch, 52_000_000_000),
                gather: slower(gather, 44_000_000_000),
            },
            submit: SimDuration::ZERO,
            contention: None,
            noise: None,
            sm_count: 132,
            l2_bytes: 50 << 20,
            memory_bytes: 128 << 30,
        }
    }
}

impl VirtualTruth {
    /// For the small models of [`crate::scale::Scale`]'s emulation: memory a thousand times slower than the default,
    /// short floors, and a link on which some hundred tokens hide behind a layer's weights, as on a GPU.
    pub fn small() -> Self {
        let gpu = VirtualTruth::default();
        let shrunk = |link: VirtualLink, bytes_per_s: u64| VirtualLink {
            latency: nanos(1000),
            rate: rate(bytes_per_s),
            small_rate: rate(bytes_per_s * 2 / 5),
            knee: Bytes::new(if link.knee == Bytes::ZERO { 0 } else { 2048 }),
            submit: SimDuration::from_picos(link.submit.as_picos() / 10),
            engine: SimDuration::from_picos(link.engine.as_picos() / 10),
        };
        let links = |bytes_per_s| VirtualLinks {
            by_call: shrunk(gpu.h2d.by_call, bytes_per_s),
            batch: shrunk(gpu.h2d.batch, bytes_per_s),
            gather: shrunk(gpu.h2d.gather, bytes_per_s * 4 / 5),
        };
        VirtualTruth {
            empty_kernel: nanos(200),
            small_kernel: nanos(500),
            gemm_floor: nanos(500),
            weights_rate: rate(4_000_000_000),
            flops_per_s: rate(400_000_000_000),
            attention_floor: nanos(3000),
            attention_constant: nanos(1500),
            attention_rate: rate(16_000_000_000),
            memory_rate: rate(4_000_000_000),
            h2d: links(2_000_000_000),
            d2h: links(1_800_000_000),
            l2_bytes: 1 << 20,
            memory_bytes: 4 << 30,
            ..gpu
        }
    }

    /// Time of a kernel that runs alone, without noise.
    pub fn kernel_time(&self, work: &Work) -> SimDuration {
        let moved = |bytes| self.memory_rate.transfer_time(Bytes::new(bytes)).max(self.small_kernel);
        match work {
            Work::Empty => self.empty_kernel,
            Work::Spin { seconds } => SimDuration::from_secs_f64(*seconds),
            Work::Fill { to, .. } => moved(to.bytes()),
            Work::Checksum { of, .. } | Work::ReadOnly { of, .. } => moved(of.bytes()),
            Work::DeviceCopy { from, .. } => moved(2 * from.bytes()),
            Work::Gemm(gemm) => self.gemm_time(gemm.rows, gemm.out, gemm.inner),
            Work::Norm(_) | Work::Rope(_) | Work::KvAppend(_) | Work::SiluMul { .. } => self.small_kernel,
            Work::Attention(attention) => self.attention_time(attention.shape, attention.total_tokens),
        }
    }

    /// `max(floor, weights / rate, 2·rows·out·inner / flops)`, bf16 weights.
    pub fn gemm_time(&self, rows: u32, out: u32, inner: u32) -> SimDuration {
        let elements = u64::from(out) * u64::from(inner);
        let read = self.weights_rate.transfer_time(Bytes::new(2 * elements));
        let computed = self.flops_per_s.transfer_time(Bytes::new(2 * u64::from(rows) * elements));
        self.gemm_floor.max(read).max(computed)
    }

    /// `max(floor, constant + tokens · per_token)`, over the tokens of all requests.
    pub fn attention_time(&self, shape: AttentionShape, tokens: u64) -> SimDuration {
        self.attention_floor.max(self.attention_constant + self.attention_per_token(shape) * tokens)
    }

    /// Attention time per context token, in whole picoseconds.
    pub fn attention_per_token(&self, shape: AttentionShape) -> SimDuration {
        self.attention_rate.transfer_time(Bytes::new(shape.kv_bytes_per_token()))
    }

    /// Time of a copy that runs alone, without noise: `latency + max(n·submit, Σ pieces)`.
    pub fn copy_time(&self, direction: Direction, api: CopyApi, pieces: &[CopyPiece]) -> SimDuration {
        let link = self.link(direction, api);
        let copied: SimDuration = pieces.iter().map(|piece| link.piece_time(piece.bytes)).sum();
        link.latency + copied.max(link.submit * pieces.len() as u64)
    }

    /// The simulator's link of that direction for copies cut into pieces of `piece` bytes (`None`: one piece).
    pub fn link_model(&self, direction: Direction, api: CopyApi, piece: Option<u64>) -> LinkModel {
        self.link(direction, api).model(piece)
    }

    /// Time of one layer with `tokens` context tokens over `requests` requests, kernel by kernel.
    pub fn layer_time(&self, model: &ModelSpec, tokens: u64, requests: u32) -> SimDuration {
        self.products_time(model, requests)
            + self.attention_time(attention_shape(model), tokens)
            + self.small_kernel * SMALL_KERNELS
    }

    /// Time after the last layer: final norm and output head.
    pub fn tail_time(&self, model: &ModelSpec, requests: u32) -> SimDuration {
        self.small_kernel + self.gemm_time(requests, model.vocab, model.hidden)
    }

    /// The simulator's cost model of this truth, without noise. Products of up to
    /// [`BatchTable::MAX_BATCH`] requests stand in it one by one, so nothing is interpolated. Prefill is the time of its
    /// products alone: the device has no prefill attention.
    pub fn cost_model(&self, model: &ModelSpec, granularity: Granularity) -> CostModel {
        let shape = attention_shape(model);
        let link = |direction| self.link_model(direction, granularity.api(), granularity.piece_bytes(shape));
        CostModel {
            layers: model.layers,
            compute: ComputeModel::Measured(MeasuredCompute {
                layer_weights: table(|requests| self.products_time(model, requests)),
                lm_head: table(|requests| self.gemm_time(requests, model.vocab, model.hidden)),
                attention_floor_s: self.attention_floor.as_secs_f64(),
                attention_constant_s: self.attention_constant.as_secs_f64(),
                attention_s_per_token: self.attention_per_token(shape).as_secs_f64(),
                layer_other_s: (self.small_kernel * SMALL_KERNELS).as_secs_f64(),
                step_fixed_s: self.small_kernel.as_secs_f64(),
            }),
            h2d: link(Direction::H2d),
            d2h: link(Direction::D2h),
            prefill: PrefillModel::Table(PromptTable::new(
                PROMPTS.iter().map(|&rows| (f64::from(rows), self.prefill_s(model, rows))).collect(),
            )),
            fixed_tail: SimDuration::ZERO,
            link_intercept: SimDuration::ZERO,
            contention: self.contention.map_or(Contention::NONE, VirtualContention::factors),
            all_reduce: LayerAllReduce::NONE,
        }
    }

    fn prefill_s(&self, model: &ModelSpec, rows: u32) -> f64 {
        let layers = self.products_time(model, rows) * u64::from(model.layers);
        (layers + self.gemm_time(1, model.vocab, model.hidden)).as_secs_f64()
    }

    /// The four products of a layer.
    fn products_time(&self, model: &ModelSpec, rows: u32) -> SimDuration {
        let shape = attention_shape(model);
        let attended = shape.heads * shape.head_dim;
        let ModelSpec { hidden, intermediate, .. } = *model;
        [(shape.qkv_width(), hidden), (hidden, attended), (2 * intermediate, hidden), (hidden, intermediate)]
            .into_iter()
            .map(|(out, inner)| self.gemm_time(rows, out, inner))
            .sum()
    }

    fn link(&self, direction: Direction, api: CopyApi) -> &VirtualLink {
        match direction {
            Direction::H2d => self.h2d.by(api),
            Direction::D2h => self.d2h.by(api),
        }
    }
}

/// A table with a row for every batch.
fn table(time: impl Fn(u32) -> SimDuration) -> BatchTable {
    let positive =
        |time: SimDuration| Positive::try_from(time.as_secs_f64()).expect("Invariant: a product takes time");
    let rows: BTreeMap<u32, Positive> =
        (1..=BatchTable::MAX_BATCH).map(|requests| (requests, positive(time(requests)))).collect();
    BatchTable::new(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Scale;
    use orbitflow_sim::model::preset;

    fn models() -> Vec<(VirtualTruth, ModelSpec)> {
        let small = Scale::of(crate::device::Backend::VirtualTime, true);
        let mut models: Vec<(VirtualTruth, ModelSpec)> = ["llama-3-8b", "qwen2.5-14b", "phi-3-mini"]
            .into_iter()
            .map(|name| (VirtualTruth::default(), preset(name).unwrap()))
            .collect();
        models.push((VirtualTruth::small(), small.fitted));
        models.push((VirtualTruth::small(), small.held_out));
        models
    }

    #[test]
    fn a_layer_and_the_tail_equal_the_cost_models_to_the_picosecond() {
        for (truth, model) in models() {
            let cost = truth.cost_model(&model, Granularity::Layer);
            for requests in [1, 2, 3, 7, 16, 33, 128, 1000, 4096] {
                for tokens in [1, 17, 1087, 1088, 1090, 65_537, 1_000_003, 12_345_678] {
                    let exact = truth.layer_time(&model, tokens, requests);
                    assert_eq!(
                        cost.layer_compute(tokens, requests),
                        exact,
                        "{}: {tokens} {requests}",
                        model.name
                    );
                }
                assert_eq!(cost.tail(requests), truth.tail_time(&model, requests), "{}", model.name);
            }
        }
    }

    #[test]
    fn a_copy_in_equal_pieces_equals_the_link_model() {
        let model = preset("llama-3-8b").unwrap();
        for truth in [VirtualTruth::default(), VirtualTruth::small()] {
            for granularity in Granularity::ALL {
                let cost = truth.cost_model(&model, granularity);
                for blocks in [1, 2, 17, 561, 4097] {
                    let whole = blocks * 65_536;
                    let bytes = granularity.piece_bytes(attention_shape(&model)).unwrap_or(whole);
                    let piece = CopyPiece { host_offset: 0, device_offset: 0, bytes };
                    let pieces = vec![piece; (whole / bytes) as usize];
                    for (direction, link) in [(Direction::H2d, &cost.h2d), (Direction::D2h, &cost.d2h)] {
                        let copied = truth.copy_time(direction, granularity.api(), &pieces);
                        assert_eq!(copied, link.copy_time(Bytes::new(whole)), "{granularity:?} {blocks}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_is_memory_bound_then_compute_bound() {
        let truth = VirtualTruth::default();
        // 4096 · 4096 · 2 B / 4 TB/s = 8.388608 µs; 2 · 1000 · 4096 · 4096 / 800 TFLOP/s = 41.94304 µs
        assert_eq!(truth.gemm_time(1, 4096, 4096).as_picos(), 8_388_608);
        assert_eq!(truth.gemm_time(200, 4096, 4096).as_picos(), 8_388_608);
        assert_eq!(truth.gemm_time(1000, 4096, 4096).as_picos(), 41_943_040);
        assert_eq!(truth.gemm_time(1, 64, 64), truth.gemm_floor);
    }

    #[test]
    fn a_piece_below_the_knee_is_slow_and_unequal_pieces_add_up() {
        let truth = VirtualTruth::default();
        let piece = |bytes| CopyPiece { host_offset: 0, device_offset: 0, bytes };
        // 20,000 B at 20 GB/s = 1 µs; 55,000 B at 55 GB/s = 1 µs; submitting two takes 3 µs; latency 4 µs.
        let by_call = truth.copy_time(Direction::H2d, CopyApi::Async, &[piece(20_000), piece(55_000)]);
        assert_eq!(by_call.as_picos(), 7_000_000);
        let batch = truth.copy_time(Direction::H2d, CopyApi::Batch, &[piece(20_000), piece(55_000)]);
        assert_eq!(batch.as_picos(), 6_000_000);
    }
}
