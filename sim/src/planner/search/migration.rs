//! The exact search where restores enter the objective: `min t + R/W` (design §4.2, `migration_cost`).
//!
//! `R` is a sum over requests, so a placement is no longer known by how much each request copies: which layers are on the
//! GPU now matters, and every request has its own list of [`alternatives`]. One depth-first branch and bound over them, in one
//! pass over the whole order of design §4.2 (objective in whole nanoseconds, copied blocks, changed layers, offload counts),
//! by either model of a step. Without restores the other searches of this folder are faster; they are left as they are.
//!
//! A node is cut when the rest can no longer free enough memory, when its step must be longer than `t_max`, and when the
//! least its leaves can reach in (objective, copied blocks, changed layers) is worse than the incumbent's. Bounds:
//!
//! * on the step, the **prefix forecast** of what is decided with the rest at the hulls of the shape: the last layers copy
//!   least by every layer, so the hulls hold for any sets; and for the simulated step the longest one of a decided request
//!   **alone** (both as in [`super::pipelined`]). With it goes `R/W` of what is decided and the least of every other request;
//! * on the objective, **prices**: a row of the step time and memory, at a price each, are a sum over requests, so
//!   `t + R/W ≥ base − hidden_j + μ·need + Σ_r min_c(copies by j + restores/W − μ·freed)` for any layer `j` and `μ ≥ 0`. The
//!   few rows that bound the whole batch best are kept, each with its best `μ`. This bound weighs stalls against
//!   restores, which the first one cannot.
//!
//! Worked (4 layers of 1 ms, any of them, 3 ms per copy, room for 3, layer 2 away now): staying takes `4 + (3 − 1)` = 6
//! ms. Layer 4 instead is copied behind the 3 ms of the layers before it, so a step takes 4 ms, and layer 2 comes back,
//! `R` = 3 ms. Over a window of 32 steps that is `4 + 3/32` = 4.094 ms: it moves. Over one step it is 7 ms: it stays
//! (`a_layer_comes_back_where_the_window_is_long_enough`).

mod prices;

use std::ops::ControlFlow;

use self::prices::Prices;
use super::super::alternatives::{Alternative, alternatives};
use super::super::problem::{Problem, changed_layers, copied_blocks, freed_by, objective_ns, whole_ns};
use super::super::step_model::Forecaster;
use super::super::{Infeasible, Instance, NoPlan, Plan, StepModel};
use super::order::{Order, SLACK, Symmetry};
use super::pipelined::rounding_ns;
use super::{by_prefix, start};
use crate::model::LayerSet;

/// Sweeps of single moves over the batch at most.
const MOST_SWEEPS: usize = 8;

/// The order of design §4.2, and the sets themselves, which only the space `layers` needs.
pub(in crate::planner) type Key = (u64, u64, u64, Vec<u32>, Vec<LayerSet>);

/// The best of the [`alternatives`] of `problem`.
///
/// # Errors
/// As [`search`](super::search()).
pub(in crate::planner) fn search(problem: &Problem<'_>) -> Result<Plan, NoPlan> {
    let alternatives = alternatives(problem);
    if problem.instance.uniform {
        return uniform(problem, &alternatives);
    }
    let order = Order::by_efficiency(problem, Symmetry::SameSizeAndLayout);
    if order.most_freed(0) < problem.need {
        return Err(NoPlan::new(problem, Infeasible::Memory, 1));
    }
    let mut tree = Tree::new(problem, &alternatives, &order);
    let capped = tree.run().is_break();
    tree.answer(capped)
}

/// One common alternative: all are measured.
fn uniform(problem: &Problem<'_>, alternatives: &[Vec<Alternative>]) -> Result<Plan, NoPlan> {
    let mut forecaster = Forecaster::of(problem.instance);
    let mut reason = Infeasible::Memory;
    let mut best: Option<Leaf> = None;
    for alternative in &alternatives[0] {
        let sets = vec![alternative.offloaded; problem.requests()];
        if fits(problem, &sets) {
            reason = Infeasible::Slo;
            let leaf = Leaf::measure(problem, &mut forecaster, sets);
            if !leaf.over && best.as_ref().is_none_or(|best| leaf.key < best.key) {
                best = Some(leaf);
            }
        }
    }
    let nodes = alternatives[0].len() as u64;
    match best {
        Some(leaf) => Ok(leaf.plan(problem, nodes)),
        None => Err(NoPlan::new(problem, reason, nodes)),
    }
}

fn fits(problem: &Problem<'_>, sets: &[LayerSet]) -> bool {
    let requests = problem.instance.requests.iter().zip(sets);
    requests.map(|(request, &set)| freed_by(problem.instance, request, set)).sum::<i64>() >= problem.need
}

/// A measured placement.
#[derive(Clone)]
struct Leaf {
    step_ns: f64,
    /// Over the SLO budget.
    over: bool,
    key: Key,
}

impl Leaf {
    fn measure(problem: &Problem<'_>, forecaster: &mut Forecaster<'_>, sets: Vec<LayerSet>) -> Self {
        let instance = problem.instance;
        let step_ns = forecaster.step_ns(&sets);
        let objective = whole_ns(objective_ns(instance, step_ns, &sets));
        let (copied, changed) = (copied_blocks(instance, &sets), changed_layers(instance, &sets));
        let counts = sets.iter().map(|set| set.len()).collect();
        Leaf { step_ns, over: step_ns > problem.t_max_ns(), key: (objective, copied, changed, counts, sets) }
    }

    fn sets(&self) -> &[LayerSet] {
        &self.key.4
    }

    fn plan(&self, problem: &Problem<'_>, nodes: u64) -> Plan {
        Plan::of(problem, self.sets(), self.step_ns, nodes)
    }
}

/// What a node has decided, in sums.
#[derive(Clone, Copy, Default)]
struct Decided {
    /// Layer-blocks that the rest must still free.
    need: i64,
    copied: u64,
    changes: u64,
    /// `R/W`, nanoseconds.
    restore_ns: f64,
    /// The longest step of a decided request alone, nanoseconds.
    alone_ns: f64,
}

/// The requests from a depth on: the least that each adds, whatever it chooses.
#[derive(Clone, Copy, Default)]
struct Rest {
    changes: u64,
    restore_ns: f64,
}

struct Tree<'p> {
    problem: &'p Problem<'p>,
    order: &'p Order,
    forecaster: Forecaster<'p>,
    /// By position in the order.
    alternatives: Vec<&'p [Alternative]>,
    /// Places in the alternatives in which they are tried, by position.
    tried: Vec<Vec<usize>>,
    rests: Vec<Rest>,
    /// `R/W` of each alternative, by position, nanoseconds.
    restore_ns: Vec<Vec<f64>>,
    /// Step of each alternative alone, by position, nanoseconds; empty for the prefix forecast.
    alone_ns: Vec<Vec<f64>>,
    prices: Vec<Prices>,
    /// Cost of what is decided: `spent[prices][depth]`.
    spent: Vec<Vec<f64>>,
    /// What rounding to picoseconds takes off a step at most.
    rounding_ns: f64,
    /// Copy time up to each row of what is decided: `copied_ns[depth · rows + row]`.
    copied_ns: Vec<f64>,
    /// Place of the alternative chosen at each position, valid up to the depth.
    choice: Vec<usize>,
    best: Option<Leaf>,
    nodes: u64,
}

impl<'p> Tree<'p> {
    fn new(problem: &'p Problem<'p>, alternatives: &'p [Vec<Alternative>], order: &'p Order) -> Self {
        let instance = problem.instance;
        let mut forecaster = Forecaster::of(instance);
        let by_position: Vec<&[Alternative]> =
            order.requests.iter().map(|&request| alternatives[request].as_slice()).collect();
        let window = instance.window as f64;
        let restore_ns: Vec<Vec<f64>> = by_position
            .iter()
            .zip(&order.copy_ns)
            .map(|(all, copy_ns)| all.iter().map(|one| one.restored as f64 * copy_ns / window).collect())
            .collect();
        let mut rests = vec![Rest::default(); by_position.len() + 1];
        for position in (0..by_position.len()).rev() {
            let changes = by_position[position].iter().map(|one| one.changes).min().unwrap_or(0);
            let restore_ns = restore_ns[position].iter().copied().fold(f64::INFINITY, f64::min);
            let after = rests[position + 1];
            rests[position] =
                Rest { changes: after.changes + changes, restore_ns: after.restore_ns + restore_ns };
        }
        let alone_ns = match instance.model {
            StepModel::Prefix => Vec::new(),
            StepModel::Pipeline { .. } => alone(&mut forecaster, order, &by_position),
        };
        let prices = Prices::strongest(problem, order, &by_position, &restore_ns);
        let tried = by_position.iter().enumerate().map(|(position, all)| {
            let mut places: Vec<usize> = (0..all.len()).collect();
            if let Some(prices) = prices.first() {
                let costs = &prices.costs[position];
                places.sort_by(|&a, &b| costs[a].total_cmp(&costs[b]));
            }
            places
        });
        Tree {
            problem,
            order,
            forecaster,
            tried: tried.collect(),
            rests,
            restore_ns,
            alone_ns,
            spent: vec![vec![0.0; by_position.len() + 1]; prices.len()],
            prices,
            rounding_ns: if instance.model == StepModel::Prefix { 0.0 } else { rounding_ns(problem) },
            copied_ns: vec![0.0; (by_position.len() + 1) * problem.shape.rows.len()],
            choice: vec![0; by_position.len()],
            alternatives: by_position,
            best: None,
            nodes: 1,
        }
    }

    fn run(&mut self) -> ControlFlow<()> {
        for start in self.starts() {
            self.improve(start)?;
        }
        let root = Decided { need: self.problem.need, ..Decided::default() };
        self.visit(0, root)
    }

    /// Placements to begin with that fit memory: everything resident (which no bound of the tree is for: they take it that
    /// something is copied), what is there now, a common distance or number of last layers, the best by forecast alone.
    fn starts(&mut self) -> Vec<Vec<LayerSet>> {
        let problem = self.problem;
        let instance = problem.instance;
        let now: Vec<LayerSet> = instance
            .requests
            .iter()
            .map(|request| {
                let away = |now| LayerSet::all(instance.layers).difference(now);
                request.resident_layers.map_or(LayerSet::EMPTY, away)
            })
            .collect();
        let mut starts = vec![vec![LayerSet::EMPTY; problem.requests()], now];
        starts.retain(|sets| self.is_choice(sets) && fits(problem, sets));
        starts.push(problem.shape.sets(&start::heuristic(problem, self.order)));
        let without = Instance { migration_cost: false, node_cap: instance.node_cap / 4, ..instance.clone() };
        let by_prefix = by_prefix(&Problem::new(&without, problem.shape));
        self.nodes += by_prefix.as_ref().map_or_else(|none| none.nodes, |plan| plan.nodes);
        if let Ok(plan) = by_prefix {
            starts.push(plan.placements.iter().map(|placement| placement.offloaded).collect());
        }
        starts
    }

    /// Whether every request has that alternative.
    fn is_choice(&self, sets: &[LayerSet]) -> bool {
        self.order.requests.iter().zip(&self.alternatives).all(|(&request, alternatives)| {
            alternatives.iter().any(|alternative| alternative.offloaded == sets[request])
        })
    }

    /// Makes single moves from `sets`, which fit memory, while they make the key smaller, within the SLO budget first.
    fn improve(&mut self, sets: Vec<LayerSet>) -> ControlFlow<()> {
        let mut leaf = self.measure(sets)?;
        for _ in 0..MOST_SWEEPS {
            let before = leaf.key.clone();
            for position in 0..self.problem.requests() {
                let request = self.order.requests[position];
                for place in 0..self.alternatives[position].len() {
                    let mut moved = leaf.sets().to_vec();
                    moved[request] = self.alternatives[position][place].offloaded;
                    if moved != leaf.sets() && fits(self.problem, &moved) {
                        let moved = self.measure(moved)?;
                        if (moved.over, &moved.key) < (leaf.over, &leaf.key) {
                            leaf = moved;
                        }
                    }
                }
            }
            if leaf.key == before {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Measures a placement that fits memory and keeps it if it is the best so far.
    fn measure(&mut self, sets: Vec<LayerSet>) -> ControlFlow<(), Leaf> {
        super::count_node(self.problem, &mut self.nodes)?;
        let leaf = Leaf::measure(self.problem, &mut self.forecaster, sets);
        if !leaf.over && self.best.as_ref().is_none_or(|best| leaf.key < best.key) {
            self.best = Some(leaf.clone());
        }
        ControlFlow::Continue(leaf)
    }

    fn visit(&mut self, depth: usize, decided: Decided) -> ControlFlow<()> {
        if depth == self.problem.requests() {
            let mut sets = vec![LayerSet::EMPTY; depth];
            for (position, &request) in self.order.requests.iter().enumerate() {
                sets[request] = self.alternatives[position][self.choice[position]].offloaded;
            }
            return self.measure(sets).map_continue(|_| ());
        }
        // a simulated step knows its requests apart, by the order of their copies
        let twin = self.order.twin_before[depth].filter(|_| self.alone_ns.is_empty());
        let least = twin.map_or(0, |twin| self.choice[twin]);
        for turn in 0..self.tried[depth].len() {
            let place = self.tried[depth][turn];
            if place < least {
                continue;
            }
            let alternative = &self.alternatives[depth][place];
            let alone_ns = self.alone_ns.get(depth).map_or(0.0, |alone| alone[place]);
            let next = Decided {
                need: decided.need - alternative.freed,
                copied: decided.copied + alternative.count * self.order.blocks[depth],
                changes: decided.changes + alternative.changes,
                restore_ns: decided.restore_ns + self.restore_ns[depth][place],
                alone_ns: decided.alone_ns.max(alone_ns),
            };
            if next.need > self.order.most_freed(depth + 1) {
                continue;
            }
            let priced_ns = self.priced(depth, place);
            if self.best.as_ref().is_some_and(|best| whole_ns(priced_ns) > best.key.0) {
                continue;
            }
            super::count_node(self.problem, &mut self.nodes)?;
            if self.may_be_best(depth, place, next, priced_ns) {
                self.choice[depth] = place;
                self.visit(depth + 1, next)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The strongest bound on the objective by prices, with alternative `place` taken at `depth`.
    fn priced(&mut self, depth: usize, place: usize) -> f64 {
        let mut bound: f64 = 0.0;
        for (prices, spent) in self.prices.iter().zip(&mut self.spent) {
            spent[depth + 1] = spent[depth] + prices.costs[depth][place];
            bound = bound.max(prices.bound(spent[depth + 1], depth + 1));
        }
        bound - self.rounding_ns
    }

    /// Whether a placement that takes alternative `place` at `depth` may be within the SLO budget and better than the best.
    fn may_be_best(&mut self, depth: usize, place: usize, next: Decided, priced_ns: f64) -> bool {
        let rest = self.rests[depth + 1];
        let rest_copied = self.order.fewest_copied(depth + 1, next.need);
        let step_ns = self.prefix_bound_ns(depth, place, next.need, rest_copied).max(next.alone_ns);
        if step_ns > self.problem.t_max_ns() {
            return false;
        }
        let Some(best) = &self.best else { return true };
        let restore_ns = (next.restore_ns + rest.restore_ns) * (1.0 - 2.0 * SLACK);
        let objective_ns = (step_ns + restore_ns).max(priced_ns);
        let (copied, changes) = (next.copied + rest_copied, next.changes + rest.changes);
        (whole_ns(objective_ns), copied, changes) <= (best.key.0, best.key.1, best.key.2)
    }

    /// Adds the copies of the request at `depth` to the rows; no placement of the rest has a shorter step than this.
    fn prefix_bound_ns(&mut self, depth: usize, place: usize, need: i64, rest_copied: u64) -> f64 {
        let shape = self.problem.shape;
        let rows = shape.rows.len();
        let copy_ns = self.order.copy_ns[depth];
        let (least, all) = self.order.least_copy_ns(depth + 1, need, rest_copied);
        let (start, slope) = shape.hull_lines(if all > 0.0 { least / all } else { 0.0 });
        let alternative = &self.alternatives[depth][place];
        let mut stall: f64 = 0.0;
        for (row, &layer) in shape.rows.iter().enumerate() {
            let decided = self.copied_ns[depth * rows + row] + copy_ns * alternative.copied_by(layer);
            self.copied_ns[(depth + 1) * rows + row] = decided;
            stall =
                stall.max(decided + (all * start[row] + slope[row] * least) - self.problem.hidden_ns(layer));
        }
        (self.problem.base_ns(true) + stall) * (1.0 - 2.0 * SLACK) - self.rounding_ns
    }

    fn answer(&self, capped: bool) -> Result<Plan, NoPlan> {
        let best = self.best.as_ref().map(|best| best.plan(self.problem, self.nodes));
        super::answer(self.problem, best, self.nodes, capped, || self.least_ns())
    }

    /// No objective is lower, nanoseconds.
    fn least_ns(&self) -> f64 {
        let resident_fits = self.problem.need <= 0;
        if resident_fits {
            // nothing need be copied: what the other bounds take for granted
            return self.problem.base_ns(false);
        }
        let by_prices = self.prices.iter().map(|prices| prices.bound(0.0, 0));
        by_prices.fold(self.order.least_forecast_ns(self.problem), f64::max) - self.rounding_ns
    }
}

/// The step of every alternative with everyone else resident, by position.
fn alone(forecaster: &mut Forecaster<'_>, order: &Order, alternatives: &[&[Alternative]]) -> Vec<Vec<f64>> {
    let mut sets = vec![LayerSet::EMPTY; alternatives.len()];
    let mut alone = Vec::with_capacity(alternatives.len());
    for (&request, all) in order.requests.iter().zip(alternatives) {
        let steps = all.iter().map(|one| {
            sets[request] = one.offloaded;
            forecaster.step_ns(&sets)
        });
        alone.push(steps.collect());
        sets[request] = LayerSet::EMPTY;
    }
    alone
}

#[cfg(test)]
mod tests;
