//! A placement policy from outside the library, beside OrbitFlow on the demo's trace:
//! `cargo run --release --package orbitflow-sim --example own_policy`. `policy::guide` explains it step by step.

use std::path::Path;

use orbitflow_sim::model::{Distance, Placement};
use orbitflow_sim::policy::{Decision, Policy, Stage, View, admission};
use orbitflow_sim::runner::{self, Comparison, Contender, Options};
use orbitflow_sim::{report, scenario::Scenario};

/// Every second layer of the longest requests is offloaded: of as few of them as the pool allows.
pub struct LongestFirst;

impl Policy for LongestFirst {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        let dense = Placement::at(Distance::At(1), view.layers);
        let slots = view.server.switches.slots;
        if view.stage == Stage::Admit {
            return admission::first_come_first_served(view, &[Placement::RESIDENT, dense], slots);
        }
        let mut layout: Vec<_> = view.running().map(|request| (request, Placement::RESIDENT)).collect();
        layout.sort_by_key(|(request, _)| std::cmp::Reverse(request.context()));
        for longest in 0..layout.len() {
            let needs = layout.iter().map(|(request, at)| view.gpu_need(*at, request.blocks(), slots));
            if needs.sum::<u64>() <= view.server.gpu_blocks {
                break;
            }
            layout[longest].1 = dense;
        }
        let placements = layout.iter().map(|(request, placement)| (request.id, *placement)).collect();
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
    prepared.contenders.push(Contender::new("longest-first", "Longest first", || Box::new(LongestFirst)));
    Ok(runner::compare(&prepared, &prepared.contenders, Options { laws: true, ..Options::default() }))
}

fn main() -> anyhow::Result<()> {
    print!("{}", report::text(&comparison()?.saved.results));
    Ok(())
}
