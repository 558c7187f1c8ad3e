//! E12: a few anchors, timed at the start of a run and again at its end: how much the machine itself moved.
//!
//! The caller may add points of its own, for example a whole step; they are timed and compared like the others.

use super::arena;
use super::copies::buffers;
use super::memory::copy;
use crate::device::{CopyApi, CopyPiece, CopyWork, DeviceError, Direction};
use crate::measure::{Group, Importance, Point, Runs, measure};
use crate::results::DriftPoint;
use crate::sample::Timing;
use crate::session::Session;

/// One thing whose time should not change.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchor {
    /// `h2d`, `d2h`, `hbm_copy`, or a caller's own.
    pub name: String,
    /// One run.
    pub timing: Timing,
}

/// Times the anchors. `experiment` names this pass in the samples, for example `E12 first`. `more` are made of handles
/// that are given back here before they are built, so they must make their own in [`Point::new`]'s closure.
///
/// # Errors
/// The device's.
pub fn anchors(
    session: &mut Session<'_>,
    experiment: &str,
    more: Vec<Point<'_, String>>,
) -> Result<Vec<Anchor>, DeviceError> {
    session.device.free_all()?;
    let (host, device) = buffers(session, session.scale.link_bytes)?;
    let piece = CopyPiece { host_offset: 0, device_offset: 0, bytes: session.scale.link_bytes };
    let memory_bytes = session.scale.memory_bytes / 2;
    let source = arena::random(session.device, memory_bytes, session.seed ^ 2, 1.0)?;
    let target = session.device.alloc(arena::aligned(memory_bytes))?;
    let within = copy(source, target);
    let mut points: Vec<Point<'_, String>> = [Direction::H2d, Direction::D2h]
        .into_iter()
        .map(|direction| {
            let run = move |queue: &mut crate::measure::Queue<'_>| {
                queue.copy(&CopyWork { direction, api: CopyApi::Async, host, device, pieces: &[piece] })
            };
            let name = direction.key();
            Point::new(name, Importance::Essential, name.to_owned(), move |_| Ok(Runs::of(run)))
        })
        .collect();
    points.push(Point::new("hbm_copy", Importance::Essential, "hbm_copy".to_owned(), move |_| {
        Ok(Runs::of(move |queue| queue.submit(&within)))
    }));
    points.extend(more);
    let group = Group::new(experiment, session);
    Ok(measure(session, group, points)?
        .into_iter()
        .map(|point| Anchor { name: point.row, timing: point.timing })
        .collect())
}

/// The anchors that both passes have, in the order of the first.
pub fn drift(first: &[Anchor], last: &[Anchor]) -> Vec<DriftPoint> {
    let again = |name: &str| last.iter().find(|anchor| anchor.name == name).map(|anchor| anchor.timing);
    first
        .iter()
        .filter_map(|anchor| {
            again(&anchor.name).map(|last| DriftPoint {
                anchor: anchor.name.clone(),
                first: anchor.timing,
                last,
            })
        })
        .collect()
}
