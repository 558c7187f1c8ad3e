//! The planner and the pipeline, timed alone.

use std::hint::black_box;
use std::time::Instant;

use orbitflow_sim::model::{Distance, Placement};
use orbitflow_sim::pipeline::{
    self, Contention, CopyOrder, CopyTimes, LayerTimes, StepRequest, StepTiming, StepWork,
};
use orbitflow_sim::planner::{self, samples};
use orbitflow_sim::units::{SimDuration, SimTime};

const LAYERS: u32 = 32;
const INSTANCES: u64 = 300;

/// Plans per second on hard instances of so many requests, and how long one takes.
pub fn planner(requests: usize) {
    let mut scratch = planner::Scratch::default();
    let instances: Vec<_> = (0..INSTANCES).map(|seed| samples::hard(requests, LAYERS, seed)).collect();
    let mut micros: Vec<f64> = instances
        .iter()
        .map(|instance| {
            let mut once = || {
                let start = Instant::now();
                let _ = black_box(planner::search(instance, &mut scratch));
                start.elapsed().as_secs_f64() * 1e6
            };
            once().min(once())
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    let per_second = 1e6 * INSTANCES as f64 / micros.iter().sum::<f64>();
    let at = |per_cent: usize| micros[(micros.len() * per_cent).div_ceil(100) - 1];
    println!(
        "  {requests:>2} requests {per_second:>9.0} plans/s; median {:.1} us, p95 {:.1} us, longest {:.1} us",
        at(50),
        at(95),
        at(100)
    );
}

/// Steps per second of the fast pipeline and of the event-driven one, over batches of 16.
pub fn pipeline() {
    let all = [1, 2, 3, 4, 6, 7, 9, 15];
    let none = Contention::NONE;
    pipeline_of("nothing fetched", CopyOrder::ReadyFirst, none, &[]);
    pipeline_of("the same layers", CopyOrder::ReadyFirst, none, &[2]);
    pipeline_of("any layers", CopyOrder::ReadyFirst, none, &all);
    pipeline_of("any, in order", CopyOrder::InOrder, none, &all);
    let contention = Contention::of_factors(1.2, 1.1).expect("two slowdowns");
    pipeline_of("any, contended", CopyOrder::ReadyFirst, contention, &all);
    pipeline_of("same, in order", CopyOrder::InOrder, contention, &all);
}

fn pipeline_of(name: &str, order: CopyOrder, contention: Contention, distances: &[u32]) {
    let us = |micros: u64| SimDuration::from_picos(micros * 1_000_000);
    let requests: Vec<StepRequest<'_>> = (0..16)
        .zip(distances.iter().cycle())
        .map(|(place, distance)| StepRequest {
            fetched: Placement::at(Distance::At(*distance), LAYERS).offloaded,
            copy: CopyTimes::Same(us(20 + 7 * place)),
        })
        .collect();
    let compute = LayerTimes::Same(us(400));
    let work = StepWork { layers: LAYERS, compute, requests: &requests, slots: 2, order, contention };
    let mut scratch = pipeline::Scratch::default();
    let (fast_s, fast) = best(2000, || pipeline::step(black_box(&work), SimTime::ZERO, None, &mut scratch));
    let (twin_s, twin) = best(200, || pipeline::timeline(black_box(&work), SimTime::ZERO, None).0);
    assert_eq!(fast, twin, "{name}: the fast step is its twin's");
    println!(
        "  {name:<16} {:>10.0} steps/s against {:>8.0}: {:>6.1} x",
        1.0 / fast_s,
        1.0 / twin_s,
        twin_s / fast_s
    );
}

/// Seconds of one call, from the best of ten rounds of `calls`.
fn best(calls: u32, mut call: impl FnMut() -> StepTiming) -> (f64, StepTiming) {
    let mut shortest = f64::INFINITY;
    let mut timing = call();
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..calls {
            timing = black_box(call());
        }
        shortest = shortest.min(start.elapsed().as_secs_f64() / f64::from(calls));
    }
    (shortest, timing)
}
