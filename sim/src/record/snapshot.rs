//! What a sink that inspects is shown of a step: every layer, copy and write of it, and the memory behind it.
//!
//! Computed only for sinks that ask ([`Sink::inspect`](super::Sink::inspect)): laws, and the Perfetto trace. Knows nothing
//! about how a step is simulated.

use serde::{Deserialize, Serialize};

use crate::ids::{Layer, RequestId};
use crate::model::{LayerSet, Placement};
use crate::units::{Bytes, SimDuration, SimTime};

/// One layer's compute within a step, prompt tokens included, from the start of its decode part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpan {
    /// Which layer.
    pub layer: Layer,
    /// When its compute began.
    pub start: SimDuration,
    /// When its compute ended.
    pub end: SimDuration,
    /// How long compute waited for this layer's copies.
    pub stall: SimDuration,
}

/// One host→device copy within a decode step, from the start of its decode part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpan {
    /// Place of the request in the batch, from 0.
    pub request: usize,
    /// Which of its layers.
    pub layer: Layer,
    /// When the copy engine began.
    pub start: SimDuration,
    /// When the layer had landed.
    pub end: SimDuration,
}

/// A decode step, every layer and every copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTimeline {
    /// Layers 1 … L.
    pub layers: Vec<LayerSpan>,
    /// Copies in the order the engine ran them.
    pub copies: Vec<CopySpan>,
    /// The copy of the step before that still ran when this one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedSpan>,
    /// Copies for the next step, behind all of `copies`. The last may end after the step: `end` is then its end if it
    /// ran alone from there on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<CopySpan>,
    /// Write-through of the step's new KV, layers 1 … L, where it is traffic of its own. They may end after the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<WriteSpan>,
    /// When the write of layer L that an earlier step began had ended, if the step waited for it after its last layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited_write: Option<SimDuration>,
}

/// One device→host write of a layer's new KV, from the start of the decode part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSpan {
    /// Which layer.
    pub layer: Layer,
    /// When the copy engine began.
    pub start: SimDuration,
    /// When the layer had landed.
    pub end: SimDuration,
}

/// What a decode step saw of a copy that began in the step before (`cross_step_prefetch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedSpan {
    /// The layer that waits for it; `None` if its request is gone or has another layout.
    pub layer: Option<Layer>,
    /// When it had landed, from the start of the decode part; after the step's end, as if alone from there on.
    pub end: SimDuration,
}

/// Whose the copies of a timeline are, and what they weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copier {
    /// Who.
    pub request: RequestId,
    /// Bytes of each of its copies.
    pub bytes: Bytes,
    /// Layers that stay once they are copied: lazy restores. The others are dropped after their compute.
    pub kept: LayerSet,
    /// Bytes of its copy for the next step.
    pub next_bytes: Bytes,
}

/// One blocking restore copy, before the decode part of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreSpan {
    /// Who.
    pub request: RequestId,
    /// Which of its layers.
    pub layer: Layer,
    /// What it weighs.
    pub bytes: Bytes,
    /// When the copy engine began.
    pub start: SimTime,
    /// When the layer had landed.
    pub end: SimTime,
}

/// One request's memory, as the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Who.
    pub request: RequestId,
    /// Layer-blocks it holds, charged staging included.
    pub gpu_blocks: u64,
    /// Host bytes it holds.
    pub host_bytes: Bytes,
    /// Context tokens.
    pub context: u64,
    /// Layers on the GPU.
    pub placement: Placement,
    /// Whether it is in the batch.
    pub running: bool,
}

/// The state behind one step, for sinks that check laws.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// Layer-blocks the pool says are in use.
    pub gpu_blocks: u64,
    /// Layer-blocks there are.
    pub gpu_capacity: u64,
    /// Host bytes the pool says are in use.
    pub host_bytes: Bytes,
    /// Host bytes there are, if bounded.
    pub host_capacity: Option<Bytes>,
    /// Every request that holds memory.
    pub requests: &'a [MemoryUse],
    /// Requests waiting, never admitted.
    pub waiting: u32,
    /// Requests preempted and not back.
    pub preempted: u32,
    /// The step layer by layer, from the event-driven pipeline; `None` in a prefill step that copies nothing.
    pub timeline: Option<&'a StepTimeline>,
    /// Whose the copies of the timeline are: at the places that [`CopySpan::request`] counts.
    pub copiers: &'a [Copier],
    /// Blocking restores, one after the other, up to the start of the decode part.
    pub restores: &'a [RestoreSpan],
    /// How long the device→host engine takes for the prompts of a prefill step, from where its prefill begins, where that is traffic
    /// of its own.
    pub prompt_write: Option<SimDuration>,
    /// When the decode part begins: after planning and blocking restores.
    pub decode_start: SimTime,
    /// The step time that the engine will use for the decode part, without tail, intercept, restores, planning.
    pub decode: SimDuration,
    /// Where copies and compute slow each other: the least and the most that the decode part can take, made from the
    /// times of layers and copies **alone**. `None` without contention: the timeline's own spans are those times.
    pub contended_bounds: Option<(SimDuration, SimDuration)>,
    /// The prefix forecast of the same work from the true rates, in seconds (design §3.4).
    pub prefix_forecast_s: f64,
}
