//! A framed drawing as inline SVG: it takes its colours from the page, and each policy's part can be hidden.
//!
//! Places come from the axes of the plots ([`Axis`]). Beside the drawing stand the values that a pointer or the
//! arrow keys show ([`Stops`]), already written in words, so that the script knows no units.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Shown;
use super::markup::{data, px, tenth, text};
use crate::plot::canvas::{Point, text_width};
use crate::plot::panel::{Axis, Panel, Tick};
use crate::plot::style::{Outline, PolicyStyle, outline};

const TICK_SIZE: f64 = 11.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;

/// What a pointer reads, place by place.
#[derive(Clone, Debug)]
pub struct Stops {
    /// `x`: a column of the drawing; `y`: a row of it; `xy`: a point.
    pub along: &'static str,
    /// Where: a number, or a pair for `xy`.
    pub at: Vec<Value>,
    /// What stands above the values of each place.
    pub heads: Vec<String>,
    /// Who the values are of: a policy's index, or a variable of the page's colours and a name.
    pub series: Vec<Value>,
    /// A list per series with a value per place, or null. For `xy`: one list, what is said of each point.
    pub values: Vec<Vec<Option<String>>>,
}

/// A drawing in the making.
pub struct Chart {
    /// From values to places.
    pub panel: Panel,
    size: (f64, f64),
    body: String,
}

impl Chart {
    /// A frame of that size in pixels with room for the lettering; `lines` of text below the ticks' first.
    pub fn new(size: (f64, f64), x: Axis, y: Axis, lines: usize) -> Self {
        let bottom = size.1 - 38.0 - 13.0 * lines as f64;
        Chart::with_panel(size, Panel { left: LEFT, top: TOP, right: size.0 - RIGHT, bottom, x, y })
    }

    /// A drawing of that size whose first panel is `panel`.
    pub fn with_panel(size: (f64, f64), panel: Panel) -> Self {
        Chart { panel, size, body: String::new() }
    }

    /// Goes on with another panel of the same drawing.
    pub fn next_panel(&mut self, panel: Panel) {
        self.panel = panel;
    }

    /// The left and right end of the frames of a drawing that wide.
    pub fn sides(width: f64) -> (f64, f64) {
        (LEFT, width - RIGHT)
    }

    /// Grid lines, labels of ticks that do not run into each other, and the name of the axis.
    pub fn x_axis(&mut self, ticks: &[Tick], name: &str) {
        let panel = self.panel;
        let mut taken_to = f64::NEG_INFINITY;
        let mut lines = 1;
        for tick in ticks {
            let x = panel.x_at(tick.value);
            self.grid_line((x, panel.top), (x, panel.bottom));
            let width = tick.label.iter().map(|line| text_width(line, TICK_SIZE)).fold(0.0, f64::max);
            if tick.label.is_empty() || x - width / 2.0 < taken_to + 4.0 {
                continue;
            }
            taken_to = x + width / 2.0;
            // The last label ends where the drawing does.
            let middle = x.min(self.size.0 - width / 2.0);
            for (line, label) in tick.label.iter().enumerate() {
                let y = panel.bottom + 15.0 + 13.0 * line as f64;
                self.write(label, (middle, y), if line == 0 { "tick" } else { "tick faint" }, "middle");
            }
            lines = lines.max(tick.label.len());
        }
        let y = panel.bottom + 18.0 + 13.0 * lines as f64;
        self.write(name, ((panel.left + panel.right) / 2.0, y), "axis", "middle");
    }

    /// Grid lines, labels and the name of the axis, which reads upwards.
    pub fn y_axis(&mut self, ticks: &[Tick], name: &str) {
        let panel = self.panel;
        for tick in ticks {
            let y = panel.y_at(tick.value);
            self.grid_line((panel.left, y), (panel.right, y));
            for label in &tick.label {
                self.write(label, (panel.left - 6.0, y + 4.0), "tick", "end");
            }
        }
        let _ = write!(
            self.body,
            "<text class=\"axis\" text-anchor=\"middle\" transform=\"translate(11 {}) rotate(-90)\">{}</text>",
            px((panel.top + panel.bottom) / 2.0),
            text(name)
        );
    }

    /// The frame, above what was drawn up to it.
    pub fn frame(&mut self) {
        let Panel { left, top, right, bottom, .. } = self.panel;
        let _ = write!(
            self.body,
            "<rect class=\"frame\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            px(left),
            px(top),
            px(right - left),
            px(bottom - top)
        );
    }

    /// A line across the panel at a value of x or y, with what it is.
    pub fn limit(&mut self, along: &str, value: f64, label: &str) {
        let panel = self.panel;
        let (from, to, at, anchor) = if along == "x" {
            let x = panel.x_at(value);
            let left_of = x + text_width(label, 10.0) + 6.0 > panel.right;
            let at = (if left_of { x - 3.0 } else { x + 3.0 }, panel.bottom - 5.0);
            ((x, panel.top), (x, panel.bottom), at, if left_of { "end" } else { "start" })
        } else {
            let y = panel.y_at(value);
            ((panel.left, y), (panel.right, y), (panel.right - 4.0, y - 4.0), "end")
        };
        let _ = write!(self.body, "<path class=\"limit\" d=\"{}\"/>", path(&[from, to]));
        self.write(label, at, "tick halo", anchor);
    }

    /// A sentence in the middle of an empty panel.
    pub fn message(&mut self, message: &str) {
        let panel = self.panel;
        let middle = ((panel.left + panel.right) / 2.0, (panel.top + panel.bottom) / 2.0);
        self.write(message, middle, "axis", "middle");
    }

    /// The part of a policy: its line and its markers, in places.
    pub fn series(&mut self, shown: &Shown<'_>, line: &[Point], markers: &[Point]) {
        let style = &shown.style;
        let _ =
            write!(self.body, "<g class=\"series\" data-p=\"{0}\" style=\"--c:var(--p{0})\">", shown.index);
        if line.len() > 1 {
            let _ = write!(self.body, "<path {} d=\"{}\"/>", stroke(style), path(line));
        }
        for at in markers {
            self.body.push_str(&marker(style, *at, 4.2));
        }
        self.body.push_str("</g>");
    }

    /// A filled stepped area over `heights` (values of y, one per column of equal width) in a colour of the page.
    pub fn area(&mut self, color: &str, heights: &[f64]) {
        let panel = self.panel;
        let width = (panel.right - panel.left) / heights.len().max(1) as f64;
        let mut d = format!("M{} {}", px(panel.left), px(panel.bottom));
        let mut last = f64::NAN;
        for (index, height) in heights.iter().enumerate() {
            if *height != last {
                let x = panel.left + width * index as f64;
                let _ = write!(d, "H{}V{}", px(x), px(panel.y_at(*height)));
                last = *height;
            }
        }
        let _ = write!(d, "H{}V{}Z", px(panel.right), px(panel.bottom));
        let _ = write!(self.body, "<path class=\"area\" style=\"--c:var(--{color})\" d=\"{d}\"/>");
    }

    /// Text at a place, in a class of the page's style.
    pub fn write(&mut self, words: &str, at: Point, class: &str, anchor: &str) {
        let _ = write!(
            self.body,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            px(at.0),
            px(at.1),
            text(words)
        );
    }

    fn grid_line(&mut self, from: Point, to: Point) {
        let _ = write!(self.body, "<path class=\"grid\" d=\"{}\"/>", path(&[from, to]));
    }

    /// The drawing under its title, with what a pointer reads. `description` says in words what it shows.
    pub fn finish(self, title: &str, subtitle: &str, description: &str, stops: &Stops) -> String {
        let Panel { left, right, .. } = self.panel;
        let (width, height) = self.size;
        format!(
            "<figure class=\"chart\"><figcaption><h4>{title}</h4><p>{subtitle}</p></figcaption><div class=\"plot\" \
             data-frame=\"{} {TOP} {} {}\"><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg>\
             <script type=\"application/json\">{}</script></div></figure>\n",
            px(left),
            px(right),
            px(self.panel.bottom),
            px(width),
            px(height),
            text(&format!("{title}. {description}")),
            self.body,
            data(&stops.to_json()),
            title = text(title),
            subtitle = text(subtitle),
        )
    }
}

impl Stops {
    fn to_json(&self) -> Value {
        json!({
            "along": self.along, "at": self.at, "heads": self.heads, "series": self.series, "values": self.values,
        })
    }
}

/// A number for [`Stops::at`].
pub fn place(value: f64) -> Value {
    json!(tenth(value) + 0.0)
}

/// Line and marker of a policy, as legends show them.
pub fn swatch(shown: &Shown<'_>) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 34 14\" aria-hidden=\"true\" style=\"--c:var(--p{})\"><path {} d=\"M1 7H33\"/>{}</svg>",
        shown.index,
        stroke(&shown.style),
        marker(&shown.style, (17.0, 7.0), 4.4)
    )
}

fn stroke(style: &PolicyStyle) -> String {
    let dashes: Vec<String> = style.dashes.iter().map(|dash| px(*dash)).collect();
    let dashes =
        if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", dashes.join(" ")) };
    format!("class=\"line\" stroke-width=\"{}\"{dashes}", px(style.width))
}

fn marker(style: &PolicyStyle, at: Point, radius: f64) -> String {
    let around = |corners: &[Point]| -> Vec<Point> {
        corners.iter().map(|corner| (at.0 + radius * corner.0, at.1 + radius * corner.1)).collect()
    };
    let class = if style.marker.filled { "mark" } else { "mark hollow" };
    match outline(style.marker.shape) {
        Outline::Round => {
            format!(
                "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"/>",
                px(at.0),
                px(at.1),
                px(radius)
            )
        }
        Outline::Corners(corners) => format!("<path class=\"{class}\" d=\"{}Z\"/>", path(&around(corners))),
        Outline::Strokes(strokes) => {
            let strokes: String = strokes.iter().map(|stroke| path(&around(stroke))).collect();
            format!("<path class=\"mark hollow\" d=\"{strokes}\"/>")
        }
    }
}

fn path(points: &[Point]) -> String {
    let mut d = String::new();
    for (index, point) in points.iter().enumerate() {
        let _ = write!(d, "{}{} {}", if index == 0 { "M" } else { "L" }, px(point.0), px(point.1));
    }
    d
}
