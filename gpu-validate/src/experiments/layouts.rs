//! E3: one layer's KV copied to the device in different cuts: tokens per block, K and V apart or together, and how many
//! blocks lie next to each other on both sides.
//!
//! Neighbours are merged into one piece, as an engine would; the number of pieces after that is in the row.

use super::copies::buffers;
use super::pieces::{scattered, span, verify};
use crate::device::{CopyApi, CopyWork, DeviceBuffer, DeviceError, Direction, HostBuffer};
use crate::measure::{Group, Importance, Point, Runs, measure};
use crate::results::LayoutPoint;
use crate::scale::Scale;
use crate::session::Session;

const EXPERIMENT: &str = "E3";

/// Tokens per block.
const BLOCK_TOKENS: [u32; 6] = [16, 32, 64, 128, 256, 512];

/// Blocks next to each other; 0: all of them.
const RUNS: [u32; 3] = [1, 16, 0];

#[derive(Clone, Copy)]
struct Row {
    block_tokens: u32,
    fused: bool,
    run: u32,
    api: CopyApi,
    pieces: u64,
    piece_bytes: u64,
}

/// Measures E3.
///
/// # Errors
/// The device's.
pub fn kv_layouts(session: &mut Session<'_>) -> Result<Vec<LayoutPoint>, DeviceError> {
    session.device.free_all()?;
    let rows = rows(session.scale);
    let capacity = rows.iter().map(|row| span(row.piece_bytes, row.pieces)).max().unwrap_or(1);
    let buffers = buffers(session, capacity)?;
    let points = rows.into_iter().map(|row| point(row, buffers)).collect();
    let group = Group::new(EXPERIMENT, session);
    Ok(measure(session, group, points)?
        .into_iter()
        .map(|point| {
            let Row { block_tokens, fused, run, api, pieces, piece_bytes } = point.row;
            let (pieces, bytes) = (pieces as u32, pieces * piece_bytes);
            LayoutPoint { block_tokens, fused, run, api, pieces, bytes, timing: point.timing }
        })
        .collect())
}

fn rows(scale: &Scale) -> Vec<Row> {
    let token_bytes = scale.fitted.kv_bytes_per_token_layer().get();
    let mut rows = Vec::new();
    for block_tokens in BLOCK_TOKENS {
        let block_bytes = u64::from(block_tokens) * token_bytes;
        let blocks = scale.layout_bytes / block_bytes;
        for fused in [true, false] {
            for run in RUNS {
                // runs that do not divide the blocks would leave a shorter one: they are left out
                let together = if run == 0 { blocks } else { u64::from(run) };
                if together == 0 || !blocks.is_multiple_of(together) {
                    continue;
                }
                let (halves, part) = if fused { (1, block_bytes) } else { (2, block_bytes / 2) };
                let (pieces, piece_bytes) = (halves * blocks / together, part * together);
                for api in [CopyApi::Async, CopyApi::Batch] {
                    rows.push(Row { block_tokens, fused, run, api, pieces, piece_bytes });
                }
            }
        }
    }
    rows
}

fn point<'p>(row: Row, (host, device): (HostBuffer, DeviceBuffer)) -> Point<'p, Row> {
    let Row { block_tokens, fused, run, api, pieces, piece_bytes } = row;
    let halves = if fused { "K and V together" } else { "K and V apart" };
    let order = match run {
        0 => "contiguous".to_owned(),
        1 => "scattered".to_owned(),
        run => format!("runs of {run}"),
    };
    let name = format!("blocks of {block_tokens}, {halves}, {order}, {}", api.key());
    let importance = if block_tokens == 16 { Importance::Useful } else { Importance::Detail };
    let direction = Direction::H2d;
    Point::new(name, importance, row, move |_| {
        let list = scattered(host.bytes(), piece_bytes, 0, pieces);
        let checked = list.clone();
        Ok(Runs::of(move |queue| queue.copy(&CopyWork { direction, api, host, device, pieces: &list }))
            .with_check(Box::new(move |on, stream| {
                verify(on, stream, &CopyWork { direction, api, host, device, pieces: &checked })
            })))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_moves_the_same_bytes() {
        let scale = Scale::of(crate::device::Backend::Cuda, false);
        let rows = rows(&scale);
        assert!(rows.iter().all(|row| row.pieces * row.piece_bytes == 64 << 20));
        // 64 MiB in blocks of 16 tokens of 4,096 B, K and V apart: 2,048 pieces of 32 KiB
        let least = rows.iter().map(|row| row.piece_bytes).min();
        assert_eq!(least, Some(32 << 10));
        assert!(rows.iter().any(|row| row.pieces == 2048));
        assert!(rows.iter().any(|row| row.run == 0 && !row.fused && row.pieces == 2));
    }
}
