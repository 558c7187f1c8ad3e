//! What a finished sweep holds, as its figures need it: every point with its place on the axes, and the scores of each
//! policy there at each SLO scale.
//!
//! [`SCORES`] are the numeric columns of `sweep.csv`, by name, so that the table and the figures cannot mean different
//! things by one name. Knows nothing about how a grid is written, run or stored.

use std::collections::BTreeMap;

use super::rows::{PolicyResult, ScaleResult};

/// One number of a policy at one SLO scale. Its name ends in its unit.
pub struct Score {
    /// Column in `sweep.csv`.
    pub name: &'static str,
    /// The number; `None` where there is none.
    pub of: fn(&PolicyResult, &ScaleResult) -> Option<f64>,
    /// Whether it is of the policy's run at the first scale, whatever the scale of the row.
    pub of_first_scale: bool,
}

const fn at_scale(name: &'static str, of: fn(&PolicyResult, &ScaleResult) -> Option<f64>) -> Score {
    Score { name, of, of_first_scale: false }
}

const fn at_first(name: &'static str, of: fn(&PolicyResult, &ScaleResult) -> Option<f64>) -> Score {
    Score { name, of, of_first_scale: true }
}

/// Every number, in the order of `sweep.csv`. Counts are exact up to 2^53.
#[rustfmt::skip]
pub const SCORES: &[Score] = &[
    at_scale("e2e_pct", |_, scale| Some(scale.attainment_pct.e2e)),
    at_scale("ttft_pct", |_, scale| Some(scale.attainment_pct.ttft)),
    at_scale("tbt_step_pct", |_, scale| Some(scale.attainment_pct.tbt_step)),
    at_scale("tbt_gap_pct", |_, scale| Some(scale.attainment_pct.tbt_gap)),
    at_scale("tbt_step_deposit_pct", |_, scale| Some(scale.attainment_pct.tbt_step_deposit)),
    at_scale("tbt_gap_deposit_pct", |_, scale| Some(scale.attainment_pct.tbt_gap_deposit)),
    at_scale("tpot_step_pct", |_, scale| Some(scale.attainment_pct.tpot_step)),
    at_scale("tpot_gap_pct", |_, scale| Some(scale.attainment_pct.tpot_gap)),
    at_scale("playback_stall_pct", |_, scale| scale.playback_stall_pct),
    at_scale("ttft_p50_s", |_, scale| scale.ttft_p50_s),
    at_scale("throughput_tokens_per_s", |_, scale| Some(scale.throughput_tokens_per_s)),
    at_scale("goodput_requests_per_s", |_, scale| Some(scale.goodput_requests_per_s)),
    at_first("tbt_step_p95_s", |policy, _| policy.tbt_step_s.p95),
    at_first("tbt_gap_p95_s", |policy, _| policy.tbt_gap_s.p95),
    at_first("e2e_p95_s", |policy, _| policy.e2e_s.p95),
    at_first("requests", |policy, _| Some(policy.requests.arrived as f64)),
    at_first("finished", |policy, _| Some(policy.requests.finished as f64)),
    at_first("rejected", |policy, _| Some(policy.requests.rejected as f64)),
    at_first("unfinished", |policy, _| Some(policy.requests.unfinished as f64)),
    at_first("requests_per_min", |policy, _| policy.requests_per_min),
    at_first("makespan_s", |policy, _| Some(policy.makespan_s)),
    at_first("pauses", |policy, _| Some(policy.pauses.count as f64)),
    at_first("longest_pause_s", |policy, _| Some(policy.pauses.longest_s)),
    at_first("preemptions", |policy, _| Some(policy.preemptions as f64)),
    at_first("refused_placements", |policy, _| Some(policy.refused_placements as f64)),
    at_first("forecast_error_median_pct", |policy, _| policy.forecast_error_pct.median),
    at_first("forecast_error_p95_pct", |policy, _| policy.forecast_error_pct.p95),
    at_first("h2d_bytes", |policy, _| Some((policy.bytes.h2d_prefetch + policy.bytes.h2d_restore) as f64)),
    at_first("peak_gpu_blocks", |policy, _| Some(policy.peak_gpu_blocks as f64)),
];

/// A finished sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct GridResults {
    /// The grid's file.
    pub grid: String,
    /// Digest over the names and scenarios of all points.
    pub grid_digest: String,
    /// Version of `orbitflow` that ran it.
    pub tool_version: String,
    /// In the order of the file.
    pub axes: Vec<GridAxis>,
    /// Key and name of each policy, in the order in which they first occur.
    pub policies: Vec<(String, String)>,
    /// Every point, failed ones included.
    pub points: Vec<GridPoint>,
    /// Sentences that hold for every point.
    pub notes: Vec<String>,
    /// Switches off the preset that are the same at every point.
    pub switches: BTreeMap<String, String>,
}

/// One axis: what it is called, and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct GridAxis {
    /// Key of the scenario, or a name of its own.
    pub key: String,
    /// Of the numbers, if it has them.
    pub unit: AxisUnit,
    /// In the order of the file.
    pub values: Vec<GridValue>,
}

/// What an axis counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisUnit {
    /// Names: there are no numbers.
    Words,
    /// Numbers of no unit.
    Plain,
    /// Seconds.
    Seconds,
    /// 2^30 bytes.
    Gibibytes,
    /// 10^9 bytes per second.
    GigabytesPerSecond,
}

/// One value of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct GridValue {
    /// As the grid writes it.
    pub text: String,
    /// In the axis' unit; `None` on an axis of names.
    pub number: Option<f64>,
}

/// One point.
#[derive(Clone, Debug, PartialEq)]
pub struct GridPoint {
    /// Index of its value on each axis.
    pub place: Vec<usize>,
    /// Scores of every policy at every SLO scale; empty if the point failed.
    pub scored: Vec<Scored>,
}

/// One policy at one SLO scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Its index in [`GridResults::policies`].
    pub policy: usize,
    /// Times the base SLO.
    pub slo_scale: f64,
    /// The SLO per token, seconds.
    pub slo_s: f64,
    /// In the order of [`SCORES`].
    values: Vec<Option<f64>>,
}

impl Scored {
    /// Every policy of a point at every SLO scale. Numbers that a run of another scale has are not taken for this
    /// one's: a policy that ran anew for the scale has none of them here. `index` numbers the policies.
    pub fn of(policies: &[PolicyResult], mut index: impl FnMut(&PolicyResult) -> usize) -> Vec<Scored> {
        let mut all = Vec::new();
        for result in policies {
            let policy = index(result);
            for (place, scale) in result.by_slo_scale.iter().enumerate() {
                let is_of_first = place == 0 || !scale.rerun;
                let value = |score: &Score| {
                    (score.of)(result, scale).filter(|_| is_of_first || !score.of_first_scale)
                };
                let values = SCORES.iter().map(value).collect();
                all.push(Scored { policy, slo_scale: scale.scale, slo_s: scale.slo_s, values });
            }
        }
        all
    }

    /// The number in the column of that name; `None` also for a name that is none.
    pub fn get(&self, name: &str) -> Option<f64> {
        let column = SCORES.iter().position(|score| score.name == name)?;
        self.values[column].filter(|value| value.is_finite())
    }
}
