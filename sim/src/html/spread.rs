//! Distributions of TBT, TPOT, TTFT and end-to-end time: cumulative curves from the 1,001 quantiles of each.
//!
//! They are of what was delivered; what was not, and what the policies paid, stands in a table beside them.

use std::collections::BTreeMap;

use serde_json::json;

use super::chart::{Chart, Stops, place};
use super::markup::{Table, head};
use super::{Shown, name_of};
use crate::plot::canvas::Point;
use crate::plot::panel::{self, Axis, SHARE, share_ticks};
use crate::plot::words;
use crate::report::rows::{Distribution, PolicyResult, QuantileRow, Results};

const SIZE: (f64, f64) = (400.0, 268.0);
/// Points nearer than this many pixels in both directions are one.
const NEAREST: f64 = 0.6;
/// Markers per line.
const MARKERS: usize = 4;

struct Metric {
    /// In `quantiles.csv`.
    name: &'static str,
    title: &'static str,
    subtitle: &'static str,
    of_tokens: bool,
    has_slo: bool,
    summary: fn(&PolicyResult) -> &Distribution,
}

const METRICS: [Metric; 6] = [
    Metric {
        name: "tbt_step",
        title: "TBT, step",
        subtitle: "length of the step that made the token; no pauses",
        of_tokens: true,
        has_slo: true,
        summary: |policy| &policy.tbt_step_s,
    },
    Metric {
        name: "tbt_gap",
        title: "TBT, gap",
        subtitle: "time since the previous token, as a client sees it",
        of_tokens: true,
        has_slo: true,
        summary: |policy| &policy.tbt_gap_s,
    },
    Metric {
        name: "ttft",
        title: "TTFT",
        subtitle: "arrival to first token, of requests that got one",
        of_tokens: false,
        has_slo: false,
        summary: |policy| &policy.ttft_s,
    },
    Metric {
        name: "tpot_step",
        title: "TPOT, step",
        subtitle: "mean step TBT of a finished request",
        of_tokens: false,
        has_slo: true,
        summary: |policy| &policy.tpot_step_s,
    },
    Metric {
        name: "tpot_gap",
        title: "TPOT, gap",
        subtitle: "mean gap TBT of a finished request",
        of_tokens: false,
        has_slo: true,
        summary: |policy| &policy.tpot_gap_s,
    },
    Metric {
        name: "e2e",
        title: "End to end",
        subtitle: "arrival to last token of a finished request",
        of_tokens: false,
        has_slo: false,
        summary: |policy| &policy.e2e_s,
    },
];

/// Metric and place of the policy to (percent, seconds), ascending.
type Curves<'a> = BTreeMap<(&'a str, usize), Vec<Point>>;

/// The section.
pub fn section(results: &Results, quantiles: &[QuantileRow], policies: &[Shown<'_>]) -> String {
    let mut curves: Curves<'_> = BTreeMap::new();
    for row in quantiles {
        let Some(shown) = policies.iter().find(|shown| shown.result.key == row.policy) else { continue };
        curves.entry((&row.metric, shown.index)).or_default().push((row.p * 100.0, row.seconds));
    }
    for points in curves.values_mut() {
        points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    }
    let charts: String = METRICS.iter().map(|metric| draw(metric, results, &curves, policies)).collect();
    format!(
        "<p>A curve further left is better: at height 50 % it passes the median, at 95 % the 95th percentile. Time is \
         logarithmic. Only what was delivered is in a curve, so read them with the table below.</p>\n\
         <div class=\"charts\">{charts}</div>\n<h3>What the curves leave out, at the first SLO scale</h3>\n{}\
         <details><summary>Quantiles in numbers</summary>\n{}</details>\n",
        board(policies),
        numbers(policies)
    )
}

fn board(policies: &[Shown<'_>]) -> String {
    let mut table = Table::new(
        "What the curves leave out, at the first SLO scale",
        "class=\"sortable\"",
        &[
            head("Policy", ""),
            head("Tokens delivered", "% of due"),
            head("Requests finished", ""),
            head("Without a first token", "requests"),
            head("e2e", "% in time"),
            head("Playback stall", "% of playing time"),
            head("TTFT", "median"),
            head("Throughput", "tokens/s"),
        ],
    );
    for shown in policies {
        let result = shown.result;
        let due = result.tokens.due;
        table
            .row(&shown.attribute(), &name_of(shown))
            .number((due > 0).then(|| result.tokens.delivered as f64 / due as f64 * 100.0), words::percent)
            .count(Some(result.requests.finished))
            .count(Some(shown.without_first_token))
            .number(Some(result.attainment_pct.e2e), words::percent)
            .number(result.playback_stall_pct, words::percent)
            .number(result.ttft_s.p50, words::seconds)
            .number(Some(result.throughput_tokens_per_s), words::number);
    }
    table.finish()
}

fn numbers(policies: &[Shown<'_>]) -> String {
    let mut table = Table::new(
        "Quantiles of TBT, TPOT, TTFT and end-to-end time",
        "class=\"sortable\"",
        &[
            head("Policy", ""),
            head("Time", ""),
            head("Mean", ""),
            head("P50", ""),
            head("P90", ""),
            head("P95", ""),
            head("P99", ""),
            head("Longest", ""),
        ],
    );
    for metric in &METRICS {
        for shown in policies {
            let spread = (metric.summary)(shown.result);
            table.row(&shown.attribute(), &name_of(shown)).words(metric.title);
            for value in [spread.mean, spread.p50, spread.p90, spread.p95, spread.p99, spread.max] {
                table.number(value, words::seconds);
            }
        }
    }
    table.finish()
}

fn draw(metric: &Metric, results: &Results, curves: &Curves<'_>, policies: &[Shown<'_>]) -> String {
    let curve = |shown: &Shown<'_>| curves.get(&(metric.name, shown.index)).map_or(&[][..], Vec::as_slice);
    let seconds = policies.iter().flat_map(|shown| curve(shown).iter().map(|point| point.1));
    let slo = (metric.has_slo && results.slo_s.is_finite() && results.slo_s > 0.0).then_some(results.slo_s);
    let x = Axis::log_around(seconds.chain(slo)).unwrap_or(Axis::Log { from: 0.001, to: 1.0 });
    let mut chart = Chart::new(SIZE, x, SHARE, 0);
    chart.x_axis(&x.ticks(words::seconds), "time, logarithmic");
    let of = if metric.of_tokens { "delivered tokens at or below (%)" } else { "requests at or below (%)" };
    chart.y_axis(&share_ticks(), of);
    let panel = chart.panel;
    for prominent in [false, true] {
        for shown in policies.iter().filter(|shown| shown.style.is_prominent() == prominent) {
            let places = curve(shown).iter().map(|point| panel.at(point.1, point.0));
            let markers = markers(curve(shown), shown.index, policies.len());
            let markers: Vec<Point> =
                markers.into_iter().map(|(percent, seconds)| panel.at(seconds, percent)).collect();
            chart.series(shown, &panel::thinned(places, NEAREST), &markers);
        }
    }
    if let Some(slo) = slo {
        chart.limit("x", slo, &format!("SLO {}", words::seconds(slo)));
    }
    chart.frame();
    if policies.iter().all(|shown| curve(shown).is_empty()) {
        chart.message(if metric.of_tokens {
            "no token after a first one was made"
        } else {
            "there was none"
        });
    }
    // From the top down, as the arrow keys go; a pointer finds the nearest.
    let shares: Vec<f64> = (1..=99).map(f64::from).chain([99.5, 99.9]).collect();
    let stops = Stops {
        along: "y",
        at: shares.iter().map(|share| place(panel.y_at(*share))).collect(),
        heads: shares.iter().map(|share| format!("P{share}: {share} % at or below")).collect(),
        series: policies.iter().map(|shown| json!(shown.index)).collect(),
        values: policies.iter().map(|shown| read_at(curve(shown), &shares)).collect(),
    };
    let described: Vec<String> = (policies.iter())
        .filter_map(|shown| {
            let spread = (metric.summary)(shown.result);
            let (p50, p95) = (spread.p50?, spread.p95?);
            Some(format!("{} {} and {}", shown.name, words::seconds(p50), words::seconds(p95)))
        })
        .collect();
    let description =
        format!("Cumulative distribution; median and 95th percentile: {}", described.join(", "));
    chart.finish(metric.title, metric.subtitle, &description, &stops)
}

/// The first quantile at or above each share.
fn read_at(curve: &[Point], shares: &[f64]) -> Vec<Option<String>> {
    let at = |share: &f64| {
        let index = curve.partition_point(|point| point.0 < *share - 1e-9);
        curve.get(index).map(|point| words::seconds(point.1))
    };
    shares.iter().map(at).collect()
}

/// Evenly spread over the share, each policy a little further than the one before.
fn markers(curve: &[Point], row: usize, rows: usize) -> Vec<Point> {
    panel::marker_shares(MARKERS, row, rows)
        .filter_map(|share| curve.iter().find(|point| point.0 >= share).copied())
        .collect()
}
