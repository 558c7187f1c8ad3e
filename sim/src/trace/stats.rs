//! What a trace is like: lengths, rate, burstiness, and the pressure it puts on a server's KV memory.
//!
//! **Pressure** (facts G.4) is what the requests would hold if memory had no limit: first come, first served,
//! at most
//! `batch_size` live, one token per request and step, prefill in no time. After each step that had a live
//! request the blocks `Σ ceil((prompt + tokens made)/16)` are compared with N, the blocks per layer of a fully
//! resident pool. This is a property of the trace, not a simulation: there is no step time, no offloading and
//! no policy.

use std::collections::BTreeSet;
use std::collections::VecDeque;

use serde::Serialize;

use super::{Arrival, Trace};
use crate::ids::RequestId;
use crate::units::{SimDuration, SimTime, blocks_for_tokens};

/// Quantiles of a list of whole numbers: p is `sorted[ceil(p·n) − 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Mean.
    pub mean: f64,
    /// Least.
    pub min: u64,
    /// Half are not above.
    pub p50: u64,
    /// 90 % are not above.
    pub p90: u64,
    /// 95 % are not above.
    pub p95: u64,
    /// 99 % are not above.
    pub p99: u64,
    /// Most.
    pub max: u64,
}

impl Quantiles {
    fn of(mut values: Vec<u64>) -> Quantiles {
        values.sort_unstable();
        let last = values.len() - 1;
        let at = |percent: usize| values[((percent * values.len()).div_ceil(100)).max(1) - 1];
        let sum: u128 = values.iter().map(|&value| u128::from(value)).sum();
        Quantiles {
            mean: sum as f64 / values.len() as f64,
            min: values[0],
            p50: at(50),
            p90: at(90),
            p95: at(95),
            p99: at(99),
            max: values[last],
        }
    }
}

/// The unit of a trace's arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalUnit {
    /// Seconds.
    Second,
    /// Steps of the engine.
    Step,
}

/// KV pressure under a batch cap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pressure {
    /// Most live requests.
    pub batch_size: u32,
    /// N: blocks per layer if every layer is resident; absent if the trace does not say.
    pub gpu_kv_blocks: Option<u64>,
    /// Steps with a live request.
    pub steps: u64,
    /// Mean live requests.
    pub mean_batch: f64,
    /// Mean live blocks.
    pub mean_live_blocks: f64,
    /// Most live blocks.
    pub peak_live_blocks: u64,
    /// Mean live blocks over N.
    pub mean_live_over_n: Option<f64>,
    /// Most live blocks over N.
    pub peak_live_over_n: Option<f64>,
    /// Share of the steps with more than N blocks live, in percent.
    pub above_n_pct: Option<f64>,
    /// Share of the steps with more than 2N blocks live, in percent.
    pub above_2n_pct: Option<f64>,
}

/// What a trace is like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceStats {
    /// Requests.
    pub requests: usize,
    /// Conversations among them.
    pub sessions: usize,
    /// Later turns, which arrive after the answer before them.
    pub later_turns: usize,
    /// Prompt tokens.
    pub prompt_tokens: Quantiles,
    /// Output tokens.
    pub output_tokens: Quantiles,
    /// Prompt and output tokens.
    pub total_tokens: Quantiles,
    /// Sum of the prompt tokens.
    pub prompt_tokens_sum: u64,
    /// Sum of the output tokens.
    pub output_tokens_sum: u64,
    /// What arrivals are counted in.
    pub arrival_unit: ArrivalUnit,
    /// Last arrival that the trace fixes (later turns have none).
    pub last_arrival: f64,
    /// Arrivals that the trace fixes, less one, over the time from first to last; absent if that is 0.
    pub rate: Option<f64>,
    /// Standard deviation over mean of the gaps between them.
    pub gap_cv: Option<f64>,
    /// KV pressure, if the batch size (and, for arrivals in seconds, a step time) is known.
    pub pressure: Option<Pressure>,
    /// What must be said about the trace.
    pub notes: Vec<String>,
}

/// The server that pressure is measured on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressureServer {
    /// Most live requests; the trace's hint if absent.
    pub batch_size: Option<u32>,
    /// N; the trace's hint if absent.
    pub gpu_kv_blocks: Option<u64>,
    /// What a step takes, for arrivals and think times in seconds.
    pub step_time: Option<SimDuration>,
}

/// Describes a trace. Panics if it has no requests: readers refuse such a file.
pub fn stats(trace: &Trace, server: PressureServer) -> TraceStats {
    let requests = &trace.requests;
    assert!(!requests.is_empty(), "Invariant: a trace has requests");
    let arrivals: Vec<f64> = requests.iter().filter_map(|request| fixed_arrival(request.arrival)).collect();
    let in_steps = requests.iter().any(|request| matches!(request.arrival, Arrival::Step(_)));
    let (first, last) = (arrivals[0], arrivals[arrivals.len() - 1]);
    let gaps: Vec<f64> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let prompts = || requests.iter().map(|request| request.prompt_tokens);
    let outputs = || requests.iter().map(|request| request.output_tokens);
    let sessions: BTreeSet<u32> = requests.iter().filter_map(|request| request.session).collect();
    TraceStats {
        requests: requests.len(),
        sessions: sessions.len(),
        later_turns: requests.len() - arrivals.len(),
        prompt_tokens: Quantiles::of(prompts().collect()),
        output_tokens: Quantiles::of(outputs().collect()),
        total_tokens: Quantiles::of(
            prompts().zip(outputs()).map(|(prompt, output)| prompt + output).collect(),
        ),
        prompt_tokens_sum: prompts().sum(),
        output_tokens_sum: outputs().sum(),
        arrival_unit: if in_steps { ArrivalUnit::Step } else { ArrivalUnit::Second },
        last_arrival: last,
        rate: (last > first).then(|| gaps.len() as f64 / (last - first)),
        gap_cv: (last > first).then(|| variation(&gaps)),
        pressure: pressure(trace, server),
        notes: trace.notes.clone(),
    }
}

fn fixed_arrival(arrival: Arrival) -> Option<f64> {
    match arrival {
        Arrival::At(at) => Some(at.as_secs_f64()),
        Arrival::Step(step) => Some(step as f64),
        Arrival::AfterTurn { .. } => None,
    }
}

fn variation(gaps: &[f64]) -> f64 {
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / gaps.len() as f64;
    variance.sqrt() / mean
}

/// KV pressure; `None` if the batch size is unknown, or a time in seconds cannot be counted in steps.
pub fn pressure(trace: &Trace, server: PressureServer) -> Option<Pressure> {
    let batch_size = server.batch_size.or(trace.hints.batch_size)?;
    let gpu_kv_blocks = server.gpu_kv_blocks.or(trace.hints.gpu_kv_blocks);
    let mut queue = Arrivals::of(trace, server.step_time)?;
    let mut waiting: VecDeque<RequestId> = VecDeque::new();
    // Each live request with the tokens it has made.
    let mut live: Vec<(RequestId, u64)> = Vec::new();
    let mut sums = Sums::default();
    let mut step = 0;
    loop {
        waiting.extend(queue.due(step));
        while live.len() < batch_size as usize
            && let Some(request) = waiting.pop_front()
        {
            live.push((request, 0));
        }
        if live.is_empty() {
            match queue.next_step() {
                Some(next) => step = next,
                None => break,
            }
            continue;
        }
        let mut blocks = 0;
        for (request, made) in &mut live {
            *made += 1;
            blocks += blocks_for_tokens(trace.requests[request.index()].prompt_tokens + *made);
        }
        sums.add(blocks, live.len() as u64, gpu_kv_blocks);
        step += 1;
        live.retain(|&(request, made)| {
            let unfinished = made < trace.requests[request.index()].output_tokens;
            if !unfinished {
                queue.finished(request, step);
            }
            unfinished
        });
    }
    Some(sums.pressure(batch_size, gpu_kv_blocks))
}

#[derive(Default)]
struct Sums {
    steps: u64,
    blocks: u128,
    batch: u128,
    peak: u64,
    above: u64,
    above_twice: u64,
}

impl Sums {
    fn add(&mut self, blocks: u64, batch: u64, pool: Option<u64>) {
        self.steps += 1;
        self.blocks += u128::from(blocks);
        self.batch += u128::from(batch);
        self.peak = self.peak.max(blocks);
        self.above += u64::from(pool.is_some_and(|pool| blocks > pool));
        self.above_twice += u64::from(pool.is_some_and(|pool| blocks > 2 * pool));
    }

    fn pressure(&self, batch_size: u32, gpu_kv_blocks: Option<u64>) -> Pressure {
        let steps = self.steps as f64;
        let mean_live_blocks = self.blocks as f64 / steps;
        Pressure {
            batch_size,
            gpu_kv_blocks,
            steps: self.steps,
            mean_batch: self.batch as f64 / steps,
            mean_live_blocks,
            peak_live_blocks: self.peak,
            mean_live_over_n: gpu_kv_blocks.map(|pool| mean_live_blocks / pool as f64),
            peak_live_over_n: gpu_kv_blocks.map(|pool| self.peak as f64 / pool as f64),
            above_n_pct: gpu_kv_blocks.map(|_| 100.0 * self.above as f64 / steps),
            above_2n_pct: gpu_kv_blocks.map(|_| 100.0 * self.above_twice as f64 / steps),
        }
    }
}

/// Who arrives in which step: the fixed ones, and later turns as the turns before them end.
struct Arrivals {
    /// (step, place in the trace), the set of those still to come.
    pending: BTreeSet<(u64, RequestId)>,
    /// For each request the later turns that wait for its end, with their think time in steps.
    followers: Vec<Vec<(RequestId, u64)>>,
}

impl Arrivals {
    fn of(trace: &Trace, step_time: Option<SimDuration>) -> Option<Arrivals> {
        let steps =
            |picos: u64| step_time.filter(|time| time.as_picos() > 0).map(|time| picos / time.as_picos());
        let mut pending = BTreeSet::new();
        let mut followers = vec![Vec::new(); trace.requests.len()];
        for (request, id) in trace.requests.iter().zip((0..).map(RequestId)) {
            match request.arrival {
                Arrival::Step(step) => {
                    pending.insert((step, id));
                }
                Arrival::At(at) => {
                    pending.insert((steps(at.since(SimTime::ZERO).as_picos())?, id));
                }
                Arrival::AfterTurn { previous, think } => {
                    followers[previous.index()].push((id, steps(think.as_picos())?));
                }
            }
        }
        Some(Arrivals { pending, followers })
    }

    fn due(&mut self, step: u64) -> Vec<RequestId> {
        let mut due = Vec::new();
        while let Some(&(when, request)) = self.pending.first()
            && when <= step
        {
            self.pending.pop_first();
            due.push(request);
        }
        due
    }

    fn next_step(&self) -> Option<u64> {
        self.pending.first().map(|&(step, _)| step)
    }

    fn finished(&mut self, request: RequestId, step: u64) {
        for (follower, think) in std::mem::take(&mut self.followers[request.index()]) {
            self.pending.insert((step + think, follower));
        }
    }
}
