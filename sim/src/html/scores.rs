//! The table of all scores at every SLO scale, for reading and for sorting.

use std::fmt::Write as _;

use super::markup::{Table, head};
use super::{Shown, name_of};
use crate::plot::words;
use crate::report::rows::Results;
use crate::report::table;

/// The section.
pub fn section(results: &Results, policies: &[Shown<'_>]) -> String {
    let mut all = Table::new(
        "Scores of every policy at every SLO scale",
        "class=\"sortable\" id=\"all-scores\"",
        &[
            head("Policy", ""),
            head("SLO scale", ""),
            head("e2e", "% of requests in time"),
            head("TBT step", "% of tokens"),
            head("TBT step", "% + deposit"),
            head("TBT gap", "% of tokens"),
            head("TBT gap", "% + deposit"),
            head("Playback stall", "% of playing time"),
            head("TTFT", "median"),
            head("Throughput", "tokens/s"),
            head("TPOT step", "% of requests"),
            head("TPOT gap", "% of requests"),
            head("TTFT", "% of requests"),
            head("Goodput", "requests/s"),
            head("TBT step", "P95"),
            head("TBT gap", "P95"),
            head("Pauses", ""),
            head("Preemptions", ""),
            head("Finished", ""),
            head("Arrived", ""),
        ],
    );
    let first = table::rows(results).first().map(|row| row.slo_scale);
    for row in table::rows(results) {
        let Some(shown) = policies.iter().find(|shown| shown.result.key == row.policy) else { continue };
        let mut attributes = format!("data-p=\"{}\" data-scale=\"{}\"", shown.index, row.slo_scale);
        if Some(row.slo_scale) == first {
            attributes.push_str(" data-first");
        }
        let rerun = if row.rerun {
            " <abbr title=\"run again for this SLO: the method looks at it\">↻</abbr>"
        } else {
            ""
        };
        all.row(&attributes, &(name_of(shown) + rerun))
            .number(Some(row.slo_scale), words::factor)
            .number(Some(row.e2e_pct), words::percent)
            .number(Some(row.tbt_step_pct), words::percent)
            .number(Some(row.tbt_step_deposit_pct), words::percent)
            .number(Some(row.tbt_gap_pct), words::percent)
            .number(Some(row.tbt_gap_deposit_pct), words::percent)
            .number(row.playback_stall_pct, words::percent)
            .number(row.ttft_p50_s, words::seconds)
            .number(Some(row.throughput_tokens_per_s), words::number)
            .number(Some(row.tpot_step_pct), words::percent)
            .number(Some(row.tpot_gap_pct), words::percent)
            .number(Some(row.ttft_pct), words::percent)
            .number(Some(row.goodput_requests_per_s), words::number)
            .number(row.tbt_step_p95_s, words::seconds)
            .number(row.tbt_gap_p95_s, words::seconds)
            .count(row.pauses)
            .count(row.preemptions)
            .count(row.finished)
            .count(row.arrived);
    }
    let mut html = String::from(
        "<p><b>e2e</b>: arrived requests whose last token came in time, queueing and pauses included. <b>TBT</b>: due \
         tokens in time; <i>step</i> counts how long the step took that made the token, <i>gap</i> the time since the \
         request's previous token, which is what a client sees; <i>deposit</i> saves early tokens up for late ones. \
         TBT cannot see a request that is not running: e2e, playback stall (playing time with no token to show), \
         TTFT and throughput can. Higher is better, but for stall, TTFT in seconds, P95, pauses and preemptions.",
    );
    if policies.iter().any(|shown| shown.result.by_slo_scale.iter().any(|at| at.rerun)) {
        html.push_str(
            " ↻: run again for this SLO, because the method looks at it; P95, pauses and counts are known of the first \
             scale's run only.",
        );
    }
    let _ = write!(html, "</p>\n{}", all.finish());
    html
}
