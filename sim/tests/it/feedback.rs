//! Trigger (d): a planner whose belief is wrong finds the true rates, and one that is right is left alone.

use orbitflow_sim::cost::{CostModel, LinkModel, Pieces};
use orbitflow_sim::engine::{self, EngineRequest, Setup};
use orbitflow_sim::planner::PlannerSwitches;
use orbitflow_sim::policy::orbitflow::OrbitFlow;
use orbitflow_sim::policy::{Decision, Policy, View};
use orbitflow_sim::record::Discard;
use orbitflow_sim::server::{ServerConfig, ServerSwitches};
use orbitflow_sim::trace::Arrival;
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration, SimTime};

use crate::random_scenarios::wrong_about_the_link;
use crate::servers;

/// OrbitFlow, and the corrections it believed in at each decode step.
struct Watched {
    policy: OrbitFlow,
    copy: Vec<f64>,
    compute: Vec<f64>,
}

impl Policy for Watched {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        let decision = self.policy.decide(view);
        if view.stage == orbitflow_sim::policy::Stage::Decode {
            self.copy.push(self.policy.copy_correction());
            self.compute.push(self.policy.compute_correction());
        }
        decision
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        self.policy.fewest_resident(layers)
    }
}

/// Two requests that do not fit together on an A6000 (published fit), so that every step copies.
fn watch(belief: CostModel, truth: &CostModel) -> Watched {
    let slo = SimDuration::from_secs_f64(0.2);
    let request = |tokens| EngineRequest {
        arrival: Arrival::At(SimTime::ZERO),
        prompt_tokens: tokens,
        output_tokens: 60,
        slo,
    };
    let server = ServerConfig {
        batch_size: 2,
        gpu_blocks: 561 * 32,
        host_kv: None,
        max_context: None,
        switches: ServerSwitches::PHYSICAL,
        seed: 1,
    };
    let mut watched =
        Watched { policy: OrbitFlow::new(PlannerSwitches::PHYSICAL, belief), copy: vec![], compute: vec![] };
    let setup = Setup {
        requests: &[request(6000), request(5000)],
        server: &server,
        footprint: servers::llama().footprint(),
        truth,
    };
    engine::run(setup, &mut watched, &mut Discard);
    watched
}

#[test]
fn a_link_belief_that_is_2x_wrong_is_within_5_percent_after_20_steps() {
    let truth = servers::a6000();
    for factor in [2.0, 0.5] {
        let watched = watch(wrong_about_the_link(&truth, factor), &truth);
        // Believed copy time over the true one: correction / factor.
        let error: Vec<f64> = watched.copy.iter().map(|correction| correction / factor - 1.0).collect();
        assert!(error[0].abs() > 0.4, "it starts wrong: {}", error[0]);
        assert!(error[20].abs() < 0.05, "after 20 steps with {factor}x: {:?}", &error[..=20]);
        assert!(error[20..].iter().all(|e| e.abs() < 0.05), "and it stays there");
        assert!(watched.compute.iter().all(|c| (c - 1.0).abs() < 1e-9), "compute was right and stays");
    }
}

#[test]
fn a_correct_belief_in_a_measured_link_curve_is_never_touched() {
    // Copies of this run (19 to 25 MB) lie on both sides of the knee: no line through the curve meets both.
    let truth = servers::a6000();
    let slow = BytesPerSec::try_from_f64(3.5e9).expect("a rate");
    let pieces = Pieces {
        piece: None,
        knee: Bytes::new(22_000_000),
        small_rate: slow,
        submit: SimDuration::ZERO,
        engine: SimDuration::ZERO,
    };
    let link = LinkModel { pieces: Some(pieces), ..truth.h2d };
    let truth = CostModel { h2d: link, ..truth };
    let watched = watch(truth.clone(), &truth);
    assert!(watched.copy.iter().chain(&watched.compute).all(|correction| *correction == 1.0));
}

#[test]
fn a_correct_belief_is_never_touched() {
    let truth = servers::a6000();
    let watched = watch(truth.clone(), &truth);
    assert!(watched.copy.len() > 50);
    assert!(watched.copy.iter().chain(&watched.compute).all(|correction| *correction == 1.0));
}
