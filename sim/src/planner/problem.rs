//! An [`Instance`] in the terms of its [`Shape`], and the one place where a forecast is computed.
//!
//! Times are `f64` nanoseconds here. The forecast of a placement is computed from whole numbers of blocks and
//! copies per layer, so it does not depend on the order in which a search came to the placement; every
//! solver and every caller gets the same last bit.
//!
//! A request is described by what it **frees** against being resident: `freed = n·(b + g) − slots·b` layer-blocks
//! at offload count `n > 0`. A placement fits memory iff the batch frees at least what it **needs**,
//! `Σ L·(b + g) − capacity`.

use super::shape::Shape;
use super::{Instance, budget};
use crate::ids::Layer;
use crate::model::{Distance, LayerSet, Placement};

/// `t ≤ t_max` is taken with this relative tolerance: `t_max` comes out of a division.
const T_MAX_TOLERANCE: f64 = 1e-12;

const NANOS_PER_SEC: f64 = 1e9;

/// One instance, tabulated by request and candidate.
pub(super) struct Problem<'a> {
    pub instance: &'a Instance,
    pub shape: &'a Shape,
    /// Layer-blocks freed against being resident: `freed[request · candidates + candidate]`; staging may make it
    /// negative.
    pub freed: Vec<i64>,
    /// Layers that change against `resident_layers`, laid out likewise.
    pub changes: Vec<u64>,
    /// Layer-blocks that the batch must free in all.
    pub need: i64,
    /// The longest step time, `None`: unbounded. Seconds.
    pub t_max_s: Option<f64>,
}

impl<'a> Problem<'a> {
    /// Tabulates `instance`. Panics if `shape` is of another number of layers.
    pub fn new(instance: &'a Instance, shape: &'a Shape) -> Self {
        assert_eq!(instance.layers, shape.layers, "Invariant: the shape is that of the model");
        let candidates = shape.candidates();
        let mut freed = Vec::with_capacity(instance.requests.len() * candidates);
        let mut changes = Vec::with_capacity(instance.requests.len() * candidates);
        let mut resident = 0;
        let all = LayerSet::all(instance.layers);
        for request in &instance.requests {
            let (blocks, growth) = (request.blocks as i64, request.growth_blocks as i64);
            let staging = instance.staging_slots as i64 * blocks;
            resident += i64::from(instance.layers) * (blocks + growth);
            for candidate in 0..candidates {
                let count = shape.counts[candidate] as i64;
                freed.push(if count > 0 { count * (blocks + growth) - staging } else { 0 });
                changes.push(match request.resident_layers {
                    Some(now) => {
                        let wanted = all.difference(shape.offloaded[candidate]);
                        u64::from(wanted.symmetric_difference(now).len())
                    }
                    None => 0,
                });
            }
        }
        let need = i64::try_from(i128::from(resident) - i128::from(instance.capacity))
            .expect("Invariant: layer-blocks fit in 63 bits");
        let promises: Vec<_> = instance.requests.iter().map(|r| (r.slo_s, r.deposit)).collect();
        let t_max_s = budget::t_max(&promises, instance.window, instance.failure_budget);
        Problem { instance, shape, freed, changes, need, t_max_s }
    }

    /// Requests in the batch.
    pub fn requests(&self) -> usize {
        self.instance.requests.len()
    }

    /// What `request` frees at `candidate`.
    pub fn freed(&self, request: usize, candidate: usize) -> i64 {
        self.freed[request * self.shape.candidates() + candidate]
    }

    /// Time of one copy of `request`, nanoseconds.
    pub fn copy_ns(&self, request: usize) -> f64 {
        let instance = self.instance;
        let seconds =
            instance.copy_latency_s + instance.requests[request].blocks as f64 * instance.block_copy_s;
        seconds * NANOS_PER_SEC
    }

    /// Time of a step in which copies are never waited for, nanoseconds.
    pub fn base_ns(&self, copies: bool) -> f64 {
        base_ns(self.instance, copies)
    }

    /// Copy time that the layers before `row` hide, nanoseconds.
    pub fn hidden_ns(&self, row: Layer) -> f64 {
        hidden_ns(self.instance, row)
    }

    /// The longest step time that the SLO budget allows, nanoseconds; infinite if it allows any.
    pub fn t_max_ns(&self) -> f64 {
        self.t_max_s.map_or(f64::INFINITY, |t_max| t_max * NANOS_PER_SEC * (1.0 + T_MAX_TOLERANCE))
    }

    /// The forecast of one candidate per request, nanoseconds.
    pub fn forecast_ns(&self, choice: &[usize]) -> f64 {
        // blocks and copies per candidate: all that the forecast depends on
        let mut totals = [(0u64, 0u64); MAX_CANDIDATES];
        for (request, &candidate) in self.instance.requests.iter().zip(choice) {
            totals[candidate].0 += request.blocks;
            totals[candidate].1 += 1;
        }
        let stall = stall_ns(self.instance, &self.shape.rows, |row| {
            (1..self.shape.candidates()).fold((0.0, 0.0), |(blocks, copies), candidate| {
                let layers = self.shape.copied(candidate)[row];
                let (more_blocks, more_copies) = totals[candidate];
                (blocks + layers * more_blocks as f64, copies + layers * more_copies as f64)
            })
        });
        base_ns(self.instance, choice.iter().any(|&candidate| candidate > 0)) + stall
    }

    /// Blocks copied per step, `Σ n_r·b_r`.
    pub fn copied_blocks(&self, choice: &[usize]) -> u64 {
        let requests = self.instance.requests.iter().zip(choice);
        requests.map(|(request, &candidate)| self.shape.counts[candidate] * request.blocks).sum()
    }

    /// Layers that change, over all requests.
    pub fn changed_layers(&self, choice: &[usize]) -> u64 {
        let candidates = self.shape.candidates();
        choice.iter().enumerate().map(|(r, &candidate)| self.changes[r * candidates + candidate]).sum()
    }

    /// Layer-blocks freed, over all requests.
    pub fn freed_blocks(&self, choice: &[usize]) -> i64 {
        choice.iter().enumerate().map(|(request, &candidate)| self.freed(request, candidate)).sum()
    }

    /// Layer-blocks taken, staging included where it is charged.
    pub fn memory_used(&self, choice: &[usize]) -> u64 {
        let used = i128::from(self.instance.capacity) + i128::from(self.need - self.freed_blocks(choice));
        u64::try_from(used).expect("Invariant: a placement takes no negative room")
    }
}

/// More candidates than any model of 128 layers has (20).
const MAX_CANDIDATES: usize = 24;

/// The forecast step time of a placement, in seconds (design §3.4, §4.2):
/// `t = L·tc + max(0, max_j(Σ_{k≤j} D_k − (j−1)·tc)) + tail`, plus the link's intercept if anything is copied.
/// `D_k` is the time of all copies for layer k, `latency + blocks·block_copy_s` each.
///
/// Takes any distances, candidates or not. Panics unless there is one per request.
pub fn forecast(instance: &Instance, distances: &[Distance]) -> f64 {
    let offloaded = offloaded(instance, distances);
    let all: Vec<Layer> = Layer::all(instance.layers).collect();
    let stall = stall_ns(instance, &all, |row| copied_by(instance, &offloaded, all[row]));
    let copies = offloaded.iter().any(|set| !set.is_empty());
    seconds(base_ns(instance, copies) + stall)
}

/// The layer whose row of the step-time constraint decides the forecast, the first of equals; `None`: computing
/// does, all copies are hidden. Panics unless there is one distance per request.
pub fn binding_layer(instance: &Instance, distances: &[Distance]) -> Option<Layer> {
    let offloaded = offloaded(instance, distances);
    let stall = |layer| stall_ns(instance, &[layer], |_| copied_by(instance, &offloaded, layer));
    let mut binding = (0.0, None);
    for layer in Layer::all(instance.layers) {
        let stall = stall(layer);
        if stall > binding.0 {
            binding = (stall, Some(layer));
        }
    }
    binding.1
}

fn offloaded(instance: &Instance, distances: &[Distance]) -> Vec<LayerSet> {
    assert_eq!(distances.len(), instance.requests.len(), "Invariant: one distance per request");
    distances.iter().map(|&distance| Placement::at(distance, instance.layers).offloaded).collect()
}

/// Blocks and copies up to `layer`.
fn copied_by(instance: &Instance, offloaded: &[LayerSet], layer: Layer) -> (f64, f64) {
    let upto = LayerSet::all(layer.0);
    instance.requests.iter().zip(offloaded).fold((0.0, 0.0), |(blocks, copies), (request, set)| {
        let layers = f64::from(set.intersection(upto).len());
        (blocks + layers * request.blocks as f64, copies + layers)
    })
}

/// Nanoseconds as seconds.
pub(super) fn seconds(ns: f64) -> f64 {
    ns / NANOS_PER_SEC
}

/// A forecast as the whole nanoseconds by which two are compared.
pub(super) fn whole_ns(ns: f64) -> u64 {
    ns.round() as u64
}

/// The longest step time that rounds to `whole` nanoseconds: half a nanosecond is rounded up, so just below it.
pub(super) fn longest_rounding_to(whole: u64) -> f64 {
    (whole as f64 + 0.5).next_down()
}

fn base_ns(instance: &Instance, copies: bool) -> f64 {
    let intercept = if copies { instance.intercept_s } else { 0.0 };
    let compute = f64::from(instance.layers) * instance.layer_compute_s;
    (compute + instance.tail_s + intercept) * NANOS_PER_SEC
}

fn hidden_ns(instance: &Instance, row: Layer) -> f64 {
    f64::from(row.0 - 1) * instance.layer_compute_s * NANOS_PER_SEC
}

/// `max(0, max_j(Σ_{k≤j} D_k − (j−1)·tc))` in nanoseconds over `rows`; `copied(row)` gives the blocks and the copies
/// up to that row. Blocks and copies are whole numbers below 2^53, so the sums are exact.
fn stall_ns(instance: &Instance, rows: &[Layer], copied: impl Fn(usize) -> (f64, f64)) -> f64 {
    let block_ns = instance.block_copy_s * NANOS_PER_SEC;
    let latency_ns = instance.copy_latency_s * NANOS_PER_SEC;
    rows.iter().enumerate().fold(0.0, |stall: f64, (row, &layer)| {
        let (blocks, copies) = copied(row);
        stall.max(blocks * block_ns + copies * latency_ns - hidden_ns(instance, layer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_model_has_more_candidates_than_the_forecast_makes_room_for() {
        let most = (1..=Layer::MAX).map(|layers| Distance::candidates(layers).len()).max();
        assert!(most.is_some_and(|most| most <= MAX_CANDIDATES), "{most:?}");
    }

    #[test]
    fn a_forecast_is_rounded_half_up_to_whole_nanoseconds() {
        for whole in [0, 1, 45_992_000, 1 << 40] {
            let longest = longest_rounding_to(whole);
            assert_eq!(whole_ns(longest), whole);
            assert_eq!(whole_ns(longest.next_up()), whole + 1);
        }
    }
}
