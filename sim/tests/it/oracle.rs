//! The ceiling is one: no method's placement makes the same step of the same batch shorter, no placement at all where
//! every one can be looked at, and what is called optimal is.

use std::collections::VecDeque;
use std::path::Path;

use orbitflow_sim::cost::{ComputeModel, Contention, CostModel, LinkModel};
use orbitflow_sim::deposit::Playback;
use orbitflow_sim::engine::{self, Setup};
use orbitflow_sim::ids::RequestId;
use orbitflow_sim::model::{Distance, LayerSet, Placement};
use orbitflow_sim::pipeline::{self, CopyOrder, CopyTimes, LayerTimes, StepRequest, StepWork};
use orbitflow_sim::planner::PlannerSwitches;
use orbitflow_sim::planner::moves::{self, Costs, EXHAUSTIVE_CELLS, Found, Proof, Room};
use orbitflow_sim::policy::registry::{self, Known, METHODS, Method};
use orbitflow_sim::policy::{Decision, LiveRequest, RunState, Stage, View};
use orbitflow_sim::record::{Record, Sink, StepKind, StepProof};
use orbitflow_sim::runner;
use orbitflow_sim::scenario::Scenario;
use orbitflow_sim::server::{Noise, ServerConfig, ServerSwitches, WriteBack};
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration, SimTime};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{random_scenarios, servers};

/// A block of so many bytes makes whole numbers of bytes per second of the copies below.
const BLOCK: u64 = 60_000;

fn ms(millis: f64) -> SimDuration {
    SimDuration::from_secs_f64(millis / 1e3)
}

/// A batch at a step boundary, and what its steps cost.
struct Batch {
    live: Vec<LiveRequest>,
    server: ServerConfig,
    layers: u32,
    truth: CostModel,
}

/// `layers` layers of `layer_ms` each whatever the batch, `copy_ms` for one block.
fn cost(layers: u32, layer_ms: f64, copy_ms: f64) -> CostModel {
    let rate = BytesPerSec::try_from_f64(BLOCK as f64 / copy_ms * 1e3).expect("a rate");
    let link = LinkModel::line(SimDuration::ZERO, rate);
    let compute = ComputeModel::Affine { per_token_s: 0.0, base_s: layer_ms * f64::from(layers) / 1e3 };
    CostModel { layers, compute, h2d: link, d2h: link, ..servers::a6000() }
}

fn request(id: u32, blocks: u64, placement: Placement) -> LiveRequest {
    LiveRequest {
        id: RequestId(id),
        prompt_tokens: 16 * blocks - 1,
        prefilled: 16 * blocks - 1,
        generated: 1,
        state: RunState::Running,
        placement,
        missing: LayerSet::EMPTY,
        admitted: u64::from(id),
        slo: ms(100.0),
        playback: Playback::start(SimTime::ZERO),
    }
}

impl Batch {
    fn new(blocks: &[u64], gpu_blocks: u64, truth: CostModel) -> Self {
        let switches = ServerSwitches { slots: 2, ..ServerSwitches::PUBLISHED };
        let live = (0..).zip(blocks).map(|(id, blocks)| request(id, *blocks, Placement::RESIDENT)).collect();
        let server =
            ServerConfig { batch_size: 8, gpu_blocks, host_kv: None, max_context: None, switches, seed: 7 };
        Batch { live, server, layers: truth.layers, truth }
    }

    fn view<'a>(&'a self, nobody: &'a VecDeque<orbitflow_sim::policy::WaitingRequest>) -> View<'a> {
        View {
            stage: Stage::Decode,
            now: SimTime::ZERO,
            step: 1,
            layers: self.layers,
            block_bytes: Bytes::new(BLOCK),
            server: &self.server,
            live: &self.live,
            preempted: &[],
            waiting: nobody,
            host_used: Bytes::ZERO,
            live_set_changed: true,
            measured: None,
        }
    }

    fn decide(&self, method: Method, known: &Known) -> Decision {
        method.build(PlannerSwitches::PUBLISHED, known).decide(&self.view(&VecDeque::new()))
    }

    fn told_truth(&self) -> Known {
        Known { belief: self.truth.clone(), truth: self.truth.clone(), mean_final_tokens: 100 }
    }

    fn oracle(&self) -> Decision {
        self.decide(Method::Oracle, &self.told_truth())
    }

    /// The sets that the decision leaves behind.
    fn sets(&self, decision: &Decision) -> Vec<LayerSet> {
        let own = |id| decision.placements.iter().find(|(other, _)| *other == id);
        let placed = |r: &LiveRequest| own(r.id).map_or(r.placement, |(_, placement)| *placement).offloaded;
        self.live.iter().map(placed).collect()
    }

    fn room(&self) -> Room {
        let switches = &self.server.switches;
        Room {
            layers: self.layers,
            capacity: self.server.gpu_blocks,
            staging_slots: if switches.charge_staging { u64::from(switches.slots) } else { 0 },
            blocks: self.live.iter().map(LiveRequest::blocks).collect(),
        }
    }

    fn costs(&self) -> Costs {
        let tokens = self.live.iter().map(LiveRequest::context).sum();
        let copy = |r: &LiveRequest| self.truth.h2d.copy_time(Bytes::new(BLOCK * r.blocks()));
        Costs {
            layer: self.truth.layer_compute(tokens, self.live.len() as u32),
            copies: self.live.iter().map(copy).collect(),
            slots: self.server.switches.slots,
        }
    }

    /// The step by the event-driven pipeline, intercept included.
    fn time(&self, sets: &[LayerSet], slots: u32) -> SimDuration {
        let costs = self.costs();
        let one = |(set, copy): (&LayerSet, &SimDuration)| StepRequest {
            fetched: *set,
            copy: CopyTimes::Same(*copy),
        };
        let requests: Vec<StepRequest<'_>> = sets.iter().zip(&costs.copies).map(one).collect();
        let work = StepWork {
            layers: self.layers,
            compute: LayerTimes::Same(costs.layer),
            requests: &requests,
            slots,
            order: self.server.switches.copy_order,
            contention: self.truth.contention,
        };
        let copies = sets.iter().any(|set| !set.is_empty());
        let intercept = if copies { self.truth.link_intercept } else { SimDuration::ZERO };
        pipeline::timeline(&work, SimTime::ZERO, None).0.step + intercept
    }

    fn now(&self) -> Vec<LayerSet> {
        self.live.iter().map(|r| r.placement.offloaded).collect()
    }
}

fn layers_of(sets: &[LayerSet]) -> Vec<Vec<u32>> {
    sets.iter().map(|set| set.iter().map(|layer| layer.0).collect()).collect()
}

#[test]
fn free_layers_are_5_ms_ahead_of_the_best_distance_and_no_step_is_shorter_than_compute() {
    // A pool of 2 layers of one block: two of four must go. Distance 1, layers 2 and 4: copies end at 15 and 30, layer 2
    // starts 5 ms late: 45. Layers 3 and 4: 40 ms, all of it compute.
    let batch = Batch::new(&[1], 2, cost(4, 10.0, 15.0));
    let uniform = Placement::at(Distance::At(1), 4).offloaded;
    assert_eq!(batch.time(&[uniform], 2), ms(45.0));
    let decision = batch.oracle();
    assert_eq!(layers_of(&batch.sets(&decision)), [[3, 4]]);
    assert_eq!((decision.forecast, decision.proof), (Some(ms(40.0)), Some(StepProof::Optimal)));
}

#[test]
fn copies_and_the_layer_fetched_last_are_a_proof_and_an_equally_fast_layout_stays() {
    // Two copies of 25 ms and layer 4: 60 ms, for layers 2 and 4 as for 3 and 4.
    for stays in [vec![2, 4], vec![3, 4]] {
        let mut batch = Batch::new(&[1], 2, cost(4, 10.0, 25.0));
        batch.live[0].placement.offloaded =
            stays.iter().map(|layer| orbitflow_sim::ids::Layer(*layer)).collect();
        let decision = batch.oracle();
        assert!(decision.placements.is_empty(), "{stays:?}: {decision:?}");
        assert_eq!((decision.forecast, decision.proof), (Some(ms(60.0)), Some(StepProof::Optimal)));
    }
    // One slot: the second copy waits for the first one's layer. 2·(25 + 10) = 70.
    let mut batch = Batch::new(&[1], 2, cost(4, 10.0, 25.0));
    batch.server.switches.slots = 1;
    let decision = batch.oracle();
    assert_eq!((decision.forecast, decision.proof), (Some(ms(70.0)), Some(StepProof::Optimal)));
}

#[test]
fn next_layer_s_second_slot_never_beats_distance_1_with_one() {
    // L = 4, C = 15: 2·(15 + 10) = 50 against 4·15 + 10 = 70; L = 5: 60 against 85; C = 5: 4·10 against 5 + 4·10.
    for layers in [4, 5, 32, 33] {
        for copy in [5.0, 10.0, 15.0, 30.0] {
            let mut batch = Batch::new(&[1, 2], u64::MAX, cost(layers, 10.0, copy / 3.0));
            for order in [CopyOrder::ReadyFirst, CopyOrder::InOrder] {
                batch.server.switches.copy_order = order;
                let step = |distance, slots| {
                    batch.time(&[Placement::at(Distance::At(distance), layers).offloaded; 2], slots)
                };
                let (one, two) = (step(1, 1), step(0, 2));
                let turns = f64::from(layers / 2) * (10.0 + copy.max(10.0)) + 10.0 * f64::from(layers % 2);
                assert!(one.as_secs_f64() * 1e3 <= turns + 1e-6, "{layers} layers, {copy} ms: {one}");
                let whole = f64::max(copy + 10.0 * f64::from(layers), copy * f64::from(layers) + 10.0);
                assert!((two.as_secs_f64() * 1e3 - whole).abs() < 1e-6, "{layers} layers, {copy} ms: {two}");
                assert!(one <= two);
            }
        }
    }
}

/// A random batch under pressure: up to 4 requests, 4 to 32 layers, both orders, 1 to 3 slots, charged or not.
fn draw(seed: u64) -> Batch {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let layers = [4, 5, 8, 10, 16, 32][random.random_range(0..6)];
    let requests = random.random_range(1..=4);
    let blocks: Vec<u64> = match random.random_range(0..3) {
        0 => vec![random.random_range(1..40); requests],
        _ => (0..requests).map(|_| random.random_range(1..60)).collect(),
    };
    let all: u64 = blocks.iter().sum();
    // Copies of one layer take 0.2 to 3 times as long as the layer.
    let copy_ms = 10.0 * f64::from(random.random_range(20..300)) / 100.0 / all as f64;
    let pool = all * u64::from(layers) * random.random_range(45..102) / 100;
    let mut batch = Batch::new(&blocks, pool, cost(layers, 10.0, copy_ms));
    let switches = &mut batch.server.switches;
    switches.slots = random.random_range(1..4);
    switches.charge_staging = random.random_bool(0.4);
    if switches.charge_staging {
        batch.server.gpu_blocks += u64::from(switches.slots) * all;
    }
    if random.random() {
        switches.copy_order = CopyOrder::InOrder;
    }
    if random.random_bool(0.2) {
        batch.truth.contention = Contention::of_factors(1.4, 1.2).expect("two slowdowns");
    }
    if random.random_bool(0.2) {
        batch.truth.link_intercept = ms(3.0);
    }
    let candidates = Distance::candidates(layers);
    for request in &mut batch.live {
        request.placement = Placement::at(candidates[random.random_range(0..candidates.len())], layers);
    }
    batch
}

#[test]
fn no_method_s_placement_makes_the_same_step_shorter() {
    let (mut compared, mut ahead, mut optimal, mut steps) = (0, 0, 0, 0);
    for seed in 0..300 {
        let batch = draw(seed);
        // Whoever plans believes in a link twice as fast, or half as fast, or the true one.
        let factor = [1.0, 2.0, 0.5][seed as usize % 3];
        let belief = random_scenarios::wrong_about_the_link(&batch.truth, factor);
        let known = Known { belief, ..batch.told_truth() };
        let oracle = batch.decide(Method::Oracle, &known);
        let Some(forecast) = oracle.forecast else { continue };
        let slots = batch.server.switches.slots;
        let sets = batch.sets(&oracle);
        assert_eq!(batch.time(&sets, slots), forecast, "seed {seed}: it knows what its step takes");
        steps += 1;
        optimal += u32::from(oracle.proof == Some(StepProof::Optimal));
        for entry in METHODS.iter().filter(|entry| entry.method != Method::Oracle) {
            let policy = entry.method.build(PlannerSwitches::PUBLISHED, &known);
            let own_slots = policy.slots().unwrap_or(batch.server.switches.slots);
            let decision = batch.decide(entry.method, &known);
            // A fixed method places when it admits.
            let theirs = match entry.method {
                Method::Static(distance) => {
                    vec![Placement::at(Distance::At(distance), batch.layers).offloaded; batch.live.len()]
                }
                Method::NextLayer => vec![LayerSet::all(batch.layers); batch.live.len()],
                Method::Resident => vec![LayerSet::EMPTY; batch.live.len()],
                _ => batch.sets(&decision),
            };
            let everyone = decision.run.is_none_or(|run| run.len() == batch.live.len());
            let charged = Room {
                staging_slots: if batch.server.switches.charge_staging { u64::from(own_slots) } else { 0 },
                ..batch.room()
            };
            if everyone && charged.fits(&theirs) {
                let time = batch.time(&theirs, own_slots);
                assert!(forecast <= time, "seed {seed}: {} takes {time}, the oracle {forecast}", entry.key);
                compared += 1;
                ahead += u32::from(forecast < time);
            }
        }
    }
    println!("{steps} steps, {optimal} proven; {compared} placements of other methods, {ahead} slower");
    assert!(steps > 200 && compared > 1000 && ahead > 500 && optimal > 50);
}

#[test]
fn small_batches_are_optimal_as_if_every_placement_had_been_looked_at_and_most_are_found_by_moves_alone() {
    let (mut batches, mut alone, mut proven) = (0, 0, 0);
    for seed in 1000..1160 {
        let batch = draw(seed);
        let (room, now, costs) = (batch.room(), batch.now(), batch.costs());
        let oracle = batch.oracle();
        // 2^16 placements at most, or the test takes minutes.
        let (Some(forecast), true) = (oracle.forecast, room.cells() <= 16.min(EXHAUSTIVE_CELLS)) else {
            continue;
        };
        let slots = batch.server.switches.slots;
        let time = |sets: &[LayerSet]| batch.time(sets, slots);
        let all = [LayerSet::all(batch.layers), LayerSet::EMPTY].map(|set| vec![set; batch.live.len()]);
        let start = all.into_iter().find(|sets| room.fits(sets)).expect("one of them fits");
        let start = Found::new(start.clone(), time(&start), &now);
        let best = moves::exhaustive(&room, &now, start, |_| true, time);
        batches += 1;
        assert_eq!((forecast, oracle.proof), (best.time, Some(StepProof::Optimal)), "seed {seed}");
        // The bound never says that there is nothing shorter when there is.
        let free = batch.truth.link_intercept;
        let least = best.time.saturating_sub(if best.sets.iter().all(|set| set.is_empty()) {
            SimDuration::ZERO
        } else {
            free
        });
        let above = least + SimDuration::from_picos(1);
        assert!(!matches!(moves::least(&room, &costs, above, u64::MAX), Proof::Least), "seed {seed}");
        proven += u32::from(moves::least(&room, &costs, least, u64::MAX) == Proof::Least);
        // From the best common distance, by single changes alone.
        let common = (0..batch.layers).map(Distance::At).chain([Distance::Resident]);
        let starts =
            common.map(|distance| vec![Placement::at(distance, batch.layers).offloaded; batch.live.len()]);
        let start = starts
            .filter(|sets| room.fits(sets))
            .map(|sets| Found::new(sets.clone(), time(&sets), &now))
            .min_by_key(|found| found.time)
            .expect("something fits");
        let (found, end) = moves::improve(&room, &now, start, &mut 50_000, time);
        assert_eq!(end, moves::End::LocalOptimum);
        assert!(found.time >= best.time && room.fits(&found.sets));
        alone += u32::from(found.time == best.time);
    }
    println!("{batches} batches: {alone} by moves alone, {proven} proven by the bound");
    assert!(batches > 60 && alone * 100 > batches * 80 && proven * 100 > batches * 40);
}

#[test]
fn a_search_that_may_look_at_nothing_keeps_what_it_has() {
    let batch = draw(4);
    let (room, now) = (batch.room(), batch.now());
    let start = Found::new(vec![LayerSet::all(room.layers); now.len()], ms(1e3), &now);
    let mut nodes = 0;
    let (found, end) = moves::improve(&room, &now, start.clone(), &mut nodes, |_| ms(1.0));
    assert_eq!((found, end), (start, moves::End::NodeCap));
}

/// Checks every decode step of a run.
#[derive(Debug, Default)]
struct Steps {
    plain: u32,
    said: u32,
    refused: u32,
    preempted: u32,
}

impl Sink for Steps {
    fn record(&mut self, record: &Record<'_>) {
        let step = match record {
            Record::Step { step, .. } if step.kind == StepKind::Decode => step,
            Record::PlacementRefused { .. } => return self.refused += 1,
            Record::Preempted { .. } => return self.preempted += 1,
            _ => return,
        };
        self.said += u32::from(step.proof.is_some());
        if let Some(forecast) = step.forecast {
            assert_eq!(forecast, step.compute + step.stall, "step {}", step.index);
            self.plain += 1;
        }
    }
}

#[test]
fn in_a_run_without_noise_every_step_without_restores_takes_what_the_oracle_said() {
    let mut steps = Steps::default();
    for seed in 0..60 {
        let mut scenario = random_scenarios::draw(seed);
        // Planners and the oracle look at one step alone.
        scenario.server.switches.cross_step_prefetch = false;
        scenario.server.host_kv = None;
        scenario.server.switches.noise = Noise::default();
        scenario.server.switches.write_back = WriteBack::Free;
        let setup = Setup {
            requests: &scenario.requests,
            server: &scenario.server,
            footprint: scenario.footprint,
            truth: &scenario.truth,
        };
        let before = steps.said;
        engine::run(setup, &mut *Method::Oracle.build(scenario.planner, &scenario.known), &mut steps);
        assert!(steps.said > before, "seed {seed}: each step says how good it is");
    }
    assert!(steps.plain > 1000, "{}", steps.plain);
    // Each preemption is for want of GPU room and one refusal; any other refusal would be a newcomer that did not fit.
    assert!(steps.preempted >= 5 && steps.refused == steps.preempted, "{steps:?}");
}

#[test]
fn a_batch_above_8_is_refused_and_node_cap_is_the_one_switch_it_reads() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let prepare = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let scenario = Scenario::load(&demo, &overrides).expect("it can be read");
        runner::prepare(&scenario).map(|prepared| prepared.notes).map_err(|error| error.to_string())
    };
    let refused = prepare(&["policies=[\"oracle\"]", "batch_size=9"]).expect_err("nine are too many");
    assert_eq!(
        refused.lines().next(),
        Some(
            "`--set policies=[\"oracle\"]`: policies[0]: \"oracle\": expected a batch_size of at most 8 for this policy: it \
             is 9, and every layer of every request is searched"
        )
    );
    let notes = prepare(&["policies=[{ use = \"oracle\", node_cap = 1000 }]", "batch_size=8"])
        .expect("eight are not");
    assert!(
        notes.iter().any(|note| note.starts_with("told what no server can know (oracle): the true time"))
    );
    let refused =
        prepare(&["policies=[{ use = \"oracle\", victim = \"shortest\" }]"]).expect_err("no pausing");
    assert!(
        refused.ends_with("expected no [planner] key but `node_cap`: this policy has no planner"),
        "{refused}"
    );
    assert_eq!(registry::find("oracle").map(|entry| entry.label), Some("Oracle (ceiling)"));
}

#[test]
fn every_decode_step_of_the_oracle_is_counted_as_optimal_or_best_found_and_no_other_method_s_is() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let overrides = ["trace.limit=6", "policies=[\"oracle\", \"static-1\"]"].map(str::to_owned);
    let prepared =
        runner::prepare(&Scenario::load(&demo, &overrides).expect("a scenario")).expect("it is whole");
    let results = runner::compare(&prepared, &prepared.contenders, runner::Options::default()).saved.results;
    let [oracle, other] = &results.policies[..] else { panic!("two policies") };
    let proofs = oracle.plans.proofs.expect("it says");
    assert_eq!(proofs.optimal + proofs.best_found, oracle.steps.decode);
    assert_eq!(other.plans.proofs, None);
    let said =
        format!("oracle: {} of {} decode steps are proven optimal", proofs.optimal, oracle.steps.decode);
    assert!(results.notes.iter().any(|note| note.starts_with(&said)), "{:?}", results.notes);
}
