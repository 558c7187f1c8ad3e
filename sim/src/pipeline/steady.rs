//! One step among steps like it, with `cross_step_prefetch`: what a single step means where copies cross its ends.
//!
//! A step that begins with nothing copied ahead is followed by the same step over and over: same batch, same placements,
//! same times, nothing between the end of one, tail included, and the start of the next. What one leaves to the next
//! ([`Onward`]: who has a head start, and how much of a copy is left) decides the next completely, so once a state comes
//! again everything does. **The step** is the first that begins as an earlier one did; where two in a row begin alike
//! the period is 1, and every further step is that step.
//!
//! Worked (4 layers of 1 ms, layer 2 offloaded, 6 ms per copy, one slot, no tail): the first step takes 9 ms and leaves 4 ms
//! of a copy. From then on layer 2 starts when they are over, layers 2 to 4 end at 7 ms, the next copy begins when layer 2 has
//! ended, at 5 ms, and is again 4 ms short at the end: the second step takes 7 ms and leaves what it found, period 1.
//!
//! Nearly every batch settles at once. One may come again only after two steps (9 layers of 2 ms, two slots, 3 ms of
//! tail; layers 4 and 8 in 1 ms each, 6 in 6, 1, 5 and 9 in 7: 27 and 25 ms in turn), for a copy across the boundary
//! changes who goes first. After [`MOST_STEPS`] the last one is answered, without a period. Writes to the host are left
//! out, as in `orbitflow step`.

use super::cross_step::{CrossStep, HeadStart, NextCopy, Onward, cross_step};
use super::{StepTiming, StepWork};
use crate::ids::Layer;
use crate::record::{CopySpan, StepTimeline};
use crate::units::{SimDuration, SimTime};

/// Steps after which no period is looked for any more.
const MOST_STEPS: usize = 1_000;

/// A copy for a step that the step before began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarriedCopy {
    /// Place of the request in the batch, from 0.
    pub request: usize,
    /// Which of its layers.
    pub layer: Layer,
    /// How long before the start of the step it began.
    pub began_before: SimDuration,
    /// From there until it had landed.
    pub took: SimDuration,
}

/// A step among steps like it.
#[derive(Clone, Debug, PartialEq)]
pub struct Steady {
    /// Steps like it before it.
    pub steps_before: usize,
    /// After how many steps the same comes again; `None`: not within `MOST_STEPS`.
    pub period: Option<usize>,
    /// The mean of the steps of a period, tails included, to the nearest picosecond.
    pub mean: Option<SimDuration>,
    /// The step without its tail.
    pub timing: StepTiming,
    /// Its own copies, those that it began for the next step, and its layers.
    pub timeline: StepTimeline,
    /// Its copies that the step before began, by request.
    pub carried: Vec<CarriedCopy>,
}

/// Repeats `work`, each time with `tail` behind layer L, until it is seen to come again. Panics as
/// [`timeline`](super::timeline) does.
pub fn steady(work: &StepWork<'_>, tail: SimDuration) -> Steady {
    let next: Vec<Option<NextCopy>> = (work.requests.iter())
        .map(|request| {
            let layer = request.fetched.first()?;
            Some(NextCopy { layer, time: request.copy.of(layer) })
        })
        .collect();
    let run = |before: &Onward| {
        let Onward { head_starts, in_flight } = before;
        let cross = CrossStep { head_starts, in_flight: *in_flight, next: &next, tail };
        cross_step(work, SimTime::ZERO, None, cross)
    };
    let nothing = Onward { head_starts: vec![HeadStart::None; next.len()], in_flight: None };
    let mut begins = vec![nothing];
    let mut steps: Vec<StepTiming> = Vec::new();
    loop {
        let (timing, timeline, onward) = run(begins.last().expect("Invariant: there is a first step"));
        steps.push(timing);
        let first = begins.iter().position(|begin| *begin == onward);
        let (steps_before, period) = (steps.len(), first.map(|first| steps.len() - first));
        if period.is_none() && steps_before < MOST_STEPS {
            begins.push(onward);
            continue;
        }
        let last = timing.step + tail;
        let (timing, of_next, _) = run(&onward);
        let mean = period.map(|period| mean(&steps[steps_before - period..], tail));
        let carried = carried(&onward, &timeline, last, &of_next);
        return Steady { steps_before, period, mean, timing, timeline: of_next, carried };
    }
}

fn mean(steps: &[StepTiming], tail: SimDuration) -> SimDuration {
    let count = steps.len() as u64;
    let sum: u64 = steps.iter().map(|timing| (timing.step + tail).as_picos()).sum();
    SimDuration::from_picos((sum + count / 2) / count)
}

/// What the step before, which took `last`, had begun: out of its own timeline and that of the step that goes on with it.
fn carried(
    onward: &Onward,
    before: &StepTimeline,
    last: SimDuration,
    step: &StepTimeline,
) -> Vec<CarriedCopy> {
    let mut copies = before.ahead.clone();
    copies.sort_unstable_by_key(|copy| copy.request);
    let of = |copy: &CopySpan| {
        let began_before = last - copy.start;
        let took = match onward.head_starts[copy.request] {
            HeadStart::InFlight => {
                began_before + step.carried.expect("Invariant: what is in flight is carried").end
            }
            HeadStart::Landed | HeadStart::None => copy.end - copy.start,
        };
        CarriedCopy { request: copy.request, layer: copy.layer, began_before, took }
    };
    copies.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LayerSet;
    use crate::pipeline::{Contention, CopyOrder, CopyTimes, LayerTimes, StepRequest};

    fn ms(count: u64) -> SimDuration {
        SimDuration::from_picos(count * 1_000_000_000)
    }

    /// So many layers of so many ms; per request the layers that it fetches and how long each copy takes, in ms.
    fn steady_of((layers, each): (u32, u64), batch: &[(&[u32], u64)], slots: u32, tail: u64) -> Steady {
        let requests: Vec<StepRequest<'_>> = (batch.iter())
            .map(|(fetched, copy)| StepRequest {
                fetched: fetched.iter().map(|layer| Layer(*layer)).collect::<LayerSet>(),
                copy: CopyTimes::Same(ms(*copy)),
            })
            .collect();
        let work = StepWork {
            layers,
            compute: LayerTimes::Same(ms(each)),
            requests: &requests,
            slots,
            order: CopyOrder::ReadyFirst,
            contention: Contention::NONE,
        };
        steady(&work, ms(tail))
    }

    #[test]
    fn a_copy_of_6_ms_behind_layer_2_of_4_settles_at_7_ms_with_4_carried() {
        let steady = steady_of((4, 1), &[(&[2], 6)], 1, 0);
        assert_eq!((steady.timing.step, steady.steps_before, steady.period), (ms(7), 2, Some(1)));
        let carried = CarriedCopy { request: 0, layer: Layer(2), began_before: ms(2), took: ms(6) };
        assert_eq!(steady.carried, [carried]);
        let ahead = steady.timeline.ahead[0];
        assert_eq!((steady.timeline.copies.len(), ahead.start, ahead.end), (0, ms(5), ms(11)));
        assert_eq!(steady.mean, Some(ms(7)));
    }

    #[test]
    fn a_short_copy_lands_before_its_step_begins() {
        // Layer 2 ends at 2 ms, the copy for the next step is 2–3 of 4 ms: it began 2 ms before the step and took 1.
        let steady = steady_of((4, 1), &[(&[2], 1)], 1, 0);
        assert_eq!((steady.timing.step, steady.period), (ms(4), Some(1)));
        let carried = CarriedCopy { request: 0, layer: Layer(2), began_before: ms(2), took: ms(1) };
        assert_eq!((steady.carried, steady.timing.copy), (vec![carried], ms(0)));
    }

    #[test]
    fn without_copies_every_step_is_the_first() {
        let steady = steady_of((3, 1), &[(&[], 1)], 1, 2);
        assert_eq!((steady.timing.step, steady.steps_before, steady.period), (ms(3), 1, Some(1)));
        assert_eq!((steady.mean, steady.carried.len()), (Some(ms(5)), 0));
    }

    #[test]
    fn a_batch_may_come_again_only_after_two_steps_and_its_mean_says_so() {
        // 31 ms, then 27 and 25 in turn, and 3 of tail: (27 + 25) / 2 + 3
        let steady = steady_of((9, 2), &[(&[4, 8], 1), (&[6], 6), (&[1, 5, 9], 7)], 2, 3);
        assert_eq!((steady.timing.step, steady.steps_before, steady.period), (ms(27), 3, Some(2)));
        assert_eq!(steady.mean, Some(ms(29)));
    }
}
