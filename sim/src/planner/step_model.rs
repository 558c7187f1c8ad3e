//! By which model a planner forecasts a step: the published prefix forecast, or the simulated step (design §3.4).
//!
//! The rule of the prefix forecast is `t = L·tc + max(0, max_j(Σ_{k≤j} D_k − (j−1)·tc)) + tail (+ intercept)`; the
//! **pipeline forecast** (design §4.2, `forecast = "pipeline"`) is `t = step + tail (+ intercept)`: [`pipeline::step`] with the believed times, the server's slots and copy order, no writes
//! and no contention, plus the tail, plus the link's intercept if anything is copied. Planners reckon in `f64` seconds,
//! the pipeline in whole picoseconds: [`PipelineForecast::new`] is the one place where the former become the latter,
//! each time to the nearest.
//!
//! It is never below the prefix forecast of the same rounded times (design §8, law 5), so bounds on that bound both.
//!
//! Worked: 4 layers of 1 ms, layers 3 and 4 offloaded, 2 ms per copy. Prefix: the copies have landed after 2 and 4 ms,
//! layer 4 starts at 4 ms and ends at 5 ms. One slot: the second copy waits for the end of layer 3 at 3 ms, lands
//! at 5 ms, and the step takes 6 ms. Two slots: 5 ms, as forecast (`one_slot_makes_the_second_copy_of_a_tail_wait`, with an
//! intercept of 0.5 ms).

use super::problem::prefix_ns;
use super::{Forecast, Instance};
use crate::model::LayerSet;
use crate::pipeline::{self, Contention, CopyOrder, CopyTimes, LayerTimes, StepRequest, StepWork};
use crate::units::{SimDuration, SimTime};

/// The model of a step that an [`Instance`] is solved by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepModel {
    /// Copies start as early as the link allows.
    Prefix,
    /// The simulated step.
    Pipeline {
        /// Staging slots per request, at least 1.
        slots: u32,
        /// Which copy goes first.
        order: CopyOrder,
    },
}

impl StepModel {
    /// The model that `forecast` names, on a server with these slots and this copy order.
    pub fn of(forecast: Forecast, slots: u32, order: CopyOrder) -> Self {
        match forecast {
            Forecast::Prefix => StepModel::Prefix,
            Forecast::Pipeline => StepModel::Pipeline { slots, order },
        }
    }
}

/// Forecasts steps of one batch by the pipeline.
#[derive(Debug)]
pub struct PipelineForecast {
    layers: u32,
    layer_compute: SimDuration,
    tail: SimDuration,
    intercept: SimDuration,
    slots: u32,
    order: CopyOrder,
    requests: Vec<StepRequest<'static>>,
    scratch: pipeline::Scratch,
}

impl PipelineForecast {
    /// A batch on `layers` layers of `layer_compute_s` seconds; `fixed_s` are the tail and the link's intercept, and
    /// `copies_s` the time of one copy of each request, in batch order. Panics if a time is no duration.
    pub fn new(
        layers: u32,
        layer_compute_s: f64,
        fixed_s: (f64, f64),
        slots: u32,
        order: CopyOrder,
        copies_s: impl IntoIterator<Item = f64>,
    ) -> Self {
        let picoseconds = SimDuration::from_secs_f64;
        let request = |copy_s| StepRequest {
            fetched: LayerSet::EMPTY,
            copy: CopyTimes::Same(SimDuration::from_secs_f64(copy_s)),
        };
        PipelineForecast {
            layers,
            layer_compute: picoseconds(layer_compute_s),
            tail: picoseconds(fixed_s.0),
            intercept: picoseconds(fixed_s.1),
            slots,
            order,
            requests: copies_s.into_iter().map(request).collect(),
            scratch: pipeline::Scratch::default(),
        }
    }

    /// The batch of `instance`.
    pub fn of(instance: &Instance, slots: u32, order: CopyOrder) -> Self {
        let copy_s = |blocks: u64| instance.copy_latency_s + blocks as f64 * instance.block_copy_s;
        PipelineForecast::new(
            instance.layers,
            instance.layer_compute_s,
            (instance.tail_s, instance.intercept_s),
            slots,
            order,
            instance.requests.iter().map(|request| copy_s(request.blocks)),
        )
    }

    /// The step in which each request fetches these layers. Panics unless there is one set per request.
    pub fn step(&mut self, offloaded: &[LayerSet]) -> SimDuration {
        assert_eq!(offloaded.len(), self.requests.len(), "Invariant: one set per request");
        for (request, &set) in self.requests.iter_mut().zip(offloaded) {
            request.fetched = set;
        }
        let work = StepWork {
            layers: self.layers,
            compute: LayerTimes::Same(self.layer_compute),
            requests: &self.requests,
            slots: self.slots,
            order: self.order,
            contention: Contention::NONE,
        };
        let decode = pipeline::step(&work, SimTime::ZERO, None, &mut self.scratch).step;
        let copies = offloaded.iter().any(|set| !set.is_empty());
        decode + self.tail + if copies { self.intercept } else { SimDuration::ZERO }
    }

    /// [`Self::step`] in the nanoseconds that plans are compared by: exact, a step is far below 2^53 ps.
    pub(super) fn step_ns(&mut self, offloaded: &[LayerSet]) -> f64 {
        self.step(offloaded).as_picos() as f64 / 1e3
    }
}

/// Steps of the batch of one instance by its model.
pub(super) enum Forecaster<'a> {
    Prefix(&'a Instance),
    Pipeline(Box<PipelineForecast>),
}

impl<'a> Forecaster<'a> {
    pub fn of(instance: &'a Instance) -> Self {
        match instance.model {
            StepModel::Prefix => Forecaster::Prefix(instance),
            StepModel::Pipeline { slots, order } => {
                Forecaster::Pipeline(Box::new(PipelineForecast::of(instance, slots, order)))
            }
        }
    }

    /// The step in which each request fetches these layers, nanoseconds.
    pub fn step_ns(&mut self, offloaded: &[LayerSet]) -> f64 {
        match self {
            Forecaster::Prefix(instance) => prefix_ns(instance, offloaded),
            Forecaster::Pipeline(forecast) => forecast.step_ns(offloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Layer;

    #[test]
    fn one_slot_makes_the_second_copy_of_a_tail_wait() {
        let tail: LayerSet = [Layer(3), Layer(4)].into_iter().collect();
        let step = |slots| {
            let mut batch =
                PipelineForecast::new(4, 1e-3, (0.0, 0.5e-3), slots, CopyOrder::ReadyFirst, [2e-3]);
            [batch.step(&[tail]), batch.step(&[LayerSet::EMPTY])].map(|step| step.as_picos() / 1_000_000)
        };
        // µs; the intercept is 500
        assert_eq!(step(1), [6_500, 4_000]);
        assert_eq!(step(2), [5_500, 4_000]);
    }
}
