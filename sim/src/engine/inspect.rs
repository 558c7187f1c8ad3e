//! What a checking sink is shown of a step: memory by request, and the timeline of every copy and layer.
//!
//! Nothing here changes a run: it is computed only for sinks that inspect.

use super::Engine;
use crate::model::LayerSet;
use crate::pipeline::{self, CopyTimes, LayerTimes, StepTiming, StepWork, prefix_forecast};
use crate::policy::LiveRequest;
use crate::record::{MemoryUse, Sink, Snapshot, StepTimeline};
use crate::units::{SimDuration, SimTime};

/// What a snapshot says of a step's layers and copies; nothing in a prefill step that copies nothing.
#[derive(Clone, Copy, Default)]
struct Decode<'a> {
    timeline: Option<&'a StepTimeline>,
    start: SimTime,
    time: SimDuration,
    bounds: Option<(SimDuration, SimDuration)>,
    prefix_forecast_s: f64,
}

impl<S: Sink> Engine<'_, S> {
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
            let blocks = crate::units::blocks_for_tokens(tokens);
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
            decode_start: decode.start,
            decode: decode.time,
            contended_bounds: decode.bounds,
            prefix_forecast_s: decode.prefix_forecast_s,
        });
        self.work.snapshot = uses;
    }
}
