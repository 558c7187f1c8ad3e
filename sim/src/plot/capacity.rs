//! Capacity per policy: a bar to what is met with every seed, a dot for each seed alone.

use super::canvas::{Align, Canvas, INK, MUTED, fit, render};
use super::panel::{Axis, Lettering, Panel, Tick};
use super::style::PolicyStyle;
use super::words;

const WIDTH: f64 = 940.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 84.0;
const ROW: f64 = 30.0;

/// One policy's capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct CapacityBar {
    /// Key, for its colour.
    pub key: String,
    /// Name.
    pub label: String,
    /// Met with every seed; `None`: not reached.
    pub value: Option<f64>,
    /// Met with each seed alone, 0 where it is not reached.
    pub seeds: Vec<f64>,
    /// What must be said beside it.
    pub note: String,
}

/// The figure as SVG.
pub fn draw(
    title: &str,
    setting: &str,
    bars: &[CapacityBar],
    styles: &[PolicyStyle],
) -> Result<String, String> {
    let highest = bars.iter().flat_map(|bar| bar.seeds.iter().copied().chain(bar.value)).fold(0.0, f64::max);
    let bottom = TOP + ROW * bars.len() as f64;
    let panel = Panel {
        left: LEFT,
        top: TOP,
        right: RIGHT,
        bottom,
        x: Axis::from_zero(highest),
        y: Axis::Linear { from: 0.0, to: bars.len() as f64 },
    };
    render(WIDTH, bottom + 52.0, |canvas| {
        canvas.text(title, (24.0, 28.0), 19.0, INK, Align::Start);
        canvas.text(setting, (24.0, 54.0), 12.5, MUTED, Align::Start);
        let x_ticks: Vec<Tick> = panel.x.ticks(words::number);
        panel.draw(canvas, &Lettering { x_ticks, ..Lettering::default() });
        for (row, (bar, style)) in bars.iter().zip(styles).enumerate() {
            draw_bar(canvas, &panel, TOP + ROW * (row as f64 + 0.5), bar, style);
        }
        panel.draw_frame(canvas);
    })
}

fn draw_bar(canvas: &mut Canvas<'_>, panel: &Panel, y: f64, bar: &CapacityBar, style: &PolicyStyle) {
    let label = fit(&bar.label, LEFT - 40.0, 13.0);
    canvas.text(&label, (LEFT - 12.0, y), 13.0, INK, Align::End);
    if let Some(value) = bar.value {
        canvas.rectangle((panel.left, y - 8.0), (panel.x_at(value), y + 8.0), style.color);
    }
    for seed in &bar.seeds {
        canvas.disc((panel.x_at(*seed), y), 3.2, INK);
    }
    let said = match (bar.value, bar.note.is_empty()) {
        (Some(value), true) => words::number(value),
        (Some(value), false) => format!("{}: {}", words::number(value), bar.note),
        (None, _) => bar.note.clone(),
    };
    canvas.text(&fit(&said, WIDTH - RIGHT - 30.0, 13.0), (RIGHT + 12.0, y), 13.0, INK, Align::Start);
}
