//! Lines, shapes and text on an SVG page: the only file that knows plotters.
//!
//! Coordinates are pixels as `f64`, origin at the top left; plotters takes whole numbers, so the page is drawn
//! four times as large and shown at its size. Text is measured with the widths of DejaVu Sans, one of the widest
//! sans-serif faces: what fits here fits with the reader's own font.

pub use plotters::prelude::RGBColor;
use plotters::prelude::{DrawingBackend, SVGBackend, ShapeStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, TextStyle};

/// Drawing units per pixel.
const UNITS: f64 = 4.0;
/// plotters divides a font size by this before it writes it.
const PLOTTERS_FONT_FACTOR: f64 = 1.24;
/// Pixels; beyond it a coordinate is a mistake of the caller and is cut, so that no `i32` overflows.
const FARTHEST: f64 = 100_000.0;

/// Almost black, for text that matters.
pub const INK: RGBColor = RGBColor(0x1A, 0x1A, 0x1A);
/// For text beside the point.
pub const MUTED: RGBColor = RGBColor(0x59, 0x59, 0x59);
/// For frames.
pub const FRAME: RGBColor = RGBColor(0x8C, 0x8C, 0x8C);
/// For grid lines.
pub const GRID: RGBColor = RGBColor(0xE3, 0xE3, 0xE3);
/// The page.
pub const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

/// A point on the page, in pixels.
pub type Point = (f64, f64);

/// Where a text lies beside its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Starts at it.
    Start,
    /// Is centred on it.
    Middle,
    /// Ends at it.
    End,
}

/// An SVG page.
pub struct Canvas<'a> {
    backend: SVGBackend<'a>,
    failure: Option<String>,
}

/// Draws a page of `width` by `height` pixels and returns it as SVG text.
///
/// # Errors
/// What the drawing backend said.
pub fn render(width: f64, height: f64, draw: impl FnOnce(&mut Canvas<'_>)) -> Result<String, String> {
    let (units_wide, units_high) = (unit(width) as u32, unit(height) as u32);
    let mut svg = String::new();
    let mut canvas =
        Canvas { backend: SVGBackend::with_string(&mut svg, (units_wide, units_high)), failure: None };
    canvas.rectangle((0.0, 0.0), (width, height), PAPER);
    draw(&mut canvas);
    let presented = canvas.backend.present();
    canvas.keep(presented);
    let failure = canvas.failure.take();
    drop(canvas);
    match failure {
        Some(message) => Err(message),
        // The view box keeps the drawing units; only the size that is shown is in pixels.
        None => Ok(svg.replacen(
            &format!("width=\"{units_wide}\" height=\"{units_high}\""),
            &format!("width=\"{}\" height=\"{}\"", width.round(), height.round()),
            1,
        )),
    }
}

impl Canvas<'_> {
    /// A solid line through `points`.
    pub fn path(&mut self, points: &[Point], color: RGBColor, width: f64) {
        if points.len() > 1 {
            let drawn = self.backend.draw_path(points.iter().map(units), &stroke(color, width));
            self.keep(drawn);
        }
    }

    /// A line through `points` with alternating dash and gap lengths in pixels; solid if `dashes` is empty.
    pub fn dashed_path(&mut self, points: &[Point], color: RGBColor, width: f64, dashes: &[f64]) {
        if dashes.is_empty() {
            return self.path(points, color, width);
        }
        for dash in split_into_dashes(points, dashes) {
            self.path(&dash, color, width);
        }
    }

    /// A filled polygon.
    pub fn polygon(&mut self, corners: &[Point], color: RGBColor) {
        if corners.len() > 2 {
            let drawn = self.backend.fill_polygon(corners.iter().map(units), &stroke(color, 0.0));
            self.keep(drawn);
        }
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, upper_left: Point, lower_right: Point, color: RGBColor) {
        let drawn =
            self.backend.draw_rect(units(&upper_left), units(&lower_right), &stroke(color, 0.0), true);
        self.keep(drawn);
    }

    /// A filled circle.
    pub fn disc(&mut self, center: Point, radius: f64, color: RGBColor) {
        let drawn = self.backend.draw_circle(units(&center), unit(radius) as u32, &stroke(color, 0.0), true);
        self.keep(drawn);
    }

    /// A horizontal text whose middle height is at `at`; `size` in pixels.
    pub fn text(&mut self, text: &str, at: Point, size: f64, color: RGBColor, align: Align) {
        self.write(text, at, size, color, align, FontTransform::None);
    }

    /// A text that starts at `at`, on a patch of paper that hides what lies below it.
    pub fn boxed_text(&mut self, text: &str, at: Point, size: f64, color: RGBColor) {
        let half = size * 0.62;
        let right = at.0 + text_width(text, size) + 3.0;
        self.rectangle((at.0 - 3.0, at.1 - half), (right, at.1 + half), PAPER);
        self.text(text, at, size, color, Align::Start);
    }

    /// A text that reads upwards.
    pub fn upward_text(&mut self, text: &str, at: Point, size: f64, color: RGBColor, align: Align) {
        self.write(text, at, size, color, align, FontTransform::Rotate270);
    }

    fn write(
        &mut self,
        text: &str,
        at: Point,
        size: f64,
        color: RGBColor,
        align: Align,
        turn: FontTransform,
    ) {
        let anchor = match align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        let style = TextStyle::from(("sans-serif", size * UNITS * PLOTTERS_FONT_FACTOR))
            .pos(Pos::new(anchor, VPos::Center))
            .transform(turn)
            .color(&color);
        let drawn = self.backend.draw_text(text, &style, units(&at));
        self.keep(drawn);
    }

    fn keep<E: std::fmt::Display>(&mut self, result: Result<(), E>) {
        if let Err(error) = result {
            self.failure.get_or_insert_with(|| error.to_string());
        }
    }
}

fn stroke(color: RGBColor, width: f64) -> ShapeStyle {
    ShapeStyle { color: color.to_rgba(), filled: true, stroke_width: unit(width) as u32 }
}

fn unit(pixels: f64) -> i32 {
    // NaN becomes 0 in the cast.
    (pixels.clamp(-FARTHEST, FARTHEST) * UNITS).round() as i32
}

fn units(point: &Point) -> (i32, i32) {
    (unit(point.0), unit(point.1))
}

/// The pieces of a line that its dashes cover.
fn split_into_dashes(points: &[Point], dashes: &[f64]) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<Point> = points.first().copied().into_iter().collect();
    let (mut index, mut left) = (0, dashes[0]);
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let length = (x1 - x0).hypot(y1 - y0);
        let mut walked = 0.0;
        while length - walked > left {
            walked += left;
            let here = (x0 + (x1 - x0) * walked / length, y0 + (y1 - y0) * walked / length);
            piece.push(here);
            // Even entries are dashes, odd ones gaps.
            if index % 2 == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            piece = vec![here];
            index += 1;
            left = dashes[index % dashes.len()];
        }
        left -= length - walked;
        piece.push((x1, y1));
    }
    if index % 2 == 0 {
        pieces.push(piece);
    }
    pieces
}

/// Widths of the characters from space to `~` in DejaVu Sans Book 2.37, in hundredths of the font size.
#[rustfmt::skip]
const ADVANCE: [u8; 95] = [
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63,
    58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99, 69,
    61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58,
    28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
];

/// Width of `text` in pixels at `size`, in the widest font that is likely.
pub fn text_width(text: &str, size: f64) -> f64 {
    let hundredths: u32 = text
        .chars()
        .map(|character| match u8::try_from(character) {
            Ok(byte @ 32..=126) => u32::from(ADVANCE[usize::from(byte - 32)]),
            _ => 84,
        })
        .sum();
    f64::from(hundredths) / 100.0 * size
}

/// `text`, or as much of it as fits into `width` pixels with an ellipsis.
pub fn fit(text: &str, width: f64, size: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let shorter: String = kept.iter().collect::<String>().trim_end().to_owned() + "…";
        if text_width(&shorter, size) <= width {
            return shorter;
        }
    }
    String::new()
}

/// `text` in lines of at most `width` pixels, broken at spaces; a word that is too long is cut.
pub fn wrap(text: &str, width: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if text_width(&longer, size) <= width => {
                *lines.last_mut().expect("Invariant: the longer line was made from the last one") = longer;
            }
            _ => lines.push(fit(word, width, size)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_pattern_covers_its_share_of_a_line() {
        // 20 px with dashes of 4 and gaps of 1: dashes at 0–4, 5–9, 10–14, 15–19; the corner at 10 changes nothing.
        let pieces = split_into_dashes(&[(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], &[4.0, 1.0]);
        let covered: f64 = pieces
            .iter()
            .flat_map(|piece| piece.windows(2))
            .map(|pair| (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1))
            .sum();
        assert_eq!(pieces.len(), 4);
        assert!((covered - 16.0).abs() < 1e-9, "{covered}");
    }

    #[test]
    fn text_that_does_not_fit_ends_in_an_ellipsis_and_fits() {
        let cut = fit("a policy with a very long label indeed", 100.0, 12.0);
        assert!(cut.ends_with('…') && text_width(&cut, 12.0) <= 100.0, "{cut}");
        assert_eq!(fit("short", 100.0, 12.0), "short");
    }

    #[test]
    fn wrapped_lines_keep_every_word() {
        let text = "one two three four five six seven";
        let lines = wrap(text, 80.0, 12.0);
        assert!(lines.len() > 1);
        assert_eq!(lines.join(" "), text);
    }
}
