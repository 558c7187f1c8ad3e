//! What `orbitflow step` answers to a [`StepInstance`]: the step, every layer and every copy, in seconds.
//!
//! Times are from the start of the step. The keys `step_s` to `copies` are those that other programs rely on (design §2.3);
//! `cross_step` stands beside them only where the instance asks for it. `prefill_s` where it has
//! prompt tokens. Knows nothing about how a step is simulated.

use serde::Serialize;

use super::StepTiming;
use super::instance::StepInstance;
use super::steady::Steady;
use crate::record::{CopySpan, LayerSpan, StepTimeline};
use crate::units::SimDuration;

/// What `orbitflow step` answers; times in seconds from the start of the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepAnswer {
    /// The step, tail included.
    pub step_s: f64,
    /// All layers' compute without that of prompt tokens, contention included.
    pub compute_s: f64,
    /// Compute of prompt tokens, as long as it takes alone; not written where there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub prefill_s: f64,
    /// All copies, contention included.
    pub copy_s: f64,
    /// Compute waiting for copies.
    pub stall_s: f64,
    /// The published planner's forecast, tail included.
    pub prefix_forecast_s: f64,
    /// Layers 1 to L.
    pub layers: Vec<StepLayer>,
    /// Copies in the order in which the engine ran them.
    pub copies: Vec<StepCopy>,
    /// With `cross_step_prefetch`: what ties the step to those before and after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_step: Option<StepNeighbours>,
}

/// The part of a [`StepAnswer`] that only steps with `cross_step_prefetch` have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepNeighbours {
    /// Steps like it that came before, from one that nothing was copied ahead for.
    pub steps_before: usize,
    /// After how many steps the same comes again, 1 where all are alike; `null`: not within those that were simulated.
    pub period: Option<usize>,
    /// The mean of so many steps, tails included; `null` without a period.
    pub mean_step_s: Option<f64>,
    /// Copies of this step that the one before began: from when they began, below 0, until they had landed, which may be
    /// below 0 too.
    pub carried: Vec<StepCopy>,
    /// Copies of the next step that this one began. The last may land after the end of the step.
    pub ahead: Vec<StepCopy>,
}

/// One layer of a [`StepAnswer`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepLayer {
    /// From 1.
    pub layer: u32,
    /// When its compute began.
    pub start_s: f64,
    /// When its compute ended.
    pub end_s: f64,
    /// How long it waited for its copies.
    pub stall_s: f64,
}

/// One copy of a [`StepAnswer`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepCopy {
    /// The request's id.
    pub request: String,
    /// From 1.
    pub layer: u32,
    /// When the copy engine began.
    pub start_s: f64,
    /// When the layer had landed.
    pub end_s: f64,
}

impl StepAnswer {
    /// The answer of one step alone.
    pub(super) fn new(instance: &StepInstance, timing: StepTiming, timeline: &StepTimeline) -> Self {
        let tail = SimDuration::from_secs_f64(instance.tail_s);
        let layer = |span: &LayerSpan| StepLayer {
            layer: span.layer.0,
            start_s: span.start.as_secs_f64(),
            end_s: span.end.as_secs_f64(),
            stall_s: span.stall.as_secs_f64(),
        };
        let copy = |span: &CopySpan| StepCopy {
            request: instance.requests[span.request].id.clone(),
            layer: span.layer.0,
            start_s: span.start.as_secs_f64(),
            end_s: span.end.as_secs_f64(),
        };
        StepAnswer {
            step_s: (timing.step + tail).as_secs_f64(),
            compute_s: (timing.compute - instance.prefill()).as_secs_f64(),
            prefill_s: instance.prefill().as_secs_f64(),
            copy_s: timing.copy.as_secs_f64(),
            stall_s: timing.stall().as_secs_f64(),
            prefix_forecast_s: instance.forecast_s(),
            layers: timeline.layers.iter().map(layer).collect(),
            copies: timeline.copies.iter().map(copy).collect(),
            cross_step: None,
        }
    }

    /// The answer of a step between steps like it.
    pub(super) fn across(instance: &StepInstance, steady: &Steady) -> Self {
        let id = |request: usize| instance.requests[request].id.clone();
        let carried = steady.carried.iter().map(|copy| StepCopy {
            request: id(copy.request),
            layer: copy.layer.0,
            start_s: -copy.began_before.as_secs_f64(),
            end_s: signed_s(copy.took, copy.began_before),
        });
        let ahead = steady.timeline.ahead.iter().map(|copy| StepCopy {
            request: id(copy.request),
            layer: copy.layer.0,
            start_s: copy.start.as_secs_f64(),
            end_s: copy.end.as_secs_f64(),
        });
        StepAnswer {
            cross_step: Some(StepNeighbours {
                steps_before: steady.steps_before,
                period: steady.period,
                mean_step_s: steady.mean.map(|mean| mean.as_secs_f64()),
                carried: carried.collect(),
                ahead: ahead.collect(),
            }),
            ..StepAnswer::new(instance, steady.timing, &steady.timeline)
        }
    }
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// `one − other` in seconds, the difference taken in whole picoseconds.
fn signed_s(one: SimDuration, other: SimDuration) -> f64 {
    if one >= other { (one - other).as_secs_f64() } else { -(other - one).as_secs_f64() }
}
