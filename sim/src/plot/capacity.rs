//! Capacity per policy: a bar to what is met with every seed, a dot for each seed alone, and the 95 % interval of the
//! seeds' mean (Student's t).
//!
//! A seed with which the target is not reached has no dot: it is no 0. Then, or where a search met its target
//! everywhere it tried, the seeds' values are only bounded, and there is no interval.

use super::canvas::{Align, Canvas, INK, MUTED, PAPER, Point, fit, render, wrap};
use super::panel::{Axis, Lettering, Panel, Tick};
use super::style::PolicyStyle;
use super::words;
use crate::statistics::Interval;

const WIDTH: f64 = 940.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 640.0;
const ROW: f64 = 36.0;
const TITLE_SIZE: f64 = 19.0;
const TEXT_SIZE: f64 = 12.5;
const TEXT_LINE: f64 = 17.0;

/// One policy's capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct CapacityBar {
    /// Key, for its colour.
    pub key: String,
    /// Name.
    pub label: String,
    /// Met with every seed; `None`: not reached.
    pub value: Option<f64>,
    /// Met with each seed alone; `None`: not reached.
    pub seeds: Vec<Option<f64>>,
    /// Whether some seed's value is the end of what was tried.
    pub has_bounds: bool,
    /// What must be said beside it.
    pub note: String,
}

impl CapacityBar {
    /// The mean over seeds with its interval; `None` where values are bounds, or for one seed.
    fn interval(&self) -> Option<Interval> {
        let values: Option<Vec<f64>> = self.seeds.iter().copied().collect();
        let interval = values.filter(|_| !self.has_bounds).and_then(|values| Interval::of(&values));
        interval.filter(|interval| interval.half.is_finite())
    }
}

/// The figure as SVG.
pub fn draw(
    title: &str,
    setting: &str,
    bars: &[CapacityBar],
    styles: &[PolicyStyle],
) -> Result<String, String> {
    let ends = bars.iter().flat_map(|bar| {
        let high = bar.interval().map(|interval| interval.high());
        bar.seeds.iter().copied().flatten().chain(bar.value).chain(high)
    });
    let highest = ends.fold(0.0, f64::max);
    let lines = wrap(&format!("{setting}. {}", reading(bars)), WIDTH - 48.0, TEXT_SIZE);
    let top = 58.0 + TEXT_LINE * lines.len() as f64;
    let bottom = top + ROW * bars.len() as f64;
    let panel = Panel {
        left: LEFT,
        top,
        right: RIGHT,
        bottom,
        x: Axis::from_zero(highest),
        y: Axis::Linear { from: 0.0, to: bars.len() as f64 },
    };
    render(WIDTH, bottom + 52.0, |canvas| {
        canvas.text(&fit(title, WIDTH - 48.0, TITLE_SIZE), (24.0, 28.0), TITLE_SIZE, INK, Align::Start);
        for (index, line) in lines.iter().enumerate() {
            let y = 54.0 + TEXT_LINE * index as f64;
            canvas.text(line, (24.0, y), TEXT_SIZE, MUTED, Align::Start);
        }
        let x_ticks: Vec<Tick> = panel.x.ticks(words::number);
        panel.draw(canvas, &Lettering { x_ticks, ..Lettering::default() });
        for (row, (bar, style)) in bars.iter().zip(styles).enumerate() {
            draw_bar(canvas, &panel, top + ROW * (row as f64 + 0.5), bar, style);
        }
        panel.draw_frame(canvas);
    })
}

/// What bars, dots and whiskers are.
fn reading(bars: &[CapacityBar]) -> String {
    let seeds = bars.iter().map(|bar| bar.seeds.len()).max().unwrap_or(0);
    if seeds < 2 {
        return "One trace, so there is no interval.".to_owned();
    }
    let without = bars.iter().filter(|bar| bar.interval().is_none()).count();
    let bounded = if without > 0 {
        " None where a seed does not reach the target, or meets it everywhere that was tried."
    } else {
        ""
    };
    format!(
        "Bars: met with every one of {seeds} seeds. Dots: each seed alone. Whiskers: 95 % interval of the seeds' mean \
         (Student's t).{bounded}"
    )
}

fn draw_bar(canvas: &mut Canvas<'_>, panel: &Panel, y: f64, bar: &CapacityBar, style: &PolicyStyle) {
    let label = fit(&bar.label, LEFT - 40.0, 13.0);
    canvas.text(&label, (LEFT - 12.0, y), 13.0, INK, Align::End);
    if let Some(value) = bar.value {
        canvas.rectangle((panel.left, y - 11.0), (panel.x_at(value), y + 11.0), style.color);
    }
    if let Some(interval) = bar.interval() {
        draw_interval(canvas, panel, y - 5.0, interval);
    }
    if bar.seeds.len() > 1 {
        for seed in bar.seeds.iter().flatten() {
            // On a patch of paper, so that it is seen on a dark bar.
            canvas.disc((panel.x_at(*seed), y + 5.0), 4.2, PAPER);
            canvas.disc((panel.x_at(*seed), y + 5.0), 3.0, INK);
        }
    }
    let said = match (bar.value, bar.note.is_empty()) {
        (Some(value), true) => words::number(value),
        (Some(value), false) => format!("{}: {}", words::number(value), bar.note),
        (None, _) => bar.note.clone(),
    };
    let lines = wrap(&said, WIDTH - RIGHT - 30.0, TEXT_SIZE);
    for (index, line) in lines.iter().enumerate().take(2) {
        let up = if lines.len() > 1 { 7.5 } else { 0.0 };
        let line = if index == 1 && lines.len() > 2 { format!("{line} …") } else { line.clone() };
        canvas.text(&line, (RIGHT + 12.0, y - up + 15.0 * index as f64), TEXT_SIZE, INK, Align::Start);
    }
}

/// Ink on a wider line of paper.
fn draw_interval(canvas: &mut Canvas<'_>, panel: &Panel, y: f64, interval: Interval) {
    let [low, mean, high] = [interval.low(), interval.mean, interval.high()].map(|value| panel.x_at(value));
    for (color, width) in [(PAPER, 4.5), (INK, 1.75)] {
        let mut stroke = |points: &[Point]| canvas.path(points, color, width);
        stroke(&[(low, y), (high, y)]);
        for (x, half) in [(low, 3.5), (mean, 4.5), (high, 3.5)] {
            stroke(&[(x, y - half), (x, y + half)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(seeds: &[Option<f64>], has_bounds: bool) -> CapacityBar {
        let text = String::new;
        CapacityBar {
            key: text(),
            label: text(),
            value: None,
            seeds: seeds.to_vec(),
            has_bounds,
            note: text(),
        }
    }

    #[test]
    fn an_interval_needs_a_value_of_every_seed_and_no_mere_bound() {
        // 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.303: 2 ± 4.303/√3 = 2 ± 2.484.
        let interval = bar(&[Some(1.0), Some(2.0), Some(3.0)], false).interval().unwrap();
        assert!(interval.mean == 2.0 && (interval.half - 2.484).abs() < 5e-4, "{interval:?}");
        assert_eq!(bar(&[Some(1.0), None, Some(3.0)], false).interval(), None);
        assert_eq!(bar(&[Some(1.0), Some(64.0)], true).interval(), None);
        assert_eq!(bar(&[Some(1.0)], false).interval(), None);
    }
}
