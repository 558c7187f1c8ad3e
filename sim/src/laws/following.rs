//! The sink: one standing per request, moved by records, compared with every step.

use super::{MOST_LISTED, RequestFacts, Totals, Verdict, Violation, state};
use crate::ids::RequestId;
use crate::record::{Record, Sink, Snapshot, StepRecord, StepTimeline};
use crate::units::{Bytes, SimDuration, SimTime};

/// Checks a run; see the module.
#[derive(Clone, Debug)]
pub struct Laws {
    facts: Vec<RequestFacts>,
    requests: Vec<Followed>,
    counts: [u32; Standing::COUNT],
    /// Running requests without a token yet.
    prefilling: u32,
    clock: SimTime,
    first_arrival: Option<SimTime>,
    /// When the newest step began.
    newest_start: SimTime,
    last_token: Option<SimTime>,
    /// When the last copy that was seen has landed.
    link_free: SimTime,
    tokens: u64,
    inspected: Option<Inspected>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Default)]
struct Followed {
    standing: Standing,
    arrived: SimTime,
    admitted: Option<SimTime>,
    first_token: Option<SimTime>,
    tokens: u64,
    /// Steps seen when it last got a token.
    last_step: u64,
}

/// Where a request is. Every request is in exactly one place: that is law 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Unseen,
    Waiting,
    Running,
    Paused,
    Preempted,
    Rejected,
    Capped,
    Finished,
}

impl Standing {
    const COUNT: usize = 8;
}

/// What the newest snapshot said, until the step it belongs to.
#[derive(Clone, Copy, Debug)]
struct Inspected {
    gpu_blocks: u64,
    host_bytes: Bytes,
    waiting: u32,
    preempted: u32,
    decode: Option<SimDuration>,
}

impl Laws {
    /// A sink for a run over these requests, in the order of their [`RequestId`]s.
    pub fn new(facts: Vec<RequestFacts>) -> Self {
        let mut counts = [0; Standing::COUNT];
        counts[Standing::Unseen as usize] = facts.len() as u32;
        Laws {
            requests: vec![Followed::default(); facts.len()],
            facts,
            counts,
            prefilling: 0,
            clock: SimTime::ZERO,
            first_arrival: None,
            newest_start: SimTime::ZERO,
            last_token: None,
            link_free: SimTime::ZERO,
            tokens: 0,
            inspected: None,
            verdict: Verdict::default(),
        }
    }

    /// Ends the run: nothing may be under way, and the report must say what the records said.
    pub fn finish(mut self, reported: Totals) -> Verdict {
        for request in (0..self.requests.len()).map(|place| RequestId(place as u32)) {
            match self.requests[request.index()].standing {
                Standing::Finished | Standing::Rejected | Standing::Capped => {}
                Standing::Unseen if self.may_never_arrive(request) => {}
                Standing::Unseen => self.broken(1, format!("{request} never arrived")),
                lost => self.broken(1, format!("the run ended with {request} {lost:?}")),
            }
        }
        if reported.delivered_tokens != self.tokens {
            let text = format!("{} tokens in records, {} reported", self.tokens, reported.delivered_tokens);
            self.broken(2, text);
        }
        let makespan = match (self.first_arrival, self.last_token) {
            (Some(first), Some(last)) => last.saturating_since(first),
            _ => SimDuration::ZERO,
        };
        if reported.makespan != makespan || reported.busy_and_idle != makespan {
            self.broken(
                2,
                format!(
                    "makespan {makespan} in records, {} reported; busy and idle sum to {}",
                    reported.makespan, reported.busy_and_idle
                ),
            );
        }
        self.verdict
    }

    fn may_never_arrive(&self, request: RequestId) -> bool {
        let previous = self.facts[request.index()].previous_turn;
        previous.is_some_and(|turn| self.requests[turn.index()].standing != Standing::Finished)
    }

    fn broken(&mut self, law: u32, text: String) {
        self.verdict.count += 1;
        if self.verdict.violations.len() < MOST_LISTED {
            self.verdict.violations.push(Violation { law, at: self.clock, text });
        }
    }

    fn count(&self, standing: Standing) -> u32 {
        self.counts[standing as usize]
    }

    /// Moves the request, which must stand in one of `from`. `None` if there is no such request.
    fn moves(&mut self, request: RequestId, from: &[Standing], to: Standing) -> Option<&mut Followed> {
        let Some(&Followed { standing, tokens, .. }) = self.requests.get(request.index()) else {
            self.broken(1, format!("{request} is not in the trace"));
            return None;
        };
        if !from.contains(&standing) {
            self.broken(1, format!("{request} became {to:?} from {standing:?}, expected {from:?}"));
        }
        self.counts[standing as usize] -= 1;
        self.counts[to as usize] += 1;
        if tokens == 0 {
            self.prefilling -= u32::from(standing == Standing::Running);
            self.prefilling += u32::from(to == Standing::Running);
        }
        let followed = &mut self.requests[request.index()];
        followed.standing = to;
        Some(followed)
    }

    fn arrive(&mut self, at: SimTime, request: RequestId) {
        if at < self.newest_start {
            let text =
                format!("{request} arrived at {at}, and a step began at {} without it", self.newest_start);
            self.broken(4, text);
        }
        self.first_arrival = Some(self.first_arrival.map_or(at, |first| first.min(at)));
        if let Some(followed) = self.moves(request, &[Standing::Unseen], Standing::Waiting) {
            followed.arrived = at;
        }
    }

    fn admit(&mut self, at: SimTime, request: RequestId) {
        let Some(followed) = self.moves(request, &[Standing::Waiting], Standing::Running) else { return };
        followed.admitted = Some(at);
        let arrived = followed.arrived;
        if at < arrived {
            self.broken(4, format!("{request} was admitted at {at}, before its arrival at {arrived}"));
        }
    }

    fn finish_request(&mut self, at: SimTime, request: RequestId) {
        let Some(followed) = self.moves(request, &[Standing::Running], Standing::Finished) else { return };
        let (tokens, first_token) = (followed.tokens, followed.first_token);
        let asked = self.facts[request.index()].output_tokens;
        if tokens != asked {
            self.broken(2, format!("{request} finished with {tokens} of {asked} tokens"));
        }
        if first_token.is_none_or(|first| at < first) {
            self.broken(4, format!("{request} finished at {at}, before its first token"));
        }
    }

    fn step(&mut self, step: &StepRecord, delivered: &[RequestId]) {
        self.verdict.steps += 1;
        self.pass_to(step.start);
        self.newest_start = step.start;
        let parts = step.compute + step.stall + step.prefill + step.restore + step.planning;
        if parts != step.duration {
            self.broken(2, format!("step {}: parts sum to {parts} of {}", step.index, step.duration));
        }
        if step.bound.is_some_and(|bound| bound > step.compute + step.stall) {
            self.broken(5, format!("step {}: compute and stall are shorter than its bound", step.index));
        }
        self.compare_counts(step, delivered.len() as u32);
        if let Some(inspected) = self.inspected.take() {
            self.compare_with_state(step, &inspected);
        }
        let decoding = self.count(Standing::Running) - self.prefilling;
        let end = step.start + step.duration;
        self.clock = end;
        let mut decoded = 0;
        for request in delivered {
            decoded += u32::from(self.deliver(end, *request));
        }
        let expected = if step.kind.decodes() { decoding } else { 0 };
        if decoded != expected {
            let (index, kind) = (step.index, step.kind.name());
            let text = format!("{kind} step {index}: {decoded} requests decoded, expected {expected}");
            self.broken(1, text);
        }
    }

    /// One token; whether it was a decode token of a running request.
    fn deliver(&mut self, at: SimTime, request: RequestId) -> bool {
        let Some(followed) = self.requests.get_mut(request.index()) else {
            self.broken(2, format!("a token for {request}, which is not in the trace"));
            return false;
        };
        let twice = followed.tokens > 0 && followed.last_step == self.verdict.steps;
        followed.last_step = self.verdict.steps;
        followed.tokens += 1;
        let first = followed.tokens == 1;
        if first {
            followed.first_token = Some(at);
        }
        let Followed { standing, tokens, admitted, .. } = *followed;
        self.tokens += 1;
        self.last_token = Some(at);
        let running = standing == Standing::Running;
        if running && first {
            self.prefilling -= 1;
        }
        if !running {
            self.broken(2, format!("a token for {request}, which is {standing:?}"));
        }
        if twice {
            self.broken(2, format!("{request} is in the batch twice"));
        }
        let asked = self.facts[request.index()].output_tokens;
        if tokens > asked {
            self.broken(2, format!("{request} made token {tokens} of {asked}"));
        }
        if admitted.is_none_or(|admitted| at < admitted) {
            self.broken(4, format!("{request} made a token at {at}, before its admission"));
        }
        running && !first
    }

    fn compare_counts(&mut self, step: &StepRecord, delivered: u32) {
        let running = self.count(Standing::Running);
        let paused = self.count(Standing::Paused);
        let waiting = self.count(Standing::Waiting) + self.count(Standing::Preempted);
        if step.paused != paused || step.waiting != waiting {
            self.broken(
                1,
                format!(
                    "step {} says {} paused and {} waiting; by the records {paused} and {waiting}",
                    step.index, step.paused, step.waiting
                ),
            );
        }
        if step.running > running || delivered > step.running {
            self.broken(
                1,
                format!(
                    "step {} says {} in the step; {running} run by the records, {delivered} got a token",
                    step.index, step.running
                ),
            );
        }
    }

    fn compare_with_state(&mut self, step: &StepRecord, inspected: &Inspected) {
        let Inspected { gpu_blocks, host_bytes, waiting, preempted, decode } = *inspected;
        if gpu_blocks != step.gpu_blocks || host_bytes != step.host_bytes {
            self.broken(
                3,
                format!(
                    "step {} says {} layer-blocks and {} of host memory; the pools say {gpu_blocks} and {host_bytes}",
                    step.index, step.gpu_blocks, step.host_bytes
                ),
            );
        }
        if waiting != self.count(Standing::Waiting) || preempted != self.count(Standing::Preempted) {
            self.broken(
                1,
                format!(
                    "the engine has {waiting} waiting and {preempted} preempted; by the records {} and {}",
                    self.count(Standing::Waiting),
                    self.count(Standing::Preempted)
                ),
            );
        }
        // Tail and intercept only add to the decode part.
        if decode.is_some_and(|decode| decode > step.compute + step.stall + step.prefill) {
            self.broken(
                5,
                format!("step {}: compute, stall and prefill are shorter than its decode part", step.index),
            );
        }
    }

    /// No copy begins before those of the steps before have landed.
    fn follow_link(&mut self, start: SimTime, timeline: &StepTimeline) {
        let first = timeline.copies.iter().chain(&timeline.ahead).map(|copy| start + copy.start).next();
        if let Some(first) = first.filter(|first| *first < self.link_free) {
            let text = format!("a copy begins at {first}, one of a step before ends at {}", self.link_free);
            self.broken(4, text);
        }
        let carried = timeline.carried.map(|carried| carried.end);
        let ends = timeline.copies.iter().chain(&timeline.ahead).map(|copy| copy.end).chain(carried);
        self.link_free = ends.map(|end| start + end).fold(self.link_free, SimTime::max);
    }

    /// The clock of what takes effect at step boundaries.
    fn pass_to(&mut self, at: SimTime) {
        if at < self.clock {
            self.broken(4, format!("a record at {at} after one at {}", self.clock));
        }
        self.clock = self.clock.max(at);
    }
}

impl Sink for Laws {
    fn record(&mut self, record: &Record<'_>) {
        use Standing::{Capped, Paused, Preempted, Rejected, Running, Waiting};
        if !matches!(record, Record::Arrived { .. } | Record::Rejected { .. } | Record::Step { .. }) {
            self.pass_to(record.at());
        }
        match *record {
            Record::Arrived { at, request } => self.arrive(at, request),
            Record::Admitted { at, request } => self.admit(at, request),
            Record::Finished { at, request } => self.finish_request(at, request),
            Record::Step { step, delivered } => self.step(step, delivered),
            Record::Rejected { request, .. } => {
                self.moves(request, &[Waiting], Rejected);
            }
            Record::Paused { request, .. } => {
                self.moves(request, &[Running], Paused);
            }
            Record::Resumed { request, .. } => {
                self.moves(request, &[Paused], Running);
            }
            Record::Preempted { request, .. } => {
                self.moves(request, &[Running], Preempted);
            }
            Record::Readmitted { request, .. } => {
                self.moves(request, &[Preempted], Running);
            }
            Record::Capped { request, .. } => {
                self.moves(request, &[Running, Paused, Preempted], Capped);
            }
            Record::Placed { .. } | Record::PlacementRefused { .. } | Record::Planned { .. } => {}
        }
    }

    fn inspects(&self) -> bool {
        true
    }

    fn inspect(&mut self, snapshot: &Snapshot<'_>) {
        state::check(snapshot, &mut |law, text| self.broken(law, text));
        if let Some(timeline) = snapshot.timeline {
            self.follow_link(snapshot.decode_start, timeline);
        }
        for memory in snapshot.requests {
            let standing = self.requests.get(memory.request.index()).map(|followed| followed.standing);
            let allowed = match standing {
                Some(Standing::Running) => true,
                Some(Standing::Paused | Standing::Preempted) => memory.gpu_blocks == 0,
                _ => memory.gpu_blocks == 0 && memory.host_bytes == Bytes::ZERO,
            };
            if !allowed {
                let text = format!(
                    "{} holds {} layer-blocks and {} while it is {standing:?}",
                    memory.request, memory.gpu_blocks, memory.host_bytes
                );
                self.broken(3, text);
            }
        }
        self.inspected = Some(Inspected {
            gpu_blocks: snapshot.gpu_blocks,
            host_bytes: snapshot.host_bytes,
            waiting: snapshot.waiting,
            preempted: snapshot.preempted,
            decode: snapshot.timeline.map(|_| snapshot.decode),
        });
    }
}
