//! E7: what it costs to launch kernels, by the CPU's clock and by the device's, one by one and as a graph; and the hop
//! from a record in one stream to what waited for it in another.
//!
//! Counts are kernels or hops of one run. A hop has no kernel of its own: two streams wait for each other's records.

use crate::device::{Device, DeviceError, Event, Stream, Work};
use crate::measure::{Group, Importance, Point, Queue, Runs, measure};
use crate::results::{LaunchKind, LaunchPoint};
use crate::session::Session;

const EXPERIMENT: &str = "E7";

/// Empty kernels in a stream.
const KERNELS: [u32; 3] = [32, 128, 256];

/// Nodes of a graph.
const NODES: [u32; 4] = [32, 128, 512, 1024];

/// Hops from one stream to the other and back.
const HOPS: u32 = 32;

/// Launches are cheap and noisy: this many times the samples of other experiments.
const MORE_SAMPLES: u32 = 5;

#[derive(Clone, Copy)]
enum Row {
    Stream(u32),
    Graph(u32),
    Hops(u32),
}

/// Measures E7.
///
/// # Errors
/// The device's.
pub fn launches(session: &mut Session<'_>) -> Result<Vec<LaunchPoint>, DeviceError> {
    session.device.free_all()?;
    let mut points: Vec<Point<'_, Row>> = KERNELS.map(in_a_stream).into();
    points.extend(NODES.map(as_a_graph));
    points.push(hops());
    let group = Group::new(EXPERIMENT, session);
    let measured = measure(session, Group { samples: MORE_SAMPLES * group.samples, ..group }, points)?;
    let mut launches = Vec::new();
    for point in measured {
        let (count, submit, each) = match point.row {
            Row::Stream(count) => (count, Some(LaunchKind::StreamSubmit), LaunchKind::StreamGap),
            Row::Graph(count) => (count, Some(LaunchKind::GraphSubmit), LaunchKind::GraphNode),
            Row::Hops(count) => (count, None, LaunchKind::EventWait),
        };
        if let (Some(kind), Some(timing)) = (submit, point.submission) {
            // a graph is one launch, whatever it holds
            let launches_of_run = if kind == LaunchKind::GraphSubmit { 1 } else { count };
            launches.push(LaunchPoint { kind, count, timing: timing.per_run(launches_of_run) });
        }
        launches.push(LaunchPoint { kind: each, count, timing: point.timing.per_run(count) });
    }
    Ok(launches)
}

fn in_a_stream<'p>(count: u32) -> Point<'p, Row> {
    Point::new(format!("{count} kernels"), Importance::Essential, Row::Stream(count), move |_| {
        let run = move |queue: &mut Queue<'_>| (0..count).try_for_each(|_| queue.submit(&Work::Empty));
        Ok(Runs::of(run).timing_submission(true))
    })
}

fn as_a_graph<'p>(count: u32) -> Point<'p, Row> {
    let name = format!("a graph of {count} nodes");
    Point::new(name, Importance::Essential, Row::Graph(count), move |device| {
        let stream = device.stream()?;
        device.begin_capture(stream)?;
        let captured = (0..count).try_for_each(|_| device.submit(stream, &Work::Empty));
        let graph = device.end_capture(stream);
        captured?;
        let graph = graph?;
        Ok(Runs::of(move |queue| queue.launch(graph, count as usize)).timing_submission(true))
    })
}

fn hops<'p>() -> Point<'p, Row> {
    Point::new(format!("{HOPS} hops"), Importance::Useful, Row::Hops(HOPS), |device| {
        let other = device.stream()?;
        let (there, back) = (events(device)?, events(device)?);
        Ok(Runs::of(move |queue| {
            there.iter().zip(&back).try_for_each(|(there, back)| {
                hop(queue, queue.stream(), other, *there)?;
                hop(queue, other, queue.stream(), *back)
            })
        }))
    })
}

/// One event per round trip of a run.
fn events(device: &mut dyn Device) -> Result<Vec<Event>, DeviceError> {
    (0..HOPS / 2).map(|_| device.event()).collect()
}

fn hop(queue: &mut Queue<'_>, from: Stream, to: Stream, event: Event) -> Result<(), DeviceError> {
    queue.record_in(from, event)?;
    queue.wait_in(to, event)
}
