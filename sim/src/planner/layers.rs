//! Any layers of every request: exhaustion where they are few, a local search where they are many.
//!
//! [`exhaust`] and [`descend`] know nothing of plans: they are handed what fits and what is better, and return layer
//! sets. `search` uses them for the placement space `layers` under the pipeline forecast. (Under the prefix
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
//! The answer is never worse than the best distances, unless the node cap keeps those from being proven. Its step is **proven** if it meets the least prefix forecast over all
//! layers, which no simulated step beats and which is at least `max(compute, fewest copies)`; otherwise the plan says that it is
//! not and how far away that bound is.
//!
//! **Where restores count** the objective takes the place of the step. Further starts: what is there now, and the best by
//! distance and the best by prefix forecast over all layers, both with restores; the latter's objective is the bound.
//!
//! Worked: 4 layers may offload at most 2, so a request has 1 + 4 + 6 = 11 choices, two requests 121.

use super::problem::{Problem, changed_layers, copied_blocks, freed_by, objective_ns, whole_ns};
use super::search::{by_prefix, migration, pipelined};
use super::shape::Shape;
use super::step_model::Forecaster;
use super::{Infeasible, Instance, NoPlan, PipelineForecast, PlacementSpace, Plan, PlanRequest, StepModel};
use crate::ids::Layer;
use crate::model::LayerSet;

/// What is chosen from: for each of so many, any layers up to a number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// How many sets are chosen.
    pub sets: usize,
    /// Layers L.
    pub layers: u32,
    /// Most layers of a set.
    pub most: u32,
}

impl Choices {
    /// How many there are: `(Σ_{n ≤ most} C(L, n))^sets`, `u64::MAX` if more.
    pub fn count(&self) -> u64 {
        let (mut of_size, mut of_one) = (1u128, 0u128);
        for size in 0..=self.most.min(self.layers) {
            of_one = of_one.saturating_add(of_size);
            let left = u128::from(self.layers - size);
            of_size = of_size.saturating_mul(left) / u128::from(size + 1);
        }
        let all = (0..self.sets).fold(1u128, |all, _| all.saturating_mul(of_one));
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// All sets that one may be.
    fn of_one(&self) -> Vec<LayerSet> {
        let mut all = vec![LayerSet::EMPTY];
        for layer in Layer::all(self.layers) {
            for index in 0..all.len() {
                let mut more = all[index];
                if more.len() < self.most {
                    more.insert(layer);
                    all.push(more);
                }
            }
        }
        all
    }
}

/// Layer sets that a search ended with.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<K> {
    /// The sets.
    pub sets: Vec<LayerSet>,
    /// Their key.
    pub key: K,
    /// Keys made.
    pub nodes: u64,
}

/// The fitting sets with the least key, of all; none if nothing fits. Of equal keys the first looked at stays, so a key
/// that tells all sets apart makes the answer unique.
pub fn exhaust<K: Ord>(
    choices: Choices,
    fits: impl Fn(&[LayerSet]) -> bool,
    mut key: impl FnMut(&[LayerSet]) -> K,
) -> Option<Found<K>> {
    let of_one = choices.of_one();
    let mut best: Option<(K, Vec<LayerSet>)> = None;
    let mut nodes = 0;
    let mut places = vec![0; choices.sets];
    loop {
        let sets: Vec<LayerSet> = places.iter().map(|&place| of_one[place]).collect();
        if fits(&sets) {
            nodes += 1;
            let key = key(&sets);
            if best.as_ref().is_none_or(|(least, _)| key < *least) {
                best = Some((key, sets));
            }
        }
        let Some(last) = places.iter().rposition(|&place| place + 1 < of_one.len()) else { break };
        places[last] += 1;
        places[last + 1..].fill(0);
    }
    best.map(|(key, sets)| Found { sets, key, nodes })
}

/// Sets that no single change makes better, reached from the best of `starts` and then from each other one; the least key
/// of all that were looked at. At most `node_cap` keys are made beside those of the starts. None without a start.
///
/// The starts must fit.
pub fn descend<K: Ord + Clone>(
    choices: Choices,
    starts: &[Vec<LayerSet>],
    fits: impl Fn(&[LayerSet]) -> bool,
    key: impl FnMut(&[LayerSet]) -> K,
    node_cap: u64,
) -> Option<Found<K>> {
    let mut descent = Descent { choices, fits, key, node_cap, nodes: 0 };
    let mut starts: Vec<Found<K>> = starts.iter().map(|sets| descent.start(sets)).collect();
    starts.sort_by(|a, b| a.key.cmp(&b.key));
    starts.dedup_by(|a, b| a.sets == b.sets);
    let mut best: Option<Found<K>> = None;
    for mut found in starts {
        while descent.sweep(&mut found) {}
        if best.as_ref().is_none_or(|best| found.key < best.key) {
            best = Some(found);
        }
    }
    best.map(|best| Found { nodes: descent.nodes, ..best })
}

struct Descent<F, M> {
    choices: Choices,
    fits: F,
    key: M,
    node_cap: u64,
    nodes: u64,
}

impl<K: Ord, F: Fn(&[LayerSet]) -> bool, M: FnMut(&[LayerSet]) -> K> Descent<F, M> {
    fn start(&mut self, sets: &[LayerSet]) -> Found<K> {
        Found { key: (self.key)(sets), sets: sets.to_vec(), nodes: 0 }
    }

    /// Tries every change once, on the sets as they are by then. Whether any was taken.
    fn sweep(&mut self, found: &mut Found<K>) -> bool {
        let mut better = false;
        for set in 0..self.choices.sets {
            for layer in Layer::all(self.choices.layers) {
                let flipped = LayerSet::from_iter([layer]).symmetric_difference(found.sets[set]);
                better |= self.try_sets(found, &[(set, flipped)]);
                for other in Layer::all(self.choices.layers) {
                    for receiver in 0..self.choices.sets {
                        better |= self.hand_over(found, (set, layer), (receiver, other));
                    }
                }
            }
        }
        better
    }

    /// One set drops a layer, another one (or itself) adds one.
    fn hand_over(&mut self, found: &mut Found<K>, from: (usize, Layer), to: (usize, Layer)) -> bool {
        if !found.sets[from.0].contains(from.1) || found.sets[to.0].contains(to.1) {
            return false;
        }
        let mut giver = found.sets[from.0];
        giver.remove(from.1);
        let mut receiver = if from.0 == to.0 { giver } else { found.sets[to.0] };
        receiver.insert(to.1);
        self.try_sets(found, &[(from.0, giver), (to.0, receiver)])
    }

    /// Takes the sets with these changes, if they are choices, fit and are better.
    fn try_sets(&mut self, found: &mut Found<K>, changes: &[(usize, LayerSet)]) -> bool {
        if self.nodes >= self.node_cap || changes.iter().any(|(_, set)| set.len() > self.choices.most) {
            return false;
        }
        let before: Vec<(usize, LayerSet)> = changes.iter().map(|&(set, _)| (set, found.sets[set])).collect();
        changes.iter().for_each(|&(set, layers)| found.sets[set] = layers);
        if (self.fits)(&found.sets) {
            self.nodes += 1;
            let key = (self.key)(&found.sets);
            if key < found.key {
                found.key = key;
                return true;
            }
        }
        before.iter().for_each(|&(set, layers)| found.sets[set] = layers);
        false
    }
}

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

    #[test]
    fn choices_are_counted_as_they_are_listed() {
        // 1 + 4 + 6
        assert_eq!(Choices { sets: 2, layers: 4, most: 2 }.count(), 121);
        for (layers, most) in [(1, 0), (4, 2), (7, 3), (7, 7), (10, 5)] {
            let one = Choices { sets: 1, layers, most };
            assert_eq!(one.count(), one.of_one().len() as u64);
        }
        assert_eq!(Choices { sets: 9, layers: 128, most: 64 }.count(), u64::MAX);
    }

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

    #[test]
    fn a_descent_finds_the_exhaustive_answer_on_most_small_instances() {
        let (mut same, mut all) = (0, 0);
        for seed in 0..30 {
            let choices = Choices { sets: 2, layers: 6, most: 3 };
            // sizes 3 and 5 on 6 layers of 2 ms; 3 ms and 5 ms per copy; at least 18 layer-blocks off the GPU
            let seconds = [0.003 + seed as f64 * 1e-4, 0.005];
            let mut batch = PipelineForecast::new(6, 2e-3, (0.0, 0.0), 1, CopyOrder::ReadyFirst, seconds);
            let fits = |sets: &[LayerSet]| 3 * sets[0].len() + 5 * sets[1].len() >= 18;
            let mut key = |sets: &[LayerSet]| (batch.step(sets), sets.to_vec());
            let least = exhaust(choices, fits, &mut key).expect("two of each free 24");
            let last = LayerSet::all(6).difference(LayerSet::all(3));
            let found = descend(choices, &[vec![last, last]], fits, &mut key, 10_000).expect("a start");
            assert!(found.key >= least.key);
            all += 1;
            same += u32::from(found.key.0 == least.key.0);
        }
        assert!(same * 10 >= all * 8, "{same} of {all}");
    }
}
