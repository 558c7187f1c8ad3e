//! Seconds in decimal text to picoseconds and back, exactly.
//!
//! A stamp such as `12729.0319601` has more digits than `f64` seconds can hold to the picosecond over days, and
//! a trace that is written and read again must be the same trace. So text becomes picoseconds by whole-number
//! arithmetic, rounding to the nearest only below a picosecond.

use crate::units::{PICOS_PER_SEC, SimDuration};

/// Decimal digits in a picosecond.
const PICO_DIGITS: i64 = 12;

/// What a duration in seconds may be, for messages.
pub const EXPECTED_SECONDS: &str = "a number of seconds from 0 to 18446744 (213 days)";

/// Reads a plain or scientific decimal number of seconds. `None` for anything else, for a negative number, and
/// for more than 213 days.
pub fn parse_seconds(text: &str) -> Option<SimDuration> {
    parse_scaled(text, PICO_DIGITS).map(SimDuration::from_picos)
}

/// As [`parse_seconds`], for a number of milliseconds.
pub fn parse_milliseconds(text: &str) -> Option<SimDuration> {
    parse_scaled(text, PICO_DIGITS - 3).map(SimDuration::from_picos)
}

/// The number times 10^`shift`, to the nearest whole number.
fn parse_scaled(text: &str, shift: i64) -> Option<u64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut digits: u128 = 0;
    let mut power = i64::from(exponent) + shift - i64::try_from(fraction.len()).ok()?;
    for byte in whole.bytes().chain(fraction.bytes()) {
        // 36 digits are kept: far below a picosecond in 213 days, and ten times them still fits.
        if digits < 10_u128.pow(35) {
            digits = digits * 10 + u128::from(byte - b'0');
        } else {
            power += 1;
        }
    }
    let scaled = if digits == 0 {
        0
    } else if power >= 0 {
        digits.checked_mul(10_u128.checked_pow(u32::try_from(power).ok()?)?)?
    } else {
        let divisor = u32::try_from(-power).ok().and_then(|power| 10_u128.checked_pow(power));
        divisor.map_or(0, |divisor| digits / divisor + u128::from(digits % divisor >= divisor.div_ceil(2)))
    };
    if negative && scaled != 0 { None } else { u64::try_from(scaled).ok() }
}

/// Writes a span as decimal seconds: every digit there is, none that says nothing.
pub fn format_seconds(span: SimDuration) -> String {
    let (whole, picos) = (span.as_picos() / PICOS_PER_SEC, span.as_picos() % PICOS_PER_SEC);
    if picos == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{picos:012}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_becomes_picoseconds_without_going_through_a_float() {
        for (text, picos) in [
            ("0", 0),
            ("-0.0", 0),
            ("0.000000000001", 1),
            ("12729.0319601", 12_729_031_960_100_000),
            ("1e3", 1_000_000_000_000_000),
            ("2.5E-3", 2_500_000_000),
            // 2^64 − 1 ps
            ("18446744.073709551615", u64::MAX),
            // Half a picosecond rounds up, less rounds down.
            ("0.0000000000005", 1),
            ("0.00000000000049", 0),
            ("1e-400", 0),
        ] {
            assert_eq!(parse_seconds(text).map(SimDuration::as_picos), Some(picos), "{text}");
        }
        assert_eq!(parse_milliseconds("3000").unwrap(), SimDuration::from_secs(3));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-",
            ".",
            ".5",
            "-1",
            "-1e-12",
            "NaN",
            "inf",
            "1e9",
            "18446744.073709551616",
            "1e999",
            "1_0",
            "\"1\"",
        ] {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_to_the_picosecond(picos in any::<u64>()) {
            let span = SimDuration::from_picos(picos);
            prop_assert_eq!(parse_seconds(&format_seconds(span)), Some(span));
        }
    }
}
