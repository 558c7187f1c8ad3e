//! Small random servers and traces under pressure, for the laws: one per seed, the same on every machine.
//!
//! Every switch of both semantics is drawn, memory is scarce, links are slow, some requests can never be served.
//! What such scenarios exercise is counted by [`Seen`].

use std::num::NonZeroU64;

use orbitflow_sim::cost::{ComputeModel, Contention, CostModel, LayerAllReduce, LinkModel, PrefillModel};
use orbitflow_sim::engine::EngineRequest;
use orbitflow_sim::ids::RequestId;
use orbitflow_sim::model::UniformFootprint;
use orbitflow_sim::pipeline::CopyOrder;
use orbitflow_sim::planner::{Forecast, PlacementSpace, PlannerSwitches, Victim};
use orbitflow_sim::policy::registry::Known;
use orbitflow_sim::record::{Record, Sink, StepKind, Trigger};
use orbitflow_sim::server::{
    Admission, Noise, Planning, Prefill, Restore, ServerConfig, ServerSwitches, SolverTime, WriteBack,
};
use orbitflow_sim::trace::Arrival;
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration, SimTime};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One server, one trace, and what its planner believes.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub requests: Vec<EngineRequest>,
    pub server: ServerConfig,
    pub footprint: UniformFootprint,
    pub truth: CostModel,
    pub known: Known,
    pub planner: PlannerSwitches,
    pub slo: SimDuration,
}

fn one_of<T: Copy>(random: &mut ChaCha8Rng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

/// The scenario of a seed.
pub fn draw(seed: u64) -> Scenario {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let layers = one_of(random, &[4, 8, 16, 32]);
    let footprint = UniformFootprint { layers, block_bytes: Bytes::new(65_536) };
    let count = random.random_range(2..10);
    let requests = draw_requests(random, count);
    let longest = requests.iter().map(|r| r.prompt_tokens + r.output_tokens).max().unwrap_or(1);
    // The pool holds 0.4 to 2 times the longest request; a planner keeps at least 100 layer-blocks aside.
    let pool = (longest.div_ceil(16) * u64::from(layers)) as f64 * random.random_range(0.4..2.0);
    let batch_size = random.random_range(1..6);
    let headroom = 100 + u64::from(batch_size * layers);
    let mut truth = draw_cost(random, layers);
    let published = random.random_bool(0.4);
    let mut switches = if published { ServerSwitches::PUBLISHED } else { ServerSwitches::PHYSICAL };
    if random.random_bool(0.6) {
        switches = ServerSwitches {
            charge_staging: random.random(),
            slots: random.random_range(1..4),
            copy_order: one_of(random, &[CopyOrder::ReadyFirst, CopyOrder::InOrder]),
            cross_step_prefetch: false,
            write_back: one_of(random, &[WriteBack::Free, WriteBack::Link]),
            restore: one_of(random, &[Restore::Blocking, Restore::Lazy]),
            admission: one_of(random, &[Admission::Free, Admission::Reclaimable]),
            prefill: Prefill::Separate,
            planning: one_of(random, &[Planning::Synchronous, Planning::Ahead, Planning::Free]),
            solver_time: one_of(
                random,
                &[SolverTime::Table, SolverTime::Fixed(SimDuration::from_picos(3_000_000_000))],
            ),
            admit_past_paused: random.random(),
            noise: Noise::default(),
        };
    }
    if random.random_bool(0.2) {
        switches.noise = Noise { compute_cv: 0.1, copy_cv: 0.3 };
    }
    let mut server = ServerConfig {
        batch_size,
        gpu_blocks: pool as u64 + headroom,
        host_kv: random
            .random_bool(0.15)
            .then(|| footprint.block_bytes * (longest.div_ceil(16) * u64::from(layers) * 2)),
        max_context: random.random_bool(0.15).then(|| longest * 3 / 4),
        switches,
        seed,
    };
    let mut planner = if published { PlannerSwitches::PUBLISHED } else { PlannerSwitches::PHYSICAL };
    planner.failure_budget = one_of(random, &[0.0, 0.5, 2.0]);
    planner.max_pause = one_of(random, &[planner.max_pause, Some(SimDuration::from_secs(1))]);
    let belief = wrong_about_the_link(&truth, one_of(random, &[1.0, 1.0, 0.5, 2.0]));
    let tokens: u64 = requests.iter().map(|request| request.prompt_tokens + request.output_tokens).sum();
    let mean_final_tokens = tokens.div_ceil(u64::from(count));
    let slo = SimDuration::from_secs_f64(truth.compute_s(longest, 1) * random.random_range(0.8..2.5));
    let mut requests: Vec<_> = requests.into_iter().map(|request| EngineRequest { slo, ..request }).collect();
    if random.random_bool(0.3) {
        let (copy, compute) = (one_of(random, &[1.0, 1.3, 4.0]), one_of(random, &[1.0, 1.1, 1.7]));
        truth.contention = Contention::of_factors(copy, compute).expect("two slowdowns");
    }
    planner.victim = one_of(random, &Victim::ALL);
    planner.as_coded = random.random_bool(0.3);
    if random.random_bool(0.4) {
        for request in &mut requests {
            request.slo = slo.scale_saturating(one_of(random, &[0.7, 1.0, 1.5]));
        }
    }
    if random.random_bool(0.3) {
        planner.forecast = one_of(random, &[Forecast::Prefix, Forecast::Pipeline]);
        planner.placement_space = PlacementSpace::Layers;
        // a descent uses all of it
        planner.node_cap = 300;
    } else if random.random_bool(0.3) {
        planner.forecast = Forecast::Pipeline;
        planner.node_cap = 2_000;
    }
    server.switches.cross_step_prefetch = random.random_bool(0.3);
    if random.random_bool(0.4) {
        let tokens = one_of(random, &[Some(5), Some(64), Some(250), None]);
        server.switches.prefill = Prefill::Chunked(tokens.and_then(NonZeroU64::new));
    }
    planner.migration_cost = random.random_bool(0.3);
    if planner.migration_cost {
        planner.node_cap = planner.node_cap.min(2_000);
    }
    let known = Known { belief, truth: truth.clone(), mean_final_tokens };
    Scenario { requests, server, footprint, truth, known, planner, slo }
}

fn draw_requests(random: &mut ChaCha8Rng, count: u32) -> Vec<EngineRequest> {
    let steps = random.random_bool(0.3);
    let sessions = !steps && random.random_bool(0.3);
    let mut at = 0;
    (0..count)
        .map(|index| {
            at += random.random_range(0..if steps { 60 } else { 800 });
            let arrival = if steps {
                Arrival::Step(at)
            } else if sessions && index > 0 && random.random_bool(0.5) {
                let previous = RequestId(random.random_range(0..index));
                Arrival::AfterTurn { previous, think: SimDuration::from_picos(at * 1_000_000_000) }
            } else {
                Arrival::At(SimTime::from_picos(at * 1_000_000_000))
            };
            EngineRequest {
                arrival,
                prompt_tokens: random.random_range(1..700),
                output_tokens: if random.random_bool(0.1) { 1 } else { random.random_range(1..160) },
                slo: SimDuration::ZERO,
            }
        })
        .collect()
}

fn draw_cost(random: &mut ChaCha8Rng, layers: u32) -> CostModel {
    let layer_s = random.random_range(0.2e-3..1.5e-3);
    // One request of 30 blocks copies a layer in 0.1 to 6 times a layer's compute.
    let rate = 30.0 * 65_536.0 / (layer_s * random.random_range(0.1..6.0));
    let latency = one_of(random, &[SimDuration::ZERO, SimDuration::from_picos(20_000_000)]);
    let link = LinkModel::line(latency, BytesPerSec::try_from_f64(rate).expect("a rate"));
    CostModel {
        layers,
        compute: ComputeModel::Affine { per_token_s: 1e-6, base_s: layer_s * f64::from(layers) },
        h2d: link,
        d2h: LinkModel { latency: SimDuration::ZERO, ..link },
        prefill: PrefillModel::Linear { base_s: 1e-3, per_token_s: 1e-5 },
        fixed_tail: one_of(random, &[SimDuration::ZERO, SimDuration::from_picos(500_000_000)]),
        link_intercept: one_of(random, &[SimDuration::ZERO, SimDuration::from_picos(1_000_000_000)]),
        contention: Contention::NONE,
        all_reduce: LayerAllReduce::NONE,
    }
}

/// The same costs with a link `factor` times as fast.
pub fn wrong_about_the_link(truth: &CostModel, factor: f64) -> CostModel {
    let rate = BytesPerSec::try_from_f64(truth.h2d.rate.get() as f64 * factor).expect("a rate");
    CostModel { h2d: LinkModel { rate, ..truth.h2d }, ..truth.clone() }
}

/// What happened in a run, for saying that random scenarios exercise it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub offload: bool,
    pub restore: bool,
    pub pause: bool,
    pub resume: bool,
    pub preemption: bool,
    pub rejection: bool,
    pub capping: bool,
    pub feedback: bool,
    /// Prompt tokens beside decodes.
    pub mixed: bool,
    /// A pause or a preemption before the first token.
    pub held_back_prompt: bool,
    prompts: Vec<RequestId>,
}

impl Seen {
    /// Everything by name.
    pub fn by_name(&self) -> [(&'static str, bool); 10] {
        [
            ("offload", self.offload),
            ("restore", self.restore),
            ("pause", self.pause),
            ("resume", self.resume),
            ("preemption", self.preemption),
            ("rejection", self.rejection),
            ("capping", self.capping),
            ("feedback", self.feedback),
            ("mixed step", self.mixed),
            ("prompt held back", self.held_back_prompt),
        ]
    }
}

impl Sink for Seen {
    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Admitted { request, .. } => self.prompts.push(*request),
            Record::Step { step, delivered } => {
                self.prompts.retain(|request| !delivered.contains(request));
                self.mixed |= step.kind == StepKind::Mixed;
                self.offload |= step.h2d_prefetch != Bytes::ZERO;
                self.restore |= step.h2d_restore != Bytes::ZERO;
            }
            Record::Paused { request, .. } => {
                self.pause = true;
                self.held_back_prompt |= self.prompts.contains(request);
            }
            Record::Resumed { .. } => self.resume = true,
            Record::Preempted { request, .. } => {
                self.preemption = true;
                self.held_back_prompt |= self.prompts.contains(request);
            }
            Record::Rejected { .. } => self.rejection = true,
            Record::Capped { .. } => self.capping = true,
            Record::Planned { trigger: Trigger::Feedback, .. } => self.feedback = true,
            _ => {}
        }
    }
}
