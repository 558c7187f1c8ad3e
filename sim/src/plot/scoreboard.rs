//! One row per policy: its line and marker, its name, and numbers with bars. It is the legend of a figure, and it
//! puts beside every TBT score the ones that show its price (design §6).

use super::canvas::{Align, Canvas, GRID, INK, MUTED, fit};
use super::style::PolicyStyle;
use super::words;
use crate::report::rows::PolicyResult;

const ROW_HEIGHT: f64 = 25.0;
const HEADER_HEIGHT: f64 = 44.0;
/// Line sample and label.
const LEGEND_WIDTH: f64 = 240.0;
/// Beside a bar.
const VALUE_WIDTH: f64 = 86.0;
const TEXT_SIZE: f64 = 13.0;

/// One number per policy.
pub struct Column {
    /// What it is, with its unit.
    pub title: &'static str,
    /// Which way is better, or what it counts.
    pub subtitle: &'static str,
    /// The number; `None` is shown as a dash.
    pub value: fn(&PolicyResult) -> Option<f64>,
    /// How it is written.
    pub write: fn(f64) -> String,
    /// What a full bar stands for; the largest value of the column if `None`.
    pub full: Option<f64>,
}

/// On time by arrival + TTFT SLO + output · SLO.
pub const E2E: Column = Column {
    title: "e2e attainment",
    subtitle: "requests, higher is better",
    value: |policy| Some(policy.attainment_pct.e2e),
    write: words::percent,
    full: Some(100.0),
};

/// What a client feels.
pub const PLAYBACK_STALL: Column = Column {
    title: "Playback stall",
    subtitle: "of playing time, lower is better",
    value: |policy| policy.playback_stall_pct,
    write: words::percent,
    full: Some(100.0),
};

/// The wait before the first token.
pub const TTFT_P50: Column = Column {
    title: "TTFT, median",
    subtitle: "lower is better",
    value: |policy| policy.ttft_s.p50,
    write: words::seconds,
    full: None,
};

/// Delivered tokens per second.
pub const THROUGHPUT: Column = Column {
    title: "Throughput (tokens/s)",
    subtitle: "higher is better",
    value: |policy| Some(policy.throughput_tokens_per_s),
    write: words::number,
    full: None,
};

/// The part of the due tokens that a distribution of delivered ones shows.
pub const DELIVERED: Column = Column {
    title: "Tokens delivered",
    subtitle: "of those due, higher is better",
    value: |policy| {
        let tokens = policy.tokens;
        (tokens.due > 0).then(|| tokens.delivered as f64 / tokens.due as f64 * 100.0)
    },
    write: words::percent,
    full: Some(100.0),
};

/// Height of the board in pixels.
pub fn height(policies: usize) -> f64 {
    HEADER_HEIGHT + ROW_HEIGHT * policies as f64
}

/// Draws the board with its upper left corner at `(left, top)`.
pub fn draw(
    canvas: &mut Canvas<'_>,
    (left, top): (f64, f64),
    width: f64,
    policies: &[(&PolicyResult, PolicyStyle)],
    columns: &[&Column],
) {
    let column_width = (width - LEGEND_WIDTH) / columns.len() as f64;
    canvas.text("Policy", (left, top + 9.0), 14.0, INK, Align::Start);
    let row_at = |row: usize| top + HEADER_HEIGHT + ROW_HEIGHT * (row as f64 + 0.5);
    for (row, (policy, style)) in policies.iter().enumerate() {
        let y = row_at(row);
        let line = y - ROW_HEIGHT / 2.0;
        canvas.path(&[(left, line), (left + width, line)], GRID, 1.0);
        style.draw_sample(canvas, (left, y), 52.0);
        let label = fit(&policy.label, LEGEND_WIDTH - 76.0, TEXT_SIZE);
        canvas.text(&label, (left + 62.0, y), TEXT_SIZE, INK, Align::Start);
    }
    for (index, column) in columns.iter().enumerate() {
        let x = left + LEGEND_WIDTH + column_width * index as f64;
        canvas.text(column.title, (x, top + 9.0), 14.0, INK, Align::Start);
        canvas.text(column.subtitle, (x, top + 27.0), 11.0, MUTED, Align::Start);
        let values: Vec<Option<f64>> = policies
            .iter()
            .map(|(policy, _)| (column.value)(policy).filter(|value| value.is_finite()))
            .collect();
        let full = column.full.unwrap_or_else(|| values.iter().flatten().copied().fold(0.0, f64::max));
        for (row, (value, (_, style))) in values.iter().zip(policies).enumerate() {
            let y = row_at(row);
            let share =
                value.map_or(0.0, |value| if full > 0.0 { (value / full).clamp(0.0, 1.0) } else { 0.0 });
            let bar = share * (column_width - VALUE_WIDTH).max(0.0);
            canvas.rectangle((x, y - 7.0), (x + bar, y + 7.0), style.color);
            let written = value.map_or("–".to_owned(), column.write);
            canvas.text(&written, (x + bar + 6.0, y), TEXT_SIZE, INK, Align::Start);
        }
    }
}
