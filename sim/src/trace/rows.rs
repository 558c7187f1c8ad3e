//! From the rows that a reader found to a [`Trace`]: filters, drawn arrivals, load, order.
//!
//! A reader only says what stands in the file. Everything that is the same for all formats happens here, in the
//! order that [`ReadOptions`] names.
//!
//! A turn whose previous turn is left out falls back to the nearest earlier turn of its session that is kept,
//! with the think times added up; if there is none it becomes the session's first turn, and arrives that much
//! think time after the session's start (in a trace in steps, at its start: a step has no fixed length in
//! seconds).

use std::collections::{BTreeMap, BTreeSet};

use super::arrivals::ArrivalProcess;
use super::error::TraceError;
use super::options::ReadOptions;
use super::{Arrival, Trace, TraceHints, TraceRequest};
use crate::ids::RequestId;
use crate::random::{self, Stream};
use crate::units::{SimDuration, SimTime};

/// When a row of a file arrives, as far as the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowArrival {
    /// At an instant.
    At(SimTime),
    /// In a step of the engine.
    Step(u64),
    /// After the row `previous`, which stands earlier.
    After {
        /// Place of the turn before, among the rows.
        previous: usize,
        /// Time after that turn's last token.
        think: SimDuration,
    },
    /// The file does not say: to be drawn.
    Undated,
}

/// One row of a file.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub id: String,
    /// When it arrives.
    pub arrival: RowArrival,
    /// Prompt tokens; 0 means that the row is skipped.
    pub prompt_tokens: u64,
    /// Output tokens; 0 means that the row is skipped.
    pub output_tokens: u64,
    /// The request's own time-between-tokens promise.
    pub slo: Option<SimDuration>,
    /// The request's own time-to-first-token promise.
    pub ttft_slo: Option<SimDuration>,
    /// Session, numbered in the order of the file.
    pub session: Option<u32>,
}

impl Row {
    /// A row with nothing but what every format has.
    pub fn new(id: String, arrival: RowArrival, prompt_tokens: u64, output_tokens: u64) -> Self {
        Row { id, arrival, prompt_tokens, output_tokens, slo: None, ttft_slo: None, session: None }
    }
}

/// What is to be done where a file does not say when its requests arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfUndated {
    /// Ask for an arrival process.
    #[default]
    Refuse,
    /// Everything at 0, and say so.
    AtOnce,
}

/// All rows of a file.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The rows in the order of the file.
    pub rows: Vec<Row>,
    /// The server an authors' trace was made for.
    pub hints: TraceHints,
    /// What must be said.
    pub notes: Vec<String>,
    /// Whether to say that prompts which repeat earlier ones are prefilled whole.
    pub repeats_prefixes: bool,
    /// What to do without arrivals.
    pub if_undated: IfUndated,
}

impl Rows {
    /// Makes the trace.
    ///
    /// # Errors
    /// Nothing is left, arrivals are missing or superfluous, an arrival is beyond the range of time.
    pub fn into_trace(mut self, file: &str, options: &ReadOptions) -> Result<Trace, TraceError> {
        if self.rows.is_empty() {
            return Err(TraceError::Empty { file: file.into(), detail: String::new() });
        }
        let all = self.rows.len();
        let empty = self.keep(file, |row| row.prompt_tokens > 0 && row.output_tokens > 0)?;
        if empty > 0 {
            self.notes.push(format!("skipped {empty} of {all} rows: prompt or output of zero tokens"));
        }
        let least = options.min_prompt_tokens;
        let short = self.keep(file, |row| row.prompt_tokens >= least)?;
        if short > 0 {
            self.notes.push(format!("left out {short} of {all} rows: prompt below {least} tokens"));
        }
        if self.rows.is_empty() {
            let detail =
                format!(": of {all} rows {empty} have zero tokens and {short} a prompt below {least}");
            return Err(TraceError::Empty { file: file.into(), detail });
        }
        self.draw_arrivals(file, options)?;
        self.change_clock(file, options)?;
        if self.repeats_prefixes {
            self.notes.push("there is no prefix cache: each turn prefills its whole prompt".into());
        }
        self.sort_and_limit(file, options)
    }

    /// Keeps some rows and mends the sessions. Says how many were left out.
    fn keep(&mut self, file: &str, keep: impl Fn(&Row) -> bool) -> Result<usize, TraceError> {
        let mut new_places: Vec<Option<usize>> = Vec::with_capacity(self.rows.len());
        let mut arrivals: Vec<RowArrival> = Vec::with_capacity(self.rows.len());
        let mut kept: Vec<Row> = Vec::with_capacity(self.rows.len());
        for mut row in std::mem::take(&mut self.rows) {
            if let RowArrival::After { previous, think } = row.arrival {
                row.arrival = match (new_places[previous], arrivals[previous]) {
                    (Some(previous), _) => RowArrival::After { previous, think },
                    (None, RowArrival::At(start)) => RowArrival::At(later(start, think, file, &row.id)?),
                    (None, RowArrival::After { previous, think: earlier }) => {
                        let think = later(SimTime::ZERO + earlier, think, file, &row.id)?;
                        RowArrival::After { previous, think: think.since(SimTime::ZERO) }
                    }
                    (None, start) => start,
                };
            }
            arrivals.push(row.arrival);
            if keep(&row) {
                new_places.push(Some(kept.len()));
                kept.push(row);
            } else {
                new_places.push(None);
            }
        }
        self.rows = kept;
        Ok(arrivals.len() - self.rows.len())
    }

    /// Draws what the file does not say.
    fn draw_arrivals(&mut self, file: &str, options: &ReadOptions) -> Result<(), TraceError> {
        let undated = self.rows.iter().filter(|row| row.arrival == RowArrival::Undated).count();
        let process = match (undated, options.arrivals, self.if_undated) {
            (0, None, _) => return Ok(()),
            (0, Some(process), _) => {
                return Err(TraceError::ArrivalsGiven { file: file.into(), process: process.to_string() });
            }
            (_, Some(process), _) => process,
            (_, None, IfUndated::Refuse) => return Err(TraceError::NoArrivals { file: file.into() }),
            (_, None, IfUndated::AtOnce) => ArrivalProcess::AtOnce,
        };
        let mut generator = random::sequence(options.seed, Stream::Arrivals);
        let mut instants = process.draw(undated, &mut generator).into_iter();
        for row in self.rows.iter_mut().filter(|row| row.arrival == RowArrival::Undated) {
            let instant = instants.next().expect("Invariant: one instant was drawn for each undated row");
            let at = whole_microseconds(instant)
                .ok_or_else(|| TraceError::TooLate { file: file.into(), id: row.id.clone() })?;
            row.arrival = RowArrival::At(at);
        }
        let sessions = self.rows.iter().any(|row| row.session.is_some());
        let what = if sessions { "session starts" } else { "arrivals" };
        self.notes.push(match options.arrivals {
            Some(ArrivalProcess::AtOnce) => format!("the file has no {what}: all are at 0, as asked"),
            Some(process) => {
                format!("the file has no {what}: drawn from {process} (per second), seed {}", options.seed)
            }
            None => format!("the file has no {what}: all are at 0, as `arrivals` is not set"),
        });
        Ok(())
    }

    /// Applies `step_time` and `load`.
    fn change_clock(&mut self, file: &str, options: &ReadOptions) -> Result<(), TraceError> {
        let in_steps = self.rows.iter().any(|row| matches!(row.arrival, RowArrival::Step(_)));
        if let Some(step_time) = options.step_time {
            self.notes.push(if in_steps {
                format!("arrivals in steps became seconds at {step_time} a step")
            } else {
                "step_time has no effect: arrivals are in seconds".into()
            });
        }
        for row in &mut self.rows {
            let too_late = || TraceError::TooLate { file: file.into(), id: row.id.clone() };
            row.arrival = match (row.arrival, options.step_time) {
                (RowArrival::Step(step), Some(step_time)) => {
                    let picos = step.checked_mul(step_time.as_picos()).ok_or_else(too_late)?;
                    RowArrival::At(at_load(SimTime::from_picos(picos), options.load).ok_or_else(too_late)?)
                }
                (RowArrival::Step(step), None) if options.load != 1.0 => {
                    // Readers allow steps up to 2^40: the quotient is a whole number of steps, rounded down,
                    // and fits.
                    RowArrival::Step((step as f64 / options.load).floor() as u64)
                }
                (RowArrival::At(at), _) => RowArrival::At(at_load(at, options.load).ok_or_else(too_late)?),
                (other, _) => other,
            };
        }
        Ok(())
    }

    /// Sorts stably by the earliest moment at which a row can arrive, cuts, and numbers the requests.
    fn sort_and_limit(mut self, file: &str, options: &ReadOptions) -> Result<Trace, TraceError> {
        let mut earliest: Vec<(u128, u128)> = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let key = match row.arrival {
                RowArrival::At(at) => (u128::from(at.as_picos()), 0),
                RowArrival::Step(step) => (u128::from(step), 0),
                RowArrival::After { previous, think } => {
                    let (start, thought) = earliest[previous];
                    let think = u128::from(think.as_picos());
                    if self.starts_in_steps() { (start, thought + think) } else { (start + think, 0) }
                }
                RowArrival::Undated => panic!("Invariant: every arrival has been drawn"),
            };
            earliest.push(key);
        }
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&index| earliest[index]);
        if !order.is_sorted() {
            self.notes.push("rows were sorted by arrival; equal arrivals keep the order of the file".into());
        }
        if let Some(limit) = options.limit {
            if limit < order.len() {
                self.notes.push(format!("kept the first {limit} of {} requests", order.len()));
            }
            order.truncate(limit);
        }
        self.number(file, &order)
    }

    fn starts_in_steps(&self) -> bool {
        matches!(self.rows[0].arrival, RowArrival::Step(_))
    }

    /// The requests in the given order of rows, which holds every previous turn before its later ones.
    fn number(self, file: &str, order: &[usize]) -> Result<Trace, TraceError> {
        let mut ids: Vec<Option<RequestId>> = vec![None; self.rows.len()];
        let mut sessions: BTreeMap<u32, u32> = BTreeMap::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut requests = Vec::with_capacity(order.len());
        for (place, &index) in order.iter().enumerate() {
            let row = &self.rows[index];
            if !names.insert(&row.id) {
                return Err(TraceError::DuplicateId { place: format!("`{file}`"), id: row.id.clone() });
            }
            let place = u32::try_from(place).expect("Invariant: a trace has fewer than 2^32 requests");
            ids[index] = Some(RequestId(place));
            let arrival = match row.arrival {
                RowArrival::At(at) => Arrival::At(at),
                RowArrival::Step(step) => Arrival::Step(step),
                RowArrival::After { previous, think } => Arrival::AfterTurn {
                    previous: ids[previous].expect("Invariant: a previous turn sorts before its later turns"),
                    think,
                },
                RowArrival::Undated => panic!("Invariant: every arrival has been drawn"),
            };
            let fresh = u32::try_from(sessions.len()).expect("Invariant: fewer sessions than requests");
            requests.push(TraceRequest {
                id: row.id.clone(),
                arrival,
                prompt_tokens: row.prompt_tokens,
                output_tokens: row.output_tokens,
                slo: row.slo,
                ttft_slo: row.ttft_slo,
                session: row.session.map(|session| *sessions.entry(session).or_insert(fresh)),
            });
        }
        Ok(Trace { requests, hints: self.hints, notes: self.notes })
    }
}

fn later(start: SimTime, span: SimDuration, file: &str, id: &str) -> Result<SimTime, TraceError> {
    let picos = start.as_picos().checked_add(span.as_picos());
    picos.map(SimTime::from_picos).ok_or_else(|| TraceError::TooLate { file: file.into(), id: id.into() })
}

fn at_load(at: SimTime, load: f64) -> Option<SimTime> {
    if load == 1.0 {
        return Some(at);
    }
    let span = SimDuration::try_from_secs_f64(at.as_secs_f64() / load).ok()?;
    Some(SimTime::ZERO + span)
}

/// An instant that was drawn, to the nearest microsecond: what is drawn has no finer meaning, and files stay
/// short.
pub fn whole_microseconds(seconds: f64) -> Option<SimTime> {
    const PICOS_PER_MICRO: u64 = 1_000_000;
    let picos = SimDuration::try_from_secs_f64(seconds).ok()?.as_picos();
    let micros = picos / PICOS_PER_MICRO + u64::from(picos % PICOS_PER_MICRO >= PICOS_PER_MICRO / 2);
    micros.checked_mul(PICOS_PER_MICRO).map(SimTime::from_picos)
}
