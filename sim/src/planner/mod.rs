//! One placement decision: a distance per request that minimises the forecast step time (design §4.2).
//!
//! [`Instance`] is the problem, [`Plan`] the unique answer. Two solvers: `search`, our own exact search that the
//! engine uses, and `milp`, the reference in good_lp. Knows nothing about engines, policies or time passing.

mod switches;

pub use switches::PlannerSwitches;

use crate::model::LayerSet;

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
    /// Layers on the GPU now, for the fewest-changes tie-break; `None`: changes are not counted for this request.
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
    /// One common distance for all.
    pub uniform: bool,
    /// Staging slots charged to each request with an offloaded layer, each `blocks` layer-blocks; 0: not charged.
    pub staging_slots: u64,
    /// Most nodes the search may visit.
    pub node_cap: u64,
    /// The batch, in admission order.
    pub requests: Vec<PlanRequest>,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Infeasible {
    /// Not even the densest placement fits memory.
    Memory,
    /// No placement that fits memory meets the SLO budget.
    Slo,
}
