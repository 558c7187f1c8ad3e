//! Quantities as people write them: a number and its unit in one string, `"70 ms"`, `"48 GiB"`, `"7 GB/s"`.
//!
//! A number without a unit is no quantity. GiB (2^30) is not GB (10^9). The decimal digits are multiplied in
//! integers and rounded once, to the nearest picosecond or byte, so `"0.1 ms"` is exactly 100,000,000 ps.
//! Knows nothing about files or keys.

use crate::units::{Bytes, BytesPerSec, SimDuration};

/// Picoseconds of each unit of time, longest first.
const TIME_UNITS: &[(&str, u128)] = &[
    ("h", 3_600_000_000_000_000),
    ("min", 60_000_000_000_000),
    ("s", 1_000_000_000_000),
    ("ms", 1_000_000_000),
    ("us", 1_000_000),
    ("µs", 1_000_000),
    ("μs", 1_000_000),
    ("ns", 1000),
    ("ps", 1),
];

/// Bytes of each unit of memory, largest first.
const BYTE_UNITS: &[(&str, u128)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

/// What a string should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// A span of time.
    Duration,
    /// An amount of memory.
    Bytes,
    /// Memory over time.
    Rate,
}

impl Dimension {
    /// What was expected, for messages.
    pub const fn expected(self) -> &'static str {
        match self {
            Dimension::Duration => "a duration with its unit, for example \"70 ms\"",
            Dimension::Bytes => "a size with its unit, for example \"48 GiB\"",
            Dimension::Rate => "a rate with its unit, for example \"25.19 GiB/s\"",
        }
    }

    /// The units it may have, for messages.
    pub const fn units(self) -> &'static str {
        match self {
            Dimension::Duration => "ps, ns, us, ms, s, min, h",
            Dimension::Bytes => "B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024)",
            Dimension::Rate => {
                "B/s, kB/s, MB/s, GB/s, TB/s (powers of 1000), KiB/s, MiB/s, GiB/s, TiB/s (powers of 1024)"
            }
        }
    }

    /// The unit put behind a bare number in a suggestion.
    const fn usual_unit(self) -> &'static str {
        match self {
            Dimension::Duration => "ms",
            Dimension::Bytes => "GiB",
            Dimension::Rate => "GiB/s",
        }
    }

    fn scale_of(self, unit: &str) -> Option<u128> {
        let (table, name) = match self {
            Dimension::Duration => (TIME_UNITS, unit),
            Dimension::Bytes => (BYTE_UNITS, unit),
            Dimension::Rate => (BYTE_UNITS, unit.strip_suffix("/s")?),
        };
        table.iter().find(|(known, _)| *known == name).map(|(_, scale)| *scale)
    }

    /// The unit that differs from `unit` only in capitals.
    fn unit_but_for_case(self, unit: &str) -> Option<String> {
        let suffix = if self == Dimension::Rate { "/s" } else { "" };
        let table = if self == Dimension::Duration { TIME_UNITS } else { BYTE_UNITS };
        let spelled = table.iter().map(|(known, _)| format!("{known}{suffix}"));
        spelled.into_iter().find(|known| known.to_lowercase() == unit.to_lowercase())
    }
}

/// A string that is not the quantity that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct BadQuantity {
    /// What was expected.
    pub expected: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl BadQuantity {
    fn new(expected: impl Into<String>, hint: impl Into<String>) -> Self {
        BadQuantity { expected: expected.into(), hint: Some(hint.into()) }
    }

    /// The error for a number that came without a unit.
    pub fn bare_number(dimension: Dimension, number: &str) -> Self {
        let hint = format!(
            "write the unit: \"{number} {}\"; units are {}",
            dimension.usual_unit(),
            dimension.units()
        );
        BadQuantity::new(dimension.expected(), hint)
    }
}

/// A duration from 0 to 213 days, to the nearest picosecond.
///
/// # Errors
/// No or another unit, negative, NaN, infinite, more than 213 days.
pub fn duration(text: &str) -> Result<SimDuration, BadQuantity> {
    let picos = magnitude(text, Dimension::Duration)?;
    u64::try_from(picos).map(SimDuration::from_picos).map_err(|_| {
        BadQuantity::new(
            "a duration of at most 213 days (2^64 ps)",
            "simulated time is an integer number of picoseconds",
        )
    })
}

/// An amount of memory, to the nearest byte, at most 2^60.
///
/// # Errors
/// No or another unit, negative, NaN, infinite, more than 2^60 bytes.
pub fn bytes(text: &str) -> Result<Bytes, BadQuantity> {
    let bytes = magnitude(text, Dimension::Bytes)?;
    if bytes > 1 << 60 {
        let hint = format!("units are {}", Dimension::Bytes.units());
        return Err(BadQuantity::new("a size of at most 2^60 bytes", hint));
    }
    Ok(Bytes::new(u64::try_from(bytes).expect("Invariant: 2^60 fits 64 bits")))
}

/// A rate, to the nearest byte per second, from 1 to 2^60.
///
/// # Errors
/// No or another unit, zero, negative, NaN, infinite, more than 2^60 bytes per second.
pub fn rate(text: &str) -> Result<BytesPerSec, BadQuantity> {
    let rate = magnitude(text, Dimension::Rate)?;
    let rate = u64::try_from(rate).ok().filter(|rate| *rate <= 1 << 60);
    rate.and_then(|rate| BytesPerSec::try_from(rate).ok()).ok_or_else(|| {
        let hint = "a link that moves nothing, or more than 2^60 bytes per second, has no meaning here";
        BadQuantity::new("a rate of at least 1 B/s and at most 2^60 B/s", hint)
    })
}

/// The quantity in its smallest unit (picoseconds, bytes, bytes per second).
fn magnitude(text: &str, dimension: Dimension) -> Result<u128, BadQuantity> {
    let trimmed = text.trim();
    let end = number_length(trimmed);
    let (number, unit) = (&trimmed[..end], trimmed[end..].trim_start());
    let units = || format!("units are {}", dimension.units());
    if number.is_empty() {
        let lower = trimmed.trim_start_matches(['-', '+']).to_ascii_lowercase();
        let expected = if trimmed.starts_with('-') && !lower.starts_with("inf") && !lower.starts_with("nan") {
            format!("{}, not negative", dimension.expected())
        } else if lower.starts_with("nan") || lower.starts_with("inf") {
            format!("{}, finite", dimension.expected())
        } else {
            dimension.expected().to_owned()
        };
        return Err(BadQuantity::new(expected, units()));
    }
    if unit.is_empty() {
        return Err(BadQuantity::bare_number(dimension, number));
    }
    let Some(scale) = dimension.scale_of(unit) else {
        let hint = match dimension.unit_but_for_case(unit) {
            Some(known) => format!("write \"{number} {known}\""),
            None => units(),
        };
        return Err(BadQuantity::new(dimension.expected(), hint));
    };
    decimal_times(number, scale)
        .ok_or_else(|| BadQuantity::new(dimension.expected(), "a number has at most 30 digits"))
}

/// Bytes at the start of `text` that spell an unsigned decimal number, `12`, `0.5`, `1e-3`.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    if whole == 0 {
        return 0;
    }
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if end + 1 + sign < bytes.len() && digits(end + 1 + sign) > 0 {
            end += 1 + sign + digits(end + 1 + sign);
        }
    }
    end
}

/// `number · scale` rounded to the nearest integer, halves up, at most 2^128 − 1; `None` beyond 30 digits.
fn decimal_times(number: &str, scale: u128) -> Option<u128> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    // An exponent too long for 32 bits says the same as the largest that is not.
    let limit = if exponent.starts_with('-') { -999 } else { 999 };
    let exponent = exponent.parse::<i32>().unwrap_or(limit).clamp(-999, 999);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    if digits.len() > 30 {
        return None;
    }
    let Some(scaled) = digits.parse::<u128>().ok()?.checked_mul(scale) else { return Some(u128::MAX) };
    let power = exponent - i32::try_from(fraction.len()).ok()?;
    Some(match (power >= 0, 10_u128.checked_pow(power.unsigned_abs())) {
        (true, Some(ten)) => scaled.saturating_mul(ten),
        (true, None) => u128::MAX,
        (false, Some(ten)) => scaled / ten + u128::from(scaled % ten >= ten.div_ceil(2)),
        (false, None) => 0,
    })
}

/// A duration in the largest unit from seconds down in which it is whole: `"240 s"`, `"100 us"`.
pub fn show_duration(span: SimDuration) -> String {
    let picos = u128::from(span.as_picos());
    let units = TIME_UNITS.iter().filter(|(name, _)| name.is_ascii() && !matches!(*name, "h" | "min"));
    show(picos, units, "s", "")
}

/// An amount of memory in the largest unit in which it is whole: `"48 GiB"`.
pub fn show_bytes(bytes: Bytes) -> String {
    show(u128::from(bytes.get()), BYTE_UNITS.iter(), "B", "")
}

/// A rate in the largest unit in which it is whole: `"7 GB/s"`.
pub fn show_rate(rate: BytesPerSec) -> String {
    show(u128::from(rate.get()), BYTE_UNITS.iter(), "B", "/s")
}

fn show<'a>(
    value: u128,
    mut units: impl Iterator<Item = &'a (&'a str, u128)>,
    zero_unit: &str,
    suffix: &str,
) -> String {
    if value == 0 {
        return format!("0 {zero_unit}{suffix}");
    }
    let (name, scale) = units
        .find(|(_, scale)| value.is_multiple_of(*scale))
        .expect("Invariant: the smallest unit divides everything");
    format!("{} {name}{suffix}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_unit_are_exact() {
        let durations = [
            ("70 ms", 70_000_000_000),
            ("70ms", 70_000_000_000),
            ("0.1 ms", 100_000_000),
            ("12 us", 12_000_000),
            ("12 µs", 12_000_000),
            ("5 s", 5_000_000_000_000),
            ("3 min", 180_000_000_000_000),
            ("1 h", 3_600_000_000_000_000),
            ("1e-3 s", 1_000_000_000),
            ("0 s", 0),
            ("1.5 ps", 2), // to the nearest, halves up
            ("1.4 ps", 1),
            ("1e-99999999999 s", 0),
            ("18446744.073709551615 s", u64::MAX),
        ];
        for (text, picos) in durations {
            assert_eq!(duration(text).map(SimDuration::as_picos), Ok(picos), "{text}");
        }
        assert_eq!(bytes("48 GiB").unwrap().get(), 48 << 30);
        assert_eq!(bytes("28 GB").unwrap().get(), 28_000_000_000);
        assert_eq!(bytes("0.5 KiB").unwrap().get(), 512);
        // 25.19 · 2^30 = 27,047,556,546.56
        assert_eq!(rate("25.19 GiB/s").unwrap().get(), 27_047_556_547);
        assert_eq!(rate("7 GB/s").unwrap().get(), 7_000_000_000);
    }

    #[test]
    fn what_is_no_quantity_says_what_was_expected() {
        let say = |error: BadQuantity| format!("{error} | {}", error.hint.clone().unwrap_or_default());
        assert_eq!(
            say(duration("70").unwrap_err()),
            "expected a duration with its unit, for example \"70 ms\" | write the unit: \"70 ms\"; units are ps, \
             ns, us, ms, s, min, h"
        );
        assert!(say(duration("70 GiB").unwrap_err()).contains("units are ps"));
        assert!(say(duration("-1 s").unwrap_err()).contains("not negative"));
        assert!(say(bytes("48 gib").unwrap_err()).ends_with("write \"48 GiB\""));
        for text in ["", "NaN s", "inf", "-inf s", "s", "1 s s", "1..2 s", "0x10 s", "1_000 s", "٣ s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        for text in
            ["214 h h", "18446744.073709551616 s", "1e30 s", "1e31 ps", "999999999999999999999999999999999 s"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
        for text in ["48", "48 s", "48 GiB/s", "1e30 B", "2000000 TiB"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
        for text in ["7", "7 GB", "0 B/s", "0.4 B/s", "7 /s", "1e20 B/s"] {
            assert!(rate(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for picos in [0, 1, 1500, 100_000_000, 70_000_000_000, 240_000_000_000_000, u64::MAX] {
            let span = SimDuration::from_picos(picos);
            assert_eq!(duration(&show_duration(span)), Ok(span), "{}", show_duration(span));
        }
        assert_eq!(show_duration(SimDuration::from_secs(240)), "240 s");
        assert_eq!(show_bytes(Bytes::new(48 << 30)), "48 GiB");
        assert_eq!(show_bytes(Bytes::new(28_000_000_000)), "28 GB");
        assert_eq!(show_rate(BytesPerSec::try_from(7_000_000_000).unwrap()), "7 GB/s");
    }
}
