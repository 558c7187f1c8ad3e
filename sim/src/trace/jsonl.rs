//! Our own trace format: JSON Lines, one request per line (design §2.2), read and written.
//!
//! ```json
//! {"arrival_s":0,"prompt_tokens":1200,"output_tokens":250,"session":0}
//! {"think_s":4.5,"prompt_tokens":1800,"output_tokens":90,"session":0}
//! {"id":"late","arrival_s":7.25,"prompt_tokens":90,"output_tokens":12,"slo_s":0.05,"ttft_slo_s":2}
//! ```
//!
//! A trace is in seconds (`arrival_s`) or in steps (`arrival_step`), not both. The first line of a session has
//! an arrival; each later one has `think_s`, counted from the last token of the line before it in the same
//! session. A line without `id` is named by its row, from 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::decimal::{EXPECTED_SECONDS, format_seconds};
use super::error::{Place, TraceError};
use super::fields::{Fields, lines};
use super::rows::{Row, RowArrival, Rows};
use super::{Arrival, Trace};
use crate::units::{SimDuration, SimTime};

/// One line of a trace: what `orbitflow schema trace` describes. Times are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = ways_to_arrive()))]
pub struct Line {
    /// Unique name; absent: the number of the row, from 0.
    #[schemars(length(min = 1))]
    pub id: Option<String>,
    /// Arrival, seconds from the start. One of `arrival_s`, `arrival_step`, `think_s`.
    #[schemars(range(min = 0.0))]
    pub arrival_s: Option<f64>,
    /// Arrival, as a number of the engine's step counter.
    pub arrival_step: Option<u64>,
    /// Later turn of a session: seconds after the last token of the turn before it.
    #[schemars(range(min = 0.0))]
    pub think_s: Option<f64>,
    /// Name or number of the session.
    pub session: Option<Session>,
    /// Prompt tokens.
    #[schemars(range(min = 1))]
    pub prompt_tokens: u64,
    /// Output tokens.
    #[schemars(range(min = 1))]
    pub output_tokens: u64,
    /// Time-between-tokens promise, seconds per token.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub slo_s: Option<f64>,
    /// Time-to-first-token promise, seconds.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub ttft_slo_s: Option<f64>,
}

/// A line arrives in exactly one way, and only a turn of a session can follow another; null is as good as absent.
fn ways_to_arrive() -> Value {
    let way = |keys: &[&str], types: Value| json!({ "required": keys, "properties": types });
    json!([
        way(&["arrival_s"], json!({ "arrival_s": { "type": "number" } })),
        way(&["arrival_step"], json!({ "arrival_step": { "type": "integer" } })),
        way(
            &["think_s", "session"],
            json!({ "think_s": { "type": "number" }, "session": { "type": ["string", "integer"] } })
        ),
    ])
}

/// How a session is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Session {
    /// By number.
    Number(u64),
    /// By name.
    Name(String),
}

const KEYS: [&str; 9] = [
    "id",
    "arrival_s",
    "arrival_step",
    "think_s",
    "session",
    "prompt_tokens",
    "output_tokens",
    "slo_s",
    "ttft_slo_s",
];

/// The largest step number: even stretched a millionfold by the load factor it fits a `u64`.
pub(super) const MAX_STEP: u64 = 1 << 40;

/// Reads a trace.
///
/// # Errors
/// Whatever is wrong with a line, with its number.
pub fn read(file: &str, text: &str) -> Result<Rows, TraceError> {
    let mut reader = Reader::default();
    for (place, line) in lines(file, text) {
        reader.line(place, line)?;
    }
    Ok(Rows { repeats_prefixes: !reader.sessions.is_empty(), rows: reader.rows, ..Rows::default() })
}

#[derive(Default)]
struct Reader<'a> {
    rows: Vec<Row>,
    /// Number and latest row of each session, by the text of its name.
    sessions: BTreeMap<&'a str, (u32, usize)>,
    ids: BTreeSet<String>,
    arrival_key: Option<&'static str>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, place: Place<'a>, line: &'a str) -> Result<(), TraceError> {
        let fields = Fields::parse(line, place)?;
        fields.only(&KEYS)?;
        let id = self.id(&fields, place)?;
        let session = self.session(&fields)?;
        let arrival = self.arrival(&fields, place, session)?;
        let mut row =
            Row::new(id, arrival, fields.tokens("prompt_tokens", 1)?, fields.tokens("output_tokens", 1)?);
        row.slo = positive(&fields, "slo_s")?;
        row.ttft_slo = positive(&fields, "ttft_slo_s")?;
        if let Some(name) = session {
            let fresh = u32::try_from(self.sessions.len()).expect("Invariant: fewer than 2^32 sessions");
            let entry = self.sessions.entry(name).or_insert((fresh, 0));
            entry.1 = self.rows.len();
            row.session = Some(entry.0);
        }
        self.rows.push(row);
        Ok(())
    }

    fn id(&mut self, fields: &Fields<'_>, place: Place<'_>) -> Result<String, TraceError> {
        let id = match fields.text("id") {
            None => self.rows.len().to_string(),
            Some(text) => serde_json::from_str::<String>(text)
                .ok()
                .filter(|id| !id.is_empty())
                .ok_or_else(|| fields.bad("id", text, "a string that is not empty"))?,
        };
        if self.ids.insert(id.clone()) {
            Ok(id)
        } else {
            Err(TraceError::DuplicateId { place: place.to_string(), id })
        }
    }

    fn session(&self, fields: &Fields<'a>) -> Result<Option<&'a str>, TraceError> {
        let Some(text) = fields.text("session") else { return Ok(None) };
        match serde_json::from_str::<Session>(text) {
            Ok(_) => Ok(Some(text)),
            Err(_) => Err(fields.bad("session", text, "a string or a whole number")),
        }
    }

    fn arrival(
        &mut self,
        fields: &Fields<'_>,
        place: Place<'_>,
        session: Option<&str>,
    ) -> Result<RowArrival, TraceError> {
        let present: Vec<&'static str> = ["arrival_s", "arrival_step", "think_s"]
            .into_iter()
            .filter(|key| fields.text(key).is_some())
            .collect();
        if let [first, second, ..] = present.as_slice() {
            let value = format!("given beside `{first}`");
            return Err(fields.bad(second, &value, "one of `arrival_s`, `arrival_step` and `think_s`"));
        }
        let previous = session.and_then(|name| self.sessions.get(name)).map(|&(_, previous)| previous);
        let Some(&key) = present.first() else {
            return Err(match previous {
                Some(_) => fields.required("think_s", "seconds after the previous turn of the session"),
                None => fields.required("arrival_s", "an arrival: `arrival_s` or `arrival_step`"),
            }
            .expect_err("Invariant: the key was found to be absent"));
        };
        if key == "think_s" {
            let think = fields.seconds(key)?.unwrap_or_default();
            let text = fields.text(key).unwrap_or_default();
            return previous.map(|previous| RowArrival::After { previous, think }).ok_or_else(|| {
                fields.bad(
                    key,
                    text,
                    "`arrival_s` or `arrival_step`: no earlier turn of the session stands above",
                )
            });
        }
        if previous.is_some() {
            let text = fields.text(key).unwrap_or_default();
            return Err(fields.bad(key, text, "`think_s`: an earlier turn of the session stands above"));
        }
        match self.arrival_key.replace(key) {
            Some(earlier) if earlier != key => {
                Err(TraceError::MixedArrivals { place: place.to_string(), key, earlier })
            }
            _ if key == "arrival_s" => {
                let at = fields.seconds(key)?.unwrap_or_default();
                Ok(RowArrival::At(SimTime::ZERO + at))
            }
            _ => Ok(RowArrival::Step(fields.whole(key, 0, MAX_STEP)?.unwrap_or_default())),
        }
    }
}

/// A promise: more than no time.
fn positive(fields: &Fields<'_>, key: &str) -> Result<Option<SimDuration>, TraceError> {
    match fields.seconds(key)? {
        Some(SimDuration::ZERO) => {
            let text = fields.text(key).unwrap_or_default();
            Err(fields.bad(key, text, &format!("{EXPECTED_SECONDS}, above 0")))
        }
        promise => Ok(promise),
    }
}

/// Writes a trace, exactly: reading it gives the same requests. Hints have no place in this format.
pub fn write(trace: &Trace) -> String {
    let mut text = String::new();
    for (row, request) in trace.requests.iter().enumerate() {
        text.push('{');
        if request.id != row.to_string() {
            let name = Value::from(request.id.as_str());
            let _ = write!(text, "\"id\":{name},");
        }
        let _ = match request.arrival {
            Arrival::At(at) => {
                write!(text, "\"arrival_s\":{}", format_seconds(at.since(SimTime::ZERO)))
            }
            Arrival::Step(step) => write!(text, "\"arrival_step\":{step}"),
            Arrival::AfterTurn { think, .. } => write!(text, "\"think_s\":{}", format_seconds(think)),
        };
        let _ = write!(
            text,
            ",\"prompt_tokens\":{},\"output_tokens\":{}",
            request.prompt_tokens, request.output_tokens
        );
        if let Some(session) = request.session {
            let _ = write!(text, ",\"session\":{session}");
        }
        for (key, promise) in [("slo_s", request.slo), ("ttft_slo_s", request.ttft_slo)] {
            if let Some(promise) = promise {
                let _ = write!(text, ",\"{key}\":{}", format_seconds(promise));
            }
        }
        text.push_str("}\n");
    }
    text
}
