//! E4: rates of GPU memory: copies within it (bytes read plus bytes written), reads, writes.
//!
//! The buffers are many times the level-2 cache, so nothing rotates. Reads and copies are of random data; writes go to a
//! buffer that no one reads.

use super::arena;
use crate::device::{DeviceBuffer, DeviceError, POISON, Work};
use crate::measure::{Group, Importance, Point, Runs, measure};
use crate::results::{MemoryPoint, MemoryUse};
use crate::session::Session;

const EXPERIMENT: &str = "E4";

/// Measures E4.
///
/// # Errors
/// The device's.
pub fn memory_rates(session: &mut Session<'_>) -> Result<Vec<MemoryPoint>, DeviceError> {
    session.device.free_all()?;
    let bytes = session.scale.memory_bytes;
    let source = arena::random(session.device, bytes, session.seed, 1.0)?;
    let target = session.device.alloc(bytes)?;
    let result = session.device.alloc(256)?;
    let uses = [
        ("copy", MemoryUse::Copy, copy(source, target)),
        ("read", MemoryUse::Read, Work::ReadOnly { of: source.all(), into: result.slice(0, 8) }),
        ("write", MemoryUse::Write, Work::Fill { to: target.all(), with: POISON }),
    ];
    let points = uses
        .into_iter()
        .map(|(name, usage, work)| {
            let build =
                move |_: &mut dyn crate::device::Device| Ok(Runs::of(move |queue| queue.submit(&work)));
            Point::new(name, Importance::Essential, usage, build)
        })
        .collect();
    let group = Group::new(EXPERIMENT, session);
    let measured = measure(session, Group { samples: 2 * group.samples, ..group }, points)?;
    Ok(measured
        .into_iter()
        .map(|point| MemoryPoint { usage: point.row, bytes, timing: point.timing })
        .collect())
}

/// Reads the first half of `from` and writes as much to `to`: together as many bytes as `from` has.
pub(super) fn copy(from: DeviceBuffer, to: DeviceBuffer) -> Work {
    let half = from.bytes() / 2;
    Work::DeviceCopy { from: from.slice(0, half), to: to.slice(0, half) }
}
