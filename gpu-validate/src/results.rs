//! What the experiments found: one typed row per measured point, one list per experiment (`gpu-measurement.md` §4.1).
//!
//! Written to disk group by group as they end, read by the fits and the report. Knows neither devices nor fits. Sizes are
//! bytes moved over the link or read and written in GPU memory; each row says which, in its doc comment.

use serde::{Deserialize, Serialize};

use crate::device::{CopyApi, Direction, HostMemory};
use crate::sample::Timing;

/// Everything that was measured. A list is empty where its experiment was not run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// E1.
    pub link: Vec<LinkPoint>,
    /// E2.
    pub copies: Vec<CopyPoint>,
    /// E3.
    pub layouts: Vec<LayoutPoint>,
    /// E4.
    pub memory: Vec<MemoryPoint>,
    /// E5.
    pub gemms: Vec<GemmPoint>,
    /// E6.
    pub attention: Vec<AttentionPoint>,
    /// E7.
    pub launches: Vec<LaunchPoint>,
    /// E8.
    pub contention: Vec<ContentionPoint>,
    /// E9.
    pub steps: Vec<StepPoint>,
    /// E11.
    pub checks: Vec<CheckPoint>,
    /// E12: the anchors, measured again at the end.
    pub drift: Vec<DriftPoint>,
    /// What was left out: points that the deadline took, or that this machine cannot do, each with its reason.
    pub dropped: Vec<Dropped>,
}

/// A point, or a group of them, that was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Experiment, for example `E2`.
    pub experiment: String,
    /// Which points.
    pub what: String,
    /// Why, in words.
    pub reason: String,
    /// What kind of gap it is.
    pub gap: Gap,
}

/// Why a point was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// The deadline took it.
    OutOfTime,
    /// This backend or this machine cannot do it.
    NotPossible,
    /// It was timed, but not under the conditions that it asks for.
    NotUsable,
}

/// E1: the peak of the link. Rate = `bytes / median` of the measured direction alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkPoint {
    /// Measured direction.
    pub direction: Direction,
    /// Host memory.
    pub memory: HostMemory,
    /// Whether the other direction was busy all the while (with copies twice as long).
    pub opposite_busy: bool,
    /// Bytes moved in the measured direction per sample.
    pub bytes: u64,
    /// Per sample.
    pub timing: Timing,
}

impl LinkPoint {
    /// Bytes per second of the measured direction.
    pub fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.timing.median_s
    }
}

/// E2: `pieces` copies of `piece_bytes` bytes each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyPoint {
    /// Which way.
    pub direction: Direction,
    /// How submitted.
    pub api: CopyApi,
    /// Pieces per sample.
    pub pieces: u32,
    /// Size of one.
    pub piece_bytes: u64,
    /// All pieces together, on the device's clock.
    pub timing: Timing,
    /// CPU seconds per piece to submit, with the queue empty; `None` for kernels.
    pub submit_s: Option<f64>,
}

/// E3: 64 MiB of one layer's KV in different cuts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayoutPoint {
    /// Tokens per block.
    pub block_tokens: u32,
    /// Whether K and V of a block are one piece.
    pub fused: bool,
    /// Blocks that lie next to each other on both sides: 1 is scattered, 0 all of them.
    pub run: u32,
    /// How submitted.
    pub api: CopyApi,
    /// Pieces as submitted, after neighbours were merged.
    pub pieces: u32,
    /// Bytes of all pieces.
    pub bytes: u64,
    /// All pieces together.
    pub timing: Timing,
}

/// What E4 does to GPU memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryUse {
    /// Copies within the GPU: bytes read plus bytes written.
    Copy,
    /// Reads: bytes read.
    Read,
    /// Writes: bytes written.
    Write,
}

/// E4: GPU memory rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// What was done.
    pub usage: MemoryUse,
    /// Bytes by the convention of [`MemoryUse`].
    pub bytes: u64,
    /// Per sample.
    pub timing: Timing,
}

impl MemoryPoint {
    /// Bytes per second by the convention of [`MemoryUse`].
    pub fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.timing.median_s
    }
}

/// The matrices of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matrix {
    /// q, k and v in one.
    Qkv,
    /// Attention output.
    Output,
    /// Gate and up in one.
    GateUp,
    /// Down.
    Down,
    /// Output head.
    LmHead,
}

/// E5: one matrix product, cold: weights rotate through more memory than the level-2 cache holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GemmPoint {
    /// Model.
    pub model: String,
    /// Which matrix.
    pub matrix: Matrix,
    /// Rows: requests of a decode step, or prompt tokens.
    pub rows: u32,
    /// Columns of the output.
    pub out: u32,
    /// Columns of the input.
    pub inner: u32,
    /// One product.
    pub timing: Timing,
}

/// E6: attention of one layer for one batch, KV cold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionPoint {
    /// Query heads.
    pub heads: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Elements per head.
    pub head_dim: u32,
    /// Context tokens of each request.
    pub contexts: Vec<u32>,
    /// Into how many parts each context was cut.
    pub splits: u32,
    /// K and V of all context tokens, read once.
    pub kv_bytes: u64,
    /// Both passes of one layer.
    pub timing: Timing,
}

impl AttentionPoint {
    /// Query heads per KV head.
    pub fn group(&self) -> u32 {
        self.heads / self.kv_heads
    }

    /// Context tokens of all requests.
    pub fn tokens(&self) -> u64 {
        self.contexts.iter().map(|tokens| u64::from(*tokens)).sum()
    }

    /// Whether the contexts differ.
    pub fn ragged(&self) -> bool {
        self.contexts.windows(2).any(|pair| pair[0] != pair[1])
    }
}

/// What E7 times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchKind {
    /// CPU time of launching an empty kernel.
    StreamSubmit,
    /// GPU time from one empty kernel to the next in a stream.
    StreamGap,
    /// CPU time of launching a graph of `count` empty kernels.
    GraphSubmit,
    /// GPU time per node of such a graph.
    GraphNode,
    /// GPU time from a record in one stream to what waited for it in another.
    EventWait,
}

/// E7: launches and events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchPoint {
    /// What was timed.
    pub kind: LaunchKind,
    /// Kernels or nodes per sample.
    pub count: u32,
    /// Of one launch, node or wait (of the whole graph for `GraphSubmit`).
    pub timing: Timing,
}

/// What runs on the multiprocessors in E8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Background {
    /// Decode attention.
    Attn,
    /// Matrix products of a decode layer.
    Gemm,
    /// Memory reads at full rate.
    HbmRead,
    /// All kernels of a decode layer in their order: what a decode step runs.
    Layer,
}

impl Background {
    /// The word in the profile's `contention` keys.
    pub const fn key(self) -> &'static str {
        match self {
            Background::Attn => "attn",
            Background::Gemm => "gemm",
            Background::HbmRead => "hbm_read",
            Background::Layer => "layer",
        }
    }
}

/// What runs on the link in E8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Host to device by copy engine.
    H2d,
    /// Device to host by copy engine.
    D2h,
    /// Both by copy engine; the factors are of host to device.
    Both,
    /// Host to device by a gather kernel.
    SmGather,
}

impl Traffic {
    /// The word in the profile's `contention` keys.
    pub const fn key(self) -> &'static str {
        match self {
            Traffic::H2d => "h2d",
            Traffic::D2h => "d2h",
            Traffic::Both => "both",
            Traffic::SmGather => "sm_gather",
        }
    }
}

/// E8: compute and copies together, each timed while the other runs longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContentionPoint {
    /// On the multiprocessors.
    pub background: Background,
    /// On the link.
    pub traffic: Traffic,
    /// Compute alone.
    pub compute_alone: Timing,
    /// The same compute with the link busy all the while.
    pub compute_together: Timing,
    /// Copies alone.
    pub copy_alone: Timing,
    /// The same copies with the multiprocessors busy all the while.
    pub copy_together: Timing,
}

impl ContentionPoint {
    /// Compute time together over compute time alone.
    pub fn compute_slowdown(&self) -> f64 {
        self.compute_together.median_s / self.compute_alone.median_s
    }

    /// Copy time together over copy time alone.
    pub fn copy_slowdown(&self) -> f64 {
        self.copy_together.median_s / self.copy_alone.median_s
    }
}

/// How the kernels of a step were submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Submission {
    /// One by one on a stream.
    Stream,
    /// As one captured graph.
    Graph,
}

/// E9: one whole decode step, everything resident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPoint {
    /// Model.
    pub model: String,
    /// Layers that were run; fewer than the model's tell per-layer from per-step costs.
    pub layers: u32,
    /// Context tokens of each request.
    pub contexts: Vec<u32>,
    /// How it was submitted.
    pub submission: Submission,
    /// From the end of one step to the end of the next.
    pub timing: Timing,
}

/// E11: one correctness check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckPoint {
    /// Name, for example `attention_fp64`.
    pub name: String,
    /// What was compared with what, on which sizes.
    pub what: String,
    /// Worst relative error, or the number of differing bytes for bit equality; `None` if waived.
    pub worst: Option<f64>,
    /// The most that passes.
    pub bound: f64,
    /// Whether it passed; `None` if waived.
    pub pass: Option<bool>,
    /// Why it was waived, or more about a failure.
    pub note: Option<String>,
}

/// E12: an anchor at the start and at the end of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftPoint {
    /// `h2d`, `d2h`, `hbm_copy` or `step`.
    pub anchor: String,
    /// At the start.
    pub first: Timing,
    /// At the end.
    pub last: Timing,
}

impl DriftPoint {
    /// How much longer it took at the end, as a share.
    pub fn relative(&self) -> f64 {
        self.last.median_s / self.first.median_s - 1.0
    }
}
