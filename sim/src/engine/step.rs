//! One step, prefill, decode or both: from a checked layout to time, tokens and records (design §3.4, §3.5).

use super::chunked::{Chunk, chunk_of};
use super::timing::Copies;
use super::{Engine, Setup};
use crate::deposit::Playback;
use crate::ids::RequestId;
use crate::model::LayerSet;
use crate::pipeline::{Scratch, StepTiming};
use crate::policy::{Decision, LiveRequest, Measured, RunState, Stage};
use crate::record::{MemoryUse, Record, Sink, StepKind, StepRecord, Trigger};
use crate::server::Planning;
use crate::units::{Bytes, SimDuration, TOKENS_PER_BLOCK};

/// Memory that is kept from step to step, so that a step allocates nothing.
#[derive(Default)]
pub struct Buffers {
    pub(super) scratch: Scratch,
    pub(super) chunks: Vec<Chunk>,
    pub(super) copies: Vec<Copies>,
    delivered: Vec<RequestId>,
    /// Compute by layer, where prompt tokens join it.
    pub(super) joined: Vec<SimDuration>,
    /// Copy times by request and layer, where they have noise.
    pub(super) noisy: Vec<SimDuration>,
    pub(super) snapshot: Vec<MemoryUse>,
}

/// What the running requests ask of the next step: those that decode, and the memory of all.
#[derive(Clone, Copy, Default)]
pub struct Batch {
    /// Requests that decode.
    pub(super) requests: u32,
    /// Their contexts.
    pub(super) context_tokens: u64,
    gpu_blocks: u64,
}

impl<S: Sink> Engine<'_, S> {
    /// Processes the prompts of `newcomers`; the step ends with the first token of each.
    pub(super) fn prefill(&mut self, newcomers: &[RequestId]) {
        let Setup { truth, footprint, .. } = self.setup;
        let prompts: Vec<u64> = newcomers.iter().map(|id| self.request(*id).prompt_tokens).collect();
        let written = footprint.block_bytes * (prompts.iter().sum::<u64>() * u64::from(footprint.layers));
        let written = Bytes::new(written.get() / TOKENS_PER_BLOCK);
        let mut duration = truth.prefill(prompts);
        let write = self.prompt_write(written);
        duration = duration.max(write.unwrap_or_default());
        self.shown.prompts(write);
        self.gpu.set_used(self.held_blocks());
        self.inspect_memory(LiveRequest::held_tokens);
        let record = StepRecord {
            prefill: duration,
            duration,
            running: newcomers.len() as u32,
            d2h: written,
            ..self.blank_step(StepKind::Prefill)
        };
        self.now += duration;
        for request in self.live.iter_mut().filter(|request| request.is_prefilling()) {
            request.prefilled = request.prompt_tokens;
            request.generated = 1;
            request.playback = Playback::start(self.now);
        }
        self.live_set_changed = true;
        self.close_step(&record, newcomers);
    }

    /// Layer-blocks the running requests hold between steps; a newcomer holds its prompt.
    pub(super) fn held_blocks(&self) -> u64 {
        let running = self.live.iter().filter(|request| request.is_running());
        running.map(|request| self.need(request.placement, request.held_blocks())).sum()
    }

    /// Asks the policy until its layout fits, then decodes one token for every running request that has its first one,
    /// and processes prompt tokens of the others.
    pub(super) fn step(&mut self) {
        if self.only_prefills() {
            let kept = Decision::default();
            let batch =
                self.apply_if_it_fits(&kept).expect("Invariant: an admitted prompt has room for all of it");
            return self.execute(&kept, batch, SimDuration::ZERO, None);
        }
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
                Some(_) => self.make_host_room(),
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
            if !request.is_prefilling() {
                batch.requests += 1;
                batch.context_tokens += request.context();
            }
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
    fn make_host_room(&mut self) {
        let running = self.live.iter().filter(|request| request.is_running()).count();
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
        let noise = self.setup.server.switches.noise;
        let planning = match self.setup.server.switches.planning {
            Planning::Synchronous => planning,
            Planning::Ahead => planning.saturating_sub(self.last_step),
            Planning::Free => SimDuration::ZERO,
        };
        let mut work = std::mem::take(&mut self.work);
        self.collect_chunks(&mut work.chunks);
        self.collect_copies(&work.chunks, &mut work.copies);
        let restore = self.restore_time(&work.copies, noise, self.now + planning);
        let decode_start = self.now + planning + restore;
        if self.setup.server.switches.cross_step_prefetch {
            self.note_head_starts(&mut work.copies, decode_start);
        }
        let compute = self.compute_of(batch, &work.chunks, noise);
        self.show_copies(&work, compute.decodes, noise, decode_start);
        let (timing, prefetched) = self.time_of(&mut work, compute, noise, decode_start);

        let decodes = batch.requests > 0;
        let mut record = self.blank_step(match (decodes, work.chunks.is_empty()) {
            (true, true) => StepKind::Decode,
            (true, false) => StepKind::Mixed,
            (false, _) => StepKind::Prefill,
        });
        record.h2d_prefetch = prefetched;
        for copies in &work.copies {
            let restored = copies.before.len() + copies.kept.len();
            let fetched = copies.begun() - copies.kept.len();
            record.h2d_restore += copies.bytes * u64::from(restored);
            record.h2d_prefetch += copies.bytes * u64::from(fetched);
        }
        let restores = record.h2d_restore != Bytes::ZERO;
        let plain = !restores && work.chunks.is_empty();
        let anything = record.h2d_prefetch != Bytes::ZERO || restores;
        let intercept = if anything { self.setup.truth.link_intercept } else { SimDuration::ZERO };
        record.d2h = self.new_rows(&work.chunks) * u64::from(self.setup.footprint.layers);
        if decodes {
            record.compute = timing.compute - compute.prefill + compute.tail;
            record.prefill = compute.prefill;
            self.measure(batch, timing, plain, &work.copies);
        } else {
            let write = self.prompt_write(record.d2h).unwrap_or_default();
            record.prefill = timing.compute + write.saturating_sub(timing.step);
        }
        record.stall = timing.stall() + intercept;
        let own_copies = !self.setup.server.switches.cross_step_prefetch;
        record.bound = (record.kind == StepKind::Decode && own_copies)
            .then(|| timing.compute.max(timing.copy) + compute.tail + intercept);
        record.restore = restore;
        record.planning = planning;
        record.duration = record.compute + record.stall + record.prefill + record.restore + record.planning;
        record.forecast = decision.forecast.filter(|_| plain);
        record.running = batch.requests + work.chunks.len() as u32;
        record.trigger = trigger;
        record.proof = decision.proof;

        self.now += record.duration;
        self.deliver(&mut work);
        let delivered = std::mem::take(&mut work.delivered);
        self.work = work;
        self.close_step(&record, &delivered);
        self.work.delivered = delivered;
    }

    /// A token for everyone who decodes, and the first one for whoever's prompt is done.
    fn deliver(&mut self, work: &mut Buffers) {
        work.delivered.clear();
        for request in self.live.iter_mut().filter(|request| request.is_running()) {
            if request.is_prefilling() {
                // One whose turn did not come is as it was: what it misses is still missing.
                let Some(chunk) = chunk_of(&work.chunks, request) else { continue };
                request.missing = LayerSet::EMPTY;
                request.prefilled = chunk.to;
                if chunk.to < chunk.prompt {
                    continue;
                }
                request.playback = Playback::start(self.now);
                self.live_set_changed = true;
            } else {
                request.missing = LayerSet::EMPTY;
                request.playback.deliver(self.now, request.slo);
            }
            request.generated += 1;
            work.delivered.push(request.id);
        }
    }

    /// Notes what the step took, for policies that learn rates.
    fn measure(&mut self, batch: Batch, timing: StepTiming, plain: bool, copies: &[Copies]) {
        self.measured_copies.clear();
        self.measured_copies.extend(copies.iter().map(|copies| (copies.begun(), copies.bytes)));
        self.measured = Some(Measured {
            plain,
            compute: timing.compute,
            copy: timing.copy,
            context_tokens: batch.context_tokens,
            requests: batch.requests,
            copies: &[],
        });
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
            bound: None,
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
