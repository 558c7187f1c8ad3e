//! Small runs written by hand, for the tests of sinks: records in the order an engine would emit them.
//!
//! A [`Script`] keeps its own clock and counts its own requests, so that what it emits obeys every law unless a
//! test changes it. Knows nothing about any sink.

use crate::ids::{Layer, RequestId};
use crate::model::{LayerSet, Placement};
use crate::record::{
    Copier, CopySpan, LayerSpan, MemoryUse, Record, RejectReason, Sink, Snapshot, StepKind, StepRecord,
    StepTimeline, Trigger,
};
use crate::units::{Bytes, SimDuration, SimTime};

/// Layer-blocks that each running request of a script holds.
pub const GPU_BLOCKS_EACH: u64 = 10;
/// Host bytes that each admitted request of a script holds.
pub const HOST_BYTES_EACH: u64 = 1000;

/// `count` milliseconds.
pub fn ms(count: u64) -> SimDuration {
    SimDuration::from_picos(count * 1_000_000_000)
}

/// One event of a script.
#[derive(Clone, Debug)]
pub enum Event {
    /// Anything but a step.
    Plain(Record<'static>),
    /// A step, who got a token, and the state behind it.
    Step(StepRecord, Vec<RequestId>, Box<State>),
}

/// What a snapshot shows.
#[derive(Clone, Debug)]
pub struct State {
    /// Every request that holds memory.
    pub requests: Vec<MemoryUse>,
    /// Layer-blocks the pool says are in use.
    pub gpu_blocks: u64,
    /// Layer-blocks there are.
    pub gpu_capacity: u64,
    /// Host bytes the pool says are in use.
    pub host_bytes: Bytes,
    /// Host bytes there are.
    pub host_capacity: Option<Bytes>,
    /// Never admitted.
    pub waiting: u32,
    /// Preempted and not back.
    pub preempted: u32,
    /// Of a decode step.
    pub timeline: Option<StepTimeline>,
    /// Of its copies.
    pub copiers: Vec<Copier>,
    /// Of the decode part.
    pub decode_start: SimTime,
    /// Of the decode part.
    pub decode: SimDuration,
    /// Of the decode part, under contention.
    pub contended_bounds: Option<(SimDuration, SimDuration)>,
    /// Of the same work, seconds.
    pub prefix_forecast_s: f64,
}

/// A run in the making.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// What happened so far.
    pub events: Vec<Event>,
    /// The clock.
    pub now: SimTime,
    waiting: Vec<u32>,
    live: Vec<u32>,
    paused: Vec<u32>,
    preempted: Vec<u32>,
    steps: u64,
}

impl Script {
    /// Emits any record but a step.
    pub fn plain(&mut self, record: Record<'static>) {
        self.events.push(Event::Plain(record));
    }

    /// The clock moves on without a step.
    pub fn idle(&mut self, span: SimDuration) {
        self.now += span;
    }

    pub fn arrive(&mut self, request: u32) {
        self.waiting.push(request);
        self.plain(Record::Arrived { at: self.now, request: RequestId(request) });
    }

    pub fn reject(&mut self, request: u32) {
        self.waiting.retain(|other| *other != request);
        self.plain(Record::Rejected {
            at: self.now,
            request: RequestId(request),
            reason: RejectReason::GpuPool,
        });
    }

    pub fn admit(&mut self, request: u32) {
        self.waiting.retain(|other| *other != request);
        self.live.push(request);
        self.plain(Record::Admitted { at: self.now, request: RequestId(request) });
    }

    pub fn pause(&mut self, request: u32) {
        self.live.retain(|other| *other != request);
        self.paused.push(request);
        self.plain(Record::Paused { at: self.now, request: RequestId(request) });
    }

    pub fn resume(&mut self, request: u32) {
        self.paused.retain(|other| *other != request);
        self.live.push(request);
        self.plain(Record::Resumed { at: self.now, request: RequestId(request) });
    }

    pub fn preempt(&mut self, request: u32) {
        self.live.retain(|other| *other != request);
        self.preempted.push(request);
        self.plain(Record::Preempted { at: self.now, request: RequestId(request) });
    }

    pub fn readmit(&mut self, request: u32) {
        self.preempted.retain(|other| *other != request);
        self.live.push(request);
        self.plain(Record::Readmitted { at: self.now, request: RequestId(request) });
    }

    pub fn finish(&mut self, request: u32) {
        self.live.retain(|other| *other != request);
        self.plain(Record::Finished { at: self.now, request: RequestId(request) });
    }

    pub fn cap(&mut self, request: u32) {
        for list in [&mut self.live, &mut self.paused, &mut self.preempted] {
            list.retain(|other| *other != request);
        }
        self.plain(Record::Capped { at: self.now, request: RequestId(request) });
    }

    pub fn plan(&mut self, trigger: Trigger) {
        self.plain(Record::Planned {
            at: self.now,
            trigger,
            solves: 1,
            infeasible_memory: 0,
            infeasible_slo: 1,
            node_cap_hit: false,
        });
    }

    /// A prefill step that gives each of `delivered` its first token.
    pub fn prefill(&mut self, span: SimDuration, delivered: &[u32]) {
        let parts = StepRecord { prefill: span, ..blank(StepKind::Prefill) };
        self.step(parts, delivered);
    }

    /// A decode step, all compute.
    pub fn decode(&mut self, span: SimDuration, delivered: &[u32]) {
        self.step(StepRecord { compute: span, ..blank(StepKind::Decode) }, delivered);
    }

    /// A step of the given parts; its index, start, duration and counts of requests and memory are filled in.
    pub fn step(&mut self, parts: StepRecord, delivered: &[u32]) {
        let state = self.state(&parts);
        let duration = parts.compute + parts.stall + parts.prefill + parts.restore + parts.planning;
        let step = StepRecord {
            index: self.steps,
            start: self.now,
            duration,
            running: delivered.len() as u32,
            paused: self.paused.len() as u32,
            waiting: (self.waiting.len() + self.preempted.len()) as u32,
            gpu_blocks: state.gpu_blocks,
            host_bytes: state.host_bytes,
            ..parts
        };
        self.events.push(Event::Step(
            step,
            delivered.iter().copied().map(RequestId).collect(),
            Box::new(state),
        ));
        self.steps += 1;
        self.now += duration;
    }

    /// Two equal layers and, if there is a stall, one copy for layer 2 that began with the step.
    fn state(&self, parts: &StepRecord) -> State {
        let requests: Vec<MemoryUse> = (self.live.iter().map(|request| (request, true)))
            .chain(self.paused.iter().chain(&self.preempted).map(|request| (request, false)))
            .map(|(request, running)| MemoryUse {
                request: RequestId(*request),
                gpu_blocks: if running { GPU_BLOCKS_EACH } else { 0 },
                host_bytes: Bytes::new(HOST_BYTES_EACH),
                context: 16,
                placement: Placement::RESIDENT,
                running,
            })
            .collect();
        let layer = parts.compute.div_nearest(2);
        let second = parts.compute - layer;
        let landed = layer + parts.stall;
        let decode = parts.compute + parts.stall;
        let timeline = StepTimeline {
            layers: vec![
                LayerSpan { layer: Layer(1), start: SimDuration::ZERO, end: layer, stall: SimDuration::ZERO },
                LayerSpan { layer: Layer(2), start: landed, end: landed + second, stall: parts.stall },
            ],
            copies: if parts.stall > SimDuration::ZERO {
                vec![CopySpan { request: 0, layer: Layer(2), start: SimDuration::ZERO, end: landed }]
            } else {
                Vec::new()
            },
            ..StepTimeline::default()
        };
        State {
            gpu_blocks: requests.iter().map(|request| request.gpu_blocks).sum(),
            gpu_capacity: 1000,
            host_bytes: requests.iter().map(|request| request.host_bytes).sum(),
            host_capacity: None,
            requests,
            waiting: self.waiting.len() as u32,
            preempted: self.preempted.len() as u32,
            timeline: (parts.kind == StepKind::Decode).then_some(timeline),
            copiers: (self.live.iter())
                .map(|request| Copier {
                    request: RequestId(*request),
                    bytes: parts.h2d_prefetch,
                    kept: LayerSet::EMPTY,
                    next_bytes: Bytes::ZERO,
                })
                .collect(),
            decode_start: self.now + parts.planning + parts.restore,
            decode,
            contended_bounds: None,
            prefix_forecast_s: decode.as_secs_f64(),
        }
    }

    /// Hands everything to a sink, as the engine does: the state behind a step, then the step.
    pub fn replay(&self, sink: &mut dyn Sink) {
        for event in &self.events {
            match event {
                Event::Plain(record) => sink.record(record),
                Event::Step(step, delivered, state) => {
                    if sink.inspects() {
                        sink.inspect(&state.snapshot());
                    }
                    sink.record(&Record::Step { step, delivered });
                }
            }
        }
    }

    /// The newest step, to be changed by a test.
    pub fn last_step(&mut self) -> (&mut StepRecord, &mut Vec<RequestId>, &mut State) {
        (self.events.iter_mut().rev())
            .find_map(|event| match event {
                Event::Step(step, delivered, state) => Some((step, delivered, &mut **state)),
                Event::Plain(_) => None,
            })
            .expect("Invariant: the script has a step")
    }
}

impl State {
    fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            gpu_blocks: self.gpu_blocks,
            gpu_capacity: self.gpu_capacity,
            host_bytes: self.host_bytes,
            host_capacity: self.host_capacity,
            requests: &self.requests,
            waiting: self.waiting,
            preempted: self.preempted,
            timeline: self.timeline.as_ref(),
            copiers: &self.copiers,
            restores: &[],
            prompt_write: None,
            decode_start: self.decode_start,
            decode: self.decode,
            contended_bounds: self.contended_bounds,
            prefix_forecast_s: self.prefix_forecast_s,
        }
    }
}

/// A step of no time and no traffic.
pub fn blank(kind: StepKind) -> StepRecord {
    StepRecord {
        index: 0,
        kind,
        start: SimTime::ZERO,
        duration: SimDuration::ZERO,
        compute: SimDuration::ZERO,
        stall: SimDuration::ZERO,
        prefill: SimDuration::ZERO,
        restore: SimDuration::ZERO,
        planning: SimDuration::ZERO,
        bound: None,
        forecast: None,
        running: 0,
        paused: 0,
        waiting: 0,
        gpu_blocks: 0,
        host_bytes: Bytes::ZERO,
        h2d_prefetch: Bytes::ZERO,
        h2d_restore: Bytes::ZERO,
        d2h: Bytes::ZERO,
        trigger: None,
        proof: None,
    }
}
