//! What a run came to: counts and integer times, and the scores at every SLO scale.

use super::{RequestFacts, ScaleSlo, Sorted};
use crate::record::{StepProof, Trigger};
use crate::units::{Bytes, SimDuration, SimTime};

/// How a request stood when the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// It made every token.
    Finished,
    /// It outgrew the pool or `max_context`.
    Capped,
    /// It was turned away on arrival.
    Rejected,
    /// None of these.
    Unfinished,
}

impl RequestEnd {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            RequestEnd::Finished => "finished",
            RequestEnd::Capped => "capped",
            RequestEnd::Rejected => "rejected",
            RequestEnd::Unfinished => "unfinished",
        }
    }
}

/// Late due tokens by each of the four ways to score TBT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateTokens {
    /// Step TBT above the SLO.
    pub step: u64,
    /// Gap TBT above the SLO.
    pub gap: u64,
    /// Made after its due time in deposit playback, on the step clock.
    pub step_deposit: u64,
    /// Made after its due time in deposit playback, on real time.
    pub gap_deposit: u64,
}

impl LateTokens {
    /// Adds each count.
    pub fn add(&mut self, more: LateTokens) {
        self.step += more.step;
        self.gap += more.gap;
        self.step_deposit += more.step_deposit;
        self.gap_deposit += more.gap_deposit;
    }

    /// Adds tokens that are late by any measure, because they were never made.
    pub fn add_all(&mut self, tokens: u64) {
        self.add(LateTokens { step: tokens, gap: tokens, step_deposit: tokens, gap_deposit: tokens });
    }
}

/// The scores of one run at one SLO scale, over the requests that count (all without a warmup).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleScores {
    /// The scale and its promise per token.
    pub at: ScaleSlo,
    /// Whether they come from a run made for this scale, beside the first scale's.
    pub rerun: bool,
    /// Requests that arrived.
    pub arrived: u64,
    /// Tokens owed after the first of each request.
    pub due: u64,
    /// Of them, late or missing.
    pub late: LateTokens,
    /// Finished requests whose mean step TBT is within the promise.
    pub tpot_step_met: u64,
    /// Finished requests whose mean gap TBT is within the promise.
    pub tpot_gap_met: u64,
    /// Requests whose first token came in time.
    pub ttft_met: u64,
    /// Requests whose last token came in time.
    pub e2e_met: u64,
    /// Finished requests that met TPOT (gap), and TTFT if it is promised.
    pub good: u64,
    /// Σ max(0, G_i − due_i) over gap times, picoseconds.
    pub stall: u128,
    /// Σ D_last − D_0 over requests, picoseconds.
    pub playing: u128,
    /// First arrival that counts to the run's last token.
    pub span: SimDuration,
    /// Median time to first token of the run.
    pub ttft_p50: Option<SimDuration>,
    /// Tokens of the run per second, first ones included.
    pub throughput_per_s: f64,
}

impl ScaleScores {
    pub(super) fn new(at: ScaleSlo, late: LateTokens, stall: u128, span: SimDuration) -> Self {
        ScaleScores {
            at,
            late,
            stall,
            span,
            rerun: false,
            arrived: 0,
            due: 0,
            tpot_step_met: 0,
            tpot_gap_met: 0,
            ttft_met: 0,
            e2e_met: 0,
            good: 0,
            playing: 0,
            ttft_p50: None,
            throughput_per_s: 0.0,
        }
    }

    /// Share of due tokens that are not among `late`, in percent; 100 if none was due.
    pub fn tokens_met_pct(&self, late: u64) -> f64 {
        percent(u128::from(self.due.saturating_sub(late)), u128::from(self.due)).unwrap_or(100.0)
    }

    /// `met` as a share of arrived requests, in percent; 100 if none arrived.
    pub fn requests_met_pct(&self, met: u64) -> f64 {
        percent(u128::from(met), u128::from(self.arrived)).unwrap_or(100.0)
    }

    /// Share of a client's playing time with no token to show, in percent; `None` if nothing was played: a method that
    /// delivers nothing must not read as one that never stalls.
    pub fn playback_stall_pct(&self) -> Option<f64> {
        percent(self.stall, self.playing)
    }

    /// Good requests per second; 0 over no time.
    pub fn goodput_per_s(&self) -> f64 {
        per_second(self.good, self.span)
    }
}

/// Where the engine's time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// Decode compute and tail.
    pub compute: SimDuration,
    /// Compute waiting for copies.
    pub stall: SimDuration,
    /// Prompts.
    pub prefill: SimDuration,
    /// Blocking restore copies.
    pub restore: SimDuration,
    /// Solver time charged.
    pub planning: SimDuration,
}

impl Busy {
    /// Adds each part.
    pub fn add(&mut self, more: Busy) {
        self.compute += more.compute;
        self.stall += more.stall;
        self.prefill += more.prefill;
        self.restore += more.restore;
        self.planning += more.planning;
    }

    /// All parts together.
    pub fn sum(&self) -> SimDuration {
        self.compute + self.stall + self.prefill + self.restore + self.planning
    }
}

/// Link traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Offloaded layers, host→device.
    pub h2d_prefetch: Bytes,
    /// Layers that became resident, host→device.
    pub h2d_restore: Bytes,
    /// Write-through, device→host.
    pub d2h: Bytes,
}

/// Planner calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planning {
    by_trigger: [u64; Trigger::ALL.len()],
    /// Instances without a placement that fits memory.
    pub infeasible_memory: u64,
    /// Instances without a placement within the SLO budget.
    pub infeasible_slo: u64,
    /// Calls whose search ran into its node cap.
    pub node_cap_hits: u64,
}

impl Planning {
    pub(super) fn take(&mut self, trigger: Trigger, memory: u32, slo: u32, node_cap_hit: bool) {
        self.by_trigger[trigger as usize] += 1;
        self.infeasible_memory += u64::from(memory);
        self.infeasible_slo += u64::from(slo);
        self.node_cap_hits += u64::from(node_cap_hit);
    }

    /// Calls of every trigger, in the order of [`Trigger::ALL`].
    pub fn by_trigger(&self) -> impl Iterator<Item = (Trigger, u64)> + '_ {
        Trigger::ALL.into_iter().map(|trigger| (trigger, self.by_trigger[trigger as usize]))
    }
}

/// Decode steps by what their method said of them (`oracle`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proofs {
    /// No placement makes them shorter.
    pub optimal: u64,
    /// No shorter one was found.
    pub best_found: u64,
}

impl Proofs {
    pub(super) fn take(&mut self, proof: StepProof) {
        match proof {
            StepProof::Optimal => self.optimal += 1,
            StepProof::BestFound => self.best_found += 1,
        }
    }

    /// Steps of which anything was said.
    pub fn steps(&self) -> u64 {
        self.optimal + self.best_found
    }
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOutcome<'a> {
    /// What was asked.
    pub facts: RequestFacts<'a>,
    /// How it ended.
    pub end: RequestEnd,
    /// Whether it counts in the scores: it arrived after the warmup.
    pub scored: bool,
    /// When it entered the queue.
    pub arrived_at: SimTime,
    /// When it first took a slot.
    pub admitted_at: Option<SimTime>,
    /// When its first token was made.
    pub first_token_at: Option<SimTime>,
    /// When its newest token was made.
    pub last_token_at: Option<SimTime>,
    /// When its last token was made, if it finished.
    pub finished_at: Option<SimTime>,
    /// Σ durations of the steps that made its tokens after the first.
    pub step_clock: SimDuration,
    /// Tokens made, the first included.
    pub delivered: u64,
    /// Its promise per token at the first scale.
    pub slo: SimDuration,
    /// Its late tokens at the first scale, missing ones included.
    pub late: LateTokens,
    /// Time held back.
    pub paused: SimDuration,
    /// Times held back.
    pub pauses: u32,
    /// Times it lost its slot.
    pub preemptions: u32,
}

impl RequestOutcome<'_> {
    /// Arrival to first token.
    pub fn ttft(&self) -> Option<SimDuration> {
        Some(self.first_token_at?.since(self.arrived_at))
    }

    /// Arrival to last token of a finished request.
    pub fn end_to_end(&self) -> Option<SimDuration> {
        Some(self.finished_at?.since(self.arrived_at))
    }

    /// Mean step TBT of the tokens made; none without a due token.
    pub fn tpot_step(&self) -> Option<SimDuration> {
        (self.delivered > 1).then(|| self.step_clock.div_nearest(self.delivered - 1))
    }

    /// Mean gap TBT of the tokens made; none without a due token.
    pub fn tpot_gap(&self) -> Option<SimDuration> {
        let decode_time = self.last_token_at?.since(self.first_token_at?);
        (self.delivered > 1).then(|| decode_time.div_nearest(self.delivered - 1))
    }
}

/// What one run of one policy came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<'a> {
    /// Every request that arrived, in trace order.
    pub requests: Vec<RequestOutcome<'a>>,
    /// Scores at each SLO scale; the first is that of the main table.
    pub scales: Vec<ScaleScores>,
    /// Step TBT of delivered due tokens, picoseconds.
    pub tbt_step: Sorted,
    /// Gap TBT of delivered due tokens, picoseconds.
    pub tbt_gap: Sorted,
    /// Mean step TBT of finished requests with more than one token, picoseconds.
    pub tpot_step: Sorted,
    /// Mean gap TBT of the same, picoseconds.
    pub tpot_gap: Sorted,
    /// Arrival to first token of requests that got one, picoseconds.
    pub ttft: Sorted,
    /// Arrival to last token of finished requests, picoseconds.
    pub e2e: Sorted,
    /// |step − forecast| / step, in parts per 10¹².
    pub forecast_error: Sorted,
    /// (compute + stall) / bound − 1 of decode steps that have a bound, in parts per 10¹².
    pub above_bound: Sorted,
    /// Whether TBT distributions, forecast errors and distances to the bound are exact; otherwise they are known to bins of 0.1 %.
    pub exact: bool,
    /// Tokens owed after the first of each arrived request.
    pub due_tokens: u64,
    /// Of them, made.
    pub delivered_due_tokens: u64,
    /// Tokens made, first ones included.
    pub delivered_tokens: u64,
    /// First arrival to last token; zero without a token.
    pub makespan: SimDuration,
    /// Tokens made per second of the makespan, first ones included; 0 over no time.
    pub throughput_per_s: f64,
    /// When the last request arrived; none without one.
    pub last_arrival: Option<SimTime>,
    /// Where the makespan went, but for `idle`. Steps after the last token are not part of it.
    pub busy: Busy,
    /// The rest of the makespan.
    pub idle: SimDuration,
    /// Link traffic.
    pub traffic: Traffic,
    /// Decode steps, mixed ones included.
    pub decode_steps: u64,
    /// Prefill steps.
    pub prefill_steps: u64,
    /// Planner calls.
    pub planning: Planning,
    /// Decode steps whose method said how good they are.
    pub proofs: Proofs,
    /// Times a request was held back.
    pub pauses: u64,
    /// The longest time a request was held back at a stretch.
    pub longest_pause: SimDuration,
    /// Times a running request lost its slot.
    pub preemptions: u64,
    /// Placements that did not fit.
    pub refused_placements: u64,
    /// Most layer-blocks in use.
    pub peak_gpu_blocks: u64,
    /// Most host memory in use.
    pub peak_host: Bytes,
}

impl Outcome<'_> {
    /// Requests that ended so.
    pub fn ended(&self, end: RequestEnd) -> u64 {
        self.requests.iter().filter(|request| request.end == end).count() as u64
    }

    /// Arrived requests per minute of the time up to the last arrival; none if that is the start of the run.
    pub fn requests_per_min(&self) -> Option<f64> {
        let until = self.last_arrival?.as_secs_f64();
        (until > 0.0).then(|| self.requests.len() as f64 * 60.0 / until)
    }
}

/// Puts the runs of a policy that looks at the SLO together: run `i` was planned for, and scored at, scale `i`
/// alone. The first run supplies everything but the scores of the other scales. `None` without a run.
/// Panics if a run was scored at more than one scale.
pub fn merge_scale_runs<'a>(runs: impl IntoIterator<Item = Outcome<'a>>) -> Option<Outcome<'a>> {
    let mut runs = runs.into_iter();
    let mut merged = runs.next()?;
    assert_eq!(merged.scales.len(), 1, "Invariant: a run for one SLO scale is scored at that scale alone");
    for run in runs {
        let [scores] = run.scales[..] else {
            panic!("Invariant: a run for one SLO scale is scored at that scale alone")
        };
        merged.scales.push(ScaleScores { rerun: true, ..scores });
    }
    Some(merged)
}

fn percent(part: u128, whole: u128) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
}

pub(super) fn per_second(count: u64, span: SimDuration) -> f64 {
    if span == SimDuration::ZERO { 0.0 } else { count as f64 / span.as_secs_f64() }
}
