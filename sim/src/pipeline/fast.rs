//! The time of a decode step without its timeline: the same answer as [`super::timeline`], for engines.
//!
//! Three cases, fastest first; tests hold each equal to the event-driven simulation:
//! nothing fetched; every fetching request the same layers; anything. The case is found from the work itself.
//! A fourth, for steps that fetch while copies and compute slow each other, stands in [`super::contended`].
//! Nothing is allocated once [`Scratch`] has seen the largest batch.

use super::compute::{ComputeStream, Writes};
use super::contended::{Contended, run_contended};
use super::ready_first::{ReadyFirst, run_ready_first};
use super::{CopyOrder, CopyTimes, StepTiming, StepWork, WriteBack};
use crate::ids::Layer;
use crate::model::LayerSet;
use crate::units::{SimDuration, SimTime};

/// Memory that [`step`] uses again and again. What it holds between steps has no meaning.
#[derive(Debug, Default)]
pub struct Scratch {
    /// End of each fetched layer.
    ends: Vec<SimDuration>,
    /// Per request, the layers whose slots it will take next.
    slots: Vec<SlotQueue>,
    ready_first: ReadyFirst,
    contended: Contended,
}

/// The time of one decode step that begins at `start`; equal to [`super::timeline`] and much faster.
///
/// `writes` is the write-through of the new KV and the time of one write (one per layer); `None` where it costs
/// nothing. `start` matters only for the writes that earlier steps left behind. Panics if the work is not
/// valid ([`StepWork`]) or takes more than 213 days.
pub fn step(
    work: &StepWork<'_>,
    start: SimTime,
    writes: Option<(&mut WriteBack, SimDuration)>,
    scratch: &mut Scratch,
) -> StepTiming {
    let fetched = work.checked_fetched();
    let (mut delaying, mut silent) = (None, None);
    if let Some((state, write)) = writes {
        assert_eq!(state.layers(), work.layers, "Invariant: writes and steps are of one model");
        if state.keeps_up(work.compute, start, write) {
            silent = Some((state, write));
        } else {
            delaying = Some(Writes { state, write, start });
        }
    }
    let timing = if work.contention.is_none() || fetched.is_empty() {
        alone(work, fetched, delaying, scratch)
    } else {
        run_contended(work, fetched, delaying, &mut scratch.ready_first, &mut scratch.contended)
    };
    if let Some((state, write)) = silent {
        state.kept_up(start + timing.step, write);
    }
    timing
}

/// A step in which neither copies nor compute slow each other.
fn alone(
    work: &StepWork<'_>,
    fetched: LayerSet,
    writes: Option<Writes<'_>>,
    scratch: &mut Scratch,
) -> StepTiming {
    let compute = ComputeStream::new(work.compute, writes);
    let (step, copy) = if fetched.is_empty() {
        (compute.run_out(work.layers), SimDuration::ZERO)
    } else {
        let copy = work.requests.iter().map(|request| request.copy.total(request.fetched)).sum();
        (run(work, fetched, compute, scratch), copy)
    };
    StepTiming { step, compute: work.compute.total(work.layers), copy }
}

/// A step in which the layers of `fetched` are fetched by someone.
fn run(
    work: &StepWork<'_>,
    fetched: LayerSet,
    compute: ComputeStream<'_, '_>,
    scratch: &mut Scratch,
) -> SimDuration {
    scratch.ends.resize(Layer::MAX as usize, SimDuration::ZERO);
    if work.requests.iter().all(|request| request.fetched.is_empty() || request.fetched == fetched) {
        run_common_set(work, fetched, compute, &mut scratch.ends)
    } else if work.order == CopyOrder::InOrder {
        run_in_order(work, fetched, compute, scratch)
    } else {
        run_ready_first(work, fetched, compute, &mut scratch.ends, &mut scratch.ready_first)
    }
}

/// All fetching requests fetch the layers of `set`, and each owns `s` slots.
///
/// The `k`-th copy of every request waits for the end of the same layer, the `(k−s)`-th of the set, so slots
/// free together; and those ends only grow with `k`. Whenever a copy of layer `k+1` may start, so may every
/// copy of layer `k` that is left, and that one goes first. So under both orders the copies for one layer run
/// back to back, layer after layer, and act like one copy of their summed time.
fn run_common_set(
    work: &StepWork<'_>,
    set: LayerSet,
    mut compute: ComputeStream<'_, '_>,
    ends: &mut [SimDuration],
) -> SimDuration {
    let fetching = || work.requests.iter().filter(|request| !request.fetched.is_empty());
    let uniform = fetching().try_fold(SimDuration::ZERO, |sum, request| match request.copy {
        CopyTimes::Same(time) => Some(sum + time),
        CopyTimes::PerLayer(_) => None,
    });
    let slots = work.slots as usize;
    let mut landed = SimDuration::ZERO;
    for (place, layer) in set.iter().enumerate() {
        if place >= slots {
            landed = landed.max(ends[place - slots]);
        }
        landed += uniform.unwrap_or_else(|| fetching().map(|request| request.copy.of(layer)).sum());
        ends[place] = compute.run_through(layer, landed);
    }
    compute.run_out(work.layers)
}

/// Any sets, strictly by `(layer, request)`: one pass, as the slot that a copy waits for belongs to a lower
/// layer, whose end is known by then.
fn run_in_order(
    work: &StepWork<'_>,
    fetched: LayerSet,
    mut compute: ComputeStream<'_, '_>,
    scratch: &mut Scratch,
) -> SimDuration {
    let Scratch { ends, slots, .. } = scratch;
    slots.clear();
    slots.extend(work.requests.iter().map(|request| SlotQueue::new(request.fetched, work.slots)));
    let mut landed = SimDuration::ZERO;
    for layer in fetched.iter() {
        for (request, queue) in work.requests.iter().zip(slots.iter_mut()) {
            if request.fetched.contains(layer) {
                if let Some(previous) = queue.take() {
                    landed = landed.max(ends[previous.index()]);
                }
                landed += request.copy.of(layer);
            }
        }
        ends[layer.index()] = compute.run_through(layer, landed);
    }
    compute.run_out(work.layers)
}

/// The staging slots of one request: which layer each of its copies must wait for.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotQueue {
    /// Slots that nothing was copied into yet.
    unused: u32,
    /// Layers whose slot no later copy has taken, lowest first.
    holding: LayerSet,
}

impl SlotQueue {
    /// The slots of a request that fetches `fetched`, before its first copy.
    pub fn new(fetched: LayerSet, slots: u32) -> Self {
        SlotQueue { unused: slots, holding: fetched }
    }

    /// Takes a slot for the next copy: the layer that must have been computed before, or `None` if the slot is
    /// unused. Call once per copy, in layer order.
    pub fn take(&mut self) -> Option<Layer> {
        if self.unused > 0 {
            self.unused -= 1;
            return None;
        }
        let layer = self.holding.first().expect("Invariant: there are no more copies than fetched layers");
        self.holding.remove(layer);
        Some(layer)
    }
}
