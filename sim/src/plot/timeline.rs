//! `timeline-KEY.svg`: one run of one policy over simulated time: who ran, who was held back, who waited; how full
//! the GPU pool was; how long the steps were, and how much of that was waiting for copies.
//!
//! Several rows share a pixel column; each panel says which of them it shows.

use super::canvas::{Align, Canvas, INK, MUTED, Point, RGBColor, render, text_width};
use super::page::{self, Foot, HEAD_HEIGHT, MARGIN, WIDTH};
use super::panel::{Axis, Lettering, Panel};
use super::style::{BLOCKS, PAUSED, RUNNING, STALL, WAITING};
use super::{Looks, words};
use crate::report::rows::{PolicyResult, Results, TimelineRow};

const LEFT: f64 = MARGIN + 72.0;
const RIGHT: f64 = WIDTH - MARGIN - 12.0;
const TOP: f64 = HEAD_HEIGHT + 46.0;
const PANEL_HEIGHT: f64 = 170.0;
/// From one frame to the next: ticks of one, title of the other.
const PANEL_GAP: f64 = 58.0;
const AXIS_HEIGHT: f64 = 54.0;

const STEP: RGBColor = RGBColor(0x9A, 0xA5, 0xAD);
const BEYOND: RGBColor = RGBColor(0xDD, 0xE1, 0xE4);

/// The figure of the policy at `index` as SVG.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(
    results: &Results,
    rows: &[&TimelineRow],
    looks: &Looks<'_>,
    index: usize,
) -> Result<String, String> {
    let (policy, style) = &looks[index];
    let columns = Columns::new(rows);
    let top_of = |panel: usize| TOP + (PANEL_HEIGHT + PANEL_GAP) * panel as f64;
    let foot_top = top_of(2) + PANEL_HEIGHT + AXIS_HEIGHT;
    let foot = Foot::new(results, &[]);
    render(WIDTH, foot_top + foot.height(), |canvas| {
        let title = format!("One run of {}: scenario {}", policy.label, results.scenario);
        page::draw_head(canvas, &title, &[page::subject(results), outcome(policy)]);
        style.draw_sample(canvas, (RIGHT - 52.0, 32.0), 52.0);
        draw_requests(canvas, &columns.panel(top_of(0), Axis::from_zero(columns.most_requests())), &columns);
        draw_blocks(canvas, top_of(1), &columns, results, policy);
        draw_steps(canvas, top_of(2), &columns, results.slo_s);
        foot.draw(canvas, foot_top);
    })
}

/// The scores of the run in one line (design §6: no TBT score without its price).
pub(super) fn outcome(policy: &PolicyResult) -> String {
    let score = &policy.attainment_pct;
    format!(
        "{} of {} requests finished · on time: TBT (step, deposit) {}, TBT (gap) {}, e2e {} · playback stall {} · median TTFT {} · {} tokens/s · {} pauses · {} preemptions",
        words::number(policy.requests.finished as f64),
        words::number(policy.requests.arrived as f64),
        words::percent(score.tbt_step_deposit),
        words::percent(score.tbt_gap),
        words::percent(score.e2e),
        policy.playback_stall_pct.map_or("–".to_owned(), words::percent),
        policy.ttft_s.p50.map_or("–".to_owned(), words::seconds),
        words::number(policy.throughput_tokens_per_s),
        words::number(policy.pauses.count as f64),
        words::number(policy.preemptions as f64),
    )
}

/// The rows of one run in order of time, and the time axis.
struct Columns<'a> {
    rows: Vec<&'a TimelineRow>,
    time: Axis,
}

impl<'a> Columns<'a> {
    fn new(rows: &[&'a TimelineRow]) -> Self {
        let mut rows = rows.to_vec();
        rows.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
        let end = rows.iter().map(|row| row.t_s + row.step_s).fold(0.0, f64::max);
        // The run fills the panel: no round end.
        let time = if end > 1e-12 { Axis::Linear { from: 0.0, to: end } } else { Axis::from_zero(0.0) };
        Columns { rows, time }
    }

    fn panel(&self, top: f64, y: Axis) -> Panel {
        Panel { left: LEFT, top, right: RIGHT, bottom: top + PANEL_HEIGHT, x: self.time, y }
    }

    fn most_requests(&self) -> f64 {
        self.rows.iter().map(|row| all_requests(row)).fold(0.0, f64::max)
    }

    /// For each pixel column that has a row, its left end and the row that `rank` puts highest.
    fn highest<K: PartialOrd>(
        &self,
        panel: &Panel,
        rank: impl Fn(&TimelineRow) -> K,
    ) -> Vec<(f64, &'a TimelineRow)> {
        let mut columns: Vec<(f64, &TimelineRow)> = Vec::new();
        for row in self.rows.iter().copied() {
            let x = panel.x_at(row.t_s).floor();
            match columns.last_mut() {
                Some((last, best)) if *last == x => {
                    if rank(row) > rank(best) {
                        *best = row;
                    }
                }
                _ => columns.push((x, row)),
            }
        }
        columns
    }
}

fn all_requests(row: &TimelineRow) -> f64 {
    f64::from(row.running) + f64::from(row.paused) + f64::from(row.waiting)
}

fn time_lettering<'a>(panel: &Panel, title: &'a str, y_label: &'a str, x_label: &'a str) -> Lettering<'a> {
    Lettering {
        title,
        y_label,
        x_label,
        x_ticks: time_ticks(panel.x),
        y_ticks: panel.y.ticks(words::number),
        ..Lettering::default()
    }
}

pub(super) fn time_ticks(time: Axis) -> Vec<super::panel::Tick> {
    match time {
        Axis::Linear { to, .. } => {
            let mut ticks = Axis::from_zero(to).ticks(words::number);
            ticks.retain(|tick| tick.value <= to);
            ticks
        }
        Axis::Log { .. } => time.ticks(words::number),
    }
}

fn draw_requests(canvas: &mut Canvas<'_>, panel: &Panel, columns: &Columns<'_>) {
    panel.draw(canvas, &time_lettering(panel, "Requests", "Requests", ""));
    draw_key(canvas, panel, &[(RUNNING, "running"), (PAUSED, "paused"), (WAITING, "waiting or preempted")]);
    if columns.rows.is_empty() {
        return panel.draw_message(canvas, "no step was made");
    }
    let chosen = columns.highest(panel, |row| (all_requests(row), row.paused));
    let running = |row: &TimelineRow| f64::from(row.running);
    let live = |row: &TimelineRow| f64::from(row.running) + f64::from(row.paused);
    draw_area(canvas, panel, &chosen, all_requests, WAITING);
    draw_area(canvas, panel, &chosen, live, PAUSED);
    draw_area(canvas, panel, &chosen, running, RUNNING);
    panel.draw_frame(canvas);
}

fn draw_blocks(
    canvas: &mut Canvas<'_>,
    top: f64,
    columns: &Columns<'_>,
    results: &Results,
    policy: &PolicyResult,
) {
    let (limit, name) = match results.gpu_pool_blocks {
        Some(capacity) => (capacity, "pool"),
        None => (policy.peak_gpu_blocks, "peak"),
    };
    let most = columns.rows.iter().map(|row| row.gpu_blocks).max().unwrap_or(0).max(limit);
    let panel = columns.panel(top, Axis::from_zero(most as f64));
    panel.draw(canvas, &time_lettering(&panel, "GPU KV blocks in use", "Layer-blocks", ""));
    let limit_line = format!("{name}: {} layer-blocks of 16 tokens", words::number(limit as f64));
    canvas.text(&limit_line, (RIGHT, top - 12.0), 12.0, INK, Align::End);
    let dash = RIGHT - text_width(&limit_line, 12.0) - 8.0;
    canvas.dashed_path(&[(dash - 30.0, top - 12.0), (dash, top - 12.0)], INK, 1.5, &[6.0, 3.0]);
    let chosen = columns.highest(&panel, |row| row.gpu_blocks);
    draw_area(canvas, &panel, &chosen, |row| row.gpu_blocks as f64, BLOCKS);
    let y = panel.y_at(limit as f64);
    canvas.dashed_path(&[(LEFT, y), (RIGHT, y)], INK, 1.5, &[6.0, 3.0]);
    panel.draw_frame(canvas);
}

fn draw_steps(canvas: &mut Canvas<'_>, top: f64, columns: &Columns<'_>, slo_s: f64) {
    let longest = columns.rows.iter().map(|row| row.step_s).fold(0.0, f64::max);
    let shown = longest_shown(&columns.rows, slo_s).min(longest);
    let (unit, factor) = if shown < 1.0 { ("ms", 1e3) } else { ("s", 1.0) };
    let panel = columns.panel(top, Axis::from_zero(shown * factor));
    let highest = match panel.y {
        Axis::Linear { to, .. } | Axis::Log { to, .. } => to,
    };
    let fits = |row: &TimelineRow| row.step_s * factor <= highest;
    let cut = columns.rows.iter().filter(|row| !fits(row)).count();
    let mut title = "Step time".to_owned();
    let mut key = vec![(STALL, "waiting for copies (stall)"), (STEP, "the rest of the step")];
    if cut > 0 {
        let all = columns.rows.len();
        let (cut, all) = (words::number(cut as f64), words::number(all as f64));
        title = format!(
            "Step time ({cut} of {all} steps shown go beyond the axis, up to {})",
            words::seconds(longest)
        );
        key.push((BEYOND, "beyond the axis"));
    }
    let y_label = format!("Step time ({unit})");
    panel.draw(canvas, &time_lettering(&panel, &title, &y_label, "Simulated time (s)"));
    draw_key(canvas, &panel, &key);
    // In a column the longest step within the axis; one beyond it hides what would be held over its time.
    let chosen = columns.highest(&panel, |row| (fits(row), row.step_s));
    let part = |row: &TimelineRow, seconds: f64| if fits(row) { seconds * factor } else { 0.0 };
    draw_area(canvas, &panel, &chosen, |row| part(row, row.step_s), STEP);
    draw_area(canvas, &panel, &chosen, |row| part(row, row.stall_s.min(row.step_s)), STALL);
    for row in columns.rows.iter().filter(|row| !fits(row)) {
        let (from, to) = (panel.x_at(row.t_s), panel.x_at(row.t_s + row.step_s));
        canvas.rectangle((from, top), (to, panel.bottom), BEYOND);
        canvas.rectangle((from, top), (to.max(from + 1.0), top + 5.0), INK);
    }
    if slo_s.is_finite() && slo_s * factor < highest {
        let y = panel.y_at(slo_s * factor);
        canvas.dashed_path(&[(LEFT, y), (RIGHT, y)], INK, 1.5, &[4.0, 3.0]);
        let label = format!("SLO {}", words::seconds(slo_s));
        canvas.boxed_text(&label, (LEFT + 8.0, y - 11.0), 11.5, INK);
    }
    panel.draw_frame(canvas);
}

/// Prefill steps can be a hundred times longer than decode steps: the axis ends above nine tenths of the steps and
/// above the SLO, and longer ones are capped in black.
fn longest_shown(rows: &[&TimelineRow], slo_s: f64) -> f64 {
    let mut lengths: Vec<f64> = rows.iter().map(|row| row.step_s).collect();
    lengths.sort_by(f64::total_cmp);
    let ninth_tenth = lengths.get((lengths.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(0.0);
    let slo = if slo_s.is_finite() { slo_s } else { 0.0 };
    (ninth_tenth * 1.25).max(slo * 1.3)
}

/// A stepped area from 0 up to `height`: each row holds until the next one starts.
fn draw_area(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    chosen: &[(f64, &TimelineRow)],
    height: impl Fn(&TimelineRow) -> f64,
    color: RGBColor,
) {
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return };
    let start = first.0.max(panel.left);
    let end = panel.x_at(last.1.t_s + last.1.step_s).max(last.0 + 1.0).min(panel.right);
    let mut corners: Vec<Point> = vec![(start, panel.bottom)];
    for (index, (x, row)) in chosen.iter().enumerate() {
        let until = chosen.get(index + 1).map_or(end, |next| next.0);
        let y = panel.y_at(height(row));
        // Equal heights in a row need no corners.
        if corners.len() > 2 && corners[corners.len() - 1].1 == y {
            corners.pop();
        } else {
            corners.push((x.max(panel.left), y));
        }
        corners.push((until.max(panel.left), y));
    }
    corners.push((end, panel.bottom));
    canvas.polygon(&corners, color);
}

/// Coloured squares with their meaning, right above the frame.
fn draw_key(canvas: &mut Canvas<'_>, panel: &Panel, entries: &[(RGBColor, &str)]) {
    let y = panel.top - 12.0;
    let mut right = panel.right;
    for (color, meaning) in entries.iter().rev() {
        canvas.text(meaning, (right, y), 12.0, MUTED, Align::End);
        let square = right - text_width(meaning, 12.0) - 20.0;
        canvas.rectangle((square, y - 6.0), (square + 13.0, y + 6.0), *color);
        right = square - 18.0;
    }
}
