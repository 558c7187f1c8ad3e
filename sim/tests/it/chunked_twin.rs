//! Chunked prefill against slow forms of it: a server written anew for one fixed distance, the closed form of a joined
//! step, and `prefill = "separate"` where prompts meet no decode.
//!
//! The twin shares with the engine what one chunk costs and what one step of given layers and copies takes (both have
//! twins of their own); who has which tokens of which step, and what that makes of layers, copies, rows and records, it
//! says for itself, in the obvious way.

use std::collections::VecDeque;

use orbitflow_sim::cost::{Contention, PromptChunk};
use orbitflow_sim::digest::EventDigest;
use orbitflow_sim::engine::{self, Setup};
use orbitflow_sim::ids::Layer;
use orbitflow_sim::model::{Distance, LayerSet, Placement};
use orbitflow_sim::pipeline::{CopyTimes, LayerTimes, StepRequest, StepWork, WriteBack, timeline};
use orbitflow_sim::policy::fixed::Fixed;
use orbitflow_sim::policy::registry::{Entry, METHODS};
use orbitflow_sim::record::{Record, Sink, StepKind, StepRecord};
use orbitflow_sim::server::{self, Noise, Prefill};
use orbitflow_sim::trace::Arrival;
use orbitflow_sim::units::{Bytes, SimDuration, SimTime, blocks_for_tokens};

use crate::chunked::chunked;
use crate::random_scenarios::{Scenario, draw};

/// What a step is compared by.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    kind: StepKind,
    start: SimTime,
    compute: SimDuration,
    stall: SimDuration,
    prefill: SimDuration,
    fetched: Bytes,
    written: Bytes,
    /// Who had a token.
    delivered: Vec<u32>,
}

#[derive(Default)]
struct Steps(Vec<Step>);

impl Sink for Steps {
    fn record(&mut self, record: &Record<'_>) {
        if let Record::Step { step, delivered } = *record {
            let StepRecord { kind, start, compute, stall, prefill, .. } = *step;
            let parts = compute + stall + prefill + step.restore + step.planning;
            assert_eq!(step.duration, parts);
            self.0.push(Step {
                kind,
                start,
                compute,
                stall,
                prefill,
                fetched: step.h2d_prefetch + step.h2d_restore,
                written: step.d2h,
                delivered: delivered.iter().map(|request| request.0).collect(),
            });
        }
    }
}

/// A request on the twin's server.
#[derive(Clone, Copy)]
struct Guest {
    id: u32,
    prompt: u64,
    output: u64,
    /// Prompt tokens processed, and tokens made.
    done: u64,
    made: u64,
}

/// A server without memory limits that keeps everyone at one distance and knows no pause.
struct Twin<'a> {
    scenario: &'a Scenario,
    /// Prompt tokens of a step.
    most: u64,
    offloaded: LayerSet,
    now: SimTime,
    guests: Vec<Guest>,
    writes: WriteBack,
    steps: Vec<Step>,
}

impl Twin<'_> {
    fn run(mut self) -> Vec<Step> {
        let mut coming: VecDeque<(SimTime, Guest)> = (0..)
            .zip(&self.scenario.requests)
            .map(|(id, request)| {
                let Arrival::At(at) = request.arrival else { panic!("the twin knows instants") };
                let (prompt, output) = (request.prompt_tokens, request.output_tokens);
                (at, Guest { id, prompt, output, done: 0, made: 0 })
            })
            .collect();
        loop {
            while self.guests.len() < self.scenario.server.batch_size as usize {
                match coming.front() {
                    Some((at, guest)) if *at <= self.now => self.guests.push(*guest),
                    _ => break,
                }
                coming.pop_front();
            }
            if self.guests.is_empty() {
                let Some((at, _)) = coming.front() else { return self.steps };
                self.now = *at;
                continue;
            }
            self.step();
        }
    }

    fn step(&mut self) {
        let Scenario { truth, server, footprint, .. } = self.scenario;
        let layers = footprint.layers;
        let mut left = self.most;
        let mut chunks = Vec::new();
        let mut fetching = Vec::new();
        let (mut decoding, mut context, mut rows) = (0, 0, 0);
        for guest in &self.guests {
            let blocks = if guest.made > 0 {
                decoding += 1;
                context += guest.prompt + guest.made;
                rows += 1;
                blocks_for_tokens(guest.prompt + guest.made)
            } else {
                let tokens = left.min(guest.prompt - guest.done);
                left -= tokens;
                rows += tokens;
                if tokens == 0 {
                    continue;
                }
                chunks.push((
                    guest.id,
                    PromptChunk { prompt: guest.prompt, from: guest.done, to: guest.done + tokens },
                ));
                blocks_for_tokens(guest.done)
            };
            if blocks > 0 && !self.offloaded.is_empty() {
                fetching.push(footprint.block_bytes * blocks);
            }
        }
        let beside = decoding > 0;
        let prefill = truth.prefill_chunks(chunks.iter().map(|(_, chunk)| *chunk), beside);
        let own = if beside { truth.layer_compute(context, decoding) } else { SimDuration::ZERO };
        let until = |layer: u64| prefill.as_picos() as u128 * layer as u128 / layers as u128;
        let compute: Vec<SimDuration> = (1..=u64::from(layers))
            .map(|layer| own + SimDuration::from_picos((until(layer) - until(layer - 1)) as u64))
            .collect();
        let requests: Vec<StepRequest<'_>> = fetching
            .iter()
            .map(|bytes| StepRequest {
                fetched: self.offloaded,
                copy: CopyTimes::Same(truth.h2d.copy_time(*bytes)),
            })
            .collect();
        let work = StepWork {
            layers,
            compute: LayerTimes::PerLayer(&compute),
            requests: &requests,
            slots: server.switches.slots,
            order: server.switches.copy_order,
            contention: truth.contention,
        };
        let row = Bytes::new(footprint.block_bytes.get() / 16);
        let linked = server.switches.write_back == server::WriteBack::Link;
        let write = truth.d2h.copy_time(row * rows);
        let queue = (linked && beside).then_some((&mut self.writes, write));
        let (timing, _) = timeline(&work, self.now, queue);
        let written = row * rows * u64::from(layers);
        let tail = if beside { truth.tail(decoding) } else { SimDuration::ZERO };
        let intercept = if fetching.is_empty() { SimDuration::ZERO } else { truth.link_intercept };
        let (mut compute, mut processing) = (timing.compute - prefill + tail, prefill);
        if !beside {
            // All of it is for prompts, and the rows must be there.
            let least = if linked { truth.d2h.rate.transfer_time(written) } else { SimDuration::ZERO };
            (compute, processing) = (SimDuration::ZERO, timing.compute + least.saturating_sub(timing.step));
        }
        let stall = timing.step - timing.compute + intercept;
        let kind = match (beside, chunks.is_empty()) {
            (true, true) => StepKind::Decode,
            (true, false) => StepKind::Mixed,
            (false, _) => StepKind::Prefill,
        };
        let start = self.now;
        self.now += compute + stall + processing;
        let mut delivered = Vec::new();
        for guest in &mut self.guests {
            if let Some((_, chunk)) = chunks.iter().find(|(id, _)| *id == guest.id) {
                guest.done = chunk.to;
            } else if guest.made == 0 {
                continue;
            }
            if guest.done == guest.prompt {
                guest.made += 1;
                delivered.push(guest.id);
            }
        }
        self.guests.retain(|guest| guest.made < guest.output);
        let fetched = fetching.iter().map(|bytes| *bytes * u64::from(self.offloaded.len())).sum();
        self.steps.push(Step {
            kind,
            start,
            compute,
            stall,
            prefill: processing,
            fetched,
            written,
            delivered,
        });
    }
}

/// A random server with room for everyone, arrivals at instants and no noise.
fn roomy(seed: u64) -> Scenario {
    let mut scenario = draw(seed);
    scenario.server.gpu_blocks *= 1000;
    scenario.server.host_kv = None;
    scenario.server.max_context = None;
    scenario.server.switches.noise = Noise::default();
    scenario.server.switches.cross_step_prefetch = false;
    let mut at = SimTime::ZERO;
    for request in &mut scenario.requests {
        at += SimDuration::from_picos(request.prompt_tokens * 300_000_000);
        request.arrival = Arrival::At(at);
    }
    scenario
}

fn setup(scenario: &Scenario) -> Setup<'_> {
    Setup {
        requests: &scenario.requests,
        server: &scenario.server,
        footprint: scenario.footprint,
        truth: &scenario.truth,
    }
}

#[test]
fn every_step_is_the_one_of_a_server_written_anew() {
    let (mut mixed, mut stalled, mut partial) = (0, 0, 0);
    for seed in 0..300 {
        let mut scenario = roomy(seed);
        let most = [1, 7, 16, 100, u64::MAX][seed as usize % 5];
        scenario.server.switches.prefill =
            if most == u64::MAX { Prefill::Chunked(None) } else { chunked(most) };
        let distance =
            [Distance::Resident, Distance::At(0), Distance::At(1), Distance::At(3)][seed as usize % 4];
        let layers = scenario.footprint.layers;
        let twin = Twin {
            scenario: &scenario,
            most,
            offloaded: Placement::at(distance, layers).offloaded,
            now: SimTime::ZERO,
            guests: Vec::new(),
            writes: WriteBack::new(layers),
            steps: Vec::new(),
        };
        let expected = twin.run();
        let mut steps = Steps::default();
        engine::run(setup(&scenario), &mut Fixed::new(distance), &mut steps);
        for (index, (step, expected)) in steps.0.iter().zip(&expected).enumerate() {
            assert_eq!(step, expected, "seed {seed}, step {index}");
        }
        assert_eq!(steps.0.len(), expected.len(), "seed {seed}");
        let of_kind = |kind| expected.iter().filter(move |step| step.kind == kind);
        mixed += of_kind(StepKind::Mixed).count();
        stalled += of_kind(StepKind::Mixed).filter(|step| step.stall > SimDuration::ZERO).count();
        partial += of_kind(StepKind::Prefill).filter(|step| step.delivered.is_empty()).count();
    }
    println!("{mixed} mixed steps, {stalled} of them wait; {partial} prefill steps end no prompt");
    assert!(mixed > 1000 && stalled > 100 && partial > 1000, "{mixed} {stalled} {partial}");
}

#[test]
fn a_joined_step_is_the_decode_step_with_the_prompt_in_its_layers_by_the_closed_form() {
    // One request fetches layer j of L, each layer takes t for it and P/L for the whole prompt that joins, the copy C:
    // layer j starts at max((j−1)·(t + P/L), C), and L − j + 1 layers follow.
    let micros = |count: u64| SimDuration::from_picos(count * 1_000_000);
    for (layers, fetched, copy, prompt) in
        [(8, 1, 900, 4000), (8, 5, 900, 4000), (8, 8, 9000, 800), (4, 2, 30, 0)]
    {
        let layer = micros(100 + prompt / layers);
        let times = vec![layer; layers as usize];
        let requests = [StepRequest {
            fetched: [Layer(fetched as u32)].into_iter().collect(),
            copy: CopyTimes::Same(micros(copy)),
        }];
        let work = StepWork {
            layers: layers as u32,
            compute: LayerTimes::PerLayer(&times),
            requests: &requests,
            slots: 1,
            order: Default::default(),
            contention: Contention::NONE,
        };
        let closed = (layer * (fetched - 1)).max(micros(copy)) + layer * (layers - fetched + 1);
        assert_eq!(timeline(&work, SimTime::ZERO, None).0.step, closed, "{layers} {fetched} {copy} {prompt}");
    }
}

/// The digest of all events, and how many steps had a prompt and how many of them decodes beside it.
fn digest(scenario: &Scenario, entry: &Entry) -> (String, usize, usize) {
    let mut policy = entry.method.build(scenario.planner, &scenario.known);
    let (mut digest, mut steps) = (EventDigest::default(), Steps::default());
    engine::run(setup(scenario), &mut *policy, &mut (&mut digest, &mut steps));
    let of_kind = |kind| steps.0.iter().filter(|step| step.kind == kind).count();
    (digest.finish(), of_kind(StepKind::Prefill), of_kind(StepKind::Mixed))
}

#[test]
fn whole_prompts_that_meet_no_decode_are_separate_ones_event_by_event() {
    let mut prefills = 0;
    for seed in 0..60 {
        // One request at a time: under every switch, noise and pressure that random scenarios have. Or several, which
        // end with their first token: they share steps, but no one ever decodes.
        let mut alone = draw(seed);
        alone.server.batch_size = 1;
        let mut first_tokens = draw(seed);
        first_tokens.requests.iter_mut().for_each(|request| request.output_tokens = 1);
        // Who shares a prefill step shares its tokens at admission; in chunks it is the step that has them.
        first_tokens.server.max_context = None;
        for scenario in [&mut alone, &mut first_tokens] {
            for entry in METHODS {
                let of = |scenario: &mut Scenario, prefill| {
                    scenario.server.switches.prefill = prefill;
                    digest(scenario, entry)
                };
                let separate = of(scenario, Prefill::Separate);
                let chunked = of(scenario, Prefill::Chunked(None));
                assert_eq!(separate, chunked, "{} on seed {seed}: {scenario:#?}", entry.key);
                assert_eq!(chunked.2, 0, "no one decodes beside a prompt");
                prefills += chunked.1;
            }
        }
    }
    assert!(prefills > 5000, "{prefills}");
}

#[test]
fn every_row_is_written_through_once_however_prompts_are_cut_and_requests_are_moved() {
    let (mut finished_all, mut pauses_or_preemptions) = (0, 0);
    for seed in 0..120 {
        let mut scenario = draw(seed);
        scenario.server.switches.prefill =
            [chunked(9), chunked(64), Prefill::Chunked(None)][seed as usize % 3];
        let method = seed as usize % METHODS.len();
        let mut policy = METHODS[method].method.build(scenario.planner, &scenario.known);
        let mut moved = Moved::default();
        let mut steps = Steps::default();
        engine::run(setup(&scenario), &mut *policy, &mut (&mut moved, &mut steps));
        if moved.capped > 0 {
            continue; // how far its prompt had come is not in the records
        }
        let tokens: u64 = moved
            .finished
            .iter()
            .map(|id| {
                let request = &scenario.requests[*id as usize];
                request.prompt_tokens + request.output_tokens - 1
            })
            .sum();
        let written: Bytes = steps.0.iter().map(|step| step.written).sum();
        let row = scenario.footprint.block_bytes.get() / 16 * u64::from(scenario.footprint.layers);
        assert_eq!(written.get(), tokens * row, "{} on seed {seed}", METHODS[method].key);
        finished_all += 1;
        pauses_or_preemptions += usize::from(moved.away > 0);
    }
    assert!(finished_all > 60 && pauses_or_preemptions > 20, "{finished_all} {pauses_or_preemptions}");
}

#[derive(Default)]
struct Moved {
    finished: Vec<u32>,
    capped: usize,
    /// Pauses and preemptions.
    away: usize,
}

impl Sink for Moved {
    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Finished { request, .. } => self.finished.push(request.0),
            Record::Capped { .. } => self.capped += 1,
            Record::Paused { .. } | Record::Preempted { .. } => self.away += 1,
            _ => {}
        }
    }
}
