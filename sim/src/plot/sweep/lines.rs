//! Scores against an axis: a line per policy through its means, whiskers for their intervals.

use super::measure::Measure;
use super::sheet::{Layout, Sheet};
use super::{Column, Figure};
use crate::plot::canvas::{Canvas, Point};
use crate::plot::panel::{Axis, Panel, Tick};
use crate::plot::style::PolicyStyle;
use crate::report::grid::AxisUnit;

/// Numbers whose largest is so many times the smallest have a logarithmic axis.
const DECADE: f64 = 10.0;
/// Room at both ends of the axis, as a share of it.
const ROOM: f64 = 0.06;
/// With more places than this along the axis, lines have no markers.
const MOST_MARKERS: usize = 30;
/// From one policy's whisker to the next one's at the same place, in pixels.
const ASIDE: f64 = 2.0;

/// The figure as SVG.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let sheet = Sheet::new(figure);
    let column = sheet.x_column();
    let places = places(column, &sheet.xs);
    let (x, is_log) = axis(column, &places);
    let label = column.map_or(String::new(), |column| column.title.clone());
    let x_label = if is_log { format!("{label}, logarithmic") } else { label };
    let tick = |(place, cell): (&f64, &&str)| Tick {
        value: *place,
        label: vec![column.map_or(String::new(), |column| column.write(cell))],
    };
    let x_ticks = places.iter().zip(&sheet.xs).map(tick).collect();
    let layout = Layout { columns: 4, height: 170.0, x, x_ticks, x_label: &x_label, log_allowed: true };
    let mut notes = Vec::new();
    if sheet.has_intervals() {
        notes.push("Policies stand side by side at each place, so that their whiskers can be told apart; an interval ends at the axis.".to_owned());
    }
    if figure.without_value() > 0 {
        notes.push("× at the lower edge: no value there, not a 0.".to_owned());
    }
    let mark = |canvas: &mut Canvas<'_>, style: &PolicyStyle, left: Point, width: f64| {
        style.draw_sample(canvas, left, width);
    };
    sheet.panels(&layout, notes, mark, |canvas, panel, measure, second| {
        for prominent in [false, true] {
            for policy in 0..sheet.policies.len() {
                if sheet.styles[policy].is_prominent() == prominent {
                    draw_policy(canvas, panel, &sheet, &places, measure, second, policy);
                }
            }
        }
    })
}

/// Numbers stand where they are, names at equal steps.
fn places(column: Option<&Column>, cells: &[&str]) -> Vec<f64> {
    let number = |(index, cell): (usize, &&str)| match column {
        Some(column) if column.unit != AxisUnit::Words => cell.parse().unwrap_or(index as f64),
        _ => index as f64,
    };
    cells.iter().enumerate().map(number).collect()
}

/// The axis, and whether it is logarithmic.
fn axis(column: Option<&Column>, places: &[f64]) -> (Axis, bool) {
    let low = places.iter().copied().fold(f64::INFINITY, f64::min);
    let high = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if column.is_none_or(|column| column.unit == AxisUnit::Words) {
        return (Axis::Linear { from: -0.5, to: places.len() as f64 - 0.5 }, false);
    }
    if low > 0.0 && high >= DECADE * low {
        let room = libm::exp(libm::log(high / low) * ROOM);
        return (Axis::Log { from: low / room, to: high * room }, true);
    }
    let room = if high > low { (high - low) * ROOM } else { 1.0 };
    (Axis::Linear { from: low - room, to: high + room }, false)
}

fn draw_policy(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    sheet: &Sheet<'_>,
    places: &[f64],
    measure: &Measure,
    second: &str,
    policy: usize,
) {
    let style = &sheet.styles[policy];
    let spread = if sheet.has_intervals() || sheet.figure.without_value() > 0 { ASIDE } else { 0.0 };
    let aside = (policy as f64 - (sheet.policies.len() as f64 - 1.0) / 2.0) * spread;
    // A place without a value is a gap in the line.
    let mut pieces: Vec<Vec<Point>> = vec![Vec::new()];
    for (place, cell) in places.iter().zip(&sheet.xs) {
        let x = panel.x_at(*place) + aside;
        let Some((mean, row)) = sheet.mean(measure, policy, second, cell) else {
            draw_missing(canvas, (x, panel.bottom - 5.0), style);
            pieces.push(Vec::new());
            continue;
        };
        if let (Some(low), Some(high)) = (row.ci95_low, row.ci95_high) {
            canvas.path(&[(x, panel.y_at(low)), (x, panel.y_at(high))], style.color, 1.25);
        }
        pieces.last_mut().expect("Invariant: there is a piece").push((x, panel.y_at(mean)));
    }
    for piece in &pieces {
        style.draw_line(canvas, piece);
        for place in piece.iter().filter(|_| places.len() <= MOST_MARKERS) {
            style.draw_marker(canvas, *place);
        }
    }
}

fn draw_missing(canvas: &mut Canvas<'_>, (x, y): Point, style: &PolicyStyle) {
    for slope in [-3.0, 3.0] {
        canvas.path(&[(x - 3.0, y - slope), (x + 3.0, y + slope)], style.color, 1.5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(unit: AxisUnit) -> Column {
        Column { key: "k".to_owned(), name: "k".to_owned(), title: "K".to_owned(), unit }
    }

    #[test]
    fn numbers_over_a_decade_have_a_logarithmic_axis_and_names_equal_steps() {
        let plain = column(AxisUnit::Plain);
        assert!(axis(Some(&plain), &places(Some(&plain), &["0.5", "5"])).1);
        assert!(!axis(Some(&plain), &places(Some(&plain), &["0.6", "5"])).1);
        assert!(!axis(Some(&plain), &places(Some(&plain), &["0", "5"])).1, "0 has no logarithm");
        let words = column(AxisUnit::Words);
        assert_eq!(places(Some(&words), &["8", "128"]), [0.0, 1.0]);
    }
}
