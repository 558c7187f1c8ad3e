//! What the simulator says of a case: `orbitflow_sim`'s own cost model and pipeline, and nothing else.
//!
//! Copies in order (design §3.4, `copy_order = "in-order"`), the new rows written back behind each layer that offloads
//! them, contention only while copies and compute overlap, and after the last layer the tail. Steps follow one another
//! until their time repeats, as they do when they are measured. **Imports neither devices nor the decode rig** (a test
//! reads this file), so nothing measured in a validation step can reach a prediction.

use orbitflow_sim::cost::profile::{Positive, PredictedStep};
use orbitflow_sim::cost::{Contention, CostModel, LinkModel, Pieces};
use orbitflow_sim::ids::Layer;
use orbitflow_sim::pipeline::{
    CopyOrder, CopyTimes, LayerTimes, Scratch, StepRequest, StepTiming, StepWork, WriteBack, prefix_forecast,
    step, timeline,
};
use orbitflow_sim::units::{Bytes, SimDuration, SimTime};

use super::costs::StepCost;
use super::placements::kv_bytes;
use crate::case::{Case, PredictedParts, Prediction};

/// Steps after which a step time that still changes is taken as it is.
const MOST_STEPS: u32 = 64;

/// Predicts one case.
pub fn predict(case: &Case, cost: &StepCost) -> Prediction {
    let full = CaseStep::of(case, &cost.full);
    let (in_order, stalls) = full.steady(CopyOrder::InOrder, full.contention);
    let alone = full.alone();
    let (compute, copy, tail) =
        (alone.compute.as_secs_f64(), alone.copy.as_secs_f64(), full.tail.as_secs_f64());
    let affine = cost.affine.as_ref().map(|affine| {
        let step = CaseStep::of(case, affine);
        step.steady(CopyOrder::InOrder, step.contention).0
    });
    let (least, most) = full.with_work(CopyOrder::InOrder, full.contention, |work| work.bounds());
    let step_s = PredictedStep {
        full: seconds(in_order),
        affine: affine.map(seconds),
        orbitflow: Some(positive(full.published_s(&cost.full, case))),
        bound: Some(positive(compute.max(copy) + tail)),
        no_contention: Some(seconds(full.steady(CopyOrder::InOrder, Contention::NONE).0)),
    };
    Prediction {
        case: case.id.clone(),
        rho: copy / compute,
        step_s,
        parts: PredictedParts {
            compute_s: compute,
            copy_s: copy,
            tail_s: tail,
            least_s: (least + full.tail).as_secs_f64(),
            most_s: (most + full.tail).as_secs_f64(),
            ready_first_s: full.steady(CopyOrder::ReadyFirst, full.contention).0.as_secs_f64(),
            stalls_s: stalls.into_iter().map(SimDuration::as_secs_f64).collect(),
        },
    }
}

/// A case in durations: what the pipeline is handed.
struct CaseStep {
    layers: u32,
    slots: u32,
    /// Of every layer, dilation included.
    layer: SimDuration,
    tail: SimDuration,
    requests: Vec<StepRequest<'static>>,
    /// The longest write-back behind a layer; `None` where nothing is offloaded.
    write: Option<SimDuration>,
    contention: Contention,
}

impl CaseStep {
    fn of(case: &Case, cost: &CostModel) -> CaseStep {
        let requests = (case.contexts.iter().zip(&case.offloaded))
            .map(|(&tokens, &fetched)| StepRequest {
                fetched,
                copy: CopyTimes::Same(cost.h2d.copy_time(kv_bytes(&case.model, tokens))),
            })
            .collect();
        CaseStep {
            layers: case.layers,
            slots: case.slots,
            layer: cost.layer_compute(case.tokens(), case.batch())
                + SimDuration::from_secs_f64(case.dilation_s),
            tail: cost.tail(case.batch()),
            requests,
            write: longest_write(case, &cost.d2h),
            contention: cost.contention,
        }
    }

    fn with_work<T>(
        &self,
        order: CopyOrder,
        contention: Contention,
        run: impl FnOnce(&StepWork<'_>) -> T,
    ) -> T {
        run(&StepWork {
            layers: self.layers,
            compute: LayerTimes::Same(self.layer),
            requests: &self.requests,
            slots: self.slots,
            order,
            contention,
        })
    }

    /// Compute and copies, each as if the other were not there.
    fn alone(&self) -> StepTiming {
        self.with_work(CopyOrder::InOrder, Contention::NONE, |work| {
            step(work, SimTime::ZERO, None, &mut Scratch::default())
        })
    }

    /// The time of a step among many, from the end of the one before to its own, and the stall before each layer.
    fn steady(&self, order: CopyOrder, contention: Contention) -> (SimDuration, Vec<SimDuration>) {
        self.with_work(order, contention, |work| {
            let mut writes = WriteBack::new(self.layers);
            let (mut start, mut last, mut scratch) = (SimTime::ZERO, None, Scratch::default());
            for _ in 0..MOST_STEPS {
                let mut before = writes.clone();
                let queue = self.write.map(|write| (&mut writes, write));
                let time = step(work, start, queue, &mut scratch).step + self.tail;
                if last == Some(time) {
                    let queue = self.write.map(|write| (&mut before, write));
                    let layers = timeline(work, start, queue).1.layers;
                    return (time, layers.iter().map(|layer| layer.stall).collect());
                }
                (start, last) = (start + time, Some(time));
            }
            let layers = timeline(work, start, self.write.map(|write| (&mut writes, write))).1.layers;
            let time = last.expect("Invariant: at least one step was simulated");
            (time, layers.iter().map(|layer| layer.stall).collect())
        })
    }

    /// The published planner's formula with these numbers, and the tail.
    fn published_s(&self, cost: &CostModel, case: &Case) -> f64 {
        let copies: Vec<_> = (case.contexts.iter().zip(&case.offloaded))
            .map(|(&tokens, &set)| (set, cost.h2d.copy_time_s(kv_bytes(&case.model, tokens))))
            .collect();
        prefix_forecast(self.layers, self.layer.as_secs_f64(), &copies) + self.tail.as_secs_f64()
    }
}

/// The write-back of the new K and V rows of the requests that offload a layer, for the layer that most do: one copy, of
/// two pieces per request.
fn longest_write(case: &Case, d2h: &LinkModel) -> Option<SimDuration> {
    let row = case.model.kv_bytes_per_token_layer();
    let pieces = d2h.pieces.map(|pieces| Pieces { piece: Some(Bytes::new(row.get() / 2)), ..pieces });
    let link = LinkModel { pieces, ..*d2h };
    (1..=case.layers)
        .map(|layer| case.offloaded.iter().filter(|set| set.contains(Layer(layer))).count() as u64)
        .max()
        .filter(|most| *most > 0)
        .map(|most| link.copy_time(row * most))
}

fn seconds(span: SimDuration) -> Positive {
    positive(span.as_secs_f64())
}

fn positive(seconds: f64) -> Positive {
    Positive::new(seconds).expect("Invariant: a step takes time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::placements::Rule;
    use crate::validation::testing;

    #[test]
    fn a_prediction_can_see_neither_devices_nor_the_rig() {
        let files = [include_str!("predict.rs"), include_str!("costs.rs"), include_str!("placements.rs")];
        for file in files {
            let code = file.split("#[cfg(test)]").next().unwrap();
            for module in ["device", "decode", "session", "results", "sample", "run", "findings"] {
                for path in [format!("crate::{module}"), format!("super::{module}")] {
                    assert!(!code.contains(&path), "{path} in a file that predictions are made of");
                }
            }
        }
    }

    #[test]
    fn a_step_without_copies_is_its_layers_and_its_tail() {
        let model = testing::model();
        let cost = testing::step_cost(&model);
        let case = testing::case(&model, &[160, 320], Rule::None, 1);
        let prediction = predict(&case, &cost);
        let expected = cost.full.layer_compute(480, 2) * 8 + cost.full.tail(2);
        assert_eq!(prediction.step_s.full.get(), expected.as_secs_f64());
        assert_eq!((prediction.rho, prediction.parts.copy_s), (0.0, 0.0));
        assert_eq!(prediction.step_s.bound, Some(prediction.step_s.full));
        assert!(prediction.parts.stalls_s.iter().all(|stall| *stall == 0.0));
    }

    #[test]
    fn stalls_tail_and_compute_add_up_to_the_step() {
        let model = testing::model();
        let cost = testing::step_cost(&model);
        let case = testing::case(&model, &[1600, 320], Rule::Mixed, 1);
        let prediction = predict(&case, &cost);
        let parts = &prediction.parts;
        let sum = parts.stalls_s.iter().sum::<f64>() + parts.compute_s + parts.tail_s;
        assert!((sum / prediction.step_s.full.get() - 1.0).abs() < 1e-9);
        assert!(
            parts.least_s <= prediction.step_s.full.get() && prediction.step_s.full.get() <= parts.most_s
        );
        // With unbounded look-ahead a step never takes longer.
        assert!(prediction.step_s.orbitflow.unwrap() <= prediction.step_s.full);
    }

    #[test]
    fn contention_lengthens_only_steps_that_copy() {
        let model = testing::model();
        let mut cost = testing::step_cost(&model);
        cost.full.contention = Contention::of_factors(1.5, 1.1).unwrap();
        let offloading = predict(&testing::case(&model, &[800, 800], Rule::Every(2), 2), &cost);
        assert!(offloading.step_s.full > offloading.step_s.no_contention.unwrap());
        let resident = predict(&testing::case(&model, &[800, 800], Rule::None, 2), &cost);
        assert_eq!(Some(resident.step_s.full), resident.step_s.no_contention);
    }

    #[test]
    fn dilation_is_added_to_every_layer() {
        let model = testing::model();
        let cost = testing::step_cost(&model);
        let plain = testing::case(&model, &[160], Rule::None, 1);
        let dilated = Case { dilation_s: 1e-3, ..plain.clone() };
        let more = predict(&dilated, &cost).step_s.full.get() - predict(&plain, &cost).step_s.full.get();
        assert!((more - 8e-3).abs() < 1e-12, "{more}");
    }
}
