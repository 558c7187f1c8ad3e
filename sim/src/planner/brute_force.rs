//! The slow twin: every placement of a small instance, compared by the order of design §4.2 as it is written.
//!
//! Shares with the other solvers only the forecasts and the definition of memory. For tests.

use super::alternatives::alternatives;
use super::problem::{Problem, changed_layers, copied_blocks, freed_by, objective_ns, whole_ns};
use super::shape::Shape;
use super::{Infeasible, Instance, NoPlan, PipelineForecast, PlacementSpace, Plan, StepModel};
use crate::ids::Layer;
use crate::model::LayerSet;

/// What two placements are compared by: whole nanoseconds of the objective, copied blocks, changed layers, offload counts, layers.
type Key = (u64, u64, u64, Vec<u32>, Vec<LayerSet>);

/// The best candidates of `instance`, by looking at all `candidates^requests` placements (or `candidates`, if
/// uniform). In the space `layers` the candidates are the tails; where restores count, those of the layers that are on
/// the GPU with those of the layers that are not.
///
/// # Errors
/// As [`search`](super::search()).
pub fn solve(instance: &Instance) -> Result<Plan, NoPlan> {
    let shape = Shape::new(instance.layers, instance.space);
    let problem = Problem::new(instance, &shape);
    let sets = alternatives(&problem).into_iter();
    let sets = sets.map(|all| all.into_iter().map(|one| one.offloaded).collect()).collect::<Vec<_>>();
    best_of(&problem, &sets)
}

/// The best layers of `instance`, by looking at every choice of at most `floor(L/2)` of them, whatever its space is.
///
/// # Errors
/// As [`search`](super::search()).
pub fn solve_any_layers(instance: &Instance) -> Result<Plan, NoPlan> {
    let shape = Shape::new(instance.layers, PlacementSpace::Layers);
    let sets: Vec<LayerSet> = (0u64..1 << instance.layers)
        .map(|bits| Layer::all(instance.layers).filter(|layer| bits >> layer.index() & 1 == 1).collect())
        .filter(|set: &LayerSet| set.len() <= instance.layers / 2)
        .collect();
    best_of(&Problem::new(instance, &shape), &vec![sets; instance.requests.len()])
}

/// The best of one of `sets[request]` for every request; the same one for all, if uniform.
fn best_of(problem: &Problem<'_>, sets: &[Vec<LayerSet>]) -> Result<Plan, NoPlan> {
    let instance = problem.instance;
    let mut pipeline = match instance.model {
        StepModel::Prefix => None,
        StepModel::Pipeline { slots, order } => Some(PipelineForecast::of(instance, slots, order)),
    };
    let mut reason = Infeasible::Memory;
    let mut best: Option<(Key, f64)> = None;
    let mut nodes = 0;
    let mut choice = vec![0; instance.requests.len()];
    loop {
        nodes += 1;
        let chosen: Vec<LayerSet> = choice.iter().zip(sets).map(|(&index, sets)| sets[index]).collect();
        let requests = instance.requests.iter().zip(&chosen);
        let freed: i64 = requests.map(|(request, &set)| freed_by(instance, request, set)).sum();
        if freed >= problem.need {
            reason = Infeasible::Slo;
            let step_ns = match &mut pipeline {
                None => super::problem::prefix_ns(instance, &chosen),
                Some(pipeline) => pipeline.step_ns(&chosen),
            };
            let (copied, changed) = (copied_blocks(instance, &chosen), changed_layers(instance, &chosen));
            let counts = chosen.iter().map(|set| set.len()).collect();
            let objective_ns = objective_ns(instance, step_ns, &chosen);
            let key = (whole_ns(objective_ns), copied, changed, counts, chosen);
            if step_ns <= problem.t_max_ns() && best.as_ref().is_none_or(|(least, _)| key < *least) {
                best = Some((key, step_ns));
            }
        }
        if !advance(&mut choice, sets, instance.uniform) {
            break;
        }
    }
    match best {
        Some(((.., chosen), step_ns)) => Ok(Plan::of(problem, &chosen, step_ns, nodes)),
        None => Err(NoPlan::new(problem, reason, nodes)),
    }
}

/// The next vector in lexicographic order; false after the last one.
fn advance(choice: &mut [usize], sets: &[Vec<LayerSet>], uniform: bool) -> bool {
    if uniform {
        choice.iter_mut().for_each(|candidate| *candidate += 1);
        return choice.first().is_some_and(|&candidate| candidate < sets[0].len());
    }
    for (candidate, sets) in choice.iter_mut().zip(sets).rev() {
        *candidate += 1;
        if *candidate < sets.len() {
            return true;
        }
        *candidate = 0;
    }
    false
}
