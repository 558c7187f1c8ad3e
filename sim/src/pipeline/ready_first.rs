//! The ready-first copy order for any mix of layer sets, in time linear in the number of copies.
//!
//! The end of a layer is known as soon as the last copy for it and for those below it has begun, so ends become
//! known in the order of layers and of time. A request's next copy is either *ready* (its slot is free now) or
//! *waiting* for the end of a lower layer; two boards of bits, one row per layer, hold who is where. A copy
//! cannot wait for an end that is not known while nothing is ready: the lowest copy that has not begun waits
//! for a layer below it, all of whose copies have.

use super::StepWork;
use super::compute::ComputeStream;
use super::fast::SlotQueue;
use crate::ids::Layer;
use crate::model::LayerSet;
use crate::units::SimDuration;

/// The copies that have not begun, and reused memory of [`run_ready_first`].
#[derive(Debug, Default)]
pub(super) struct ReadyFirst {
    requests: Vec<Upcoming>,
    /// Copies for each layer that have not begun.
    left: Vec<u32>,
    /// When the last copy so far for each layer lands.
    landed: Vec<SimDuration>,
    /// Requests by the layer of their next copy, its slot free.
    ready: Board,
    /// Requests by the layer whose end frees the slot of their next copy.
    waiting: Board,
}

/// What is left to copy for one request.
#[derive(Clone, Copy, Debug)]
struct Upcoming {
    copies: LayerSet,
    slots: SlotQueue,
}

/// The step's time. `unknown` starts as the layers that anyone fetches: no end is known; `ends` has room for every layer.
pub(super) fn run_ready_first(
    work: &StepWork<'_>,
    mut unknown: LayerSet,
    mut compute: ComputeStream<'_, '_>,
    ends: &mut [SimDuration],
    scratch: &mut ReadyFirst,
) -> SimDuration {
    scratch.prepare(work);
    let mut now = SimDuration::ZERO;
    loop {
        scratch.release(|layer| !unknown.contains(layer) && ends[layer.index()] <= now);
        let Some((layer, request)) = scratch.ready.take_lowest() else {
            // The engine idles until the next slot frees; if nobody waits for one, all copies are done.
            let Some(layer) = scratch.waiting.lowest_row() else { break };
            assert!(!unknown.contains(layer), "Invariant: the copy that goes next waits for a known end");
            now = ends[layer.index()];
            continue;
        };
        now += work.requests[request].copy.of(layer);
        scratch.landed[layer.index()] = now;
        scratch.left[layer.index()] -= 1;
        while let Some(next) = unknown.first().filter(|next| scratch.left[next.index()] == 0) {
            ends[next.index()] = compute.run_through(next, scratch.landed[next.index()]);
            unknown.remove(next);
        }
        scratch.queue_next(request);
    }
    compute.run_out(work.layers)
}

impl ReadyFirst {
    /// Everyone's first copy is ready.
    pub fn prepare(&mut self, work: &StepWork<'_>) {
        self.left.clear();
        self.left.resize(Layer::MAX as usize, 0);
        self.landed.resize(Layer::MAX as usize, SimDuration::ZERO);
        self.ready.fit(work.requests.len());
        self.waiting.fit(work.requests.len());
        self.requests.clear();
        for (place, request) in work.requests.iter().enumerate() {
            let slots = SlotQueue::new(request.fetched, work.slots);
            self.requests.push(Upcoming { copies: request.fetched, slots });
            for layer in request.fetched.iter() {
                self.left[layer.index()] += 1;
            }
            self.queue_next(place);
        }
    }

    /// Takes the copy that begins now, if one may, with `computed` layers ended: its layer and its request.
    pub fn take(&mut self, computed: u32) -> Option<(Layer, usize)> {
        self.release(|layer| layer.0 <= computed);
        let (layer, request) = self.ready.take_lowest()?;
        self.queue_next(request);
        Some((layer, request))
    }

    /// Puts the next copy of `request` on the board where it belongs. One that waits for an end that has passed
    /// is released before the engine picks.
    fn queue_next(&mut self, request: usize) {
        let upcoming = &mut self.requests[request];
        if let Some(layer) = upcoming.copies.first() {
            match upcoming.slots.take() {
                None => self.ready_next(request, layer),
                Some(previous) => self.waiting.put(previous, request),
            }
        }
    }

    fn ready_next(&mut self, request: usize, layer: Layer) {
        self.requests[request].copies.remove(layer);
        self.ready.put(layer, request);
    }

    /// Makes ready whoever waits for a layer that has `ended`. Ends grow with the layer.
    fn release(&mut self, ended: impl Fn(Layer) -> bool) {
        while let Some(layer) = self.waiting.lowest_row().filter(|layer| ended(*layer)) {
            while let Some(request) = self.waiting.take_from(layer) {
                let next = self.requests[request].copies.first();
                self.ready_next(request, next.expect("Invariant: who waits has a copy left"));
            }
        }
    }
}

/// A set of `(layer, request)` pairs, lowest first. Empty between steps.
#[derive(Debug, Default)]
struct Board {
    /// Layers with at least one request.
    rows: LayerSet,
    /// 64-bit words per row.
    words: usize,
    bits: Vec<u64>,
}

impl Board {
    /// Makes room for `requests` requests. The board must be empty.
    fn fit(&mut self, requests: usize) {
        assert!(self.rows.is_empty(), "Invariant: every queued copy was run");
        self.words = requests.div_ceil(64);
        let room = self.words * Layer::MAX as usize;
        if self.bits.len() < room {
            self.bits.resize(room, 0);
        }
    }

    fn put(&mut self, layer: Layer, request: usize) {
        self.rows.insert(layer);
        self.bits[layer.index() * self.words + request / 64] |= 1 << (request % 64);
    }

    fn lowest_row(&self) -> Option<Layer> {
        self.rows.first()
    }

    fn take_lowest(&mut self) -> Option<(Layer, usize)> {
        let layer = self.rows.first()?;
        self.take_from(layer).map(|request| (layer, request))
    }

    /// Takes the lowest request of a row.
    fn take_from(&mut self, layer: Layer) -> Option<usize> {
        let begin = layer.index() * self.words;
        let row = &mut self.bits[begin..begin + self.words];
        let word = row.iter().position(|word| *word != 0)?;
        let request = word * 64 + row[word].trailing_zeros() as usize;
        row[word] &= row[word] - 1;
        if row[word..].iter().all(|word| *word == 0) {
            self.rows.remove(layer);
        }
        Some(request)
    }
}
