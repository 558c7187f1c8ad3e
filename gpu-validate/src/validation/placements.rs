//! The placements that are validated (issue 3, point 5; `gpu-measurement.md` §4.2), as the simulator's own layer sets.
//!
//! A [`Rule`] is a placement in words; it becomes one layer set per request once layers, contexts and costs are known.
//! The planner's placement is what `orbitflow_sim::planner` answers on the real instance, with a pool so small that it
//! must choose. Knows nothing about devices or predictions.

use orbitflow_sim::cost::CostModel;
use orbitflow_sim::ids::Layer;
use orbitflow_sim::model::{Distance, LayerSet, ModelSpec, Placement};
use orbitflow_sim::planner::{
    DEFAULT_NODE_CAP, Instance, PlacementSpace, PlanRequest, Scratch, StepModel, WINDOWS, growth_blocks,
    search,
};
use orbitflow_sim::units::{Bytes, blocks_for_tokens};

/// Which layers of which requests are offloaded, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nothing.
    None,
    /// Every layer of every request (distance 0).
    All,
    /// Every n-th layer, n ≥ 2 (distance n − 1).
    Every(u32),
    /// The first quarter of the layers.
    First,
    /// The last quarter of the layers.
    Last,
    /// By request in turn: nothing, every 2nd layer, every 8th layer.
    Mixed,
    /// What the simulator's planner answers when memory forces a choice.
    Planner,
}

impl Rule {
    /// The placement in words, for files and tables.
    pub fn words(self, layers: u32) -> String {
        match self {
            Rule::None => "none".to_owned(),
            Rule::All => "all".to_owned(),
            Rule::Every(2) => "every 2nd".to_owned(),
            Rule::Every(3) => "every 3rd".to_owned(),
            Rule::Every(n) => format!("every {n}th"),
            Rule::First => format!("first {}", quarter(layers)),
            Rule::Last => format!("last {}", quarter(layers)),
            Rule::Mixed => "mixed".to_owned(),
            Rule::Planner => "planner".to_owned(),
        }
    }

    /// One layer set per request; `None`: the planner finds nothing that fits, or has no choice to make.
    pub fn apply(
        self,
        model: &ModelSpec,
        layers: u32,
        contexts: &[u32],
        slots: u32,
        cost: &CostModel,
    ) -> Option<Vec<LayerSet>> {
        let every = |n: u32| Placement::at(Distance::At(n - 1), layers).offloaded;
        let range = |from: u32, to: u32| (from..=to).map(Layer).collect::<LayerSet>();
        let of = |request: usize| match self {
            Rule::None | Rule::Planner => LayerSet::EMPTY,
            Rule::All => LayerSet::all(layers),
            Rule::Every(n) => every(n),
            Rule::First => range(1, quarter(layers)),
            Rule::Last => range(layers + 1 - quarter(layers), layers),
            Rule::Mixed => [LayerSet::EMPTY, every(2), every(8)][request % 3],
        };
        match self {
            Rule::Planner => plan(model, layers, contexts, slots, cost),
            _ => Some((0..contexts.len()).map(of).collect()),
        }
    }
}

fn quarter(layers: u32) -> u32 {
    (layers / 4).max(1)
}

/// The planner's placement.
fn plan(
    model: &ModelSpec,
    layers: u32,
    contexts: &[u32],
    slots: u32,
    cost: &CostModel,
) -> Option<Vec<LayerSet>> {
    let instance = planner_instance(model, layers, contexts, slots, cost)?;
    let plan = search(&instance, &mut Scratch::default()).ok()?;
    let sets: Vec<LayerSet> = plan.placements.iter().map(|placement| placement.offloaded).collect();
    sets.iter().any(|set| !set.is_empty()).then_some(sets)
}

/// The planner's problem: the shortest window, no promise that binds, staging charged, and a pool that lacks two fifths of
/// what the densest placement would free. `None` where offloading frees nothing, as staging takes as much.
pub(super) fn planner_instance(
    model: &ModelSpec,
    layers: u32,
    contexts: &[u32],
    slots: u32,
    cost: &CostModel,
) -> Option<Instance> {
    let window = WINDOWS[WINDOWS.len() - 1];
    let densest = Distance::candidates(layers).last().map_or(0, |distance| distance.offloaded(layers));
    let (block_copy_s, copy_latency_s) = cost.h2d.planner_line(model.block_bytes());
    let requests: Vec<PlanRequest> = (contexts.iter().enumerate())
        .map(|(request, &tokens)| PlanRequest {
            id: request.to_string(),
            blocks: blocks_for_tokens(u64::from(tokens)),
            growth_blocks: growth_blocks(u64::from(tokens), window),
            slo_s: 1.0,
            deposit: 0,
            resident_layers: None,
        })
        .collect();
    let (mut all, mut freed) = (0, 0);
    for request in &requests {
        let held = request.blocks + request.growth_blocks;
        all += u64::from(layers) * held;
        freed += (u64::from(densest) * held).checked_sub(u64::from(slots) * request.blocks)?;
    }
    (freed >= 3).then(|| Instance {
        layers,
        layer_compute_s: cost.layer_compute_s(total_tokens(contexts), contexts.len() as u32),
        block_copy_s,
        copy_latency_s,
        intercept_s: 0.0,
        tail_s: cost.tail(contexts.len() as u32).as_secs_f64(),
        capacity: all - freed * 2 / 5,
        // No load exceeds one per request.
        failure_budget: contexts.len() as f64,
        window,
        space: PlacementSpace::Distance,
        model: StepModel::Prefix,
        uniform: false,
        migration_cost: false,
        staging_slots: u64::from(slots),
        node_cap: DEFAULT_NODE_CAP,
        requests,
    })
}

/// Σ context tokens.
pub(super) fn total_tokens(contexts: &[u32]) -> u64 {
    contexts.iter().map(|&tokens| u64::from(tokens)).sum()
}

/// K and V of one layer of one request, in whole blocks.
pub(super) fn kv_bytes(model: &ModelSpec, tokens: u32) -> Bytes {
    model.block_bytes() * blocks_for_tokens(u64::from(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::testing;

    fn layers_of(rule: Rule, layers: u32, requests: usize) -> Vec<Vec<u32>> {
        let model = testing::model();
        let cost = testing::cost_model(&model);
        let contexts = vec![320; requests];
        let sets = rule.apply(&model, layers, &contexts, 1, &cost).unwrap();
        sets.iter().map(|set| set.iter().map(|layer| layer.0).collect()).collect()
    }

    #[test]
    fn rules_say_which_layers_of_which_requests() {
        assert_eq!(layers_of(Rule::None, 8, 1), [vec![0; 0]]);
        assert_eq!(layers_of(Rule::All, 3, 1), [vec![1, 2, 3]]);
        assert_eq!(layers_of(Rule::Every(3), 8, 2), [vec![3, 6], vec![3, 6]]);
        assert_eq!(layers_of(Rule::First, 8, 1), [vec![1, 2]]);
        assert_eq!(layers_of(Rule::Last, 8, 1), [vec![7, 8]]);
        assert_eq!(layers_of(Rule::Mixed, 8, 4), [vec![], vec![2, 4, 6, 8], vec![8], vec![]]);
        assert_eq!(Rule::Every(2).words(8) + &Rule::Last.words(8), "every 2ndlast 2");
    }

    #[test]
    fn the_planners_placement_fits_a_pool_that_full_residency_does_not() {
        let model = testing::model();
        let cost = testing::cost_model(&model);
        let contexts = [2000, 160, 160, 800];
        let instance = planner_instance(&model, model.layers, &contexts, 1, &cost).unwrap();
        let plan = search(&instance, &mut Scratch::default()).unwrap();
        assert!(plan.memory_used <= instance.capacity && plan.optimal);
        // 2000 tokens are 125 blocks, 2 more within 32 tokens; 160: 10 and 2; 800: 50 and 2. 8 layers.
        let resident = 8 * (127 + 12 + 12 + 52);
        assert!(resident > instance.capacity, "nothing forces a choice");
        let offloaded: u64 =
            plan.placements.iter().map(|placement| u64::from(placement.offloaded.len())).sum();
        assert!((1..16).contains(&offloaded), "some, but not the most that could be: {offloaded}");
    }

    #[test]
    fn where_staging_takes_what_offloading_frees_there_is_no_planner_case() {
        let model = testing::model();
        let cost = testing::cost_model(&model);
        // Every 2nd of 8 layers: 4 offloaded layers against 5 slots.
        assert_eq!(Rule::Planner.apply(&model, 8, &[320; 2], 5, &cost), None);
    }
}
