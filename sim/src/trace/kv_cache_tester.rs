//! Sessions of coding agents, from callanjfox/kv-cache-tester: one JSON object per session, or the derived CSV.
//!
//! Closed loop: a turn arrives a think time after the last token of the turn before it. Upstream's `think_time`
//! of a turn is the time from the end of the latest answer whose duration (`api_time`) was recorded to the
//! turn's start `t`: over 41,177 turns `t − t_before − api_time_before − think_time` has median 0.0 and lies
//! within ±0.86 s (stamps are whole seconds) for 98 %. About 9 % of the answers have no recorded duration; the
//! think time after one then counts from an even earlier answer, so the gap between the two starts, which is an
//! upper bound of the true think time, is used instead. Turns of one session run one after another, as their
//! prompts contain the answers before them.
//!
//! Session starts were removed upstream. They are drawn by the arrival process that the user names, or are all
//! at 0.
//!
//! Requests of subagents (`type` "subagent" with nested requests; depth 1 in the CSV) are left out and counted:
//! their start within the session is not recorded in the CSV, and the think time of the session's next turn
//! covers their run.
//! `in` counts the whole context, most of which repeats the turn before.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::error::{Place, Spot, TraceError};
use super::fields::{Fields, Table};
use super::rows::{IfUndated, Row, RowArrival, Rows};
use crate::units::SimDuration;

/// One turn as upstream records it.
struct Turn {
    start: SimDuration,
    prompt_tokens: u64,
    output_tokens: u64,
    answer: Option<SimDuration>,
    think: Option<SimDuration>,
}

/// Gathers sessions turn by turn.
#[derive(Default)]
struct Sessions {
    rows: Vec<Row>,
    /// Number and latest turn of each session.
    latest: BTreeMap<String, (u32, usize, Turn)>,
    estimated: usize,
    subagent: usize,
}

impl Sessions {
    fn push(&mut self, session: &str, turn_name: &str, turn: Turn) {
        let fresh = u32::try_from(self.latest.len()).expect("Invariant: fewer than 2^32 sessions");
        let (number, arrival) = match self.latest.get(session) {
            None => (fresh, RowArrival::Undated),
            Some((number, previous, before)) => {
                let (think, estimated) = think_time(before, &turn);
                self.estimated += usize::from(estimated);
                (*number, RowArrival::After { previous: *previous, think })
            }
        };
        let id = format!("{session}/{turn_name}");
        let mut row = Row::new(id, arrival, turn.prompt_tokens, turn.output_tokens);
        row.session = Some(number);
        self.latest.insert(session.to_owned(), (number, self.rows.len(), turn));
        self.rows.push(row);
    }

    fn into_rows(self) -> Rows {
        let mut notes = Vec::new();
        if self.subagent > 0 {
            notes.push(format!("left out {} requests of subagents", self.subagent));
        }
        if self.estimated > 0 {
            notes.push(format!(
                "{} turns follow an answer of unrecorded length or have no think time: the gap between the two \
                 starts (less the answer, where recorded) stands for it",
                self.estimated
            ));
        }
        Rows {
            rows: self.rows,
            notes,
            repeats_prefixes: true,
            if_undated: IfUndated::AtOnce,
            ..Rows::default()
        }
    }
}

/// The think time before `turn`, and whether it had to be estimated.
fn think_time(before: &Turn, turn: &Turn) -> (SimDuration, bool) {
    let gap = turn.start.saturating_sub(before.start);
    match (before.answer, turn.think) {
        (Some(_), Some(think)) => (think, false),
        (None, Some(think)) => (think.min(gap), true),
        (answer, None) => (gap.saturating_sub(answer.unwrap_or_default()), true),
    }
}

/// Reads the derived CSV.
///
/// # Errors
/// Whatever is wrong with a row, with its line.
pub fn read_table(file: &str, text: &str) -> Result<Rows, TraceError> {
    let columns = ["trace", "depth", "idx", "t", "in", "out", "api_time", "think_time"];
    let mut table = Table::open(file, text, columns)?;
    let mut sessions = Sessions::default();
    while let Some(cells) = table.next()? {
        match cells.text(1) {
            "0" => {}
            depth if super::fields::parse_whole(depth).is_some() => {
                sessions.subagent += 1;
                continue;
            }
            _ => return Err(cells.bad(1, "0, or a higher whole number for a subagent")),
        }
        let start = cells.seconds(3)?.ok_or_else(|| cells.bad(3, "seconds from the session's start"))?;
        let turn = Turn {
            start,
            prompt_tokens: cells.tokens(4)?,
            output_tokens: cells.tokens(5)?,
            answer: cells.seconds(6)?,
            think: cells.seconds(7)?,
        };
        sessions.push(cells.text(0), cells.text(2), turn);
    }
    Ok(sessions.into_rows())
}

/// Reads session documents, each with the name of its file.
///
/// # Errors
/// Whatever is wrong with a request, with its place in the list.
pub fn read_documents(documents: &[(String, String)]) -> Result<Rows, TraceError> {
    let mut sessions = Sessions::default();
    for (file, text) in documents {
        read_document(file, text, &mut sessions)?;
    }
    Ok(sessions.into_rows())
}

fn read_document(file: &str, text: &str, sessions: &mut Sessions) -> Result<(), TraceError> {
    let document = Fields::parse(text, Place { file, spot: Spot::File })?;
    let name = document.required("id", "the session's name")?;
    let name: String =
        serde_json::from_str(name).map_err(|_| document.bad("id", name, "the session's name, a string"))?;
    if sessions.latest.contains_key(&name) {
        return Err(TraceError::DuplicateId { place: format!("`{file}`"), id: name });
    }
    for (index, request) in items(&document, "requests")?.into_iter().enumerate() {
        let fields = Fields::parse(request.get(), Place { file, spot: Spot::Item(index) })?;
        if fields.text("type") == Some("\"subagent\"") {
            sessions.subagent += items(&fields, "requests")?.len();
            continue;
        }
        let start = fields.required("t", "seconds from the session's start")?;
        let turn = Turn {
            start: fields.seconds("t")?.ok_or_else(|| fields.bad("t", start, "seconds"))?,
            prompt_tokens: fields.tokens("in", 0)?,
            output_tokens: fields.tokens("out", 0)?,
            answer: fields.seconds("api_time")?,
            think: fields.seconds("think_time")?,
        };
        sessions.push(&name, &index.to_string(), turn);
    }
    Ok(())
}

fn items<'a>(fields: &Fields<'a>, key: &str) -> Result<Vec<&'a RawValue>, TraceError> {
    let text = fields.required(key, "a list of requests")?;
    serde_json::from_str(text).map_err(|_| fields.bad(key, text, "a list of requests"))
}
