//! One score over two axes: a panel per policy, one colour scale for all of them, the mean in each cell; and which
//! policy is best where, and by how much.
//!
//! Colours are cividis (Nuñez, Anderton and Renslow 2018), which reads the same with and without colour vision, by the
//! polynomial of d3-scale-chromatic. A cell without a value is crossed out.

use super::Figure;
use super::measure::{Better, Measure};
use super::sheet::Sheet;
use crate::plot::canvas::{Align, Canvas, FRAME, INK, MUTED, PAPER, RGBColor, fit, text_width};
use crate::plot::page::{MARGIN, WIDTH};
use crate::plot::panel::{Axis, Lettering, Panel, SHARE, Tick};

/// Panels side by side.
const COLUMNS: usize = 4;
/// Left of a panel: tick labels and the name of the axis.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
/// Right of all panels: the colour scale.
const SCALE_WIDTH: f64 = 104.0;
const PANEL_HEAD: f64 = 30.0;
const PANEL_FOOT: f64 = 50.0;
/// Heading of a score, if there are several.
const BLOCK_HEAD: f64 = 34.0;
const CELL_HEIGHT: f64 = 26.0;
const LEAST_HEIGHT: f64 = 104.0;
const VALUE_SIZE: f64 = 11.0;
const SMALL_SIZE: f64 = 8.5;

/// The figure as SVG.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let sheet = Sheet::new(figure);
    let mut notes = vec![
        "Best policy: its colour is that of the title of its panel, the number its lead over the second; = : a tie, another \
         policy has the same as printed."
            .to_owned(),
    ];
    if figure.without_value() > 0 {
        notes.push("A cell that is crossed out has no value; it is not a 0.".to_owned());
    }
    let panel_height = (CELL_HEIGHT * sheet.seconds.len() as f64).max(LEAST_HEIGHT);
    let line = PANEL_HEAD + panel_height + PANEL_FOOT;
    let block = |measure: &Measure| BLOCK_HEAD + line * panels(&sheet, measure).div_ceil(COLUMNS) as f64;
    let height = sheet.measures.iter().map(block).sum();
    sheet.page(height, notes, |canvas, mut top| {
        for measure in &sheet.measures {
            draw_block(canvas, &sheet, measure, top, panel_height);
            top += block(measure);
        }
    })
}

/// One per policy, and one for which of them is best.
fn panels(sheet: &Sheet<'_>, measure: &Measure) -> usize {
    sheet.policies.len() + usize::from(has_best(sheet, measure))
}

fn has_best(sheet: &Sheet<'_>, measure: &Measure) -> bool {
    measure.better != Better::Neither && sheet.policies.len() > 1
}

fn draw_block(canvas: &mut Canvas<'_>, sheet: &Sheet<'_>, measure: &Measure, top: f64, panel_height: f64) {
    let heading = match measure.subtitle().as_str() {
        "" => measure.title.to_owned(),
        subtitle => format!("{}: {subtitle}", measure.title),
    };
    canvas.text(&heading, (MARGIN, top + 16.0), 15.0, INK, Align::Start);
    let top = top + BLOCK_HEAD;
    let colors = Colors::new(sheet, measure);
    let pitch = (WIDTH - 2.0 * MARGIN - SCALE_WIDTH) / COLUMNS as f64;
    for index in 0..panels(sheet, measure) {
        let (column, line) = (index % COLUMNS, index / COLUMNS);
        let left = MARGIN + pitch * column as f64 + LEFT;
        let upper = top + (PANEL_HEAD + panel_height + PANEL_FOOT) * line as f64 + PANEL_HEAD;
        let panel = Panel {
            left,
            top: upper,
            right: left + pitch - LEFT - RIGHT,
            bottom: upper + panel_height,
            x: Axis::Linear { from: -0.5, to: sheet.xs.len() as f64 - 0.5 },
            y: Axis::Linear { from: -0.5, to: sheet.seconds.len() as f64 - 0.5 },
        };
        let title = sheet.policies.get(index).map_or("Best policy, and its lead", |(_, label)| label);
        letter(canvas, sheet, &panel, title, sheet.styles.get(index).map(|style| style.color));
        for (row, second) in sheet.seconds.iter().enumerate() {
            for (column, x) in sheet.xs.iter().enumerate() {
                let cell = Cell::new(&panel, column as f64, row as f64);
                if index < sheet.policies.len() {
                    let mean = sheet.mean(measure, index, second, x).map(|(mean, _)| mean);
                    draw_value(canvas, &cell, measure, &colors, mean);
                } else {
                    draw_best(canvas, &cell, sheet, measure, second, x);
                }
            }
        }
        panel.draw_frame(canvas);
    }
    colors.draw(canvas, measure, WIDTH - MARGIN - SCALE_WIDTH + 30.0, top + PANEL_HEAD, panel_height);
}

fn letter(canvas: &mut Canvas<'_>, sheet: &Sheet<'_>, panel: &Panel, title: &str, color: Option<RGBColor>) {
    let wide = panel.right - panel.left;
    let ticks = |cells: &[&str], column: Option<&super::Column>| -> Vec<Tick> {
        let label = |cell: &str| column.map_or(String::new(), |column| column.write(cell));
        let tick = |(index, cell): (usize, &&str)| Tick { value: index as f64, label: vec![label(cell)] };
        cells.iter().enumerate().map(tick).collect()
    };
    let (x, y) = (sheet.x_column(), sheet.second_column());
    panel.draw(
        canvas,
        &Lettering {
            x_label: &fit(x.map_or("", |column| &column.title), wide, 12.5),
            y_label: &fit(y.map_or("", |column| &column.title), panel.bottom - panel.top + 40.0, 12.5),
            x_ticks: ticks(&sheet.xs, x),
            y_ticks: ticks(&sheet.seconds, y),
            ..Lettering::default()
        },
    );
    // Before a policy's name stands its colour.
    let left = match color {
        Some(color) => {
            canvas.rectangle((panel.left, panel.top - 18.0), (panel.left + 12.0, panel.top - 6.0), color);
            panel.left + 19.0
        }
        None => panel.left,
    };
    canvas.text(&fit(title, panel.right - left, 14.0), (left, panel.top - 12.0), 14.0, INK, Align::Start);
}

/// A cell in pixels.
struct Cell {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Cell {
    fn new(panel: &Panel, x: f64, y: f64) -> Cell {
        let (left, bottom) = panel.at(x - 0.5, y - 0.5);
        let (right, top) = panel.at(x + 0.5, y + 0.5);
        Cell { left: left + 0.5, top: top + 0.5, right: right - 0.5, bottom: bottom - 0.5 }
    }

    fn fill(&self, canvas: &mut Canvas<'_>, color: RGBColor) {
        canvas.rectangle((self.left, self.top), (self.right, self.bottom), color);
    }

    fn cross_out(&self, canvas: &mut Canvas<'_>) {
        self.fill(canvas, PAPER);
        canvas.path(&[(self.left, self.top), (self.right, self.bottom)], FRAME, 1.0);
        canvas.path(&[(self.left, self.bottom), (self.right, self.top)], FRAME, 1.0);
    }

    /// A value as large as there is room for it; none if there is none at all.
    fn write(&self, canvas: &mut Canvas<'_>, text: &str, color: RGBColor) {
        let fits = |size: &f64| text_width(text, *size) <= self.right - self.left;
        if let Some(size) = [VALUE_SIZE, SMALL_SIZE].into_iter().find(fits) {
            let middle = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
            canvas.text(text, middle, size, color, Align::Middle);
        }
    }
}

fn draw_value(canvas: &mut Canvas<'_>, cell: &Cell, measure: &Measure, colors: &Colors, mean: Option<f64>) {
    let Some(mean) = mean else { return cell.cross_out(canvas) };
    let color = colors.of(mean);
    cell.fill(canvas, color);
    cell.write(canvas, &measure.write_short(mean), ink_on(color));
}

/// The colour of the policy of the best mean, and how far the second is; `=` where that is the same as printed.
fn draw_best(
    canvas: &mut Canvas<'_>,
    cell: &Cell,
    sheet: &Sheet<'_>,
    measure: &Measure,
    second: &str,
    x: &str,
) {
    let mut means: Vec<(usize, f64)> = (0..sheet.policies.len())
        .filter_map(|policy| Some((policy, sheet.mean(measure, policy, second, x)?.0)))
        .collect();
    // Best first; equals stay in their order.
    means.sort_by(|(_, one), (_, other)| match measure.better {
        Better::Lower => one.total_cmp(other),
        _ => other.total_cmp(one),
    });
    let Some((policy, mean)) = means.first().copied() else { return cell.cross_out(canvas) };
    let second = means.get(1).map(|(_, second)| *second);
    if second.is_some_and(|second| measure.write_short(second) == measure.write_short(mean)) {
        cell.fill(canvas, PAPER);
        return cell.write(canvas, "=", MUTED);
    }
    let color = sheet.styles[policy].color;
    cell.fill(canvas, color);
    let lead = second.map_or(String::new(), |second| measure.write_lead((mean - second).abs()));
    cell.write(canvas, &lead, ink_on(color));
}

/// From values to colours: yellow is better, whichever way that is.
struct Colors {
    axis: Axis,
    is_lower_better: bool,
}

impl Colors {
    fn new(sheet: &Sheet<'_>, measure: &Measure) -> Colors {
        let of = sheet.figure.rows.iter().filter(|row| row.metric == measure.name);
        let means: Vec<f64> = of.filter_map(|row| row.mean).collect();
        let is_lower_better = measure.better == Better::Lower;
        Colors { axis: measure.axis(means.into_iter(), true), is_lower_better }
    }

    fn of(&self, value: f64) -> RGBColor {
        self.at(self.axis.place(value))
    }

    fn at(&self, place: f64) -> RGBColor {
        cividis(if self.is_lower_better { 1.0 - place } else { place })
    }

    /// The scale as a bar with ticks.
    fn draw(&self, canvas: &mut Canvas<'_>, measure: &Measure, left: f64, top: f64, height: f64) {
        const STEPS: u32 = 52;
        let panel = Panel { left, top, right: left + 16.0, bottom: top + height, x: SHARE, y: self.axis };
        for step in 0..STEPS {
            let place = |step: u32| f64::from(step) / f64::from(STEPS);
            let y = |step: u32| panel.bottom - height * place(step);
            let color = self.at((place(step) + place(step + 1)) / 2.0);
            canvas.rectangle((panel.left, y(step + 1)), (panel.right, y(step)), color);
        }
        panel.draw_frame(canvas);
        for tick in measure.ticks(self.axis) {
            for text in &tick.label {
                let y = panel.y_at(tick.value);
                canvas.path(&[(panel.right, y), (panel.right + 4.0, y)], FRAME, 1.0);
                canvas.text(text, (panel.right + 7.0, y), VALUE_SIZE, INK, Align::Start);
            }
        }
    }
}

/// Cividis at a place from 0 (dark blue) to 1 (yellow).
fn cividis(place: f64) -> RGBColor {
    let polynomial = |[a, b, c, d, e, f]: [f64; 6]| {
        let t = place;
        (a + t * (b + t * (c + t * (d + t * (e + t * f))))).round().clamp(0.0, 255.0) as u8
    };
    RGBColor(
        polynomial([-4.54, -35.34, 2381.73, -6402.7, 7024.72, -2710.57]),
        polynomial([32.49, 170.73, 52.82, -131.46, 176.58, -67.37]),
        polynomial([81.24, 442.36, -2482.43, 6167.24, -6614.94, 2475.67]),
    )
}

/// Black or white, whichever reads better: by the luminance of Rec. 709 on the encoded values.
fn ink_on(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let luminance = 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
    if luminance > 115.0 { INK } else { PAPER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cividis_runs_from_dark_blue_over_grey_to_yellow_and_never_gets_darker() {
        let ends = [cividis(0.0), cividis(0.5), cividis(1.0)];
        // Red in the middle, by hand: −4.54 + (−35.34 + (2381.73 + (−6402.7 + (7024.72 − 2710.57/2)/2)/2)/2)/2 = 127.2.
        assert_eq!(ends, [RGBColor(0, 32, 81), RGBColor(127, 124, 117), RGBColor(253, 234, 69)]);
        let luminance = |RGBColor(r, g, b): RGBColor| {
            0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
        };
        let steps: Vec<f64> = (0..=20).map(|step| luminance(cividis(f64::from(step) / 20.0))).collect();
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    }
}
