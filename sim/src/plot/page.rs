//! What stands above and below every figure: title, what was simulated, and the notes without which the numbers
//! must not be read.

use std::collections::BTreeMap;

use super::canvas::{Align, Canvas, INK, MUTED, wrap};
use super::words;
use crate::report::rows::Results;

/// Width of every figure in pixels.
pub const WIDTH: f64 = 1280.0;
/// Empty border on each side, in pixels.
pub const MARGIN: f64 = 28.0;
/// Height of the head in pixels.
pub const HEAD_HEIGHT: f64 = 84.0;

const NOTE_SIZE: f64 = 11.0;
const NOTE_LINE: f64 = 15.0;
const MOST_NOTE_LINES: usize = 9;

/// Title, and two lines that say what was simulated.
pub fn draw_head(canvas: &mut Canvas<'_>, title: &str, lines: &[String]) {
    let inside = WIDTH - 2.0 * MARGIN;
    let title = super::canvas::fit(title, inside, 21.0);
    canvas.text(&title, (MARGIN, 32.0), 21.0, INK, Align::Start);
    for (index, line) in lines.iter().enumerate() {
        let line = super::canvas::fit(line, inside, 12.5);
        canvas.text(&line, (MARGIN, 57.0 + 18.0 * index as f64), 12.5, MUTED, Align::Start);
    }
}

/// Trace and SLO in one line.
pub fn subject(results: &Results) -> String {
    let trace = &results.trace;
    let arrivals = match (trace.last_arrival_s, trace.last_arrival_step) {
        (Some(seconds), _) => format!(" arriving over {}", words::seconds(seconds)),
        (None, Some(step)) => format!(" arriving over {} steps", words::number(step as f64)),
        (None, None) => String::new(),
    };
    let planned =
        first_scale(results).map_or(String::new(), |scale| format!(" at SLO scale {}", words::factor(scale)));
    format!(
        "{} requests{arrivals}, {} prompt and {} output tokens · TBT SLO {} per token{planned} · seed {}",
        words::number(trace.requests as f64),
        words::number(trace.prompt_tokens as f64),
        words::number(trace.output_tokens as f64),
        words::seconds(results.slo_s),
        results.seed,
    )
}

/// The scale that the main table is planned for.
pub fn first_scale(results: &Results) -> Option<f64> {
    results.policies.first()?.by_slo_scale.first().map(|scored| scored.scale)
}

/// Scales and their SLO in seconds per token, ascending; each scale once.
pub fn scales(results: &Results) -> Vec<(f64, f64)> {
    let mut scales: Vec<(f64, f64)> = results
        .policies
        .iter()
        .flat_map(|policy| &policy.by_slo_scale)
        .map(|scored| (scored.scale, scored.slo_s))
        .filter(|(scale, slo)| scale.is_finite() && slo.is_finite())
        .collect();
    scales.sort_by(|a, b| a.0.total_cmp(&b.0));
    scales.dedup_by(|a, b| a.0 == b.0);
    scales
}

/// Which version made the numbers of which input, with which switches off the preset.
pub fn origin(version: &str, of: &str, digest: &str, switches: &BTreeMap<String, String>) -> String {
    let digest: String = digest.chars().take(12).collect();
    let switches: String = switches.iter().map(|(switch, value)| format!(" · {switch} = {value}")).collect();
    format!("orbitflow {version} · {of} digest {digest}{switches}")
}

/// The notes below a figure, wrapped.
pub struct Foot {
    lines: Vec<String>,
    origin: String,
}

impl Foot {
    /// Notes of the results, after those of the figure itself.
    pub fn new(results: &Results, own: &[String]) -> Foot {
        let notes = own.iter().chain(&results.notes);
        let digest = origin(&results.tool_version, "scenario", &results.scenario_digest, &results.switches);
        Foot::of(notes, "`notes` in results.json", &digest)
    }

    /// These notes, as many as there is room for; the others are counted, and are found in `elsewhere`.
    pub fn of<'a>(notes: impl Iterator<Item = &'a String>, elsewhere: &str, origin: &str) -> Foot {
        let inside = WIDTH - 2.0 * MARGIN;
        let notes: Vec<Vec<String>> =
            notes.map(|note| wrap(&format!("• {note}"), inside, NOTE_SIZE)).collect();
        let mut lines: Vec<String> = Vec::new();
        let mut shown = 0;
        for note in &notes {
            if lines.len() + note.len() > MOST_NOTE_LINES {
                break;
            }
            lines.extend_from_slice(note);
            shown += 1;
        }
        if shown < notes.len() {
            lines.push(format!("• {} more notes: see {elsewhere}", notes.len() - shown));
        }
        Foot { lines, origin: super::canvas::fit(origin, inside, NOTE_SIZE) }
    }

    /// Height in pixels.
    pub fn height(&self) -> f64 {
        24.0 + NOTE_LINE * (self.lines.len() + 1) as f64
    }

    /// Draws it with its upper side at `top`.
    pub fn draw(&self, canvas: &mut Canvas<'_>, top: f64) {
        for (index, line) in self.lines.iter().chain([&self.origin]).enumerate() {
            let y = top + 12.0 + NOTE_LINE * index as f64;
            canvas.text(line, (MARGIN, y), NOTE_SIZE, MUTED, Align::Start);
        }
    }
}
