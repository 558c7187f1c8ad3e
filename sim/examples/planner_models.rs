//! What the two models of a step and the two placement spaces change: 200 random batches of four requests on an A6000
//! (`samples::pressured`), with one and two slots.
//!
//! `cargo run --release -p orbitflow-sim --example planner_models [INSTANCES] [NODE_CAP]`. Every step is the simulated one;
//! "lost" is how much longer it is than the reference's, in per cent.

use orbitflow_sim::model::Placement;
use orbitflow_sim::pipeline::CopyOrder;
use orbitflow_sim::planner::{
    DEFAULT_NODE_CAP, Instance, PlacementSpace, Plan, Scratch, StepModel, forecast, samples, search,
};

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let instances = args.next().unwrap_or(INSTANCES);
    let node_cap = args.next().unwrap_or(DEFAULT_NODE_CAP);
    println!("slots,what,reference,differ,proven,median_lost_pct,p95_lost_pct,max_lost_pct");
    for slots in [1, 2] {
        for row in table(slots, instances, node_cap) {
            let Row { way, reference, differ, proven, lost_pct: [median, p95, max] } = row;
            println!("{slots},{way},{reference},{differ},{proven},{median:.2},{p95:.2},{max:.2}");
        }
    }
}

/// Batches that are drawn unless someone says otherwise.
pub const INSTANCES: u64 = 200;

/// One way to plan beside another one.
pub struct Row {
    /// The way.
    pub way: &'static str,
    /// The other one.
    pub reference: &'static str,
    /// Batches whose placements differ.
    pub differ: usize,
    /// Batches whose plan is proven to be the best by its own forecast.
    pub proven: usize,
    /// How much longer its simulated steps are than the other's, per cent: median, 95th percentile, most.
    pub lost_pct: [f64; 3],
}

/// The simulated steps of one way to plan, and what else is counted.
#[derive(Default)]
struct Way {
    steps: Vec<f64>,
    placements: Vec<Vec<Placement>>,
    proven: usize,
}

impl Way {
    fn add(&mut self, truth: &Instance, plan: &Plan) {
        self.steps.push(forecast(truth, &plan.placements));
        self.proven += usize::from(plan.optimal);
        self.placements.push(plan.placements.clone());
    }

    fn beside(&self, way: &'static str, other: &Way, reference: &'static str) -> Row {
        let mut lost: Vec<f64> =
            self.steps.iter().zip(&other.steps).map(|(step, best)| 100.0 * (step / best - 1.0)).collect();
        lost.sort_by(f64::total_cmp);
        let at = |p: f64| lost[(p * lost.len() as f64).ceil() as usize - 1];
        let differ = self.placements.iter().zip(&other.placements).filter(|(a, b)| a != b).count();
        Row { way, reference, differ, proven: self.proven, lost_pct: [at(0.5), at(0.95), at(1.0)] }
    }
}

/// Every comparison of two ways to plan, on so many batches.
pub fn table(slots: u32, instances: u64, node_cap: u64) -> Vec<Row> {
    let pipeline = StepModel::Pipeline { slots, order: CopyOrder::ReadyFirst };
    let spaces = [PlacementSpace::Distance, PlacementSpace::Layers];
    let [mut prefix, mut simulated] = [(); 2].map(|()| [Way::default(), Way::default()]);
    let mut scratch = Scratch::default();
    for seed in 0..instances {
        let truth = Instance { model: pipeline, node_cap, ..samples::pressured(seed) };
        for (place, space) in spaces.into_iter().enumerate() {
            for (model, ways) in [(StepModel::Prefix, &mut prefix), (pipeline, &mut simulated)] {
                let plan = search(&Instance { model, space, ..truth.clone() }, &mut scratch);
                ways[place].add(&truth, &plan.expect("a pressured batch has a plan"));
            }
        }
    }
    let [by_distance, any] = &simulated;
    vec![
        prefix[0].beside("distances by prefix", by_distance, "distances by pipeline"),
        prefix[1].beside("layers by prefix", any, "layers by pipeline"),
        prefix[1].beside("layers by prefix", &prefix[0], "distances by prefix"),
        by_distance.beside("distances by pipeline", any, "layers by pipeline"),
    ]
}
