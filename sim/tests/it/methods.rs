//! What each method answers for one batch: the worked numbers of its documentation, and where it differs from its
//! neighbours.
//!
//! The server: one A6000 as published (561 blocks per layer, 17,952 layer-blocks; 106,952 layer-blocks/s; compute
//! 6.74e-7·T + 0.0406 s), 32 layers, published semantics (nothing charged for staging) unless a test says otherwise.

use std::collections::VecDeque;
use std::path::Path;

use orbitflow_sim::cost::CostModel;
use orbitflow_sim::deposit::Playback;
use orbitflow_sim::ids::RequestId;
use orbitflow_sim::model::{Distance, LayerSet, Placement};
use orbitflow_sim::planner::{Objective, PlannerSwitches, Victim};
use orbitflow_sim::policy::registry::{self, Known};
use orbitflow_sim::policy::{Decision, LiveRequest, Policy, RunState, Stage, View, WaitingRequest, victim};
use orbitflow_sim::record::Trigger;
use orbitflow_sim::runner::{self, Options};
use orbitflow_sim::scenario::Scenario;
use orbitflow_sim::server::{ServerConfig, ServerSwitches};
use orbitflow_sim::units::{Bytes, SimDuration, SimTime};

use crate::servers;

/// A batch at a step boundary.
pub struct Batch {
    live: Vec<LiveRequest>,
    waiting: VecDeque<WaitingRequest>,
    pub server: ServerConfig,
    step: u64,
    live_set_changed: bool,
}

fn ms(millis: f64) -> SimDuration {
    SimDuration::from_secs_f64(millis / 1e3)
}

/// Requests of these contexts in their next step, in admission order, all resident, with an SLO of 69.97 ms.
pub fn batch(contexts: &[u64]) -> Batch {
    let live = (0..).zip(contexts).map(|(id, context)| LiveRequest {
        id: RequestId(id),
        prompt_tokens: context - 1,
        prefilled: context - 1,
        generated: 1,
        state: RunState::Running,
        placement: Placement::default(),
        missing: LayerSet::EMPTY,
        admitted: u64::from(id),
        slo: ms(69.97),
        playback: Playback::start(SimTime::ZERO),
    });
    Batch {
        live: live.collect(),
        waiting: VecDeque::new(),
        server: ServerConfig {
            batch_size: 8,
            gpu_blocks: 17_952,
            host_kv: None,
            max_context: None,
            switches: ServerSwitches::PUBLISHED,
            seed: 7,
        },
        step: 1,
        live_set_changed: true,
    }
}

impl Batch {
    fn view(&self, stage: Stage) -> View<'_> {
        View {
            stage,
            now: SimTime::ZERO,
            step: self.step,
            layers: 32,
            block_bytes: Bytes::new(65_536),
            server: &self.server,
            live: &self.live,
            preempted: &[],
            waiting: &self.waiting,
            host_used: Bytes::ZERO,
            live_set_changed: self.live_set_changed,
            measured: None,
        }
    }

    fn with_slo(mut self, millis: f64) -> Self {
        self.live.iter_mut().for_each(|request| request.slo = ms(millis));
        self
    }

    fn decide(&self, policy: &mut dyn Policy) -> Decision {
        policy.decide(&self.view(Stage::Decode))
    }

    /// The distance that the policy gives each request, by its number of offloaded layers and its first one.
    pub fn distances(&self, policy: &mut dyn Policy) -> Vec<Distance> {
        let decision = self.decide(policy);
        let placed = |request: &LiveRequest| {
            let own = decision.placements.iter().find(|(id, _)| *id == request.id);
            own.map_or(request.placement, |(_, placement)| *placement)
        };
        self.live.iter().map(|request| distance_of(placed(request))).collect()
    }
}

fn distance_of(placement: Placement) -> Distance {
    placement.offloaded.first().map_or(Distance::Resident, |first| Distance::At(first.0 - 1))
}

/// A method of the registry on an A6000, told that requests end with `mean` tokens.
fn method_of(key: &str, switches: PlannerSwitches, belief: CostModel, mean: u64) -> Box<dyn Policy> {
    let known = Known { truth: belief.clone(), belief, mean_final_tokens: mean };
    registry::find(key).expect("a method").method.build(switches, &known)
}

fn method(key: &str, mean: u64) -> Box<dyn Policy> {
    method_of(key, PlannerSwitches::PUBLISHED, servers::a6000(), mean)
}

#[test]
fn fixed_methods_offload_the_same_layers_of_every_request_from_the_start() {
    let offloaded = |key: &str| {
        let mut batch = batch(&[]);
        batch.waiting.push_back(WaitingRequest { id: RequestId(0), prompt_tokens: 1600 });
        let decision = method(key, 0).decide(&batch.view(Stage::Admit));
        assert!(batch.decide(&mut *method(key, 0)).placements.is_empty(), "nothing ever changes");
        decision.admit[0].placement.offloaded.len()
    };
    let keys = ["static-1", "static-2", "static-4", "static-8", "next-layer", "resident"];
    assert_eq!(keys.map(offloaded), [16, 10, 6, 3, 32, 0]);
}

#[test]
fn the_heuristic_counts_two_spare_blocks_and_rounds_as_published() {
    // 200 + 300 + 400 blocks and 6 spare: floor(17,952 / 906) = 19 stay, 13 go: 32/13 − 1 = 1.
    let distances = batch(&[3200, 4800, 6400]).distances(&mut *method("heuristic", 0));
    assert_eq!(distances, [Distance::At(1); 3]);
    // 606: 29 stay, 3 go: floor(32/3) − 1 = 9.
    let distances = batch(&[3200, 4800, 1600]).distances(&mut *method("heuristic", 0));
    assert_eq!(distances, [Distance::At(9); 3]);
}

#[test]
fn flexgen_makes_room_for_the_mean_final_length() {
    // 250 + 250 + 300 blocks and 3 spare: floor(17,952 / 803) = 22 stay, 10 go: floor(32/10) − 1 = 2.
    let mut batch = batch(&[1600, 3200, 4800]);
    assert_eq!(batch.distances(&mut *method("flexgen", 4000)), [Distance::At(2); 3]);
    // The heuristic makes room for what is there: 606, so 29 stay, 3 go: floor(32/3) − 1 = 9.
    assert_eq!(batch.distances(&mut *method("heuristic", 4000)), [Distance::At(9); 3]);
    // Two staging slots of 800 blocks charged: floor(16,352 / 803) = 20 stay, 12 go: 32/12 − 1 = 1.
    batch.server.switches.charge_staging = true;
    batch.server.switches.slots = 2;
    assert_eq!(batch.distances(&mut *method("flexgen", 4000)), [Distance::At(1); 3]);
}

#[test]
fn flexgen_gives_a_newcomer_what_its_rule_says_of_the_free_blocks() {
    // r0 holds 32 · 320 = 10,240 (context 5,121, of which 5,120 are filled): 7,712 are free. The newcomer would fit
    // whole (32 · 100), but with 250 blocks and a spare floor(7,712 / 251) = 30 layers stay: 32/2 − 1 = 15.
    let mut batch = batch(&[5121]);
    batch.waiting.push_back(WaitingRequest { id: RequestId(1), prompt_tokens: 1600 });
    let admitted = |key: &str| {
        let decision = method(key, 4000).decide(&batch.view(Stage::Admit));
        decision.admit.iter().map(|admit| distance_of(admit.placement)).collect::<Vec<_>>()
    };
    assert_eq!(admitted("flexgen"), [Distance::At(15)]);
    assert_eq!(admitted("heuristic"), [Distance::Resident]);
}

#[test]
fn selectn_offloads_what_compute_and_the_slo_hide() {
    // Σ b̂ = 800 blocks, T = 12,800: compute 49.227 ms, a layer's copies 7.480 ms.
    // 69.97 / 7.48 = 9.35 → 8 layers, d = 3; 49.227 / 7.48 = 6.58 → 6, d = 4; 116.62 / 7.48 = 15.6 → 10, d = 2.
    for (slo, distance) in [(69.97, 3), (46.65, 4), (116.62, 2)] {
        let batch = batch(&[1600, 1600, 3200, 3200]).with_slo(slo);
        let mut policy = method("selectn", 3200);
        assert!(policy.looks_at_slo());
        assert_eq!(batch.distances(&mut *policy), [Distance::At(distance); 4], "SLO {slo} ms");
    }
    // The tightest promise of the batch counts.
    let mut mixed = batch(&[1600, 1600, 3200, 3200]);
    mixed.live[2].slo = ms(46.65);
    assert_eq!(mixed.distances(&mut *method("selectn", 3200)), [Distance::At(4); 4]);
}

#[test]
fn selectn_keeps_its_distance_until_the_live_set_changes() {
    let mut policy = method("selectn", 3200);
    assert_eq!(batch(&[1600; 4]).distances(&mut *policy), [Distance::At(3); 4]);
    let shorter = Batch { live_set_changed: false, ..batch(&[1600]) };
    assert_eq!(shorter.distances(&mut *policy), [Distance::At(3)]);
    // Alone: 69.97 / (200 blocks, 1.87 ms) = 37 layers: all 16 that may go.
    assert_eq!(batch(&[1600]).distances(&mut *policy), [Distance::At(1)]);
}

#[test]
fn a_uniform_method_whose_distance_does_not_fit_takes_the_next_denser_and_is_refused() {
    // 4 · 200 blocks at d = 3 are 24 · 800 = 19,200 of 17,952; d = 2: 22 · 800 = 17,600.
    let decision = batch(&[3200; 4]).decide(&mut *method("selectn", 3200));
    let chosen: Vec<Distance> =
        decision.placements.iter().map(|(_, placement)| distance_of(*placement)).collect();
    assert_eq!(chosen, [Distance::At(2); 4]);
    assert!(decision.refused);
}

#[test]
fn selectn_as_coded_is_resident_for_short_batches_and_distance_one_for_the_rest() {
    // Comm(T) = 1.87e-5·T + 0.0106 with the intercept: 0.0106 = intercept + 0.0406/32.
    let belief = CostModel { link_intercept: ms(10.6 - 40.6 / 32.0), ..servers::a6000() };
    let coded = PlannerSwitches { as_coded: true, ..PlannerSwitches::PUBLISHED };
    let distance = |tokens: u64| {
        let mut policy = method_of("selectn", coded, belief.clone(), tokens);
        assert!(!policy.looks_at_slo());
        batch(&[1]).distances(&mut *policy)[0]
    };
    // compute/Comm: 3.0003 at 158, 2.9966 at 159; 2.0001 at 528, 1.9993 at 529; 1.0000… at 1,664, less at 1,665.
    assert_eq!([distance(158), distance(159)], [Distance::At(10), Distance::At(16)]);
    assert_eq!([distance(528), distance(529)], [Distance::At(16), Distance::Resident]);
    assert_eq!([distance(1664), distance(1665)], [Distance::Resident, Distance::At(1)]);
    assert_eq!(distance(100_000), Distance::At(1));
    // d = 10 is not the widest with two layers (that is 15), and is used as it is.
    assert_eq!(Distance::At(10).offloaded(32), Distance::At(15).offloaded(32));
}

#[test]
fn selectn_as_coded_scores_as_static_1_on_batches_of_long_requests() {
    // Facts L: equal to the last digit, since T is never below the mean, thousands of tokens: d = 1 in every step. Only
    // a newcomer's layout until its first decode differs, which costs nothing.
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let policies = "policies=[\"static-1\", { use = \"selectn\", as_coded = true }]";
    let overrides = ["trace.limit=20", "semantics=published", policies].map(str::to_owned);
    let prepared =
        runner::prepare(&Scenario::load(&demo, &overrides).expect("a scenario")).expect("it is whole");
    let results = runner::compare(&prepared, &prepared.contenders, Options::default()).saved.results;
    let [fixed, coded] = &results.policies[..] else { panic!("two policies") };
    assert_eq!(fixed.attainment_pct, coded.attainment_pct);
    assert_eq!((fixed.bytes.h2d_prefetch, fixed.makespan_s), (coded.bytes.h2d_prefetch, coded.makespan_s));
    assert!(fixed.bytes.h2d_prefetch > 0);
}

/// Two requests of 600 and 200 blocks: with a common distance only d = 1 leaves room for their growth.
fn two() -> Batch {
    batch(&[9600, 3200])
}

#[test]
fn uniform_pays_for_one_common_distance_what_orbitflow_saves() {
    // Capacity 17,952 − 100; in a window of 128 tokens they grow to 608 and 208 blocks.
    // Common: 17,852 / 816 = 21 layers may stay, so 16 go: 16 · 800 blocks, 119.68 ms of copies, of which
    // 31 · 1.538 ms are hidden: 49.227 + 71.992 = 121.219 ms.
    let uniform = two().decide(&mut *method("uniform", 0));
    assert!((uniform.forecast.expect("a plan").as_secs_f64() - 0.121_219).abs() < 1e-6, "{uniform:?}");
    assert_eq!(two().distances(&mut *method("uniform", 0)), [Distance::At(1); 2]);
    // Each its own: 22 · 608 + 16 · 208 = 16,704. Up to layer 30 9,000 blocks, 84.150 ms, are copied, and 29 layers
    // of compute hide 44.612: 49.227 + 39.538 = 88.765 ms.
    let own = two().decide(&mut *method("orbitflow", 0));
    assert!((own.forecast.expect("a plan").as_secs_f64() - 0.088_765).abs() < 1e-6, "{own:?}");
    assert_eq!(two().distances(&mut *method("orbitflow", 0)), [Distance::At(2), Distance::At(1)]);
}

#[test]
fn deposit_and_then_pausing_are_what_uniform_td_and_td_pr_add() {
    // F = 0.5: 2·(1 − 69.97/t) ≤ 0.5 is t ≤ 93.3 ms, and the one plan takes 121.2. With 64 of 128 tokens in each
    // deposit 2·(0.5 − 69.97/t) ≤ 0.5 is t ≤ 279.9 ms.
    let strict = PlannerSwitches { failure_budget: 0.5, ..PlannerSwitches::PUBLISHED };
    let decide = |key: &str, batch: &Batch| batch.decide(&mut *method_of(key, strict, servers::a6000(), 0));
    let mut ahead = two();
    ahead
        .live
        .iter_mut()
        .for_each(|request| request.playback = Playback::start(SimTime::ZERO + ms(64.0 * 69.97)));
    let infeasible = |decision: &Decision| decision.plan.as_ref().expect("it was asked").infeasible_slo;

    for batch in [&two(), &ahead] {
        let uniform = decide("uniform", batch);
        assert_eq!((infeasible(&uniform), uniform.forecast), (1, None), "the heuristic places it");
    }
    assert_eq!(infeasible(&decide("uniform-td", &two())), 1);
    let deposit = decide("uniform-td", &ahead);
    assert_eq!(infeasible(&deposit), 0);
    assert!((deposit.forecast.expect("a plan").as_secs_f64() - 0.121_219).abs() < 1e-6);
    // Without a deposit, td-pr pauses the longest: 200 blocks alone are resident.
    let paused = decide("uniform-td-pr", &two());
    assert_eq!((infeasible(&paused), paused.run), (1, Some(vec![RequestId(1)])));
    assert_eq!(decide("uniform-td-pr", &ahead).run.map(|run| run.len()), Some(2));
}

/// Contexts and SLOs of the worked example in `policy::victim`.
fn mixed() -> Batch {
    let mut batch = batch(&[500, 700, 700, 300]);
    for (request, slo) in batch.live.iter_mut().zip([50.0, 70.0, 50.0, 70.0]) {
        request.slo = ms(slo);
    }
    batch
}

#[test]
fn a_victim_is_what_its_rule_names_and_equals_go_to_the_last_admitted() {
    let mixed = mixed();
    let choose = |rule, candidates: &[usize]| {
        victim::choose(&mixed.view(Stage::Decode), rule, candidates.iter().copied())
    };
    assert_eq!(choose(Victim::Longest, &[0, 1, 2, 3]), Some(2));
    assert_eq!(choose(Victim::Longest, &[0, 1, 3]), Some(1), "only candidates");
    assert_eq!(choose(Victim::Shortest, &[0, 1, 2, 3]), Some(3));
    assert_eq!(choose(Victim::Shortest, &[1, 2]), Some(2));
    assert_eq!(choose(Victim::TightestSlo, &[0, 1, 2, 3]), Some(2));
    assert_eq!(choose(Victim::LoosestSlo, &[0, 1, 2, 3]), Some(3));
    assert!(Victim::ALL.iter().all(|rule| choose(*rule, &[]).is_none()));
}

#[test]
fn a_random_victim_depends_on_seed_and_step_and_not_on_who_else_is_a_candidate() {
    let mut mixed = mixed();
    let mut chosen = [0; 4];
    for step in 0..400 {
        mixed.step = step;
        let choose = |candidates: &[usize]| {
            let view = mixed.view(Stage::Decode);
            victim::choose(&view, Victim::Random, candidates.iter().copied()).expect("someone")
        };
        let first = choose(&[0, 1, 2, 3]);
        chosen[first] += 1;
        // Whoever comes before all is also before any of them.
        for other in (0..4).filter(|other| *other != first) {
            assert_eq!(choose(&[first.min(other), first.max(other)]), first, "step {step}");
        }
    }
    // 400 draws over four: 100 each, and a deviation of 8.7.
    assert!(chosen.iter().all(|count| (65..135).contains(count)), "{chosen:?}");
    let by_seed = |seed| {
        let mut batch = self::mixed();
        batch.server.seed = seed;
        let victims = (0..40).map(|step| {
            batch.step = step;
            victim::choose(&batch.view(Stage::Decode), Victim::Random, 0..4)
        });
        victims.collect::<Vec<_>>()
    };
    assert_eq!(by_seed(1), by_seed(1));
    assert_ne!(by_seed(1), by_seed(2));
}

#[test]
fn an_infeasible_batch_pauses_the_victim_that_the_switch_names() {
    // Four of 400 blocks and more do not fit at their densest; whoever goes first, one is enough.
    let mut batch = batch(&[6000, 5000, 5500, 4500]);
    for (request, slo) in batch.live.iter_mut().zip([500.0, 400.0, 700.0, 600.0]) {
        request.slo = ms(slo);
    }
    batch.server.gpu_blocks = 16 * 1290;
    for (victim, gone) in
        [(Victim::Longest, 0), (Victim::Shortest, 3), (Victim::TightestSlo, 1), (Victim::LoosestSlo, 2)]
    {
        let switches = PlannerSwitches { victim, ..PlannerSwitches::PUBLISHED };
        let decision = batch.decide(&mut *method_of("orbitflow", switches, servers::a6000(), 0));
        let run = decision.run.expect("a plan");
        assert!(!run.contains(&RequestId(gone)) && run.len() == 3, "{victim:?}: {run:?}");
    }
}

#[test]
fn a_plan_is_made_anew_when_its_window_is_over_unless_that_is_switched_off() {
    let plans_after_a_window = |replan_at_window_end| {
        let mut batch = two();
        let switches = PlannerSwitches { replan_at_window_end, ..PlannerSwitches::PUBLISHED };
        let mut policy = method_of("orbitflow", switches, servers::a6000(), 1);
        let first = batch.decide(&mut *policy);
        assert!(first.plan.is_some());
        for (id, placement) in first.placements {
            batch.live[id.index()].placement = placement;
        }
        // The widest window is 128 steps; the contexts are left as they are, so nothing else can trigger.
        batch.step += 128;
        batch.live_set_changed = false;
        batch.decide(&mut *policy).plan.map(|plan| plan.trigger)
    };
    assert_eq!(plans_after_a_window(true), Some(Trigger::Window));
    assert_eq!(plans_after_a_window(false), None);
}

#[test]
fn the_goodput_objective_leaves_out_whoever_costs_more_tokens_on_time_than_it_makes() {
    // Together 2 · 69.97/88.765 / 88.765 ms = 17.76 tokens/s; without the longer one 1/42.757 ms = 23.39.
    let goodput = PlannerSwitches { objective: Objective::Goodput, ..PlannerSwitches::PUBLISHED };
    let run = |batch: &Batch, switches| {
        let decision = batch.decide(&mut *method_of("orbitflow", switches, servers::a6000(), 1));
        let plan = decision.plan.expect("a plan");
        (decision.run.expect("someone runs"), plan.solves.len())
    };
    let (both, shorter) = (vec![RequestId(0), RequestId(1)], vec![RequestId(1)]);
    assert_eq!(run(&two(), PlannerSwitches::PUBLISHED), (both.clone(), 1));
    assert_eq!(run(&two(), goodput), (shorter, 2), "tried without the longer one, and kept so");
    // Two of 250 blocks fit as they are: compute at 8,000 tokens is 45.99 ms, 2/45.99 ms = 43.5 tokens/s against
    // 1/43.30 ms = 23.1 of one.
    assert_eq!(run(&batch(&[4000, 4000]), goodput), (both, 2), "tried, and both stay");
    // Shortest first would leave out the other one: 600 blocks alone take 47.07 ms with some layers offloaded or none,
    // so at most 1/47.07 ms = 21.2 tokens/s, which is still more than 17.76.
    let shortest = PlannerSwitches { victim: Victim::Shortest, ..goodput };
    assert_eq!(run(&two(), shortest).0, [RequestId(0)]);
}

#[test]
fn the_goodput_objective_loses_no_request_and_does_not_ping_pong() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let run = |objective: &str| {
        let objective = format!("planner.objective=\"{objective}\"");
        let overrides = ["policies=[\"orbitflow\"]", "slo.scale=[1.5]", &objective];
        let scenario = Scenario::load(&demo, &overrides.map(str::to_owned)).expect("the demo");
        let prepared = runner::prepare(&scenario).expect("a server");
        let options = Options { laws: true, ..Options::default() };
        let mut comparison = runner::compare(&prepared, &prepared.contenders, options);
        assert!(comparison.broken.is_empty(), "a law is broken");
        comparison.saved.results.policies.remove(0)
    };
    let (time, goodput) = (run("step-time"), run("goodput"));
    assert_eq!(goodput.requests.finished, time.requests.finished);
    assert_ne!(goodput.event_digest, time.event_digest, "it pauses where step-time does not");
    // Reference runs that ping-ponged had 34 to 120 pauses in all for the 4 to 14 of others.
    assert!(goodput.pauses.count < 3 * goodput.requests.arrived, "{:?}", goodput.pauses);
}
