//! The batches and variants of each kind of run, as tables; contexts are solved for in `cases`.
//!
//! Groups and variants are listed most important first: a run that is out of time drops from the end. Placements of one
//! group share a workload and are ranked within it. Knows no costs, no device and no contexts.

use super::placements::Rule;
use crate::case::CopyStreams;
use crate::case::Granularity::{self, BlocksAsync, BlocksBatch, Layer};
use crate::scale::Scale;

/// The ratios of copies to compute that single cases are solved for.
pub(super) const RATIOS: [f64; 7] = [1.0, 2.0, 0.5, 5.0, 0.25, 1.25, 0.8];
/// A batch, and everything that is measured of it.
pub(super) struct Group {
    pub name: &'static str,
    pub held_out: bool,
    /// Context of each request in units that are solved for.
    pub weights: Vec<u32>,
    /// Tokens short of whole blocks.
    pub short: u32,
    /// Contexts are solved so that this placement, in this granularity, has this ratio.
    pub anchor: (Rule, Granularity),
    pub target: Target,
    pub dilated: bool,
    pub variants: Vec<Variant>,
}

/// What contexts are solved for.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// Copies over compute.
    Rho(f64),
    /// Tokens of the longest request.
    Tokens(u32),
}

#[derive(Clone, Copy)]
pub(super) struct Variant {
    pub rule: Rule,
    pub slots: u32,
    pub granularity: Granularity,
    pub streams: CopyStreams,
}

impl Variant {
    fn new(rule: Rule, slots: u32, granularity: Granularity) -> Variant {
        Variant { rule, slots, granularity, streams: CopyStreams::One }
    }

    fn per_request(self) -> Variant {
        Variant { streams: CopyStreams::PerRequest, ..self }
    }
}

/// What is measured, most important first.
pub(super) fn groups(scale: &Scale) -> Vec<Group> {
    let small = scale.most_tokens < 100_000;
    match (small, scale.quick) {
        (true, _) => emulation_groups(),
        (false, true) => quick_groups(),
        (false, false) => full_groups(scale),
    }
}

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
