//! `tbt_cdf.svg`: the distribution of the time between tokens, by step and by gap, per policy.
//!
//! It shows delivered tokens only; what was not delivered, and what a method paid, stands in the board below.

use std::collections::BTreeMap;

use super::canvas::{Align, Canvas, INK, MUTED, Point, render, text_width};
use super::page::{self, Foot, HEAD_HEIGHT, MARGIN, WIDTH};
use super::panel::{self, Axis, Lettering, Panel, SHARE, share_ticks};
use super::{Looks, scoreboard, words};
use crate::report::rows::{QuantileRow, Results};

const PANEL_HEIGHT: f64 = 350.0;
/// Title, subtitle and the SLO labels.
const PANEL_HEAD: f64 = 108.0;
const PANEL_FOOT: f64 = 76.0;
/// Points nearer than this many pixels in both directions are one.
const NEAREST: f64 = 0.75;
/// Height of a line of SLO labels in pixels.
const LABEL_PITCH: f64 = 14.0;
/// With more scales than this only the smallest, the planned and the largest are labelled.
const MOST_SLO_LABELS: usize = 4;
const LABEL_SIZE: f64 = 11.0;
/// Markers per line.
const MARKERS: usize = 5;

/// Metric in `quantiles.csv`, title, subtitle, x label.
const PANELS: [(&str, &str, &str, &str); 2] = [
    (
        "tbt_step",
        "Step TBT",
        "how long the step took that made the token; pauses and prefill steps are not in it",
        "Step time of a token",
    ),
    (
        "tbt_gap",
        "Gap TBT",
        "time since the request's previous token, as a client sees it",
        "Time since the previous token",
    ),
];

/// The rows of its curves. The bars below are those of the first scale in `attainment.csv`.
pub fn rows(quantiles: &[QuantileRow]) -> impl Iterator<Item = &QuantileRow> {
    quantiles.iter().filter(|row| PANELS.iter().any(|(metric, ..)| *metric == row.metric))
}

/// The figure as SVG.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(results: &Results, quantiles: &[QuantileRow], looks: &Looks<'_>) -> Result<String, String> {
    let series = by_metric_and_policy(quantiles);
    let own = ["The curves are of delivered tokens, without deposit playback; tokens never delivered count as late in \
                every attainment."
        .to_owned()];
    let foot = Foot::new(results, &own);
    let board_top = HEAD_HEIGHT + PANEL_HEAD + PANEL_HEIGHT + PANEL_FOOT;
    let foot_top = board_top + scoreboard::height(looks.len()) + 12.0;
    render(WIDTH, foot_top + foot.height(), |canvas| {
        let title = format!("Distribution of the time between tokens (TBT): scenario {}", results.scenario);
        let lines = [page::subject(results), board_line(results)];
        page::draw_head(canvas, &title, &lines);
        for index in 0..PANELS.len() {
            draw_panel(canvas, results, &series, looks, index);
        }
        let columns = [
            &scoreboard::DELIVERED,
            &scoreboard::E2E,
            &scoreboard::PLAYBACK_STALL,
            &scoreboard::TTFT_P50,
            &scoreboard::THROUGHPUT,
        ];
        scoreboard::draw(canvas, (MARGIN, board_top), WIDTH - 2.0 * MARGIN, looks, &columns);
        foot.draw(canvas, foot_top);
    })
}

/// How to read the curves, and what the bars below stand for.
fn board_line(results: &Results) -> String {
    let curves = "Further left is better. Vertical lines: the SLO at each scale.";
    match page::first_scale(results) {
        Some(scale) => format!("{curves} The bars below are for SLO scale {}.", words::factor(scale)),
        None => curves.to_owned(),
    }
}

/// Metric and policy to (seconds, percent), ascending.
type Series<'a> = BTreeMap<(&'a str, &'a str), Vec<Point>>;

fn by_metric_and_policy(quantiles: &[QuantileRow]) -> Series<'_> {
    let mut series: Series<'_> = BTreeMap::new();
    for row in quantiles {
        series.entry((&row.metric, &row.policy)).or_default().push((row.seconds, row.p * 100.0));
    }
    for points in series.values_mut() {
        points.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0)));
    }
    series
}

fn draw_panel(
    canvas: &mut Canvas<'_>,
    results: &Results,
    series: &Series<'_>,
    looks: &Looks<'_>,
    index: usize,
) {
    let (metric, title, subtitle, x_label) = PANELS[index];
    let lines: Vec<_> = looks
        .iter()
        .enumerate()
        .filter_map(|(row, (policy, style))| Some((row, style, series.get(&(metric, policy.key.as_str()))?)))
        .collect();
    let scales = page::scales(results);
    let values = lines.iter().flat_map(|(_, _, points)| points.iter().map(|point| point.0));
    let axis = Axis::log_around(values.chain(scales.iter().map(|scale| scale.1)));
    let pitch = (WIDTH - 2.0 * MARGIN) / PANELS.len() as f64;
    let left = MARGIN + 60.0 + pitch * index as f64;
    let panel = Panel {
        left,
        top: HEAD_HEIGHT + PANEL_HEAD,
        right: left + pitch - 76.0,
        bottom: HEAD_HEIGHT + PANEL_HEAD + PANEL_HEIGHT,
        x: axis.unwrap_or(Axis::Log { from: 0.001, to: 1.0 }),
        y: SHARE,
    };
    panel.draw(
        canvas,
        &Lettering {
            title,
            subtitle,
            headroom: LABEL_PITCH * MOST_SLO_LABELS as f64,
            x_label: &format!("{x_label} (logarithmic)"),
            y_label: "Delivered tokens at or below (%)",
            x_ticks: panel.x.ticks(words::seconds),
            y_ticks: share_ticks(),
        },
    );
    draw_slos(canvas, &panel, &scales, page::first_scale(results));
    if lines.is_empty() {
        panel.draw_message(canvas, "no token after a first one was delivered");
    }
    for prominent in [false, true] {
        for (row, style, points) in lines.iter().filter(|line| line.1.is_prominent() == prominent) {
            let places = panel::thinned(points.iter().map(|point| panel.at(point.0, point.1)), NEAREST);
            style.draw_line(canvas, &places);
            for place in marker_places(&panel, points, *row, looks.len()) {
                style.draw_marker(canvas, place);
            }
        }
    }
    panel.draw_frame(canvas);
}

/// Places of the markers: evenly spread over the share, each policy a little further than the one before.
fn marker_places(panel: &Panel, points: &[Point], row: usize, rows: usize) -> Vec<Point> {
    panel::marker_shares(MARKERS, row, rows)
        .filter_map(|share| {
            let point = points.iter().find(|point| point.1 >= share)?;
            Some(panel.at(point.0, point.1))
        })
        .collect()
}

/// One vertical line per SLO, labelled above the frame; crowded labels are stacked, the leftmost highest, so that no
/// line crosses a label.
fn draw_slos(canvas: &mut Canvas<'_>, panel: &Panel, scales: &[(f64, f64)], first: Option<f64>) {
    let mut lowest_left = [f64::INFINITY; MOST_SLO_LABELS];
    let last = scales.len().saturating_sub(1);
    for (index, &(scale, slo)) in scales.iter().enumerate().rev().filter(|(_, scale)| scale.1 > 0.0) {
        let x = panel.x_at(slo);
        let is_planned = Some(scale) == first;
        let (color, width) = if is_planned { (INK, 1.75) } else { (MUTED, 1.0) };
        let is_labelled = is_planned || scales.len() <= MOST_SLO_LABELS || index == 0 || index == last;
        let mut top = panel.top;
        if is_labelled {
            let label = format!("SLO {} = {}", words::factor(scale), words::seconds(slo));
            let left = (x + 3.0).min(panel.right - text_width(&label, LABEL_SIZE));
            let right = left + text_width(&label, LABEL_SIZE) + 6.0;
            let row = lowest_left.iter().rposition(|taken| right > *taken).map_or(0, |row| row + 1);
            let row = row.min(MOST_SLO_LABELS - 1);
            lowest_left[row] = x;
            let y = panel.top - 8.0 - LABEL_PITCH * row as f64;
            canvas.text(&label, (left, y), LABEL_SIZE, color, Align::Start);
            top = y - LABEL_PITCH / 2.0;
        }
        canvas.dashed_path(&[(x, top), (x, panel.bottom)], color, width, &[4.0, 3.0]);
    }
}
