//! Scores side by side: a group of bars per place, a bar per policy, whiskers for the intervals of the means.

use super::Figure;
use super::measure::Measure;
use super::sheet::{Layout, Sheet};
use crate::plot::canvas::{Align, Canvas, INK, MUTED, PAPER, Point, text_width};
use crate::plot::panel::{Axis, Panel, Tick};
use crate::plot::style::PolicyStyle;

/// Of a group's pitch, what its bars fill.
const FILLED: f64 = 0.84;
const VALUE_SIZE: f64 = 10.5;

/// The figure as SVG.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let sheet = Sheet::new(figure);
    let column = sheet.x_column();
    let tick = |(index, cell): (usize, &&str)| Tick {
        value: index as f64,
        label: vec![column.map_or(String::new(), |column| column.write(cell))],
    };
    let x_ticks = if column.is_some() { sheet.xs.iter().enumerate().map(tick).collect() } else { Vec::new() };
    let layout = Layout {
        columns: 2,
        height: 150.0,
        x: Axis::Linear { from: -0.5, to: sheet.xs.len() as f64 - 0.5 },
        x_ticks,
        x_label: column.map_or("", |column| &column.title),
        log_allowed: false,
    };
    let mut notes = vec!["Bars are in the order of the legend.".to_owned()];
    if figure.without_value() > 0 {
        notes.push("–: no value there, not a 0.".to_owned());
    }
    let mark = |canvas: &mut Canvas<'_>, style: &PolicyStyle, (left, y): Point, width: f64| {
        canvas.rectangle((left, y - 7.0), (left + width, y + 7.0), style.color);
    };
    sheet.panels(&layout, notes, mark, |canvas, panel, measure, second| {
        draw_groups(canvas, panel, &sheet, measure, second);
    })
}

fn draw_groups(canvas: &mut Canvas<'_>, panel: &Panel, sheet: &Sheet<'_>, measure: &Measure, second: &str) {
    let policies = sheet.policies.len();
    let width = (panel.right - panel.left) / sheet.xs.len() as f64 * FILLED / policies as f64;
    // All values are written, or none.
    let means = sheet.figure.rows.iter().filter(|row| row.metric == measure.name).filter_map(|row| row.mean);
    let are_written =
        means.into_iter().all(|mean| text_width(&measure.write_short(mean), VALUE_SIZE) < width);
    for (group, cell) in sheet.xs.iter().enumerate() {
        for (policy, style) in sheet.styles.iter().enumerate() {
            let middle = panel.x_at(group as f64) + (policy as f64 - (policies as f64 - 1.0) / 2.0) * width;
            let Some((mean, row)) = sheet.mean(measure, policy, second, cell) else {
                canvas.text("–", (middle, panel.bottom - 8.0), VALUE_SIZE, MUTED, Align::Middle);
                continue;
            };
            let (left, right) = (middle - width * 0.46, middle + width * 0.46);
            canvas.rectangle((left, panel.y_at(mean)), (right, panel.y_at(0.0)), style.color);
            let mut top = panel.y_at(mean);
            if let (Some(low), Some(high)) = (row.ci95_low, row.ci95_high) {
                let (low, high) = (panel.y_at(low), panel.y_at(high));
                let cap = (width * 0.25).min(5.0);
                // On a wider line of paper, so that they are seen on a dark bar.
                for (color, stroke) in [(PAPER, 3.0), (INK, 1.25)] {
                    canvas.path(&[(middle, low), (middle, high)], color, stroke);
                    for y in [low, high] {
                        canvas.path(&[(middle - cap, y), (middle + cap, y)], color, stroke);
                    }
                }
                top = high;
            }
            if are_written {
                let at = (middle, (top - 8.0).max(panel.top + 8.0));
                canvas.text(&measure.write_short(mean), at, VALUE_SIZE, INK, Align::Middle);
            }
        }
    }
}
