//! What decode steps have copied for the steps after them (`cross_step_prefetch`, design §3.4): who has a head start,
//! which copy is still on the link, and when it dies.
//!
//! A head start lives until the next decode step of its request. It is dropped when the request pauses, is preempted,
//! ends or is given another layout, even if it gets the old one back at the same boundary; the copy of a dropped one
//! that is under way runs to its end and holds the link: the next step's copies, and blocking restores, queue behind it.
//! A prefill step leaves head starts alone, and none begins in it, nor for a request whose prompt is being processed. The
//! engine knows the next context, one token more, but not which token is a request's last: it prefetches for requests
//! that finish with the step.
//!
//! Bytes count in the step in which a copy begins. Planning comes first in a step, then blocking restores, then the
//! decode part; the link intercept comes after the tail, and no copy begins in it. Staging is charged as ever:
//! the layer lies in one of the request's own slots.

use super::Engine;
use super::timing::Copies;
use crate::ids::RequestId;
use crate::pipeline::{self, CrossStep, HeadStart, InFlight, NextCopy, StepRequest, StepTiming, StepWork};
use crate::record::Sink;
use crate::units::{Bytes, SimDuration, SimTime, blocks_for_tokens};

/// First copies of the next decode step. Empty where the switch is off.
#[derive(Debug, Default)]
pub struct Ahead {
    landed: Vec<RequestId>,
    /// The copy under way, and whose it is, if it still is of use.
    in_flight: Option<(Option<RequestId>, InFlight)>,
    /// Up to when `in_flight` has run.
    as_of: SimTime,
}

impl Ahead {
    /// Drops the head start of a request that goes, or goes on otherwise.
    pub fn drop_request(&mut self, request: RequestId) {
        self.landed.retain(|other| *other != request);
        if let Some((whose, _)) = &mut self.in_flight {
            whose.take_if(|whose| *whose == request);
        }
    }

    /// Lets the copy under way run on until `now`, beside no decode step, and answers how long it still takes.
    pub fn run_until(&mut self, now: SimTime) -> SimDuration {
        let Some((whose, copy)) = &mut self.in_flight else { return SimDuration::ZERO };
        if copy.runs_on_after(now.saturating_since(self.as_of)) {
            self.as_of = now;
            return copy.time_left();
        }
        self.landed.extend(*whose);
        self.in_flight = None;
        SimDuration::ZERO
    }

    /// What was done for the first copy of `request`.
    pub fn head_start(&self, request: RequestId) -> HeadStart {
        match &self.in_flight {
            Some((Some(whose), _)) if *whose == request => HeadStart::InFlight,
            _ if self.landed.contains(&request) => HeadStart::Landed,
            _ => HeadStart::None,
        }
    }
}

impl<S: Sink> Engine<'_, S> {
    /// The decode part of a step between its neighbours, and the bytes of the copies that it begins for the next.
    /// `copies` are those that `work` was made of, in its order.
    pub(super) fn time_across(
        &mut self,
        work: &StepWork<'_>,
        copies: &[Copies],
        write: Option<SimDuration>,
        (decode_start, tail): (SimTime, SimDuration),
    ) -> (StepTiming, Bytes) {
        let head_starts: Vec<HeadStart> = copies.iter().map(|copies| copies.head_start).collect();
        let next: Vec<Option<(NextCopy, Bytes)>> =
            copies.iter().map(|copies| self.next_copy(copies)).collect();
        let next_copies: Vec<Option<NextCopy>> = next.iter().map(|next| next.map(|(copy, _)| copy)).collect();
        let in_flight = self.ahead.in_flight.map(|(_, copy)| copy);
        let cross = CrossStep { head_starts: &head_starts, in_flight, next: &next_copies, tail };
        let writes = write.map(|write| (&mut self.write_back, write));
        let (timing, timeline, onward) = pipeline::cross_step(work, self.now, writes, cross);

        let begun = |head: &HeadStart| *head != HeadStart::None;
        let begun_for_next = || onward.head_starts.iter().zip(&next).filter(|(head, _)| begun(head));
        if self.sink.inspects() {
            let requests: Vec<StepRequest<'_>> = (work.requests.iter().zip(&head_starts))
                .map(|(request, head)| match request.fetched.first().filter(|_| begun(head)) {
                    Some(first) => {
                        let mut fetched = request.fetched;
                        fetched.remove(first);
                        StepRequest { fetched, ..*request }
                    }
                    None => *request,
                })
                .collect();
            let own = StepWork { requests: &requests, ..*work };
            let carried = in_flight.map_or(SimDuration::ZERO, |copy| copy.time_left());
            let for_next = begun_for_next().filter_map(|(_, next)| next.map(|(copy, _)| copy.time));
            let others = carried + for_next.sum::<SimDuration>();
            self.emit_decode(&own, others, decode_start, timing, &timeline);
        }
        let bytes = begun_for_next().filter_map(|(_, next)| next.map(|(_, bytes)| bytes)).sum();
        let of = |wanted: HeadStart| {
            copies
                .iter()
                .zip(&onward.head_starts)
                .filter(move |(_, head)| **head == wanted)
                .map(|(c, _)| c.request)
        };
        self.ahead = Ahead {
            landed: of(HeadStart::Landed).collect(),
            in_flight: onward.in_flight.map(|copy| (of(HeadStart::InFlight).next(), copy)),
            as_of: decode_start + timing.step + tail,
        };
        (timing, bytes)
    }

    /// The copy of the first offloaded layer of a running request in the next decode step, and its bytes.
    fn next_copy(&self, copies: &Copies) -> Option<(NextCopy, Bytes)> {
        let request = copies.request;
        let live = &self.live[self.index(request)];
        if live.is_prefilling() {
            return None;
        }
        let layer = live.placement.offloaded.first()?;
        let bytes = self.setup.footprint.block_bytes * blocks_for_tokens(live.context() + 1);
        let noise = self.copy_noise(self.setup.server.switches.noise, self.steps + 1, request, layer);
        Some((NextCopy { layer, time: self.setup.truth.h2d.copy_time(bytes).scale(noise) }, bytes))
    }

    /// Says of everyone what the step before did, as it stands when the decode part begins.
    pub(super) fn note_head_starts(&mut self, copies: &mut [Copies], decode_start: SimTime) {
        self.ahead.run_until(decode_start);
        for copies in copies {
            copies.head_start = self.ahead.head_start(copies.request);
            let layout = self.live[self.index(copies.request)].placement;
            assert!(
                copies.head_start == HeadStart::None || copies.within == layout.offloaded,
                "Invariant: a request with a head start has the layout of the step before"
            );
        }
    }
}
