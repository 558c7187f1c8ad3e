//! Where each request is, from its arrival to its end: waiting, in prefill, decoding, paused or preempted.
//!
//! [`States`] follows the records and says each state once it is over: who, what, from when to when. A request's states
//! follow each other without a gap, and those of no time are left out. A state changes at a step boundary, but for the
//! arrival, which has the instant of the trace. Worked: r0 arrives at 0, is admitted and has its first token after a
//! prefill of 5 ms; r1 arrives at 2 ms and waits for 3 ms, until that step is over (a test below).
//!
//! A request that decodes stays in that state while the prompts of others are processed, which holds it up
//! (`prefill = "separate"`): steps tell that, states do not. Knows nothing about files.

mod log;

use std::collections::BTreeMap;

pub use log::{MOST_REQUESTS, MOST_ROWS, StateLog};

use crate::ids::RequestId;
use crate::record::Record;
use crate::units::SimTime;

/// Where a request is between its arrival and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestState {
    /// In the queue, never admitted.
    Waiting,
    /// Admitted, without a token yet.
    Prefill,
    /// Running, with a token.
    Decode,
    /// Held back: a slot, no GPU layers.
    Paused,
    /// Lost its slot and its GPU layers.
    Preempted,
}

impl RequestState {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            RequestState::Waiting => "waiting",
            RequestState::Prefill => "prefill",
            RequestState::Decode => "decode",
            RequestState::Paused => "paused",
            RequestState::Preempted => "preempted",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// With its last token.
    Finished,
    /// It outgrew the pool or `max_context`.
    Capped,
    /// Turned away on arrival.
    Rejected,
}

impl End {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            End::Finished => "finished",
            End::Capped => "capped",
            End::Rejected => "rejected",
        }
    }
}

/// What is known of a request once a state, or its life, is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It was in a state, for longer than no time.
    Was {
        /// Where.
        state: RequestState,
        /// Since when.
        start: SimTime,
        /// Until when.
        end: SimTime,
    },
    /// It ended.
    Ended {
        /// How.
        end: End,
        /// When.
        at: SimTime,
    },
}

/// A state that is not over.
#[derive(Clone, Copy, Debug)]
struct Open {
    state: RequestState,
    since: SimTime,
    has_token: bool,
}

/// The states of all requests that have arrived and not ended; memory grows with those alone.
#[derive(Clone, Debug, Default)]
pub struct States {
    open: BTreeMap<RequestId, Open>,
}

impl States {
    /// Takes a record, and hands on what it ends.
    pub fn follow(&mut self, record: &Record<'_>, mut over: impl FnMut(RequestId, Passage)) {
        match *record {
            Record::Arrived { at, request } => {
                self.open.insert(request, Open { state: RequestState::Waiting, since: at, has_token: false });
            }
            Record::Admitted { at, request }
            | Record::Resumed { at, request }
            | Record::Readmitted { at, request } => {
                self.run(request, at, over);
            }
            Record::Paused { at, request } => self.turn(request, at, RequestState::Paused, over),
            Record::Preempted { at, request } => self.turn(request, at, RequestState::Preempted, over),
            Record::Step { step, delivered } => {
                let end = step.start + step.duration;
                for request in delivered {
                    let open =
                        self.open.get_mut(request).expect("Invariant: only a live request makes a token");
                    if !open.has_token {
                        open.has_token = true;
                        self.run(*request, end, &mut over);
                    }
                }
            }
            Record::Finished { at, request } => self.end(request, at, End::Finished, over),
            Record::Capped { at, request } => self.end(request, at, End::Capped, over),
            Record::Rejected { at, request, .. } => self.end(request, at, End::Rejected, over),
            Record::Placed { .. } | Record::PlacementRefused { .. } | Record::Planned { .. } => {}
        }
    }

    /// Every state that is not over at `at`, in the order of requests.
    pub fn open_until(&self, at: SimTime) -> impl Iterator<Item = (RequestId, Passage)> + '_ {
        self.open.iter().filter_map(move |(request, open)| Some((*request, was(*open, at)?)))
    }

    /// It runs from `at` on: with its prompt, or with its next token.
    fn run(&mut self, request: RequestId, at: SimTime, over: impl FnMut(RequestId, Passage)) {
        let has_token = self.open.get(&request).is_some_and(|open| open.has_token);
        let state = if has_token { RequestState::Decode } else { RequestState::Prefill };
        self.turn(request, at, state, over);
    }

    fn turn(
        &mut self,
        request: RequestId,
        at: SimTime,
        state: RequestState,
        mut over: impl FnMut(RequestId, Passage),
    ) {
        let open =
            self.open.get_mut(&request).expect("Invariant: a request changes its state after it arrived");
        if open.state == state {
            return;
        }
        let before = std::mem::replace(open, Open { state, since: at, has_token: open.has_token });
        was(before, at).into_iter().for_each(|passage| over(request, passage));
    }

    fn end(&mut self, request: RequestId, at: SimTime, end: End, mut over: impl FnMut(RequestId, Passage)) {
        let open = self.open.remove(&request).expect("Invariant: a request ends after it arrived");
        was(open, at).into_iter().for_each(|passage| over(request, passage));
        over(request, Passage::Ended { end, at });
    }
}

/// The state is over at `end`; `None` if it took no time.
fn was(open: Open, end: SimTime) -> Option<Passage> {
    let Open { state, since: start, .. } = open;
    (start < end).then_some(Passage::Was { state, start, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sink;
    use crate::script::{Script, ms};

    #[derive(Default)]
    struct Heard {
        states: States,
        lines: Vec<String>,
    }

    impl Sink for Heard {
        fn record(&mut self, record: &Record<'_>) {
            let lines = &mut self.lines;
            let in_ms = |at: SimTime| at.as_picos() / 1_000_000_000;
            self.states.follow(record, |request, passage| {
                lines.push(match passage {
                    Passage::Was { state, start, end } => {
                        format!("{request} {} {}-{}", state.name(), in_ms(start), in_ms(end))
                    }
                    Passage::Ended { end, at } => format!("{request} {} {}", end.name(), in_ms(at)),
                });
            });
        }
    }

    fn heard(script: &Script) -> Vec<String> {
        let mut heard = Heard::default();
        script.replay(&mut heard);
        assert!(heard.states.open.is_empty());
        heard.lines
    }

    #[test]
    fn states_follow_each_other_from_the_arrival_to_the_end() {
        let mut script = Script::default();
        script.arrive(0);
        script.admit(0);
        script.prefill(ms(5), &[0]);
        // r1 came while the prompt of r0 was processed.
        let late = Record::Arrived { at: SimTime::ZERO + ms(2), request: RequestId(1) };
        script.arrive(1);
        *script.events.last_mut().unwrap() = crate::script::Event::Plain(late);
        script.admit(1);
        script.prefill(ms(4), &[1]);
        script.pause(1);
        script.decode(ms(3), &[0]);
        script.preempt(0);
        script.resume(1);
        script.decode(ms(2), &[1]);
        script.finish(1);
        script.readmit(0);
        script.decode(ms(1), &[0]);
        script.cap(0);
        assert_eq!(
            heard(&script),
            [
                "r0 prefill 0-5",
                "r1 waiting 2-5",
                "r1 prefill 5-9",
                "r0 decode 5-12",
                "r1 paused 9-12",
                "r1 decode 12-14",
                "r1 finished 14",
                "r0 preempted 12-14",
                "r0 decode 14-15",
                "r0 capped 15",
            ]
        );
    }

    #[test]
    fn states_of_no_time_are_left_out_and_ends_are_not() {
        let mut script = Script::default();
        script.arrive(0);
        script.reject(0);
        script.arrive(1);
        script.admit(1);
        script.prefill(ms(1), &[1]);
        script.finish(1); // one output token: it never decodes
        assert_eq!(heard(&script), ["r0 rejected 0", "r1 prefill 0-1", "r1 finished 1"]);
    }
}
