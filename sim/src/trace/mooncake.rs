//! Mooncake's traces (FAST'25): JSON Lines with `timestamp` in ms, `input_length`, `output_length`, `hash_ids`.
//!
//! The conversation and tool traces stamp arrivals every 3.0 s, about ten requests a stamp, which would read as
//! bursts. A file in which no two stamps are nearer than 2.5 s is such a grid: each row is spread evenly over
//! the 3 s from its stamp, by a draw of its own. The synthetic trace has stamps to the millisecond and stays as
//! it is.
//!
//! `hash_ids` (shared prefix blocks) are not used: there is no prefix cache.

use super::decimal::{EXPECTED_SECONDS, parse_milliseconds};
use super::error::TraceError;
use super::fields::{Fields, lines};
use super::rows::{Row, RowArrival, Rows, whole_microseconds};
use crate::random::{self, Stream};
use crate::units::{SimDuration, SimTime};

/// The upstream grid of stamps, in seconds.
const GRID_SECONDS: f64 = 3.0;

/// Stamps are a grid if none are nearer than this; upstream's are 2,997 to 3,003 ms apart.
const NEAREST_ON_GRID: SimDuration = SimDuration::from_picos(2_500_000_000_000);

/// Reads a trace; `seed` spreads a grid of stamps.
///
/// # Errors
/// Whatever is wrong with a line, with its number.
pub fn read(file: &str, text: &str, seed: u64) -> Result<Rows, TraceError> {
    let mut stamps = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for (place, line) in lines(file, text) {
        let fields = Fields::parse(line, place)?;
        let text = fields.required("timestamp", "milliseconds from the start")?;
        let expected = format!("{EXPECTED_SECONDS}, in milliseconds");
        let stamp = parse_milliseconds(text).ok_or_else(|| fields.bad("timestamp", text, &expected))?;
        stamps.push(SimTime::ZERO + stamp);
        let (prompt, output) = (fields.tokens("input_length", 0)?, fields.tokens("output_length", 0)?);
        rows.push(Row::new(rows.len().to_string(), RowArrival::Undated, prompt, output));
    }
    let mut notes = Vec::new();
    if is_grid(&stamps) {
        let mut generator = random::sequence(seed, Stream::StampSpreading);
        for (stamp, row) in stamps.iter_mut().zip(&rows) {
            let offset = whole_microseconds(GRID_SECONDS * random::uniform(&mut generator))
                .expect("Invariant: three seconds are a time");
            let picos = stamp.as_picos().checked_add(offset.as_picos());
            *stamp = picos
                .map(SimTime::from_picos)
                .ok_or_else(|| TraceError::TooLate { file: file.into(), id: row.id.clone() })?;
        }
        notes
            .push(format!("arrivals are stamped every 3 s: each is spread evenly over its 3 s, seed {seed}"));
    }
    for (row, stamp) in rows.iter_mut().zip(stamps) {
        row.arrival = RowArrival::At(stamp);
    }
    Ok(Rows { rows, notes, repeats_prefixes: true, ..Rows::default() })
}

fn is_grid(stamps: &[SimTime]) -> bool {
    let mut distinct = stamps.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.len() > 1 && distinct.windows(2).all(|pair| pair[1].since(pair[0]) >= NEAREST_ON_GRID)
}
