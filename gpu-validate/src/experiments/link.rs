//! E1: the peak of the link, by direction and kind of host memory, alone and with the other direction busy.
//!
//! Large copies back to back, one call each. The opposite direction moves pinned memory in copies twice as long, on a
//! stream of its own, from before the first measured copy until after the last (`gpu-measurement.md` §1.1). Pageable
//! copies make the submitting thread wait, so they are not held and take a quarter as many copies.

use super::{arena, pieces};
use crate::device::{
    CopyApi, CopyPiece, CopyWork, Device, DeviceBuffer, DeviceError, Direction, FillWith, HostBuffer,
    HostMemory,
};
use crate::measure::{Group, Importance, Point, Run, Runs, measure};
use crate::results::LinkPoint;
use crate::session::Session;

const EXPERIMENT: &str = "E1";

const KINDS: [HostMemory; 4] = [
    HostMemory::Pinned,
    HostMemory::PinnedWriteCombined,
    HostMemory::Pageable,
    HostMemory::RegisteredHugePages,
];

/// What a row holds before it is timed.
struct Row {
    direction: Direction,
    memory: HostMemory,
    opposite_busy: bool,
    bytes: u64,
}

/// Measures E1.
///
/// # Errors
/// The device's.
pub fn link_peak(session: &mut Session<'_>) -> Result<Vec<LinkPoint>, DeviceError> {
    session.device.free_all()?;
    let (bytes, copies) = (session.scale.link_bytes, session.scale.link_copies);
    let seed = session.seed;
    let measured = arena::random(session.device, bytes, seed, 1.0)?;
    let opposite = Opposite {
        device: arena::random(session.device, 2 * bytes, seed ^ 1, 1.0)?,
        host: host(session.device, 2 * bytes, HostMemory::Pinned, seed ^ 2)?,
    };
    let mut points = Vec::new();
    for memory in KINDS {
        let buffer = match host(session.device, bytes, memory, seed ^ 3) {
            Ok(buffer) => buffer,
            Err(error) => {
                session.leave_out(EXPERIMENT, format!("host memory {}", memory.key()), error)?;
                continue;
            }
        };
        for direction in [Direction::H2d, Direction::D2h] {
            for opposite_busy in [false, true] {
                let copies = if memory == HostMemory::Pageable { copies.div_ceil(4) } else { copies };
                let row = Row { direction, memory, opposite_busy, bytes: bytes * u64::from(copies) };
                points.push(point(row, Sides { host: buffer, device: measured }, copies, opposite));
            }
        }
    }
    let group = Group::new(EXPERIMENT, session);
    let measured = measure(session, Group { samples: group.samples.div_ceil(2), ..group }, points)?;
    Ok(measured
        .into_iter()
        .map(|point| {
            let Row { direction, memory, opposite_busy, bytes } = point.row;
            LinkPoint { direction, memory, opposite_busy, bytes, timing: point.timing }
        })
        .collect())
}

#[derive(Clone, Copy)]
struct Sides {
    host: HostBuffer,
    device: DeviceBuffer,
}

type Opposite = Sides;

fn host(
    device: &mut dyn Device,
    bytes: u64,
    memory: HostMemory,
    seed: u64,
) -> Result<HostBuffer, DeviceError> {
    let buffer = device.alloc_host(bytes, memory)?;
    device.fill_host(buffer.all(), FillWith::Random { seed, scale: 1.0 })?;
    Ok(buffer)
}

fn point<'p>(row: Row, sides: Sides, copies: u32, opposite: Opposite) -> Point<'p, Row> {
    let Row { direction, memory, opposite_busy, .. } = row;
    let other = match direction {
        Direction::H2d => Direction::D2h,
        Direction::D2h => Direction::H2d,
    };
    let busy = if opposite_busy { "busy" } else { "idle" };
    let name = format!("{} {}, {} {busy}", direction.key(), memory.key(), other.key());
    let importance = match (memory, opposite_busy) {
        (HostMemory::Pinned, _) => Importance::Essential,
        (_, false) => Importance::Useful,
        (_, true) => Importance::Detail,
    };
    Point::new(name, importance, row, move |_| {
        let runs = Runs::of(copying(direction, sides, copies))
            .with_check(Box::new(move |device, stream| {
                pieces::verify(device, stream, &whole(direction, sides, &[piece(sides)]))
            }))
            .waiting_for_the_device(memory == HostMemory::Pageable);
        Ok(if opposite_busy { runs.with_background(copying(other, opposite, 1)) } else { runs })
    })
}

/// Enqueues `copies` copies of all of both sides.
fn copying<'p>(direction: Direction, sides: Sides, copies: u32) -> Run<'p> {
    let pieces = [piece(sides)];
    Box::new(move |queue| (0..copies).try_for_each(|_| queue.copy(&whole(direction, sides, &pieces))))
}

fn piece(sides: Sides) -> CopyPiece {
    CopyPiece { host_offset: 0, device_offset: 0, bytes: sides.host.bytes() }
}

fn whole(direction: Direction, sides: Sides, pieces: &[CopyPiece]) -> CopyWork<'_> {
    CopyWork { direction, api: CopyApi::Async, host: sides.host, device: sides.device, pieces }
}
