//! Times the planner's exact search on hard random instances: one row per number of layers and requests.
//!
//! `cargo run --release -p orbitflow-sim --example planner_timing [INSTANCES]`. The rows of
//! `planner::solver_time` are made from its output.
#![allow(clippy::disallowed_methods)] // measures wall time: that is what it is for

use std::time::Instant;

use orbitflow_sim::model::Distance;
use orbitflow_sim::planner::{Scratch, samples, search};

fn main() {
    let instances: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(300);
    println!(
        "layers,candidates,requests,median_us,p95_us,max_us,infeasible_pct,cap_hit_pct,median_nodes,p95_nodes"
    );
    for layers in [32, 80, 126] {
        for requests in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
            row(layers, requests, instances);
        }
    }
}

fn row(layers: u32, requests: usize, instances: u64) {
    let mut scratch = Scratch::default();
    let (mut micros, mut nodes) = (Vec::new(), Vec::new());
    let (mut infeasible, mut capped) = (0, 0);
    for seed in 0..instances {
        let instance = samples::hard(requests, layers, seed);
        let start = Instant::now();
        let answer = search(&instance, &mut scratch);
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        match answer {
            Ok(plan) => {
                nodes.push(plan.nodes);
                capped += u64::from(!plan.optimal);
            }
            Err(none) => {
                nodes.push(none.nodes);
                infeasible += 1;
                capped += u64::from(none.node_cap_hit);
            }
        }
    }
    micros.sort_by(f64::total_cmp);
    nodes.sort_unstable();
    let at = |p: f64| (p * instances as f64).ceil() as usize - 1;
    let pct = |count: u64| 100.0 * count as f64 / instances as f64;
    let candidates = Distance::candidates(layers).len();
    println!(
        "{layers},{candidates},{requests},{:.1},{:.1},{:.1},{:.1},{:.1},{},{}",
        micros[at(0.5)],
        micros[at(0.95)],
        micros[at(1.0)],
        pct(infeasible),
        pct(capped),
        nodes[at(0.5)],
        nodes[at(0.95)],
    );
}
