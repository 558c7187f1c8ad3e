//! Drawing a trace: any arrival process with any lengths, or the recipe of the OrbitFlow paper by name.
//!
//! The same [`Recipe`] gives the same bytes on every machine. Lengths and arrivals come from different streams,
//! so another arrival process keeps the lengths.

use super::arrivals::ArrivalProcess;
use super::length_distribution::LengthDistribution;
use super::options::ReadOptions;
use super::rows::{Row, RowArrival, Rows, whole_microseconds};
use super::{Arrival, Trace, TraceHints, TraceRequest};
use crate::random::{self, Stream};
use crate::units::{SimDuration, SimTime};

/// The unit that arrivals are drawn in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// Rates are per second, arrivals whole microseconds.
    #[default]
    Seconds,
    /// Rates are per engine step, arrivals whole steps.
    Steps,
}

/// Conversations instead of single requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionRecipe {
    /// Turns of each session, at least 1. The turn's prompt is the whole conversation so far and a drawn part.
    pub turns: u32,
    /// Mean think time between a turn's last token and the next turn, exponential, in seconds.
    pub mean_think_s: f64,
}

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// How many requests; with sessions, how many sessions.
    pub requests: usize,
    /// How they (or the sessions) arrive.
    pub arrivals: ArrivalProcess,
    /// The unit of the arrivals.
    pub clock: Clock,
    /// Prompt lengths.
    pub prompt: LengthDistribution,
    /// Output lengths.
    pub output: LengthDistribution,
    /// Conversations, if wanted.
    pub sessions: Option<SessionRecipe>,
    /// Seed of all draws.
    pub seed: u64,
}

/// A recipe that cannot be followed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadRecipe {
    /// A number out of its range.
    #[error("`{key}` is {value}: expected {expected}")]
    Value {
        /// The key, as the command line has it.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A ratio where there is nothing to take it of.
    #[error("prompt lengths `{0}` are a ratio: expected it for outputs only")]
    PromptRatio(String),
    /// Sessions whose think time has no unit.
    #[error("sessions think in seconds: expected arrivals in seconds\nhint: leave the unit of arrivals out")]
    SessionsInSteps,
    /// An arrival beyond the range of time.
    #[error("the last arrival is after {0}\nhint: raise the rate or draw fewer requests")]
    TooLate(&'static str),
}

/// Most requests that are drawn at once.
const MAX_REQUESTS: usize = 100_000_000;

impl Recipe {
    fn check(&self) -> Result<(), BadRecipe> {
        let bad = |key, value: String, expected| Err(BadRecipe::Value { key, value, expected });
        if self.requests == 0 || self.requests > MAX_REQUESTS {
            return bad("requests", self.requests.to_string(), "1 to 100000000");
        }
        if self.prompt.is_ratio() {
            return Err(BadRecipe::PromptRatio(self.prompt.to_string()));
        }
        if let Some(sessions) = self.sessions {
            if self.clock == Clock::Steps {
                return Err(BadRecipe::SessionsInSteps);
            }
            if !(1..=10_000).contains(&sessions.turns) {
                return bad("turns", sessions.turns.to_string(), "1 to 10000");
            }
            if !(0.0..=1e5).contains(&sessions.mean_think_s) {
                return bad("think", sessions.mean_think_s.to_string(), "0 to 100000 seconds");
            }
        }
        Ok(())
    }
}

/// Draws a trace, sorted as every trace is and named by row.
///
/// # Errors
/// [`BadRecipe`].
pub fn generate(recipe: &Recipe) -> Result<Trace, BadRecipe> {
    recipe.check()?;
    let instants =
        recipe.arrivals.draw(recipe.requests, &mut random::sequence(recipe.seed, Stream::Arrivals));
    let mut lengths = random::sequence(recipe.seed, Stream::Lengths);
    let mut rows: Vec<Row> = Vec::new();
    for (session, instant) in (0..).zip(instants) {
        let start = match arrival(instant, recipe.clock)? {
            Arrival::Step(step) => RowArrival::Step(step),
            Arrival::At(at) => RowArrival::At(at),
            Arrival::AfterTurn { .. } => panic!("Invariant: a drawn instant is no later turn"),
        };
        let mut context = 0;
        for turn in 0..recipe.sessions.map_or(1, |sessions| sessions.turns) {
            let arrival = match (turn, recipe.sessions) {
                (1.., Some(sessions)) => RowArrival::After {
                    previous: rows.len() - 1,
                    think: think_time(recipe.seed, sessions.mean_think_s, session, turn),
                },
                _ => start,
            };
            let prompt_tokens = context + recipe.prompt.draw(None, &mut lengths);
            let output_tokens = recipe.output.draw(Some(prompt_tokens), &mut lengths);
            context = prompt_tokens + output_tokens;
            let mut row = Row::new(rows.len().to_string(), arrival, prompt_tokens, output_tokens);
            row.session = recipe.sessions.map(|_| session);
            rows.push(row);
        }
    }
    let rows = Rows { rows, ..Rows::default() };
    let mut trace = rows
        .into_trace("the recipe", &ReadOptions::default())
        .expect("Invariant: drawn rows are dated, not empty and within the range of time");
    trace.notes.clear();
    for (place, request) in trace.requests.iter_mut().enumerate() {
        request.id = place.to_string();
    }
    Ok(trace)
}

fn think_time(seed: u64, mean: f64, session: u32, turn: u32) -> SimDuration {
    let mut generator = random::keyed(seed, Stream::Arrivals, &[u64::from(session), u64::from(turn)]);
    let think = whole_microseconds(random::exponential(&mut generator, mean))
        .expect("Invariant: 40 means of at most 10^5 s are within the range of time");
    think.since(SimTime::ZERO)
}

/// An instant that was drawn, on the clock of the trace. Steps are rounded down.
fn arrival(instant: f64, clock: Clock) -> Result<Arrival, BadRecipe> {
    const LAST_STEP: f64 = super::jsonl::MAX_STEP as f64;
    match clock {
        Clock::Seconds => whole_microseconds(instant).map(Arrival::At).ok_or(BadRecipe::TooLate("213 days")),
        Clock::Steps if instant <= LAST_STEP => Ok(Arrival::Step(instant.floor() as u64)),
        Clock::Steps => Err(BadRecipe::TooLate("2^40 steps")),
    }
}

/// The recipe of the OrbitFlow paper's traces (facts G.2): 52 requests for a server of batch size 4, lengths
/// from bins of three kinds, lognormal gaps in steps, and a GPU pool of 0.23 times the peak of the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct PaperRecipe {
    /// How many requests; the paper has 52.
    pub requests: usize,
    /// λ in units of n / Σ output tokens per step: the concurrency offered to an unbounded server. The paper
    /// has 1 to 5.
    pub load: f64,
    /// Coefficient of variation of the gaps. The paper has 1 to 7.
    pub cv: f64,
    /// Most live requests of the server; the paper's main traces have 4.
    pub batch_size: u32,
    /// Weight of each pair of prompt kind and output kind: short, medium, long. Ours is even; the paper's mixes
    /// were searched.
    pub mix: [[f64; 3]; 3],
    /// Factor on every length. The paper's 32k traces have 1, those of 128k and 1M tokens 4.
    pub length_scale: f64,
    /// Seed of all draws.
    pub seed: u64,
}

impl Default for PaperRecipe {
    fn default() -> Self {
        let (mix, length_scale) = ([[1.0; 3]; 3], 1.0);
        PaperRecipe { requests: 52, load: 1.0, cv: 1.0, batch_size: 4, mix, length_scale, seed: 0 }
    }
}

/// The ranges of the bins, in tokens, short, medium and long (facts G.2).
const PAPER_BINS: [&[(u64, u64)]; 3] =
    [&[(96, 144), (192, 304), (400, 608)], &[(816, 1216), (1632, 2448)], &[(3264, 4912), (6544, 9824)]];

/// GPU blocks over the blocks of the batch's peak (facts G.2), in hundredths.
const PAPER_POOL_PERCENT: u64 = 23;

/// `max_model_len` of the paper's 32k traces.
const PAPER_MAX_MODEL_LEN: u64 = 32_384;

/// Draws a trace by the paper's recipe, with its hints, and the name of its arrivals.
///
/// # Errors
/// [`BadRecipe`].
pub fn generate_paper(recipe: &PaperRecipe) -> Result<(Trace, String), BadRecipe> {
    check_paper(recipe)?;
    let mut generator = random::sequence(recipe.seed, Stream::Lengths);
    let weights = recipe.mix.concat();
    let lengths: Vec<(u64, u64)> = (0..recipe.requests)
        .map(|_| {
            let pair = random::weighted_index(&mut generator, &weights);
            let mut length = |kind: usize| {
                let bins = PAPER_BINS[kind];
                let last = bins.len() as u64 - 1;
                let (low, high) = bins[random::uniform_whole(&mut generator, 0, last) as usize];
                let scaled = |tokens: u64| (tokens as f64 * recipe.length_scale).round() as u64;
                random::uniform_whole(&mut generator, scaled(low), scaled(high))
            };
            (length(pair / 3), length(pair % 3))
        })
        .collect();
    let outputs: u64 = lengths.iter().map(|(_, output)| output).sum();
    let rate = recipe.load * recipe.requests as f64 / outputs as f64;
    let process = ArrivalProcess::Lognormal { rate, cv: recipe.cv };
    let instants = process.draw(recipe.requests, &mut random::sequence(recipe.seed, Stream::Arrivals));
    let mut requests = Vec::with_capacity(recipe.requests);
    for ((prompt_tokens, output_tokens), instant) in lengths.into_iter().zip(instants) {
        requests.push(TraceRequest {
            id: format!("request_{}", requests.len()),
            arrival: arrival(instant, Clock::Steps)?,
            prompt_tokens,
            output_tokens,
            slo: None,
            ttft_slo: None,
            session: None,
        });
    }
    let mut trace = Trace { requests, ..Trace::default() };
    trace.hints = TraceHints { batch_size: Some(recipe.batch_size), ..TraceHints::default() };
    let peak = super::orbitflow::peak_batch_blocks(&trace);
    trace.hints.gpu_kv_blocks = peak.map(|peak| (peak * PAPER_POOL_PERCENT).div_ceil(100));
    let longest = PAPER_MAX_MODEL_LEN as f64 * recipe.length_scale;
    trace.hints.max_model_len = Some(longest.round() as u64);
    let pattern =
        format!("lognormal gaps, {rate} requests per step (load {}), cv {}", recipe.load, recipe.cv);
    Ok((trace, pattern))
}

fn check_paper(recipe: &PaperRecipe) -> Result<(), BadRecipe> {
    let bad = |key, value: String, expected| Err(BadRecipe::Value { key, value, expected });
    if recipe.requests == 0 || recipe.requests > MAX_REQUESTS {
        return bad("requests", recipe.requests.to_string(), "1 to 100000000");
    }
    if !(1e-3..=1e3).contains(&recipe.load) {
        return bad("load", recipe.load.to_string(), "0.001 to 1000");
    }
    if !(0.01..=100.0).contains(&recipe.cv) {
        return bad("cv", recipe.cv.to_string(), "0.01 to 100");
    }
    if !(1..=1_000_000).contains(&recipe.batch_size) {
        return bad("batch-size", recipe.batch_size.to_string(), "1 to 1000000");
    }
    if !(0.05..=1e3).contains(&recipe.length_scale) {
        return bad("length-scale", recipe.length_scale.to_string(), "0.05 to 1000");
    }
    let weights = recipe.mix.as_flattened();
    if !weights.iter().all(|weight| (0.0..=1e9).contains(weight))
        || weights.iter().all(|&weight| weight == 0.0)
    {
        return bad("mix", format!("{weights:?}"), "weights from 0 to 1000000000, not all of them 0");
    }
    Ok(())
}
