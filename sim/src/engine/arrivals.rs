//! When each request enters the waiting queue: at an instant, at a step, or after an earlier turn of its session.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::EngineRequest;
use crate::ids::RequestId;
use crate::trace::Arrival;
use crate::units::SimTime;

/// Requests that have not arrived yet.
pub struct Arrivals {
    /// Fixed instants, earliest last; equal ones in trace order.
    timed: Vec<(SimTime, RequestId)>,
    /// Fixed steps, earliest last.
    stepped: Vec<(u64, RequestId)>,
    /// Later turns by the turn they wait for.
    turns: Vec<(RequestId, crate::units::SimDuration, RequestId)>,
    /// Later turns whose turn before is over.
    ready: BinaryHeap<Reverse<(SimTime, RequestId)>>,
}

impl Arrivals {
    /// Everything is still to come.
    pub fn new(requests: &[EngineRequest]) -> Self {
        let (mut timed, mut stepped, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        for (index, request) in requests.iter().enumerate() {
            let id = RequestId(u32::try_from(index).expect("Invariant: at most 2^32 requests"));
            match request.arrival {
                Arrival::At(at) => timed.push((at, id)),
                Arrival::Step(step) => stepped.push((step, id)),
                Arrival::AfterTurn { previous, think } => turns.push((previous, think, id)),
            }
        }
        timed.sort_unstable_by_key(|due| Reverse(*due));
        stepped.sort_unstable_by_key(|due| Reverse(*due));
        turns.sort_unstable();
        Arrivals { timed, stepped, turns, ready: BinaryHeap::new() }
    }

    /// A request is over: its next turns arrive after their think time.
    pub fn over(&mut self, request: RequestId, at: SimTime) {
        let first = self.turns.partition_point(|(previous, _, _)| *previous < request);
        for (_, think, id) in self.turns[first..].iter().take_while(|(previous, _, _)| *previous == request) {
            self.ready.push(Reverse((at + *think, *id)));
        }
    }

    /// The next request that is due at `now` with the step counter at `step`, and when it arrived.
    pub fn next_due(&mut self, now: SimTime, step: u64) -> Option<(SimTime, RequestId)> {
        let stepped = self.stepped.last().filter(|(due, _)| *due <= step);
        if let Some((_, id)) = stepped.copied() {
            self.stepped.pop();
            return Some((now, id));
        }
        let timed = self.timed.last().copied().filter(|(at, _)| *at <= now);
        let ready = self.ready.peek().map(|Reverse(due)| *due).filter(|(at, _)| *at <= now);
        match (timed, ready) {
            (Some(fixed), Some(turn)) if turn < fixed => self.ready.pop().map(|Reverse(due)| due),
            (Some(_), _) => self.timed.pop(),
            (None, Some(_)) => self.ready.pop().map(|Reverse(due)| due),
            (None, None) => None,
        }
    }

    /// When nothing is live: the instant and the step counter at which the next request arrives. Arrivals in steps come
    /// at no wall time (design §3.5).
    pub fn jump(&self, now: SimTime, step: u64) -> Option<(SimTime, u64)> {
        if let Some((due, _)) = self.stepped.last() {
            return Some((now, step.max(*due)));
        }
        let timed = self.timed.last().map(|(at, _)| *at);
        let ready = self.ready.peek().map(|Reverse((at, _))| *at);
        timed.into_iter().chain(ready).min().map(|at| (now.max(at), step))
    }
}
