//! E8: how much copies and kernels slow each other: each timed alone, and while the other runs before, during and after.
//!
//! Four uses of the multiprocessors by four of the link. Windows are of equal length, ten times the usual interval, and
//! the unmeasured side is meant to last twice as long; a sample in which it did not is not kept. Copies are of one
//! layer's KV of one request, as a decode step makes them. For traffic both ways, the measured copies are the host to
//! device ones, and the other direction is busy in their time alone too: the factor is what the kernels add. What the
//! directions do to each other is E1's.

use std::rc::Rc;

use super::arena::{self, Rotation};
use super::attention::Batch;
use super::copies::buffers;
use super::decode_layer::DecodeLayer;
use super::pieces::{scattered, span};
use crate::case::attention_shape;
use crate::device::{
    CopyApi, CopyPiece, CopyWork, DeviceBuffer, DeviceError, DeviceSlice, Direction, HostBuffer, Work,
};
use crate::measure::{Group, Importance, Measured, Point, Run, Runs, measure};
use crate::results::{Background, ContentionPoint, Traffic};
use crate::session::Session;

const EXPERIMENT: &str = "E8";

/// Requests of the batch whose kernels run, and the context tokens of each where the scale allows as many.
const REQUESTS: u32 = 8;
const CONTEXT_TOKENS: u32 = 4096;

/// Windows are this many times as long as the scale's interval.
const WINDOWS: f64 = 10.0;

/// Different layers' KV on the link.
const COPIED_LAYERS: u64 = 4;

/// A read of memory at full rate takes this part of E4's bytes.
const READ_PART: u64 = 16;

const BACKGROUNDS: [Background; 4] =
    [Background::Attn, Background::Gemm, Background::HbmRead, Background::Layer];
const TRAFFICS: [Traffic; 4] = [Traffic::H2d, Traffic::D2h, Traffic::Both, Traffic::SmGather];

/// What one point times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    ComputeAlone(Background),
    ComputeTogether(Background, Traffic),
    CopyAlone(Traffic),
    CopyTogether(Background, Traffic),
}

/// Measures E8.
///
/// # Errors
/// The device's.
pub fn contention(session: &mut Session<'_>) -> Result<Vec<ContentionPoint>, DeviceError> {
    session.device.free_all()?;
    let bench = Rc::new(Bench::new(session)?);
    let mut rows: Vec<Row> = BACKGROUNDS.map(Row::ComputeAlone).into();
    rows.extend(TRAFFICS.map(Row::CopyAlone));
    for background in BACKGROUNDS {
        rows.extend(TRAFFICS.map(|traffic| Row::ComputeTogether(background, traffic)));
        rows.extend(TRAFFICS.map(|traffic| Row::CopyTogether(background, traffic)));
    }
    let points = rows.into_iter().map(|row| point(row, Rc::clone(&bench))).collect();
    let group = Group::new(EXPERIMENT, session);
    let least_interval_s = WINDOWS * group.least_interval_s;
    let measured = measure(session, Group { least_interval_s, ..group }, points)?;
    Ok(paired(session, &measured))
}

/// Puts the four timings of a pair together; a pair that lacks one is left out, and what it lacks is noted by now.
fn paired(session: &mut Session<'_>, measured: &[Measured<Row>]) -> Vec<ContentionPoint> {
    let of = |row: Row| measured.iter().find(|point| point.row == row).map(|point| point.timing);
    let mut points = Vec::new();
    for background in BACKGROUNDS {
        for traffic in TRAFFICS {
            let timings = (
                of(Row::ComputeAlone(background)),
                of(Row::ComputeTogether(background, traffic)),
                of(Row::CopyAlone(traffic)),
                of(Row::CopyTogether(background, traffic)),
            );
            if let (Some(compute_alone), Some(compute_together), Some(copy_alone), Some(copy_together)) =
                timings
            {
                points.push(ContentionPoint {
                    background,
                    traffic,
                    compute_alone,
                    compute_together,
                    copy_alone,
                    copy_together,
                });
            } else {
                let pair = format!("{}|{}", background.key(), traffic.key());
                session.progress.note(&format!("{EXPERIMENT}: {pair} is incomplete and left out"));
            }
        }
    }
    points
}

/// Everything that E8 runs.
struct Bench {
    layer: DecodeLayer,
    reads: Vec<DeviceSlice>,
    result: DeviceSlice,
    host: HostBuffer,
    device: DeviceBuffer,
    /// One layer's KV of one request each, in one piece.
    layers: Vec<Vec<CopyPiece>>,
    /// The same in blocks of 16 tokens, for the gather kernel.
    blocks: Vec<Vec<CopyPiece>>,
    gather: CopyApi,
}

impl Bench {
    fn new(session: &mut Session<'_>) -> Result<Self, DeviceError> {
        let scale = session.scale;
        let shape = attention_shape(&scale.fitted);
        let allowed = scale.most_tokens / u64::from(REQUESTS);
        let tokens = CONTEXT_TOKENS.min(u32::try_from(allowed).unwrap_or(u32::MAX)).max(16) / 16 * 16;
        let batch = Batch::new(shape, vec![tokens; REQUESTS as usize], session.device.facts().sm_count);
        let layer = DecodeLayer::new(session, &scale.fitted, batch)?;
        let read_bytes = (scale.memory_bytes / READ_PART).max(4096) / 4096 * 4096;
        let l2_bytes = session.device.facts().l2_bytes;
        let read_arena = arena::bytes_of_inputs(l2_bytes, read_bytes);
        let reads = arena::random(session.device, read_arena, session.seed ^ 20, 1.0)?;
        let result = session.device.alloc(256)?.slice(0, 8);
        let layer_bytes = u64::from(tokens) * shape.kv_bytes_per_token();
        let (block_bytes, blocks) = (shape.block_bytes(), u64::from(tokens / 16));
        let capacity = span(layer_bytes, COPIED_LAYERS).max(span(block_bytes, blocks * COPIED_LAYERS));
        let (host, device) = buffers(session, capacity)?;
        let cuts = |bytes: u64, count: u64| {
            (0..COPIED_LAYERS).map(|layer| scattered(capacity, bytes, layer * count, count)).collect()
        };
        let middle = scale.gather_blocks.get(scale.gather_blocks.len() / 2).copied().unwrap_or(1);
        Ok(Bench {
            layer,
            reads: arena::slices(reads, l2_bytes, read_bytes),
            result,
            host,
            device,
            layers: cuts(layer_bytes, 1),
            blocks: cuts(block_bytes, blocks),
            gather: CopyApi::SmGather { blocks: middle },
        })
    }

    fn compute<'p>(self: &Rc<Self>, background: Background) -> Run<'p> {
        let bench = Rc::clone(self);
        let (weights, tables) = bench.layer.rotations();
        match background {
            Background::Attn => Box::new(move |queue| queue.submit(&bench.layer.attention(*tables.next()))),
            Background::Gemm => Box::new(move |queue| {
                bench.layer.products(*weights.next()).iter().try_for_each(|work| queue.submit(work))
            }),
            Background::HbmRead => {
                let reads = Rotation::new(bench.reads.clone());
                let into = bench.result;
                Box::new(move |queue| queue.submit(&Work::ReadOnly { of: *reads.next(), into }))
            }
            Background::Layer => Box::new(move |queue| {
                let kernels = bench.layer.kernels(*weights.next(), *tables.next());
                kernels.iter().try_for_each(|work| queue.submit(work))
            }),
        }
    }

    fn copies<'p>(self: &Rc<Self>, direction: Direction, by_kernel: bool) -> Run<'p> {
        let (host, device) = (self.host, self.device);
        let (api, lists) =
            if by_kernel { (self.gather, &self.blocks) } else { (CopyApi::Async, &self.layers) };
        let lists = Rotation::new(lists.clone());
        Box::new(move |queue| queue.copy(&CopyWork { direction, api, host, device, pieces: lists.next() }))
    }

    /// The copies of some traffic; the measured ones first.
    fn traffic<'p>(self: &Rc<Self>, traffic: Traffic) -> Vec<Run<'p>> {
        match traffic {
            Traffic::H2d => vec![self.copies(Direction::H2d, false)],
            Traffic::D2h => vec![self.copies(Direction::D2h, false)],
            Traffic::Both => vec![self.copies(Direction::H2d, false), self.copies(Direction::D2h, false)],
            Traffic::SmGather => vec![self.copies(Direction::H2d, true)],
        }
    }

    fn runs<'p>(self: &Rc<Self>, row: Row) -> Runs<'p> {
        let (mut measured, mut background) = match row {
            Row::ComputeAlone(compute) => (vec![self.compute(compute)], Vec::new()),
            Row::ComputeTogether(compute, traffic) => (vec![self.compute(compute)], self.traffic(traffic)),
            Row::CopyAlone(traffic) => (self.traffic(traffic), Vec::new()),
            Row::CopyTogether(compute, traffic) => (self.traffic(traffic), vec![self.compute(compute)]),
        };
        background.extend(measured.drain(1..));
        let run = measured.remove(0);
        background.into_iter().fold(Runs::of(run), Runs::with_background)
    }
}

fn point<'p>(row: Row, bench: Rc<Bench>) -> Point<'p, Row> {
    let name = match row {
        Row::ComputeAlone(background) => format!("{} alone", background.key()),
        Row::ComputeTogether(background, traffic) => format!("{} beside {}", background.key(), traffic.key()),
        Row::CopyAlone(traffic) => format!("{} alone", traffic.key()),
        Row::CopyTogether(background, traffic) => format!("{} beside {}", traffic.key(), background.key()),
    };
    Point::new(name, importance(row), row, move |_| Ok(bench.runs(row)))
}

/// What a decode step runs beside its copies matters most.
fn importance(row: Row) -> Importance {
    match row {
        Row::ComputeAlone(_) | Row::CopyAlone(_) => Importance::Essential,
        Row::ComputeTogether(background, traffic) | Row::CopyTogether(background, traffic) => {
            match (background, traffic) {
                (Background::Layer, Traffic::H2d | Traffic::D2h) => Importance::Essential,
                (Background::Attn | Background::Gemm | Background::Layer, Traffic::H2d | Traffic::Both) => {
                    Importance::Useful
                }
                _ => Importance::Detail,
            }
        }
    }
}
