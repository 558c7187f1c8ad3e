//! Which decode steps are predicted and measured (`gpu-measurement.md` §0.1, §4.2): chosen by ρ, not by round contexts.
//!
//! Each group (`groups`) is a batch whose contexts are solved so that one placement reaches a ratio of copies to compute, with
//! the variants of it: placements, slots, granularities, arms. Groups and variants are listed most important first; a run
//! that is out of time drops from the end. Knows no device beyond how much memory it has, and no measured step.

use orbitflow_sim::model::{LayerSet, ModelSpec};

use super::costs::{CostSource, StepCost};
use super::groups::{Group, Target, Variant, groups};
use super::placements::Rule;
use super::workload::{Room, Sought};
use crate::case::{Case, CopyStreams};
use crate::device::Facts;
use crate::results::{Dropped, Gap};
use crate::scale::Scale;

/// How much slower than it is compute is made in synthetic cases: an A6000 under an H200 (`gpu-measurement.md` §4.6).
const DILATION: f64 = 6.0;

/// The cases of a run, most important first, and what cannot be a case here, with reasons.
pub fn cases(scale: &Scale, facts: &Facts, costs: &dyn CostSource) -> (Vec<Case>, Vec<Dropped>) {
    let mut planned =
        Planned { scale, room: Room::of(scale, facts), costs, cases: Vec::new(), left_out: Vec::new() };
    for group in groups(scale) {
        planned.add(&group);
    }
    (planned.cases, planned.left_out)
}

struct Planned<'a> {
    scale: &'a Scale,
    room: Room,
    costs: &'a dyn CostSource,
    cases: Vec<Case>,
    left_out: Vec<Dropped>,
}

impl Planned<'_> {
    fn leave_out(&mut self, what: String, reason: impl Into<String>) {
        let reason = reason.into();
        self.left_out.push(Dropped { experiment: "E10".to_owned(), what, reason, gap: Gap::NotPossible });
    }

    fn add(&mut self, group: &Group) {
        let model = if group.held_out { &self.scale.held_out } else { &self.scale.fitted };
        let name = format!("{}.{}", model.name, group.name);
        let cost = match self.costs.step_cost(model, group.anchor.1) {
            Ok(cost) => cost,
            Err(reason) => return self.leave_out(name, reason.to_string()),
        };
        let Some((contexts, layers, dilation_s)) = self.solve(group, model, &cost) else {
            return self.leave_out(name, "does not fit the device's memory");
        };
        for variant in &group.variants {
            let id = id(&name, variant, layers);
            match self.offloaded(model, layers, &contexts, variant) {
                Err(reason) => self.leave_out(id, reason),
                Ok(None) => {}
                Ok(Some(offloaded)) => self.cases.push(Case {
                    id,
                    workload: name.clone(),
                    model: model.clone(),
                    layers,
                    contexts: contexts.clone(),
                    offloaded,
                    placement: variant.rule.words(layers),
                    slots: variant.slots,
                    granularity: variant.granularity,
                    streams: variant.streams,
                    dilation_s,
                    held_out: group.held_out,
                }),
            }
        }
    }

    /// Contexts, layers, and the spin after each layer.
    fn solve(&self, group: &Group, model: &ModelSpec, cost: &StepCost) -> Option<(Vec<u32>, u32, f64)> {
        let slots = group.variants.iter().map(|variant| variant.slots).max()?;
        let requests = group.weights.len() as u32;
        let dilation_s = if group.dilated {
            let layer_s = cost.full.layer_compute_s(16 * u64::from(requests), requests);
            // Whole nanoseconds: a number that a reader can copy.
            ((DILATION - 1.0) * layer_s * 1e9).round() / 1e9
        } else {
            0.0
        };
        let contexts = match group.target {
            Target::Tokens(longest) => {
                let most = group.weights.iter().copied().max()?;
                group.weights.iter().map(|weight| longest / most * weight - group.short).collect()
            }
            Target::Rho(target) => {
                let shortest: Vec<u32> = group.weights.iter().map(|weight| 16 * weight).collect();
                let layers = self.room.layers(model, &shortest, slots)?;
                let sought = Sought {
                    model,
                    layers,
                    weights: &group.weights,
                    short: group.short,
                    anchor: group.anchor.0,
                    dilation_s,
                    slots,
                };
                sought.nearest(target, self.room, &cost.full)?
            }
        };
        let layers = self.room.layers(model, &contexts, slots)?;
        Some((contexts, layers, dilation_s))
    }

    /// The layers of each request; `None`: the rule is another's twin here, as it offloads nothing.
    fn offloaded(
        &self,
        model: &ModelSpec,
        layers: u32,
        contexts: &[u32],
        variant: &Variant,
    ) -> Result<Option<Vec<LayerSet>>, String> {
        let cost = self.costs.step_cost(model, variant.granularity).map_err(|error| error.to_string())?;
        let Some(sets) = variant.rule.apply(model, layers, contexts, variant.slots, &cost.full) else {
            return Err("the planner has no choice to make: staging takes what offloading frees".to_owned());
        };
        let empty = sets.iter().all(|set| set.is_empty());
        Ok((variant.rule == Rule::None || !empty).then_some(sets))
    }
}

fn id(workload: &str, variant: &Variant, layers: u32) -> String {
    let placement = variant.rule.words(layers).replace(' ', "-");
    let arm = match variant.streams {
        CopyStreams::One => "",
        CopyStreams::PerRequest => "/per-request",
    };
    format!("{workload}/{placement}/s{}/{}{arm}", variant.slots, variant.granularity.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Granularity;
    use crate::device::Backend;
    use crate::validation::costs::NoCosts;
    use crate::validation::groups::RATIOS;
    use crate::validation::predict::predict;
    use crate::validation::testing;
    use std::collections::{BTreeMap, BTreeSet};

    /// The floors of an H200, whatever the model and granularity.
    struct H200;

    impl CostSource for H200 {
        fn step_cost(&self, model: &ModelSpec, _: Granularity) -> Result<StepCost, NoCosts> {
            let full = orbitflow_sim::cost::CostModel { layers: model.layers, ..testing::h200().1 };
            Ok(StepCost { full, affine: None, notes: Vec::new() })
        }
    }

    fn full() -> Vec<Case> {
        let scale = Scale::of(Backend::Cuda, false);
        let (cases, left_out) = cases(&scale, &testing::facts(&scale), &H200);
        assert_eq!(left_out, []);
        cases
    }

    #[test]
    fn a_full_run_has_its_cases_each_with_a_name_of_its_own() {
        let cases = full();
        let main = cases
            .iter()
            .filter(|case| !case.held_out && case.streams == CopyStreams::One && case.dilation_s == 0.0);
        // 16 of b16, 7 ratios, 6 of b4, 3 ragged, 2 long
        assert_eq!(main.count(), 34);
        assert_eq!(cases.iter().filter(|case| case.held_out).count(), 6);
        assert_eq!(cases.iter().filter(|case| case.streams == CopyStreams::PerRequest).count(), 4);
        assert_eq!(cases.iter().filter(|case| case.dilation_s > 0.0).count(), 2);
        let ids: BTreeSet<_> = cases.iter().map(|case| &case.id).collect();
        assert_eq!(ids.len(), cases.len());
        for granularity in Granularity::ALL {
            assert!(cases.iter().any(|case| case.granularity == granularity));
        }
        for slots in 1..=3 {
            assert!(cases.iter().any(|case| case.slots == slots));
        }
    }

    #[test]
    fn the_ratios_of_a_full_run_are_reached_and_cover_every_target() {
        let cost = StepCost { full: testing::h200().1, affine: None, notes: Vec::new() };
        let cases = full();
        for target in RATIOS {
            let name = format!("rho-{target}/");
            let case = cases.iter().find(|case| case.id.contains(&name)).unwrap();
            let reached = predict(case, &cost).rho;
            // 8 requests of one block are 8·64 KiB/55 GB/s = 9.5 µs of 4·101 µs: half a block off is 1.2 %.
            assert!((reached - target).abs() < 0.013, "{target}: {reached}");
        }
    }

    #[test]
    fn at_least_one_fitted_and_one_held_out_workload_can_be_ranked() {
        let mut placements: BTreeMap<(bool, String), usize> = BTreeMap::new();
        for case in full() {
            *placements.entry((case.held_out, case.workload)).or_default() += 1;
        }
        for held_out in [false, true] {
            assert!(placements.iter().any(|((held, _), count)| *held == held_out && *count >= 5));
        }
    }

    #[test]
    fn the_second_arm_has_cases_in_which_the_order_of_copies_matters() {
        let cost = StepCost { full: testing::h200().1, affine: None, notes: Vec::new() };
        let apart =
            full().into_iter().filter(|case| case.streams == CopyStreams::PerRequest).filter(|case| {
                let prediction = predict(case, &cost);
                (prediction.parts.ready_first_s / prediction.step_s.full.get() - 1.0).abs() > 0.01
            });
        assert!(apart.count() >= 2);
    }

    #[test]
    fn the_other_runs_are_small_and_have_every_kind() {
        let quick = Scale::of(Backend::Cuda, true);
        let (quick_cases, _) = cases(&quick, &testing::facts(&quick), &H200);
        assert_eq!(quick_cases.len(), 10);
        let tiny = Scale::of(Backend::Host, false);
        let model = testing::model();
        let profile = testing::profile(&model);
        let costs = crate::validation::ProfileCosts { profile: &profile };
        let (tiny_cases, left_out) = cases(&tiny, &testing::facts(&tiny), &costs);
        assert!((8..=14).contains(&tiny_cases.len()), "{}", tiny_cases.len());
        assert!(tiny_cases.iter().any(|case| case.placement == "planner"));
        // The profile does not know the held-out model: said, not guessed.
        assert_eq!(left_out.len(), 1);
        assert!(left_out[0].what.contains("held-out") && left_out[0].gap == Gap::NotPossible, "{left_out:?}");
    }
}
