//! One decode step, layer by layer: when each copy runs on the link and when each layer computes (design §3.4).
//!
//! One compute stream and one copy engine per direction. Layer `j` starts when layer `j−1` has ended and every
//! copy for layer `j` has landed. A request owns `slots` staging slots, each one layer of its KV: its copy
//! may start once the `slots`-th previous offloaded layer of the same request has been computed.
//! Knows nothing about policies, engines or what the times cost: it is handed durations.
//!
//! The truth is [`timeline`], an event-driven simulation of every copy and every layer. [`step`] gives the same
//! answer faster and is what an engine calls; tests hold the two equal on random work. At equal times the
//! end of a layer frees its slots before the copy engine picks.
//!
//! **Contention**: while a host→device copy and a layer run side by side, the copy takes γ_copy and the layer
//! γ_compute times as long, and only for that part; each end is rounded up to the picosecond, once. Device→host
//! writes slow nothing. The forecast leaves contention out, and stays a lower bound. With `s = 1/γ_copy + 1/γ_compute`
//! a step without waits for writes lies between the longer of compute and copies alone and their sum over
//! `min(1, s)` ([`StepWork::bounds`]): side by side they are done at the rate `s`, otherwise at 1.
//!
//! **Prompt tokens** beside the decodes (`prefill = "chunked:N"`) make every layer longer by an even share of their time
//! ([`joined_layers`]); copies run under that as under any compute. Four layers of 1 ms with 8 ms of prompts take 3 ms each.
//!
//! **Across steps** ([`cross_step()`]): where that is switched on, a request's first copy of the next step may start once
//! its last copy of this one is used up. With one layer offloaded a step takes `max(L·t + tail, C + t)`. A single step
//! then means one among steps like it ([`steady()`]).

mod answer;
mod compute;
mod contended;
mod cross_step;
mod events;
mod fast;
mod forecast;
mod instance;
mod progress;
mod ready_first;
mod steady;
mod write_back;

use serde::{Deserialize, Serialize};

pub use crate::cost::Contention;
pub use answer::{StepAnswer, StepCopy, StepLayer, StepNeighbours};
pub use cross_step::{CrossStep, HeadStart, InFlight, NextCopy, Onward, cross_step};
pub use events::timeline;
pub use fast::{Scratch, step};
pub use forecast::prefix_forecast;
pub use instance::{InstanceError, InstanceRequest, Link, Slowdowns, StepInstance};
pub use steady::{CarriedCopy, Steady, steady};
pub use write_back::WriteBack;

use crate::ids::Layer;
use crate::model::LayerSet;
use crate::units::{SimDuration, TOO_LONG};

/// Which copy the engine takes when it is idle (design §3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CopyOrder {
    /// Among copies whose slot is free, the one with the lowest `(layer, request)`.
    #[default]
    ReadyFirst,
    /// Strictly by `(layer, request)`; a copy whose slot is taken blocks those behind it (one CUDA stream).
    InOrder,
}

/// How long the copies of one request take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CopyTimes<'a> {
    /// Every layer the same (uniform footprint, no noise): the aggregated fast paths may be used.
    Same(SimDuration),
    /// One time per layer, index 0 is layer 1.
    PerLayer(&'a [SimDuration]),
}

impl CopyTimes<'_> {
    /// The time of the copy of `layer`.
    pub fn of(self, layer: Layer) -> SimDuration {
        match self {
            CopyTimes::Same(time) => time,
            CopyTimes::PerLayer(times) => times[layer.index()],
        }
    }

    /// The time of all copies of `layers`.
    pub fn total(self, layers: LayerSet) -> SimDuration {
        match self {
            CopyTimes::Same(time) => time * u64::from(layers.len()),
            CopyTimes::PerLayer(times) => layers.iter().map(|layer| times[layer.index()]).sum(),
        }
    }
}

/// What one request asks of a decode step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRequest<'a> {
    /// Layers whose KV must come over the link in this step.
    pub fetched: LayerSet,
    /// How long each of those copies takes.
    pub copy: CopyTimes<'a>,
}

/// Compute time of each layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerTimes<'a> {
    /// Every layer the same.
    Same(SimDuration),
    /// One time per layer, index 0 is layer 1.
    PerLayer(&'a [SimDuration]),
}

impl LayerTimes<'_> {
    /// The compute time of `layer`.
    pub fn of(self, layer: Layer) -> SimDuration {
        match self {
            LayerTimes::Same(time) => time,
            LayerTimes::PerLayer(times) => times[layer.index()],
        }
    }

    /// The compute time of layers 1 to `layers`.
    pub fn total(self, layers: u32) -> SimDuration {
        match self {
            LayerTimes::Same(time) => time * u64::from(layers),
            LayerTimes::PerLayer(times) => times[..layers as usize].iter().copied().sum(),
        }
    }

    /// The shortest of layers 1 to `layers`.
    fn shortest(self, layers: u32) -> SimDuration {
        match self {
            LayerTimes::Same(time) => time,
            LayerTimes::PerLayer(times) => times[..layers as usize].iter().copied().min().unwrap_or_default(),
        }
    }
}

/// Writes into `times` the compute of each of `layers` layers: `layer` for decodes, and its even share of `prefill`, the
/// time of prompt tokens beside them. The shares sum to it: that of layer `j` of L is `⌊j·prefill/L⌋ − ⌊(j−1)·prefill/L⌋`
/// picoseconds.
pub fn joined_layers(layer: SimDuration, prefill: SimDuration, layers: u32, times: &mut Vec<SimDuration>) {
    let until = |end: u32| {
        let picos = u128::from(prefill.as_picos()) * u128::from(end) / u128::from(layers);
        SimDuration::from_picos(u64::try_from(picos).expect("Invariant: a part is no more than the whole"))
    };
    times.clear();
    times.extend((0..layers).map(|before| layer + (until(before + 1) - until(before))));
}

/// The work of one decode step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepWork<'a> {
    /// Layers L.
    pub layers: u32,
    /// Compute time of each layer.
    pub compute: LayerTimes<'a>,
    /// The batch, in batch order (the tie-break of copies for one layer). Requests that fetch nothing may be
    /// left out.
    pub requests: &'a [StepRequest<'a>],
    /// Staging slots per request, at least 1.
    pub slots: u32,
    /// Which copy goes first.
    pub order: CopyOrder,
    /// How much copies and compute slow each other.
    pub contention: Contention,
}

impl StepWork<'_> {
    /// The least and the most that the step can take if it waits for no write, but for 1 ps per layer and copy of
    /// rounding: `max(compute, copies)` and `(compute + copies) / min(1, 1/γ_copy + 1/γ_compute)`, both parts as they
    /// are alone.
    ///
    /// The stream idles only while a copy runs, so something always runs; both at once for a time `o`, in which
    /// `o·(1/γ_copy + 1/γ_compute)` of the sum is done. The rest is done at the rate 1.
    pub fn bounds(&self) -> (SimDuration, SimDuration) {
        self.bounds_beside(SimDuration::ZERO)
    }

    /// [`Self::bounds`] where copies of the steps before and after, `others` alone, run as well: they can only add.
    pub fn bounds_beside(&self, others: SimDuration) -> (SimDuration, SimDuration) {
        let compute = self.compute.total(self.layers);
        let copies = self.requests.iter().map(|request| request.copy.total(request.fetched)).sum();
        let sum = compute + copies + others;
        let one = u128::from(Contention::ONE_PPM);
        let (copy, layer) =
            (u128::from(self.contention.copy_ppm()), u128::from(self.contention.compute_ppm()));
        // 1 / (1/γ_copy + 1/γ_compute) = γ_copy · γ_compute / (γ_copy + γ_compute)
        let slowed = (u128::from(sum.as_picos()) * copy * layer).div_ceil((copy + layer) * one);
        let slowed = SimDuration::from_picos(u64::try_from(slowed).expect(TOO_LONG));
        (compute.max(copies), sum.max(slowed))
    }

    /// The layers that anyone fetches. Panics if this is no step: no layers, no slots, or a copy for a layer that
    /// the model has not.
    fn checked_fetched(&self) -> LayerSet {
        assert!((1..=Layer::MAX).contains(&self.layers), "Invariant: a step has 1 to 128 layers");
        assert!(self.slots >= 1, "Invariant: a request has at least one staging slot");
        let fetched = self.requests.iter().fold(LayerSet::EMPTY, |all, request| all.union(request.fetched));
        let absent = fetched.difference(LayerSet::all(self.layers));
        assert!(absent.is_empty(), "Invariant: only layers of the model are fetched");
        fetched
    }
}

/// How long a decode step took, without tail, intercept, restores and planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTiming {
    /// End of layer L, and of the previous step's write of layer L where that is waited for.
    pub step: SimDuration,
    /// Σ compute times of all layers, as long as they took: slowed where copies ran beside them.
    pub compute: SimDuration,
    /// Σ copy times, as long as they took: slowed where layers ran beside them.
    pub copy: SimDuration,
}

impl StepTiming {
    /// Compute waiting for copies and for writes: `step − compute`.
    pub fn stall(&self) -> SimDuration {
        self.step - self.compute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_layers_are_even_and_sum_to_the_prompts() {
        let mut times = Vec::new();
        for (prefill, layers) in [(0, 4), (8, 4), (10, 4), (3, 32), (1_000_000_007, 80), (u64::MAX / 2, 128)]
        {
            let (layer, prefill) = (SimDuration::from_picos(5), SimDuration::from_picos(prefill));
            joined_layers(layer, prefill, layers, &mut times);
            let shares: Vec<SimDuration> = times.iter().map(|time| *time - layer).collect();
            assert_eq!((shares.len(), shares.iter().copied().sum()), (layers as usize, prefill));
            let least = prefill.as_picos() / u64::from(layers);
            assert!(shares.iter().all(|share| (least..=least + 1).contains(&share.as_picos())));
        }
    }
}
