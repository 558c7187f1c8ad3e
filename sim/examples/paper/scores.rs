//! What is kept of a run: one score per policy and SLO scale, each a list of named numbers.
//!
//! TBT in the paper's scoring is OrbitFlow with deposit playback and its baselines without (facts F, J.10); both
//! readings are kept for every method. The published scripts divide late tokens by Σ output_tokens, this program by
//! the due ones (`output − 1` of each request): worked number (a test), 100 requests of 11 tokens with 100 late are 90.00 % here and
//! 90.91 % there.

use orbitflow_sim::report::SavedResults;
use orbitflow_sim::report::rows::{Attainment, PolicyResult, RequestRow, ScaleResult};
use serde::{Deserialize, Serialize};

/// A number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// TBT attainment, methods with deposit scored with it, the others without.
    TbtPaper,
    /// The same over Σ output_tokens.
    TbtPaperAllTokens,
    /// Step TBT attainment.
    TbtStep,
    /// Step TBT attainment with deposit.
    TbtStepDeposit,
    /// Gap TBT attainment.
    TbtGap,
    /// Gap TBT attainment with deposit.
    TbtGapDeposit,
    /// TPOT attainment on step TBT, as published.
    TpotStep,
    /// TPOT attainment on gap TBT.
    TpotGap,
    /// End-to-end attainment.
    EndToEnd,
    /// Share of a client's playing time without a token to show.
    PlaybackStall,
    /// Median time to first token.
    TtftMedian,
    /// Tokens per second.
    Throughput,
    /// 95th percentile of step TBT over the SLO.
    P95OverSlo,
    /// Share of raw late tokens that deposit playback hides.
    Masked,
    /// Share of the makespan that waits for the solver.
    Planning,
    /// The longest time a request was held back.
    LongestPause,
    /// Requests that finished.
    Finished,
    /// End-to-end attainment of the quarter of the requests with the longest contexts at their end.
    EndToEndLongest,
    /// Mean over decode steps of step over `max(compute, copies)` − 1, the copies being those of the method's own placement.
    AboveBound,
    /// Decode time over its compute alone: 1 + stall / compute, over the whole run.
    OverCompute,
}

/// Every metric: its column in files, and how figures call it and its unit.
pub const METRICS: [(Metric, &str, &str); 20] = [
    (Metric::TbtPaper, "tbt_paper_pct", "TBT, paper's scoring (%)"),
    (Metric::TbtPaperAllTokens, "tbt_paper_all_tokens_pct", "TBT, paper's scoring, all tokens (%)"),
    (Metric::TbtStep, "tbt_step_pct", "TBT, no deposit (%)"),
    (Metric::TbtStepDeposit, "tbt_step_deposit_pct", "TBT, all with deposit (%)"),
    (Metric::TbtGap, "tbt_gap_pct", "TBT, gap (%)"),
    (Metric::TbtGapDeposit, "tbt_gap_deposit_pct", "TBT, gap with deposit (%)"),
    (Metric::TpotStep, "tpot_step_pct", "TPOT (%)"),
    (Metric::TpotGap, "tpot_gap_pct", "TPOT, gap (%)"),
    (Metric::EndToEnd, "e2e_pct", "e2e (%)"),
    (Metric::PlaybackStall, "playback_stall_pct", "Playback stall (%)"),
    (Metric::TtftMedian, "ttft_p50_s", "TTFT, median"),
    (Metric::Throughput, "throughput_tokens_per_s", "Tokens per second"),
    (Metric::P95OverSlo, "tbt_p95_over_slo", "P95 of step TBT over SLO"),
    (Metric::Masked, "masked_pct", "Late tokens masked (%)"),
    (Metric::Planning, "planning_pct", "Time waiting for plans (%)"),
    (Metric::LongestPause, "longest_pause_s", "Longest pause (s)"),
    (Metric::Finished, "finished_pct", "Requests finished (%)"),
    (Metric::EndToEndLongest, "e2e_longest_quarter_pct", "e2e, longest quarter (%)"),
    (Metric::AboveBound, "above_bound_mean_pct", "Step above bound, %"),
    (Metric::OverCompute, "decode_over_compute", "Decode over compute"),
];

impl Metric {
    /// Its title in figures.
    pub fn title(self) -> &'static str {
        METRICS[self as usize].2
    }
}

/// The numbers of one policy at one SLO scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The policy's key.
    pub policy: String,
    /// Its name in figures.
    pub label: String,
    /// The SLO scale that it was planned for and scored at.
    pub scale: f64,
    /// In the order of [`METRICS`].
    values: Vec<Option<f64>>,
}

impl Score {
    /// The number; `None` where there is nothing to measure.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values[metric as usize]
    }
}

/// Whether the paper scores a method with deposit playback: those that have token deposit.
pub fn has_deposit(policy: &str) -> bool {
    policy.starts_with("orbitflow") && policy != "orbitflow-no-deposit" || policy.starts_with("uniform-td")
}

/// The scores of results at one SLO scale.
pub fn scores(saved: &SavedResults) -> Vec<Score> {
    let scored = |policy: &PolicyResult| {
        let [scale] = &policy.by_slo_scale[..] else {
            panic!("Invariant: a run of this program is scored at one SLO scale")
        };
        Score {
            policy: policy.key.clone(),
            label: policy.label.clone(),
            scale: scale.scale,
            values: METRICS.map(|(metric, _, _)| value(metric, saved, policy, scale)).into(),
        }
    };
    saved.results.policies.iter().map(scored).collect()
}

fn value(metric: Metric, saved: &SavedResults, policy: &PolicyResult, scale: &ScaleResult) -> Option<f64> {
    let Attainment { tbt_step, tbt_gap, tbt_step_deposit, tbt_gap_deposit, tpot_step, tpot_gap, e2e, .. } =
        scale.attainment_pct;
    let paper = if has_deposit(&policy.key) { tbt_step_deposit } else { tbt_step };
    Some(match metric {
        Metric::TbtPaper => paper,
        Metric::TbtPaperAllTokens => {
            over_all_tokens(paper, policy.tokens.due, saved.results.trace.output_tokens)
        }
        Metric::TbtStep => tbt_step,
        Metric::TbtStepDeposit => tbt_step_deposit,
        Metric::TbtGap => tbt_gap,
        Metric::TbtGapDeposit => tbt_gap_deposit,
        Metric::TpotStep => tpot_step,
        Metric::TpotGap => tpot_gap,
        Metric::EndToEnd => e2e,
        Metric::PlaybackStall => scale.playback_stall_pct?,
        Metric::TtftMedian => scale.ttft_p50_s?,
        Metric::Throughput => scale.throughput_tokens_per_s,
        Metric::P95OverSlo => policy.tbt_step_s.p95? / scale.slo_s,
        Metric::Masked if tbt_step >= 100.0 => return None,
        Metric::Masked => (tbt_step_deposit - tbt_step) / (100.0 - tbt_step) * 100.0,
        Metric::Planning if policy.makespan_s == 0.0 => return None,
        Metric::Planning => policy.busy_s.planning / policy.makespan_s * 100.0,
        Metric::LongestPause => policy.pauses.longest_s,
        Metric::EndToEndLongest => {
            let own: Vec<&RequestRow> =
                saved.requests.iter().filter(|row| row.policy == policy.key).collect();
            end_to_end_of_the_longest_quarter(&own)
        }
        Metric::AboveBound => policy.above_bound_pct.mean?,
        Metric::OverCompute if policy.busy_s.compute == 0.0 => return None,
        Metric::OverCompute => 1.0 + policy.busy_s.stall / policy.busy_s.compute,
        Metric::Finished => policy.requests.finished as f64 / policy.requests.arrived as f64 * 100.0,
    })
}

/// Share of the longest quarter (prompt and output tokens, the first of equals; rounded up) whose last token came by
/// arrival + 5 s + output · SLO (design §6), percent.
fn end_to_end_of_the_longest_quarter(requests: &[&RequestRow]) -> f64 {
    const TTFT_SLO_S: f64 = 5.0;
    let mut longest = requests.to_vec();
    longest.sort_by_key(|row| std::cmp::Reverse(row.prompt_tokens + row.output_tokens));
    longest.truncate(requests.len().div_ceil(4));
    let due = |row: &RequestRow| row.arrival_s + TTFT_SLO_S + row.output_tokens as f64 * row.slo_s;
    let met = longest.iter().filter(|row| row.finish_s.is_some_and(|finish| finish <= due(row))).count();
    met as f64 / longest.len() as f64 * 100.0
}

/// An attainment over due tokens, over all tokens instead.
fn over_all_tokens(attainment_pct: f64, due: u64, all: u64) -> f64 {
    100.0 - (100.0 - attainment_pct) * due as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_number_of_the_header() {
        // 1,000 due tokens of 1,100; 100 late: 900/1,000 and (1,100 − 100)/1,100.
        assert!((over_all_tokens(90.0, 1_000, 1_100) - 90.909_090_9).abs() < 1e-6);
    }

    #[test]
    fn the_table_of_metrics_is_in_the_order_of_the_metrics() {
        for (place, (metric, _, _)) in METRICS.iter().enumerate() {
            assert_eq!(*metric as usize, place);
        }
    }

    #[test]
    fn methods_with_token_deposit_are_scored_with_it() {
        let with = ["orbitflow", "orbitflow-longest", "orbitflow-no-pause", "uniform-td", "uniform-td-pr"];
        assert!(with.into_iter().all(has_deposit));
        let without = ["orbitflow-no-deposit", "uniform", "static-1", "resident", "selectn"];
        assert!(!without.into_iter().any(has_deposit));
    }
}
