//! The decode step as an event-driven simulation: the truth, written to be read and not to be fast.
//!
//! Whatever can happen now happens, in this order: a copy lands, a layer ends, a layer starts, the copy
//! engine picks. When nothing more can happen now, time moves on to the next end, and what runs comes closer to
//! its own: slower where a copy and a layer run side by side and contend. [`super::step`] is tested against it.

use super::progress::Progress;
use super::{CopyOrder, StepTiming, StepWork, WriteBack};
use crate::ids::Layer;
use crate::record::{CopySpan, LayerSpan, StepTimeline};
use crate::units::{SimDuration, SimTime};

/// Simulates one decode step that begins at `start` and answers its time and every copy and layer in it.
///
/// `writes` is the write-through of the new KV and the time of one write (one per layer); `None` where it costs
/// nothing. `start` matters only for the writes that earlier steps left behind. Panics if the work is not valid
/// ([`StepWork`]) or takes more than 213 days.
pub fn timeline(
    work: &StepWork<'_>,
    start: SimTime,
    writes: Option<(&mut WriteBack, SimDuration)>,
) -> (StepTiming, StepTimeline) {
    work.checked_fetched();
    if let Some((state, _)) = &writes {
        assert_eq!(state.layers(), work.layers, "Invariant: writes and steps are of one model");
    }
    let mut simulation = Simulation::new(work, start, writes);
    loop {
        let happened = simulation.land_copy()
            || simulation.end_layer()
            || simulation.start_layer()
            || simulation.start_copy();
        if happened {
            continue;
        }
        match simulation.next_end() {
            Some(next) => simulation.pass_until(next),
            None => break,
        }
    }
    simulation.finish()
}

struct Simulation<'a, 'w> {
    work: &'a StepWork<'a>,
    start: SimTime,
    writes: Option<(&'w mut WriteBack, SimDuration)>,
    now: SimDuration,
    /// Per request, the layers it fetches, in order.
    fetched: Vec<Vec<Layer>>,
    /// Per request, how many of its copies the engine has begun.
    begun: Vec<usize>,
    /// Per layer, the copies that have not landed.
    missing: Vec<usize>,
    /// Layers that have ended.
    computed: u32,
    /// The layer that is being computed; its end is not known before it has come.
    computing: Option<(LayerSpan, Progress)>,
    /// The end of the last layer, and of the write that the next one waits for.
    stream_free: SimDuration,
    /// The copy that is running; its end is not known before it has come.
    copying: Option<(CopySpan, Progress)>,
    timeline: StepTimeline,
}

impl<'a, 'w> Simulation<'a, 'w> {
    fn new(
        work: &'a StepWork<'a>,
        start: SimTime,
        writes: Option<(&'w mut WriteBack, SimDuration)>,
    ) -> Simulation<'a, 'w> {
        let fetched: Vec<Vec<Layer>> =
            work.requests.iter().map(|request| request.fetched.iter().collect()).collect();
        let mut missing = vec![0; work.layers as usize];
        for layer in fetched.iter().flatten() {
            missing[layer.index()] += 1;
        }
        Simulation {
            work,
            start,
            writes,
            now: SimDuration::ZERO,
            begun: vec![0; fetched.len()],
            fetched,
            missing,
            computed: 0,
            computing: None,
            stream_free: SimDuration::ZERO,
            copying: None,
            timeline: StepTimeline::default(),
        }
    }

    fn land_copy(&mut self) -> bool {
        let Some((copy, _)) = self.copying.take_if(|(_, progress)| progress.is_done()) else { return false };
        self.missing[copy.layer.index()] -= 1;
        self.timeline.copies.push(CopySpan { end: self.now, ..copy });
        true
    }

    fn end_layer(&mut self) -> bool {
        let Some((layer, _)) = self.computing.take_if(|(_, progress)| progress.is_done()) else {
            return false;
        };
        self.timeline.layers.push(LayerSpan { end: self.now, ..layer });
        self.computed += 1;
        self.stream_free = self.now;
        if let Some((state, write)) = &mut self.writes {
            let predecessor = state.write(Layer(self.computed), self.start + self.now, *write);
            self.stream_free = self.now.max(predecessor.saturating_since(self.start));
        }
        true
    }

    fn start_layer(&mut self) -> bool {
        if self.computing.is_some() || self.computed == self.work.layers || self.stream_free > self.now {
            return false;
        }
        let layer = Layer(self.computed + 1);
        if self.missing[layer.index()] > 0 {
            return false;
        }
        let span = LayerSpan { layer, start: self.now, end: self.now, stall: self.now - self.stream_free };
        let progress = Progress::of_layer(self.work.compute.of(layer), self.work.contention);
        self.computing = Some((span, progress));
        true
    }

    fn start_copy(&mut self) -> bool {
        if self.copying.is_some() {
            return false;
        }
        // Every request's next copy, lowest (layer, request) first.
        let mut next: Vec<(Layer, usize)> = (0..self.fetched.len())
            .filter_map(|request| Some((*self.fetched[request].get(self.begun[request])?, request)))
            .collect();
        next.sort_unstable();
        if self.work.order == CopyOrder::InOrder {
            next.truncate(1);
        }
        let Some((layer, request)) = next.into_iter().find(|&(_, request)| self.has_free_slot(request))
        else {
            return false;
        };
        self.begun[request] += 1;
        let span = CopySpan { request, layer, start: self.now, end: self.now };
        let progress = Progress::of_copy(self.work.requests[request].copy.of(layer), self.work.contention);
        self.copying = Some((span, progress));
        true
    }

    /// The next copy of `request` takes the slot of the layer it fetched `slots` copies ago.
    fn has_free_slot(&self, request: usize) -> bool {
        match self.begun[request].checked_sub(self.work.slots as usize) {
            None => true,
            Some(previous) => self.fetched[request][previous].0 <= self.computed,
        }
    }

    /// Whether a copy and a layer run side by side.
    fn contended(&self) -> bool {
        self.copying.is_some() && self.computing.is_some()
    }

    /// When the next copy, layer or awaited write ends, if nothing starts before.
    fn next_end(&self) -> Option<SimDuration> {
        let end = |progress: Progress| self.now + progress.time_left(self.contended());
        let copy = self.copying.map(|(_, progress)| end(progress));
        let layer = self.computing.map(|(_, progress)| end(progress));
        let write = (self.computed < self.work.layers).then_some(self.stream_free);
        [copy, layer, write].into_iter().flatten().filter(|end| *end > self.now).min()
    }

    fn pass_until(&mut self, next: SimDuration) {
        let (span, contended) = (next - self.now, self.contended());
        if let Some((_, progress)) = &mut self.copying {
            progress.pass(span, contended);
        }
        if let Some((_, progress)) = &mut self.computing {
            progress.pass(span, contended);
        }
        self.now = next;
    }

    fn finish(self) -> (StepTiming, StepTimeline) {
        assert_eq!(self.computed, self.work.layers, "Invariant: a step always ends");
        let copy = self.timeline.copies.iter().map(|copy| copy.end - copy.start).sum();
        let compute = self.timeline.layers.iter().map(|layer| layer.end - layer.start).sum();
        (StepTiming { step: self.stream_free, compute, copy }, self.timeline)
    }
}
