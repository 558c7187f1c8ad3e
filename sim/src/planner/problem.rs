//! An [`Instance`] in the terms of its [`Shape`], and the one place where a prefix forecast is computed.
//!
//! Times are `f64` nanoseconds here. The forecast of a placement is computed from whole numbers of blocks and
//! copies per layer, so it does not depend on the order in which a search came to the placement; every
//! solver and every caller gets the same last bit.
//!
//! A request is described by what it **frees** against being resident: `freed = n·(b + g) − slots·b` layer-blocks
//! at offload count `n > 0`. A placement fits memory iff the batch frees at least what it **needs**,
//! `Σ L·(b + g) − capacity`.

use super::shape::Shape;
use super::{Instance, PipelineForecast, PlanRequest, StepModel, budget};
use crate::ids::Layer;
use crate::model::{LayerSet, Placement};

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
        for request in &instance.requests {
            resident += i64::from(instance.layers) * (request.blocks + request.growth_blocks) as i64;
            for &set in &shape.offloaded {
                freed.push(freed_by(instance, request, set));
                changes.push(changed_by(instance, request, set));
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

    /// The prefix forecast of one candidate per request, nanoseconds.
    pub fn forecast_ns(&self, choice: &[usize]) -> f64 {
        if self.shape.candidates() <= MAX_DISTANCES {
            self.forecast_of::<MAX_DISTANCES>(choice)
        } else {
            self.forecast_of::<MAX_TAILS>(choice)
        }
    }

    /// [`Self::forecast_ns`] of a shape with at most `MOST` candidates.
    fn forecast_of<const MOST: usize>(&self, choice: &[usize]) -> f64 {
        // blocks and copies per candidate: all that the forecast depends on
        let mut totals = [(0u64, 0u64); MOST];
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
}

/// More candidate distances than any model of 128 layers has (21).
const MAX_DISTANCES: usize = 24;
/// The tails of a model of 128 layers: 0 to 64 of its last layers.
const MAX_TAILS: usize = 65;

/// The forecast step time of one placement per request by the model of `instance`, in seconds.
///
/// The prefix forecast (design §3.4, §4.2) is
/// `t = L·tc + max(0, max_j(Σ_{k≤j} D_k − (j−1)·tc)) + tail`, plus the link's intercept if anything is copied.
/// `D_k` is the time of all copies for layer k, `latency + blocks·block_copy_s` each. The other one is
/// [`PipelineForecast`].
///
/// Takes any placements, candidates or not. Panics unless there is one per request.
pub fn forecast(instance: &Instance, placements: &[Placement]) -> f64 {
    let offloaded = offloaded(instance, placements);
    match instance.model {
        StepModel::Prefix => seconds(prefix_ns(instance, &offloaded)),
        StepModel::Pipeline { slots, order } => {
            seconds(PipelineForecast::of(instance, slots, order).step_ns(&offloaded))
        }
    }
}

/// The prefix forecast of any layers, nanoseconds.
pub(super) fn prefix_ns(instance: &Instance, offloaded: &[LayerSet]) -> f64 {
    let all: Vec<Layer> = Layer::all(instance.layers).collect();
    let stall = stall_ns(instance, &all, |row| copied_by(instance, offloaded, all[row]));
    base_ns(instance, offloaded.iter().any(|set| !set.is_empty())) + stall
}

/// Layer-blocks that one placement per request takes: `Σ (L − n)·(b + g)`, and staging where it is charged. Panics
/// unless there is one per request.
pub fn memory_used(instance: &Instance, placements: &[Placement]) -> u64 {
    let requests = instance.requests.iter().zip(offloaded(instance, placements));
    let used: i64 = requests
        .map(|(request, set)| {
            let resident = i64::from(instance.layers) * (request.blocks + request.growth_blocks) as i64;
            resident - freed_by(instance, request, set)
        })
        .sum();
    u64::try_from(used).expect("Invariant: a placement takes no negative room")
}

/// Blocks copied per step, `Σ n_r·b_r`.
pub(super) fn copied_blocks(instance: &Instance, sets: &[LayerSet]) -> u64 {
    instance.requests.iter().zip(sets).map(|(request, set)| u64::from(set.len()) * request.blocks).sum()
}

/// Layers that change, over all requests.
pub(super) fn changed_layers(instance: &Instance, sets: &[LayerSet]) -> u64 {
    instance.requests.iter().zip(sets).map(|(request, &set)| changed_by(instance, request, set)).sum()
}

/// Layer-blocks that `request` frees against being resident when `set` is offloaded; staging may make it negative.
pub(super) fn freed_by(instance: &Instance, request: &PlanRequest, set: LayerSet) -> i64 {
    if set.is_empty() {
        return 0;
    }
    let (blocks, growth) = (request.blocks as i64, request.growth_blocks as i64);
    i64::from(set.len()) * (blocks + growth) - instance.staging_slots as i64 * blocks
}

/// Layers that `request` brings back when `set` is offloaded: not on the GPU now, and not in `set`.
pub(super) fn restored_by(instance: &Instance, request: &PlanRequest, set: LayerSet) -> u64 {
    request
        .resident_layers
        .map_or(0, |now| u64::from(LayerSet::all(instance.layers).difference(set).difference(now).len()))
}

/// Time of all copies that bring layers back, R, nanoseconds: `latency + blocks·block_copy_s` for each. From whole
/// numbers of copies and blocks, so that it does not depend on the order in which they are counted.
pub(super) fn restore_ns(instance: &Instance, sets: &[LayerSet]) -> f64 {
    let requests = instance.requests.iter().zip(sets);
    let (blocks, copies) = requests.fold((0, 0), |(blocks, copies), (request, &set)| {
        let restored = restored_by(instance, request, set);
        (blocks + restored * request.blocks, copies + restored)
    });
    (blocks as f64 * instance.block_copy_s + copies as f64 * instance.copy_latency_s) * NANOS_PER_SEC
}

/// What is minimised, nanoseconds: the step, and `R/W` where restores count (design §4.2, `migration_cost`).
pub(super) fn objective_ns(instance: &Instance, step_ns: f64, sets: &[LayerSet]) -> f64 {
    if instance.migration_cost {
        step_ns + restore_ns(instance, sets) / instance.window as f64
    } else {
        step_ns
    }
}

/// Layers that `request` changes against its `resident_layers` when `set` is offloaded.
pub(super) fn changed_by(instance: &Instance, request: &PlanRequest, set: LayerSet) -> u64 {
    request.resident_layers.map_or(0, |now| {
        let wanted = LayerSet::all(instance.layers).difference(set);
        u64::from(wanted.symmetric_difference(now).len())
    })
}

/// The layer whose row of the prefix forecast decides it, the first of equals; `None`: computing does, all copies are
/// hidden. Panics unless there is one placement per request.
pub fn binding_layer(instance: &Instance, placements: &[Placement]) -> Option<Layer> {
    let offloaded = offloaded(instance, placements);
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

fn offloaded(instance: &Instance, placements: &[Placement]) -> Vec<LayerSet> {
    assert_eq!(placements.len(), instance.requests.len(), "Invariant: one placement per request");
    placements.iter().map(|placement| placement.offloaded).collect()
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
    use super::super::PlacementSpace;
    use super::*;

    #[test]
    fn no_model_has_more_candidates_than_the_forecast_makes_room_for() {
        let most = |space| (1..=Layer::MAX).map(|layers| Shape::new(layers, space).candidates()).max();
        let (distances, tails) = (most(PlacementSpace::Distance), most(PlacementSpace::Layers));
        assert!(distances.is_some_and(|most| most <= MAX_DISTANCES), "{distances:?}");
        assert_eq!(tails, Some(MAX_TAILS));
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
