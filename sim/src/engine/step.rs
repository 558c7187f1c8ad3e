//! One prefill step or one decode step: from a checked layout to time, tokens and records (design §3.4, §3.5).

use super::{Engine, Setup};
use crate::ids::{Layer, RequestId};
use crate::model::LayerSet;
use crate::pipeline::{self, CopyTimes, HeadStart, LayerTimes, Scratch, StepRequest, StepTiming, StepWork};
use crate::policy::{Decision, LiveRequest, Measured, RunState, Stage};
use crate::random::{self, Stream};
use crate::record::{MemoryUse, Record, Sink, StepKind, StepRecord, Trigger};
use crate::server::{Noise, Planning, Restore, WriteBack};
use crate::units::{Bytes, SimDuration, SimTime, TOKENS_PER_BLOCK};

/// Memory that is kept from step to step, so that a step allocates nothing.
#[derive(Default)]
pub struct Buffers {
    scratch: Scratch,
    copies: Vec<Copies>,
    delivered: Vec<RequestId>,
    noisy: Vec<SimDuration>,
    pub(super) snapshot: Vec<MemoryUse>,
}

/// The host→device copies of one running request in one step.
#[derive(Clone, Copy)]
pub struct Copies {
    pub(super) request: RequestId,
    /// What the step before did for the first of `within`.
    pub(super) head_start: HeadStart,
    /// Copied before the step (blocking restores).
    pub(super) before: LayerSet,
    /// Copied within the step.
    pub(super) within: LayerSet,
    /// Those of `within` that stay.
    pub(super) kept: LayerSet,
    pub(super) bytes: Bytes,
    pub(super) time: SimDuration,
}

impl Copies {
    /// Copies that begin within the step.
    fn begun(&self) -> u32 {
        self.within.len() - u32::from(self.head_start != HeadStart::None)
    }
}

/// What the running requests ask of the next decode step.
#[derive(Clone, Copy, Default)]
struct Batch {
    requests: u32,
    context_tokens: u64,
    gpu_blocks: u64,
}

impl<S: Sink> Engine<'_, S> {
    /// Processes the prompts of `newcomers`; the step ends with the first token of each.
    pub(super) fn prefill(&mut self, newcomers: &[RequestId]) {
        let Setup { truth, server, footprint, .. } = self.setup;
        let prompts: Vec<u64> = newcomers.iter().map(|id| self.request(*id).prompt_tokens).collect();
        let written = footprint.block_bytes * (prompts.iter().sum::<u64>() * u64::from(footprint.layers));
        let written = Bytes::new(written.get() / TOKENS_PER_BLOCK);
        let mut duration = truth.prefill(prompts);
        let write = match server.switches.write_back {
            WriteBack::Free => None,
            WriteBack::Link => Some(truth.d2h.rate.transfer_time(written)),
        };
        duration = duration.max(write.unwrap_or_default());
        self.shown.prompts(write);
        self.gpu.set_used(self.held_blocks());
        self.inspect_memory(|r| if r.generated == 0 { r.prompt_tokens } else { r.context() - 1 });
        let record = StepRecord {
            prefill: duration,
            duration,
            running: newcomers.len() as u32,
            d2h: written,
            ..self.blank_step(StepKind::Prefill)
        };
        self.now += duration;
        for request in self.live.iter_mut().filter(|request| request.generated == 0) {
            request.generated = 1;
            request.playback = crate::deposit::Playback::start(self.now);
        }
        self.live_set_changed = true;
        self.close_step(&record, newcomers);
    }

    /// Layer-blocks the running requests hold between steps; a newcomer holds its prompt.
    pub(super) fn held_blocks(&self) -> u64 {
        let held = |request: &LiveRequest| match request.generated {
            0 => crate::units::blocks_for_tokens(request.prompt_tokens),
            _ => request.held_blocks(),
        };
        let running = self.live.iter().filter(|request| request.is_running());
        running.map(|request| self.need(request.placement, held(request))).sum()
    }

    /// Asks the policy until its layout fits, then decodes one token for every running request.
    pub(super) fn decode(&mut self) {
        let mut planning = SimDuration::ZERO;
        let mut trigger = None;
        let (decision, batch) = loop {
            self.cap_outgrown();
            if self.live.is_empty() {
                return;
            }
            let decision = self.ask(Stage::Decode);
            let (solving, why) = self.note_plan(&decision);
            planning += solving;
            trigger = why.or(trigger);
            self.slots = decision.slots.unwrap_or(self.slots);
            if let Some(run) = &decision.run {
                self.set_running(run);
            }
            match self.apply_if_it_fits(&decision) {
                Some(batch) if self.grow_host() => break (decision, batch),
                Some(batch) => self.make_host_room(batch.requests),
                None => {
                    self.sink.record(&Record::PlacementRefused { at: self.now });
                    let victim = self.with_view(Stage::Decode, None, |policy, view| policy.preempt(view));
                    self.preempt(victim);
                }
            }
            if self.live.is_empty() {
                return;
            }
        };
        if decision.refused {
            self.note_refusal();
        }
        self.live_set_changed = false;
        self.execute(&decision, batch, planning, trigger);
    }

    /// Applies the decision's layouts if the step then fits the pool; otherwise changes nothing.
    fn apply_if_it_fits(&mut self, decision: &Decision) -> Option<Batch> {
        let mut batch = Batch::default();
        for request in self.live.iter().filter(|request| request.is_running()) {
            let placement = if decision.placements.is_empty() {
                request.placement
            } else {
                let changed = decision.placements.iter().find(|(id, _)| *id == request.id);
                changed.map_or(request.placement, |(_, placement)| *placement)
            };
            batch.requests += 1;
            batch.context_tokens += request.context();
            batch.gpu_blocks += self.need(placement, request.blocks());
        }
        if !self.gpu.fits(batch.gpu_blocks) {
            return None;
        }
        for (id, placement) in &decision.placements {
            self.place(*id, *placement);
        }
        self.gpu.set_used(batch.gpu_blocks);
        Some(batch)
    }

    /// Takes host memory for the rows that the running requests are about to write; false, and nothing taken, if
    /// there is not enough.
    fn grow_host(&mut self) -> bool {
        let growing =
            self.live.iter().filter(|r| r.is_running() && r.blocks() > r.held_blocks()).count() as u64;
        let more = self.host_bytes(growing);
        let fits = self.host.fits(more);
        if fits {
            self.host.take(more);
        }
        fits
    }

    /// There is no host memory for the new rows: the last admitted running request gives up its turn and waits,
    /// preempted, until there is. With one left, no one who waits can ever make room: the last admitted of it and
    /// the preempted ends capped.
    fn make_host_room(&mut self, running: u32) {
        let last = self.live.iter().rposition(LiveRequest::is_running).expect("Invariant: someone runs");
        let alone = self.live[last];
        if running > 1 {
            self.preempt(alone.id);
            return;
        }
        let request = match self.preempted.pop_if(|waiting| waiting.admitted > alone.admitted) {
            Some(waiting) => waiting,
            None => self.live.remove(last),
        };
        self.end(request, &Record::Capped { at: self.now, request: request.id });
    }

    fn execute(
        &mut self,
        decision: &Decision,
        batch: Batch,
        planning: SimDuration,
        trigger: Option<Trigger>,
    ) {
        let Setup { truth, server, footprint, .. } = self.setup;
        let switches = &server.switches;
        let noise = switches.noise;
        let planning = match switches.planning {
            Planning::Synchronous => planning,
            Planning::Ahead => planning.saturating_sub(self.last_step),
            Planning::Free => SimDuration::ZERO,
        };
        let mut work = std::mem::take(&mut self.work);
        self.collect_copies(&mut work.copies);
        let restore = self.restore_time(&work.copies, noise, self.now + planning);
        let decode_start = self.now + planning + restore;
        if switches.cross_step_prefetch {
            self.note_head_starts(&mut work.copies, decode_start);
        }
        self.show_copies(&work.copies, noise, decode_start);
        let layer_compute =
            truth.layer_compute(batch.context_tokens, batch.requests).scale(self.compute_noise(noise));
        let tail = truth.tail(batch.requests);
        let (timing, prefetched) = self.time_of(&mut work, layer_compute, noise, (decode_start, tail));

        let mut record = self.blank_step(StepKind::Decode);
        record.h2d_prefetch = prefetched;
        self.measured_copies.clear();
        for copies in &work.copies {
            let restored = copies.before.len() + copies.kept.len();
            let fetched = copies.begun() - copies.kept.len();
            self.measured_copies.push((copies.begun(), copies.bytes));
            record.h2d_restore += copies.bytes * u64::from(restored);
            record.h2d_prefetch += copies.bytes * u64::from(fetched);
        }
        let plain = record.h2d_restore == Bytes::ZERO;
        let anything = record.h2d_prefetch != Bytes::ZERO || !plain;
        let intercept = if anything { truth.link_intercept } else { SimDuration::ZERO };
        record.compute = timing.compute + tail;
        record.stall = timing.stall() + intercept;
        record.restore = restore;
        record.planning = planning;
        record.duration = record.compute + record.stall + record.restore + record.planning;
        record.forecast = decision.forecast.filter(|_| plain);
        record.running = batch.requests;
        record.trigger = trigger;
        record.proof = decision.proof;
        let token = Bytes::new(footprint.block_bytes.get() / TOKENS_PER_BLOCK);
        record.d2h = token * (u64::from(batch.requests) * u64::from(footprint.layers));
        self.measured = Some(Measured {
            plain,
            compute: timing.compute,
            copy: timing.copy,
            context_tokens: batch.context_tokens,
            requests: batch.requests,
            copies: &[],
        });

        self.now += record.duration;
        work.delivered.clear();
        for request in self.live.iter_mut().filter(|request| request.is_running()) {
            request.missing = LayerSet::EMPTY;
            request.generated += 1;
            request.playback.deliver(self.now, request.slo);
            work.delivered.push(request.id);
        }
        let delivered = std::mem::take(&mut work.delivered);
        self.work = work;
        self.close_step(&record, &delivered);
        self.work.delivered = delivered;
    }

    /// Time of the blocking restores, which may start at `from`: behind a copy that is still under way.
    fn restore_time(&mut self, copies: &[Copies], noise: Noise, from: SimTime) -> SimDuration {
        let each = copies.iter().flat_map(|copies| copies.before.iter().map(move |layer| (copies, layer)));
        let restore = each
            .map(|(copies, layer)| {
                copies.time.scale(self.copy_noise(noise, self.steps, copies.request, layer))
            })
            .sum();
        if copies.iter().all(|copies| copies.before.is_empty()) {
            return restore;
        }
        self.ahead.run_until(from) + restore
    }

    /// Which layers of whom come over the link, before the step and within it.
    fn collect_copies(&self, all: &mut Vec<Copies>) {
        let Setup { truth, server, footprint, .. } = self.setup;
        all.clear();
        for request in self.live.iter().filter(|request| request.is_running()) {
            let (before, kept) = match server.switches.restore {
                Restore::Blocking => (request.missing, LayerSet::EMPTY),
                Restore::Lazy => (LayerSet::EMPTY, request.missing),
            };
            let within = request.placement.offloaded.union(kept);
            if !within.is_empty() || !before.is_empty() {
                let bytes = footprint.block_bytes * request.blocks();
                let time = truth.h2d.copy_time(bytes);
                let head_start = HeadStart::None;
                all.push(Copies { request: request.id, head_start, before, within, kept, bytes, time });
            }
        }
    }

    /// The decode part of the step, to the end of layer L, and the bytes that it copies for the next one.
    fn time_of(
        &mut self,
        work: &mut Buffers,
        layer_compute: SimDuration,
        noise: Noise,
        (decode_start, tail): (SimTime, SimDuration),
    ) -> (StepTiming, Bytes) {
        let layers = self.setup.footprint.layers;
        let Buffers { scratch, copies, noisy, .. } = work;
        noisy.clear();
        if noise.copy_cv > 0.0 {
            for copies in copies.iter() {
                noisy.extend(Layer::all(layers).map(|layer| {
                    copies.time.scale(self.copy_noise(noise, self.steps, copies.request, layer))
                }));
            }
        }
        let requests: Vec<StepRequest<'_>> = copies
            .iter()
            .enumerate()
            .filter(|(_, copies)| !copies.within.is_empty())
            .map(|(index, copies)| StepRequest {
                fetched: copies.within,
                copy: if noisy.is_empty() {
                    CopyTimes::Same(copies.time)
                } else {
                    let first = index * layers as usize;
                    CopyTimes::PerLayer(&noisy[first..first + layers as usize])
                },
            })
            .collect();
        let switches = &self.setup.server.switches;
        let step = StepWork {
            layers,
            compute: LayerTimes::Same(layer_compute),
            requests: &requests,
            slots: self.slots,
            order: switches.copy_order,
            contention: self.setup.truth.contention,
        };
        let write = match switches.write_back {
            WriteBack::Free => None,
            WriteBack::Link => Some(self.layer_write()),
        };
        if switches.cross_step_prefetch {
            let fetching: Vec<Copies> = copies.iter().filter(|c| !c.within.is_empty()).copied().collect();
            return self.time_across(&step, &fetching, write, (decode_start, tail));
        }
        if self.sink.inspects() {
            self.inspect_step(&step, write, decode_start);
        }
        let writes = write.map(|write| (&mut self.write_back, write));
        (pipeline::step(&step, self.now, writes, scratch), Bytes::ZERO)
    }

    /// Time of the write-through of one layer: one token of every running request.
    fn layer_write(&self) -> SimDuration {
        let running = self.live.iter().filter(|request| request.is_running()).count() as u64;
        let token = self.setup.footprint.block_bytes.get() / TOKENS_PER_BLOCK;
        self.setup.truth.d2h.copy_time(Bytes::new(token * running))
    }

    fn compute_noise(&self, noise: Noise) -> f64 {
        self.factor(noise.compute_cv, &[self.steps])
    }

    /// Of a copy that belongs to step `step`.
    pub(super) fn copy_noise(&self, noise: Noise, step: u64, request: RequestId, layer: Layer) -> f64 {
        self.factor(noise.copy_cv, &[step, u64::from(request.0) + 1, u64::from(layer.0)])
    }

    fn factor(&self, cv: f64, parts: &[u64]) -> f64 {
        if cv == 0.0 { 1.0 } else { random::keyed_factor(self.setup.server.seed, Stream::Noise, parts, cv) }
    }

    /// A step record with what does not depend on the kind of step.
    fn blank_step(&self, kind: StepKind) -> StepRecord {
        StepRecord {
            index: self.steps,
            kind,
            start: self.now,
            duration: SimDuration::ZERO,
            compute: SimDuration::ZERO,
            stall: SimDuration::ZERO,
            prefill: SimDuration::ZERO,
            restore: SimDuration::ZERO,
            planning: SimDuration::ZERO,
            forecast: None,
            running: 0,
            paused: self.live.iter().filter(|r| matches!(r.state, RunState::Paused { .. })).count() as u32,
            waiting: (self.waiting.len() + self.preempted.len()) as u32,
            gpu_blocks: self.gpu.used(),
            host_bytes: self.host.used(),
            h2d_prefetch: Bytes::ZERO,
            h2d_restore: Bytes::ZERO,
            d2h: Bytes::ZERO,
            trigger: None,
            proof: None,
        }
    }

    /// Emits the step that has just ended and whoever made its last token in it.
    fn close_step(&mut self, record: &StepRecord, delivered: &[RequestId]) {
        self.last_step = record.duration;
        self.preempted_since_step = 0;
        self.steps += 1;
        self.step_clock += 1;
        self.sink.record(&Record::Step { step: record, delivered });
        let mut index = 0;
        while index < self.live.len() {
            let request = &self.live[index];
            if request.generated == self.request(request.id).output_tokens {
                let request = self.live.remove(index);
                self.end(request, &Record::Finished { at: self.now, request: request.id });
            } else {
                index += 1;
            }
        }
    }
}
