//! A placement policy from outside the library, beside OrbitFlow on the demo's trace:
//! `cargo run --release --package orbitflow-sim --example own_policy`.

use std::path::Path;

use orbitflow_sim::model::{Distance, Placement};
use orbitflow_sim::policy::{Decision, LiveRequest, Policy, Stage, View, admission};
use orbitflow_sim::runner::{self, Comparison, Contender, Options};
use orbitflow_sim::{report, scenario::Scenario};

/// Every second layer of the longest requests is offloaded: of as few of them as the pool allows.
struct LongestFirst;

impl Policy for LongestFirst {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        let dense = Placement::at(Distance::At(1), view.layers);
        let slots = view.server.switches.slots;
        if view.stage == Stage::Admit {
            return admission::first_come_first_served(view, &[Placement::RESIDENT, dense], slots);
        }
        let mut running: Vec<&LiveRequest> = view.running().collect();
        running.sort_by_key(|request| request.context());
        let need = |request: &LiveRequest, placement| view.gpu_need(placement, request.blocks(), slots);
        let mut left = view.server.gpu_blocks - view.server.gpu_blocks / 100; // one percent to grow into
        for (index, request) in running.iter().enumerate() {
            let longer: u64 = running[index + 1..].iter().map(|other| need(other, dense)).sum();
            if need(request, Placement::RESIDENT) + longer > left {
                let (short, long) = running.split_at(index);
                let resident = short.iter().map(|request| (request.id, Placement::RESIDENT));
                let placements = resident.chain(long.iter().map(|request| (request.id, dense)));
                return Decision { placements: placements.collect(), ..Decision::default() };
            }
            left -= need(request, Placement::RESIDENT);
        }
        let placements = running.iter().map(|request| (request.id, Placement::RESIDENT)).collect();
        Decision { placements, ..Decision::default() }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers - layers / 2
    }
}

/// The demo's OrbitFlow and static offloading, and a third: ours.
pub fn comparison() -> anyhow::Result<Comparison> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let scenario = Scenario::load(&demo, &["policies=[\"orbitflow\", \"static-1\"]".to_owned()])?;
    let mut prepared = runner::prepare(&scenario)?;
    let mut contenders = std::mem::take(&mut prepared.contenders);
    contenders.push(Contender::new("longest-first", "Longest first", || Box::new(LongestFirst)));
    Ok(runner::compare(&prepared, &contenders, Options { laws: true, ..Options::default() }))
}

fn main() -> anyhow::Result<()> {
    print!("{}", report::text(&comparison()?.saved.results));
    Ok(())
}
