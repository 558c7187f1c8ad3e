//! The methods that the command line knows by name. A policy from outside needs no entry here: `runner::compare`
//! takes any [`Policy`].

use super::Policy;
use super::fixed::Fixed;
use super::heuristic::Heuristic;
use super::orbitflow::OrbitFlow;
use crate::cost::CostModel;
use crate::model::Distance;
use crate::planner::PlannerSwitches;

/// A method by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing is offloaded.
    Resident,
    /// Everything is offloaded, double buffered.
    NextLayer,
    /// One fixed distance.
    Static(u32),
    /// The fewest uniform offloads that fit, every step.
    Heuristic,
    /// OrbitFlow's solver with one common distance, no deposit, no pause.
    Uniform,
    /// All of OrbitFlow.
    OrbitFlow,
    /// Without token deposit in the planner.
    OrbitFlowNoDeposit,
    /// Without pause-resume.
    OrbitFlowNoPause,
    /// Without feedback.
    OrbitFlowNoFeedback,
}

/// One entry of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub method: Method,
    /// Key in scenarios and files.
    pub key: &'static str,
    /// Name in plots: the published one where there is one.
    pub label: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
}

const fn entry(method: Method, key: &'static str, label: &'static str, about: &'static str) -> Entry {
    Entry { method, key, label, about }
}

/// Every method, in the order of `list policies`.
pub const METHODS: &[Entry] = &[
    entry(
        Method::OrbitFlow,
        "orbitflow",
        "OrbitFlow",
        "a distance per request from the planner, deposit, pause-resume, feedback",
    ),
    entry(
        Method::OrbitFlowNoDeposit,
        "orbitflow-no-deposit",
        "OrbitFlow, no deposit",
        "orbitflow whose planner does not know the token deposit",
    ),
    entry(
        Method::OrbitFlowNoPause,
        "orbitflow-no-pause",
        "OrbitFlow, no pause",
        "orbitflow without pause-resume: infeasible batches are placed by the heuristic",
    ),
    entry(
        Method::OrbitFlowNoFeedback,
        "orbitflow-no-feedback",
        "OrbitFlow, no feedback",
        "orbitflow that never corrects its rates",
    ),
    entry(
        Method::Uniform,
        "uniform",
        "Uniform distance",
        "orbitflow's planner with one common distance, no deposit, no pause",
    ),
    entry(
        Method::Heuristic,
        "heuristic",
        "Dynamic heuristic",
        "one distance for all: the fewest offloaded layers that fit, every step",
    ),
    entry(
        Method::Static(1),
        "static-1",
        "FlexGen",
        "distance 1 for all, always: every second layer offloaded",
    ),
    entry(
        Method::Static(2),
        "static-2",
        "Static 2",
        "distance 2 for all, always: every third layer offloaded",
    ),
    entry(
        Method::Static(4),
        "static-4",
        "Static 4",
        "distance 4 for all, always: every fifth layer offloaded",
    ),
    entry(
        Method::Static(8),
        "static-8",
        "Static 8",
        "distance 8 for all, always: every ninth layer offloaded",
    ),
    entry(
        Method::NextLayer,
        "next-layer",
        "DeepSpeed",
        "all layers offloaded, the next one fetched while this one computes",
    ),
    entry(Method::Resident, "resident", "No offload", "nothing offloaded; preempts when the pool is full"),
];

/// The method of that key.
pub fn find(key: &str) -> Option<&'static Entry> {
    METHODS.iter().find(|entry| entry.key == key)
}

impl Method {
    /// Whether it has a planner, and so reads planner switches.
    pub const fn plans(self) -> bool {
        match self {
            Method::Resident | Method::NextLayer | Method::Static(_) | Method::Heuristic => false,
            Method::Uniform
            | Method::OrbitFlow
            | Method::OrbitFlowNoDeposit
            | Method::OrbitFlowNoPause
            | Method::OrbitFlowNoFeedback => true,
        }
    }

    /// Builds the policy. `switches` are the scenario's, `belief` is what its planner believes compute and copies cost.
    pub fn build(self, switches: PlannerSwitches, belief: &CostModel) -> Box<dyn Policy> {
        let orbitflow = |switches| Box::new(OrbitFlow::new(switches, belief.clone()));
        match self {
            Method::Resident => Box::new(Fixed::new(Distance::Resident)),
            Method::NextLayer => Box::new(Fixed::next_layer()),
            Method::Static(distance) => Box::new(Fixed::new(Distance::At(distance))),
            Method::Heuristic => Box::new(Heuristic::default()),
            Method::Uniform => {
                orbitflow(PlannerSwitches { uniform: true, deposit: false, pause: false, ..switches })
            }
            Method::OrbitFlow => orbitflow(switches),
            Method::OrbitFlowNoDeposit => orbitflow(PlannerSwitches { deposit: false, ..switches }),
            Method::OrbitFlowNoPause => orbitflow(PlannerSwitches { pause: false, ..switches }),
            Method::OrbitFlowNoFeedback => orbitflow(PlannerSwitches { feedback: false, ..switches }),
        }
    }
}
