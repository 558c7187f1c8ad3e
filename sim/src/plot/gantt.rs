//! `gantt-KEY.svg`: one short run of one policy, request by request: when each waited, had its prompt processed, decoded,
//! was paused or preempted, and how it ended.
//!
//! States differ in height as well as in colour: who makes progress has a tall bar, who is held back a low one. Knows
//! nothing about steps.

use super::canvas::{Align, Canvas, INK, MUTED, PAPER, Point, RGBColor, fit, render, text_width};
use super::page::{self, Foot, HEAD_HEIGHT, MARGIN, WIDTH};
use super::panel::{Axis, Lettering, Panel};
use super::style::{PAUSED, RUNNING, WAITING};
use super::timeline::{outcome, time_ticks};
use super::{Looks, PlotError};
use crate::report::rows::{Results, StateRow};

const LABELS: f64 = 104.0;
const LEFT: f64 = MARGIN + LABELS;
/// Room for the mark of a request that ends with the run.
const RIGHT: f64 = WIDTH - MARGIN - 14.0;
const TOP: f64 = HEAD_HEIGHT + 46.0;
const AXIS_HEIGHT: f64 = 54.0;
/// Of all rows together, if that makes them no lower than [`LOWEST_ROW`] and no higher than [`HIGHEST_ROW`].
const ROWS_HEIGHT: f64 = 640.0;
const LOWEST_ROW: f64 = 12.0;
const HIGHEST_ROW: f64 = 26.0;
/// So that a short state is seen.
const NARROWEST: f64 = 1.5;

const PREFILL: RGBColor = RGBColor(0x00, 0x9E, 0x73);
const PREEMPTED: RGBColor = RGBColor(0x7A, 0x2F, 0x8F);
const TURNED_AWAY: RGBColor = RGBColor(0xB0, 0x2A, 0x2A);

/// A state: its name, its colour, and its share of the height of a row.
type Look = (&'static str, RGBColor, f64);

/// States in the order of the key. Decoding is drawn first, so that it hides no short state beside it.
const STATES: [Look; 5] = [
    ("waiting", WAITING, 0.34),
    ("prefill", PREFILL, 0.8),
    ("decode", RUNNING, 0.8),
    ("paused", PAUSED, 0.42),
    ("preempted", PREEMPTED, 0.42),
];

/// Ends in the order of the key.
const ENDS: [&str; 3] = ["finished", "capped", "rejected"];

/// The rows of one request, in order.
pub type Life<'a> = (&'a str, Vec<&'a StateRow>);

/// What became of each request of a policy, in the order of the rows.
pub fn lives<'a>(states: &'a [StateRow], key: &str) -> Vec<Life<'a>> {
    let mut lives: Vec<Life<'_>> = Vec::new();
    for row in states.iter().filter(|row| row.policy == key) {
        match lives.last_mut() {
            Some((id, rows)) if *id == row.id => rows.push(row),
            _ => lives.push((&row.id, vec![row])),
        }
    }
    lives
}

/// Refuses rows that are of another run or that no run can have produced.
///
/// # Errors
/// The first such row.
pub fn check(results: &Results, states: &[StateRow]) -> Result<(), PlotError> {
    let file = "states.csv";
    let keys: Vec<&str> = results.policies.iter().map(|policy| policy.key.as_str()).collect();
    let known_keys = || keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let known: Vec<&str> = STATES.iter().map(|(name, ..)| *name).chain(ENDS).collect();
    for (row, state) in states.iter().enumerate() {
        super::check_policy(file, row, &state.policy, &keys, known_keys)?;
        let expected = "a finite number of seconds ≥ 0";
        super::check_number(file, row, "start_s", state.start_s, f64::MAX, expected)?;
        super::check_number(file, row, "end_s", state.end_s, f64::MAX, expected)?;
        if state.end_s < state.start_s {
            let (column, value, expected) = ("end_s", state.end_s, "at least `start_s`");
            return Err(PlotError::BadNumber { file, row: row + 1, column, value, expected });
        }
        if !known.contains(&state.state.as_str()) {
            let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(PlotError::UnknownState { row: row + 1, state: state.state.clone(), known });
        }
    }
    Ok(())
}

/// The figure of the policy at `index` as SVG; `lives` is what became of each of its requests.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(
    results: &Results,
    lives: &[Life<'_>],
    looks: &Looks<'_>,
    index: usize,
) -> Result<String, String> {
    let (policy, style) = &looks[index];
    let row_height = (ROWS_HEIGHT / lives.len() as f64).clamp(LOWEST_ROW, HIGHEST_ROW);
    let bottom = TOP + row_height * lives.len() as f64 + 8.0;
    let end = lives.iter().flat_map(|(_, rows)| rows).map(|row| row.end_s).fold(0.0, f64::max);
    let time = if end > 1e-12 { Axis::Linear { from: 0.0, to: end } } else { Axis::from_zero(0.0) };
    let panel = Panel { left: LEFT, top: TOP, right: RIGHT, bottom, x: time, y: Axis::from_zero(0.0) };
    let foot_top = bottom + AXIS_HEIGHT;
    let own = [
        "A request that decodes makes a token in every decode step. It stands still while prompts of others are processed in \
         steps of their own, which the timeline figure shows and this one does not.",
        "waiting: in the queue; paused: held back, with its slot; preempted: lost its slot; capped: outgrew the memory or \
         `max_context`; rejected: can never fit.",
    ];
    let foot = Foot::new(results, &own.map(str::to_owned));
    render(WIDTH, foot_top + foot.height(), |canvas| {
        let title = format!("Each request of one run of {}: scenario {}", policy.label, results.scenario);
        page::draw_head(canvas, &title, &[page::subject(results), outcome(policy)]);
        style.draw_sample(canvas, (RIGHT - 52.0, 32.0), 52.0);
        let lettering = Lettering {
            title: "Requests by arrival, and what became of them",
            x_label: "Simulated time (s)",
            x_ticks: time_ticks(panel.x),
            ..Lettering::default()
        };
        panel.draw(canvas, &lettering);
        draw_key(canvas);
        for (place, (id, rows)) in lives.iter().enumerate() {
            let middle = TOP + 4.0 + row_height * (place as f64 + 0.5);
            let size = (row_height - 1.5).min(11.5);
            canvas.text(&fit(id, LABELS - 12.0, size), (LEFT - 8.0, middle), size, INK, Align::End);
            draw_life(canvas, &panel, rows, middle, row_height);
        }
        foot.draw(canvas, foot_top);
    })
}

fn draw_life(canvas: &mut Canvas<'_>, panel: &Panel, rows: &[&StateRow], middle: f64, row_height: f64) {
    let mut states = STATES;
    states.sort_by_key(|(name, ..)| *name != "decode");
    for (name, color, share) in states {
        let half = row_height * share / 2.0;
        for row in rows.iter().filter(|row| row.state == name) {
            let (from, to) = (panel.x_at(row.start_s), panel.x_at(row.end_s));
            canvas.rectangle((from, middle - half), (to.max(from + NARROWEST), middle + half), color);
        }
    }
    for row in rows.iter().filter(|row| ENDS.contains(&row.state.as_str())) {
        // Behind the end, so that it hides no short bar.
        let radius = (row_height * 0.34).min(5.0);
        draw_end(canvas, &row.state, (panel.x_at(row.end_s) + radius + 1.0, middle), radius);
    }
}

/// The mark of an end: a dot, a square, a cross.
fn draw_end(canvas: &mut Canvas<'_>, end: &str, at: Point, radius: f64) {
    let (x, y) = at;
    let ring = radius + 1.25;
    match end {
        "finished" => {
            canvas.disc(at, ring, PAPER);
            canvas.disc(at, radius, INK);
        }
        "capped" => {
            canvas.rectangle((x - ring, y - ring), (x + ring, y + ring), PAPER);
            canvas.rectangle((x - radius, y - radius), (x + radius, y + radius), TURNED_AWAY);
        }
        _ => {
            for points in [[(-1.0, -1.0), (1.0, 1.0)], [(-1.0, 1.0), (1.0, -1.0)]] {
                let stroke: Vec<Point> =
                    points.iter().map(|(dx, dy)| (x + radius * dx, y + radius * dy)).collect();
                canvas.path(&stroke, TURNED_AWAY, 2.25);
            }
        }
    }
}

/// Bars and marks with their meaning, right above the frame.
fn draw_key(canvas: &mut Canvas<'_>) {
    let y = TOP - 13.0;
    let mut right = RIGHT;
    for end in ENDS.iter().rev() {
        canvas.text(end, (right, y), 12.0, MUTED, Align::End);
        right -= text_width(end, 12.0) + 11.0;
        draw_end(canvas, end, (right, y), 4.5);
        right -= 20.0;
    }
    for (name, color, share) in STATES.iter().rev() {
        canvas.text(name, (right, y), 12.0, MUTED, Align::End);
        right -= text_width(name, 12.0) + 6.0;
        let half = 16.0 * share / 2.0;
        canvas.rectangle((right - 20.0, y - half), (right, y + half), *color);
        right -= 36.0;
    }
}
