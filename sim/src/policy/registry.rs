//! The methods that the command line knows by name. A policy from outside needs no entry here: `runner::compare`
//! takes any [`Policy`].

use super::fixed::Fixed;
use super::flexgen::FlexGen;
use super::heuristic::Heuristic;
use super::oracle::Oracle;
use super::orbitflow::OrbitFlow;
use super::selectn::SelectN;
use super::{Policy, oracle};
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
    /// The fewest uniform offloads that fit the mean final length, every step.
    FlexGen,
    /// As many uniform offloads as compute and the SLO hide, at the mean final length.
    SelectN,
    /// The fewest uniform offloads that fit, every step.
    Heuristic,
    /// OrbitFlow's solver with one common distance, no deposit, no pause.
    Uniform,
    /// That, with deposit.
    UniformDeposit,
    /// That, with deposit and pause-resume.
    UniformDepositPause,
    /// All of OrbitFlow.
    OrbitFlow,
    /// Without token deposit in the planner.
    OrbitFlowNoDeposit,
    /// Without pause-resume.
    OrbitFlowNoPause,
    /// Without feedback.
    OrbitFlowNoFeedback,
    /// The fastest step that any placement gives.
    Oracle,
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
        Method::UniformDeposit,
        "uniform-td",
        "Uniform + deposit",
        "uniform whose planner knows the token deposit",
    ),
    entry(
        Method::UniformDepositPause,
        "uniform-td-pr",
        "Uniform + deposit + pause",
        "uniform-td with pause-resume: orbitflow with one common distance",
    ),
    entry(
        Method::FlexGen,
        "flexgen",
        "FlexGen+ (knows lengths)",
        "one distance for all: the fewest offloaded layers that fit the mean final length, which it knows: an oracle",
    ),
    entry(
        Method::SelectN,
        "selectn",
        "SLO-aware offloading (knows lengths)",
        "one distance for all: as many layers as compute and the SLO hide, at the mean final length, which it knows",
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
    entry(
        Method::Oracle,
        "oracle",
        "Oracle (ceiling)",
        "the fastest next step that any placement gives, at the true rates, for batches of at most 8: a ceiling",
    ),
    entry(Method::Resident, "resident", "No offload", "nothing offloaded; preempts when the pool is full"),
];

/// The method of that key.
pub fn find(key: &str) -> Option<&'static Entry> {
    METHODS.iter().find(|entry| entry.key == key)
}

/// What methods are told before a run, beside their switches.
#[derive(Clone, Debug)]
pub struct Known {
    /// What compute and copies cost, as planners believe.
    pub belief: CostModel,
    /// What they truly cost. Only the methods of [`Method::knows_truth`] look at it.
    pub truth: CostModel,
    /// Mean of prompt + output tokens over the trace, rounded up. No server can know it: only the methods of
    /// [`Method::knows_lengths`] look at it.
    pub mean_final_tokens: u64,
}

impl Method {
    /// Whether it is told the lengths that the trace's answers will have.
    pub const fn knows_lengths(self) -> bool {
        matches!(self, Method::FlexGen | Method::SelectN)
    }

    /// Whether it is told what work truly costs, whatever planners believe.
    pub const fn knows_truth(self) -> bool {
        matches!(self, Method::Oracle)
    }

    /// The largest batch that it is for; `None`: any.
    pub const fn most_requests(self) -> Option<u32> {
        match self {
            Method::Oracle => Some(oracle::MOST_REQUESTS),
            _ => None,
        }
    }

    /// The switches of a scenario's `[planner]` that it reads, as one policy of it has them: those of `own` that it
    /// reads, the others as in `common`.
    pub fn read_of(self, own: PlannerSwitches, common: PlannerSwitches) -> PlannerSwitches {
        match self {
            Method::Resident
            | Method::NextLayer
            | Method::Static(_)
            | Method::FlexGen
            | Method::Heuristic => common,
            Method::SelectN => PlannerSwitches { as_coded: own.as_coded, ..common },
            Method::Oracle => PlannerSwitches { node_cap: own.node_cap, ..common },
            Method::Uniform
            | Method::UniformDeposit
            | Method::UniformDepositPause
            | Method::OrbitFlow
            | Method::OrbitFlowNoDeposit
            | Method::OrbitFlowNoPause
            | Method::OrbitFlowNoFeedback => PlannerSwitches { as_coded: common.as_coded, ..own },
        }
    }

    /// Builds the policy with the scenario's `switches`.
    pub fn build(self, switches: PlannerSwitches, known: &Known) -> Box<dyn Policy> {
        let orbitflow = |switches| Box::new(OrbitFlow::new(switches, known.belief.clone()));
        let uniform =
            |deposit, pause| orbitflow(PlannerSwitches { uniform: true, deposit, pause, ..switches });
        match self {
            Method::Resident => Box::new(Fixed::new(Distance::Resident)),
            Method::NextLayer => Box::new(Fixed::next_layer()),
            Method::Static(distance) => Box::new(Fixed::new(Distance::At(distance))),
            Method::FlexGen => Box::new(FlexGen::new(known.mean_final_tokens)),
            Method::SelectN => {
                Box::new(SelectN::new(known.belief.clone(), known.mean_final_tokens, switches.as_coded))
            }
            Method::Heuristic => Box::new(Heuristic::default()),
            Method::Uniform => uniform(false, false),
            Method::UniformDeposit => uniform(true, false),
            Method::UniformDepositPause => uniform(true, true),
            Method::OrbitFlow => orbitflow(switches),
            Method::OrbitFlowNoDeposit => orbitflow(PlannerSwitches { deposit: false, ..switches }),
            Method::OrbitFlowNoPause => orbitflow(PlannerSwitches { pause: false, ..switches }),
            Method::OrbitFlowNoFeedback => orbitflow(PlannerSwitches { feedback: false, ..switches }),
            Method::Oracle => {
                let mut beliefs = vec![known.truth.clone()];
                if known.belief != known.truth {
                    beliefs.push(known.belief.clone());
                }
                Box::new(Oracle::new(known.truth.clone(), switches, beliefs))
            }
        }
    }
}
