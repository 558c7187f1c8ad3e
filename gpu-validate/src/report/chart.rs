//! One chart as SVG: points and lines over two axes, with a legend beside it and notes below.
//!
//! Knows nothing of what it draws. Drawn on the simulator's canvas and panel, so that all figures look alike.

use orbitflow_sim::plot::canvas::{Align, Canvas, INK, MUTED, PAPER, Point, RGBColor, render, wrap};
use orbitflow_sim::plot::panel::{Axis, Lettering, Panel, Tick};

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 600.0;
const LEGEND: f64 = 250.0;
const MARGIN: f64 = 28.0;
/// Pixels of the plot area's upper side.
const TOP: f64 = 118.0;
const NOTE_LINE: f64 = 15.0;

/// Colours that stay apart for the colour-blind (Okabe and Ito, 2008), without yellow.
pub const COLORS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x1A, 0x1A, 0x1A),
];

/// Outline of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Filled and round.
    Disc,
    /// Round, filled with paper.
    Ring,
    /// A square.
    Square,
    /// A triangle.
    Triangle,
    /// A square on its point.
    Diamond,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// Points alone.
    Points(Marker),
    /// A line alone; dashes in pixels, empty is solid.
    Line(&'static [f64]),
}

/// Points of one kind.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the legend; empty: not there.
    pub name: String,
    /// Colour.
    pub color: RGBColor,
    /// How.
    pub look: Look,
    /// In the units of the axes.
    pub points: Vec<(f64, f64)>,
}

/// A band between two lines through the chart, under everything else.
#[derive(Clone, Debug)]
pub struct Band {
    /// In the legend.
    pub name: String,
    /// Lower and upper line as (x, y) at both ends of the x axis.
    pub lower: [(f64, f64); 2],
    /// See `lower`.
    pub upper: [(f64, f64); 2],
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// What is shown.
    pub title: String,
    /// How to read it; one line.
    pub subtitle: String,
    /// What is on the x axis, with its unit.
    pub x_label: &'a str,
    /// What is on the y axis, with its unit.
    pub y_label: &'a str,
    /// Along the lower side.
    pub x: Axis,
    /// Along the left side.
    pub y: Axis,
    /// Along the lower side; empty: round decimal numbers, written by `x_words`.
    pub x_ticks: Vec<Tick>,
    /// How numbers on the x axis are written.
    pub x_words: fn(f64) -> String,
    /// How numbers on the y axis are written.
    pub y_words: fn(f64) -> String,
    /// Under everything else.
    pub band: Option<Band>,
    /// In drawing order.
    pub series: Vec<Series>,
    /// Below the chart, one paragraph each: everything a number here depends on.
    pub notes: Vec<String>,
}

const BAND: RGBColor = RGBColor(0xE4, 0xEE, 0xF4);

impl Chart<'_> {
    /// The chart as SVG.
    ///
    /// # Errors
    /// What the drawing backend said.
    pub fn draw(&self) -> Result<String, String> {
        let inside = WIDTH - 2.0 * MARGIN;
        let notes: Vec<String> = self.notes.iter().flat_map(|note| wrap(note, inside, 11.0)).collect();
        let height = HEIGHT + NOTE_LINE * notes.len() as f64 + 8.0;
        let panel = Panel {
            left: MARGIN + 78.0,
            top: TOP,
            right: WIDTH - MARGIN - LEGEND,
            bottom: HEIGHT - 66.0,
            x: self.x,
            y: self.y,
        };
        render(WIDTH, height, |canvas| {
            canvas.text(&self.title, (MARGIN, 34.0), 20.0, INK, Align::Start);
            for (line, text) in wrap(&self.subtitle, inside, 12.5).iter().enumerate() {
                canvas.text(text, (MARGIN, 60.0 + 17.0 * line as f64), 12.5, MUTED, Align::Start);
            }
            self.draw_band(canvas, &panel);
            panel.draw(
                canvas,
                &Lettering {
                    x_label: self.x_label,
                    y_label: self.y_label,
                    x_ticks: if self.x_ticks.is_empty() {
                        self.x.ticks(self.x_words)
                    } else {
                        self.x_ticks.clone()
                    },
                    y_ticks: self.y.ticks(self.y_words),
                    ..Lettering::default()
                },
            );
            for series in &self.series {
                draw_series(canvas, &panel, series);
            }
            if self.series.iter().all(|series| series.points.is_empty()) {
                panel.draw_message(canvas, "no point was measured");
            }
            self.draw_legend(canvas, panel.right + 22.0);
            for (line, text) in notes.iter().enumerate() {
                let y = HEIGHT + NOTE_LINE * line as f64;
                canvas.text(text, (MARGIN, y), 11.0, MUTED, Align::Start);
            }
        })
    }

    fn draw_band(&self, canvas: &mut Canvas<'_>, panel: &Panel) {
        let Some(band) = &self.band else { return };
        // Straight between its ends, which is right on two linear or two logarithmic axes.
        let corners: Vec<Point> =
            band.lower.iter().chain(band.upper.iter().rev()).map(|&(x, y)| panel.at(x, y)).collect();
        canvas.polygon(&corners, BAND);
    }

    fn draw_legend(&self, canvas: &mut Canvas<'_>, left: f64) {
        let mut y = TOP + 8.0;
        if let Some(band) = &self.band {
            canvas.rectangle((left, y - 6.0), (left + 22.0, y + 6.0), BAND);
            y = legend_text(canvas, &band.name, left, y);
        }
        for series in self.series.iter().filter(|series| !series.name.is_empty()) {
            match series.look {
                Look::Points(marker) => draw_marker(canvas, marker, (left + 11.0, y), series.color),
                Look::Line(dashes) => {
                    draw_line(canvas, &[(left, y), (left + 22.0, y)], series.color, dashes);
                }
            }
            y = legend_text(canvas, &series.name, left, y);
        }
    }
}

/// Writes a legend's entry and answers where the next one stands.
fn legend_text(canvas: &mut Canvas<'_>, text: &str, left: f64, mut y: f64) -> f64 {
    for line in wrap(text, LEGEND - 60.0, 11.5) {
        canvas.text(&line, (left + 30.0, y), 11.5, INK, Align::Start);
        y += 15.0;
    }
    y + 5.0
}

fn draw_series(canvas: &mut Canvas<'_>, panel: &Panel, series: &Series) {
    let points: Vec<Point> = series.points.iter().map(|&(x, y)| panel.at(x, y)).collect();
    match series.look {
        Look::Line(dashes) => draw_line(canvas, &points, series.color, dashes),
        Look::Points(marker) => {
            for point in points {
                draw_marker(canvas, marker, point, series.color);
            }
        }
    }
}

fn draw_line(canvas: &mut Canvas<'_>, points: &[Point], color: RGBColor, dashes: &[f64]) {
    if dashes.is_empty() {
        canvas.path(points, color, 1.6);
    } else {
        canvas.dashed_path(points, color, 1.6, dashes);
    }
}

fn draw_marker(canvas: &mut Canvas<'_>, marker: Marker, (x, y): Point, color: RGBColor) {
    let r = 4.0;
    match marker {
        Marker::Disc => canvas.disc((x, y), r, color),
        Marker::Ring => {
            canvas.disc((x, y), r + 0.4, color);
            canvas.disc((x, y), r - 1.6, PAPER);
        }
        Marker::Square => canvas.rectangle((x - r + 0.5, y - r + 0.5), (x + r - 0.5, y + r - 0.5), color),
        Marker::Triangle => {
            canvas
                .polygon(&[(x, y - r - 1.0), (x + r + 0.5, y + r - 0.5), (x - r - 0.5, y + r - 0.5)], color);
        }
        Marker::Diamond => {
            let d = r + 1.2;
            canvas.polygon(&[(x, y - d), (x + d, y), (x, y + d), (x - d, y)], color);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbitflow_sim::plot::words;

    fn chart(points: Vec<(f64, f64)>) -> Chart<'static> {
        Chart {
            title: "T".to_owned(),
            subtitle: "S".to_owned(),
            x_label: "x",
            y_label: "y",
            x: Axis::Linear { from: 0.0, to: 1.0 },
            y: Axis::Linear { from: 0.0, to: 1.0 },
            x_ticks: Vec::new(),
            x_words: words::number,
            y_words: words::number,
            band: None,
            series: vec![Series {
                name: "N".to_owned(),
                color: COLORS[0],
                look: Look::Points(Marker::Disc),
                points,
            }],
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_chart_without_points_says_so() {
        assert!(chart(Vec::new()).draw().unwrap().contains("no point was measured"));
        assert!(!chart(vec![(0.5, 0.5)]).draw().unwrap().contains("no point was measured"));
    }
}
