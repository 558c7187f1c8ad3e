//! The host link of a virtual device: `latency + max(n·submit, Σ pieces)`, by the simulator's own [`LinkModel`].

use orbitflow_sim::cost::{LinkModel, Pieces};
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration};

use crate::device::CopyApi;

/// One way of copying in one direction: the numbers of [`LinkModel`], with the piece left open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VirtualLink {
    /// Once per copy, before its first byte.
    pub latency: SimDuration,
    /// Rate of pieces that reach the knee.
    pub rate: BytesPerSec,
    /// Size from which a piece moves at `rate`.
    pub knee: Bytes,
    /// Rate of smaller pieces.
    pub small_rate: BytesPerSec,
    /// CPU time to submit a piece, as the copy engine feels it.
    pub submit: SimDuration,
    /// Least time of the copy engine per piece.
    pub engine: SimDuration,
}

impl VirtualLink {
    pub(super) fn model(&self, piece: Option<u64>) -> LinkModel {
        let VirtualLink { latency, rate, knee, small_rate, submit, engine } = *self;
        let pieces = Pieces { piece: piece.map(Bytes::new), knee, small_rate, submit, engine };
        LinkModel { latency, rate, pieces: Some(pieces) }
    }

    /// Time of one piece by itself: no latency, no submission.
    pub(super) fn piece_time(&self, bytes: u64) -> SimDuration {
        let alone = VirtualLink { latency: SimDuration::ZERO, submit: SimDuration::ZERO, ..*self };
        alone.model(None).copy_time(Bytes::new(bytes))
    }
}

/// The ways of copying in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VirtualLinks {
    /// One call per piece.
    pub by_call: VirtualLink,
    /// One call for many pieces, with or without the overlap hint.
    pub batch: VirtualLink,
    /// A kernel that copies; the number of its blocks changes nothing.
    pub gather: VirtualLink,
}

impl VirtualLinks {
    pub(super) fn by(&self, api: CopyApi) -> &VirtualLink {
        match api {
            CopyApi::Async => &self.by_call,
            CopyApi::Batch | CopyApi::BatchOverlap => &self.batch,
            CopyApi::SmGather { .. } => &self.gather,
        }
    }
}
