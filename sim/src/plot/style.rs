//! One colour, one marker and one dash pattern per policy, the same in every figure.
//!
//! Known keys have a fixed look, so that two results can be laid side by side. The colours of the policies that
//! are compared most are those of Okabe and Ito (2008), chosen to stay apart for the colour-blind; yellow is left
//! out because it vanishes on white. Related policies have related colours. Marker and dashes carry the
//! difference in grey print. Unknown keys take the next free look in the order of the results.

use super::canvas::{Canvas, PAPER, Point, RGBColor};

/// Outline of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Round.
    Circle,
    /// Axis-parallel.
    Square,
    /// On its point.
    Diamond,
    /// Triangle.
    Up,
    /// Triangle.
    Down,
    /// Triangle.
    Left,
    /// Triangle.
    Right,
    /// Five corners.
    Pentagon,
    /// `+`, drawn in lines.
    Plus,
    /// `×`, drawn in lines.
    Cross,
    /// Both, drawn in lines.
    Star,
}

/// A marker on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Outline.
    pub shape: Shape,
    /// Filled with the colour, or with paper.
    pub filled: bool,
}

/// How a policy looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyStyle {
    /// Of line, marker and bar.
    pub color: RGBColor,
    /// On the line.
    pub marker: Marker,
    /// Alternating dash and gap in pixels; empty is solid.
    pub dashes: &'static [f64],
    /// Of the line, in pixels.
    pub width: f64,
}

const SOLID: &[f64] = &[];
const LONG: &[f64] = &[11.0, 4.0];
const SHORT: &[f64] = &[5.0, 3.0];
const DOTTED: &[f64] = &[2.0, 3.0];
const DASH_DOT: &[f64] = &[9.0, 3.0, 2.0, 3.0];
const DASH_DOT_DOT: &[f64] = &[9.0, 3.0, 2.0, 3.0, 2.0, 3.0];
const LONG_SHORT: &[f64] = &[13.0, 3.0, 5.0, 3.0];

// States, not policies; dark to light, so that they stay apart in grey print.
/// Requests in the step.
pub const RUNNING: RGBColor = RGBColor(0x00, 0x5A, 0x8C);
/// Live requests held back.
pub const PAUSED: RGBColor = RGBColor(0xE6, 0x7E, 0x00);
/// Requests without a slot.
pub const WAITING: RGBColor = RGBColor(0xC9, 0xD3, 0xDA);
/// GPU memory in use.
pub const BLOCKS: RGBColor = RGBColor(0x6F, 0x8F, 0xA6);
/// Compute waiting for copies.
pub const STALL: RGBColor = RGBColor(0xB0, 0x2A, 0x2A);

/// Width of every line but ORBITFLOW's.
const PLAIN_WIDTH: f64 = 1.75;
/// ORBITFLOW is what the others are compared with.
const PROMINENT_WIDTH: f64 = 3.25;

/// Key, colour, marker, filled, dashes.
type Known = (&'static str, (u8, u8, u8), Shape, bool, &'static [f64]);

#[rustfmt::skip]
const KNOWN: [Known; 17] = [
    ("orbitflow",             (0xD5, 0x5E, 0x00), Shape::Circle,   true,  SOLID),        // vermillion
    ("resident",              (0x00, 0x00, 0x00), Shape::Square,   false, SOLID),        // black
    ("next-layer",            (0xCC, 0x79, 0xA7), Shape::Cross,    false, SHORT),        // reddish purple
    ("static-1",              (0x00, 0x72, 0xB2), Shape::Up,       true,  LONG),         // blue
    ("static-2",              (0x56, 0xB4, 0xE9), Shape::Diamond,  true,  DOTTED),       // sky blue
    ("static-4",              (0x00, 0x9E, 0x73), Shape::Square,   true,  DASH_DOT),     // bluish green
    ("static-8",              (0x80, 0x80, 0x80), Shape::Pentagon, true,  LONG_SHORT),
    ("heuristic",             (0xE6, 0x9F, 0x00), Shape::Down,     true,  DASH_DOT_DOT), // orange
    ("flexgen",               (0x00, 0x3F, 0x6B), Shape::Up,       false, SOLID),
    ("selectn",               (0x80, 0x70, 0x00), Shape::Diamond,  false, LONG),
    ("uniform",               (0x6A, 0x3D, 0x9A), Shape::Left,     true,  LONG_SHORT),
    ("uniform-td",            (0x9A, 0x78, 0xC4), Shape::Left,     false, SHORT),
    ("uniform-td-pr",         (0x45, 0x1F, 0x70), Shape::Right,    true,  DASH_DOT),
    ("orbitflow-no-deposit",  (0xEE, 0x8F, 0x55), Shape::Circle,   false, LONG),
    ("orbitflow-no-pause",    (0xA3, 0x3B, 0x00), Shape::Plus,     false, DASH_DOT),
    ("orbitflow-no-feedback", (0x70, 0x28, 0x00), Shape::Star,     false, SHORT),
    ("oracle",                (0x40, 0x40, 0x40), Shape::Right,    false, DOTTED),
];

const FREE_COLORS: [(u8, u8, u8); 5] =
    [(0xB0, 0x2A, 0x5B), (0x1B, 0x7F, 0x9E), (0x8A, 0x5A, 0x2B), (0x4D, 0x7D, 0x1F), (0x5B, 0x5B, 0xA8)];
const FREE_MARKERS: [Marker; 3] = [
    Marker { shape: Shape::Pentagon, filled: false },
    Marker { shape: Shape::Down, filled: false },
    Marker { shape: Shape::Cross, filled: false },
];
const FREE_DASHES: [&[f64]; 4] = [SOLID, LONG_SHORT, DASH_DOT, SHORT];

/// The look of each policy, in the order of `keys`. Up to 15 unknown keys differ in colour or marker.
pub fn styles<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<PolicyStyle> {
    let mut unknown = 0;
    keys.into_iter()
        .map(|key| {
            known(key).unwrap_or_else(|| {
                unknown += 1;
                free(unknown - 1)
            })
        })
        .collect()
}

fn known(key: &str) -> Option<PolicyStyle> {
    let (key, (r, g, b), shape, filled, dashes) = *KNOWN.iter().find(|entry| entry.0 == key)?;
    let width = if key == "orbitflow" { PROMINENT_WIDTH } else { PLAIN_WIDTH };
    Some(PolicyStyle { color: RGBColor(r, g, b), marker: Marker { shape, filled }, dashes, width })
}

fn free(index: usize) -> PolicyStyle {
    let (r, g, b) = FREE_COLORS[index % FREE_COLORS.len()];
    PolicyStyle {
        color: RGBColor(r, g, b),
        marker: FREE_MARKERS[index % FREE_MARKERS.len()],
        dashes: FREE_DASHES[index % FREE_DASHES.len()],
        width: PLAIN_WIDTH,
    }
}

impl PolicyStyle {
    /// Whether the policy is drawn above all others.
    pub fn is_prominent(&self) -> bool {
        self.width > PLAIN_WIDTH
    }

    /// Draws the line through `points`.
    pub fn draw_line(&self, canvas: &mut Canvas<'_>, points: &[Point]) {
        canvas.dashed_path(points, self.color, self.width, self.dashes);
    }

    /// Draws the marker at `at`.
    pub fn draw_marker(&self, canvas: &mut Canvas<'_>, at: Point) {
        let radius = if self.is_prominent() { 5.5 } else { 4.75 };
        let around = |corners: &[Point]| -> Vec<Point> {
            corners.iter().map(|corner| (at.0 + radius * corner.0, at.1 + radius * corner.1)).collect()
        };
        match outline(self.marker.shape) {
            Outline::Round => {
                canvas.disc(at, radius, self.color);
                if !self.marker.filled {
                    canvas.disc(at, radius - 1.75, PAPER);
                }
            }
            Outline::Corners(corners) => {
                let mut corners = around(corners);
                canvas.polygon(&corners, if self.marker.filled { self.color } else { PAPER });
                corners.extend_from_within(..2);
                canvas.path(&corners, self.color, 1.75);
            }
            Outline::Strokes(strokes) => {
                for stroke in strokes {
                    canvas.path(&around(stroke), self.color, 2.0);
                }
            }
        }
    }

    /// Draws a sample of line and marker, `width` pixels from `left`, as legends show it.
    pub fn draw_sample(&self, canvas: &mut Canvas<'_>, left: Point, width: f64) {
        self.draw_line(canvas, &[left, (left.0 + width, left.1)]);
        self.draw_marker(canvas, (left.0 + width / 2.0, left.1));
    }
}

/// How a marker is drawn, in units of its radius; y points down.
pub enum Outline {
    /// A circle.
    Round,
    /// A polygon.
    Corners(&'static [Point]),
    /// Lines.
    Strokes(&'static [[Point; 2]]),
}

/// The outline of a shape.
pub fn outline(shape: Shape) -> Outline {
    const PLUS: [[Point; 2]; 2] = [[(-1.1, 0.0), (1.1, 0.0)], [(0.0, -1.1), (0.0, 1.1)]];
    const CROSS: [[Point; 2]; 2] = [[(-0.9, -0.9), (0.9, 0.9)], [(-0.9, 0.9), (0.9, -0.9)]];
    const STAR: [[Point; 2]; 4] = [PLUS[0], PLUS[1], CROSS[0], CROSS[1]];
    match shape {
        Shape::Circle => Outline::Round,
        Shape::Square => Outline::Corners(&[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),
        Shape::Diamond => Outline::Corners(&[(0.0, -1.15), (1.15, 0.0), (0.0, 1.15), (-1.15, 0.0)]),
        Shape::Up => Outline::Corners(&[(0.0, -1.1), (1.05, 0.8), (-1.05, 0.8)]),
        Shape::Down => Outline::Corners(&[(0.0, 1.1), (1.05, -0.8), (-1.05, -0.8)]),
        Shape::Left => Outline::Corners(&[(-1.1, 0.0), (0.8, -1.05), (0.8, 1.05)]),
        Shape::Right => Outline::Corners(&[(1.1, 0.0), (-0.8, -1.05), (-0.8, 1.05)]),
        Shape::Pentagon => {
            Outline::Corners(&[(0.0, -1.1), (1.05, -0.34), (0.65, 0.89), (-0.65, 0.89), (-1.05, -0.34)])
        }
        Shape::Plus => Outline::Strokes(&PLUS),
        Shape::Cross => Outline::Strokes(&CROSS),
        Shape::Star => Outline::Strokes(&STAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_known_policies_share_a_colour_or_a_marker() {
        let looks = styles(KNOWN.iter().map(|entry| entry.0));
        for (index, look) in looks.iter().enumerate() {
            for other in &looks[..index] {
                assert_ne!(look.color, other.color);
                assert_ne!(look.marker, other.marker);
            }
        }
    }

    #[test]
    fn a_known_policy_looks_the_same_in_any_company() {
        let alone = styles(["static-2"])[0];
        let among = styles(["mine", "orbitflow", "static-2", "yours"])[2];
        assert_eq!(alone, among);
    }

    #[test]
    fn fifteen_unknown_policies_differ_in_colour_or_marker() {
        let keys: Vec<String> = (0..15).map(|index| format!("mine-{index}")).collect();
        let looks = styles(keys.iter().map(String::as_str));
        for (index, look) in looks.iter().enumerate() {
            for other in &looks[..index] {
                assert!(look.color != other.color || look.marker != other.marker);
            }
        }
    }

    #[test]
    fn only_orbitflow_is_prominent() {
        let prominent: Vec<&str> = KNOWN
            .iter()
            .map(|entry| entry.0)
            .filter(|key| known(key).is_some_and(|look| look.is_prominent()))
            .collect();
        assert_eq!(prominent, ["orbitflow"]);
    }
}
