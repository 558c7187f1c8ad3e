//! The switches of planning and pausing (design §4), with their two named sets.
//!
//! Plain data: a scenario fills it in, a policy reads it. Where each has its rule, its source, and a worked number that is a
//! test: `failure_budget` [`t_max`](super::t_max()); `placement_space` [`layers`](super::layers); `forecast`
//! [`StepModel`](super::StepModel) and its module; `objective` [`goodput`](super::goodput()); `uniform`, `migration_cost` and
//! `max_pause` the head of the OrbitFlow policy; `victim` that of the policies' `victim`.

use serde::{Deserialize, Serialize};

use super::DEFAULT_NODE_CAP;
use crate::units::SimDuration;

/// Who is paused while a batch is infeasible (design §4.3). Equals go to the last admitted, whatever the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    /// Most context tokens.
    #[default]
    Longest,
    /// Fewest context tokens.
    Shortest,
    /// Drawn from (seed, step, request).
    Random,
    /// Least time per token promised.
    TightestSlo,
    /// Most time per token promised.
    LoosestSlo,
}

impl Victim {
    /// Every rule, as scenarios list them.
    pub const ALL: [Victim; 5] =
        [Victim::Longest, Victim::Shortest, Victim::Random, Victim::TightestSlo, Victim::LoosestSlo];
}

/// What a planner chooses per request (design §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementSpace {
    /// One of the candidate distances: every `(d + 1)`-th layer.
    #[default]
    Distance,
    /// Any layers, at most `floor(L/2)` of them.
    Layers,
}

/// The planner's model of a step (the two models of design §3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forecast {
    /// The published one: copies start as early as the link allows.
    #[default]
    Prefix,
    /// The simulated step, with the server's slots and copy order and the believed rates.
    Pipeline,
}

/// What a planner is after (design §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The shortest step of everyone who can run.
    #[default]
    StepTime,
    /// Tokens on time per second: victims are left out while that grows.
    Goodput,
}

/// Every switch of §4 that a policy reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannerSwitches {
    /// Most `Σ_r max(0, 1 − SLO_r/t − deposit_r/W)`, F of design §4.2.
    pub failure_budget: f64,
    /// Whether the planner counts tokens made ahead of the promise.
    pub deposit: bool,
    /// Whether an infeasible batch pauses a victim.
    pub pause: bool,
    /// Which one.
    pub victim: Victim,
    /// Whether measured rates off the believed ones trigger a plan and correct them, trigger (d).
    pub feedback: bool,
    /// How far off a rate must be, as a share of the believed one.
    pub replan_tolerance: f64,
    /// Consecutive plain decode steps for which it must be off.
    pub replan_patience: u32,
    /// Whether a plan is made anew when its window is over, trigger (b); otherwise it stays until the live set changes
    /// or it does not fit.
    pub replan_at_window_end: bool,
    /// Whether paused requests are candidates when the window ends.
    pub resume_at_window_end: bool,
    /// Longest pause before a request must come back; `None` is no limit.
    pub max_pause: Option<SimDuration>,
    /// One common distance for all requests.
    pub uniform: bool,
    /// Whether `selectn` follows its released code instead of its published idea. No other method reads it.
    pub as_coded: bool,
    /// Most nodes one search may visit; a plan that hits it is counted.
    pub node_cap: u64,
    /// What is chosen per request.
    pub placement_space: PlacementSpace,
    /// The model of a step.
    pub forecast: Forecast,
    /// What it is after.
    pub objective: Objective,
    /// Whether the copies that bring layers back enter the objective, spread over the window.
    pub migration_cost: bool,
}

impl PlannerSwitches {
    /// The published semantics.
    pub const PUBLISHED: PlannerSwitches = PlannerSwitches {
        failure_budget: 2.0,
        deposit: true,
        pause: true,
        victim: Victim::Longest,
        feedback: false,
        replan_tolerance: 0.10,
        replan_patience: 4,
        replan_at_window_end: true,
        resume_at_window_end: false,
        max_pause: None,
        uniform: false,
        as_coded: false,
        node_cap: DEFAULT_NODE_CAP,
        placement_space: PlacementSpace::Distance,
        forecast: Forecast::Prefix,
        objective: Objective::StepTime,
        migration_cost: false,
    };

    /// The physical semantics (default).
    pub const PHYSICAL: PlannerSwitches = PlannerSwitches {
        feedback: true,
        resume_at_window_end: true,
        max_pause: Some(SimDuration::from_secs(240)),
        ..Self::PUBLISHED
    };
}
