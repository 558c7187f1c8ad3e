//! Any layers of every request: exhaustion where they are few, a local search where they are many.
//!
//! [`exhaust`] and [`descend`] know nothing of plans: they are handed what fits and what is better, and return layer
//! sets (`descent`). `search` uses them for the placement space `layers` under the pipeline forecast. (Under the prefix
//! forecast the last layers are always best, or, where restores count, those of the layers that are on the GPU with those
//! of the layers that are not: searches of candidates are exact. Only one common set for requests that lie differently is
//! no such candidate, and is searched here by either forecast.)
//!
//! **Rule.** If the choices of at most `floor(L/2)` layers per request are no more than the node cap, all are looked at.
//! Otherwise a descent from two placements, the best by distance and the best by last layers (each by the simulated
//! step, SLO budget aside, as the least step decides that too): the first change in a fixed order that is better by
//! the order of design §4.2 is taken, until none is. Changes: drop a layer, add one, move one, hand one over (one request
//! drops a layer and another adds one). Starts and descent share the node cap.
//!
//! The answer is never worse than the best distances, unless the node cap keeps those from being proven. Its step is
//! **proven** if it meets the least prefix forecast over all layers, which no simulated step beats and which is at least
//! `max(compute, fewest copies)`; otherwise the plan says that it is not and how far away that bound is.
//!
//! **Where restores count** the objective takes the place of the step. Further starts: what is there now, and the best by
//! distance and the best by prefix forecast over all layers, both with restores; the latter's objective is the bound.
//!
//! The problem (design §4.2, `placement_space = "layers"`; any set of layers per request is design §3.2's placement):
//! `min t(S)` over `S_r ⊆ {1 … L}` with `|S_r| ≤ floor(L/2)`, subject to memory, where `n_r = |S_r|`, and the SLO budget.
//!
//! Worked: 4 layers may offload at most 2, so a request has 1 + 4 + 6 = 11 choices, two requests 121
//! (`choices_are_counted_as_they_are_listed`). What the choice is worth: layers of 10 ms, 15 ms per copy, two must go.
//! Distance 1 (2 and 4) waits 15 − 10 = 5 ms for layer 2: 45 ms. Layers 3 and 4 land after 15 and 30 ms, before they are
//! due: 40 ms (`any_layers_save_the_worked_5_ms`).

mod descent;

pub use descent::{Choices, Found, descend, exhaust};

use super::problem::{Problem, changed_layers, copied_blocks, freed_by, objective_ns, whole_ns};
use super::search::{by_prefix, migration, pipelined};
use super::shape::Shape;
use super::step_model::Forecaster;
use super::{Infeasible, Instance, NoPlan, PipelineForecast, PlacementSpace, Plan, PlanRequest, StepModel};
use crate::model::LayerSet;

/// Over the SLO budget or not, then the order of design §4.2, then the layers themselves.
type Key = (bool, u64, u64, u64, Vec<u32>, Vec<LayerSet>);

/// The best layers by the model of the instance, or the best found. `problem` has the shape of the last layers.
pub(super) fn search(problem: &Problem<'_>) -> Result<Plan, NoPlan> {
    let instance = problem.instance;
    if let (false, true, StepModel::Pipeline { slots, order }) =
        (instance.counts_restores(), problem.need <= 0, instance.model)
    {
        return pipelined::resident(problem, &mut PipelineForecast::of(instance, slots, order));
    }
    let mut forecaster = Forecaster::of(instance);
    let choices = Choices {
        sets: if instance.uniform { 1 } else { problem.requests() },
        layers: instance.layers,
        most: instance.layers / 2,
    };
    // one common set stands for all
    let of_all = |sets: &[LayerSet]| match sets {
        [common] => vec![*common; problem.requests()],
        sets => sets.to_vec(),
    };
    let fits = |sets: &[LayerSet]| freed(instance, &of_all(sets)) >= problem.need;
    let key = |sets: &[LayerSet]| {
        let sets = of_all(sets);
        let step_ns = forecaster.step_ns(&sets);
        let objective_ns = objective_ns(instance, step_ns, &sets);
        let (copied, changed) = (copied_blocks(instance, &sets), changed_layers(instance, &sets));
        let counts = sets.iter().map(|set| set.len()).collect();
        (step_ns > problem.t_max_ns(), whole_ns(objective_ns), copied, changed, counts, sets)
    };
    if choices.count() <= instance.node_cap {
        return match exhaust(choices, fits, key) {
            Some(found) if found.key.0 => Err(NoPlan::new(problem, Infeasible::Slo, found.nodes)),
            Some(found) => {
                let sets = of_all(&found.sets);
                let step_ns = forecaster.step_ns(&sets);
                Ok(Plan::of(problem, &sets, step_ns, found.nodes))
            }
            None => Err(NoPlan::new(problem, Infeasible::Memory, 0)),
        };
    }
    let starts = if instance.counts_restores() { with_restores(problem)? } else { starts(instance)? };
    let one_for_all = |mut sets: Vec<LayerSet>| {
        sets.truncate(choices.sets);
        sets
    };
    let placements: Vec<_> = starts.placements.into_iter().map(one_for_all).collect();
    let left = instance.node_cap.saturating_sub(starts.nodes);
    let found = descend(choices, &placements, fits, key, left)
        .expect("Invariant: there are starts, or an error said why not");
    let (nodes, sets) = (starts.nodes + found.nodes, of_all(&found.sets));
    let least = Least { step_ns: starts.least_step_ns, objective_ns: starts.least_objective_ns };
    conclude(problem, found.key, forecaster.step_ns(&sets), least, nodes)
}

/// What no placement is below, nanoseconds.
#[derive(Clone, Copy)]
struct Least {
    step_ns: f64,
    objective_ns: f64,
}

/// The plan of the descent, with what the least prefix forecast proves about it.
fn conclude(problem: &Problem<'_>, key: Key, step_ns: f64, least: Least, nodes: u64) -> Result<Plan, NoPlan> {
    let (over, whole, .., sets) = key;
    if over {
        let mut none = NoPlan::new(problem, Infeasible::Slo, nodes);
        none.node_cap_hit = least.step_ns <= problem.t_max_ns();
        return Err(none);
    }
    let mut plan = Plan::of(problem, &sets, step_ns, nodes);
    let found_ns = objective_ns(problem.instance, step_ns, &sets);
    plan.optimal = whole <= whole_ns(least.objective_ns);
    plan.gap = if plan.optimal { 0.0 } else { ((found_ns - least.objective_ns) / found_ns).max(0.0) };
    Ok(plan)
}

/// Where a descent begins, and what it can reach at best.
struct Starts {
    /// One set per request each; they fit.
    placements: Vec<Vec<LayerSet>>,
    /// No step is shorter, nanoseconds.
    least_step_ns: f64,
    /// No objective is lower, nanoseconds.
    least_objective_ns: f64,
    nodes: u64,
}

impl Starts {
    fn add(&mut self, plan: &Plan) {
        self.placements.push(plan.placements.iter().map(|placement| placement.offloaded).collect());
    }
}

/// The best distances by the step, within the whole node cap, so that the answer is never worse; then with a quarter of
/// what is left each, the best last layers and the least prefix forecast of any layers. The SLO budget is left out: the
/// least step decides it. So are restores.
fn starts(instance: &Instance) -> Result<Starts, NoPlan> {
    // a load is below 1 per request
    let mut unbounded = Instance {
        failure_budget: instance.requests.len() as f64,
        migration_cost: false,
        ..instance.clone()
    };
    let shape = Shape::new(instance.layers, PlacementSpace::Distance);
    let distances = by_step(&Problem::new(&unbounded, &shape))?;
    unbounded.node_cap = instance.node_cap.saturating_sub(distances.nodes) / 4;
    let shape = Shape::new(instance.layers, PlacementSpace::Layers);
    let problem = Problem::new(&unbounded, &shape);
    let prefix = by_prefix(&problem)?;
    let least_ns = prefix.forecast_s * 1e9 * (1.0 - prefix.gap) - pipelined::rounding_ns(&problem);
    let mut starts = Starts {
        placements: Vec::new(),
        least_step_ns: least_ns,
        least_objective_ns: least_ns,
        nodes: distances.nodes + prefix.nodes,
    };
    starts.add(&distances);
    // none where the cap is too small to look at one
    if let Ok(tails) = by_step(&problem) {
        starts.nodes += tails.nodes;
        starts.add(&tails);
    }
    Ok(starts)
}

/// The best candidates by the step alone.
fn by_step(problem: &Problem<'_>) -> Result<Plan, NoPlan> {
    match problem.instance.model {
        StepModel::Prefix => by_prefix(problem),
        StepModel::Pipeline { slots, order } => pipelined::search(problem, slots, order),
    }
}

/// The same where restores count: the best distances with them, what is there now, the best layers by the prefix forecast
/// with them, which also bounds every objective; then [`starts`], without them, with a quarter of what is left.
fn with_restores(problem: &Problem<'_>) -> Result<Starts, NoPlan> {
    let instance = problem.instance;
    let distance = Instance { space: PlacementSpace::Distance, ..instance.clone() };
    let shape = Shape::new(instance.layers, PlacementSpace::Distance);
    let distances = migration::search(&Problem::new(&distance, &shape));
    let mut spent = distances.as_ref().map_or_else(|none| none.nodes, |plan| plan.nodes);
    let left = |spent: u64| instance.node_cap.saturating_sub(spent) / 4;
    let prefix = Instance { model: StepModel::Prefix, node_cap: left(spent), ..instance.clone() };
    // one common set of layers has no list of candidates: its step alone is bounded, by `starts`
    let by_prefix = (!instance.uniform).then(|| migration::search(&Problem::new(&prefix, problem.shape)));
    spent += by_prefix
        .as_ref()
        .map_or(0, |found| found.as_ref().map_or_else(|none| none.nodes, |plan| plan.nodes));
    let mut starts = starts(&Instance { node_cap: left(spent), ..instance.clone() })?;
    starts.nodes += spent;
    if let Ok(plan) = &distances {
        starts.add(plan);
    }
    if let Some(Ok(plan)) = &by_prefix {
        starts.add(plan);
        let least_ns = plan.objective_s * 1e9 * (1.0 - plan.gap) - pipelined::rounding_ns(problem);
        starts.least_objective_ns = starts.least_objective_ns.max(least_ns);
    }
    let away = |request: &PlanRequest| {
        request.resident_layers.map_or(LayerSet::EMPTY, |now| LayerSet::all(instance.layers).difference(now))
    };
    let now: Vec<LayerSet> = instance.requests.iter().map(away).collect();
    let common = !instance.uniform || now.iter().all(|set| *set == now[0]);
    let allowed = now.iter().all(|set| set.len() <= instance.layers / 2);
    if common && allowed && freed(instance, &now) >= problem.need {
        starts.placements.push(now);
    }
    Ok(starts)
}

/// Layer-blocks freed, over all requests.
fn freed(instance: &Instance, sets: &[LayerSet]) -> i64 {
    instance.requests.iter().zip(sets).map(|(request, &set)| freed_by(instance, request, set)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{Scratch, brute_force, forecast, memory_used, samples, search};
    use super::*;
    use crate::pipeline::CopyOrder;

    /// The placements that both compare by: what two answers must agree on.
    fn step_and_copies(result: Result<Plan, NoPlan>) -> Result<(u64, u64), Infeasible> {
        result.map(|plan| (whole_ns(plan.forecast_s * 1e9), plan.copied_blocks)).map_err(|none| none.reason)
    }

    #[test]
    fn the_last_layers_are_as_good_as_any_by_the_prefix_forecast() {
        let mut plans = 0;
        for (requests, layers, seeds) in [(1, 9, 30), (2, 6, 60), (3, 4, 60), (2, 7, 12)] {
            for seed in 0..seeds {
                let small = samples::small(requests, layers, seed);
                let instance = Instance { space: PlacementSpace::Layers, ..small };
                let found = search(&instance, &mut Scratch::default());
                let of_tails = brute_force::solve(&instance);
                assert_eq!(
                    found.clone().map(|plan| Plan { nodes: 0, ..plan }).ok(),
                    of_tails.map(|plan| Plan { nodes: 0, ..plan }).ok()
                );
                plans += u32::from(found.is_ok());
                let any = brute_force::solve_any_layers(&instance);
                assert_eq!(step_and_copies(found), step_and_copies(any), "{instance:#?}");
            }
        }
        assert!(plans > 50, "{plans}");
    }

    #[test]
    fn any_layers_save_the_worked_5_ms() {
        let mut instance = samples::small(1, 4, 0);
        instance = Instance {
            layer_compute_s: 10e-3,
            block_copy_s: 1.5e-3,
            copy_latency_s: 0.0,
            intercept_s: 0.0,
            tail_s: 0.0,
            capacity: 20,
            failure_budget: 1.0,
            staging_slots: 0,
            uniform: false,
            ..instance
        };
        instance.requests[0].blocks = 10;
        instance.requests[0].growth_blocks = 0;
        let step_ms = |space, model| {
            let plan =
                search(&Instance { space, model, ..instance.clone() }, &mut Scratch::default()).unwrap();
            (plan.forecast_s * 1e3).round()
        };
        let simulated = StepModel::Pipeline { slots: 2, order: CopyOrder::ReadyFirst };
        for model in [StepModel::Prefix, simulated] {
            assert_eq!(step_ms(PlacementSpace::Distance, model), 45.0);
            assert_eq!(step_ms(PlacementSpace::Layers, model), 40.0);
        }
    }

    #[test]
    fn few_layers_are_exhausted_and_equal_brute_force_by_the_simulated_step() {
        let mut plans = 0;
        for (requests, layers, seeds) in [(1, 8, 20), (2, 5, 40), (3, 4, 20)] {
            for seed in 0..seeds {
                let model = StepModel::Pipeline { slots: 1 + seed as u32 % 2, order: CopyOrder::ReadyFirst };
                let small = samples::small(requests, layers, seed);
                let instance = Instance { space: PlacementSpace::Layers, model, ..small };
                let found = search(&instance, &mut Scratch::default());
                let brute = brute_force::solve_any_layers(&instance);
                match (found, brute) {
                    (Ok(found), Ok(brute)) => {
                        plans += 1;
                        assert_eq!(Plan { nodes: 0, ..found }, Plan { nodes: 0, ..brute });
                    }
                    (Err(found), Err(brute)) => assert_eq!(found.reason, brute.reason),
                    (found, brute) => panic!("{found:?} against {brute:?}"),
                }
            }
        }
        assert!(plans > 30, "{plans}");
    }

    #[test]
    fn a_descent_is_never_worse_than_distances_and_tails_and_says_what_it_proved() {
        let (mut better, mut proven, mut unproven) = (0, 0, 0);
        for seed in 0..12 {
            let model = StepModel::Pipeline { slots: 1 + seed as u32 % 2, order: CopyOrder::ReadyFirst };
            let hard = Instance { model, node_cap: 6_000, ..samples::pressured(seed) };
            let any = Instance { space: PlacementSpace::Layers, ..hard.clone() };
            let (distances, any_layers) =
                (search(&hard, &mut Scratch::default()), search(&any, &mut Scratch::default()));
            let Ok(plan) = any_layers else {
                assert!(distances.is_err());
                continue;
            };
            assert!(plan.memory_used <= any.capacity);
            assert_eq!(plan.memory_used, memory_used(&any, &plan.placements));
            assert_eq!(plan.forecast_s, forecast(&any, &plan.placements));
            assert!(plan.placements.iter().all(|placement| placement.offloaded.len() <= 16));
            assert_eq!(plan.optimal, plan.gap == 0.0);
            if plan.optimal {
                proven += 1
            } else {
                unproven += 1
            }
            if let Ok(distances) = distances {
                assert!(plan.forecast_s <= distances.forecast_s + 1e-9);
                better += u32::from(plan.forecast_s < 0.999 * distances.forecast_s);
            }
        }
        assert!(better > 0 && proven > 0 && unproven > 0, "{better} {proven} {unproven}");
    }
}
