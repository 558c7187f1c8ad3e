//! Values of one JSON object or one CSV row, read with a message that names file, line, key and value.
//!
//! JSON values are kept as the text that stands in the file, so that seconds become picoseconds exactly and a
//! message shows what the user wrote. Knows no format's keys.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::decimal::{EXPECTED_SECONDS, parse_seconds};
use super::error::{Place, Spot, TraceError};
use crate::units::SimDuration;

/// The most tokens that a prompt or an output may have: far beyond any model, far below overflow.
pub const MAX_TOKENS: u64 = 1_000_000_000;

/// One JSON object: its keys and the text of their values, in the order of the file.
pub struct Fields<'a> {
    entries: Vec<(String, &'a RawValue)>,
    place: Place<'a>,
}

impl<'a> Fields<'a> {
    /// Splits the object that `text` is.
    ///
    /// # Errors
    /// [`TraceError::Json`] if it is no complete JSON object.
    pub fn parse(text: &'a str, place: Place<'a>) -> Result<Self, TraceError> {
        let mut parser = serde_json::Deserializer::from_str(text);
        let entries = parser
            .deserialize_map(Entries)
            .and_then(|entries| parser.end().map(|()| entries))
            .map_err(|error| TraceError::Json { place: place.to_string(), reason: error.to_string() })?;
        Ok(Fields { entries, place })
    }

    /// The keys and the text of their values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.get()))
    }

    /// The text of a value; `None` if the key is absent or its value null. The last of equal keys counts.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let entry = self.entries.iter().rev().find(|(name, _)| name == key);
        entry.map(|(_, value)| value.get()).filter(|&text| text != "null")
    }

    /// The text of a value that must be there.
    pub fn required(&self, key: &str, expected: &str) -> Result<&'a str, TraceError> {
        self.text(key).ok_or_else(|| TraceError::MissingKey {
            place: self.place.to_string(),
            key: key.into(),
            expected: expected.into(),
        })
    }

    /// A number of tokens that must be there, at least `least`.
    pub fn tokens(&self, key: &str, least: u64) -> Result<u64, TraceError> {
        tokens(self.required(key, &expected_tokens(least))?, key, least, self.place)
    }

    /// A number of seconds, if it is there.
    pub fn seconds(&self, key: &str) -> Result<Option<SimDuration>, TraceError> {
        self.text(key).map(|text| seconds(text, key, self.place)).transpose()
    }

    /// A whole number up to `most`, if it is there.
    pub fn whole(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, TraceError> {
        self.text(key)
            .map(|text| {
                parse_whole(text)
                    .filter(|number| (least..=most).contains(number))
                    .ok_or_else(|| self.bad(key, text, &format!("a whole number from {least} to {most}")))
            })
            .transpose()
    }

    /// Refuses a value.
    pub fn bad(&self, key: &str, value: &str, expected: &str) -> TraceError {
        bad_value(key, value, expected, self.place)
    }

    /// Refuses keys that are not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), TraceError> {
        for (index, (key, _)) in self.entries.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(TraceError::UnknownKey {
                    place: self.place.to_string(),
                    key: key.clone(),
                    known: known.join(", "),
                    nearest: nearest(key, known),
                });
            }
            if self.entries[..index].iter().any(|(earlier, _)| earlier == key) {
                return Err(self.bad(key, "given twice", "every key once"));
            }
        }
        Ok(())
    }
}

/// The known key nearest to an unknown one, if it is near enough to be meant.
pub(super) fn nearest(key: &str, known: &[&str]) -> Option<String> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(candidate, key);
    let best = known.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= 2 + best.len() / 4).then(|| (*best).to_owned())
}

/// A number of tokens from text.
pub fn tokens(text: &str, key: &str, least: u64, place: Place<'_>) -> Result<u64, TraceError> {
    parse_whole(text)
        .filter(|number| (least..=MAX_TOKENS).contains(number))
        .ok_or_else(|| bad_value(key, text, &expected_tokens(least), place))
}

/// A number of seconds from text.
pub fn seconds(text: &str, key: &str, place: Place<'_>) -> Result<SimDuration, TraceError> {
    parse_seconds(text).ok_or_else(|| bad_value(key, text, EXPECTED_SECONDS, place))
}

/// Refuses a value. Long ones are cut.
pub fn bad_value(key: &str, value: &str, expected: &str, place: Place<'_>) -> TraceError {
    let shown: String = value.chars().take(60).collect();
    let value = match shown.as_str() {
        "" => "empty".to_owned(),
        _ if shown.len() < value.len() => format!("{shown}…"),
        _ => shown,
    };
    TraceError::Value { place: place.to_string(), key: key.into(), value, expected: expected.into() }
}

fn expected_tokens(least: u64) -> String {
    format!("a whole number of tokens from {least} to {MAX_TOKENS}")
}

/// A whole number, also where it is written as `12.0`.
pub fn parse_whole(text: &str) -> Option<u64> {
    let digits = text.split_once('.').map_or(Some(text), |(whole, fraction)| {
        (!fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0')).then_some(whole)
    })?;
    // `parse` would also take a plus sign.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The lines of a text with their places, blank ones left out.
pub fn lines<'a>(file: &'a str, text: &'a str) -> impl Iterator<Item = (Place<'a>, &'a str)> {
    text.lines()
        .zip(1..)
        .filter(|(line, _)| !line.trim().is_empty())
        .map(move |(line, number)| (Place { file, spot: Spot::Line(number) }, line))
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// A CSV table with the columns of `N` names picked out.
pub struct Table<'a, const N: usize> {
    records: csv::Reader<&'a [u8]>,
    places: [usize; N],
    columns: [&'static str; N],
    file: &'a str,
}

/// The cells of one row that a reader asked for, in its order.
pub struct Cells<'a, const N: usize> {
    /// Where the row stands.
    pub place: Place<'a>,
    values: [String; N],
    columns: [&'static str; N],
}

impl<'a, const N: usize> Table<'a, N> {
    /// Reads the header line. Line ends may be LF or CRLF; the last may be missing.
    pub fn open(file: &'a str, text: &'a str, columns: [&'static str; N]) -> Result<Self, TraceError> {
        let place = Place { file, spot: Spot::Line(1) };
        let mut records = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let header = records.headers().map_err(|error| csv_error(place, &error))?.clone();
        let mut places = [0; N];
        for (slot, column) in places.iter_mut().zip(columns) {
            *slot =
                header.iter().position(|name| name == column).ok_or_else(|| TraceError::MissingColumn {
                    place: place.to_string(),
                    column,
                    found: header.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
                })?;
        }
        Ok(Table { records, places, columns, file })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Cells<'a, N>>, TraceError> {
        let mut record = csv::StringRecord::new();
        let more = self.records.read_record(&mut record).map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            csv_error(Place { file: self.file, spot: Spot::Line(line) }, &error)
        })?;
        if !more {
            return Ok(None);
        }
        let line = record.position().map_or(0, csv::Position::line);
        let values = self.places.map(|column| record.get(column).unwrap_or("").to_owned());
        Ok(Some(Cells {
            place: Place { file: self.file, spot: Spot::Line(line) },
            values,
            columns: self.columns,
        }))
    }
}

impl<const N: usize> Cells<'_, N> {
    /// The text of the cell, empty if there is nothing.
    pub fn text(&self, index: usize) -> &str {
        &self.values[index]
    }

    /// A number of tokens. Zero is allowed: such rows are skipped and counted.
    pub fn tokens(&self, index: usize) -> Result<u64, TraceError> {
        tokens(self.text(index), self.columns[index], 0, self.place)
    }

    /// A number of seconds, `None` for an empty cell.
    pub fn seconds(&self, index: usize) -> Result<Option<SimDuration>, TraceError> {
        let text = self.text(index);
        if text.is_empty() { Ok(None) } else { seconds(text, self.columns[index], self.place).map(Some) }
    }

    /// Refuses a cell.
    pub fn bad(&self, index: usize, expected: &str) -> TraceError {
        bad_value(self.columns[index], self.text(index), expected, self.place)
    }
}

fn csv_error(place: Place<'_>, error: &csv::Error) -> TraceError {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns: expected {expected_len}, as in the header")
        }
        _ => error.to_string(),
    };
    TraceError::Csv { place: place.to_string(), reason }
}
