//! Plans with restores against brute force, against plans without, and the worked number.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::super::{PlacementSpace, Scratch, brute_force, samples, search};
use super::*;
use crate::ids::Layer;
use crate::pipeline::CopyOrder;

fn models() -> [StepModel; 3] {
    let order = CopyOrder::ReadyFirst;
    let in_order = StepModel::Pipeline { slots: 2, order: CopyOrder::InOrder };
    [StepModel::Prefix, StepModel::Pipeline { slots: 1, order }, in_order]
}

/// A small instance whose restores count; most requests have any layers away, some the layout of a distance.
fn drawn(requests: usize, layers: u32, seed: u64) -> Instance {
    let sample = if seed.is_multiple_of(4) { samples::hard } else { samples::small };
    let mut instance = Instance { migration_cost: true, ..sample(requests, layers, seed) };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // a short window makes restores dear
    instance.window = [1, 4, 32][seed as usize % 3];
    for request in &mut instance.requests {
        if random.random_range(0..3) > 0 && request.resident_layers.is_some() {
            let here = |layer: &Layer| layer.0 > 0 && random.random_range(0..3) > 0;
            request.resident_layers = Some(Layer::all(layers).filter(here).collect());
        }
    }
    if seed.is_multiple_of(3) {
        instance.failure_budget = requests as f64;
    }
    instance
}

/// What two answers must agree on: everything but how they were found.
fn answer(result: Result<Plan, NoPlan>) -> Result<Plan, NoPlan> {
    match result {
        Ok(plan) => Ok(Plan { nodes: 0, ..plan }),
        Err(none) => Err(NoPlan { nodes: 0, ..none }),
    }
}

#[test]
fn with_restores_the_search_is_brute_force_to_the_last_tie() {
    let mut scratch = Scratch::default();
    let (mut plans, mut moved, mut stayed) = (0, 0, 0);
    for (requests, layers, seeds) in [(1, 1, 10), (1, 12, 40), (2, 8, 120), (3, 6, 120), (4, 5, 60)] {
        for seed in 0..seeds {
            let instance = drawn(requests, layers, seed);
            for model in models() {
                let instance = Instance { model, ..instance.clone() };
                let brute = answer(brute_force::solve(&instance));
                assert_eq!(answer(search(&instance, &mut scratch)), brute, "{instance:#?}");
                let Ok(plan) = brute else { continue };
                plans += 1;
                moved += u32::from(plan.restore_s > 0.0);
                let without = Instance { migration_cost: false, ..instance };
                let without = search(&without, &mut scratch).expect("what fits, fits");
                stayed += u32::from(plan.restore_s < without.restore_s);
                // one pays for stalls what the other pays for restores
                assert!(whole_ns(plan.forecast_s * 1e9) >= whole_ns(without.forecast_s * 1e9));
            }
        }
    }
    assert!(plans > 300 && moved > 100 && stayed > 100, "{plans} plans, {moved} moved, {stayed} stayed");
}

/// The objective and the ties that the design has; among sets that are equal in all of them any is right.
fn ranked(result: Result<Plan, NoPlan>) -> Result<(u64, u64, u64, Vec<u32>), Infeasible> {
    let counts = |plan: &Plan| plan.placements.iter().map(|one| one.offloaded.len()).collect();
    result
        .map(|plan| {
            (whole_ns(plan.objective_s * 1e9), plan.copied_blocks, plan.changed_layers, counts(&plan))
        })
        .map_err(|none| none.reason)
}

#[test]
fn any_layers_with_restores_are_brute_force_over_all_sets() {
    let mut scratch = Scratch::default();
    let mut plans = 0;
    for (requests, layers, seeds) in [(1, 8, 40), (2, 5, 60), (3, 4, 40), (2, 6, 12)] {
        for seed in 0..seeds {
            for model in models() {
                let drawn = drawn(requests, layers, seed);
                let instance = Instance { model, space: PlacementSpace::Layers, ..drawn };
                let found = search(&instance, &mut scratch);
                let brute = brute_force::solve_any_layers(&instance);
                plans += u32::from(found.is_ok());
                assert_eq!(ranked(found.clone()), ranked(brute), "{instance:#?}");
                if model == StepModel::Prefix && !instance.uniform {
                    assert_eq!(answer(found), answer(brute_force::solve(&instance)));
                }
            }
        }
    }
    assert!(plans > 150, "{plans}");
}

#[test]
fn without_known_layouts_restores_change_nothing() {
    let mut scratch = Scratch::default();
    for seed in 0..20 {
        let mut with = Instance { migration_cost: true, ..samples::hard(4, 32, seed) };
        with.requests.iter_mut().for_each(|request| request.resident_layers = None);
        let without = Instance { migration_cost: false, ..with.clone() };
        assert_eq!(search(&with, &mut scratch), search(&without, &mut scratch));
    }
}

#[test]
fn a_longer_window_restores_no_less_and_steps_no_longer() {
    let mut scratch = Scratch::default();
    let mut restores = 0;
    for seed in 0..30 {
        let at = |window| {
            let instance = Instance { migration_cost: true, window, ..samples::pressured(seed) };
            let mut instance = Instance { failure_budget: 4.0, ..instance };
            for (place, request) in instance.requests.iter_mut().enumerate() {
                let away = Layer::all(32).filter(|layer| !(layer.0 as usize + place).is_multiple_of(2));
                request.resident_layers = Some(away.collect());
            }
            instance
        };
        let mut plan = |window| search(&at(window), &mut scratch).expect("any step is allowed");
        let [short, long, longest] = [1, 32, 1_000_000].map(&mut plan);
        for (one, other) in [(&short, &long), (&long, &longest)] {
            assert!(one.optimal && other.optimal);
            assert!(one.restore_s <= other.restore_s + 1e-12);
            assert!(one.forecast_s + 1e-9 >= other.forecast_s);
        }
        restores += u32::from(short.restore_s < longest.restore_s);
    }
    assert!(restores > 10, "{restores}");
}

#[test]
fn a_layer_comes_back_where_the_window_is_long_enough() {
    let mut instance = samples::small(1, 4, 0);
    instance = Instance {
        layer_compute_s: 1e-3,
        block_copy_s: 3e-4,
        copy_latency_s: 0.0,
        intercept_s: 0.0,
        tail_s: 0.0,
        capacity: 30,
        failure_budget: 1.0,
        staging_slots: 0,
        uniform: false,
        migration_cost: true,
        space: PlacementSpace::Layers,
        ..instance
    };
    instance.requests[0].blocks = 10;
    instance.requests[0].growth_blocks = 0;
    instance.requests[0].resident_layers = Some([1, 3, 4].map(Layer).into_iter().collect());
    let plan = |window| {
        let plan = search(&Instance { window, ..instance.clone() }, &mut Scratch::default()).unwrap();
        let microseconds = |seconds: f64| (seconds * 1e6).round() as u64;
        let layers: Vec<u32> = plan.placements[0].offloaded.iter().map(|layer| layer.0).collect();
        let times = [plan.forecast_s, plan.restore_s, plan.objective_s].map(microseconds);
        (layers, times)
    };
    assert_eq!(plan(32), (vec![4], [4_000, 3_000, 4_094]));
    assert_eq!(plan(1), (vec![2], [6_000, 0, 6_000]));
}

#[test]
fn a_capped_search_says_so_and_its_gap_holds_the_best() {
    let mut capped = 0;
    for seed in 0..20 {
        let whole = Instance { migration_cost: true, ..samples::hard(6, 32, seed) };
        let short = Instance { node_cap: 400, ..whole.clone() };
        let mut scratch = Scratch::default();
        if let (Ok(plan), Ok(best)) = (search(&short, &mut scratch), search(&whole, &mut scratch))
            && !plan.optimal
            && best.optimal
        {
            capped += 1;
            assert!(plan.memory_used <= whole.capacity && (0.0..1.0).contains(&plan.gap));
            assert!(best.objective_s >= plan.objective_s * (1.0 - plan.gap) - 1e-9);
        }
    }
    assert!(capped > 0);
}
