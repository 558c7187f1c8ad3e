//! A framed plot area: axes from values to pixels, ticks, grid and labels. Knows no policy and no result.

use super::canvas::{Align, Canvas, FRAME, GRID, INK, MUTED, Point, text_width};
use super::words;

/// Size of tick labels in pixels.
const TICK_SIZE: f64 = 11.5;

/// From values to places along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Axis {
    /// Equal steps are equally long.
    Linear {
        /// At the start.
        from: f64,
        /// At the end.
        to: f64,
    },
    /// Equal ratios are equally long.
    Log {
        /// At the start, above 0.
        from: f64,
        /// At the end.
        to: f64,
    },
}

/// A labelled place on an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where.
    pub value: f64,
    /// Lines of text; none draws only a faint grid line.
    pub label: Vec<String>,
}

impl Axis {
    /// From 0 to at least `highest`, ending on a round number; 0 to 1 if `highest` is not above 0.
    pub fn from_zero(highest: f64) -> Axis {
        if !(highest.is_finite() && highest > 1e-12) {
            return Axis::Linear { from: 0.0, to: 1.0 };
        }
        let step = round_step(highest);
        Axis::Linear { from: 0.0, to: (highest / step).ceil() * step }
    }

    /// The whole 1-2-5 steps around `values`, which must be above 0; `None` without any.
    pub fn log_around(values: impl IntoIterator<Item = f64>) -> Option<Axis> {
        let (low, high) = values
            .into_iter()
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high == 0.0 {
            return None;
        }
        let (low, high) = (low.max(1e-12), high.clamp(1e-12, 1e15));
        let from = one_two_five(low).rev().find(|step| *step < low * 0.97).unwrap_or(low / 2.0);
        let to = one_two_five(high).find(|step| *step > high * 1.03).unwrap_or(high * 2.0);
        Some(Axis::Log { from, to })
    }

    /// Place of `value`, 0 at the start and 1 at the end; values beyond an end are put on it.
    pub fn place(&self, value: f64) -> f64 {
        let place = match *self {
            Axis::Linear { from, to } => (value - from) / (to - from),
            Axis::Log { from, to } => libm::log(value.max(from) / from) / libm::log(to / from),
        };
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }

    /// Round ticks: about five on a linear axis; 1, 2, 5 or powers of ten, as fit, on a logarithmic one.
    pub fn ticks(&self, label: fn(f64) -> String) -> Vec<Tick> {
        let tick = |value: f64, labelled: bool| Tick {
            value,
            label: if labelled { vec![label(value)] } else { Vec::new() },
        };
        match *self {
            Axis::Linear { from, to } => {
                let step = round_step(to - from);
                let count = ((to - from) / step).round() as u32;
                (0..=count).map(|index| tick(from + f64::from(index) * step, true)).collect()
            }
            Axis::Log { from, to } => {
                let decades = libm::log10(to / from);
                let every = (decades / 7.0).ceil().max(1.0) as i32;
                let inside = |value: &f64| (from * 0.999..=to * 1.001).contains(value);
                (libm::log10(from).floor() as i32..=libm::log10(to).ceil() as i32)
                    .flat_map(|power| [1.0, 2.0, 5.0].map(|lead| (power, lead)))
                    .map(|(power, lead)| (power, lead, ten_to(power) * lead))
                    .filter(|(_, _, value)| inside(value))
                    .filter(|(power, lead, _)| decades <= 4.0 || (*lead == 1.0 && power % every == 0))
                    .map(|(_, lead, value)| tick(value, lead == 1.0 || decades <= 2.2))
                    .collect()
            }
        }
    }
}

/// A fifth of `span`, up to the next 1, 2, 2.5 or 5 times a power of ten.
fn round_step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = ten_to(libm::log10(rough).floor() as i32);
    let lead = [1.0, 2.0, 2.5, 5.0].into_iter().find(|lead| lead * power >= rough * 0.999);
    lead.unwrap_or(10.0) * power
}

/// The 1-2-5 steps in the two decades around `value`, ascending.
fn one_two_five(value: f64) -> impl DoubleEndedIterator<Item = f64> {
    let power = libm::log10(value).floor() as i32;
    (power - 1..=power + 1).flat_map(|power| [1.0, 2.0, 5.0].map(|lead| lead * ten_to(power)))
}

/// A power of ten as it is written, so that `5 · 10^−3` is exactly 0.005 on every machine.
fn ten_to(power: i32) -> f64 {
    if power >= 0 { 10_f64.powi(power) } else { 1.0 / 10_f64.powi(-power) }
}

/// A framed plot area; sides in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Left side of the frame.
    pub left: f64,
    /// Upper side of the frame.
    pub top: f64,
    /// Right side of the frame.
    pub right: f64,
    /// Lower side of the frame.
    pub bottom: f64,
    /// Along the lower side.
    pub x: Axis,
    /// Along the left side.
    pub y: Axis,
}

/// What is written around a panel.
#[derive(Clone, Debug, Default)]
pub struct Lettering<'a> {
    /// Above the frame; empty for none.
    pub title: &'a str,
    /// Between title and frame, in small letters; empty for none.
    pub subtitle: &'a str,
    /// Pixels to leave free between the frame and what is above it.
    pub headroom: f64,
    /// Under the ticks of the x axis; empty for none.
    pub x_label: &'a str,
    /// Beside the ticks of the y axis; empty for none.
    pub y_label: &'a str,
    /// Along the lower side.
    pub x_ticks: Vec<Tick>,
    /// Along the left side.
    pub y_ticks: Vec<Tick>,
}

impl Panel {
    /// The pixel of a pair of values.
    pub fn at(&self, x: f64, y: f64) -> Point {
        (self.x_at(x), self.y_at(y))
    }

    /// The pixel column of a value.
    pub fn x_at(&self, x: f64) -> f64 {
        self.left + (self.right - self.left) * self.x.place(x)
    }

    /// The pixel row of a value.
    pub fn y_at(&self, y: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * self.y.place(y)
    }

    /// Grid, frame and lettering; what is drawn later lies above the grid.
    pub fn draw(&self, canvas: &mut Canvas<'_>, lettering: &Lettering<'_>) {
        self.draw_x_ticks(canvas, &lettering.x_ticks);
        self.draw_y_ticks(canvas, lettering);
        self.draw_frame(canvas);
        let middle = (self.left + self.right) / 2.0;
        if !lettering.x_label.is_empty() {
            let lines = lettering.x_ticks.iter().map(|tick| tick.label.len()).max().unwrap_or(0);
            let y = self.bottom + 18.0 + 14.0 * lines as f64;
            canvas.text(lettering.x_label, (middle, y), 12.5, INK, Align::Middle);
        }
        let above = if lettering.subtitle.is_empty() { 12.0 } else { 28.0 };
        let top = self.top - lettering.headroom;
        canvas.text(lettering.title, (self.left, top - above), 14.0, INK, Align::Start);
        canvas.text(lettering.subtitle, (self.left, top - 11.0), 11.0, MUTED, Align::Start);
    }

    /// The frame alone, to lie above what was drawn up to it.
    pub fn draw_frame(&self, canvas: &mut Canvas<'_>) {
        let (left, top, right, bottom) = (self.left, self.top, self.right, self.bottom);
        canvas.path(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], FRAME, 1.0);
    }

    /// A sentence in the middle of an empty panel.
    pub fn draw_message(&self, canvas: &mut Canvas<'_>, message: &str) {
        let middle = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
        canvas.text(message, middle, 12.5, MUTED, Align::Middle);
    }

    fn draw_x_ticks(&self, canvas: &mut Canvas<'_>, ticks: &[Tick]) {
        let mut taken_to = f64::NEG_INFINITY;
        for tick in ticks {
            let x = self.x_at(tick.value);
            canvas.path(&[(x, self.top), (x, self.bottom)], GRID, 1.0);
            let width = tick.label.iter().map(|line| text_width(line, TICK_SIZE)).fold(0.0, f64::max);
            if tick.label.is_empty() || x - width / 2.0 < taken_to + 4.0 {
                continue;
            }
            taken_to = x + width / 2.0;
            canvas.path(&[(x, self.bottom), (x, self.bottom + 4.0)], FRAME, 1.0);
            for (line, text) in tick.label.iter().enumerate() {
                let color = if line == 0 { INK } else { MUTED };
                let y = self.bottom + 13.0 + 14.0 * line as f64;
                canvas.text(text, (x, y), TICK_SIZE, color, Align::Middle);
            }
        }
    }

    fn draw_y_ticks(&self, canvas: &mut Canvas<'_>, lettering: &Lettering<'_>) {
        // Panels below each other with ticks of different widths have their labels in one line.
        let mut widest = 40.0_f64;
        for tick in &lettering.y_ticks {
            let y = self.y_at(tick.value);
            canvas.path(&[(self.left, y), (self.right, y)], GRID, 1.0);
            for text in &tick.label {
                widest = widest.max(text_width(text, TICK_SIZE));
                canvas.text(text, (self.left - 7.0, y), TICK_SIZE, INK, Align::End);
            }
        }
        let at = (self.left - 20.0 - widest, (self.top + self.bottom) / 2.0);
        canvas.upward_text(lettering.y_label, at, 12.5, INK, Align::Middle);
    }
}

/// The axis of a share, 0 to 100 %.
pub const SHARE: Axis = Axis::Linear { from: 0.0, to: 100.0 };

/// Ticks of [`SHARE`].
pub fn share_ticks() -> Vec<Tick> {
    SHARE.ticks(words::number)
}

/// Leaves out places nearer than `nearest` pixels in both directions, which nobody could tell apart; never the last, and
/// never a corner.
pub fn thinned(places: impl Iterator<Item = Point>, nearest: f64) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    let mut skipped = None;
    for place in places {
        match kept.last() {
            Some(last) if (place.0 - last.0).abs() < nearest && (place.1 - last.1).abs() < nearest => {
                skipped = Some(place);
            }
            _ => {
                // The end of a dense stretch is a corner: keep it.
                kept.extend(skipped.take());
                kept.push(place);
            }
        }
    }
    kept.extend(skipped);
    kept
}

/// Shares in percent at which the `row`-th of `rows` cumulative curves has its `count` markers: evenly spread, each curve
/// a little further than the one before.
pub fn marker_shares(count: usize, row: usize, rows: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |marker| (marker as f64 + (row as f64 + 0.5) / rows as f64) / count as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis) -> Vec<String> {
        axis.ticks(words::seconds).into_iter().flat_map(|tick| tick.label).collect()
    }

    #[test]
    fn a_linear_axis_ends_on_a_round_number() {
        assert_eq!(Axis::from_zero(87.0), Axis::Linear { from: 0.0, to: 100.0 });
        assert_eq!(Axis::from_zero(100.0), Axis::Linear { from: 0.0, to: 100.0 });
        assert_eq!(Axis::from_zero(0.0), Axis::Linear { from: 0.0, to: 1.0 });
        assert_eq!(Axis::from_zero(f64::NAN), Axis::Linear { from: 0.0, to: 1.0 });
    }

    #[test]
    fn a_narrow_logarithmic_axis_labels_1_2_5_and_a_wide_one_decades() {
        assert_eq!(
            labels(Axis::Log { from: 0.02, to: 1.0 }),
            ["20 ms", "50 ms", "100 ms", "200 ms", "500 ms", "1 s"]
        );
        assert_eq!(labels(Axis::Log { from: 0.01, to: 100.0 }), ["10 ms", "100 ms", "1 s", "10 s", "100 s"]);
        assert!(labels(Axis::Log { from: 1e-12, to: 1e15 }).len() <= 8);
    }

    #[test]
    fn a_logarithmic_axis_leaves_room_around_its_values() {
        // 30 ms and 210 ms lie within 20 ms and 500 ms.
        let axis = Axis::log_around([0.03, 0.21, 0.0, f64::NAN]);
        assert_eq!(axis, Some(Axis::Log { from: 0.02, to: 0.5 }));
        assert_eq!(Axis::log_around([0.0]), None);
    }

    #[test]
    fn values_beyond_an_axis_are_put_on_its_end() {
        let axis = Axis::Log { from: 0.1, to: 10.0 };
        assert_eq!([0.0, 0.1, 1.0, 10.0, 1e9].map(|value| axis.place(value)), [0.0, 0.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn thinning_keeps_corners_and_ends() {
        // A dense vertical rise at x = 1, then a jump: the top of the rise and the end stay.
        let rise = (0..100).map(|step| (1.0, f64::from(step) * 0.001));
        let kept = thinned(rise.chain([(50.0, 0.1), (50.1, 0.1)]), 0.75);
        assert_eq!(kept, [(1.0, 0.0), (1.0, 0.099), (50.0, 0.1), (50.1, 0.1)]);
    }
}
