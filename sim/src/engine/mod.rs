//! The server, step by step: arrivals, admission, prefill, decode, preemption (design §3.5).
//!
//! The engine checks what a policy answers against memory and batch size, applies it, turns work into time with the
//! cost model and the pipeline, and emits records. It keeps no statistics and decides nothing: who is admitted,
//! who runs and where layers live is the policy's answer, or a refusal that is counted.
//!
//! Arrivals, completions and pauses take effect at step boundaries. The engine cannot fail on valid input; a broken
//! invariant panics.
//!
//! **Prompts** are processed in steps of their own, or in chunks beside the decodes (`prefill = "chunked:N"`): up to N
//! prompt tokens, first come first served, add their time `F(p₁) − F(p₀)` to the step, a share of it to each layer, and
//! copies run under it. Worked: 4 ms a decode step, 1 ms per prompt token, N = 4: a newcomer of 10 tokens makes three
//! steps of 8, 8 and 6 ms; in a step of its own it would hold up everyone for 10 ms.

mod ahead;
mod arrivals;
mod chunked;
mod inspect;
mod step;
mod timing;

use std::collections::VecDeque;

use crate::cost::CostModel;
use crate::deposit::Playback;
use crate::ids::RequestId;
use crate::memory::{GpuPool, HostPool};
use crate::model::{LayerSet, Placement, UniformFootprint};
use crate::pipeline::WriteBack;
use crate::planner;
use crate::policy::{Admit, Decision, LiveRequest, Measured, Policy, RunState, Stage, View, WaitingRequest};
use crate::record::{Record, RejectReason, Sink, Trigger};
use crate::server::{Prefill, ServerConfig, SolverTime};
use crate::trace::Arrival;
use crate::units::{Bytes, SimDuration, SimTime, blocks_for_tokens};

use arrivals::Arrivals;

/// What the engine must know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineRequest {
    /// When it arrives.
    pub arrival: Arrival,
    /// Prompt tokens, at least 1.
    pub prompt_tokens: u64,
    /// Output tokens, at least 1.
    pub output_tokens: u64,
    /// Per-token SLO that policies plan for.
    pub slo: SimDuration,
}

/// Everything one run needs besides a policy and a sink.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The trace, in arrival order.
    pub requests: &'a [EngineRequest],
    /// The server.
    pub server: &'a ServerConfig,
    /// What KV weighs.
    pub footprint: UniformFootprint,
    /// What work truly costs.
    pub truth: &'a CostModel,
}

/// Runs a trace to its end and returns the instant of the last event.
pub fn run<S: Sink>(setup: Setup<'_>, policy: &mut dyn Policy, sink: &mut S) -> SimTime {
    let mut engine = Engine::new(setup, policy, sink);
    while engine.advance() {}
    engine.now
}

struct Engine<'a, S: Sink> {
    setup: Setup<'a>,
    policy: &'a mut dyn Policy,
    sink: &'a mut S,
    arrivals: Arrivals,
    /// Staging slots per request under this policy.
    slots: u32,
    /// Layers that the policy keeps at least, `a`.
    fewest_resident: u32,

    now: SimTime,
    /// Prefill and decode steps done.
    steps: u64,
    /// The counter that arrivals in steps wait for: steps done, plus jumps over idle stretches.
    step_clock: u64,
    waiting: VecDeque<WaitingRequest>,
    /// In order of first admission.
    live: Vec<LiveRequest>,
    /// In order of first admission.
    preempted: Vec<LiveRequest>,
    admissions: u64,
    gpu: GpuPool,
    host: HostPool,
    live_set_changed: bool,
    measured: Option<Measured<'static>>,
    /// The copies of the last decode step, lent to the view with `measured`.
    measured_copies: Vec<(u32, Bytes)>,
    last_step: SimDuration,
    /// Preemptions since a step was executed: bounded, or a policy and the pool disagree for ever.
    preempted_since_step: u32,
    /// The layout after the previous counted refusal.
    refused_layout: Option<Vec<(RequestId, Placement)>>,
    write_back: WriteBack,
    ahead: ahead::Ahead,
    work: step::Buffers,
    /// What sinks that inspect are shown of the next step's copies.
    shown: inspect::Shown,
}

impl<'a, S: Sink> Engine<'a, S> {
    fn new(setup: Setup<'a>, policy: &'a mut dyn Policy, sink: &'a mut S) -> Self {
        let layers = setup.footprint.layers;
        Engine {
            arrivals: Arrivals::new(setup.requests),
            slots: policy.slots().unwrap_or(setup.server.switches.slots),
            fewest_resident: policy.fewest_resident(layers),
            now: SimTime::ZERO,
            steps: 0,
            step_clock: 0,
            waiting: VecDeque::new(),
            live: Vec::with_capacity(setup.server.batch_size as usize),
            preempted: Vec::new(),
            admissions: 0,
            gpu: GpuPool::new(setup.server.gpu_blocks),
            host: HostPool::new(setup.server.host_kv),
            live_set_changed: false,
            measured: None,
            measured_copies: Vec::new(),
            last_step: SimDuration::ZERO,
            preempted_since_step: 0,
            refused_layout: None,
            write_back: WriteBack::new(layers),
            ahead: ahead::Ahead::default(),
            work: step::Buffers::default(),
            shown: inspect::Shown::default(),
            setup,
            policy,
            sink,
        }
    }

    /// One step boundary and the step after it; false at the end of the trace.
    fn advance(&mut self) -> bool {
        self.take_arrivals();
        if !self.waiting.is_empty() || !self.preempted.is_empty() {
            let admitted = self.admit();
            if !admitted.is_empty() && self.setup.server.switches.prefill == Prefill::Separate {
                self.prefill(&admitted);
                return true;
            }
        }
        if !self.live.is_empty() {
            self.step();
            return true;
        }
        match self.arrivals.jump(self.now, self.step_clock) {
            Some((now, step_clock)) => {
                (self.now, self.step_clock) = (now, step_clock);
                true
            }
            None => {
                assert!(
                    self.waiting.is_empty() && self.preempted.is_empty(),
                    "Invariant: a policy admits a request that fits when nothing is live"
                );
                false
            }
        }
    }

    fn take_arrivals(&mut self) {
        while let Some((at, id)) = self.arrivals.next_due(self.now, self.step_clock) {
            let prompt_tokens = self.request(id).prompt_tokens;
            self.sink.record(&Record::Arrived { at, request: id });
            match self.never_fits(prompt_tokens) {
                Some(reason) => {
                    self.sink.record(&Record::Rejected { at: self.now, request: id, reason });
                    self.arrivals.over(id, self.now);
                }
                None => self.waiting.push_back(WaitingRequest { id, prompt_tokens }),
            }
        }
    }

    fn request(&self, id: RequestId) -> &'a EngineRequest {
        &self.setup.requests[id.index()]
    }

    /// Why a context of `tokens` tokens can never be served, not even alone.
    fn never_fits(&self, tokens: u64) -> Option<RejectReason> {
        let blocks = blocks_for_tokens(tokens);
        if self.setup.server.max_context.is_some_and(|most| tokens > most) {
            Some(RejectReason::MaxContext)
        } else if !self.gpu.fits(self.least_need(blocks)) {
            Some(RejectReason::GpuPool)
        } else if self.setup.server.host_kv.is_some_and(|most| self.host_bytes(blocks) > most) {
            Some(RejectReason::HostMemory)
        } else {
            None
        }
    }

    /// Layer-blocks of a request of `blocks` blocks at `a` resident layers, charged staging included.
    fn least_need(&self, blocks: u64) -> u64 {
        let layers = self.setup.footprint.layers;
        let staging = if self.setup.server.switches.charge_staging && self.fewest_resident < layers {
            u64::from(self.slots)
        } else {
            0
        };
        (u64::from(self.fewest_resident) + staging) * blocks
    }

    fn host_bytes(&self, blocks: u64) -> Bytes {
        self.setup.footprint.block_bytes * (blocks * u64::from(self.setup.footprint.layers))
    }

    /// Layer-blocks of a request of `blocks` blocks with that placement, charged staging included.
    fn need(&self, placement: Placement, blocks: u64) -> u64 {
        let staging = if self.setup.server.switches.charge_staging && !placement.offloaded.is_empty() {
            u64::from(self.slots)
        } else {
            0
        };
        (u64::from(placement.resident(self.setup.footprint.layers)) + staging) * blocks
    }

    /// Asks the policy; what the last step measured is told once.
    fn ask(&mut self, stage: Stage) -> Decision {
        let measured = if stage == Stage::Decode { self.measured.take() } else { None };
        self.with_view(stage, measured, |policy, view| policy.decide(view))
    }

    fn with_view<T>(
        &mut self,
        stage: Stage,
        measured: Option<Measured<'static>>,
        ask: impl FnOnce(&mut dyn Policy, &View<'_>) -> T,
    ) -> T {
        let view = View {
            stage,
            now: self.now,
            step: self.steps,
            layers: self.setup.footprint.layers,
            block_bytes: self.setup.footprint.block_bytes,
            server: self.setup.server,
            live: &self.live,
            preempted: &self.preempted,
            waiting: &self.waiting,
            host_used: self.host.used(),
            live_set_changed: self.live_set_changed,
            measured: measured.map(|step| Measured { copies: &self.measured_copies, ..step }),
        };
        ask(&mut *self.policy, &view)
    }

    /// Asks whom to admit, and lets in who fits. Returns the newcomers that need a prefill.
    fn admit(&mut self) -> Vec<RequestId> {
        let mut newcomers = Vec::new();
        if self.live.len() >= self.setup.server.batch_size as usize {
            return newcomers;
        }
        let decision = self.ask(Stage::Admit);
        if decision.admit.is_empty() {
            return newcomers;
        }
        self.slots = decision.slots.unwrap_or(self.slots);
        for (id, placement) in &decision.placements {
            self.place(*id, *placement);
        }
        let mut used = self.held_blocks();
        for admit in &decision.admit {
            match self.room_for(*admit, used) {
                Some(more) => used += more,
                None => {
                    self.sink.record(&Record::PlacementRefused { at: self.now });
                    break;
                }
            }
            newcomers.extend(self.let_in(*admit));
        }
        newcomers
    }

    /// Layer-blocks that the newcomer takes, if it is the next in order and there is a slot and memory for it.
    fn room_for(&self, Admit { request, placement }: Admit, used: u64) -> Option<u64> {
        let slot = self.live.len() < self.setup.server.batch_size as usize;
        let (blocks, host) = match (self.preempted.first(), self.waiting.front()) {
            (Some(first), _) if first.id == request => (first.held_blocks(), Bytes::ZERO),
            (None, Some(first)) if first.id == request => {
                let blocks = blocks_for_tokens(first.prompt_tokens);
                (blocks, self.host_bytes(blocks))
            }
            (_, _) => return None,
        };
        let more = self.need(placement, blocks);
        (slot && self.gpu.fits(used + more) && self.host.fits(host)).then_some(more)
    }

    /// Gives a slot to the first preempted request, or to the first waiting one; the latter is returned.
    fn let_in(&mut self, Admit { request, placement }: Admit) -> Option<RequestId> {
        if self.preempted.first().is_some_and(|first| first.id == request) {
            let mut back = self.preempted.remove(0);
            back.placement = placement;
            let stay = LayerSet::all(self.setup.footprint.layers).difference(placement.offloaded);
            back.missing = back.to_restore(stay);
            let restored = back.missing.len();
            let place = self.live.partition_point(|live| live.admitted < back.admitted);
            self.live.insert(place, back);
            self.live_set_changed = true;
            self.sink.record(&Record::Readmitted { at: self.now, request });
            self.sink.record(&Record::Placed { at: self.now, request, placement, restored });
            return None;
        }
        let WaitingRequest { id, prompt_tokens } = self.waiting.pop_front()?;
        self.host.take(self.host_bytes(blocks_for_tokens(prompt_tokens)));
        self.live.push(LiveRequest {
            id,
            prompt_tokens,
            prefilled: 0,
            generated: 0,
            state: RunState::Running,
            placement,
            missing: LayerSet::EMPTY,
            admitted: self.admissions,
            slo: self.request(id).slo,
            playback: Playback::start(self.now),
        });
        self.admissions += 1;
        self.sink.record(&Record::Admitted { at: self.now, request: id });
        self.sink.record(&Record::Placed { at: self.now, request: id, placement, restored: 0 });
        Some(id)
    }

    /// Changes the layout of a live request: frees first, then what becomes resident is missing until it is copied.
    fn place(&mut self, id: RequestId, placement: Placement) {
        let index = self.index(id);
        let request = &mut self.live[index];
        if request.placement == placement {
            return;
        }
        let restored = request.to_restore(request.placement.offloaded.difference(placement.offloaded));
        request.missing = request.missing.union(restored).difference(placement.offloaded);
        request.placement = placement;
        self.ahead.drop_request(id);
        let record = Record::Placed { at: self.now, request: id, placement, restored: restored.len() };
        self.sink.record(&record);
    }

    fn index(&self, id: RequestId) -> usize {
        self.live
            .iter()
            .position(|request| request.id == id)
            .expect("Invariant: a policy names only live requests")
    }

    /// Pauses and resumes so that exactly `run` runs.
    fn set_running(&mut self, run: &[RequestId]) {
        let layers = self.setup.footprint.layers;
        for index in 0..self.live.len() {
            let request = &mut self.live[index];
            let (id, runs) = (request.id, run.contains(&request.id));
            match request.state {
                RunState::Running if !runs => {
                    request.state = RunState::Paused { since: self.now };
                    self.ahead.drop_request(id);
                    self.sink.record(&Record::Paused { at: self.now, request: id });
                }
                RunState::Paused { .. } if runs => {
                    request.state = RunState::Running;
                    let stay = LayerSet::all(layers).difference(request.placement.offloaded);
                    request.missing = request.to_restore(stay);
                    self.sink.record(&Record::Resumed { at: self.now, request: id });
                }
                RunState::Running | RunState::Paused { .. } => {}
            }
        }
        assert!(self.live.iter().any(LiveRequest::is_running), "Invariant: a policy lets someone run");
    }

    /// Takes the slot and the GPU layers of a running request.
    fn preempt(&mut self, id: RequestId) {
        self.preempted_since_step += 1;
        assert!(
            self.preempted_since_step <= 2 * self.setup.server.batch_size,
            "Invariant: a policy places a request that is alone so that it fits"
        );
        let index = self.index(id);
        let request = self.live.remove(index);
        assert!(request.is_running(), "Invariant: only a running request is preempted");
        let place = self.preempted.partition_point(|other| other.admitted < request.admitted);
        self.preempted.insert(place, request);
        self.live_set_changed = true;
        self.ahead.drop_request(id);
        self.sink.record(&Record::Preempted { at: self.now, request: id });
    }

    /// Ends a live request, or a preempted one, and frees what it holds.
    fn end(&mut self, request: LiveRequest, record: &Record<'_>) {
        // A request that has not written the row of its newest token holds one token less than its next context.
        self.host.give(self.host_bytes(request.held_blocks()));
        self.live_set_changed = true;
        self.ahead.drop_request(request.id);
        self.sink.record(record);
        self.arrivals.over(request.id, self.now);
    }

    /// Ends running requests that cannot make their next token: not even alone at `a`, or beyond `max_context`.
    fn cap_outgrown(&mut self) {
        let mut index = 0;
        while index < self.live.len() {
            let request = &self.live[index];
            if request.is_running() && self.never_fits(request.context()).is_some() {
                let request = self.live.remove(index);
                self.end(request, &Record::Capped { at: self.now, request: request.id });
            } else {
                index += 1;
            }
        }
    }

    fn note_plan(&mut self, decision: &Decision) -> (SimDuration, Option<Trigger>) {
        let Some(plan) = &decision.plan else { return (SimDuration::ZERO, None) };
        self.sink.record(&Record::Planned {
            at: self.now,
            trigger: plan.trigger,
            solves: plan.solves.len() as u32,
            infeasible_memory: plan.infeasible_memory,
            infeasible_slo: plan.infeasible_slo,
            node_cap_hit: plan.node_cap_hit,
        });
        let switches = &self.setup.server.switches;
        let solving: SimDuration = plan
            .solves
            .iter()
            .map(|(requests, candidates)| match switches.solver_time {
                SolverTime::Fixed(time) => time,
                SolverTime::Table => planner::solver_time(*requests, *candidates),
            })
            .sum();
        (solving, Some(plan.trigger))
    }

    /// Counts a method's own refusal, where the layout differs from the one after the previous refusal.
    fn note_refusal(&mut self) {
        let layout: Vec<_> =
            self.live.iter().filter(|r| r.is_running()).map(|r| (r.id, r.placement)).collect();
        if self.refused_layout.as_ref() != Some(&layout) {
            self.refused_layout = Some(layout);
            self.sink.record(&Record::PlacementRefused { at: self.now });
        }
    }
}
