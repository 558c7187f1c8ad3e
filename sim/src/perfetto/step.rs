//! One step taken apart: what the compute stream does one after the other, and what is copied meanwhile. Knows no JSON.

use crate::ids::{Layer, RequestId};
use crate::record::{Copier, RestoreSpan, Snapshot, StepRecord, StepTimeline};
use crate::units::{Bytes, SimDuration, SimTime};

/// Why a layer comes to the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Prefetch,
    PrefetchNext,
    Restore,
}

impl Purpose {
    pub const fn name(self) -> &'static str {
        match self {
            Purpose::Prefetch => "prefetch",
            Purpose::PrefetchNext => "prefetch_next",
            Purpose::Restore => "restore",
        }
    }
}

/// A copy on the way to the GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    pub request: RequestId,
    pub layer: Layer,
    pub bytes: Bytes,
    pub start: SimTime,
    pub end: SimTime,
    pub purpose: Purpose,
}

/// A slice of the compute track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub category: &'static str,
    pub what: String,
    /// The copy that it waits for.
    pub waits_for: Option<(RequestId, Layer)>,
    pub when: (SimTime, SimTime),
}

/// The write-through of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writes {
    /// How long the copy engine works: there may be gaps between the writes of two layers.
    pub busy: SimDuration,
    /// From the start of the first to the end of the last.
    pub when: (SimTime, SimTime),
}

/// What a snapshot shows of a step, kept until its record comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    timeline: Option<StepTimeline>,
    copiers: Vec<Copier>,
    restores: Vec<RestoreSpan>,
    prompt_write: Option<SimDuration>,
    decode_start: SimTime,
    decode: SimDuration,
}

impl Shown {
    pub fn of(snapshot: &Snapshot<'_>) -> Self {
        Shown {
            timeline: snapshot.timeline.cloned(),
            copiers: snapshot.copiers.to_vec(),
            restores: snapshot.restores.to_vec(),
            prompt_write: snapshot.prompt_write,
            decode_start: snapshot.decode_start,
            decode: snapshot.decode,
        }
    }

    /// When a copy that the step before began has landed, if it ran when the decode part began.
    pub fn carried_until(&self) -> Option<SimTime> {
        let carried = self.timeline.as_ref()?.carried?;
        Some(self.decode_start + carried.end)
    }

    /// Copies to the GPU in the order in which they run, but for the one that the step before began.
    fn copies(&self) -> Vec<Copy> {
        let restores = self.restores.iter().map(|restore| {
            let RestoreSpan { request, layer, bytes, start, end } = *restore;
            Copy { request, layer, bytes, start, end, purpose: Purpose::Restore }
        });
        let Some(timeline) = &self.timeline else { return restores.collect() };
        let at = |span: SimDuration| self.decode_start + span;
        let own = timeline.copies.iter().map(|copy| {
            let Copier { request, bytes, kept, .. } = self.copiers[copy.request];
            let purpose = if kept.contains(copy.layer) { Purpose::Restore } else { Purpose::Prefetch };
            Copy { request, layer: copy.layer, bytes, start: at(copy.start), end: at(copy.end), purpose }
        });
        let ahead = timeline.ahead.iter().map(|copy| {
            let Copier { request, next_bytes: bytes, .. } = self.copiers[copy.request];
            let (start, end) = (at(copy.start), at(copy.end));
            Copy { request, layer: copy.layer, bytes, start, end, purpose: Purpose::PrefetchNext }
        });
        restores.chain(own).chain(ahead).collect()
    }
}

/// A step taken apart.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// From the start of the step to its end, without a gap.
    pub compute: Vec<Part>,
    pub copies: Vec<Copy>,
    pub writes: Option<Writes>,
    /// From when to when the prompts of a prefill step go to the host.
    pub prompts_written: Option<(SimTime, SimTime)>,
    now: SimTime,
}

impl Parts {
    /// Takes `step` apart; `carried` is the last copy before it, which may still run.
    pub fn new(step: &StepRecord, shown: &Shown, carried: Option<&Copy>) -> Self {
        let mut parts = Parts { copies: shown.copies(), now: step.start, ..Parts::default() };
        parts.take("planning", "planning", step.planning);
        parts.restores(step.restore, carried);
        match &shown.timeline {
            Some(timeline) => parts.decode(step, timeline, shown, carried),
            None => {
                parts.take("prefill", "prefill", step.prefill);
                parts.take("layer", "layers", step.compute);
                parts.take("stall", "stall", step.stall);
            }
        }
        let begun = step.start + step.planning + step.restore;
        parts.prompts_written = shown.prompt_write.map(|write| (begun, begun + write));
        parts
    }

    /// The next slice of the compute track.
    fn take(&mut self, category: &'static str, what: &str, span: SimDuration) {
        self.take_until(category, what, None, self.now + span);
    }

    fn take_until(
        &mut self,
        category: &'static str,
        what: &str,
        waits_for: Option<(RequestId, Layer)>,
        end: SimTime,
    ) {
        if self.now < end {
            let when = (self.now, end);
            self.compute.push(Part { category, what: what.to_owned(), waits_for, when });
            self.now = end;
        }
    }

    /// Waiting for each blocking restore, after whatever still holds the link.
    fn restores(&mut self, restore: SimDuration, carried: Option<&Copy>) {
        let end = self.now + restore;
        let within = |copy: &&Copy| copy.purpose == Purpose::Restore && copy.end <= end;
        let awaited: Vec<Copy> =
            carried.into_iter().chain(self.copies.iter().filter(within)).copied().collect();
        for copy in awaited.iter().filter(|copy| copy.end <= end) {
            self.take_until("restore_wait", "restore", Some((copy.request, copy.layer)), copy.end);
        }
    }

    /// The decode part, and what comes after it.
    fn decode(&mut self, step: &StepRecord, timeline: &StepTimeline, shown: &Shown, carried: Option<&Copy>) {
        self.layers(timeline, shown, carried);
        let computed: SimDuration = timeline.layers.iter().map(|layer| layer.end - layer.start).sum();
        // Where prompt tokens join the step, layers hold their part.
        let rest = step.compute + step.prefill - computed;
        if step.compute > SimDuration::ZERO {
            self.take("tail", "tail: sampling and scheduling", rest);
        } else {
            self.take("prefill", "prefill: rows to the host", rest);
        }
        self.take("intercept", "link intercept", step.stall - (shown.decode - computed));
        if let (Some(first), Some(last)) = (timeline.writes.first(), timeline.writes.last()) {
            let at = |span: SimDuration| shown.decode_start + span;
            let busy = timeline.writes.iter().map(|write| write.end - write.start).sum();
            self.writes = Some(Writes { busy, when: (at(first.start), at(last.end)) });
        }
    }

    /// Layers and the stalls before them, to the end of the decode part.
    fn layers(&mut self, timeline: &StepTimeline, shown: &Shown, carried: Option<&Copy>) {
        let at = |span: SimDuration| shown.decode_start + span;
        let undisturbed =
            timeline.copies.is_empty() && timeline.ahead.is_empty() && timeline.carried.is_none();
        let computed: SimDuration = timeline.layers.iter().map(|layer| layer.end - layer.start).sum();
        if undisturbed && computed == shown.decode {
            let what = format!("layers 1 to {}", timeline.layers.len());
            return self.take_until("layer", &what, None, at(shown.decode));
        }
        for span in &timeline.layers {
            self.wait_for_write(at(span.start - span.stall), span.layer.0 - 1);
            let mut awaited: Vec<Copy> =
                self.copies.iter().filter(|copy| copy.layer == span.layer).copied().collect();
            if timeline.carried.is_some_and(|carried| carried.layer == Some(span.layer)) {
                awaited.extend(carried);
            }
            awaited.sort_by_key(|copy| copy.end);
            for copy in awaited.iter().filter(|copy| copy.end <= at(span.start)) {
                self.take_until("stall", "stall", Some((copy.request, copy.layer)), copy.end);
            }
            self.take_until("layer", &format!("layer {}", span.layer), None, at(span.end));
        }
        self.wait_for_write(at(shown.decode), timeline.layers.len() as u32);
    }

    /// After layer `layer` until its write in the step before has ended.
    fn wait_for_write(&mut self, until: SimTime, layer: u32) {
        self.take_until("stall", &format!("stall: write of layer {layer} in the step before"), None, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{
        Contention, CopyOrder, CopyTimes, LayerTimes, StepRequest, StepWork, WriteBack, timeline,
    };
    use crate::record::StepKind;
    use crate::script::blank;

    fn picos(count: u64) -> SimDuration {
        SimDuration::from_picos(count)
    }

    fn at(count: u64) -> SimTime {
        SimTime::from_picos(count)
    }

    fn work<'a>(requests: &'a [StepRequest<'a>]) -> StepWork<'a> {
        StepWork {
            layers: 2,
            compute: LayerTimes::Same(picos(10)),
            requests,
            slots: 1,
            order: CopyOrder::ReadyFirst,
            contention: Contention::NONE,
        }
    }

    /// Category, what, start and end of each slice of the compute track.
    fn slices(parts: &Parts) -> Vec<(&str, &str, u64, u64)> {
        let slice = |part: &'_ Part| (part.when.0.as_picos(), part.when.1.as_picos());
        parts
            .compute
            .iter()
            .map(|part| (part.category, part.what.as_str(), slice(part).0, slice(part).1))
            .collect()
    }

    #[test]
    fn a_step_that_waits_for_the_writes_of_the_step_before_says_so() {
        // Layers end at 10 and 20, writes take 30: 10-40 and 40-70. The next step starts at 20: layer 1 ends at 30, its
        // write before at 40; layer 2 is 40-50, its write before ends at 70, and so does the step. Own writes: 70-130.
        let mut writes = WriteBack::new(2);
        timeline(&work(&[]), at(0), Some((&mut writes, picos(30))));
        let (timing, shown) = timeline(&work(&[]), at(20), Some((&mut writes, picos(30))));
        let shown =
            Shown { timeline: Some(shown), decode_start: at(20), decode: timing.step, ..Shown::default() };
        let step = StepRecord {
            start: at(20),
            compute: picos(23),
            stall: timing.stall() + picos(2),
            ..blank(StepKind::Decode)
        };
        let parts = Parts::new(&step, &shown, None);
        assert_eq!(
            slices(&parts),
            [
                ("layer", "layer 1", 20, 30),
                ("stall", "stall: write of layer 1 in the step before", 30, 40),
                ("layer", "layer 2", 40, 50),
                ("stall", "stall: write of layer 2 in the step before", 50, 70),
                ("tail", "tail: sampling and scheduling", 70, 73),
                ("intercept", "link intercept", 73, 75),
            ]
        );
        let writes = parts.writes.unwrap();
        assert_eq!((writes.busy, writes.when), (picos(60), (at(70), at(130))));
    }

    #[test]
    fn a_stall_for_two_copies_is_two_slices() {
        // Both fetch layer 2, 15 and 20 ps: 0-15 and 15-35. Layer 1 ends at 10.
        let fetched = [Layer(2)].into_iter().collect();
        let requests = [15, 20].map(|time| StepRequest { fetched, copy: CopyTimes::Same(picos(time)) });
        let (timing, shown) = timeline(&work(&requests), at(0), None);
        let copier = |request| Copier {
            request: RequestId(request),
            bytes: Bytes::new(1),
            kept: fetched,
            next_bytes: Bytes::ZERO,
        };
        let shown = Shown {
            timeline: Some(shown),
            copiers: vec![copier(7), copier(9)],
            decode: timing.step,
            ..Shown::default()
        };
        let step = StepRecord { compute: picos(20), stall: timing.stall(), ..blank(StepKind::Decode) };
        let parts = Parts::new(&step, &shown, None);
        assert_eq!(
            slices(&parts),
            [
                ("layer", "layer 1", 0, 10),
                ("stall", "stall", 10, 15),
                ("stall", "stall", 15, 35),
                ("layer", "layer 2", 35, 45)
            ]
        );
        let awaited: Vec<_> = parts.compute.iter().filter_map(|part| part.waits_for).collect();
        assert_eq!(awaited, [(RequestId(7), Layer(2)), (RequestId(9), Layer(2))]);
        // They stay: lazy restores.
        assert!(parts.copies.iter().all(|copy| copy.purpose == Purpose::Restore));
    }

    #[test]
    fn prompts_beside_decodes_are_in_the_layers() {
        // Of each layer 2 ps are for decodes and 8 for prompts; the tail takes 4.
        let (timing, shown) = timeline(&work(&[]), at(0), None);
        let shown = Shown { timeline: Some(shown), decode: timing.step, ..Shown::default() };
        let step = StepRecord { compute: picos(8), prefill: picos(16), ..blank(StepKind::Decode) };
        let parts = Parts::new(&step, &shown, None);
        let tail = "tail: sampling and scheduling";
        assert_eq!(slices(&parts), [("layer", "layers 1 to 2", 0, 20), ("tail", tail, 20, 24)]);
    }
}
