//! What the planner believes compute and copies cost, and how measured steps correct it (trigger (d), design §4.1).
//!
//! Compute and copies each have a factor on the profile's time. Plain decode steps whose measured compute or copy time
//! is off the believed one by more than the tolerance, `replan_patience` in a row, multiply each factor by the
//! square root of its own ratio measured/believed. Once it has started, a correction goes on until the rates are
//! within **half** the tolerance: with the full one a belief 2× wrong would come to rest at 2^(1/8) = 9 % off, just inside
//! 10 %, for ever.
//!
//! The rule, with `m` and `b` the sums of measured and believed times over the streak: `f ← f·√(m/b)`. Worked: a link twice
//! as slow as believed is wrong by a factor of 2, then √2 = 1.414, 1.189, 1.091 and 1.044, which is within half of 10 %:
//! four corrections of four steps each. Tests: `a_link_belief_that_is_2x_wrong_is_within_5_percent_after_20_steps`,
//! `a_correct_belief_is_never_touched`.

use crate::cost::CostModel;
use crate::planner::PlannerSwitches;
use crate::policy::Measured;
use crate::units::Bytes;

/// The believed costs of one batch, in seconds.
pub struct Rates {
    /// Compute of one layer.
    pub layer_compute_s: f64,
    /// Copy of one block.
    pub block_copy_s: f64,
    /// Latency of one copy.
    pub copy_latency_s: f64,
    /// Once per step that copies.
    pub intercept_s: f64,
    /// Once per step.
    pub tail_s: f64,
}

/// A cost model and what has been learned about it.
pub struct Belief {
    cost: CostModel,
    compute: Factor,
    copy: Factor,
    /// `None`: feedback is off.
    tolerance: Option<f64>,
    patience: u32,
    correcting: bool,
}

/// One correction factor, its streak, and the sums it is corrected by.
struct Factor {
    value: f64,
    /// Plain steps in a row in which it was off.
    off: u32,
    measured_s: f64,
    believed_s: f64,
}

impl Factor {
    const ONE: Factor = Factor { value: 1.0, off: 0, measured_s: 0.0, believed_s: 0.0 };

    /// Takes one step; a step that is not off ends the streak.
    fn note(&mut self, measured_s: f64, believed_s: f64, limit: f64) {
        let is_off = believed_s > 0.0 && (measured_s / believed_s - 1.0).abs() > limit;
        if self.off == 0 || !is_off {
            self.forget();
        }
        self.off += u32::from(is_off);
        self.measured_s += measured_s;
        self.believed_s += believed_s;
    }

    fn forget(&mut self) {
        *self = Factor { value: self.value, ..Factor::ONE };
    }

    fn correct(&mut self) {
        if self.measured_s > 0.0 && self.believed_s > 0.0 {
            self.value *= (self.measured_s / self.believed_s).sqrt();
        }
        self.forget();
    }
}

impl Belief {
    /// Starts from `cost` as it is.
    pub fn new(cost: CostModel, switches: &PlannerSwitches) -> Self {
        Belief {
            cost,
            compute: Factor::ONE,
            copy: Factor::ONE,
            tolerance: switches.feedback.then_some(switches.replan_tolerance),
            patience: switches.replan_patience,
            correcting: false,
        }
    }

    /// Factor on the profile's copy times.
    pub fn copy_factor(&self) -> f64 {
        self.copy.value
    }

    /// Factor on the profile's compute times.
    pub fn compute_factor(&self) -> f64 {
        self.compute.value
    }

    /// Believed costs of a batch of `requests` requests with `context_tokens` tokens in all.
    pub fn rates(&self, context_tokens: u64, requests: u32, block_bytes: Bytes) -> Rates {
        let (block_copy_s, copy_latency_s) = self.cost.h2d.planner_line(block_bytes);
        Rates {
            layer_compute_s: self.cost.layer_compute_s(context_tokens, requests) * self.compute.value,
            block_copy_s: self.copy.value * block_copy_s,
            copy_latency_s: self.copy.value * copy_latency_s,
            intercept_s: self.cost.link_intercept.as_secs_f64(),
            tail_s: self.cost.tail(requests).as_secs_f64(),
        }
    }

    /// Takes the last step's measured times; true if that corrected the factors, so that it is time to plan again.
    ///
    /// The believed copy time is the profile's for the very copies of the step, not that of the planner's line through
    /// a measured curve: a belief that is the truth is never off.
    pub fn learn(&mut self, measured: Option<Measured<'_>>) -> bool {
        let (Some(tolerance), Some(step)) = (self.tolerance, measured.filter(|step| step.plain)) else {
            return false;
        };
        let layers = f64::from(self.cost.layers);
        let compute_s =
            self.cost.layer_compute_s(step.context_tokens, step.requests) * layers * self.compute.value;
        let one_copy_s = |bytes: Bytes| self.cost.h2d.copy_time_s(bytes) * self.copy.value;
        let copy_s = step.copies.iter().map(|(copies, bytes)| one_copy_s(*bytes) * f64::from(*copies)).sum();
        let limit = if self.correcting { tolerance / 2.0 } else { tolerance };
        self.compute.note(step.compute.as_secs_f64(), compute_s, limit);
        self.copy.note(step.copy.as_secs_f64(), copy_s, limit);
        let longest = self.compute.off.max(self.copy.off);
        if longest == 0 {
            self.correcting = false;
        }
        if longest < self.patience {
            return false;
        }
        self.compute.correct();
        self.copy.correct();
        self.correcting = true;
        true
    }
}
