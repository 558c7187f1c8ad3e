//! Chunked prefill by hand: who takes how many prompt tokens of a step, what the step takes, and what a pause keeps.
//!
//! The server: 4 layers, 1 MB per layer-block, a link of 1 GB/s (1 ms per layer-block), 1 ms per layer of a decode step,
//! 1 ms per prompt token; published semantics (one slot, nothing charged for staging, blocking restores) unless a test
//! says otherwise.

use std::num::NonZeroU64;

use orbitflow_sim::cost::{ComputeModel, Contention, CostModel, LayerAllReduce, LinkModel, PrefillModel};
use orbitflow_sim::engine::{self, EngineRequest, Setup};
use orbitflow_sim::ids::RequestId;
use orbitflow_sim::model::{Distance, Placement, UniformFootprint};
use orbitflow_sim::planner::PlannerSwitches;
use orbitflow_sim::policy::fixed::Fixed;
use orbitflow_sim::policy::orbitflow::OrbitFlow;
use orbitflow_sim::policy::{Decision, Policy, Stage, View, admission};
use orbitflow_sim::record::{Record, Sink, StepKind, StepRecord, Trigger};
use orbitflow_sim::server::{Prefill, Restore, ServerConfig, ServerSwitches, WriteBack};
use orbitflow_sim::trace::Arrival;
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration, SimTime};

use StepKind::{Decode, Mixed};

const MICROS: u64 = 1_000_000;

fn ms(millis: u64) -> SimDuration {
    SimDuration::from_picos(millis * 1000 * MICROS)
}

fn mb(megabytes: u64) -> Bytes {
    Bytes::new(megabytes * 1_000_000)
}

/// With so many seconds per prompt token.
fn cost(per_token_s: f64) -> CostModel {
    let link = LinkModel::line(SimDuration::ZERO, BytesPerSec::try_from_f64(1e9).expect("a rate"));
    CostModel {
        layers: 4,
        compute: ComputeModel::Affine { per_token_s: 0.0, base_s: 4e-3 },
        h2d: link,
        d2h: link,
        prefill: PrefillModel::Linear { base_s: 0.0, per_token_s },
        fixed_tail: SimDuration::ZERO,
        link_intercept: SimDuration::ZERO,
        contention: Contention::NONE,
        all_reduce: LayerAllReduce::NONE,
    }
}

pub fn chunked(tokens: u64) -> Prefill {
    Prefill::Chunked(NonZeroU64::new(tokens))
}

fn server(prefill: Prefill) -> ServerConfig {
    ServerConfig {
        batch_size: 4,
        gpu_blocks: 1000,
        host_kv: None,
        max_context: None,
        switches: ServerSwitches { prefill, ..ServerSwitches::PUBLISHED },
        seed: 0,
    }
}

/// A request that arrives after `at_ms` milliseconds.
fn request(at_ms: u64, prompt_tokens: u64, output_tokens: u64) -> EngineRequest {
    let arrival = Arrival::At(SimTime::ZERO + ms(at_ms));
    EngineRequest { arrival, prompt_tokens, output_tokens, slo: ms(1000) }
}

/// The steps, and when whom had a token, in whole milliseconds.
#[derive(Default)]
struct Log {
    steps: Vec<StepRecord>,
    tokens: Vec<(u64, u32)>,
    triggers: Vec<(u64, Trigger)>,
    capped: Vec<u32>,
}

impl Log {
    /// Kind and whole milliseconds of every step.
    fn shape(&self) -> Vec<(StepKind, u64)> {
        self.steps.iter().map(|step| (step.kind, step.duration.as_picos() / 1000 / MICROS)).collect()
    }

    /// When `request` had its tokens.
    fn tokens_of(&self, request: u32) -> Vec<u64> {
        self.tokens.iter().filter(|(_, of)| *of == request).map(|(at, _)| *at).collect()
    }

    fn longest_gap(&self, request: u32) -> u64 {
        self.tokens_of(request).windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

impl Sink for Log {
    fn record(&mut self, record: &Record<'_>) {
        match *record {
            Record::Step { step, delivered } => {
                let end = (step.start + step.duration).as_picos() / 1000 / MICROS;
                self.tokens.extend(delivered.iter().map(|request| (end, request.0)));
                self.steps.push(*step);
            }
            Record::Planned { at, trigger, .. } => {
                self.triggers.push((at.as_picos() / 1000 / MICROS, trigger));
            }
            Record::Capped { request, .. } => self.capped.push(request.0),
            _ => {}
        }
    }
}

fn run_on(
    requests: &[EngineRequest],
    server: &ServerConfig,
    truth: &CostModel,
    policy: &mut dyn Policy,
) -> Log {
    let mut log = Log::default();
    let footprint = UniformFootprint { layers: 4, block_bytes: mb(1) };
    engine::run(Setup { requests, server, footprint, truth }, policy, &mut log);
    log
}

/// Everything on the GPU.
fn run(requests: &[EngineRequest], prefill: Prefill) -> Log {
    run_on(requests, &server(prefill), &cost(1e-3), &mut Fixed::new(Distance::Resident))
}

#[test]
fn chunks_bound_the_gap_of_those_who_decode_and_the_newcomer_waits_for_it() {
    // r0: 1 ms of prompt, then a token every 4 ms: at 1, 5, 9. r1 comes at 6 and is admitted at 9.
    let requests = [request(0, 1, 9), request(6, 10, 3)];
    // Separate: r1's first token at 9 + 10, r0's next one 4 ms later.
    let separate = run(&requests, Prefill::Separate);
    assert_eq!((separate.tokens_of(1)[0], separate.longest_gap(0)), (19, 14));
    // In chunks of 4, the page's worked number: 4 + 4, 4 + 4, 2 + 4; then both decode.
    let log = run(&requests, chunked(4));
    let (one, step) = ((StepKind::Prefill, 1), (Decode, 4));
    assert_eq!(log.shape()[..7], [one, step, step, (Mixed, 8), (Mixed, 8), (Mixed, 6), step]);
    assert_eq!(log.tokens_of(1), [9 + 22, 35, 39]);
    assert_eq!((log.longest_gap(0), log.tokens_of(0)[3..6].to_vec()), (8, vec![17, 25, 31]));
    // Whole prompts: one step of 10 + 4, in which both have a token.
    let joined = run(&requests, Prefill::Chunked(None));
    assert_eq!(joined.shape()[..5], [one, step, step, (Mixed, 14), step]);
    assert_eq!((joined.tokens_of(1)[0], joined.longest_gap(0)), (23, 14));
    // More than any prompt has is no bound.
    assert_eq!(run(&requests, chunked(10)).steps, joined.steps);
    assert_eq!(run(&requests, chunked(Prefill::MOST_TOKENS)).steps, joined.steps);
}

#[test]
fn the_parts_of_a_mixed_step_sum_to_it_and_it_counts_who_is_in_it() {
    let log = run(&[request(0, 1, 9), request(6, 10, 3)], chunked(4));
    let mixed = log.steps[3];
    assert_eq!((mixed.compute, mixed.prefill, mixed.stall), (ms(4), ms(4), ms(0)));
    assert_eq!((mixed.running, mixed.paused, mixed.waiting), (2, 0, 0));
    // One row of r0 and four of r1, 62,500 B a layer, 4 layers.
    assert_eq!(mixed.d2h, Bytes::new(5 * 62_500 * 4));
    // Both hold their blocks from the start: one each per layer.
    assert_eq!((mixed.gpu_blocks, mixed.host_bytes), (8, mb(8)));
}

#[test]
fn one_token_a_step_and_a_prompt_that_is_a_multiple_of_the_chunk_end_where_they_should() {
    // Alone: chunks of 1 ms; the first token after the third, then decodes.
    let log = run(&[request(0, 3, 2)], chunked(1));
    assert_eq!(
        log.shape(),
        [(StepKind::Prefill, 1), (StepKind::Prefill, 1), (StepKind::Prefill, 1), (Decode, 4)]
    );
    assert_eq!(log.tokens_of(0), [3, 7]);
    // 8 tokens in chunks of 4 are two steps, not three; one output token ends with the second.
    let log = run(&[request(0, 8, 1)], chunked(4));
    assert_eq!(log.shape(), [(StepKind::Prefill, 4), (StepKind::Prefill, 4)]);
    assert_eq!(log.tokens_of(0), [8]);
}

#[test]
fn what_a_prompt_leaves_of_the_step_goes_to_the_one_admitted_after_it() {
    // Chunks of 8. Prompts of 5, 6 and 9: 5 + 3, 3 + 5, 4; each has its first token at the end of its last part, and r0
    // decodes from the second step on, r1 from the third.
    let log = run(&[request(0, 5, 3), request(0, 6, 2), request(0, 9, 1)], chunked(8));
    assert_eq!(log.shape(), [(StepKind::Prefill, 8), (Mixed, 12), (Mixed, 8)]);
    assert_eq!(
        (log.tokens_of(0), log.tokens_of(1), log.tokens_of(2)),
        (vec![8, 20, 28], vec![20, 28], vec![28])
    );
    assert_eq!(log.steps.iter().map(|step| step.running).collect::<Vec<_>>(), [2, 3, 3]);
}

#[test]
fn max_context_bounds_the_prompt_tokens_of_a_step_and_not_who_is_admitted() {
    let bounded = ServerConfig { max_context: Some(20), ..server(Prefill::Chunked(None)) };
    let requests = [request(0, 15, 1), request(0, 15, 1)];
    let log = run_on(&requests, &bounded, &cost(1e-3), &mut Fixed::new(Distance::Resident));
    assert_eq!(log.shape(), [(StepKind::Prefill, 20), (StepKind::Prefill, 10)]);
    assert_eq!(log.tokens, [(20, 0), (30, 1)]);
    // Separate: the second one waits for its own step.
    let separate = ServerConfig { switches: server(Prefill::Separate).switches, ..bounded };
    let log = run_on(&requests, &separate, &cost(1e-3), &mut Fixed::new(Distance::Resident));
    assert_eq!(log.shape(), [(StepKind::Prefill, 15), (StepKind::Prefill, 15)]);
}

#[test]
fn a_chunk_after_the_first_fetches_the_offloaded_rows_before_it() {
    // Layers 2 and 4 are offloaded; 0.1 ms per token: 1.6 ms a chunk of 16, 0.4 ms a layer. The first chunk has nothing to
    // fetch. The second one block: copy 2 0–1; layer 1 0–0.4; layer 2 1–1.4; copy 4 needs its slot: 1.4–2.4; layer 3
    // 1.4–1.8, layer 4 2.4–2.8. The third two blocks, 2 ms: copy 2 0–2, layer 2 2–2.4, copy 4 2.4–4.4, layer 4 –4.8.
    let requests = [request(0, 48, 1)];
    let log = run_on(&requests, &server(chunked(16)), &cost(1e-4), &mut Fixed::new(Distance::At(1)));
    let micros = |span: SimDuration| span.as_picos() / MICROS;
    let parts: Vec<_> = log.steps.iter().map(|s| (micros(s.prefill), micros(s.stall))).collect();
    assert_eq!(parts, [(1600, 0), (1600, 1200), (1600, 3200)]);
    assert!(log.steps.iter().all(|step| step.kind == StepKind::Prefill && step.compute == SimDuration::ZERO));
    assert_eq!(log.steps.iter().map(|step| step.h2d_prefetch).collect::<Vec<_>>(), [mb(0), mb(2), mb(4)]);
    // A link intercept is paid in the steps that copy.
    let costly = CostModel { link_intercept: ms(10), ..cost(1e-4) };
    let log = run_on(&requests, &server(chunked(16)), &costly, &mut Fixed::new(Distance::At(1)));
    assert_eq!(log.steps.iter().map(|step| micros(step.stall)).collect::<Vec<_>>(), [0, 11_200, 13_200]);
}

#[test]
fn copies_of_decodes_stream_under_the_chunk() {
    // r0's prompt takes two steps; the second one fetches a block for layers 2 and 4 under 2 ms a layer. Then its layers
    // have two blocks, 2 ms, alone 6 ms: copy 2 0–2, layer 2 2–3, copy 4 3–5, layer 4 5–6. With 8 tokens of r1 a layer
    // takes 3 ms: layer 1 0–3, copy 2 0–2, layer 2 3–6, copy 4 6–8,
    // layers 3 and 4 6–12: the copies are hidden.
    let requests = [request(0, 16, 4), request(17, 8, 1)];
    let log = run_on(&requests, &server(chunked(8)), &cost(1e-3), &mut Fixed::new(Distance::At(1)));
    let part = (StepKind::Prefill, 8);
    assert_eq!(log.shape(), [part, part, (Decode, 6), (Mixed, 12), (Decode, 6)]);
    let mixed = log.steps[3];
    assert_eq!((mixed.compute, mixed.prefill, mixed.stall), (ms(4), ms(8), ms(0)));
    assert_eq!(mixed.h2d_prefetch, mb(4));
}

#[test]
fn rows_of_prompts_go_to_the_host_with_those_of_decodes_and_a_step_without_decodes_waits_for_them() {
    let linked = |prefill| {
        let mut server = server(prefill);
        server.switches.write_back = WriteBack::Link;
        server
    };
    let run = |requests: &[EngineRequest], prefill| {
        run_on(requests, &linked(prefill), &cost(1e-4), &mut Fixed::new(Distance::Resident))
    };
    // 16 rows of 4 layers: 4 MB, 4 ms; their compute is 1.6 ms. In chunks of 8, 2 ms twice.
    assert_eq!(run(&[request(0, 16, 1)], Prefill::Separate).shape(), [(StepKind::Prefill, 4)]);
    assert_eq!(
        run(&[request(0, 16, 1)], chunked(8)).shape(),
        [(StepKind::Prefill, 2), (StepKind::Prefill, 2)]
    );
    // Beside decodes they go behind their layer. r1 comes into a step with 159 tokens: 160 rows are 10 MB a layer, 10 ms;
    // its layers end at 4.975 ms each, its writes at 14.975, 24.975, 34.975 and 44.975 from its start, and it ends at 19.9.
    // The next step would write its layers 1 to 4 at 20.9, 21.9, …: layer 1 finds its write done, layers 2 to 4 wait.
    let log = run(&[request(0, 1, 4), request(1, 159, 2)], Prefill::Chunked(None));
    let micros: Vec<u64> = log.steps.iter().map(|step| step.duration.as_picos() / MICROS).collect();
    // 0.1 ms of compute, but 0.25 ms of rows; a decode; the mixed step; layer 2 ends at 21.9 and waits until 24.975, layer 3
    // at 25.975 until 34.975, layer 4 at 35.975 until 44.975: 25.075 from 19.9 on.
    assert_eq!(micros, [250, 4000, 19_900, 25_075]);
    assert_eq!(log.steps[2].d2h, Bytes::new(160 * 62_500 * 4));
    assert_eq!(log.steps[3].stall.as_picos() / MICROS, 21_075);
}

/// Everyone resident; who runs in the n-th question is written down. Notes what it is told.
#[derive(Default)]
struct Scripted {
    runs: Vec<Vec<u32>>,
    asked: usize,
    plain: Vec<bool>,
    changed: Vec<bool>,
}

impl Policy for Scripted {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        if view.stage == Stage::Admit {
            return admission::first_come_first_served(view, &[Placement::default()], 1);
        }
        self.plain.extend(view.measured.map(|measured| measured.plain));
        self.changed.push(view.live_set_changed);
        let run = self.runs.get(self.asked).map(|run| run.iter().map(|id| RequestId(*id)).collect());
        self.asked += 1;
        Decision { run, ..Decision::default() }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers
    }
}

#[test]
fn a_paused_prompt_keeps_what_was_processed_and_restores_only_that() {
    let steps = |restore, runs: &[&[u32]]| {
        let mut server = server(chunked(16));
        server.switches.restore = restore;
        let runs = runs.iter().map(|run| run.to_vec()).collect();
        let mut policy = Scripted { runs, ..Scripted::default() };
        run_on(&[request(0, 1, 7), request(1, 48, 2)], &server, &cost(1e-3), &mut policy)
    };
    // 0–1: r0's prompt. Then r1 [0, 16); paused; [16, 32) behind 4 copies of the one block that there is; [32, 48).
    let log = steps(Restore::Blocking, &[&[0, 1], &[0], &[0, 1], &[0, 1]]);
    assert_eq!(log.shape()[1..6], [(Mixed, 20), (Decode, 4), (Mixed, 24), (Mixed, 20), (Decode, 4)]);
    let back = log.steps[3];
    assert_eq!((back.restore, back.h2d_restore, back.prefill), (ms(4), mb(4), ms(16)));
    assert_eq!(log.steps[2].paused, 1);
    // Lazy, one slot, 5 ms a layer: copy 1 0–1, layer 1 1–6, copy 2 6–7, layer 2 7–12, …: 24 ms.
    let lazy = steps(Restore::Lazy, &[&[0, 1], &[0], &[0, 1], &[0, 1]]);
    assert_eq!(lazy.shape()[1..6], [(Mixed, 20), (Decode, 4), (Mixed, 24), (Mixed, 20), (Decode, 4)]);
    assert_eq!((lazy.steps[3].stall, lazy.steps[3].h2d_restore), (ms(4), mb(4)));
    // Paused before its first chunk there is nothing to restore.
    let log = steps(Restore::Blocking, &[&[0], &[0, 1], &[0, 1], &[0, 1]]);
    assert_eq!(log.shape()[1..6], [(Decode, 4), (Mixed, 20), (Mixed, 20), (Mixed, 20), (Decode, 4)]);
    assert!(log.steps.iter().all(|step| step.h2d_restore == Bytes::ZERO));
    // Who decodes may be held back instead: then it is a prefill step, and r0's restore is the next one's.
    let log = steps(Restore::Blocking, &[&[1], &[0, 1], &[0, 1], &[0, 1]]);
    assert_eq!(log.shape()[1..3], [(StepKind::Prefill, 16), (Mixed, 24)]);
}

#[test]
fn a_step_with_a_chunk_teaches_nothing_and_the_live_set_changes_when_a_prompt_ends() {
    let mut policy = Scripted::default();
    let requests = [request(0, 1, 7), request(1, 48, 2)];
    let log = run_on(&requests, &server(chunked(16)), &cost(1e-3), &mut policy);
    // Asked before each of the three mixed steps and the decodes behind; before the first prompt's own step not.
    assert_eq!(log.shape()[..5].iter().filter(|(kind, _)| *kind == Mixed).count(), 3);
    assert_eq!(policy.asked, 6);
    // r0's prompt ended before the first, r1's before the fourth, r1 itself before the fifth.
    assert_eq!(policy.changed, [true, false, false, true, true, false]);
    assert_eq!(policy.plain, [false, false, false, true, true]);
}

#[test]
fn orbitflow_plans_when_a_prompt_ends_and_forecasts_no_mixed_step() {
    let mut policy = OrbitFlow::new(PlannerSwitches::PUBLISHED, cost(1e-3));
    let requests = [request(0, 1, 9), request(1, 48, 9)];
    let log = run_on(&requests, &server(chunked(16)), &cost(1e-3), &mut policy);
    // r0's prompt at 1, r1's at 1 + 3 · 20, r0's end: 5 tokens later, at 81; nothing at r1's admission.
    let live_set = Trigger::LiveSet;
    assert_eq!(log.triggers, [(1, live_set), (61, live_set), (81, live_set)]);
    for step in &log.steps {
        assert_eq!(step.forecast.is_some(), step.kind == Decode, "{step:?}");
    }
}

#[test]
fn a_prompt_that_is_preempted_goes_on_where_it_was() {
    // 11 layer-blocks: r0 has one block per layer until its 17th token, r1 (20 tokens) two from its admission on: 12 do not
    // fit, so it is admitted when r0 has ended. With 12 they fit; r0's second block makes 16 and r1, in the middle of its
    // prompt, is preempted.
    let run = |gpu_blocks| {
        let server = ServerConfig { gpu_blocks, ..server(chunked(4)) };
        run_on(
            &[request(0, 14, 6), request(1, 20, 2)],
            &server,
            &cost(1e-3),
            &mut Fixed::new(Distance::Resident),
        )
    };
    assert!(run(11).steps.iter().all(|step| step.kind != Mixed));
    // r0's prompt ends at 3 · 4 + 2 = 14 with r1's first 2 tokens beside: 4 steps of 4 ms. Then 4 + 4 twice, at rows 15
    // and 16 of r0; row 17 needs the room: r1 (10 of 20 tokens) waits while r0 makes its last 3 tokens.
    let log = run(12);
    let kinds: Vec<StepKind> = log.steps.iter().map(|step| step.kind).collect();
    assert_eq!(
        kinds[..6],
        [StepKind::Prefill, StepKind::Prefill, StepKind::Prefill, StepKind::Prefill, Mixed, Mixed]
    );
    assert_eq!(
        kinds[6..],
        [Decode, Decode, Decode, StepKind::Prefill, StepKind::Prefill, StepKind::Prefill, Decode]
    );
    // It comes back with its 10 tokens in one block of each layer: 4 copies before its next chunk.
    let back = log.steps[9];
    assert_eq!((back.restore, back.h2d_restore, back.prefill), (ms(4), mb(4), ms(4)));
    let rows: u64 = log.steps.iter().map(|step| step.d2h.get()).sum();
    assert_eq!(rows, (14 + 5 + 20 + 1) * 62_500 * 4, "every row is written once");
}

#[test]
fn host_memory_that_runs_out_caps_a_prompt_before_its_first_token() {
    // 8 MB: one block of every layer for each. r0's 17th row finds none; r1, admitted last, gives up its turn and then
    // its memory.
    let poor = ServerConfig { host_kv: Some(mb(8)), ..server(chunked(1)) };
    let requests = [request(0, 15, 6), request(1, 16, 3)];
    let log = run_on(&requests, &poor, &cost(1e-3), &mut Fixed::new(Distance::Resident));
    assert_eq!((log.tokens_of(1), &log.capped), (vec![], &vec![1]));
    assert_eq!(log.tokens_of(0).len(), 6);
}
