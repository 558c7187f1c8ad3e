//! The decode step as an event-driven simulation: the truth, written to be read and not to be fast.
//!
//! Whatever can happen now happens, in this order: a copy lands, a layer ends, a layer starts, the copy
//! engine picks. When nothing more can happen now, time moves on to the next end, and what runs comes closer to
//! its own: slower where a copy and a layer run side by side and contend. [`super::step`] is tested against it.
//! A step between its neighbours ([`super::cross_step()`]) is the same simulation: it begins with what the step before
//! left, and its copy engine goes on to copies for the next step, until the tail is over.

use super::cross_step::{CrossStep, HeadStart, InFlight, NextCopy, Onward};
use super::progress::Progress;
use super::{CopyOrder, StepTiming, StepWork, WriteBack};
use crate::ids::Layer;
use crate::record::{CarriedSpan, CopySpan, LayerSpan, StepTimeline, WriteSpan};
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
    let (timing, timeline, _) = Simulation::new(work, start, writes, CrossStep::default()).run();
    (timing, timeline)
}

/// Whose the copy is that the engine runs.
#[derive(Clone, Copy)]
enum Copying {
    /// A copy of this step.
    Own(CopySpan),
    /// One that the step before began, and the layer that waits for it.
    Carried(Option<Layer>),
    /// One for the next step.
    Next(CopySpan),
}

/// One step in the making. Times are spans from its start.
pub(super) struct Simulation<'a, 'w> {
    work: &'a StepWork<'a>,
    cross: CrossStep<'a>,
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
    copying: Option<(Copying, Progress)>,
    timeline: StepTimeline,
    /// Per request, what was done for its first copy of the next step.
    head_starts: Vec<HeadStart>,
}

impl<'a, 'w> Simulation<'a, 'w> {
    /// The step before its first event. Panics if the work is not valid ([`StepWork`]).
    pub fn new(
        work: &'a StepWork<'a>,
        start: SimTime,
        writes: Option<(&'w mut WriteBack, SimDuration)>,
        cross: CrossStep<'a>,
    ) -> Simulation<'a, 'w> {
        work.checked_fetched();
        if let Some((state, _)) = &writes {
            assert_eq!(state.layers(), work.layers, "Invariant: writes and steps are of one model");
        }
        let fetched: Vec<Vec<Layer>> =
            work.requests.iter().map(|request| request.fetched.iter().collect()).collect();
        let mut missing = vec![0; work.layers as usize];
        for layer in fetched.iter().flatten() {
            missing[layer.index()] += 1;
        }
        let mut begun = vec![0; fetched.len()];
        let mut awaited = None;
        for (request, head_start) in cross.head_starts.iter().enumerate() {
            if *head_start == HeadStart::None {
                continue;
            }
            begun[request] = 1;
            let layer = *fetched[request].first().expect("Invariant: who has a head start fetches a layer");
            match head_start {
                HeadStart::Landed => missing[layer.index()] -= 1,
                _ => awaited = Some(layer),
            }
        }
        Simulation {
            work,
            cross,
            start,
            writes,
            now: SimDuration::ZERO,
            begun,
            missing,
            computed: 0,
            computing: None,
            stream_free: SimDuration::ZERO,
            copying: cross.in_flight.map(|InFlight(progress)| (Copying::Carried(awaited), progress)),
            timeline: StepTimeline::default(),
            head_starts: vec![HeadStart::None; fetched.len()],
            fetched,
        }
    }

    /// Runs the step to its end, tail included.
    pub fn run(mut self) -> (StepTiming, StepTimeline, Onward) {
        loop {
            let happened = self.land_copy() || self.end_layer() || self.start_layer() || self.start_copy();
            if happened {
                continue;
            }
            match self.next_end().filter(|_| !self.is_over()) {
                Some(next) => self.pass_until(next),
                None => break,
            }
        }
        self.finish()
    }

    fn land_copy(&mut self) -> bool {
        let Some((copying, _)) = self.copying.take_if(|(_, progress)| progress.is_done()) else {
            return false;
        };
        self.note_landed(copying, self.now);
        match copying {
            Copying::Own(CopySpan { layer, .. }) | Copying::Carried(Some(layer)) => {
                self.missing[layer.index()] -= 1;
            }
            Copying::Carried(None) => {}
            Copying::Next(copy) => self.head_starts[copy.request] = HeadStart::Landed,
        }
        true
    }

    fn note_landed(&mut self, copying: Copying, end: SimDuration) {
        match copying {
            Copying::Own(copy) => self.timeline.copies.push(CopySpan { end, ..copy }),
            Copying::Carried(layer) => self.timeline.carried = Some(CarriedSpan { layer, end }),
            Copying::Next(copy) => self.timeline.ahead.push(CopySpan { end, ..copy }),
        }
    }

    fn end_layer(&mut self) -> bool {
        let Some((layer, _)) = self.computing.take_if(|(_, progress)| progress.is_done()) else {
            return false;
        };
        self.timeline.layers.push(LayerSpan { end: self.now, ..layer });
        self.computed += 1;
        self.stream_free = self.now;
        if let Some((state, write)) = &mut self.writes {
            let layer = Layer(self.computed);
            let predecessor = state.write(layer, self.start + self.now, *write);
            let end = state.finish_of(layer).since(self.start);
            self.timeline.writes.push(WriteSpan { layer, start: end - *write, end });
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
        let own_are_begun = self.begun.iter().zip(&self.fetched).all(|(begun, all)| *begun == all.len());
        if own_are_begun { self.start_next_step_copy() } else { self.start_own_copy() }
    }

    fn start_own_copy(&mut self) -> bool {
        // Every request's next copy, lowest (layer, request) first.
        let mut next: Vec<(Layer, usize)> = (0..self.fetched.len())
            .filter_map(|request| Some((*self.fetched[request].get(self.begun[request])?, request)))
            .collect();
        next.sort_unstable();
        let Some((layer, request)) = self.first_that(next, |request| self.has_free_slot(request)) else {
            return false;
        };
        self.begun[request] += 1;
        let time = self.work.requests[request].copy.of(layer);
        self.begin(Copying::Own(self.span(request, layer)), time);
        true
    }

    /// The first copies of the next step, of everyone whose copies of this one are used up.
    fn start_next_step_copy(&mut self) -> bool {
        if self.cross.next.is_empty() || self.is_over() {
            return false;
        }
        let mut next: Vec<(NextCopy, usize)> = (self.cross.next.iter().zip(0..))
            .filter_map(|(copy, request)| Some(((*copy)?, request)))
            .filter(|(_, request)| self.head_starts[*request] == HeadStart::None)
            .collect();
        next.sort_unstable_by_key(|(copy, request)| (copy.layer, *request));
        let order = next.iter().map(|(copy, request)| (copy.layer, *request)).collect();
        let used_up =
            |request: usize| self.fetched[request].last().is_none_or(|last| last.0 <= self.computed);
        let Some((layer, request)) = self.first_that(order, used_up) else { return false };
        self.head_starts[request] = HeadStart::InFlight;
        let copy = self.cross.next[request].expect("Invariant: it was found among the next copies");
        self.begin(Copying::Next(self.span(request, layer)), copy.time);
        true
    }

    /// The first of `copies` that may start; under in-order the first at all, if it may.
    fn first_that(
        &self,
        mut copies: Vec<(Layer, usize)>,
        may_start: impl Fn(usize) -> bool,
    ) -> Option<(Layer, usize)> {
        if self.work.order == CopyOrder::InOrder {
            copies.truncate(1);
        }
        copies.into_iter().find(|(_, request)| may_start(*request))
    }

    fn span(&self, request: usize, layer: Layer) -> CopySpan {
        CopySpan { request, layer, start: self.now, end: self.now }
    }

    fn begin(&mut self, copying: Copying, time: SimDuration) {
        self.copying = Some((copying, Progress::of_copy(time, self.work.contention)));
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

    /// Whether the step has ended, with its tail.
    fn is_over(&self) -> bool {
        self.computed == self.work.layers && self.now >= self.stream_free + self.cross.tail
    }

    /// When the next copy, layer or awaited write ends, or the tail, if nothing starts before.
    fn next_end(&self) -> Option<SimDuration> {
        let end = |progress: Progress| self.now + progress.time_left(self.contended());
        let copy = self.copying.map(|(_, progress)| end(progress));
        let layer = self.computing.map(|(_, progress)| end(progress));
        let all_computed = self.computed == self.work.layers;
        let stream = if all_computed { self.stream_free + self.cross.tail } else { self.stream_free };
        [copy, layer, Some(stream)].into_iter().flatten().filter(|end| *end > self.now).min()
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

    fn finish(mut self) -> (StepTiming, StepTimeline, Onward) {
        assert_eq!(self.computed, self.work.layers, "Invariant: a step always ends");
        let in_flight = self.copying.take();
        if let Some((copying, progress)) = in_flight {
            self.note_landed(copying, self.now + progress.time_left(false));
        }
        let last_layer = self.timeline.layers.last().map(|layer| layer.end);
        self.timeline.awaited_write = Some(self.stream_free).filter(|free| last_layer < Some(*free));
        let copy = self.timeline.copies.iter().map(|copy| copy.end - copy.start).sum();
        let compute = self.timeline.layers.iter().map(|layer| layer.end - layer.start).sum();
        let timing = StepTiming { step: self.stream_free, compute, copy };
        let in_flight = in_flight.map(|(_, progress)| InFlight(progress));
        (timing, self.timeline, Onward { head_starts: self.head_starts, in_flight })
    }
}
