//! One placement decision: offloaded layers per request that minimise the forecast step time (design §4.2).
//!
//! [`Instance`] is the problem, [`Plan`] the unique answer. Two solvers: `search`, our own exact search that the
//! engine uses, and `milp`, the reference in good_lp; `brute_force` is the slow twin of both for small instances.
//! Knows nothing about engines, policies or time passing.
//!
//! Two switches of design §4.2 say what is chosen ([`PlacementSpace`]: a candidate distance, or any layers) and by which
//! model of a step ([`StepModel`]: the prefix forecast, or the simulated step). All four problems share memory, SLO
//! budget and ties; only any layers under the simulated step are not solved exactly once they are many ([`layers`]).
//!
//! The problem: `min t` over one candidate distance per request, where
//! `t = L·tc + max(0, max_j(Σ_{k≤j} D_k − (j−1)·tc)) + tail (+ intercept if anything is copied)` is the published
//! planner's forecast (design §3.4), subject to memory, `Σ_r (L − n_r)(b_r + g_r) + staging ≤ capacity`, and to the
//! SLO budget, which is `t ≤ t_max` ([`t_max`]). Ties, in this order: forecasts equal in whole nanoseconds, fewer
//! copied blocks, fewer changed layers, the lexicographically smallest vector of offload counts.
//!
//! With `migration_cost` the objective is `t + R/W`, `R = Σ_r restored_r · (latency + b_r·block_copy_s)` over the layers
//! that come back to the GPU (`resident_layers` says which are there); `t ≤ t_max` and memory are as they were, and the
//! first tie is objectives equal in whole nanoseconds. [`search()`] is exact but for any layers by the simulated step,
//! and for one common set of any layers.
//!
//! [`widest_window`] and [`placement_capacity`] build instances from contexts and a pool; [`solver_time()`] is
//! the modelled time of one [`search()`].

mod alternatives;
pub mod brute_force;
mod budget;
pub mod instance;
pub mod layers;
pub mod milp;
pub mod moves;
mod problem;
pub mod samples;
mod search;
mod shape;
mod solver_time;
mod step_model;
mod switches;
mod window;

pub use budget::{Promise, goodput, slo_load, t_max};
pub use problem::{binding_layer, forecast, memory_used};
pub use search::{Scratch, search};
pub use solver_time::solver_time;
pub use step_model::{PipelineForecast, StepModel};
pub use switches::{Forecast, Objective, PlacementSpace, PlannerSwitches, Victim};
pub use window::{DEFAULT_FAILURE_BUDGET, WINDOWS, growth_blocks, placement_capacity, widest_window};

use self::problem::Problem;
use crate::model::{LayerSet, Placement};

/// Nodes that one search may visit, unless asked otherwise.
pub const DEFAULT_NODE_CAP: u64 = 50_000;

/// One request of an [`Instance`].
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRequest {
    /// Name in files and messages.
    pub id: String,
    /// Blocks per layer, `b_r`: copied when offloaded, held when resident.
    pub blocks: u64,
    /// Blocks per resident layer that the window adds, `g_r`: memory only.
    pub growth_blocks: u64,
    /// Seconds per token promised.
    pub slo_s: f64,
    /// Tokens made ahead of the promise.
    pub deposit: u64,
    /// Layers on the GPU now, for the fewest-changes tie-break and the restores; `None`: neither is counted for this
    /// request.
    pub resident_layers: Option<LayerSet>,
}

/// One placement problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Layers L.
    pub layers: u32,
    /// Believed compute time of one layer, seconds.
    pub layer_compute_s: f64,
    /// Believed seconds per block copied.
    pub block_copy_s: f64,
    /// Believed latency per copy, seconds.
    pub copy_latency_s: f64,
    /// Added to the step if anything is copied (link intercept), seconds.
    pub intercept_s: f64,
    /// Added to every step (tail), seconds.
    pub tail_s: f64,
    /// Layer-blocks that placements may use, headroom already off.
    pub capacity: u64,
    /// Most `Σ_r max(0, 1 − SLO_r/t − deposit_r/W)`.
    pub failure_budget: f64,
    /// Steps the plan is made for, W.
    pub window: u64,
    /// What is chosen per request.
    pub space: PlacementSpace,
    /// The model of a step.
    pub model: StepModel,
    /// One common distance, or set of layers, for all.
    pub uniform: bool,
    /// Whether the copies that bring layers back count, spread over the window: `min t + R/W` instead of `min t`.
    pub migration_cost: bool,
    /// Staging slots charged to each request with an offloaded layer, each `blocks` layer-blocks; 0: not charged.
    pub staging_slots: u64,
    /// Most nodes the search may visit.
    pub node_cap: u64,
    /// The batch, in admission order.
    pub requests: Vec<PlanRequest>,
}

impl Instance {
    /// Whether restores count and there is a request that may have some.
    pub(crate) fn counts_restores(&self) -> bool {
        self.migration_cost && self.requests.iter().any(|request| request.resident_layers.is_some())
    }
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Infeasible {
    /// No placement fits memory.
    Memory,
    /// No placement that fits memory meets the SLO budget.
    Slo,
}

/// The answer to an [`Instance`].
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One placement per request, in instance order.
    pub placements: Vec<Placement>,
    /// Forecast step time, seconds.
    pub forecast_s: f64,
    /// Time of all copies that bring back layers which are not on the GPU now, R, seconds.
    pub restore_s: f64,
    /// What was minimised, seconds: the forecast, with `R/W` added where `migration_cost` asks for it.
    pub objective_s: f64,
    /// Longest step time within the SLO budget, seconds; `None`: any.
    pub t_max_s: Option<f64>,
    /// Layer-blocks taken, growth included, and staging where it is charged.
    pub memory_used: u64,
    /// `Σ_r max(0, 1 − SLO_r/t − deposit_r/W)` at the forecast.
    pub slo_load: f64,
    /// Blocks copied per step, `Σ n_r·b_r`.
    pub copied_blocks: u64,
    /// (Request, layer) pairs that change against `resident_layers`.
    pub changed_layers: u64,
    /// Whether this is proven to be the answer, ties included; false if the node cap was hit. Any layers under the
    /// simulated step: also true where only the step time is proven, and false where neither is ([`layers`]).
    pub optimal: bool,
    /// How much lower, as a share of the objective, another placement's objective may be; 0 if proven.
    pub gap: f64,
    /// Nodes visited.
    pub nodes: u64,
}

/// Why an [`Instance`] has no [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoPlan {
    /// Which constraint no placement meets.
    pub reason: Infeasible,
    /// Longest step time within the SLO budget, seconds; `None`: any.
    pub t_max_s: Option<f64>,
    /// Nodes visited.
    pub nodes: u64,
    /// Whether the search ended before it had looked everywhere: then there may be a plan after all.
    pub node_cap_hit: bool,
}

impl Plan {
    /// The plan that chooses these candidates by the prefix forecast, taken as optimal.
    fn new(problem: &Problem<'_>, choice: &[usize], nodes: u64) -> Self {
        Plan::of(problem, &problem.shape.sets(choice), problem.forecast_ns(choice), nodes)
    }

    /// The plan that offloads these layers, whose step is forecast to take `step_ns` nanoseconds, taken as optimal.
    fn of(problem: &Problem<'_>, sets: &[LayerSet], step_ns: f64, nodes: u64) -> Self {
        let forecast_s = problem::seconds(step_ns);
        let instance = problem.instance;
        let promises = instance.requests.iter().map(|request| (request.slo_s, request.deposit));
        let placements: Vec<_> = sets.iter().map(|&offloaded| Placement { offloaded }).collect();
        Plan {
            forecast_s,
            restore_s: problem::seconds(problem::restore_ns(instance, sets)),
            objective_s: problem::seconds(problem::objective_ns(instance, step_ns, sets)),
            t_max_s: problem.t_max_s,
            memory_used: memory_used(instance, &placements),
            slo_load: slo_load(promises, instance.window, forecast_s),
            copied_blocks: problem::copied_blocks(instance, sets),
            changed_layers: problem::changed_layers(instance, sets),
            placements,
            optimal: true,
            gap: 0.0,
            nodes,
        }
    }
}

impl NoPlan {
    fn new(problem: &Problem<'_>, reason: Infeasible, nodes: u64) -> Self {
        NoPlan { reason, t_max_s: problem.t_max_s, nodes, node_cap_hit: false }
    }
}
