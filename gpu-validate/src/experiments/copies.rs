//! E2: how long copies of n pieces take by the size of a piece, for every way of submitting them.
//!
//! Pieces are scattered ([`super::pieces`]); successive runs take different places. A run is one call (async: n calls),
//! timed back to back with others of its kind, so a latency is what a copy adds to a queue that is never empty.

use super::arena::{self, Rotation};
use super::pieces::{scattered, span, stride, verify};
use crate::device::{
    CopyApi, CopyWork, DeviceBuffer, DeviceError, Direction, FillWith, HostBuffer, HostMemory,
};
use crate::measure::{Group, Importance, Point, Runs, measure};
use crate::results::CopyPoint;
use crate::scale::Scale;
use crate::session::Session;

const EXPERIMENT: &str = "E2";

/// Calls of their own in one run, beside a single one.
const ASYNC_PIECES: u32 = 16;

/// Sizes between the powers of two, around the knee of PCIe 5 copies (`gpu-measurement.md` §0.5), in bytes.
const BETWEEN: [u64; 6] = [12 << 10, 20 << 10, 24 << 10, 28 << 10, 32 << 10, 48 << 10];

/// The most pieces that a point lists over all its runs.
const MOST_LISTED: u64 = 4096;

/// The most different runs of a point.
const MOST_RUNS: u64 = 64;

#[derive(Clone, Copy)]
struct Row {
    direction: Direction,
    api: CopyApi,
    pieces: u32,
    piece_bytes: u64,
}

/// Measures E2.
///
/// # Errors
/// The device's.
pub fn size_curve(session: &mut Session<'_>) -> Result<Vec<CopyPoint>, DeviceError> {
    session.device.free_all()?;
    let rows = rows(session.scale);
    let capacity = rows.iter().map(|row| span(row.piece_bytes, u64::from(row.pieces))).max().unwrap_or(1);
    let buffers = buffers(session, capacity)?;
    let points = rows.into_iter().map(|row| point(row, buffers)).collect();
    let group = Group::new(EXPERIMENT, session);
    Ok(measure(session, group, points)?
        .into_iter()
        .map(|point| {
            let Row { direction, api, pieces, piece_bytes } = point.row;
            let submit_s = point.submission.map(|timing| timing.median_s / f64::from(pieces));
            CopyPoint { direction, api, pieces, piece_bytes, timing: point.timing, submit_s }
        })
        .collect())
}

/// A pinned host buffer and a device buffer, both of random data.
pub(super) fn buffers(
    session: &mut Session<'_>,
    bytes: u64,
) -> Result<(HostBuffer, DeviceBuffer), DeviceError> {
    let bytes = arena::aligned(bytes);
    let device = arena::random(session.device, bytes, session.seed, 1.0)?;
    let host = session.device.alloc_host(bytes, HostMemory::Pinned)?;
    session.device.fill_host(host.all(), FillWith::Random { seed: session.seed ^ 1, scale: 1.0 })?;
    Ok((host, device))
}

fn sizes((least, most): (u64, u64)) -> Vec<u64> {
    let doubling = std::iter::successors(Some(least), |size| size.checked_mul(2));
    let mut sizes: Vec<u64> = doubling.take_while(|size| *size <= most).collect();
    sizes.extend(BETWEEN.iter().filter(|size| (least..=most).contains(*size)));
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Ways of submitting: every batch size for the batch call, the middle one for the overlap hint and the gather kernels.
fn ways(scale: &Scale) -> Vec<(CopyApi, u32)> {
    let mut ways = vec![(CopyApi::Async, 1), (CopyApi::Async, ASYNC_PIECES)];
    ways.extend(scale.batch_pieces.iter().map(|pieces| (CopyApi::Batch, *pieces)));
    if let Some(middle) = scale.batch_pieces.get(scale.batch_pieces.len() / 2) {
        ways.push((CopyApi::BatchOverlap, *middle));
        ways.extend(scale.gather_blocks.iter().map(|&blocks| (CopyApi::SmGather { blocks }, *middle)));
    }
    ways
}

fn rows(scale: &Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    for (api, pieces) in ways(scale) {
        for direction in [Direction::H2d, Direction::D2h] {
            for piece_bytes in sizes(scale.piece_bytes) {
                if u64::from(pieces) * piece_bytes <= scale.most_copy_bytes {
                    rows.push(Row { direction, api, pieces, piece_bytes });
                }
            }
        }
    }
    rows
}

fn importance(row: Row) -> Importance {
    match (row.api, row.direction) {
        (CopyApi::Async, _) | (CopyApi::Batch, Direction::H2d) => Importance::Essential,
        (CopyApi::Batch, Direction::D2h) => Importance::Useful,
        (CopyApi::BatchOverlap | CopyApi::SmGather { .. }, _) => Importance::Detail,
    }
}

fn point<'p>(row: Row, (host, device): (HostBuffer, DeviceBuffer)) -> Point<'p, Row> {
    let Row { direction, api, pieces, piece_bytes } = row;
    let name = format!("{} {} {pieces} x {piece_bytes} B", direction.key(), api.key());
    let by_kernel = matches!(api, CopyApi::SmGather { .. });
    Point::new(name, importance(row), row, move |_| {
        let count = u64::from(pieces);
        let different =
            (host.bytes() / stride(piece_bytes) / count).min(MOST_LISTED / count).clamp(1, MOST_RUNS);
        let lists = Rotation::new(
            (0..different).map(|run| scattered(host.bytes(), piece_bytes, run * count, count)).collect(),
        );
        let checked = scattered(host.bytes(), piece_bytes, 0, count);
        Ok(Runs::of(move |queue| {
            queue.copy(&CopyWork { direction, api, host, device, pieces: lists.next() })
        })
        .timing_submission(!by_kernel)
        .with_check(Box::new(move |on, stream| {
            verify(on, stream, &CopyWork { direction, api, host, device, pieces: &checked })
        })))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_with_more_of_them_around_the_knee() {
        let kib = |sizes: &[u64]| sizes.iter().map(|size| size << 10).collect::<Vec<_>>();
        assert_eq!(sizes((8 << 10, 64 << 10)), kib(&[8, 12, 16, 20, 24, 28, 32, 48, 64]));
    }

    #[test]
    fn no_point_moves_more_than_the_cap() {
        let scale = Scale::of(crate::device::Backend::Cuda, false);
        let rows = rows(&scale);
        assert!(rows.iter().all(|row| u64::from(row.pieces) * row.piece_bytes <= 1 << 30));
        // 4,096 pieces of at most 256 KiB
        let largest = rows.iter().filter(|row| row.pieces == 4096).map(|row| row.piece_bytes).max();
        assert_eq!(largest, Some(256 << 10));
    }
}
