//! Copies, page by page: every way of copying, both directions, pieces of several sizes in another order on each side.

use super::reference::{PAGE, checksum};
use super::{Check, Finding};
use crate::decode::seed_of;
use crate::device::{
    CopyApi, CopyPiece, CopyWork, Device, DeviceBuffer, DeviceError, Direction, FillWith, HostBuffer,
    HostMemory, POISON, Work,
};
use crate::session::Session;

/// Pages of the pieces, again and again: below, at and above the sizes where engines change their ways.
const PIECE_PAGES: [u64; 5] = [1, 3, 16, 7, 64];

/// Pieces of a copy.
const PIECES: u64 = 40;

pub(super) fn checks(session: &Session<'_>) -> Vec<Check> {
    let blocks = session.scale.gather_blocks.first().copied().unwrap_or(2);
    let apis = [CopyApi::Async, CopyApi::Batch, CopyApi::BatchOverlap, CopyApi::SmGather { blocks }];
    let mut checks = Vec::new();
    for direction in [Direction::H2d, Direction::D2h] {
        for api in apis {
            let name = format!("copy_{}_{}", direction.key(), api.key());
            checks.push(Check {
                name: name.replace([':', '+'], "_"),
                what: format!(
                    "{PIECES} pieces of {PIECE_PAGES:?} pages of 4 KiB, reversed on the device: pages whose checksum \
                     differs"
                ),
                bound: 0.0,
                run: Box::new(move |session: &mut Session<'_>| {
                    let seed = seed_of(session.seed, &[6]);
                    differing_pages(&mut *session.device, direction, api, seed)
                }),
            });
        }
    }
    checks
}

/// The first piece of the host is the last of the device.
fn pieces() -> (Vec<CopyPiece>, u64) {
    let sizes: Vec<u64> =
        (0..PIECES).map(|piece| PIECE_PAGES[piece as usize % PIECE_PAGES.len()] * PAGE as u64).collect();
    let all = sizes.iter().sum();
    let mut host_offset = 0;
    let pieces = sizes
        .into_iter()
        .map(|bytes| {
            let piece = CopyPiece { host_offset, device_offset: all - host_offset - bytes, bytes };
            host_offset += bytes;
            piece
        })
        .collect();
    (pieces, all)
}

fn differing_pages(
    device: &mut dyn Device,
    direction: Direction,
    api: CopyApi,
    seed: u64,
) -> Result<Finding, DeviceError> {
    device.free_all()?;
    let (pieces, bytes) = pieces();
    let stream = device.stream()?;
    let host = device.alloc_host(bytes, HostMemory::Pinned)?;
    let buffer = device.alloc(bytes)?;
    let random = FillWith::Random { seed, scale: 1.0 };
    let (on_host, on_device) = match direction {
        Direction::H2d => (random, POISON),
        Direction::D2h => (POISON, random),
    };
    device.fill_host(host.all(), on_host)?;
    device.submit(stream, &Work::Fill { to: buffer.all(), with: on_device })?;
    device.copy(stream, &CopyWork { direction, api, host, device: buffer, pieces: &pieces })?;
    device.synchronize()?;
    compare(device, host, buffer, &pieces)
}

fn compare(
    device: &mut dyn Device,
    host: HostBuffer,
    buffer: DeviceBuffer,
    pieces: &[CopyPiece],
) -> Result<Finding, DeviceError> {
    let stream = device.stream()?;
    let sums = device.alloc(buffer.bytes() / PAGE as u64 * 8)?.all();
    device.submit(stream, &Work::Fill { to: sums, with: POISON })?;
    device.submit(stream, &Work::Checksum { of: buffer.all(), into: sums })?;
    let sums: Vec<u64> =
        device.read(sums)?.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let host = device.read_host(host.all())?;
    let (mut differing, mut poisoned) = (0_u32, 0_u32);
    for piece in pieces {
        let (from, to) = (piece.host_offset as usize, piece.device_offset as usize);
        for page in (0..piece.bytes as usize).step_by(PAGE) {
            let on_host = &host[from + page..from + page + PAGE];
            differing += u32::from(checksum(on_host) != sums[(to + page) / PAGE]);
            // A copy that never ran would leave both sides as they were, but two poisoned sides would agree.
            poisoned += u32::from(on_host.iter().all(|byte| [0xc0, 0x7f].contains(byte)));
        }
    }
    let note = (poisoned > 0).then(|| format!("{poisoned} pages are poison"));
    Ok(Finding { worst: f64::from(differing + poisoned), note })
}
