//! Random instances, the same for the same seed, on which tests compare the solvers and benches time them.
//!
//! Drawn uniformly from ChaCha8 by whole numbers only. They are made to be hard: memory and SLO tight, so that
//! some constraint usually binds, and with equal or nearly equal requests, which tie.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{DEFAULT_NODE_CAP, Instance, PlacementSpace, PlanRequest, StepModel};
use crate::model::{Distance, LayerSet, Placement};

/// Seconds per block of the published A6000 fit (facts A.8): 106,952 blocks per second.
const BLOCK_COPY_S: f64 = 1.0 / 106_952.0;

/// An instance of the size that engines meet: `requests` requests of 20 … 2,000 blocks in a model of `layers`
/// layers, of which memory holds 52 … 97 %; copies take 0.3 … 3 times as long as computing.
pub fn hard(requests: usize, layers: u32, seed: u64) -> Instance {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let random = &mut random;
    let sizes: Vec<u64> = match random.random_range(0..4) {
        0 => vec![random.random_range(20..2000); requests],
        1 => {
            let size = random.random_range(100..2000);
            (0..requests).map(|_| size + random.random_range(0..5)).collect()
        }
        _ => (0..requests).map(|_| random.random_range(20..2000)).collect(),
    };
    let window_blocks = 2 * random.random_range(1..=4);
    let resident: u64 = sizes.iter().map(|blocks| u64::from(layers) * (blocks + window_blocks)).sum();
    let capacity = resident * random.random_range(520..970) / 1000;
    let copy_s = (resident - capacity) as f64 * BLOCK_COPY_S;
    let compute_s = copy_s * random.random_range(33..330) as f64 / 100.0;
    // a budget of 0 makes the least SLO the longest step
    let slo_s = compute_s.max(copy_s) * random.random_range(98..140) as f64 / 100.0;
    let mut instance = Instance {
        layers,
        layer_compute_s: compute_s / f64::from(layers),
        block_copy_s: BLOCK_COPY_S,
        copy_latency_s: if random.random_range(0..4) == 0 { 10e-6 } else { 0.0 },
        intercept_s: 0.0,
        tail_s: 0.0,
        capacity,
        failure_budget: 0.0,
        window: 16 * window_blocks,
        space: PlacementSpace::Distance,
        model: StepModel::Prefix,
        uniform: false,
        migration_cost: false,
        staging_slots: random.random_range(0..=2),
        node_cap: DEFAULT_NODE_CAP,
        requests: sizes.iter().enumerate().map(|(r, &blocks)| request(r, blocks, slo_s)).collect(),
    };
    let counted = random.random_range(0..3) > 0;
    for request in &mut instance.requests {
        request.growth_blocks = window_blocks;
        request.resident_layers = counted.then(|| layout(random, layers));
    }
    instance
}

/// Four requests on an A6000 with Llama-3-8B as published (561 blocks per layer; `6.74e-7·T + 0.0406` s of compute
/// for `T` tokens), too long to be resident together and short enough to run: 570 … 1,080 blocks in all. Any step time
/// is allowed, so what is chosen is the step alone.
pub fn pressured(seed: u64) -> Instance {
    const LAYERS: u32 = 32;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let total = random.random_range(570..=1080);
    let shares: [u64; 4] = std::array::from_fn(|_| random.random_range(10..=100));
    let all: u64 = shares.iter().sum();
    let sizes = shares.map(|share| (total * share / all).max(1));
    let tokens = 16 * sizes.iter().sum::<u64>();
    let mut requests: Vec<_> = sizes.iter().enumerate().map(|(r, &blocks)| request(r, blocks, 1.0)).collect();
    for request in &mut requests {
        request.growth_blocks = 2;
    }
    Instance {
        layers: LAYERS,
        layer_compute_s: (6.74e-7 * tokens as f64 + 0.0406) / f64::from(LAYERS),
        block_copy_s: BLOCK_COPY_S,
        copy_latency_s: 0.0,
        intercept_s: 0.0,
        tail_s: 0.0,
        capacity: 561 * u64::from(LAYERS) - 4 * u64::from(LAYERS),
        failure_budget: 4.0,
        window: 32,
        space: PlacementSpace::Distance,
        model: StepModel::Prefix,
        uniform: false,
        migration_cost: false,
        staging_slots: 0,
        node_cap: DEFAULT_NODE_CAP,
        requests,
    }
}

/// An instance with few layers and small numbers, where every feature and every tie comes up.
pub fn small(requests: usize, layers: u32, seed: u64) -> Instance {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let random = &mut random;
    let largest = [2, 5, 40][random.random_range(0..3)];
    let mut instance = Instance {
        layers,
        layer_compute_s: random.random_range(1..=40) as f64 * 1e-4,
        block_copy_s: [1e-10, 1e-5, 1e-4][random.random_range(0..3)],
        copy_latency_s: [0.0, 1e-5, 1e-3][random.random_range(0..3)],
        intercept_s: [0.0, 1e-3][random.random_range(0..2)],
        tail_s: [0.0, 2e-3][random.random_range(0..2)],
        capacity: 0,
        failure_budget: [0.0, 0.5, 2.0][random.random_range(0..3)],
        window: [32, 128][random.random_range(0..2)],
        space: PlacementSpace::Distance,
        model: StepModel::Prefix,
        uniform: random.random_range(0..5) == 0,
        migration_cost: false,
        staging_slots: random.random_range(0..=2),
        node_cap: DEFAULT_NODE_CAP,
        requests: (0..requests).map(|r| request(r, random.random_range(1..=largest), 1.0)).collect(),
    };
    let compute_s = instance.layer_compute_s * f64::from(layers);
    for request in &mut instance.requests {
        request.growth_blocks = random.random_range(0..=3);
        request.slo_s = compute_s * random.random_range(60..300) as f64 / 100.0;
        request.deposit = random.random_range(0..=40);
        request.resident_layers = (random.random_range(0..4) > 0).then(|| layout(random, layers));
    }
    let resident: u64 =
        instance.requests.iter().map(|r| u64::from(layers) * (r.blocks + r.growth_blocks)).sum();
    instance.capacity = resident * random.random_range(45..105) / 100;
    instance
}

fn request(index: usize, blocks: u64, slo_s: f64) -> PlanRequest {
    PlanRequest {
        id: format!("r{index}"),
        blocks,
        growth_blocks: 0,
        slo_s,
        deposit: 0,
        resident_layers: None,
    }
}

/// The layers that some candidate keeps on the GPU.
fn layout(random: &mut impl Rng, layers: u32) -> LayerSet {
    let candidates = Distance::candidates(layers);
    let distance = candidates[random.random_range(0..candidates.len())];
    LayerSet::all(layers).difference(Placement::at(distance, layers).offloaded)
}
