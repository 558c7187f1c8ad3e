//! Our own exact search: the planner that the engine calls, hundreds of thousands of times in a run.
//!
//! The order of design §4.2 (forecast in whole nanoseconds, copied blocks, changed layers, offload counts) is worked
//! off one criterion at a time. Each stage keeps what the ones before it found as limits, looks for something
//! strictly better in its own criterion by depth-first branch and bound ([`tree`]), and is skipped when the
//! incumbent already meets its lower bound, which is the usual case:
//!
//! 1. everything resident fits: done;
//! 2. a common distance, improved by single moves ([`start`]), is the first incumbent;
//! 3. least forecast; 4. fewest copied blocks; 5. fewest changes; 6. the first placement in lexicographic order that
//!    is as good as the incumbent in the other three.
//!
//! Exact unless the node cap is hit, and then it says so. Never bounded by the clock, so deterministic.
//!
//! All of this is by the prefix forecast, over the candidates of either placement space. By the simulated step
//! candidates are searched in [`pipelined`], any layers in [`layers`](super::layers). Where restores enter the objective
//! all of it is the one pass of [`migration`], but for what only [`layers`](super::layers) covers.

mod linear;
pub(super) mod migration;
mod order;
pub(super) mod pipelined;
mod start;
mod surrogate;
mod tail;
mod tree;

use std::ops::ControlFlow;

use self::order::{Order, Symmetry};
use self::surrogate::Surrogate;
use self::tree::{Goal, Limits, Stop, Tree};
use super::problem::{Problem, longest_rounding_to, whole_ns};
use super::shape::Shape;
use super::{Infeasible, Instance, NoPlan, PlacementSpace, Plan, StepModel, layers};

/// Nodes after which a search counts as hard, and a better incumbent is worth some time.
const PROBE_NODES: u64 = 2_000;

/// What consecutive searches share: the tables of the model, rebuilt only when the number of layers or the placement
/// space changes.
#[derive(Debug, Default)]
pub struct Scratch {
    shape: Option<Shape>,
}

impl Scratch {
    fn shape(&mut self, layers: u32, space: PlacementSpace) -> &Shape {
        if self.shape.as_ref().is_none_or(|shape| (shape.layers, shape.space) != (layers, space)) {
            self.shape = Some(Shape::new(layers, space));
        }
        self.shape.as_ref().expect("Invariant: just made")
    }
}

/// The best placement of `instance` by the order of design §4.2; any layers by the simulated step, and any common layers
/// where restores count, once they are many, the best one found ([`layers`]).
///
/// # Errors
/// No placement fits memory, or none that fits meets the SLO budget (or none was found before the node cap: then
/// [`NoPlan::node_cap_hit`]).
pub fn search(instance: &Instance, scratch: &mut Scratch) -> Result<Plan, NoPlan> {
    let problem = Problem::new(instance, scratch.shape(instance.layers, instance.space));
    if instance.counts_restores() {
        return match (instance.space, instance.model, instance.uniform) {
            (PlacementSpace::Distance, ..) | (_, StepModel::Prefix, false) => migration::search(&problem),
            (PlacementSpace::Layers, StepModel::Pipeline { .. }, _) | (_, _, true) => {
                layers::search(&problem)
            }
        };
    }
    match (instance.model, instance.space) {
        (StepModel::Prefix, _) => by_prefix(&problem),
        (StepModel::Pipeline { slots, order }, PlacementSpace::Distance) => {
            pipelined::search(&problem, slots, order)
        }
        (StepModel::Pipeline { .. }, PlacementSpace::Layers) => layers::search(&problem),
    }
}

/// [`search()`] by the prefix forecast.
pub(super) fn by_prefix(problem: &Problem<'_>) -> Result<Plan, NoPlan> {
    let instance = problem.instance;
    let requests = problem.requests();
    if problem.need <= 0 {
        let choice = vec![0; requests];
        let forecast_ns = problem.forecast_ns(&choice);
        return if forecast_ns <= problem.t_max_ns() {
            Ok(Plan::new(problem, &choice, 1))
        } else {
            Err(NoPlan::new(problem, Infeasible::Slo, 1))
        };
    }
    if instance.uniform {
        return uniform(problem);
    }
    let order = Order::by_efficiency(problem, Symmetry::SameSize);
    if order.most_freed(0) < problem.need {
        return Err(NoPlan::new(problem, Infeasible::Memory, 1));
    }
    Stages::new(problem, &order).run(&order)
}

/// One common distance: as many placements as candidates, all looked at.
fn uniform(problem: &Problem<'_>) -> Result<Plan, NoPlan> {
    let candidates = problem.shape.candidates();
    let fitting = (0..candidates)
        .map(|candidate| vec![candidate; problem.requests()])
        .filter(|choice| problem.freed_blocks(choice) >= problem.need);
    let mut reason = Infeasible::Memory;
    let mut best: Option<([u64; 3], Vec<usize>)> = None;
    for choice in fitting {
        reason = Infeasible::Slo;
        let forecast_ns = problem.forecast_ns(&choice);
        let key = [whole_ns(forecast_ns), problem.copied_blocks(&choice), problem.changed_layers(&choice)];
        if forecast_ns <= problem.t_max_ns() && best.as_ref().is_none_or(|(least, _)| key < *least) {
            best = Some((key, choice));
        }
    }
    let nodes = candidates as u64;
    match best {
        Some((_, choice)) => Ok(Plan::new(problem, &choice, nodes)),
        None => Err(NoPlan::new(problem, reason, nodes)),
    }
}

/// Counts a node of a search that ends at the instance's node cap.
fn count_node(problem: &Problem<'_>, nodes: &mut u64) -> ControlFlow<()> {
    *nodes += 1;
    if *nodes > problem.instance.node_cap { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// What a search in one pass answers: its best plan, or that none meets the SLO budget; if the node cap ended it, with what
/// another plan may have less of the objective than `best`, given that none has less than `least_ns` nanoseconds.
fn answer(
    problem: &Problem<'_>,
    best: Option<Plan>,
    nodes: u64,
    capped: bool,
    least_ns: impl FnOnce() -> f64,
) -> Result<Plan, NoPlan> {
    let Some(mut plan) = best else {
        return Err(NoPlan { node_cap_hit: capped, ..NoPlan::new(problem, Infeasible::Slo, nodes) });
    };
    if capped {
        plan.optimal = false;
        let objective_ns = plan.objective_s * 1e9;
        plan.gap = ((objective_ns - least_ns()) / objective_ns).max(0.0);
    }
    Ok(plan)
}

/// The stages 2 to 6 of one search.
struct Stages<'p> {
    problem: &'p Problem<'p>,
    limits: Limits,
    /// The best placement so far, one candidate per request; none while no one meets the SLO budget.
    incumbent: Option<Vec<usize>>,
    /// No placement has a lower forecast, nanoseconds.
    least_ns: f64,
    nodes: u64,
    cap: u64,
    /// The stage in which the node cap was hit.
    capped: Option<Goal>,
}

impl<'p> Stages<'p> {
    fn new(problem: &'p Problem<'p>, order: &Order) -> Self {
        let mut limits = Limits::none(problem);
        limits.set_step(problem, problem.t_max_ns());
        let least_ns = order.least_forecast_ns(problem);
        let cap = problem.instance.node_cap;
        Stages { problem, limits, incumbent: None, least_ns, nodes: 1, cap, capped: None }
    }

    fn run(mut self, order: &Order) -> Result<Plan, NoPlan> {
        if self.least_ns <= self.problem.t_max_ns() {
            let start = start::heuristic(self.problem, order);
            let start_ns = self.problem.forecast_ns(&start);
            if start_ns <= self.limits.step_ns() {
                self.incumbent = Some(start);
            }
            self.least_forecast(order);
        }
        if self.incumbent.is_none() {
            let mut none = NoPlan::new(self.problem, Infeasible::Slo, self.nodes);
            none.node_cap_hit = self.capped.is_some();
            return Err(none);
        }
        self.fewest_copied_blocks(order);
        let changes_count = self.problem.instance.requests.iter().any(|r| r.resident_layers.is_some());
        if changes_count && self.capped.is_none() {
            self.fewest_changes(&Order::by_efficiency(self.problem, Symmetry::SameSizeAndLayout));
        }
        if self.capped.is_none() {
            self.first_in_order(&Order::of_instance(self.problem));
        }
        let incumbent = self.incumbent.as_deref().expect("Invariant: the stages keep the incumbent");
        let mut plan = Plan::new(self.problem, incumbent, self.nodes);
        plan.optimal = self.capped.is_none();
        if self.capped == Some(Goal::Step) {
            let forecast_ns = self.problem.forecast_ns(incumbent);
            plan.gap = ((forecast_ns - self.least_ns) / forecast_ns).max(0.0);
        }
        Ok(plan)
    }

    fn least_forecast(&mut self, order: &Order) {
        let floor = whole_ns(self.least_ns);
        self.ask_for_shorter_steps();
        let improvable = self.forecast().is_none_or(|forecast_ns| whole_ns(forecast_ns) > floor);
        if improvable && self.descend(order, Goal::Step, floor, PROBE_NODES) == Some(Stop::NodeCap) {
            self.improve(order, 0.0);
            self.ask_for_shorter_steps();
            self.descend_fully(order, Goal::Step, floor);
        }
        if let Some(forecast_ns) = self.forecast() {
            let limit = longest_rounding_to(whole_ns(forecast_ns)).min(self.problem.t_max_ns());
            self.limits.set_step(self.problem, limit);
        }
    }

    /// Limits steps to those that round to fewer nanoseconds than the incumbent's.
    fn ask_for_shorter_steps(&mut self) {
        if let Some(forecast_ns) = self.forecast() {
            let below = longest_rounding_to(whole_ns(forecast_ns).saturating_sub(1));
            self.limits.set_step(self.problem, below.min(self.problem.t_max_ns()));
        }
    }

    /// The incumbent's forecast, nanoseconds.
    fn forecast(&self) -> Option<f64> {
        self.incumbent.as_ref().map(|choice| self.problem.forecast_ns(choice))
    }

    /// Makes the incumbent one of [`start::improved`] that is better by forecast (those up to `step_ns` are equal),
    /// then by copied blocks.
    fn improve(&mut self, order: &Order, step_ns: f64) {
        let problem = self.problem;
        let surrogate = Surrogate::new(problem, order, &self.limits);
        let start = self.incumbent.clone().unwrap_or_else(|| start::heuristic(problem, order));
        let key = |choice: &[usize]| {
            let forecast_ns = problem.forecast_ns(choice).max(step_ns);
            (whole_ns(forecast_ns), problem.copied_blocks(choice))
        };
        for choice in start::improved(problem, order, &surrogate, start, step_ns) {
            let within = problem.freed_blocks(&choice) >= problem.need
                && problem.forecast_ns(&choice) <= problem.t_max_ns();
            if within && self.incumbent.as_ref().is_none_or(|incumbent| key(&choice) < key(incumbent)) {
                self.incumbent = Some(choice);
            }
        }
    }

    fn fewest_copied_blocks(&mut self, order: &Order) {
        let floor = order.fewest_copied(0, self.problem.need);
        if self.copied() > floor && self.capped.is_none() {
            self.limits.copied = self.copied() - 1;
            if self.descend(order, Goal::Copied, floor, PROBE_NODES) == Some(Stop::NodeCap) {
                self.improve(order, self.limits.step_ns());
                self.limits.copied = self.copied() - 1;
                self.descend_fully(order, Goal::Copied, floor);
            }
        }
        self.limits.copied = self.copied();
    }

    fn copied(&self) -> u64 {
        let incumbent = self.incumbent.as_ref().expect("Invariant: there is an incumbent");
        self.problem.copied_blocks(incumbent)
    }

    fn fewest_changes(&mut self, order: &Order) {
        let changes = |stages: &Self| stages.incumbent.as_ref().map(|c| stages.problem.changed_layers(c));
        let floor = order.fewest_changes(0, self.problem.need, self.limits.copied);
        let now = changes(self).expect("Invariant: there is an incumbent");
        if now > floor {
            self.limits.changes = now - 1;
            self.descend_fully(order, Goal::Changes, floor);
        }
        self.limits.changes = changes(self).expect("Invariant: there is an incumbent");
    }

    fn first_in_order(&mut self, order: &Order) {
        self.descend_fully(order, Goal::First, 0);
    }

    /// [`Self::descend`] to the end, or as far as the node cap allows.
    fn descend_fully(&mut self, order: &Order, goal: Goal, floor: u64) {
        if self.descend(order, goal, floor, u64::MAX) == Some(Stop::NodeCap) {
            self.capped = Some(goal);
        }
    }

    /// Searches for `goal` under the limits, visiting `most` nodes; `floor` is a value of the goal's criterion
    /// that no placement beats. Says why it ended, if it did not look everywhere.
    fn descend(&mut self, order: &Order, goal: Goal, floor: u64, most: u64) -> Option<Stop> {
        let cap = self.cap.saturating_sub(self.nodes).min(most);
        let limits = self.limits.clone();
        let mut tree = Tree::new(self.problem, order, goal, floor, limits, self.incumbent.as_deref(), cap);
        let flow = tree.descend();
        self.nodes += tree.nodes;
        if let Some(better) = tree.best {
            self.incumbent = Some(better);
        }
        flow.break_value()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{brute_force, samples};
    use super::*;

    /// What two answers must agree on: everything but how they were found.
    fn answer(result: Result<Plan, NoPlan>) -> Result<Plan, NoPlan> {
        match result {
            Ok(plan) => Ok(Plan { nodes: 0, ..plan }),
            Err(none) => Err(NoPlan { nodes: 0, ..none }),
        }
    }

    #[test]
    fn the_search_is_brute_force_to_the_last_tie() {
        let mut scratch = Scratch::default();
        // (requests, layers): at most 20^3 or 10^4 placements each
        for (requests, layers, seeds) in [
            (1, 1, 20),
            (2, 2, 300),
            (5, 4, 300),
            (3, 9, 300),
            (5, 12, 150),
            (4, 16, 100),
            (4, 32, 40),
            (3, 80, 20),
        ] {
            for seed in 0..seeds {
                let instance = samples::small(requests, layers, seed);
                let found = answer(search(&instance, &mut scratch));
                assert_eq!(found, answer(brute_force::solve(&instance)), "{instance:#?}");
                if requests <= 4 && layers <= 32 {
                    let instance = samples::hard(requests, layers, seed);
                    let found = answer(search(&instance, &mut scratch));
                    assert_eq!(found, answer(brute_force::solve(&instance)), "{instance:#?}");
                }
            }
        }
    }
}
