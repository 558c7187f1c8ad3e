//! Scores from records: what a client felt and what the server did (design §6).
//!
//! [`Metrics`] is the sink; [`Outcome`] is what it says at the end, in integers, before anything is divided,
//! rounded or named. Knows records, playback and SLOs; nothing about policies, traces, files or tables.
//!
//! * **Step TBT**: the duration of the step that made a token. **Gap TBT**: the time since the request's previous
//!   token. Both plain and with deposit playback (design §4.4), the step kind on a clock that only moves in the
//!   steps that make the request's tokens: pauses and prefill steps are invisible to it, as published.
//! * Late means strictly later than the SLO. Every due token (`output_tokens − 1` of every arrived request) that is
//!   never made is late, whatever the reason.
//! * Attainment and playback are counted as tokens arrive, for every SLO scale at once.

mod closing;
mod outcome;
mod pool;
mod streaming;
#[cfg(test)]
mod tests;

pub use outcome::{
    Busy, LateTokens, Outcome, Planning, RequestEnd, RequestOutcome, ScaleScores, Traffic, merge_scale_runs,
};
pub use pool::{Pool, Sorted};
pub use streaming::Metrics;

use crate::units::SimDuration;

/// The time-to-first-token promise where none is set (design §6).
pub const DEFAULT_TTFT_SLO: SimDuration = SimDuration::from_secs(5);

/// Decode steps up to which the TBT distributions keep every value; beyond, bins of 0.1 % (design §6).
pub const EXACT_DECODE_STEPS: u64 = 1_000_000;

/// What scoring must know of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts<'a> {
    /// Its name in the trace.
    pub id: &'a str,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Output tokens asked for, at least 1.
    pub output_tokens: u64,
    /// Its own time-between-tokens promise at scale 1.
    pub slo: Option<SimDuration>,
    /// Its own time-to-first-token promise.
    pub ttft_slo: Option<SimDuration>,
}

/// One SLO that the run is scored at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleSlo {
    /// Times the base SLO.
    pub scale: f64,
    /// The promise per token; a request's own promise times `scale` replaces it.
    pub slo: SimDuration,
}

/// How a run is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Scoring {
    /// At least one; the first one is that of the main table and of `requests.csv`.
    pub scales: Vec<ScaleSlo>,
    /// The scenario's time-to-first-token promise; a request's own replaces it.
    pub ttft_slo: Option<SimDuration>,
    /// Requests that arrive before this are left out of attainment, playback stall, goodput and distributions.
    /// Counts of requests and tokens, makespan, throughput and all that concerns the server cover the whole run.
    pub warmup: SimDuration,
}
