//! What runs things: one compute engine, one copy engine per direction.

use crate::device::{CopyApi, CopyWork, Direction};

/// What tasks occupy while they run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::device) struct Engines(u8);

impl Engines {
    /// No engine.
    pub const NONE: Engines = Engines(0);
    /// Kernels.
    pub const COMPUTE: Engines = Engines(1);
    /// Copies from host to device.
    pub const H2D: Engines = Engines(2);
    /// Copies from device to host.
    pub const D2H: Engines = Engines(4);

    /// These and those.
    pub const fn with(self, other: Engines) -> Engines {
        Engines(self.0 | other.0)
    }

    /// These but not those.
    pub const fn without(self, other: Engines) -> Engines {
        Engines(self.0 & !other.0)
    }

    /// Whether any engine is in both.
    pub const fn meets(self, other: Engines) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a copy occupies, and how many operations it is in a launch queue. One engine per direction; a gather kernel
/// occupies the multiprocessors as well.
pub(in crate::device) fn occupied_by(work: &CopyWork<'_>) -> (Engines, usize) {
    let link = match work.direction {
        Direction::H2d => Engines::H2D,
        Direction::D2h => Engines::D2H,
    };
    match work.api {
        CopyApi::Async => (link, work.pieces.len()),
        CopyApi::Batch | CopyApi::BatchOverlap => (link, 1),
        CopyApi::SmGather { .. } => (link.with(Engines::COMPUTE), 1),
    }
}

/// A kernel or a copy, as the queues see it.
pub(in crate::device) trait Task: Clone {
    /// What it occupies.
    fn engines(&self) -> Engines;
    /// Operations that it would be in a launch queue.
    fn operations(&self) -> usize;
}
