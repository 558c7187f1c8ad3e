//! What the user may ask of any reader.

use super::arrivals::ArrivalProcess;
use super::error::TraceError;
use super::format::Format;
use crate::units::SimDuration;

/// How a trace file is read. The scenario's `[trace]` table and the flags of `orbitflow trace` map onto it.
///
/// In this order: rows of zero length are left out; then prompts below `min_prompt_tokens`; arrivals are drawn
/// where the file has none; steps become seconds by `step_time`; `load` compresses time; rows are sorted; the
/// first
/// `limit` are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// The format; recognised by content if absent.
    pub format: Option<Format>,
    /// Divides the times of arrival; think times stay (design §2.2). 1 leaves the trace as it is.
    pub load: f64,
    /// Keep the first so many requests, after every other filter.
    pub limit: Option<usize>,
    /// Leave out requests with a shorter prompt, in tokens.
    pub min_prompt_tokens: u64,
    /// What a step of a trace in steps takes: turns its arrivals into seconds.
    pub step_time: Option<SimDuration>,
    /// How requests (of a table of lengths) or sessions (of kv-cache-tester) arrive, rates per second.
    pub arrivals: Option<ArrivalProcess>,
    /// Seed of what is drawn while reading: arrivals and the spreading of coarse stamps.
    pub seed: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            format: None,
            load: 1.0,
            limit: None,
            min_prompt_tokens: 0,
            step_time: None,
            arrivals: None,
            seed: 0,
        }
    }
}

/// The load factors that make sense: time stretched or compressed a millionfold.
const LOADS: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

impl ReadOptions {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`TraceError::BadOption`].
    pub fn check(&self) -> Result<(), TraceError> {
        let bad = |option, value: String, expected| Err(TraceError::BadOption { option, value, expected });
        if !LOADS.contains(&self.load) {
            return bad("load", self.load.to_string(), "a factor from 0.000001 to 1000000");
        }
        if self.limit == Some(0) {
            return bad("limit", "0".into(), "at least 1 request");
        }
        if self.step_time == Some(SimDuration::ZERO) {
            return bad("step_time", "0 s".into(), "a time above 0");
        }
        Ok(())
    }
}
