//! `attainment.svg`: how many tokens and requests met the SLO, against the SLO's scale, per policy.
//!
//! TBT scores are shares of tokens and cannot see a request that is not running, so e2e, playback stall, TTFT and
//! throughput stand in the same figure (design §6).

use serde::Serialize;

use super::canvas::{Canvas, Point, render};
use super::page::{self, Foot, HEAD_HEIGHT, MARGIN, WIDTH};
use super::panel::{Axis, Lettering, Panel, SHARE, Tick, share_ticks};
use super::style::PolicyStyle;
use super::{Looks, scoreboard, words};
use crate::report::rows::{Attainment, Results};

const PANEL_HEIGHT: f64 = 290.0;
/// From the head to the frames: title and subtitle of the panels.
const PANEL_HEAD: f64 = 52.0;
/// From the frames to the board: two lines of tick labels and the axis label.
const PANEL_FOOT: f64 = 88.0;

/// One score.
struct Score {
    title: &'static str,
    subtitle: &'static str,
    of: fn(&Attainment) -> f64,
}

const SCORES: [Score; 4] = [
    Score {
        title: "TBT: step, with deposit",
        subtitle: "due tokens, early ones saved up; pauses unseen",
        of: |score| score.tbt_step_deposit,
    },
    Score {
        title: "TBT: gap, no deposit",
        subtitle: "due tokens, as a client sees them",
        of: |score| score.tbt_gap,
    },
    Score {
        title: "TPOT: mean gap of a request",
        subtitle: "arrived requests finished within the SLO",
        of: |score| score.tpot_gap,
    },
    Score {
        title: "e2e: queueing and pauses included",
        subtitle: "arrived requests whose last token was in time",
        of: |score| score.e2e,
    },
];

/// What the figure shows of one policy at one SLO scale.
#[derive(Serialize)]
pub struct Row<'a> {
    policy: &'a str,
    label: &'a str,
    slo_scale: f64,
    slo_s: f64,
    tbt_step_deposit_pct: f64,
    tbt_gap_pct: f64,
    tpot_gap_pct: f64,
    e2e_pct: f64,
    playback_stall_pct: Option<f64>,
    ttft_p50_s: Option<f64>,
    throughput_tokens_per_s: f64,
}

/// The rows of the figure; its bars are those of the first scale.
pub fn rows(results: &Results) -> impl Iterator<Item = Row<'_>> {
    results.policies.iter().flat_map(|policy| {
        policy.by_slo_scale.iter().map(|scored| Row {
            policy: &policy.key,
            label: &policy.label,
            slo_scale: scored.scale,
            slo_s: scored.slo_s,
            tbt_step_deposit_pct: scored.attainment_pct.tbt_step_deposit,
            tbt_gap_pct: scored.attainment_pct.tbt_gap,
            tpot_gap_pct: scored.attainment_pct.tpot_gap,
            e2e_pct: scored.attainment_pct.e2e,
            playback_stall_pct: scored.playback_stall_pct,
            ttft_p50_s: scored.ttft_p50_s,
            throughput_tokens_per_s: scored.throughput_tokens_per_s,
        })
    })
}

/// The figure as SVG.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(results: &Results, looks: &Looks<'_>) -> Result<String, String> {
    let foot = Foot::new(results, &[]);
    let board_top = HEAD_HEIGHT + PANEL_HEAD + PANEL_HEIGHT + PANEL_FOOT;
    let foot_top = board_top + scoreboard::height(looks.len()) + 12.0;
    render(WIDTH, foot_top + foot.height(), |canvas| {
        let title = format!("SLO attainment against SLO scale: scenario {}", results.scenario);
        let lines = [page::subject(results), board_line(results)];
        page::draw_head(canvas, &title, &lines);
        for (index, score) in SCORES.iter().enumerate() {
            draw_panel(canvas, results, looks, index, score);
        }
        let columns = [&scoreboard::PLAYBACK_STALL, &scoreboard::TTFT_P50, &scoreboard::THROUGHPUT];
        scoreboard::draw(canvas, (MARGIN, board_top), WIDTH - 2.0 * MARGIN, looks, &columns);
        foot.draw(canvas, foot_top);
    })
}

/// What the lines and the bars below stand for.
fn board_line(results: &Results) -> String {
    match page::first_scale(results) {
        Some(scale) => format!(
            "Higher is better. Every policy ran the same trace; the bars below are for SLO scale {}.",
            words::factor(scale)
        ),
        None => "Every policy ran the same trace.".to_owned(),
    }
}

fn draw_panel(canvas: &mut Canvas<'_>, results: &Results, looks: &Looks<'_>, index: usize, score: &Score) {
    let scales = page::scales(results);
    let pitch = (WIDTH - 2.0 * MARGIN - 44.0) / SCORES.len() as f64;
    let left = MARGIN + 52.0 + pitch * index as f64;
    let top = HEAD_HEIGHT + PANEL_HEAD;
    let panel = Panel {
        left,
        top,
        right: left + pitch - 46.0,
        bottom: top + PANEL_HEIGHT,
        x: scale_axis(&scales),
        y: Axis::Linear { from: -3.0, to: 103.0 },
    };
    panel.draw(
        canvas,
        &Lettering {
            title: score.title,
            subtitle: score.subtitle,
            x_label: "SLO scale (and SLO per token)",
            y_label: if index == 0 { "On time (%)" } else { "" },
            x_ticks: scales
                .iter()
                .map(|&(scale, slo)| Tick {
                    value: scale,
                    label: vec![words::factor(scale), words::seconds(slo)],
                })
                .collect(),
            y_ticks: share_ticks(),
            ..Lettering::default()
        },
    );
    if scales.is_empty() {
        panel.draw_message(canvas, "no SLO scale was scored");
    }
    // The prominent policy is drawn last, above the others.
    for prominent in [false, true] {
        for (policy, style) in looks.iter().filter(|(_, style)| style.is_prominent() == prominent) {
            let mut points: Vec<Point> = policy
                .by_slo_scale
                .iter()
                .map(|scored| (scored.scale, (score.of)(&scored.attainment_pct)))
                .filter(|(scale, share)| scale.is_finite() && share.is_finite())
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            draw_series(canvas, &panel, style, &points);
        }
    }
}

fn draw_series(canvas: &mut Canvas<'_>, panel: &Panel, style: &PolicyStyle, points: &[Point]) {
    let (low, high) = share_ends();
    let places: Vec<Point> =
        points.iter().map(|&(scale, share)| panel.at(scale, share.clamp(low, high))).collect();
    style.draw_line(canvas, &places);
    for &place in &places {
        style.draw_marker(canvas, place);
    }
}

/// 0 and 100.
fn share_ends() -> (f64, f64) {
    match SHARE {
        Axis::Linear { from, to } | Axis::Log { from, to } => (from, to),
    }
}

/// All scales with room for the markers at both ends.
fn scale_axis(scales: &[(f64, f64)]) -> Axis {
    let low = scales.first().map_or(1.0, |scale| scale.0);
    let high = scales.last().map_or(1.0, |scale| scale.0);
    let room = if high > low { (high - low) * 0.12 } else { low.abs().max(1.0) * 0.5 };
    Axis::Linear { from: low - room, to: high + room }
}
