//! Which decode steps are predicted and measured (`gpu-measurement.md` §0.1, §4.2): chosen by ρ, not by round contexts.
//!
//! A [`Group`] is a batch whose contexts are solved so that one placement of it reaches a ratio of copies to compute, and
//! the variants of it: placements, slots, granularities, arms. Groups and variants are listed most important first; a run
//! that is out of time drops from the end. Knows no device beyond how much memory it has, and no measured step.

use orbitflow_sim::model::ModelSpec;

use super::costs::{CostSource, StepCost};
use super::placements::Rule;
use super::workload::{Room, Sought};
use crate::case::{Case, CopyStreams, Granularity};
use crate::device::Facts;
use crate::results::Dropped;
use crate::scale::Scale;

/// The ratios of copies to compute that single cases are solved for.
pub(super) const RATIOS: [f64; 7] = [1.0, 2.0, 0.5, 5.0, 0.25, 1.25, 0.8];
/// How much slower than it is compute is made in synthetic cases: an A6000 under an H200 (`gpu-measurement.md` §4.6).
const DILATION: f64 = 6.0;

/// A batch, and everything that is measured of it.
struct Group {
    name: &'static str,
    held_out: bool,
    /// Context of each request in units that are solved for.
    weights: Vec<u32>,
    /// Tokens short of whole blocks.
    short: u32,
    /// Contexts are solved so that this placement, in this granularity, has this ratio.
    anchor: (Rule, Granularity),
    target: Target,
    dilated: bool,
    variants: Vec<Variant>,
}

/// What contexts are solved for.
#[derive(Clone, Copy)]
enum Target {
    /// Copies over compute.
    Rho(f64),
    /// Tokens of the longest request.
    Tokens(u32),
}

#[derive(Clone, Copy)]
struct Variant {
    rule: Rule,
    slots: u32,
    granularity: Granularity,
    streams: CopyStreams,
}

impl Variant {
    fn new(rule: Rule, slots: u32, granularity: Granularity) -> Variant {
        Variant { rule, slots, granularity, streams: CopyStreams::One }
    }

    fn per_request(self) -> Variant {
        Variant { streams: CopyStreams::PerRequest, ..self }
    }
}

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
        self.left_out.push(Dropped { experiment: "E10".to_owned(), what, reason, waived: true });
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
    ) -> Result<Option<Vec<orbitflow_sim::model::LayerSet>>, String> {
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

fn groups(scale: &Scale) -> Vec<Group> {
    let small = scale.most_tokens < 100_000;
    match (small, scale.quick) {
        (true, _) => emulation_groups(),
        (false, true) => quick_groups(),
        (false, false) => full_groups(scale),
    }
}

use Granularity::{BlocksAsync, BlocksBatch, Layer};

fn group(name: &'static str, weights: Vec<u32>, anchor: (Rule, Granularity), target: Target) -> Group {
    Group { name, held_out: false, weights, short: 0, anchor, target, dilated: false, variants: Vec::new() }
}

fn of_rules(rules: &[Rule], slots: u32, granularity: Granularity) -> Vec<Variant> {
    rules.iter().map(|&rule| Variant::new(rule, slots, granularity)).collect()
}

/// About 36 cases of the fitted model, 6 held out, the second arm and two synthetic ones.
fn full_groups(scale: &Scale) -> Vec<Group> {
    // With every 4th of 32 layers at ρ = 1, every 16th, 8th, 5th, 3rd and 2nd are near 0.25, 0.5, 0.75, 1.25 and 2.
    let mut placements = group("b16", vec![1; 16], (Rule::Every(4), Layer), Target::Rho(1.0));
    placements.variants = of_rules(
        &[
            Rule::Every(4),
            Rule::Planner,
            Rule::Mixed,
            Rule::Every(2),
            Rule::Every(8),
            Rule::None,
            Rule::Last,
            Rule::First,
            Rule::Every(3),
            Rule::Every(5),
            Rule::Every(16),
            Rule::All,
        ],
        2,
        Layer,
    );
    placements.variants.extend([
        Variant::new(Rule::Every(2), 1, Layer),
        Variant::new(Rule::Every(2), 3, Layer),
        Variant::new(Rule::Every(4), 2, BlocksAsync),
        Variant::new(Rule::Every(4), 2, BlocksBatch),
    ]);
    let mut one_slot = group("b4", vec![1; 4], (Rule::Every(4), BlocksBatch), Target::Rho(1.0));
    one_slot.variants = of_rules(
        &[Rule::Planner, Rule::Mixed, Rule::Every(2), Rule::Every(4), Rule::Every(8), Rule::Last],
        1,
        BlocksBatch,
    );
    let mut groups = vec![placements];
    groups.extend(ratio_groups());
    groups.push(one_slot);
    groups.push(held_out(
        16,
        &[Rule::Every(4), Rule::Planner, Rule::Mixed, Rule::Every(2), Rule::Every(8), Rule::None],
    ));
    groups.push(ragged());
    groups.extend(long(scale.long_tokens));
    groups.extend(arms());
    groups
}

/// One case per ratio, slots and granularities in turn.
fn ratio_groups() -> Vec<Group> {
    const NAMES: [&str; RATIOS.len()] =
        ["rho-1", "rho-2", "rho-0.5", "rho-5", "rho-0.25", "rho-1.25", "rho-0.8"];
    let turns = [
        (Layer, 1),
        (BlocksAsync, 2),
        (BlocksBatch, 1),
        (Layer, 2),
        (BlocksBatch, 2),
        (Layer, 3),
        (BlocksAsync, 3),
    ];
    (NAMES.into_iter().zip(RATIOS).zip(turns))
        .map(|((name, rho), (granularity, slots))| {
            let mut one = group(name, vec![1; 8], (Rule::Every(4), granularity), Target::Rho(rho));
            one.variants = vec![Variant::new(Rule::Every(4), slots, granularity)];
            one
        })
        .collect()
}

fn held_out(requests: usize, rules: &[Rule]) -> Group {
    let mut group = group("held-out", vec![1; requests], (Rule::Every(4), Layer), Target::Rho(1.0));
    group.held_out = true;
    group.variants = of_rules(rules, 2, Layer);
    group
}

/// One long request among short ones, last blocks part-filled.
fn ragged() -> Group {
    let weights = vec![16, 1, 1, 2, 1, 1, 4, 1];
    let mut group = Group { short: 3, ..group("ragged", weights, (Rule::Every(4), Layer), Target::Rho(1.0)) };
    group.variants = vec![
        Variant::new(Rule::Every(4), 2, Layer),
        Variant::new(Rule::Planner, 2, Layer),
        Variant::new(Rule::Mixed, 1, BlocksBatch),
    ];
    group
}

/// One layer in 32 offloaded of very many tokens, in one request and in 16.
fn long(tokens: u32) -> Vec<Group> {
    if tokens == 0 {
        return Vec::new();
    }
    let shapes = [("long-b1", vec![1], tokens), ("long-b16", vec![1; 16], tokens / 16)];
    shapes
        .into_iter()
        .map(|(name, weights, longest)| {
            let mut group = group(name, weights, (Rule::Every(32), Layer), Target::Tokens(longest));
            group.variants = vec![Variant::new(Rule::Every(32), 1, Layer)];
            group
        })
        .collect()
}

/// One copy stream per request, where requests differ so that the order of copies matters; and a slower GPU, played.
fn arms() -> Vec<Group> {
    let mut second = group("arm", vec![1; 16], (Rule::Mixed, Layer), Target::Rho(1.0));
    second.variants = [(Rule::Mixed, 1, Layer), (Rule::Mixed, 2, Layer), (Rule::Mixed, 1, BlocksBatch)]
        .map(|(rule, slots, granularity)| Variant::new(rule, slots, granularity).per_request())
        .to_vec();
    let mut ragged_arm = Group {
        short: 3,
        ..group("arm-ragged", vec![16, 1, 1, 2, 1, 1, 4, 1], (Rule::Mixed, Layer), Target::Rho(1.0))
    };
    ragged_arm.variants = vec![Variant::new(Rule::Mixed, 1, Layer).per_request()];
    let mut slow = group("slow", vec![1; 8], (Rule::Every(4), Layer), Target::Rho(1.0));
    slow.dilated = true;
    slow.variants = vec![Variant::new(Rule::Every(4), 2, Layer), Variant::new(Rule::Mixed, 1, Layer)];
    vec![second, ragged_arm, slow]
}

/// Ten cases: enough to order placements, one of each slot count and granularity, one of the second arm.
fn quick_groups() -> Vec<Group> {
    let mut placements = group("b16", vec![1; 16], (Rule::Every(4), Layer), Target::Rho(1.0));
    placements.variants = of_rules(
        &[Rule::Every(4), Rule::Planner, Rule::Mixed, Rule::Every(2), Rule::Every(8), Rule::None],
        2,
        Layer,
    );
    placements
        .variants
        .extend([Variant::new(Rule::Every(4), 1, BlocksBatch), Variant::new(Rule::Every(4), 3, BlocksAsync)]);
    let mut second = group("arm", vec![1; 8], (Rule::Mixed, Layer), Target::Rho(1.0));
    second.variants = vec![Variant::new(Rule::Mixed, 1, Layer).per_request()];
    vec![placements, held_out(8, &[Rule::Every(4)]), second]
}

/// As many kinds of cases as the real run has, on models that a CPU can play.
fn emulation_groups() -> Vec<Group> {
    let mut placements = group("b4", vec![1; 4], (Rule::Every(4), Layer), Target::Rho(0.5));
    placements.variants = of_rules(
        &[Rule::Every(4), Rule::Planner, Rule::Mixed, Rule::Every(2), Rule::None, Rule::Last],
        1,
        Layer,
    );
    placements
        .variants
        .extend([Variant::new(Rule::Every(2), 2, BlocksBatch), Variant::new(Rule::Every(2), 3, BlocksAsync)]);
    let mut ragged =
        Group { short: 3, ..group("ragged", vec![4, 1, 1], (Rule::Every(2), Layer), Target::Rho(1.0)) };
    ragged.variants = vec![Variant::new(Rule::Mixed, 1, Layer)];
    let mut second = group("arm", vec![1; 4], (Rule::Mixed, Layer), Target::Rho(1.0));
    second.variants = vec![Variant::new(Rule::Mixed, 1, Layer).per_request()];
    let mut slow = group("slow", vec![1; 2], (Rule::Every(2), Layer), Target::Rho(1.0));
    slow.dilated = true;
    slow.variants = vec![Variant::new(Rule::Every(2), 1, Layer)];
    vec![placements, ragged, held_out(2, &[Rule::Every(4), Rule::Every(2)]), second, slow]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;
    use crate::validation::costs::NoCosts;
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
        assert!(left_out[0].what.contains("held-out") && left_out[0].waived, "{left_out:?}");
    }
}
