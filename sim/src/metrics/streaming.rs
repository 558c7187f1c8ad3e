//! The sink that scores a run while it happens.
//!
//! State is dense and indexed by request: about 200 bytes a request plus 16 for every SLO scale. A step costs some
//! ten nanoseconds for each token and scale, and allocates nothing (its distributions grow by amortised pushes).

use super::outcome::{Busy, LateTokens, Planning, Proofs, Traffic};
use super::{EXACT_DECODE_STEPS, Pool, RequestFacts, ScaleSlo, Scoring};
use crate::deposit::Playback;
use crate::ids::RequestId;
use crate::record::{Record, Sink, StepKind, StepRecord};
use crate::units::{Bytes, PICOS_PER_SEC, SimDuration, SimTime};

/// Scores one run of one policy at one or more SLO scales.
#[derive(Clone, Debug)]
pub struct Metrics<'a> {
    pub(super) facts: Vec<RequestFacts<'a>>,
    pub(super) scoring: Scoring,
    pub(super) slos: Slos,
    pub(super) exact_decode_steps: u64,
    pub(super) requests: Vec<RequestState>,
    pub(super) playbacks: Vec<Playbacks>,
    pub(super) scores: Vec<ScaleCounts>,
    pub(super) tbt_step: Pool,
    pub(super) tbt_gap: Pool,
    pub(super) forecast_error: Pool,
    pub(super) above_bound: Pool,
    pub(super) server: ServerCounts,
}

/// One request so far. Times mean something once `stage` says that they happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestState {
    pub(super) arrived_at: SimTime,
    pub(super) admitted_at: SimTime,
    pub(super) first_token_at: SimTime,
    pub(super) last_token_at: SimTime,
    /// Σ durations of the steps that made its tokens after the first: the clock of step TBT.
    pub(super) step_clock: SimDuration,
    /// Tokens made, the first included.
    pub(super) delivered: u64,
    pub(super) late: LateTokens,
    pub(super) paused: SimDuration,
    pub(super) paused_since: Option<SimTime>,
    pub(super) pauses: u32,
    pub(super) preemptions: u32,
    pub(super) stage: Stage,
    pub(super) admitted: bool,
    pub(super) scored: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Unseen,
    Arrived,
    Rejected,
    Capped,
    Finished,
}

/// A request's playback under one SLO scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Playbacks {
    /// On real time.
    pub(super) gap: Playback,
    /// On the step clock.
    pub(super) step: Playback,
}

/// What is counted as tokens arrive, under one SLO scale, over scored requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScaleCounts {
    pub(super) late: LateTokens,
    /// Σ max(0, G_i − due_i), picoseconds.
    pub(super) stall: u128,
}

/// The promise per token of every request at every scale.
#[derive(Clone, Debug)]
pub(super) struct Slos {
    /// By scale, for requests without their own.
    pub(super) common: Vec<SimDuration>,
    /// By request and scale; empty if no request has its own.
    pub(super) own: Vec<SimDuration>,
}

/// What does not depend on any SLO.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerCounts {
    pub(super) first_arrival: Option<SimTime>,
    pub(super) last_arrival: SimTime,
    pub(super) first_scored_arrival: Option<SimTime>,
    /// The newest instant any record spoke of.
    pub(super) now: SimTime,
    pub(super) last_token_at: Option<SimTime>,
    pub(super) delivered: u64,
    pub(super) busy: Busy,
    /// Of steps since the newest token; they are part of the makespan only if another token follows.
    pub(super) pending: Busy,
    pub(super) traffic: Traffic,
    pub(super) decode_steps: u64,
    pub(super) prefill_steps: u64,
    pub(super) planning: Planning,
    pub(super) proofs: Proofs,
    pub(super) pauses: u64,
    pub(super) longest_pause: SimDuration,
    pub(super) preemptions: u64,
    pub(super) refused_placements: u64,
    pub(super) peak_gpu_blocks: u64,
    pub(super) peak_host: Bytes,
}

impl Slos {
    fn new(facts: &[RequestFacts<'_>], scales: &[ScaleSlo]) -> Self {
        let own = if facts.iter().any(|request| request.slo.is_some()) {
            (facts.iter())
                .flat_map(|request| {
                    scales.iter().map(|at| request.slo.map_or(at.slo, |slo| slo.scale_saturating(at.scale)))
                })
                .collect()
        } else {
            Vec::new()
        };
        Slos { common: scales.iter().map(|at| at.slo).collect(), own }
    }

    pub(super) fn of(&self, request: usize) -> &[SimDuration] {
        let scales = self.common.len();
        if self.own.is_empty() { &self.common } else { &self.own[request * scales..][..scales] }
    }
}

impl<'a> Metrics<'a> {
    /// A sink for a run over these requests, in the order of their [`RequestId`]s.
    /// Panics without an SLO scale.
    pub fn new(facts: Vec<RequestFacts<'a>>, scoring: Scoring) -> Self {
        assert!(!scoring.scales.is_empty(), "Invariant: a run is scored at one SLO scale at least");
        let start = Playbacks { gap: Playback::start(SimTime::ZERO), step: Playback::start(SimTime::ZERO) };
        Metrics {
            slos: Slos::new(&facts, &scoring.scales),
            exact_decode_steps: EXACT_DECODE_STEPS,
            requests: vec![RequestState::default(); facts.len()],
            playbacks: vec![start; facts.len() * scoring.scales.len()],
            scores: vec![ScaleCounts::default(); scoring.scales.len()],
            tbt_step: Pool::default(),
            tbt_gap: Pool::default(),
            forecast_error: Pool::default(),
            above_bound: Pool::default(),
            server: ServerCounts::default(),
            facts,
            scoring,
        }
    }

    /// The same sink, whose TBT distributions keep every value only up to `steps` decode steps.
    pub fn with_exact_decode_steps(mut self, steps: u64) -> Self {
        self.exact_decode_steps = steps;
        self
    }

    fn arrive(&mut self, at: SimTime, request: RequestId) {
        let scored = at.saturating_since(SimTime::ZERO) >= self.scoring.warmup;
        let state = &mut self.requests[request.index()];
        state.stage = Stage::Arrived;
        state.arrived_at = at;
        state.scored = scored;
        let server = &mut self.server;
        server.first_arrival = Some(server.first_arrival.map_or(at, |first| first.min(at)));
        server.last_arrival = server.last_arrival.max(at);
        if scored {
            let first = server.first_scored_arrival.map_or(at, |first| first.min(at));
            server.first_scored_arrival = Some(first);
        }
    }

    fn reject(&mut self, at: SimTime, request: RequestId) {
        if self.requests[request.index()].stage == Stage::Unseen {
            self.arrive(at, request);
        }
        self.requests[request.index()].stage = Stage::Rejected;
    }

    fn pause(&mut self, at: SimTime, request: RequestId) {
        let state = &mut self.requests[request.index()];
        state.pauses += 1;
        state.paused_since = Some(at);
        self.server.pauses += 1;
    }

    /// Ends a pause, if there is one.
    pub(super) fn unpause(&mut self, at: SimTime, request: RequestId) {
        let state = &mut self.requests[request.index()];
        if let Some(since) = state.paused_since.take() {
            let pause = at.since(since);
            state.paused += pause;
            self.server.longest_pause = self.server.longest_pause.max(pause);
        }
    }

    fn end(&mut self, at: SimTime, request: RequestId, stage: Stage) {
        self.unpause(at, request);
        self.requests[request.index()].stage = stage;
    }

    fn step(&mut self, step: &StepRecord, delivered: &[RequestId]) {
        let end = step.start + step.duration;
        self.server.take(step, end, delivered.len() as u64);
        if step.kind.decodes() && self.server.decode_steps == self.exact_decode_steps + 1 {
            self.tbt_step.coarsen();
            self.tbt_gap.coarsen();
            self.forecast_error.coarsen();
            self.above_bound.coarsen();
        }
        if let Some(error) = forecast_error(step) {
            self.forecast_error.add(error, 1);
        }
        if let Some(above) = above_bound(step) {
            self.above_bound.add(above, 1);
        }
        self.deliver(end, step.duration, delivered);
    }

    /// One token for each request of `delivered`, made at `now` by a step that took `duration`.
    fn deliver(&mut self, now: SimTime, duration: SimDuration, delivered: &[RequestId]) {
        let scales = self.scores.len();
        let mut due = 0;
        // Most requests of a batch had their previous token at the same time: equal gaps are counted together.
        let mut gap_run = (0, 0);
        for request in delivered.iter().map(|request| request.index()) {
            let state = &mut self.requests[request];
            let playbacks = &mut self.playbacks[request * scales..][..scales];
            state.delivered += 1;
            if state.delivered == 1 {
                state.first_token_at = now;
                state.last_token_at = now;
                playbacks.iter_mut().for_each(|playback| playback.gap = Playback::start(now));
                continue;
            }
            let gap = now.since(state.last_token_at);
            state.last_token_at = now;
            state.step_clock += duration;
            let step_now = SimTime::from_picos(state.step_clock.as_picos());
            for (scale, &slo) in self.slos.of(request).iter().enumerate() {
                let stall = playbacks[scale].gap.deliver(now, slo);
                let step_stall = playbacks[scale].step.deliver(step_now, slo);
                let late = LateTokens {
                    step: u64::from(duration > slo),
                    gap: u64::from(gap > slo),
                    step_deposit: u64::from(step_stall > SimDuration::ZERO),
                    gap_deposit: u64::from(stall > SimDuration::ZERO),
                };
                if scale == 0 {
                    state.late.add(late);
                }
                if state.scored {
                    self.scores[scale].late.add(late);
                    self.scores[scale].stall += u128::from(stall.as_picos());
                }
            }
            if state.scored {
                due += 1;
                if gap.as_picos() != gap_run.0 {
                    self.tbt_gap.add(gap_run.0, gap_run.1);
                    gap_run = (gap.as_picos(), 0);
                }
                gap_run.1 += 1;
            }
        }
        self.tbt_gap.add(gap_run.0, gap_run.1);
        self.tbt_step.add(duration.as_picos(), due);
    }
}

/// `|step − forecast| / step` in parts per 10¹², of a decode step's compute and stall (what a forecast speaks of:
/// solver time is charged beside it). None without a forecast, and none on steps with restores (design §3.4) or prompts.
fn forecast_error(step: &StepRecord) -> Option<u64> {
    let forecast = step.forecast?.as_picos();
    let took = (step.compute + step.stall).as_picos();
    let restores = step.restore > SimDuration::ZERO || step.h2d_restore > Bytes::ZERO;
    if restores || step.kind == StepKind::Mixed || took == 0 {
        return None;
    }
    Some(parts_of(took.abs_diff(forecast), took))
}

/// `(compute + stall) / bound − 1` in parts per 10¹², of a decode step that has a bound.
fn above_bound(step: &StepRecord) -> Option<u64> {
    let bound = step.bound?.as_picos();
    let took = (step.compute + step.stall).as_picos();
    (bound > 0).then(|| parts_of(took.saturating_sub(bound), bound))
}

/// `part / whole` in parts per 10¹², rounded down.
fn parts_of(part: u64, whole: u64) -> u64 {
    let parts = u128::from(part) * u128::from(PICOS_PER_SEC) / u128::from(whole);
    u64::try_from(parts).unwrap_or(u64::MAX)
}

impl ServerCounts {
    fn take(&mut self, step: &StepRecord, end: SimTime, tokens: u64) {
        self.now = self.now.max(end);
        self.decode_steps += u64::from(step.kind.decodes());
        self.prefill_steps += u64::from(!step.kind.decodes());
        if let Some(proof) = step.proof {
            self.proofs.take(proof);
        }
        self.pending.add(Busy {
            compute: step.compute,
            stall: step.stall,
            prefill: step.prefill,
            restore: step.restore,
            planning: step.planning,
        });
        if tokens > 0 {
            self.last_token_at = Some(end);
            self.delivered += tokens;
            self.busy.add(std::mem::take(&mut self.pending));
        }
        self.traffic.h2d_prefetch += step.h2d_prefetch;
        self.traffic.h2d_restore += step.h2d_restore;
        self.traffic.d2h += step.d2h;
        self.peak_gpu_blocks = self.peak_gpu_blocks.max(step.gpu_blocks);
        self.peak_host = self.peak_host.max(step.host_bytes);
    }
}

impl Sink for Metrics<'_> {
    fn record(&mut self, record: &Record<'_>) {
        match *record {
            Record::Step { step, delivered } => return self.step(step, delivered),
            Record::Arrived { at, request } => self.arrive(at, request),
            Record::Rejected { at, request, .. } => self.reject(at, request),
            Record::Admitted { at, request } => {
                let state = &mut self.requests[request.index()];
                state.admitted = true;
                state.admitted_at = at;
            }
            Record::Paused { at, request } => self.pause(at, request),
            Record::Resumed { at, request } => self.unpause(at, request),
            Record::Preempted { at, request } => {
                self.unpause(at, request);
                self.requests[request.index()].preemptions += 1;
                self.server.preemptions += 1;
            }
            Record::Finished { at, request } => self.end(at, request, Stage::Finished),
            Record::Capped { at, request } => self.end(at, request, Stage::Capped),
            Record::PlacementRefused { .. } => self.server.refused_placements += 1,
            Record::Planned { trigger, infeasible_memory, infeasible_slo, node_cap_hit, .. } => {
                self.server.planning.take(trigger, infeasible_memory, infeasible_slo, node_cap_hit);
            }
            Record::Readmitted { .. } | Record::Placed { .. } => {}
        }
        self.server.now = self.server.now.max(record.at());
    }
}
