//! One decode step, layer by layer: when each copy runs on the link and when each layer computes (design §3.4).
//!
//! One compute stream and one copy engine per direction. Layer `j` starts when layer `j−1` has ended and every
//! copy for layer `j` has landed. A request owns `slots` staging slots, each one layer of its KV: its copy
//! may start once the `slots`-th previous offloaded layer of the same request has been computed.
//! Knows nothing about policies, engines or what the times cost: it is handed durations.

mod forecast;

use serde::{Deserialize, Serialize};

pub use forecast::prefix_forecast;

use crate::model::LayerSet;
use crate::units::SimDuration;

/// Which copy the engine takes when it is idle (design §3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CopyOrder {
    /// Among copies whose slot is free, the one with the lowest `(layer, request)`.
    #[default]
    ReadyFirst,
    /// Strictly by `(layer, request)`; a copy whose slot is taken blocks those behind it (one CUDA stream).
    InOrder,
}

/// How long the copies of one request take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CopyTimes<'a> {
    /// Every layer the same (uniform footprint, no noise): the aggregated fast paths may be used.
    Same(SimDuration),
    /// One time per layer, index 0 is layer 1.
    PerLayer(&'a [SimDuration]),
}

/// What one request asks of a decode step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRequest<'a> {
    /// Layers whose KV must come over the link in this step.
    pub fetched: LayerSet,
    /// How long each of those copies takes.
    pub copy: CopyTimes<'a>,
}

/// Compute time of each layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerTimes<'a> {
    /// Every layer the same.
    Same(SimDuration),
    /// One time per layer, index 0 is layer 1.
    PerLayer(&'a [SimDuration]),
}

/// The work of one decode step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepWork<'a> {
    /// Layers L.
    pub layers: u32,
    /// Compute time of each layer.
    pub compute: LayerTimes<'a>,
    /// The batch, in batch order (the tie-break of copies for one layer).
    pub requests: &'a [StepRequest<'a>],
    /// Staging slots per request, at least 1.
    pub slots: u32,
    /// Which copy goes first.
    pub order: CopyOrder,
}

/// How long a decode step took, without tail, intercept, restores and planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTiming {
    /// End of layer L.
    pub step: SimDuration,
    /// Σ compute times of all layers.
    pub compute: SimDuration,
    /// Σ copy times.
    pub copy: SimDuration,
}

impl StepTiming {
    /// Compute waiting: `step − compute`.
    pub fn stall(&self) -> SimDuration {
        self.step - self.compute
    }
}
