//! Policies: who is admitted, who runs, and which layers of whom live on the GPU.
//!
//! A policy is given a [`View`] and answers a [`Decision`]; the engine checks it against memory and batch size,
//! applies it, or refuses it with a count. Admission in order of arrival ([`admission`]), the next denser
//! uniform distance that fits ([`uniform`]) and the choice of a victim ([`victim`]) are functions here that a policy
//! calls.
//!
//! Each method's page has its rule as a formula, where the rule is from, a worked number, and the test of that number:
//! [`fixed`] (`resident`, `next-layer`, `static-k`), [`flexgen`], [`selectn`], [`heuristic`], [`orbitflow`] with its ablations
//! and the `uniform` methods, [`oracle`], [`victim`] (and pause-resume), [`admission`]. How to write another one: [`guide`].
//!
//! Architecture invariant: no policy knows the engine, a file or a metric.

pub mod admission;
pub mod fixed;
pub mod flexgen;
pub mod guide;
pub mod heuristic;
pub mod oracle;
pub mod orbitflow;
pub mod registry;
pub mod selectn;
pub mod uniform;
pub mod victim;
mod view;

pub use view::{LiveRequest, Measured, RunState, Stage, View, WaitingRequest};

use crate::ids::RequestId;
use crate::model::Placement;
use crate::record::{StepProof, Trigger};
use crate::units::SimDuration;

/// Admits one request: the first preempted ones come back, then waiting ones in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admit {
    /// Who.
    pub request: RequestId,
    /// Its layout until the policy is asked for the next decode step.
    pub placement: Placement,
}

/// One call of a planner, for the report and for the planning time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanReport {
    /// Why it was asked.
    pub trigger: Trigger,
    /// `(requests, candidates)` of each instance solved; the engine charges a modelled time for each.
    pub solves: Vec<(u32, u32)>,
    /// Instances that no placement could fit into memory.
    pub infeasible_memory: u32,
    /// Instances that no placement could serve within the SLO budget.
    pub infeasible_slo: u32,
    /// Whether a search ran into its node cap.
    pub node_cap_hit: bool,
}

/// What a policy answers. [`Decision::default`] keeps everything as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Requests to admit, in order (stage `Admit`).
    pub admit: Vec<Admit>,
    /// Who runs: live requests not in it are paused. `None`: as before.
    pub run: Option<Vec<RequestId>>,
    /// Layouts that change.
    pub placements: Vec<(RequestId, Placement)>,
    /// Staging slots per request from now on, where the policy has its own number; `None`: as before.
    pub slots: Option<u32>,
    /// The forecast of the next decode step.
    pub forecast: Option<SimDuration>,
    /// The planner's call, if there was one.
    pub plan: Option<PlanReport>,
    /// Whether the placement is known to be the fastest there is for the next step, where the method says so.
    pub proof: Option<StepProof>,
    /// Whether the placement that the method's rule asks for did not fit and another one is given here.
    pub refused: bool,
}

/// A method of placing KV caches.
pub trait Policy {
    /// Answers one step boundary.
    fn decide(&mut self, view: &View<'_>) -> Decision;

    /// Fewest layers that a request of this policy keeps on the GPU, `a` of design §3.5.2.
    fn fewest_resident(&self, layers: u32) -> u32;

    /// Staging slots per request to begin with, where the policy has its own number whatever the server says.
    fn slots(&self) -> Option<u32> {
        None
    }

    /// Whether its decisions depend on the SLO, so that every SLO scale needs its own run.
    fn looks_at_slo(&self) -> bool {
        false
    }

    /// Who loses its slot when a step does not fit after the policy was asked (design §3.5.6).
    fn preempt(&mut self, view: &View<'_>) -> RequestId {
        view.running().next_back().expect("Invariant: a step that does not fit has a running request").id
    }
}
