//! Plain tables of lengths, as vidur, etalon and vattention publish them: CSV with `num_prefill_tokens` and
//! `num_decode_tokens`. They say nothing about arrivals, which are drawn by a process that the user names.

use super::error::TraceError;
use super::fields::Table;
use super::rows::{IfUndated, Row, RowArrival, Rows};

/// Reads a table.
///
/// # Errors
/// Whatever is wrong with a row, with its line.
pub fn read(file: &str, text: &str) -> Result<Rows, TraceError> {
    let mut table = Table::open(file, text, ["num_prefill_tokens", "num_decode_tokens"])?;
    let mut rows: Vec<Row> = Vec::new();
    while let Some(cells) = table.next()? {
        let id = rows.len().to_string();
        rows.push(Row::new(id, RowArrival::Undated, cells.tokens(0)?, cells.tokens(1)?));
    }
    Ok(Rows { rows, if_undated: IfUndated::Refuse, ..Rows::default() })
}
