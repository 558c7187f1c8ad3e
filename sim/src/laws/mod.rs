//! Laws 1 to 5 of design §8, checked on a run as it happens.
//!
//! [`Laws`] follows every request by the records alone and compares what it knows with what the engine says of
//! itself, in step records and in the state behind each step. It never panics: what breaks a law is listed, with
//! when and why, and the run goes on. Laws 6 to 8 compare runs or plans and are tests, not a sink.
//!
//! 1. arrived = finished + running + waiting + paused + preempted + rejected + capped at every step; at the end
//!    nothing is lost.
//! 2. A finished request made exactly its output tokens; tokens and busy time add up to what is reported.
//! 3. GPU and host use equal the sum over requests and never exceed capacity.
//! 4. Time never goes back; arrival ≤ admission ≤ first token ≤ finish; copies never overlap; no layer starts
//!    before its copies end. Both hold across the boundary of two steps as well, where a copy for the next one runs on.
//! 5. Decode part (tolerance 1 ps per layer and copy): prefix forecast ≤ step time; max(compute, copies) ≤ step time
//!    ≤ compute + copies + waits for writes of steps before; and the step time in use is that of the event-driven
//!    pipeline. Prompt tokens beside decodes are compute. Design §8 leaves contention out; with it the law holds for the
//!    times that the timeline shows, which are slowed ones, and for the times alone in a weaker form: max ≤ step time ≤
//!    sum / min(1, 1/γ_copy + 1/γ_compute). It leaves cross-step prefetch out, too; with it the law holds for the copies
//!    that the step begins for itself, forecast included, and the sum has what is left of the copy that runs when it
//!    begins.
//!
//! Arrivals take effect at step boundaries: an arrival may carry an instant before the newest step's end, but not
//! before its start.

mod following;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;

pub use following::Laws;

use crate::ids::RequestId;
use crate::units::{SimDuration, SimTime};

/// Most violations that are listed; all are counted.
pub const MOST_LISTED: usize = 20;

/// What the laws must know of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Output tokens asked for, at least 1.
    pub output_tokens: u64,
    /// The turn before it in its session. A request without one must arrive; one whose previous turn did not
    /// finish may never do.
    pub previous_turn: Option<RequestId>,
}

/// What the report says of the run, to be compared with the records (law 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tokens made, first ones included.
    pub delivered_tokens: u64,
    /// First arrival to last token.
    pub makespan: SimDuration,
    /// Busy and idle time together.
    pub busy_and_idle: SimDuration,
}

/// One broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number in design §8.
    pub law: u32,
    /// When.
    pub at: SimTime,
    /// What was found and what was expected.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {} at {}: {}", self.law, self.at, self.text)
    }
}

/// What the laws say of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The first [`MOST_LISTED`] violations.
    pub violations: Vec<Violation>,
    /// How many there were.
    pub count: u64,
    /// Steps that were checked.
    pub steps: u64,
}

impl Verdict {
    /// Whether no law was broken.
    pub const fn holds(&self) -> bool {
        self.count == 0
    }
}
