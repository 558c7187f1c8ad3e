//! The time of a decode step in which copies and compute slow each other, for engines: one sweep over its events.
//!
//! The closed forms of the other fast paths add up times that are known beforehand; under contention no end is known
//! before it has come. So this is the loop of [`super::timeline`] without its timeline and with its searches replaced:
//! the next copy comes off the boards of [`ReadyFirst`] or off the one list that in-order needs. Linear in the
//! number of copies and layers. Each copy ends on a picosecond of its own, so copies are not added up here.

use super::compute::Writes;
use super::fast::SlotQueue;
use super::progress::Progress;
use super::ready_first::ReadyFirst;
use super::{CopyOrder, StepTiming, StepWork};
use crate::ids::Layer;
use crate::model::LayerSet;
use crate::units::SimDuration;

/// Reused memory of [`run_contended`].
#[derive(Debug, Default)]
pub(super) struct Contended {
    /// Per layer, the copies that have not landed.
    missing: Vec<u32>,
    in_order: InOrder,
}

/// The step's timing. `fetched` are the layers that anyone fetches.
pub(super) fn run_contended(
    work: &StepWork<'_>,
    fetched: LayerSet,
    writes: Option<Writes<'_>>,
    ready_first: &mut ReadyFirst,
    scratch: &mut Contended,
) -> StepTiming {
    let Contended { missing, in_order } = scratch;
    missing.clear();
    missing.resize(work.layers as usize, 0);
    for layer in work.requests.iter().flat_map(|request| request.fetched.iter()) {
        missing[layer.index()] += 1;
    }
    let upcoming = match work.order {
        CopyOrder::ReadyFirst => {
            ready_first.prepare(work);
            Upcoming::ReadyFirst(ready_first)
        }
        CopyOrder::InOrder => {
            in_order.prepare(work, fetched);
            Upcoming::InOrder(in_order)
        }
    };
    let mut sweep = Sweep {
        work,
        writes,
        missing,
        upcoming,
        computed: 0,
        now: SimDuration::ZERO,
        stream_free: SimDuration::ZERO,
        layer: None,
        copy: None,
        timing: StepTiming::default(),
    };
    loop {
        let happened = sweep.land_copy() || sweep.end_layer() || sweep.start_layer() || sweep.start_copy();
        if !happened && !sweep.pass() {
            break;
        }
    }
    assert_eq!(sweep.computed, work.layers, "Invariant: a step always ends");
    StepTiming { step: sweep.stream_free, ..sweep.timing }
}

/// A step under way. Times count from its start.
struct Sweep<'s, 'w> {
    work: &'s StepWork<'s>,
    writes: Option<Writes<'w>>,
    missing: &'s mut [u32],
    upcoming: Upcoming<'s>,
    /// Layers that have ended.
    computed: u32,
    now: SimDuration,
    /// The end of the last layer, and of the write that the next one waits for.
    stream_free: SimDuration,
    /// The layer that is being computed.
    layer: Option<Progress>,
    /// The copy that is running, and the layer it is for.
    copy: Option<(Layer, Progress)>,
    /// Time spent computing and copying so far.
    timing: StepTiming,
}

impl Sweep<'_, '_> {
    fn land_copy(&mut self) -> bool {
        let Some((layer, _)) = self.copy.take_if(|(_, progress)| progress.is_done()) else { return false };
        self.missing[layer.index()] -= 1;
        true
    }

    fn end_layer(&mut self) -> bool {
        if self.layer.take_if(|progress| progress.is_done()).is_none() {
            return false;
        }
        self.computed += 1;
        self.stream_free = self.now;
        if let Some(Writes { state, write, start }) = &mut self.writes {
            let predecessor = state.write(Layer(self.computed), *start + self.now, *write);
            self.stream_free = self.now.max(predecessor.saturating_since(*start));
        }
        true
    }

    fn start_layer(&mut self) -> bool {
        let next = self.computed as usize;
        let waits = self.layer.is_some() || self.stream_free > self.now;
        if waits || self.computed == self.work.layers || self.missing[next] > 0 {
            return false;
        }
        let time = self.work.compute.of(Layer(self.computed + 1));
        self.layer = Some(Progress::of_layer(time, self.work.contention));
        true
    }

    fn start_copy(&mut self) -> bool {
        if self.copy.is_some() {
            return false;
        }
        let Some((layer, request)) = self.upcoming.take(self.work, self.computed) else { return false };
        let time = self.work.requests[request].copy.of(layer);
        self.copy = Some((layer, Progress::of_copy(time, self.work.contention)));
        true
    }

    /// Lets time pass until the next end; false if nothing is left to end.
    fn pass(&mut self) -> bool {
        let contended = self.layer.is_some() && self.copy.is_some();
        let write = (self.computed < self.work.layers && self.stream_free > self.now)
            .then(|| self.stream_free - self.now);
        let layer = self.layer.map(|progress| progress.time_left(contended));
        let copy = self.copy.map(|(_, progress)| progress.time_left(contended));
        let Some(span) = [write, layer, copy].into_iter().flatten().min() else { return false };
        if let Some(progress) = &mut self.layer {
            progress.pass(span, contended);
            self.timing.compute += span;
        }
        if let Some((_, progress)) = &mut self.copy {
            progress.pass(span, contended);
            self.timing.copy += span;
        }
        self.now += span;
        true
    }
}

/// The copies that have not begun.
enum Upcoming<'s> {
    ReadyFirst(&'s mut ReadyFirst),
    InOrder(&'s mut InOrder),
}

impl Upcoming<'_> {
    /// Takes the copy that begins now, if one may, with `computed` layers ended: its layer and its request.
    fn take(&mut self, work: &StepWork<'_>, computed: u32) -> Option<(Layer, usize)> {
        match self {
            Upcoming::ReadyFirst(boards) => boards.take(computed),
            Upcoming::InOrder(list) => list.take(work, computed),
        }
    }
}

/// The copies strictly by `(layer, request)`, from where the engine has come to.
#[derive(Debug, Default)]
struct InOrder {
    /// Layers with copies that have not begun.
    layers: LayerSet,
    /// Requests below this one have begun their copies for the lowest of `layers`.
    request: usize,
    slots: Vec<SlotQueue>,
    /// The next copy, and the layer whose slot it takes.
    next: Option<(Layer, usize, Option<Layer>)>,
}

impl InOrder {
    fn prepare(&mut self, work: &StepWork<'_>, fetched: LayerSet) {
        self.layers = fetched;
        self.request = 0;
        self.slots.clear();
        self.slots.extend(work.requests.iter().map(|request| SlotQueue::new(request.fetched, work.slots)));
        self.next = self.find(work);
    }

    fn take(&mut self, work: &StepWork<'_>, computed: u32) -> Option<(Layer, usize)> {
        let (layer, request, held_by) = self.next?;
        if held_by.is_some_and(|previous| previous.0 > computed) {
            return None;
        }
        self.next = self.find(work);
        Some((layer, request))
    }

    fn find(&mut self, work: &StepWork<'_>) -> Option<(Layer, usize, Option<Layer>)> {
        while let Some(layer) = self.layers.first() {
            let left = &work.requests[self.request..];
            if let Some(skipped) = left.iter().position(|request| request.fetched.contains(layer)) {
                let request = self.request + skipped;
                self.request = request + 1;
                return Some((layer, request, self.slots[request].take()));
            }
            self.layers.remove(layer);
            self.request = 0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Distance, Placement};
    use crate::pipeline::{Contention, CopyTimes, LayerTimes, Scratch, StepRequest, step};
    use crate::units::SimTime;

    #[test]
    fn the_sweep_with_factors_of_1_is_the_step_without_contention() {
        let picos = SimDuration::from_picos;
        let (mut ready_first, mut scratch) = (ReadyFirst::default(), Contended::default());
        for order in [CopyOrder::ReadyFirst, CopyOrder::InOrder] {
            for (distances, slots) in [([1, 1, 1], 1), ([1, 2, 3], 1), ([0, 5, 2], 2), ([7, 7, 2], 3)] {
                let requests: Vec<StepRequest<'_>> = (0..3)
                    .zip(distances)
                    .map(|(place, distance)| StepRequest {
                        fetched: Placement::at(Distance::At(distance), 12).offloaded,
                        copy: CopyTimes::Same(picos(70 + 31 * place)),
                    })
                    .collect();
                let work = StepWork {
                    layers: 12,
                    compute: LayerTimes::Same(picos(101)),
                    requests: &requests,
                    slots,
                    order,
                    contention: Contention::NONE,
                };
                let fetched = work.checked_fetched();
                let swept = run_contended(&work, fetched, None, &mut ready_first, &mut scratch);
                assert_eq!(swept, step(&work, SimTime::ZERO, None, &mut Scratch::default()), "{work:?}");
            }
        }
    }
}
