//! E9: whole decode steps with everything resident, for the fit (`gpu-measurement.md` §4.1).
//!
//! The fitted model only: the held-out one is never looked at. Every grid point at the model's own layer count; every
//! fourth also with fewer layers, which tells per-layer from per-step costs, and as a graph. Stream points come in
//! shuffled order, then graph points likewise, so that a cut run loses these first. A point's samples are consecutive
//! steps: each needs its own memory.

use orbitflow_sim::model::LayerSet;
use orbitflow_sim::random::{Stream, keyed, uniform_whole};

use crate::case::{Case, CopyStreams, Granularity};
use crate::decode::{Rig, RigOptions};
use crate::device::DeviceError;
use crate::results::{StepPoint, Submission};
use crate::sample::Timing;
use crate::session::Session;

/// Steps before the first that counts.
const WARMUPS: u32 = 3;

/// Every so many grid points one is also run with fewer layers and as a graph.
const SUBSET: usize = 4;

/// Which step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    layers: u32,
    batch: u32,
    tokens: u32,
    submission: Submission,
}

impl Point {
    fn name(&self, model: &str) -> String {
        let how = match self.submission {
            Submission::Stream => "stream",
            Submission::Graph => "graph",
        };
        format!("{model} layers={} batch={} tokens={} {how}", self.layers, self.batch, self.tokens)
    }
}

/// Times the steps of the fitted model, everything resident.
///
/// # Errors
/// What the device fails with. Points that do not fit or are not possible here are waived, points behind the deadline
/// dropped; both are said in [`Session::dropped`].
pub fn full_step(session: &mut Session<'_>) -> Result<Vec<StepPoint>, DeviceError> {
    let points = points(session);
    session.progress.group("E9", points.len());
    let mut found = Vec::new();
    for point in points {
        let name = point.name(&session.scale.fitted.name);
        if session.deadline.left_s() <= 0.0 {
            session.out_of_time("E9", name);
            continue;
        }
        match time(session, point) {
            Ok(samples) => {
                session.keep_samples("E9", &name, &samples);
                found.push(StepPoint {
                    model: session.scale.fitted.name.clone(),
                    layers: point.layers,
                    contexts: vec![point.tokens; point.batch as usize],
                    submission: point.submission,
                    timing: Timing::of(&samples),
                });
            }
            Err(error) => session.leave_out("E9", name, error)?,
        }
        session.progress.point();
    }
    Ok(found)
}

/// The smallest step of the grid with all layers: an anchor to repeat at the end of a run (E12).
///
/// # Errors
/// What the device fails with.
pub fn anchor(session: &mut Session<'_>) -> Result<Timing, DeviceError> {
    let scale = session.scale;
    let smallest =
        scale.step_grid.iter().copied().min_by_key(|(batch, tokens)| u64::from(*batch) * u64::from(*tokens));
    let (batch, tokens) = smallest.unwrap_or((1, 1));
    let layers = scale.step_layers.last().copied().unwrap_or(scale.fitted.layers);
    let samples = time(session, Point { layers, batch, tokens, submission: Submission::Stream })?;
    Ok(Timing::of(&samples))
}

fn time(session: &mut Session<'_>, point: Point) -> Result<Vec<f64>, DeviceError> {
    let options = RigOptions {
        submission: point.submission,
        ..RigOptions::timing(session.seed, session.scale.weight_layers)
    };
    let case = resident_case(session, point);
    Rig::new(&mut *session.device, &case, options)?.time_steps(WARMUPS, session.scale.step_samples)
}

fn resident_case(session: &Session<'_>, point: Point) -> Case {
    let id = point.name(&session.scale.fitted.name);
    Case {
        workload: id.clone(),
        id,
        model: session.scale.fitted.clone(),
        layers: point.layers,
        contexts: vec![point.tokens; point.batch as usize],
        offloaded: vec![LayerSet::EMPTY; point.batch as usize],
        placement: "none".to_owned(),
        slots: 1,
        granularity: Granularity::Layer,
        streams: CopyStreams::One,
        dilation_s: 0.0,
        held_out: false,
    }
}

/// Stream points, then graph points, each shuffled.
fn points(session: &Session<'_>) -> Vec<Point> {
    let scale = session.scale;
    let full = scale.step_layers.last().copied().unwrap_or(scale.fitted.layers);
    let mut grid: Vec<(u32, u32)> = scale.step_grid.clone();
    grid.retain(|(batch, tokens)| u64::from(*batch) * u64::from(*tokens) <= scale.most_tokens);
    let point =
        |layers: u32, (batch, tokens): (u32, u32), submission| Point { layers, batch, tokens, submission };
    let mut streams: Vec<Point> = grid.iter().map(|at| point(full, *at, Submission::Stream)).collect();
    for at in grid.iter().step_by(SUBSET) {
        let fewer = scale.step_layers.iter().filter(|layers| **layers != full);
        streams.extend(fewer.map(|layers| point(*layers, *at, Submission::Stream)));
    }
    let mut graphs: Vec<Point> =
        grid.iter().step_by(SUBSET).map(|at| point(full, *at, Submission::Graph)).collect();
    shuffle(session.seed, &mut streams);
    shuffle(session.seed, &mut graphs);
    streams.into_iter().chain(graphs).collect()
}

/// Fisher and Yates.
fn shuffle<T>(seed: u64, items: &mut [T]) {
    let mut random = keyed(seed, Stream::Noise, &[9]);
    for last in (1..items.len()).rev() {
        items.swap(last, uniform_whole(&mut random, 0, last as u64) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;
    use crate::device::host::{HostDevice, HostOptions};
    use crate::device::virtual_time::{VirtualTimeDevice, VirtualTruth};
    use crate::results::Dropped;
    use crate::results::Gap;
    use crate::scale::Scale;
    use crate::session::{Deadline, Silent};

    fn run(truth: VirtualTruth, deadline: Deadline) -> (Vec<StepPoint>, Vec<Dropped>, usize) {
        let (mut device, scale) = (VirtualTimeDevice::new(truth), Scale::of(Backend::VirtualTime, true));
        let mut progress = Silent;
        let mut session = Session::new(&mut device, &scale, deadline, 7, &mut progress);
        let found = full_step(&mut session).unwrap();
        (found, session.dropped.clone(), session.samples.len())
    }

    #[test]
    fn every_step_is_its_layers_and_its_tail_whatever_its_submission() {
        let (truth, scale) = (VirtualTruth::small(), Scale::of(Backend::VirtualTime, true));
        let (found, dropped, samples) = run(truth.clone(), Deadline::never());
        // 6 grid points with 8 layers; 2 of them with 4 layers and as graphs
        assert_eq!((found.len(), dropped.len()), (10, 0));
        assert_eq!(samples, 10 * scale.step_samples as usize);
        assert_eq!(found.iter().filter(|point| point.submission == Submission::Graph).count(), 2);
        assert_eq!(found.iter().filter(|point| point.layers == 4).count(), 2);
        for point in &found {
            let (tokens, batch) = (point.contexts.iter().map(|c| u64::from(*c)).sum(), point.contexts.len());
            let layer = truth.layer_time(&scale.fitted, tokens, batch as u32);
            let expected = layer * u64::from(point.layers) + truth.tail_time(&scale.fitted, batch as u32);
            assert!((point.timing.median_s - expected.as_secs_f64()).abs() < 1e-12, "{point:?}");
            assert_eq!(point.model, scale.fitted.name);
        }
    }

    #[test]
    fn the_host_times_every_step_and_the_held_out_model_is_none_of_them() {
        let mut device = HostDevice::new(HostOptions::default()).unwrap();
        let scale = Scale { step_samples: 2, ..Scale::of(Backend::Host, true) };
        let mut progress = Silent;
        let mut session = Session::new(&mut device, &scale, Deadline::never(), 7, &mut progress);
        let found = full_step(&mut session).unwrap();
        assert_eq!((found.len(), session.dropped.len()), (10, 0), "{:?}", session.dropped);
        assert!(found.iter().all(|point| point.timing.min_s > 0.0 && point.model != scale.held_out.name));
    }

    #[test]
    fn what_does_not_fit_is_waived_and_what_is_late_is_dropped() {
        // Emulation-a's 8 layers of 8 · 512 tokens take 64 B · 4,096 · 8 = 2 MiB of KV; weights alone less than 1.2 MB.
        // The level-2 cache is 1 MiB, so an arena smaller than 8 MiB is refused.
        let (found, dropped, _) =
            run(VirtualTruth { memory_bytes: 2_500_000, ..VirtualTruth::small() }, Deadline::never());
        assert!(!found.is_empty() && !dropped.is_empty());
        assert!(
            dropped.iter().all(|gap| gap.gap == Gap::NotPossible && gap.reason.contains("bytes asked")),
            "{dropped:?}"
        );
        let (found, dropped, _) = run(VirtualTruth::small(), Deadline::after_s(0.0));
        assert_eq!((found.len(), dropped.len()), (0, 10));
        assert!(dropped.iter().all(|gap| gap.gap == Gap::OutOfTime && gap.reason == "out of time"));
    }
}
