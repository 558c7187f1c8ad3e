//! Fingerprints of runs: two runs are the same if and only if every record of theirs is.
//!
//! [`EventDigest`] is one SHA-256 over all records, for results and for comparing machines. [`EventTrail`] keeps 64
//! bits per record, for naming the first one that differs. Both read the same encoding: a tag, then every field as a
//! base-128 number, lowest digits first, so that nothing depends on the platform's word size or byte order. A batch
//! that is the same as in the step before is one byte. Records carry no floating-point number.

use sha2::{Digest, Sha256};

use crate::ids::RequestId;
use crate::record::{Record, RejectReason, Sink, StepKind, StepRecord};
use crate::units::SimDuration;

/// Encoded bytes that are hashed at a time.
const BUFFERED_BYTES: usize = 16 * 1024;

/// SHA-256 over every record of a run.
#[derive(Clone, Debug)]
pub struct EventDigest {
    encoder: Encoder,
    buffer: Vec<u8>,
    hash: Sha256,
}

impl Default for EventDigest {
    fn default() -> Self {
        EventDigest {
            encoder: Encoder::default(),
            buffer: Vec::with_capacity(2 * BUFFERED_BYTES),
            hash: Sha256::new(),
        }
    }
}

impl EventDigest {
    /// The digest of all records so far, in lower-case hexadecimal.
    pub fn finish(mut self) -> String {
        self.hash.update(&self.buffer);
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Sink for EventDigest {
    fn record(&mut self, record: &Record<'_>) {
        self.encoder.encode(record, &mut self.buffer);
        if self.buffer.len() >= BUFFERED_BYTES {
            self.hash.update(&self.buffer);
            self.buffer.clear();
        }
    }
}

/// 64 bits per record of a run (8 bytes of memory each), for [`TrailComparison`].
#[derive(Clone, Debug, Default)]
pub struct EventTrail {
    encoder: Encoder,
    buffer: Vec<u8>,
    marks: Vec<u64>,
}

impl EventTrail {
    /// Records so far.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

impl Sink for EventTrail {
    fn record(&mut self, record: &Record<'_>) {
        self.buffer.clear();
        self.encoder.encode(record, &mut self.buffer);
        self.marks.push(fnv1a(&self.buffer));
    }
}

/// The first record in which a run differs from an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its place among all records, from 0.
    pub place: usize,
    /// The record of the second run; `None` if the second run ended before it.
    pub record: Option<String>,
}

/// Compares a run with an earlier one as it happens.
#[derive(Clone, Debug)]
pub struct TrailComparison<'a> {
    earlier: &'a EventTrail,
    encoder: Encoder,
    buffer: Vec<u8>,
    place: usize,
    difference: Option<Difference>,
}

impl<'a> TrailComparison<'a> {
    /// Compares what follows with `earlier`.
    pub fn with(earlier: &'a EventTrail) -> Self {
        TrailComparison {
            earlier,
            encoder: Encoder::default(),
            buffer: Vec::new(),
            place: 0,
            difference: None,
        }
    }

    /// The first difference, if there is one.
    pub fn finish(self) -> Option<Difference> {
        let short = self.place < self.earlier.len();
        self.difference.or(short.then_some(Difference { place: self.place, record: None }))
    }
}

impl Sink for TrailComparison<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if self.difference.is_some() {
            return;
        }
        self.buffer.clear();
        self.encoder.encode(record, &mut self.buffer);
        if self.earlier.marks.get(self.place) != Some(&fnv1a(&self.buffer)) {
            let record = Some(format!("{record:?}"));
            self.difference = Some(Difference { place: self.place, record });
        }
        self.place += 1;
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Records to bytes.
#[derive(Clone, Debug, Default)]
struct Encoder {
    previous_batch: Vec<RequestId>,
}

impl Encoder {
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        if let Record::Step { step, delivered } = *record {
            put_step(out, step);
            self.put_batch(out, delivered);
            return;
        }
        let (tag, request) = match *record {
            Record::Arrived { request, .. } => (1, Some(request)),
            Record::Rejected { request, .. } => (2, Some(request)),
            Record::Admitted { request, .. } => (3, Some(request)),
            Record::Paused { request, .. } => (4, Some(request)),
            Record::Resumed { request, .. } => (5, Some(request)),
            Record::Preempted { request, .. } => (6, Some(request)),
            Record::Readmitted { request, .. } => (7, Some(request)),
            Record::Placed { request, .. } => (8, Some(request)),
            Record::PlacementRefused { .. } => (9, None),
            Record::Planned { .. } => (10, None),
            Record::Finished { request, .. } => (11, Some(request)),
            Record::Capped { request, .. } => (12, Some(request)),
            Record::Step { .. } => (13, None),
        };
        out.push(tag);
        put(out, record.at().as_picos());
        if let Some(request) = request {
            put(out, u64::from(request.0));
        }
        match *record {
            Record::Rejected { reason, .. } => out.push(match reason {
                RejectReason::GpuPool => 0,
                RejectReason::HostMemory => 1,
                RejectReason::MaxContext => 2,
            }),
            Record::Placed { placement, restored, .. } => {
                put(out, u64::from(placement.offloaded.len()));
                placement.offloaded.iter().for_each(|layer| put(out, u64::from(layer.0)));
                put(out, u64::from(restored));
            }
            Record::Planned { trigger, infeasible_memory, infeasible_slo, node_cap_hit, .. } => {
                out.push(trigger as u8);
                put(out, u64::from(infeasible_memory));
                put(out, u64::from(infeasible_slo));
                out.push(u8::from(node_cap_hit));
            }
            _ => {}
        }
    }

    fn put_batch(&mut self, out: &mut Vec<u8>, batch: &[RequestId]) {
        if batch == self.previous_batch {
            out.push(0);
            return;
        }
        out.push(1);
        put(out, batch.len() as u64);
        batch.iter().for_each(|request| put(out, u64::from(request.0)));
        self.previous_batch.clear();
        self.previous_batch.extend_from_slice(batch);
    }
}

fn put_step(out: &mut Vec<u8>, step: &StepRecord) {
    out.push(13);
    out.push(match step.kind {
        StepKind::Prefill => 0,
        StepKind::Decode => 1,
        StepKind::Mixed => 2,
    });
    // A forecast and a trigger are shifted by one, so that 0 is none of them.
    let forecast = step.forecast.map_or(0, |span: SimDuration| span.as_picos() + 1);
    let trigger = step.trigger.map_or(0, |trigger| trigger as u64 + 1);
    for number in [
        step.index,
        step.start.as_picos(),
        step.duration.as_picos(),
        step.compute.as_picos(),
        step.stall.as_picos(),
        step.prefill.as_picos(),
        step.restore.as_picos(),
        step.planning.as_picos(),
        forecast,
        u64::from(step.running),
        u64::from(step.paused),
        u64::from(step.waiting),
        step.gpu_blocks,
        step.host_bytes.get(),
        step.h2d_prefetch.get(),
        step.h2d_restore.get(),
        step.d2h.get(),
        trigger,
    ] {
        put(out, number);
    }
    // Only where there is one: the digests of methods that say nothing of it stay as they were.
    if let Some(proof) = step.proof {
        out.push(1 + proof as u8);
    }
    if let Some(bound) = step.bound {
        out.push(4);
        put(out, bound.as_picos());
    }
}

/// A base-128 number: seven bits a byte, lowest first, the top bit set on all but the last.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Event, Script, ms};
    use crate::units::SimTime;

    fn run() -> Script {
        let mut script = Script::default();
        script.arrive(0);
        script.admit(0);
        script.prefill(ms(300), &[0]);
        script.decode(ms(50), &[0]);
        script.decode(ms(50), &[0]);
        script.finish(0);
        script
    }

    fn digest(script: &Script) -> String {
        let mut sink = EventDigest::default();
        script.replay(&mut sink);
        sink.finish()
    }

    #[test]
    fn numbers_are_seven_bits_a_byte_lowest_first() {
        let mut out = Vec::new();
        put(&mut out, 0);
        put(&mut out, 127);
        put(&mut out, 300);
        put(&mut out, u64::MAX);
        // 300 = 2·128 + 44
        assert_eq!(out[..4], [0, 127, 44 | 0x80, 2]);
        assert_eq!(out[4..].len(), 10);
    }

    #[test]
    fn a_record_has_these_bytes_on_every_platform() {
        let mut out = Vec::new();
        let at = SimTime::from_picos(300);
        Encoder::default().encode(&Record::Paused { at, request: RequestId(7) }, &mut out);
        assert_eq!(out, [4, 44 | 0x80, 2, 7]);
    }

    #[test]
    fn the_digest_of_a_run_is_the_same_everywhere_and_always() {
        // Computed from the encoding in another language.
        assert_eq!(digest(&run()), "fe85335d040135b4fa1394bd0b95d66171add3c529f860b462472665ca84f2ec");
    }

    #[test]
    fn every_field_of_a_step_is_in_the_digest() {
        let honest = digest(&run());
        let changes: [fn(&mut StepRecord); 22] = [
            |step| step.index += 1,
            |step| step.kind = StepKind::Prefill,
            |step| step.kind = StepKind::Mixed,
            |step| step.start += SimDuration::from_picos(1),
            |step| step.duration += SimDuration::from_picos(1),
            |step| step.compute += SimDuration::from_picos(1),
            |step| step.stall += SimDuration::from_picos(1),
            |step| step.prefill += SimDuration::from_picos(1),
            |step| step.restore += SimDuration::from_picos(1),
            |step| step.planning += SimDuration::from_picos(1),
            |step| step.forecast = Some(SimDuration::ZERO),
            |step| step.running += 1,
            |step| step.paused += 1,
            |step| step.waiting += 1,
            |step| step.gpu_blocks += 1,
            |step| step.host_bytes += crate::units::Bytes::new(1),
            |step| step.h2d_prefetch += crate::units::Bytes::new(1),
            |step| step.h2d_restore += crate::units::Bytes::new(1),
            |step| step.d2h += crate::units::Bytes::new(1),
            |step| step.trigger = Some(crate::record::Trigger::LiveSet),
            |step| step.bound = Some(SimDuration::ZERO),
            |step| step.proof = Some(crate::record::StepProof::Optimal),
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut script = run();
            change(script.last_step().0);
            assert_ne!(digest(&script), honest, "change {place}");
        }
        let mut script = run();
        script.last_step().1.push(RequestId(1));
        assert_ne!(digest(&script), honest);
    }

    #[test]
    fn the_digest_does_not_depend_on_how_much_is_hashed_at_a_time() {
        let mut script = run();
        for _ in 0..2000 {
            script.decode(ms(50), &[0, 1, 2]);
            script.decode(ms(50), &[0, 1, 2, 3]);
        }
        let mut bytes = Vec::new();
        let mut encoder = Encoder::default();
        for event in &script.events {
            match event {
                Event::Plain(record) => encoder.encode(record, &mut bytes),
                Event::Step(step, delivered, _) => {
                    encoder.encode(&Record::Step { step, delivered }, &mut bytes);
                }
            }
        }
        assert!(bytes.len() > 3 * BUFFERED_BYTES);
        let at_once: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest(&script), at_once);
    }

    #[test]
    fn the_first_record_that_differs_is_named() {
        let mut trail = EventTrail::default();
        run().replay(&mut trail);
        assert_eq!(trail.len(), 6);

        let compare = |script: &Script| {
            let mut comparison = TrailComparison::with(&trail);
            script.replay(&mut comparison);
            comparison.finish()
        };
        assert_eq!(compare(&run()), None);

        let mut other = run();
        other.last_step().0.stall = ms(1);
        let difference = compare(&other).unwrap();
        assert_eq!(difference.place, 4);
        assert!(difference.record.unwrap().starts_with("Step"));

        let mut shorter = run();
        shorter.events.pop();
        assert_eq!(compare(&shorter), Some(Difference { place: 5, record: None }));
    }
}
