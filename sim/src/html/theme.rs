//! Colours as CSS variables: those of the plots on paper, lighter ones of the same hue on a dark screen.

use std::fmt::Write as _;

use super::Shown;
use crate::plot::canvas::RGBColor;
use crate::plot::style::{BLOCKS, PAUSED, RUNNING, STALL, WAITING};

/// Dark page, as in `page.css`.
const DARK: RGBColor = RGBColor(0x14, 0x18, 0x1C);
/// Lines and marks stand out from the page by this ratio at least (WCAG 2.2, 1.4.11 asks for 3).
const LEAST_CONTRAST: f64 = 4.0;
/// Channels nearer to each other than this are a grey.
const GREY: u8 = 16;

/// States, by the name of their variable.
const STATES: [(&str, RGBColor); 5] =
    [("run", RUNNING), ("pause", PAUSED), ("wait", WAITING), ("blocks", BLOCKS), ("stall", STALL)];
/// On a dark page what is less important is darker, not lighter.
const WAITING_IN_THE_DARK: RGBColor = RGBColor(0x4C, 0x57, 0x60);

/// The variables `--p0`, `--p1`, … of the policies and those of the states, for light, dark and print.
pub fn variables(policies: &[Shown<'_>]) -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    let policies = policies.iter().map(|shown| (format!("p{}", shown.index), shown.style.color));
    let states = STATES.iter().map(|(name, color)| ((*name).to_owned(), *color));
    for (name, color) in policies.chain(states) {
        let in_the_dark = if name == "wait" { WAITING_IN_THE_DARK } else { lifted(color) };
        let _ = write!(light, "--{name}:{};", hex(color));
        let _ = write!(dark, "--{name}:{};", hex(in_the_dark));
    }
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A grey is turned around; a colour takes as much white as it needs.
fn lifted(color: RGBColor) -> RGBColor {
    let RGBColor(red, green, blue) = color;
    let (low, high) = (red.min(green).min(blue), red.max(green).max(blue));
    let start = if high - low < GREY { RGBColor(255 - red, 255 - green, 255 - blue) } else { color };
    let mixed = |parts: u16| {
        let mix = |channel: u8| {
            let channel = u16::from(channel);
            u8::try_from(channel + (255 - channel) * parts / 20).unwrap_or(u8::MAX)
        };
        RGBColor(mix(start.0), mix(start.1), mix(start.2))
    };
    (0..20)
        .map(mixed)
        .find(|color| contrast(*color, DARK) >= LEAST_CONTRAST)
        .unwrap_or(RGBColor(255, 255, 255))
}

/// Contrast ratio of WCAG 2.2: `(L1 + 0.05) / (L2 + 0.05)` of the relative luminances.
fn contrast(one: RGBColor, other: RGBColor) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// Relative luminance of WCAG 2.2.
fn luminance(RGBColor(red, green, blue): RGBColor) -> f64 {
    let linear = |channel: u8| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { libm::pow((share + 0.055) / 1.055, 2.4) }
    };
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_is_that_of_the_standard() {
        // Black on white is 21 to 1; #767676 on white is the well-known 4.54.
        let white = RGBColor(255, 255, 255);
        assert!((contrast(RGBColor(0, 0, 0), white) - 21.0).abs() < 1e-9);
        assert!((contrast(RGBColor(0x76, 0x76, 0x76), white) - 4.54).abs() < 0.01);
    }

    #[test]
    fn every_policy_stands_out_from_a_dark_page() {
        let keys =
            ["orbitflow", "resident", "static-1", "static-8", "flexgen", "uniform-td-pr", "oracle", "mine"];
        let colors: Vec<RGBColor> =
            crate::plot::style::styles(keys).iter().map(|style| lifted(style.color)).collect();
        for (index, color) in colors.iter().enumerate() {
            assert!(contrast(*color, DARK) >= LEAST_CONTRAST, "{}", keys[index]);
            assert!(!colors[..index].contains(color), "{}", keys[index]);
        }
        // Black is white in the dark.
        assert_eq!(colors[1], RGBColor(255, 255, 255));
    }
}
