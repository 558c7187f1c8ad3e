//! The engine's rules one by one, on servers small enough to compute by hand (design §3.5).
//!
//! The server: 4 layers, 1 MB per layer-block, a link of 1 GB/s (1 ms per layer-block), compute 4 ms per step whatever
//! the batch (1 ms per layer), prefill 1 ms per token; published semantics (nothing charged for staging, blocking
//! restores, one slot) unless a test says otherwise.

use orbitflow_sim::cost::{ComputeModel, Contention, CostModel, LayerAllReduce, LinkModel, PrefillModel};
use orbitflow_sim::engine::{self, EngineRequest, Setup};
use orbitflow_sim::ids::RequestId;
use orbitflow_sim::model::{Distance, UniformFootprint};
use orbitflow_sim::planner::PlannerSwitches;
use orbitflow_sim::policy::Policy;
use orbitflow_sim::policy::fixed::Fixed;
use orbitflow_sim::policy::heuristic::Heuristic;
use orbitflow_sim::policy::orbitflow::OrbitFlow;
use orbitflow_sim::record::{Record, RejectReason, Sink, StepKind, StepRecord, Trigger};
use orbitflow_sim::server::{
    Admission, Planning, Restore, ServerConfig, ServerSwitches, SolverTime, WriteBack,
};
use orbitflow_sim::trace::Arrival;
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration, SimTime};

const MS: u64 = 1_000_000_000;

fn ms(millis: u64) -> SimDuration {
    SimDuration::from_picos(millis * MS)
}

fn cost() -> CostModel {
    let link = LinkModel::line(SimDuration::ZERO, BytesPerSec::try_from_f64(1e9).expect("a rate"));
    CostModel {
        layers: 4,
        compute: ComputeModel::Affine { per_token_s: 0.0, base_s: 4e-3 },
        h2d: link,
        d2h: link,
        prefill: PrefillModel::Linear { base_s: 0.0, per_token_s: 1e-3 },
        fixed_tail: SimDuration::ZERO,
        link_intercept: SimDuration::ZERO,
        contention: Contention::NONE,
        all_reduce: LayerAllReduce::NONE,
    }
}

fn server(gpu_blocks: u64) -> ServerConfig {
    ServerConfig {
        batch_size: 4,
        gpu_blocks,
        host_kv: None,
        max_context: None,
        switches: ServerSwitches::PUBLISHED,
        seed: 0,
    }
}

/// A request that arrives after `at_ms` milliseconds.
fn request(at_ms: u64, prompt_tokens: u64, output_tokens: u64) -> EngineRequest {
    EngineRequest {
        arrival: Arrival::At(SimTime::ZERO + ms(at_ms)),
        prompt_tokens,
        output_tokens,
        slo: ms(1000),
    }
}

/// Everything but steps as `ms event request`, and the steps.
#[derive(Default)]
struct Log {
    events: Vec<String>,
    steps: Vec<StepRecord>,
    triggers: Vec<Trigger>,
}

impl Log {
    fn has(&self, event: &str) -> bool {
        self.events.iter().any(|line| line == event)
    }

    fn decodes(&self) -> Vec<StepRecord> {
        self.steps.iter().copied().filter(|step| step.kind == StepKind::Decode).collect()
    }

    fn durations_ms(&self) -> Vec<f64> {
        self.steps.iter().map(|step| step.duration.as_picos() as f64 / MS as f64).collect()
    }
}

impl Sink for Log {
    fn record(&mut self, record: &Record<'_>) {
        let (at, what, request) = match *record {
            Record::Arrived { at, request } => (at, "arrived", request),
            Record::Rejected { at, request, reason } => (
                at,
                match reason {
                    RejectReason::GpuPool => "rejected for the GPU pool",
                    RejectReason::HostMemory => "rejected for host memory",
                    RejectReason::MaxContext => "rejected for max_context",
                },
                request,
            ),
            Record::Admitted { at, request } => (at, "admitted", request),
            Record::Paused { at, request } => (at, "paused", request),
            Record::Resumed { at, request } => (at, "resumed", request),
            Record::Preempted { at, request } => (at, "preempted", request),
            Record::Readmitted { at, request } => (at, "readmitted", request),
            Record::Finished { at, request } => (at, "finished", request),
            Record::Capped { at, request } => (at, "capped", request),
            Record::Step { step, .. } => {
                self.steps.push(*step);
                return;
            }
            Record::Planned { trigger, .. } => {
                self.triggers.push(trigger);
                return;
            }
            Record::Placed { .. } | Record::PlacementRefused { .. } => return,
        };
        self.events.push(format!("{} {what} {request}", at.as_picos() / MS));
    }
}

fn run_with(
    requests: &[EngineRequest],
    server: &ServerConfig,
    truth: &CostModel,
    policy: &mut dyn Policy,
) -> Log {
    let mut log = Log::default();
    let footprint = UniformFootprint { layers: 4, block_bytes: Bytes::new(1_000_000) };
    engine::run(Setup { requests, server, footprint, truth }, policy, &mut log);
    log
}

fn run(requests: &[EngineRequest], server: &ServerConfig, policy: &mut dyn Policy) -> Log {
    run_with(requests, server, &cost(), policy)
}

fn resident() -> Fixed {
    Fixed::new(Distance::Resident)
}

#[test]
fn a_lone_request_takes_its_prefill_and_a_step_per_further_token() {
    // 10 tokens of prompt: 10 ms with token 0; tokens 1 and 2: 4 ms each.
    let log = run(&[request(5, 10, 3)], &server(100), &mut resident());
    assert_eq!(log.events, ["5 arrived r0", "5 admitted r0", "23 finished r0"]);
    assert_eq!(log.durations_ms(), [10.0, 4.0, 4.0]);
}

#[test]
fn one_output_token_finishes_with_the_prefill() {
    let log = run(&[request(0, 10, 1)], &server(100), &mut resident());
    assert!(log.has("10 finished r0"));
    assert_eq!(log.steps.len(), 1);
}

#[test]
fn admitted_prompts_share_a_prefill_and_running_decodes_wait() {
    // r0 prefills 0–10 and decodes 10–14; r1 and r2 arrive at 12, prefill 14–44 together; decode goes on at 44.
    let log =
        run(&[request(0, 10, 3), request(12, 10, 2), request(12, 20, 2)], &server(100), &mut resident());
    assert!(log.has("14 admitted r1") && log.has("14 admitted r2"));
    assert_eq!(log.durations_ms(), [10.0, 4.0, 30.0, 4.0]);
}

#[test]
fn the_batch_size_bounds_live_requests_in_order_of_arrival() {
    let two = ServerConfig { batch_size: 2, ..server(100) };
    let log = run(&[request(0, 1, 2), request(0, 1, 9), request(0, 1, 2)], &two, &mut resident());
    // Prefill 0–2, one decode 2–6 ends r0, then r2 gets its slot.
    assert!(log.has("6 finished r0") && log.has("6 admitted r2"));
}

#[test]
fn what_can_never_fit_is_rejected_at_once_with_its_reason() {
    // 100 layer-blocks hold 25 blocks per layer: 400 tokens resident.
    let log = run(&[request(0, 401, 2), request(0, 400, 1)], &server(100), &mut resident());
    assert!(log.has("0 rejected for the GPU pool r0") && log.has("400 finished r1"));
    // With every second layer offloaded, half of the layers must fit: 800 tokens.
    let mut half = Fixed::new(Distance::At(1));
    let log = run(&[request(0, 801, 2), request(0, 800, 1)], &server(100), &mut half);
    assert!(log.has("0 rejected for the GPU pool r0") && log.has("800 finished r1"));
    // Staging of one slot, where it is charged: 2 + 1 layers, 33 blocks, 528 tokens.
    let mut charged = server(100);
    charged.switches.charge_staging = true;
    let log = run(&[request(0, 529, 2), request(0, 528, 1)], &charged, &mut Fixed::new(Distance::At(1)));
    assert!(log.has("0 rejected for the GPU pool r0") && log.has("528 finished r1"));

    let short = ServerConfig { max_context: Some(100), ..server(100) };
    let log = run(&[request(0, 101, 2), request(0, 100, 1)], &short, &mut resident());
    assert!(log.has("0 rejected for max_context r0") && log.has("100 finished r1"));
    // One block per layer is 4 MB on the host.
    let poor = ServerConfig { host_kv: Some(Bytes::new(4_000_000)), ..server(100) };
    let log = run(&[request(0, 17, 2), request(0, 16, 1)], &poor, &mut resident());
    assert!(log.has("0 rejected for host memory r0") && log.has("16 finished r1"));
}

#[test]
fn host_memory_is_waited_for() {
    let poor = ServerConfig { host_kv: Some(Bytes::new(8_000_000)), ..server(100) };
    let log = run(&[request(0, 16, 3), request(0, 16, 2)], &poor, &mut resident());
    // Both prompts fit (2 × 4 MB), but token 1 of each needs a second block: r1 waits, and there is still no room for
    // r0's while r1's copy is kept: r1 ends capped, r0 goes on.
    assert!(log.has("32 preempted r1") && log.has("32 capped r1"), "{:?}", log.events);
    assert!(log.has("40 finished r0"), "{:?}", log.events);
    let log = run(&[request(0, 10, 3), request(0, 20, 2)], &poor, &mut resident());
    // A row that finds no host memory waits where someone else will leave some: r1 (20 tokens: 2 blocks) needs a
    // third at context 33, while r0 (1 block) is there for one more token.
    let enough = ServerConfig { host_kv: Some(Bytes::new(12_000_000)), ..server(100) };
    let waiting = run(&[request(0, 10, 3), request(0, 32, 2)], &enough, &mut resident());
    assert!(waiting.has("42 preempted r1") && !waiting.has("42 capped r1"), "{:?}", waiting.events);
    assert!(waiting.has("50 finished r0") && waiting.has("50 readmitted r1"), "{:?}", waiting.events);
    assert_eq!(
        waiting.events.last().map(String::as_str),
        Some("66 finished r1"),
        "4 layers of 3 blocks restored: 12 ms, and 4"
    );
    // 4 MB + 8 MB do not fit: r1 waits for r0 (10 + 2·4 ms).
    assert!(log.has("18 admitted r1") && log.has("42 finished r1"), "{:?}", log.events);
}

#[test]
fn a_request_that_outgrows_the_pool_or_max_context_ends_capped() {
    // 4 layer-blocks: one block per layer. Contexts 15 and 16 fit, 17 does not.
    let log = run(&[request(0, 14, 9)], &server(4), &mut resident());
    assert_eq!(log.events.last().map(String::as_str), Some("22 capped r0"));
    assert_eq!(log.decodes().len(), 2);
    let short = ServerConfig { max_context: Some(15), ..server(100) };
    let log = run(&[request(0, 14, 9)], &short, &mut resident());
    assert!(log.has("18 capped r0"));
}

#[test]
fn the_last_admitted_is_preempted_comes_back_without_a_prefill_and_blocks_those_behind() {
    // 8 layer-blocks: two requests of one block each. r0 reaches context 17 in its 3rd decode: r1 must go.
    let requests = [request(0, 14, 5), request(0, 8, 6), request(1, 1, 1)];
    let log = run(&requests, &server(8), &mut resident());
    // Prefill 0–22, decodes 22–26–30 (contexts 15, 16), then r0 needs 2 blocks per layer: all 8. r2 never fitted:
    // at 22 both blocks are taken.
    assert!(log.has("30 preempted r1"), "{:?}", log.events);
    // r0 ends at 38; r1 (context 11) comes back at once, restoring 4 layers of 1 block: 4 ms before its step.
    assert!(log.has("38 finished r0") && log.has("38 readmitted r1") && log.has("38 admitted r2"));
    let restore: u64 = log.steps.iter().map(|step| step.restore.as_picos()).sum();
    assert_eq!(restore, 4 * MS);
    // r2's prefill (1 ms) goes first, then r1's step: 4 ms restore + 4 ms compute, and two more.
    assert!(log.has("39 finished r2") && log.has("55 finished r1"), "{:?}", log.events);
    assert!(log.steps.iter().filter(|step| step.kind == StepKind::Prefill).count() == 2);
}

#[test]
fn reclaimable_admission_takes_room_from_the_last_admitted_and_free_admission_does_not() {
    // 20 layer-blocks. r0 (33 to 40 tokens: 3 blocks) is resident: 12. r1 (80 tokens: 5 blocks) needs 10 at its
    // densest: more than the 8 that are free, but r0 can give up 6.
    let requests = [request(0, 32, 9), request(33, 80, 2)];
    let mut reclaiming = server(20);
    reclaiming.switches.admission = Admission::Reclaimable;
    let log = run(&requests, &reclaiming, &mut Heuristic::default());
    assert!(log.has("36 admitted r1"), "{:?}", log.events);
    let log = run(&requests, &server(20), &mut Heuristic::default());
    let admitted = log.events.iter().find(|line| line.ends_with("admitted r1")).cloned();
    assert_eq!(admitted.as_deref(), Some("64 admitted r1"), "r0 ends at 32 + 8·4 = 64");
}

#[test]
fn arrivals_in_steps_wait_for_the_step_counter_and_idle_time_costs_nothing() {
    let stepped = |step, prompt_tokens, output_tokens| EngineRequest {
        arrival: Arrival::Step(step),
        ..request(0, prompt_tokens, output_tokens)
    };
    // r0: prefill (step 1 done at 1 ms), decodes to 4 steps done at 13 ms. r1 is due at step 2: after the first decode.
    // r2 is due at step 100: the counter jumps, time does not.
    let log = run(&[stepped(0, 1, 4), stepped(2, 1, 1), stepped(100, 1, 1)], &server(100), &mut resident());
    assert!(log.has("5 admitted r1"), "{:?}", log.events);
    assert!(log.has("14 arrived r2") && log.has("15 finished r2"), "{:?}", log.events);
}

#[test]
fn a_later_turn_arrives_after_the_answer_and_the_think_time() {
    let turn = EngineRequest {
        arrival: Arrival::AfterTurn { previous: RequestId(0), think: ms(100) },
        ..request(0, 5, 1)
    };
    let log = run(&[request(0, 10, 2), turn], &server(100), &mut resident());
    assert!(log.has("14 finished r0") && log.has("114 arrived r1") && log.has("119 finished r1"));
    // Nothing is lost when the turn before is rejected.
    let log = run(&[request(7, 10_000, 2), turn], &server(100), &mut resident());
    assert!(log.has("107 arrived r1") && log.has("112 finished r1"), "{:?}", log.events);
}

#[test]
fn restores_lengthen_the_step_when_blocking_and_overlap_compute_when_lazy() {
    // Preempted r1 of the test above, alone: 4 layers of 1 block are 4 copies of 1 ms.
    let requests = [request(0, 14, 5), request(0, 8, 6)];
    let steps = |restore| {
        let mut with = server(8);
        with.switches.restore = restore;
        run(&requests, &with, &mut resident()).decodes()
    };
    let step =
        |steps: &[StepRecord]| *steps.iter().find(|s| s.h2d_restore != Bytes::ZERO).expect("a restore");
    let blocking = step(&steps(Restore::Blocking));
    assert_eq!((blocking.restore, blocking.stall, blocking.duration), (ms(4), ms(0), ms(8)));
    // Lazy, one slot: copy 1 (0–1), layer 1 (1–2), copy 2 needs the slot that layer 1 frees (2–3), layer 2 (3–4), …: 8 ms.
    let lazy = step(&steps(Restore::Lazy));
    assert_eq!((lazy.restore, lazy.stall, lazy.duration), (ms(0), ms(4), ms(8)));
    assert_eq!(lazy.h2d_restore, Bytes::new(4_000_000));
    assert_eq!(lazy.h2d_prefetch, Bytes::ZERO);
    // Lazy, two slots: copies 0–1, 1–2, then as layers free them 2–3 and 3–4; layers one after the other from 1: 5 ms.
    let mut with = server(8);
    with.switches = ServerSwitches { restore: Restore::Lazy, slots: 2, ..with.switches };
    let lazy = step(&run(&requests, &with, &mut resident()).decodes());
    assert_eq!((lazy.restore, lazy.stall, lazy.duration), (ms(0), ms(1), ms(5)));
}

#[test]
fn offloaded_layers_cost_link_time_in_every_step_and_are_not_kept() {
    // d = 1: layers 2 and 4, 2 blocks each (context 17): 2 ms per copy, one slot.
    // Copy 2 (0–2), layer 1 (0–1), layer 2 (2–3), copy 4 (3–5), layer 3 (3–4), layer 4 (5–6).
    let log = run(&[request(0, 16, 3)], &server(100), &mut Fixed::new(Distance::At(1)));
    for step in log.decodes() {
        assert_eq!((step.duration, step.stall, step.compute), (ms(6), ms(2), ms(4)));
        // Compute takes 4 ms, the two copies 4: half of the bound is lost by the one slot.
        assert_eq!(step.bound, Some(ms(4)));
        assert_eq!(step.h2d_prefetch, Bytes::new(4_000_000));
    }
}

#[test]
fn tail_and_link_intercept_are_added_once_per_step() {
    let truth = CostModel { fixed_tail: ms(3), link_intercept: ms(10), ..cost() };
    let resident = run_with(&[request(0, 16, 2)], &server(100), &truth, &mut resident()).decodes();
    assert_eq!((resident[0].compute, resident[0].stall), (ms(7), ms(0)), "no copy, no intercept");
    let offloaded =
        run_with(&[request(0, 16, 2)], &server(100), &truth, &mut Fixed::new(Distance::At(1))).decodes();
    assert_eq!((offloaded[0].compute, offloaded[0].stall), (ms(7), ms(12)));
    // max(4, 2 · 2) and, on both sides of the comparison, tail and intercept.
    assert_eq!((resident[0].bound, offloaded[0].bound), (Some(ms(4 + 3)), Some(ms(4 + 3 + 10))));
}

#[test]
fn contention_of_the_true_hardware_slows_what_overlaps_in_a_step() {
    // Copies of 2 ms for layers 2 and 4, one slot. Layer 1 and copy 2: the layer takes 1.5 ms, in which 0.75 ms of the
    // copy are done; it ends at 2.75. Layer 2 alone until 3.75. Layer 3 and copy 4 likewise, until 5.25 and 6.5.
    // Layer 4 alone until 7.5: 5 ms of compute, 2.5 of stall.
    let truth = CostModel { contention: Contention::of_factors(2.0, 1.5).expect("two slowdowns"), ..cost() };
    let run = |policy: &mut dyn Policy| run_with(&[request(0, 16, 2)], &server(100), &truth, policy);
    let offloaded = run(&mut Fixed::new(Distance::At(1))).decodes()[0];
    assert_eq!((offloaded.compute, offloaded.stall * 2), (ms(5), ms(5)));
    let resident = run(&mut resident()).decodes()[0];
    assert_eq!((resident.compute, resident.stall), (ms(4), ms(0)), "nothing is copied");
}

#[test]
fn write_back_over_the_link_bounds_the_prefill_and_is_counted() {
    // 16 tokens of 4 layers: 4 MB, 4 ms; a prefill of 0.1 ms per token would take 1.6 ms.
    let truth = CostModel { prefill: PrefillModel::Linear { base_s: 0.0, per_token_s: 1e-4 }, ..cost() };
    let mut linked = server(100);
    linked.switches.write_back = WriteBack::Link;
    let log = run_with(&[request(0, 16, 2)], &linked, &truth, &mut resident());
    assert_eq!(log.durations_ms(), [4.0, 4.0]);
    assert_eq!(log.steps[0].d2h, Bytes::new(4_000_000));
    assert_eq!(log.steps[1].d2h, Bytes::new(250_000), "one token of 4 layers");
    let free = run_with(&[request(0, 16, 2)], &server(100), &truth, &mut resident());
    assert_eq!(free.durations_ms(), [1.6, 4.0]);
}

/// 45 layer-blocks besides the planner's headroom of 100.
fn roomy() -> ServerConfig {
    server(145)
}

#[test]
fn an_infeasible_batch_pauses_the_longest_and_the_next_change_of_the_live_set_brings_it_back() {
    // Densest: 2 of 4 layers, for a window of at least 32 tokens. When r2 comes, r0 (160 + 32 tokens: 12 blocks → 24)
    // and r1 (96 + 32: 8 blocks → 16) fit the 45, with r2 (15 + 32: 3 blocks → 6) they do not: r0 is paused.
    // When it ends, r0 (24) and r1 (98 + 32: 9 blocks → 18) fit again.
    let requests = [request(0, 158, 40), request(0, 94, 40), request(260, 14, 3)];
    let mut policy = OrbitFlow::new(PlannerSwitches::PUBLISHED, cost());
    let log = run(&requests, &roomy(), &mut policy);
    assert!(log.has("300 paused r0"), "{:?}", log.events);
    assert!(log.has("330 finished r2") && log.has("330 resumed r0"), "{:?}", log.events);
    assert!(!log.events.iter().any(|line| line.contains("preempted")));
    assert_eq!(log.events.iter().filter(|line| line.contains("finished")).count(), 3);
}

#[test]
fn max_pause_brings_a_starving_request_back_and_counts_its_own_trigger() {
    // As above, but r2 runs for long: r0 would starve until it ends.
    let requests = [request(0, 158, 40), request(0, 94, 200), request(260, 14, 400)];
    let starving = PlannerSwitches { max_pause: None, ..PlannerSwitches::PUBLISHED };
    let bounded = PlannerSwitches { max_pause: Some(ms(200)), ..PlannerSwitches::PUBLISHED };
    let first_resume = |switches| {
        let mut policy = OrbitFlow::new(switches, cost());
        let log = run(&requests, &roomy(), &mut policy);
        let at = |what: &str| -> u64 {
            let line = log.events.iter().find(|line| line.contains(what)).expect("it happens");
            line.split(' ').next().and_then(|at| at.parse().ok()).expect("a time")
        };
        (at("resumed r0") - at("paused r0"), log.triggers.contains(&Trigger::MaxPause))
    };
    let (waited, triggered) = first_resume(starving);
    assert!(waited > 400 && !triggered, "{waited}");
    let (waited, triggered) = first_resume(bounded);
    assert!((200..220).contains(&waited) && triggered, "{waited}");
}

#[test]
fn max_pause_bounds_a_pause_also_where_every_step_changes_the_live_set() {
    // r0 is long; short requests (one decode each) come and go, so that every decode follows a change and r0 is the
    // longest victim each time.
    let mut requests = vec![request(0, 158, 30), request(0, 94, 900)];
    requests.extend((0..60).map(|index| request(255 + 30 * index, 14, 2)));
    let longest_pause = |max_pause| {
        let switches = PlannerSwitches { max_pause, ..PlannerSwitches::PUBLISHED };
        let mut policy = OrbitFlow::new(switches, cost());
        let log = run(&requests, &roomy(), &mut policy);
        let times = |what: &str| -> Vec<u64> {
            let lines = log.events.iter().filter(|line| line.ends_with(what));
            lines.filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
        };
        let pauses = times("paused r0").into_iter().zip(times("resumed r0"));
        pauses.map(|(from, to)| to - from).max().unwrap_or(0)
    };
    let (unbounded, bounded) = (longest_pause(None), longest_pause(Some(ms(150))));
    assert!(unbounded > 400, "{unbounded}");
    // One step beyond the limit: a prefill of 14 ms and a decode.
    assert!(bounded < 150 + 60, "{bounded}");
}

#[test]
fn solver_time_lengthens_the_step_when_synchronous_and_hides_behind_the_previous_one_when_ahead() {
    let planning = |planning, time| {
        let mut with = roomy();
        with.switches.planning = planning;
        with.switches.solver_time = SolverTime::Fixed(time);
        let mut policy = OrbitFlow::new(PlannerSwitches::PUBLISHED, cost());
        let log = run(&[request(0, 16, 3)], &with, &mut policy);
        log.decodes().iter().map(|step| step.planning).collect::<Vec<_>>()
    };
    // One plan, in the first decode; the step before it is the prefill of 16 ms.
    assert_eq!(planning(Planning::Synchronous, ms(5)), [ms(5), ms(0)]);
    assert_eq!(planning(Planning::Ahead, ms(5)), [ms(0), ms(0)]);
    assert_eq!(planning(Planning::Ahead, ms(20)), [ms(4), ms(0)]);
    assert_eq!(planning(Planning::Free, ms(20)), [ms(0), ms(0)]);
}

#[test]
fn the_window_is_over_after_as_many_steps_as_it_has() {
    // Window 128 fits: plans at decode 1 and 129.
    let mut policy = OrbitFlow::new(PlannerSwitches::PUBLISHED, cost());
    let log = run(&[request(0, 16, 140)], &roomy(), &mut policy);
    assert_eq!(log.triggers, [Trigger::LiveSet, Trigger::Window]);
    let planned: Vec<usize> = log
        .decodes()
        .iter()
        .enumerate()
        .filter(|(_, step)| step.trigger.is_some())
        .map(|(index, _)| index)
        .collect();
    assert_eq!(planned, [0, 128]);
}

#[test]
fn without_pause_the_heuristic_places_an_infeasible_batch_for_32_steps() {
    let requests = [request(0, 158, 60), request(0, 94, 60), request(0, 30, 60)];
    let no_pause = PlannerSwitches { pause: false, ..PlannerSwitches::PUBLISHED };
    let mut policy = OrbitFlow::new(no_pause, cost());
    let log = run(&requests, &roomy(), &mut policy);
    assert_eq!(log.triggers[..2], [Trigger::LiveSet, Trigger::Fallback], "{:?}", log.triggers);
    let steps = log.decodes();
    assert!(steps[..32].iter().all(|step| step.forecast.is_none()), "the fallback has no forecast");
    assert!(!log.events.iter().any(|line| line.contains("paused")));
}
