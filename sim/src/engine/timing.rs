//! How long a step takes: what it computes, what it copies, and when one waits for the other (design §3.4, §3.6).
//!
//! Turns the layout of the running requests into the work of the pipeline. Knows nothing of policies and records.

use super::chunked::{self, Chunk, chunk_of};
use super::step::{Batch, Buffers};
use super::{Engine, Setup};
use crate::ids::{Layer, RequestId};
use crate::model::LayerSet;
use crate::pipeline::{self, CopyTimes, HeadStart, LayerTimes, StepRequest, StepTiming, StepWork};
use crate::policy::LiveRequest;
use crate::random::{self, Stream};
use crate::record::Sink;
use crate::server::{Noise, Restore, WriteBack};
use crate::units::{Bytes, SimDuration, SimTime, TOKENS_PER_BLOCK, blocks_for_tokens};

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
    pub(super) fn begun(&self) -> u32 {
        self.within.len() - u32::from(self.head_start != HeadStart::None)
    }
}

/// The compute of a step, before copies hold it up.
#[derive(Clone, Copy)]
pub struct Compute {
    /// Whether anyone decodes.
    pub(super) decodes: bool,
    /// Each layer's, for the decodes.
    pub(super) layer: SimDuration,
    /// All layers', for prompt tokens.
    pub(super) prefill: SimDuration,
    /// After the last layer.
    pub(super) tail: SimDuration,
}

impl<S: Sink> Engine<'_, S> {
    /// What the decodes of the batch and these chunks ask of the compute stream.
    pub(super) fn compute_of(&self, batch: Batch, chunks: &[Chunk], noise: Noise) -> Compute {
        let truth = self.setup.truth;
        let decodes = batch.requests > 0;
        let prefill = truth.prefill_chunks(chunks.iter().map(|chunk| chunk.part), decodes);
        if !decodes {
            return Compute { decodes, layer: SimDuration::ZERO, prefill, tail: SimDuration::ZERO };
        }
        let layer = truth.layer_compute(batch.context_tokens, batch.requests);
        let layer = layer.scale(self.compute_noise(noise));
        Compute { decodes, layer, prefill, tail: truth.tail(batch.requests) }
    }

    /// Time of the blocking restores, which may start at `from`: behind a copy that is still under way.
    pub(super) fn restore_time(&mut self, copies: &[Copies], noise: Noise, from: SimTime) -> SimDuration {
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

    /// Which layers of whom come over the link, before the step and within it: those of everyone who decodes, and of a
    /// prompt that goes on as far as it has come.
    pub(super) fn collect_copies(&self, chunks: &[Chunk], all: &mut Vec<Copies>) {
        let Setup { truth, server, footprint, .. } = self.setup;
        all.clear();
        for request in self.live.iter().filter(|request| request.is_running()) {
            let blocks = match (request.is_prefilling(), chunk_of(chunks, request)) {
                (false, _) => request.blocks(),
                (true, Some(chunk)) if chunk.from > 0 => blocks_for_tokens(chunk.from),
                (true, _) => continue,
            };
            let (before, kept) = match server.switches.restore {
                Restore::Blocking => (request.missing, LayerSet::EMPTY),
                Restore::Lazy => (LayerSet::EMPTY, request.missing),
            };
            let within = request.placement.offloaded.union(kept);
            if !within.is_empty() || !before.is_empty() {
                let bytes = footprint.block_bytes * blocks;
                let time = truth.h2d.copy_time(bytes);
                let head_start = HeadStart::None;
                all.push(Copies { request: request.id, head_start, before, within, kept, bytes, time });
            }
        }
    }

    /// The decode part of the step, to the end of layer L, and the bytes that it copies for the next one.
    pub(super) fn time_of(
        &mut self,
        work: &mut Buffers,
        Compute { decodes, layer, prefill, tail }: Compute,
        noise: Noise,
        decode_start: SimTime,
    ) -> (StepTiming, Bytes) {
        let layers = self.setup.footprint.layers;
        let Buffers { scratch, chunks, copies, joined, noisy, .. } = work;
        if !decodes && copies.iter().all(|copies| copies.within.is_empty()) {
            self.inspect_memory(LiveRequest::context);
            return (StepTiming { step: prefill, compute: prefill, copy: SimDuration::ZERO }, Bytes::ZERO);
        }
        let compute = if chunks.is_empty() {
            LayerTimes::Same(layer)
        } else {
            pipeline::joined_layers(layer, prefill, layers, joined);
            LayerTimes::PerLayer(joined)
        };
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
            compute,
            requests: &requests,
            slots: self.slots,
            order: switches.copy_order,
            contention: self.setup.truth.contention,
        };
        let write = match switches.write_back {
            WriteBack::Free => None,
            WriteBack::Link => decodes.then(|| self.setup.truth.d2h.copy_time(self.new_rows(chunks))),
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

    /// What the step writes through of one layer: a row of everyone who decodes, and of every prompt token.
    pub(super) fn new_rows(&self, chunks: &[Chunk]) -> Bytes {
        let running = self.live.iter().filter(|request| request.is_running());
        let decodes = running.filter(|request| !request.is_prefilling()).count() as u64;
        let token = Bytes::new(self.setup.footprint.block_bytes.get() / TOKENS_PER_BLOCK);
        token * (decodes + chunked::tokens(chunks))
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

    /// How long the `rows` of a step without decodes take to the host, where that is traffic: such a step takes no less.
    pub(super) fn prompt_write(&self, rows: Bytes) -> Option<SimDuration> {
        match self.setup.server.switches.write_back {
            WriteBack::Free => None,
            WriteBack::Link => Some(self.setup.truth.d2h.rate.transfer_time(rows)),
        }
    }
}
