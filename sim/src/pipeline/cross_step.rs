//! Copies across the boundary of two decode steps: `cross_step_prefetch` (design §3.4).
//!
//! Once the last fetched layer of a request has been computed, all its slots are free, and the copy for its first
//! offloaded layer of the **next** step may start. The same copy engine runs it, behind every copy of this step: among
//! those that may start the lowest `(layer, request)` goes first; under [`CopyOrder::InOrder`](super::CopyOrder) they go
//! strictly in that order. None starts at or after the end of the step, which is the end of layer L and the tail. One
//! that runs then runs on, through the tail and whatever lies between the steps, and the engine takes no other before it
//! has landed, whether it is still of use or not. In the next step the layer holds one of its request's slots from the
//! beginning. Copies and layers contend as they do within a step; between steps a copy runs alone.
//!
//! **One request, one offloaded layer** `j`, each layer `t`, the copy `C`, tail `u`, `(L−j)·t + u > 0`: from the second
//! step on layer `j` starts at `max((j−1)·t, C − (L−j)·t − u)`, and a step with its tail takes
//!
//! ```text
//! max(L·t + u, C + t)        instead of        max(C, (j−1)·t) + (L−j+1)·t + u
//! ```
//!
//! Compute and the loop "copy, layer `j`" are all that bind: `j` is out of the formula. With L = 4, t = 1 ms,
//! C = 6 ms, j = 2 and no tail a step takes 7 ms instead of 9 ms. Worked so in the tests
//! `the_loop_of_one_layer_binds_instead_of_copy_and_compute_in_a_row` and
//! `the_formula_holds_for_one_layer_of_one_request_wherever_it_is`.
//!
//! **Whom it helps**: one request without contention is never slower, in no step: every copy may start at least as
//! early as without, and so may every layer. A batch can be slower: the copy that runs across the boundary may be for a
//! high layer and hold up the one for a low layer. L = 10, t = 1 ms: `a` fetches layers 1 and 10 (1 ms each), `b` layer
//! 9 (5 ms). Without, layer 1 waits 1 ms and a step takes 11 ms. With it, `b`'s copy starts when layer 9 has ended, has
//! 4 ms left at the end of the step, `a`'s copy for layer 1 waits for it, and a step takes 15 ms. Under contention
//! even one request can lose, for its copy slows the last layers.
//!
//! Knows nothing about requests that leave or change their layout: whoever calls says which head starts still count.

use super::events::Simulation;
use super::progress::Progress;
use super::{StepTiming, StepWork, WriteBack};
use crate::ids::Layer;
use crate::record::StepTimeline;
use crate::units::{SimDuration, SimTime};

/// A copy that runs while a step begins or ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InFlight(pub(super) Progress);

impl InFlight {
    /// Time until it has landed if nothing contends with it.
    pub fn time_left(&self) -> SimDuration {
        self.0.time_left(false)
    }

    /// Lets `span` pass between two steps; false once it has landed.
    pub fn runs_on_after(&mut self, span: SimDuration) -> bool {
        self.0.pass(span.min(self.time_left()), false);
        !self.0.is_done()
    }
}

/// What was done in the step before for the first fetched layer of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadStart {
    /// Nothing: the copy is one of the step's own.
    #[default]
    None,
    /// The copy that is in flight is for it.
    InFlight,
    /// It has landed.
    Landed,
}

/// The first copy of a request in the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextCopy {
    /// The layer.
    pub layer: Layer,
    /// How long the copy takes alone.
    pub time: SimDuration,
}

/// What ties a step to those before and after it. The slices are by request of the work, which must hold everyone who
/// has a head start or a next copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossStep<'a> {
    /// What the step before did for each request; a shorter slice stands for [`HeadStart::None`].
    pub head_starts: &'a [HeadStart],
    /// The copy that runs when the step begins. For no one in the step if no head start is [`HeadStart::InFlight`].
    pub in_flight: Option<InFlight>,
    /// Each request's first copy of the next step; a shorter slice stands for `None`.
    pub next: &'a [Option<NextCopy>],
    /// From the end of layer L to the end of the step.
    pub tail: SimDuration,
}

/// What a step leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Onward {
    /// What was done for each request's next copy.
    pub head_starts: Vec<HeadStart>,
    /// The copy that runs when the tail is over.
    pub in_flight: Option<InFlight>,
}

/// Simulates one decode step that begins at `start` between its neighbours, copy by copy and layer by layer.
///
/// As [`super::timeline`], which is this step alone. Panics if a request has a head start and fetches nothing, or two
/// wait for the copy in flight, or one does and there is none.
pub fn cross_step(
    work: &StepWork<'_>,
    start: SimTime,
    writes: Option<(&mut WriteBack, SimDuration)>,
    cross: CrossStep<'_>,
) -> (StepTiming, StepTimeline, Onward) {
    let awaited = cross.head_starts.iter().filter(|head| **head == HeadStart::InFlight).count();
    assert!(
        awaited <= usize::from(cross.in_flight.is_some()),
        "Invariant: at most one copy is in flight between two steps"
    );
    Simulation::new(work, start, writes, cross).run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LayerSet;
    use crate::pipeline::{Contention, CopyOrder, CopyTimes, LayerTimes, StepRequest, timeline};

    /// Per request the layers that it fetches and how long each copy takes, in ms.
    type Batch<'a> = &'a [(&'a [u32], u64)];

    fn ms(count: u64) -> SimDuration {
        SimDuration::from_picos(count * 1_000_000_000)
    }

    fn with_work<T>(layers: u32, batch: Batch<'_>, slots: u32, run: impl FnOnce(&StepWork<'_>) -> T) -> T {
        let requests: Vec<StepRequest<'_>> = (batch.iter())
            .map(|(fetched, copy)| StepRequest {
                fetched: fetched.iter().map(|layer| Layer(*layer)).collect::<LayerSet>(),
                copy: CopyTimes::Same(ms(*copy)),
            })
            .collect();
        run(&StepWork {
            layers,
            compute: LayerTimes::Same(ms(1)),
            requests: &requests,
            slots,
            order: CopyOrder::ReadyFirst,
            contention: Contention::NONE,
        })
    }

    /// Steps in a row, each layer 1 ms: their times without the tail, in ms.
    fn steps_ms(layers: u32, batch: Batch<'_>, slots: u32, tail: u64, count: usize) -> Vec<u64> {
        with_work(layers, batch, slots, |work| {
            let next: Vec<Option<NextCopy>> = (work.requests.iter())
                .map(|request| {
                    let layer = request.fetched.first()?;
                    Some(NextCopy { layer, time: request.copy.of(layer) })
                })
                .collect();
            let mut before = Onward::default();
            (0..count)
                .map(|_| {
                    let Onward { head_starts, in_flight } = &before;
                    let cross = CrossStep { head_starts, in_flight: *in_flight, next: &next, tail: ms(tail) };
                    let (timing, _, onward) = cross_step(work, SimTime::ZERO, None, cross);
                    before = onward;
                    timing.step.as_picos() / 1_000_000_000
                })
                .collect()
        })
    }

    fn alone_ms(layers: u32, batch: Batch<'_>, slots: u32) -> u64 {
        let step = with_work(layers, batch, slots, |work| timeline(work, SimTime::ZERO, None).0.step);
        step.as_picos() / 1_000_000_000
    }

    #[test]
    fn the_loop_of_one_layer_binds_instead_of_copy_and_compute_in_a_row() {
        // Alone: the copy 0–6, layers 2 to 4: 9. Then layer 2 ends at 7, the next copy runs 7–13, 4 ms into the next
        // step: layers 2 to 4 are 4–7, the copy for the step after 5–11, again 4 ms into it.
        assert_eq!(alone_ms(4, &[(&[2], 6)], 1), 9);
        assert_eq!(steps_ms(4, &[(&[2], 6)], 1, 0, 4), [9, 7, 7, 7]);
        // 1 ms of tail: 3 ms into it, and 6 + 1 of tail are the same 7.
        assert_eq!(steps_ms(4, &[(&[2], 6)], 1, 1, 3), [9, 6, 6]);
    }

    #[test]
    fn the_formula_holds_for_one_layer_of_one_request_wherever_it_is() {
        for (layers, tail, copy, slots) in
            [(6, 0, 9, 1), (6, 2, 9, 2), (6, 3, 2, 1), (3, 0, 1, 3), (8, 1, 30, 1)]
        {
            for offloaded in (1..=layers).filter(|offloaded| u64::from(layers - offloaded) + tail > 0) {
                let batch: Batch<'_> = &[(&[offloaded], copy)];
                let all = u64::from(layers);
                let (before, after) = (u64::from(offloaded) - 1, u64::from(layers - offloaded) + 1);
                assert_eq!(alone_ms(layers, batch, slots), copy.max(before) + after);
                for step in &steps_ms(layers, batch, slots, tail, 4)[1..] {
                    assert_eq!(step + tail, (all + tail).max(copy + 1), "layer {offloaded} of {layers}");
                }
            }
        }
    }

    #[test]
    fn a_copy_for_layer_l_has_no_head_start_without_a_tail() {
        // It may start when layer L has ended, which is the end of the step: the next step starts it itself.
        assert_eq!(steps_ms(4, &[(&[4], 6)], 1, 0, 3), [7, 7, 7]);
        assert_eq!(steps_ms(4, &[(&[4], 6)], 1, 2, 3), [7, 5, 5]); // 2 ms of the copy are in the tail
    }

    #[test]
    fn the_slot_of_the_head_start_is_taken_until_its_layer_is_computed() {
        // Two layers, 1 and 3, of 2 ms. Step 1: copy 1 0–2, layer 1 2–3. One slot: copy 3 3–5, layers 2 to 4 3–4, 5–7;
        // copy 1 for the next step 6–8, 1 ms into it. Step 2: layer 1 1–2, copy 3 2–4, layer 3 4–5, layer 4 5–6; copy 1
        // 5–7, 1 ms into the next, and so on.
        assert_eq!(steps_ms(4, &[(&[1, 3], 2)], 1, 0, 4), [7, 6, 6, 6]);
        // Two slots. Step 1: copies 0–2 and 2–4, layer 1 2–3, layer 2 3–4, layers 3, 4 4–6, copy 1 5–7. Step 2: copy 3
        // need not wait for layer 1: 1–3; layers 1–5, copy 1 4–6, 1 ms into the next.
        assert_eq!(steps_ms(4, &[(&[1, 3], 2)], 2, 0, 4), [6, 5, 5, 5]);
    }

    #[test]
    fn a_batch_can_be_slower_for_a_copy_across_the_boundary_cannot_be_interrupted() {
        let batch: Batch<'_> = &[(&[1, 10], 1), (&[9], 5)];
        assert_eq!(alone_ms(10, batch, 1), 11);
        assert_eq!(steps_ms(10, batch, 1, 0, 4), [11, 15, 15, 15]);
    }

    #[test]
    fn a_dropped_copy_holds_the_engine_and_helps_no_one() {
        with_work(4, &[(&[2], 6)], 1, |work| {
            let dropped = InFlight(Progress::of_copy(ms(4), Contention::NONE));
            let cross = CrossStep { in_flight: Some(dropped), ..CrossStep::default() };
            let (timing, spans, onward) = cross_step(work, SimTime::ZERO, None, cross);
            // The own copy 4–10, layers 2 to 4 10–13.
            assert_eq!((timing.step, timing.copy, onward.in_flight), (ms(13), ms(6), None));
            let carried = spans.carried.unwrap();
            assert_eq!((carried.layer, carried.end, spans.copies[0].start), (None, ms(4), ms(4)));
        });
        // With nothing to copy the step does not wait for it: 16 ms are left of 20.
        with_work(4, &[(&[], 6)], 1, |work| {
            let dropped = InFlight(Progress::of_copy(ms(20), Contention::NONE));
            let cross = CrossStep { in_flight: Some(dropped), ..CrossStep::default() };
            let (timing, _, onward) = cross_step(work, SimTime::ZERO, None, cross);
            assert_eq!((timing.step, onward.in_flight.unwrap().time_left()), (ms(4), ms(16)));
        });
    }
}
