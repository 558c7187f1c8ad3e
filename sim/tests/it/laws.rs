//! The laws of design §8 on every policy, over random small scenarios; and that those scenarios exercise what they
//! should.

use orbitflow_sim::digest::EventDigest;
use orbitflow_sim::engine::{self, Setup};
use orbitflow_sim::laws::{self, Laws};
use orbitflow_sim::metrics::{Metrics, Outcome, RequestFacts, ScaleSlo, Scoring};
use orbitflow_sim::planner::Victim;
use orbitflow_sim::policy::registry::{self, Entry, METHODS, Method};
use orbitflow_sim::trace::Arrival;
use orbitflow_sim::units::SimDuration;

use crate::random_scenarios::{Scenario, Seen, draw};

/// Scenarios per policy.
const SCENARIOS: u64 = 300;

fn metrics(scenario: &Scenario) -> Metrics<'static> {
    let facts = scenario
        .requests
        .iter()
        .map(|request| RequestFacts {
            id: "",
            prompt_tokens: request.prompt_tokens,
            output_tokens: request.output_tokens,
            slo: None,
            ttft_slo: None,
        })
        .collect();
    let scales = vec![ScaleSlo { scale: 1.0, slo: scenario.slo }];
    Metrics::new(facts, Scoring { scales, ttft_slo: None, warmup: SimDuration::ZERO })
}

fn law_facts(scenario: &Scenario) -> Vec<laws::RequestFacts> {
    scenario
        .requests
        .iter()
        .map(|request| laws::RequestFacts {
            output_tokens: request.output_tokens,
            previous_turn: match request.arrival {
                Arrival::AfterTurn { previous, .. } => Some(previous),
                Arrival::At(_) | Arrival::Step(_) => None,
            },
        })
        .collect()
}

fn setup(scenario: &Scenario) -> Setup<'_> {
    Setup {
        requests: &scenario.requests,
        server: &scenario.server,
        footprint: scenario.footprint,
        truth: &scenario.truth,
    }
}

fn totals(outcome: &Outcome<'_>) -> laws::Totals {
    laws::Totals {
        delivered_tokens: outcome.delivered_tokens,
        makespan: outcome.makespan,
        busy_and_idle: outcome.busy.sum() + outcome.idle,
    }
}

/// Runs one policy on one scenario under the laws, and says what happened and the digest of every event.
fn judge(entry: &Entry, seed: u64, scenario: &Scenario) -> (Seen, String) {
    let mut policy = entry.method.build(scenario.planner, &scenario.known);
    let mut metrics = metrics(scenario);
    let mut laws = Laws::new(law_facts(scenario));
    let mut digest = EventDigest::default();
    let mut seen = Seen::default();
    let mut sink = ((&mut metrics, &mut laws), (&mut digest, &mut seen));
    engine::run(setup(scenario), &mut *policy, &mut sink);
    let verdict = laws.finish(totals(&metrics.finish()));
    let listed: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
    assert!(verdict.holds(), "{} on seed {seed}: {listed:#?}\n{scenario:#?}", entry.key);
    (seen, digest.finish())
}

#[test]
fn laws_1_to_5_hold_for_every_policy_on_random_scenarios_that_exercise_everything() {
    let mut counts = Seen::default().by_name().map(|(name, _)| (name, 0));
    for seed in 0..SCENARIOS {
        let scenario = draw(seed);
        let mut any = Seen::default().by_name();
        for entry in METHODS {
            let (seen, _) = judge(entry, seed, &scenario);
            for (any, (_, happened)) in any.iter_mut().zip(seen.by_name()) {
                any.1 |= happened;
            }
        }
        for (count, (_, happened)) in counts.iter_mut().zip(any) {
            count.1 += u64::from(happened);
        }
    }
    for (name, count) in counts {
        let share = count * 100 / SCENARIOS;
        println!("{name}: in {count} of {SCENARIOS} random scenarios ({share} %)");
        assert!(share >= 5, "{name} occurs in only {share} % of the random scenarios");
    }
}

#[test]
fn law_7_the_same_run_twice_in_any_order_gives_the_same_events() {
    let digests = |seeds: &mut dyn Iterator<Item = u64>| {
        let mut all: Vec<(u64, &str, String)> = seeds
            .flat_map(|seed| {
                let scenario = draw(seed);
                METHODS
                    .iter()
                    .map(move |entry| (seed, entry.key, judge(entry, seed, &scenario).1))
                    .collect::<Vec<_>>()
            })
            .collect();
        all.sort();
        all
    };
    assert_eq!(digests(&mut (1000..1020)), digests(&mut (1000..1020).rev()));
}

#[test]
fn laws_1_to_5_hold_whoever_is_the_victim_and_every_rule_is_one_of_its_own() {
    let runs = Victim::ALL.map(|victim| {
        let mut pausing = 0;
        let mut digests = Vec::new();
        for seed in 2000..2060 {
            let mut scenario = draw(seed);
            scenario.planner.victim = victim;
            for key in ["orbitflow", "uniform-td-pr"] {
                let (seen, digest) = judge(registry::find(key).expect("a method"), seed, &scenario);
                pausing += u32::from(seen.pause);
                digests.push(digest);
            }
        }
        assert!(pausing >= 20, "{victim:?} is asked in only {pausing} of 120 runs");
        digests
    });
    for (index, run) in runs.iter().enumerate() {
        assert!(!runs[..index].contains(run), "{:?} is another rule's twin", Victim::ALL[index]);
    }
}

#[test]
fn orbitflow_without_pressure_places_everything_on_the_gpu_and_is_the_resident_policy() {
    // A pool that is never short: no method offloads, and all but the planner's own forecast is the same.
    for seed in 0..20 {
        let mut scenario = draw(seed);
        scenario.server.gpu_blocks *= 100;
        scenario.server.host_kv = None;
        scenario.known.belief = scenario.truth.clone();
        scenario.server.switches.solver_time = orbitflow_sim::server::SolverTime::Fixed(SimDuration::ZERO);
        let makespan = |method: Method| {
            let mut policy = method.build(scenario.planner, &scenario.known);
            let mut metrics = metrics(&scenario);
            engine::run(setup(&scenario), &mut *policy, &mut metrics);
            let outcome = metrics.finish();
            (outcome.makespan, outcome.traffic.h2d_prefetch, outcome.delivered_tokens)
        };
        assert_eq!(makespan(Method::OrbitFlow), makespan(Method::Resident), "seed {seed}");
        for other in [Method::Heuristic, Method::FlexGen, Method::UniformDepositPause] {
            assert_eq!(makespan(other), makespan(Method::Resident), "{other:?} on seed {seed}");
        }
    }
}
