//! What happened: the typed records that the engine emits and every sink reads.
//!
//! The engine keeps no statistics; a [`Sink`] does. Records come in the order of simulated time, and among
//! equal times in the order in which they took effect.

mod snapshot;

use serde::{Deserialize, Serialize};

pub use snapshot::{
    CarriedSpan, Copier, CopySpan, LayerSpan, MemoryUse, RestoreSpan, Snapshot, StepTimeline, WriteSpan,
};

use crate::ids::RequestId;
use crate::model::Placement;
use crate::units::{Bytes, SimDuration, SimTime};

/// Why a request was turned away on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The prompt exceeds the whole GPU pool at the policy's densest placement.
    GpuPool,
    /// The prompt exceeds the host memory for KV.
    HostMemory,
    /// The prompt exceeds `max_context`.
    MaxContext,
}

/// Why a planner was asked (design §4.1, §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// (a) the live set changed.
    LiveSet,
    /// (b) the plan's window is over.
    Window,
    /// (c) the layout will not fit the next step with one spare block per resident layer.
    Misfit,
    /// (d) measured rates were off the believed ones.
    Feedback,
    /// A paused request was overdue.
    MaxPause,
    /// Nothing else could run.
    Idle,
    /// The heuristic had placed its steps.
    Fallback,
}

impl Trigger {
    /// Every trigger, in the order of reports.
    pub const ALL: [Trigger; 7] = [
        Trigger::LiveSet,
        Trigger::Window,
        Trigger::Misfit,
        Trigger::Feedback,
        Trigger::MaxPause,
        Trigger::Idle,
        Trigger::Fallback,
    ];

    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Trigger::LiveSet => "live_set",
            Trigger::Window => "window",
            Trigger::Misfit => "misfit",
            Trigger::Feedback => "feedback",
            Trigger::MaxPause => "max_pause",
            Trigger::Idle => "idle",
            Trigger::Fallback => "fallback",
        }
    }
}

/// How sure a method is that no placement makes this decode step shorter (`oracle`, design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepProof {
    /// No placement does: all were looked at, or none can beat a bound.
    Optimal,
    /// A search found no better one.
    BestFound,
}

/// What kind of engine step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Prompts were processed, and nothing else; whoever's was ended made its first token.
    Prefill,
    /// Every running request made a token.
    Decode,
    /// Both: prompt tokens beside decodes (`prefill = "chunked:N"`).
    Mixed,
}

impl StepKind {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            StepKind::Prefill => "prefill",
            StepKind::Decode => "decode",
            StepKind::Mixed => "mixed",
        }
    }

    /// Whether it made tokens beyond first ones.
    pub const fn decodes(self) -> bool {
        matches!(self, StepKind::Decode | StepKind::Mixed)
    }
}

/// One engine step. `duration = compute + stall + prefill + restore + planning`, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Counter over prefill and decode steps, from 0.
    pub index: u64,
    /// Prefill, decode or both.
    pub kind: StepKind,
    /// When it began.
    pub start: SimTime,
    /// How long it took.
    pub duration: SimDuration,
    /// Compute of all layers for decodes, and the tail (sampling, scheduling).
    pub compute: SimDuration,
    /// Compute waiting for copies, and the link intercept.
    pub stall: SimDuration,
    /// Processing of prompts: beside decodes what it adds to their compute, as long as it takes alone.
    pub prefill: SimDuration,
    /// Blocking restore copies.
    pub restore: SimDuration,
    /// Solver time charged to this step.
    pub planning: SimDuration,
    /// The least that compute and stall of this decode step can come to: `max(Σ layers, Σ copies) + tail + intercept`,
    /// layers and copies as long as they took (design §8, law 5). None in a step with prompt tokens, and none
    /// with `cross_step_prefetch`, where copies belong to two steps.
    pub bound: Option<SimDuration>,
    /// The planner's forecast of this step, where there is one (design §3.4).
    pub forecast: Option<SimDuration>,
    /// Requests in the step.
    pub running: u32,
    /// Live requests held back.
    pub paused: u32,
    /// Requests waiting to be admitted, and preempted ones waiting to come back.
    pub waiting: u32,
    /// Layer-blocks of the GPU pool in use during the step, charged staging included.
    pub gpu_blocks: u64,
    /// Host memory in use for KV.
    pub host_bytes: Bytes,
    /// Host→device traffic of offloaded layers.
    pub h2d_prefetch: Bytes,
    /// Host→device traffic of layers that become resident.
    pub h2d_restore: Bytes,
    /// Device→host write-through.
    pub d2h: Bytes,
    /// The planner's trigger, if it was asked for this step.
    pub trigger: Option<Trigger>,
    /// What the method says of its placement, where it says anything.
    pub proof: Option<StepProof>,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Record<'a> {
    /// A request entered the waiting queue.
    Arrived {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
    /// A request can never be served and was turned away.
    Rejected {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
        /// Why.
        reason: RejectReason,
    },
    /// A request took a batch slot for the first time; its prefill follows.
    Admitted {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
    /// A live request was held back; its GPU layers are freed, its host copy stays.
    Paused {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
    /// A paused request runs again.
    Resumed {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
    /// A running request lost its slot and its GPU layers; its host copy stays.
    Preempted {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
    /// A preempted request took a slot again, without a prefill.
    Readmitted {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
    /// The layers of a running request that stay on the GPU changed.
    Placed {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
        /// The new layout.
        placement: Placement,
        /// Layers that must be copied to the GPU because they were not there.
        restored: u32,
    },
    /// A placement did not fit the pool and another one was taken, or a request preempted for it.
    PlacementRefused {
        /// When.
        at: SimTime,
    },
    /// A planner was asked.
    Planned {
        /// When.
        at: SimTime,
        /// Why.
        trigger: Trigger,
        /// Instances that were solved.
        solves: u32,
        /// Instances that no placement could fit into memory.
        infeasible_memory: u32,
        /// Instances that no placement could serve within the SLO budget.
        infeasible_slo: u32,
        /// Whether a search ran into its node cap: the answer is then the best found.
        node_cap_hit: bool,
    },
    /// A step was executed; every request in `delivered` has one more token at its end.
    Step {
        /// The step.
        step: &'a StepRecord,
        /// Who got a token, in batch order.
        delivered: &'a [RequestId],
    },
    /// A request made its last token.
    Finished {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
    /// A request outgrew the pool or `max_context`: its tokens stand, the missing ones are late.
    Capped {
        /// When.
        at: SimTime,
        /// Who.
        request: RequestId,
    },
}

impl Record<'_> {
    /// When it took effect; the start of a step.
    pub const fn at(&self) -> SimTime {
        match *self {
            Record::Arrived { at, .. }
            | Record::Rejected { at, .. }
            | Record::Admitted { at, .. }
            | Record::Paused { at, .. }
            | Record::Resumed { at, .. }
            | Record::Preempted { at, .. }
            | Record::Readmitted { at, .. }
            | Record::Placed { at, .. }
            | Record::PlacementRefused { at }
            | Record::Planned { at, .. }
            | Record::Finished { at, .. }
            | Record::Capped { at, .. } => at,
            Record::Step { step, .. } => step.start,
        }
    }
}

/// A reader of records.
pub trait Sink {
    /// Takes one record.
    fn record(&mut self, record: &Record<'_>);

    /// Whether [`Sink::inspect`] wants to see the state behind each step (laws do; it is slow).
    fn inspects(&self) -> bool {
        false
    }

    /// The state of the server right after a step's layout was applied, before its time passes.
    fn inspect(&mut self, _snapshot: &Snapshot<'_>) {}
}

impl<A: Sink, B: Sink> Sink for (A, B) {
    fn record(&mut self, record: &Record<'_>) {
        self.0.record(record);
        self.1.record(record);
    }

    fn inspects(&self) -> bool {
        self.0.inspects() || self.1.inspects()
    }

    fn inspect(&mut self, snapshot: &Snapshot<'_>) {
        self.0.inspect(snapshot);
        self.1.inspect(snapshot);
    }
}

impl<S: Sink> Sink for Option<S> {
    fn record(&mut self, record: &Record<'_>) {
        if let Some(sink) = self {
            sink.record(record);
        }
    }

    fn inspects(&self) -> bool {
        self.as_ref().is_some_and(Sink::inspects)
    }

    fn inspect(&mut self, snapshot: &Snapshot<'_>) {
        if let Some(sink) = self {
            sink.inspect(snapshot);
        }
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn record(&mut self, record: &Record<'_>) {
        (**self).record(record);
    }

    fn inspects(&self) -> bool {
        (**self).inspects()
    }

    fn inspect(&mut self, snapshot: &Snapshot<'_>) {
        (**self).inspect(snapshot);
    }
}

/// A sink that forgets everything.
pub struct Discard;

impl Sink for Discard {
    fn record(&mut self, _record: &Record<'_>) {}
}
