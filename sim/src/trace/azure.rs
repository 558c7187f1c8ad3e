//! Azure's LLM inference traces: CSV with `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! Stamps are wall clock in UTC with 100 ns digits; arrivals are counted from the earliest row. Lines end in
//! CRLF and the last has no end. Source: Azure/AzurePublicDataset.

use super::error::TraceError;
use super::fields::Table;
use super::rows::{Row, RowArrival, Rows};
use crate::units::{PICOS_PER_SEC, SimTime};

const STAMP: &str = "a UTC time like `2023-11-16 18:17:03.9799600`";

/// Reads a trace.
///
/// # Errors
/// Whatever is wrong with a row, with its line.
pub fn read(file: &str, text: &str) -> Result<Rows, TraceError> {
    let mut table = Table::open(file, text, ["TIMESTAMP", "ContextTokens", "GeneratedTokens"])?;
    let mut stamped = Vec::new();
    while let Some(cells) = table.next()? {
        let stamp = stamp(cells.text(0)).ok_or_else(|| cells.bad(0, STAMP))?;
        stamped.push((stamp, cells.tokens(1)?, cells.tokens(2)?));
    }
    let first = stamped.iter().map(|(stamp, ..)| *stamp).min().unwrap_or(0);
    let mut rows = Vec::with_capacity(stamped.len());
    for (index, (stamp, prompt, output)) in stamped.into_iter().enumerate() {
        let id = index.to_string();
        let since_first = u64::try_from(stamp - first)
            .map_err(|_| TraceError::TooLate { file: file.into(), id: id.clone() })?;
        rows.push(Row::new(id, RowArrival::At(SimTime::from_picos(since_first)), prompt, output));
    }
    Ok(Rows { rows, ..Rows::default() })
}

/// Picoseconds since the year 0 of `YYYY-MM-DD hh:mm:ss[.digits]`, also with `T`, `Z` or `+00:00`.
fn stamp(text: &str) -> Option<u128> {
    let text = text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    let (date, clock) = text.split_once([' ', 'T'])?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(clock, ':')?;
    let valid = year <= 9999
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid
        || fraction.is_empty()
        || fraction.len() > 12
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let picos: u128 = format!("{fraction:0<12}").parse().ok()?;
    let seconds = ((day_number(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(u128::from(seconds) * u128::from(PICOS_PER_SEC) + picos)
}

fn three(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(super::fields::parse_whole);
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the first day of the year 0 in the Gregorian calendar.
fn day_number(year: u64, month: u64, day: u64) -> u64 {
    // Years 0 to year − 1: one leap day every 4, none every 100, one every 400; the year 0 is a leap year.
    let leap_days = year.div_ceil(4) - year.div_ceil(100) + year.div_ceil(400);
    let before_month: u64 = (1..month).map(|earlier| days_in_month(year, earlier)).sum();
    365 * year + leap_days + before_month + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds_between(earlier: &str, later: &str) -> f64 {
        (stamp(later).unwrap() - stamp(earlier).unwrap()) as f64 / PICOS_PER_SEC as f64
    }

    #[test]
    fn stamps_cross_midnights_months_and_leap_days() {
        assert_eq!(seconds_between("2023-11-16 23:59:59.5", "2023-11-17 00:00:00.0000001"), 0.500_000_1);
        assert_eq!(seconds_between("2024-02-28 00:00:00", "2024-03-01T00:00:00Z"), 2.0 * 86_400.0);
        assert_eq!(seconds_between("2023-02-28 00:00:00", "2023-03-01 00:00:00+00:00"), 86_400.0);
        // 1900 was no leap year, 2000 was: 36,524 days in the century before 2000-01-01, 36,525 in the next.
        assert_eq!(seconds_between("1900-01-01 00:00:00", "2000-01-01 00:00:00"), 36_524.0 * 86_400.0);
        assert_eq!(seconds_between("2000-01-01 00:00:00", "2100-01-01 00:00:00"), 36_525.0 * 86_400.0);
    }

    #[test]
    fn what_is_no_stamp_is_refused() {
        for text in [
            "",
            "now",
            "2023-13-01 00:00:00",
            "2023-02-29 00:00:00",
            "2023-11-16",
            "2023-11-16 24:00:00",
            "2023-11-16 18:15",
            "2023-11-16 18:15:46.",
            "2023-11-16 18:15:-6",
        ] {
            assert_eq!(stamp(text), None, "{text}");
        }
    }
}
