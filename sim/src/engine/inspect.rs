//! What a checking sink is shown of a step: memory by request, and the timeline of every copy and layer.
//!
//! Nothing here changes a run: it is computed only for sinks that inspect.

use super::Engine;
use super::step::Buffers;
use crate::model::LayerSet;
use crate::pipeline::{self, CopyTimes, LayerTimes, StepTiming, StepWork, prefix_forecast};
use crate::policy::LiveRequest;
use crate::record::{Copier, MemoryUse, RestoreSpan, Sink, Snapshot, StepTimeline};
use crate::server::Noise;
use crate::units::{SimDuration, SimTime, blocks_for_tokens};

/// What a snapshot says of a step's layers and copies; nothing in a prefill step that copies nothing.
#[derive(Clone, Copy, Default)]
struct Decode<'a> {
    timeline: Option<&'a StepTimeline>,
    start: SimTime,
    time: SimDuration,
    bounds: Option<(SimDuration, SimDuration)>,
    prefix_forecast_s: f64,
}

/// Whose the copies of the next step are, and what comes before its decode part.
#[derive(Default)]
pub struct Shown {
    copiers: Vec<Copier>,
    restores: Vec<RestoreSpan>,
    prompt_write: Option<SimDuration>,
}

impl Shown {
    /// The next step is of prompts alone; their way to the host takes that long, if it is traffic.
    pub(super) fn prompts(&mut self, write: Option<SimDuration>) {
        self.copiers.clear();
        self.restores.clear();
        self.prompt_write = write;
    }
}

impl<S: Sink> Engine<'_, S> {
    /// Notes for the next snapshot whose copies the step has. Restores are one after the other, the last one ends when
    /// the decode part starts.
    pub(super) fn show_copies(
        &mut self,
        Buffers { chunks, copies, .. }: &Buffers,
        decodes: bool,
        noise: Noise,
        decode_start: SimTime,
    ) {
        if !self.sink.inspects() {
            return;
        }
        let mut shown = std::mem::take(&mut self.shown);
        let rows = self.new_rows(chunks) * u64::from(self.setup.footprint.layers);
        shown.prompts(if decodes { None } else { self.prompt_write(rows) });
        let block_bytes = self.setup.footprint.block_bytes;
        for copies in copies.iter().filter(|copies| !copies.within.is_empty()) {
            let next = self.live[self.index(copies.request)].context() + 1;
            shown.copiers.push(Copier {
                request: copies.request,
                bytes: copies.bytes,
                kept: copies.kept,
                next_bytes: block_bytes * blocks_for_tokens(next),
            });
        }
        let each = copies.iter().flat_map(|copies| copies.before.iter().map(move |layer| (copies, layer)));
        let mut end = decode_start;
        for (copies, layer) in each.collect::<Vec<_>>().into_iter().rev() {
            let time = copies.time.scale(self.copy_noise(noise, self.steps, copies.request, layer));
            let start = SimTime::ZERO + (end.since(SimTime::ZERO) - time);
            let (request, bytes) = (copies.request, copies.bytes);
            shown.restores.push(RestoreSpan { request, layer, bytes, start, end });
            end = start;
        }
        shown.restores.reverse();
        self.shown = shown;
    }

    /// Shows what every request holds, with these contexts.
    pub(super) fn inspect_memory(&mut self, context: impl Fn(&LiveRequest) -> u64) {
        if self.sink.inspects() {
            self.emit_snapshot(context, Decode::default());
        }
    }

    /// Shows the step that is about to run, by the slow twin of the pipeline.
    pub(super) fn inspect_step(
        &mut self,
        work: &StepWork<'_>,
        write: Option<SimDuration>,
        decode_start: SimTime,
    ) {
        let mut write_back = self.write_back.clone();
        let (timing, timeline) =
            pipeline::timeline(work, self.now, write.map(|write| (&mut write_back, write)));
        self.emit_decode(work, SimDuration::ZERO, decode_start, timing, &timeline);
    }

    /// Shows a decode step: `work` is what it computes and copies for itself, `others` what it copies for its
    /// neighbours.
    pub(super) fn emit_decode(
        &mut self,
        work: &StepWork<'_>,
        others: SimDuration,
        decode_start: SimTime,
        timing: StepTiming,
        timeline: &StepTimeline,
    ) {
        let layer_s = match work.compute {
            LayerTimes::Same(time) => time.as_secs_f64(),
            LayerTimes::PerLayer(times) => {
                times.iter().map(|time| time.as_secs_f64()).sum::<f64>() / times.len() as f64
            }
        };
        let copies: Option<Vec<(LayerSet, f64)>> = work
            .requests
            .iter()
            .map(|request| match request.copy {
                CopyTimes::Same(time) => Some((request.fetched, time.as_secs_f64())),
                CopyTimes::PerLayer(_) => None,
            })
            .collect();
        let forecast = copies.map_or(0.0, |copies| prefix_forecast(work.layers, layer_s, &copies));
        let decode = Decode {
            timeline: Some(timeline),
            start: decode_start,
            time: timing.step,
            bounds: (!work.contention.is_none()).then(|| work.bounds_beside(others)),
            prefix_forecast_s: forecast,
        };
        self.emit_snapshot(LiveRequest::context, decode);
    }

    fn emit_snapshot(&mut self, context: impl Fn(&LiveRequest) -> u64, decode: Decode<'_>) {
        let mut uses = std::mem::take(&mut self.work.snapshot);
        uses.clear();
        let live = self.live.iter().map(|request| (request, request.is_running()));
        let preempted = self.preempted.iter().map(|request| (request, false));
        uses.extend(live.chain(preempted).map(|(request, running)| {
            let tokens = if running { context(request) } else { request.held_tokens() };
            let blocks = blocks_for_tokens(tokens);
            MemoryUse {
                request: request.id,
                gpu_blocks: if running { self.need(request.placement, blocks) } else { 0 },
                host_bytes: self.host_bytes(blocks),
                context: tokens,
                placement: request.placement,
                running,
            }
        }));
        self.sink.inspect(&Snapshot {
            gpu_blocks: self.gpu.used(),
            gpu_capacity: self.gpu.capacity(),
            host_bytes: self.host.used(),
            host_capacity: self.host.capacity(),
            requests: &uses,
            waiting: self.waiting.len() as u32,
            preempted: self.preempted.len() as u32,
            timeline: decode.timeline,
            copiers: &self.shown.copiers,
            restores: &self.shown.restores,
            prompt_write: self.shown.prompt_write,
            decode_start: decode.start,
            decode: decode.time,
            contended_bounds: decode.bounds,
            prefix_forecast_s: decode.prefix_forecast_s,
        });
        self.work.snapshot = uses;
    }
}
