//! The trace format of the OrbitFlow authors (facts G.1): one JSON object, arrivals in engine steps, and the
//! server it was made for. Read and written.
//!
//! `requests` maps names, `request_7` or `7`, to `input_length`, `output_length`, `arrival_time`. Requests of
//! equal arrival are taken in the numeric order of their names. `category`, `sched_time`, `wait_time`, `vocab`
//! and other keys are ignored: the published runner ignores them too. `max_model_len` becomes a hint, never a
//! filter.

use std::fmt::Write as _;

use super::error::{Place, Spot, TraceError};
use super::fields::Fields;
use super::jsonl::MAX_STEP;
use super::rows::{Row, RowArrival, Rows};
use super::{Arrival, Trace, TraceHints};
use crate::units::blocks_for_tokens;

/// More GPU blocks than any machine has.
const MAX_BLOCKS: u64 = 1_000_000_000_000;
/// More live requests than any server has.
const MAX_BATCH: u64 = 1_000_000;

/// Reads a trace.
///
/// # Errors
/// Whatever is wrong, with the name of the request.
pub fn read(file: &str, text: &str) -> Result<Rows, TraceError> {
    let place = Place { file, spot: Spot::File };
    let document = Fields::parse(text, place)?;
    let hints = TraceHints {
        batch_size: document
            .whole("batch_size", 1, MAX_BATCH)?
            .map(|size| u32::try_from(size).expect("Invariant: checked against MAX_BATCH")),
        gpu_kv_blocks: document.whole("num_gpu_blocks_override", 1, MAX_BLOCKS)?,
        max_model_len: document.whole("max_model_len", 1, MAX_BLOCKS)?,
    };
    let requests = document.required("requests", "an object of requests")?;
    let entries = Fields::parse(requests, Place { file, spot: Spot::Entry("requests") })?;
    let mut numbered = Vec::new();
    for (name, value) in entries.entries() {
        let place = Place { file, spot: Spot::Entry(name) };
        let number = number_of(name).ok_or_else(|| TraceError::Value {
            place: place.to_string(),
            key: "requests".into(),
            value: format!("`{name}`"),
            expected: "names like `request_7` or `7`".into(),
        })?;
        numbered.push((number, request(name, value, place)?));
    }
    numbered.sort_by_key(|(number, _)| *number);
    let rows = numbered.into_iter().map(|(_, row)| row).collect();
    Ok(Rows { rows, hints, ..Rows::default() })
}

fn request(name: &str, value: &str, place: Place<'_>) -> Result<Row, TraceError> {
    let fields = Fields::parse(value, place)?;
    let step = fields.whole("arrival_time", 0, MAX_STEP)?;
    let Some(step) = step else {
        return Err(fields
            .required("arrival_time", "the number of a decode step")
            .expect_err("Invariant: the key was found to be absent"));
    };
    let (prompt, output) = (fields.tokens("input_length", 0)?, fields.tokens("output_length", 0)?);
    Ok(Row::new(name.into(), RowArrival::Step(step), prompt, output))
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("request_").unwrap_or(name);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// What the format cannot say.
#[derive(Debug, thiserror::Error)]
pub enum CannotWrite {
    /// Arrivals in seconds or after a turn.
    #[error(
        "request `{id}` does not arrive in a step: the orbitflow format knows only decode steps\n\
         hint: convert to jsonl"
    )]
    NotInSteps {
        /// The request.
        id: String,
    },
    /// A promise of its own.
    #[error("request `{id}` has an SLO of its own: the orbitflow format knows none\nhint: convert to jsonl")]
    OwnSlo {
        /// The request.
        id: String,
    },
}

/// Writes a trace. Names that are not of the authors' kind, or not in numeric order, are replaced by
/// `request_0` and so on.
///
/// # Errors
/// The trace has what the format cannot say.
pub fn write(trace: &Trace, arrival_pattern: &str) -> Result<String, CannotWrite> {
    let numbers: Vec<Option<u64>> = trace.requests.iter().map(|request| number_of(&request.id)).collect();
    let keep_names = numbers.windows(2).all(|pair| pair[0].is_some() && pair[0] < pair[1])
        && numbers.iter().all(Option::is_some);
    let mut text = String::from("{\n");
    for (key, value) in [
        ("batch_size", trace.hints.batch_size.map(u64::from)),
        ("max_model_len", trace.hints.max_model_len),
        ("num_gpu_blocks_override", trace.hints.gpu_kv_blocks),
        ("peak_batch_blocks", peak_batch_blocks(trace)),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "  \"{key}\": {value},");
        }
    }
    let _ = writeln!(text, "  \"arrival_pattern\": {},", serde_json::Value::from(arrival_pattern));
    text.push_str("  \"requests\": {\n");
    for (index, request) in trace.requests.iter().enumerate() {
        let Arrival::Step(step) = request.arrival else {
            return Err(CannotWrite::NotInSteps { id: request.id.clone() });
        };
        if request.slo.is_some() || request.ttft_slo.is_some() {
            return Err(CannotWrite::OwnSlo { id: request.id.clone() });
        }
        let name = if keep_names { request.id.clone() } else { format!("request_{index}") };
        let comma = if index + 1 < trace.requests.len() { "," } else { "" };
        let _ = writeln!(
            text,
            "    \"{name}\": {{\"input_length\": {}, \"output_length\": {}, \"arrival_time\": {step}}}{comma}",
            request.prompt_tokens, request.output_tokens
        );
    }
    text.push_str("  }\n}\n");
    Ok(text)
}

/// `ceil(Σ of the B largest (prompt + output) / 16)` (facts G.1), if the batch size B is known.
pub fn peak_batch_blocks(trace: &Trace) -> Option<u64> {
    let batch = trace.hints.batch_size? as usize;
    let mut totals: Vec<u64> =
        trace.requests.iter().map(|request| request.prompt_tokens + request.output_tokens).collect();
    totals.sort_unstable_by(|a, b| b.cmp(a));
    Some(blocks_for_tokens(totals.iter().take(batch).sum()))
}
