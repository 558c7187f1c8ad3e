//! The timing protocol: how a list of points becomes a list of timings (`gpu-measurement.md` §1.1, §1.3, §4).
//!
//! 1. *Prepare*, the most important points first: build, warm up, compare the result once, find how many runs make an
//!    interval of `least_interval_s`. What a sample costs is now known. As soon as the samples of all prepared points
//!    would take more than the time left, this point and every less important one is left out.
//! 2. *Sample*: pass p takes sample p of every point, each pass in an order of its own, so that drift of clocks and
//!    temperature is not confounded with size. After the deadline no sample begins.
//!
//! What was left out is in [`Session::dropped`] with the reason, every sample in [`Session::samples`], and the device's
//! state while the longest point ran in [`Session::states`]. Errors of the device end the group; what is not possible
//! here is waived. Knows no experiment: points are names and closures.

mod interval;
mod order;
mod plan;
mod point;
mod queue;

#[cfg(test)]
mod tests;

pub use interval::{DEAR_S, Interval, Marks};
pub use plan::{Hold, Plan};
pub use point::{Build, Check, Importance, Measured, Point, Run, Runs};
pub use queue::Queue;

use crate::device::DeviceError;
use crate::results::{Dropped, Gap};
use crate::sample::Timing;
use crate::session::Session;

/// A point needs so many samples (or all it was meant to get) to be kept when the deadline cuts it short.
pub const LEAST_SAMPLES: u32 = 3;

/// How often a sample is taken again, with a longer background, when the background ended too early.
const MOST_RETRIES: u32 = 2;

/// How the points of one group are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group<'g> {
    /// Experiment, for example `E2`.
    pub experiment: &'g str,
    /// Samples of a point; dear ones ([`DEAR_S`]) take a third, at least [`LEAST_SAMPLES`].
    pub samples: u32,
    /// The least seconds of an interval.
    pub least_interval_s: f64,
}

impl<'g> Group<'g> {
    /// With the scale's samples and interval.
    pub fn new(experiment: &'g str, session: &Session<'_>) -> Self {
        let (samples, least_interval_s) = (session.scale.samples, session.scale.least_interval_s);
        Group { experiment, samples, least_interval_s }
    }
}

/// Measures `points`; answers those that were measured, in the order given.
///
/// # Errors
/// The device's, but for what is not possible here: that is waived.
pub fn measure<R>(
    session: &mut Session<'_>,
    group: Group<'_>,
    points: Vec<Point<'_, R>>,
) -> Result<Vec<Measured<R>>, DeviceError> {
    session.progress.group(group.experiment, points.len());
    let mut marks = Marks::new(session.device)?;
    let mut ready = prepare(session, &group, &mut marks, points)?;
    sample(session, &group, &mut marks, &mut ready)?;
    ready.sort_by_key(|point| point.place);
    Ok(ready.into_iter().filter_map(|point| finish(session, &group, point)).collect())
}

/// A point between its preparation and its last sample.
struct Ready<'p, R> {
    place: usize,
    name: String,
    row: R,
    runs: Runs<'p>,
    plan: Plan,
    /// Samples it is meant to get.
    wanted: u32,
    /// Wall-clock seconds of a sample.
    cost_s: f64,
    /// Seconds of one run, per sample.
    seconds: Vec<f64>,
    /// Submission of one run, per sample.
    submissions: Vec<f64>,
    /// Samples during which a background ended too early.
    silent: u32,
    waived: bool,
}

impl<R> Ready<'_, R> {
    fn taken(&self) -> u32 {
        self.seconds.len() as u32 + self.silent
    }

    /// Takes a sample.
    fn take(&mut self, session: &mut Session<'_>, marks: &mut Marks, watch: bool) -> Result<(), DeviceError> {
        let mut interval = marks.time(session.device, &mut self.runs, &self.plan, watch)?;
        session.states.extend(interval.state.take());
        for _ in 0..MOST_RETRIES {
            if interval.outlasted {
                break;
            }
            self.plan.lengthen_background();
            interval = marks.time(session.device, &mut self.runs, &self.plan, false)?;
        }
        if !interval.outlasted {
            self.silent += 1;
            return Ok(());
        }
        self.seconds.push(interval.seconds / f64::from(self.plan.runs));
        if self.runs.times_submission {
            self.submissions.push(marks.time_submission(session.device, &mut self.runs)?);
        }
        Ok(())
    }
}

fn prepare<'p, R>(
    session: &mut Session<'_>,
    group: &Group<'_>,
    marks: &mut Marks,
    points: Vec<Point<'p, R>>,
) -> Result<Vec<Ready<'p, R>>, DeviceError> {
    let mut by_importance: Vec<(usize, Point<'p, R>)> = points.into_iter().enumerate().collect();
    by_importance.sort_by_key(|(place, point)| (std::cmp::Reverse(point.importance), *place));
    let mut ready: Vec<Ready<'p, R>> = Vec::new();
    let mut left_out = Vec::new();
    let mut sampling_s = 0.0;
    for (place, point) in by_importance {
        let Point { name, row, build, .. } = point;
        if !left_out.is_empty() || session.deadline.left_s() <= sampling_s {
            left_out.push(name);
            continue;
        }
        let built = build(session.device).and_then(|runs| {
            calibrate(session, group, marks, Blank { place, name: name.clone(), row, runs })
        });
        match built {
            Ok(point) => {
                sampling_s += point.cost_s * f64::from(point.wanted);
                if sampling_s > session.deadline.left_s() {
                    left_out.push(name);
                } else {
                    ready.push(point);
                }
            }
            Err(error) => {
                session.leave_out(group.experiment, name, error)?;
                session.progress.point();
            }
        }
    }
    leave_out(session, group.experiment, left_out);
    Ok(ready)
}

/// A point that was built.
struct Blank<'p, R> {
    place: usize,
    name: String,
    row: R,
    runs: Runs<'p>,
}

fn calibrate<'p, R>(
    session: &mut Session<'_>,
    group: &Group<'_>,
    marks: &mut Marks,
    blank: Blank<'p, R>,
) -> Result<Ready<'p, R>, DeviceError> {
    let Blank { place, name, row, mut runs } = blank;
    if let Some(check) = &mut runs.check
        && session.device.has_data()
    {
        check(session.device, marks.stream)?;
    }
    let plan = marks.calibrate(session.device, &mut runs, group.least_interval_s)?;
    let dear = plan.run_s * f64::from(plan.runs) >= DEAR_S;
    let wanted = if dear { (group.samples / 3).max(LEAST_SAMPLES.min(group.samples)) } else { group.samples };
    let mut point = Ready {
        place,
        name,
        row,
        runs,
        plan,
        wanted: wanted.max(1),
        cost_s: 0.0,
        seconds: Vec::new(),
        submissions: Vec::new(),
        silent: 0,
        waived: false,
    };
    let began_s = session.deadline.elapsed_s();
    if dear {
        // what it costs is known, and a trial would cost as much as a sample
        let background_s = if point.plan.background.is_empty() { 1.0 } else { 3.0 };
        point.cost_s = point.plan.run_s * f64::from(point.plan.runs) * background_s;
    } else {
        point.take(session, marks, false)?;
        point.cost_s = session.deadline.elapsed_s() - began_s;
        // a trial: its samples are not in shuffled order
        (point.seconds, point.submissions, point.silent) = (Vec::new(), Vec::new(), 0);
    }
    Ok(point)
}

/// Notes points that were left out, the most important first, as the least important first.
fn leave_out(session: &mut Session<'_>, experiment: &str, left_out: Vec<String>) {
    if left_out.is_empty() {
        return;
    }
    session.progress.note(&format!("{experiment}: {} points left out: out of time", left_out.len()));
    for name in left_out.into_iter().rev() {
        session.out_of_time(experiment, name);
        session.progress.point();
    }
}

fn sample<R>(
    session: &mut Session<'_>,
    group: &Group<'_>,
    marks: &mut Marks,
    ready: &mut [Ready<'_, R>],
) -> Result<(), DeviceError> {
    let passes = ready.iter().map(|point| point.wanted).max().unwrap_or(0);
    let length_s = |point: &Ready<'_, R>| point.plan.run_s * f64::from(point.plan.runs);
    let longest = (0..ready.len()).max_by(|a, b| length_s(&ready[*a]).total_cmp(&length_s(&ready[*b])));
    for pass in 0..passes {
        for place in order::shuffled(ready.len(), session.seed, group.experiment, pass) {
            if session.deadline.left_s() <= 0.0 {
                return Ok(());
            }
            let point = &mut ready[place];
            if point.waived || point.taken() >= point.wanted {
                continue;
            }
            // before, in the middle and at the end
            let watch = longest == Some(place)
                && [0, point.wanted / 2, point.wanted.saturating_sub(1)].contains(&point.taken());
            if let Err(error) = point.take(session, marks, watch) {
                session.leave_out(group.experiment, point.name.clone(), error)?;
                point.waived = true;
            }
            if point.waived || point.taken() == point.wanted {
                session.progress.point();
            }
        }
    }
    Ok(())
}

fn finish<R>(session: &mut Session<'_>, group: &Group<'_>, point: Ready<'_, R>) -> Option<Measured<R>> {
    let Ready { name, row, plan, wanted, seconds, submissions, silent, waived, .. } = point;
    if waived {
        return None;
    }
    if seconds.len() < LEAST_SAMPLES.min(wanted) as usize {
        if silent > 0 {
            session.dropped.push(Dropped {
                experiment: group.experiment.to_owned(),
                what: name,
                reason: format!("its background ended before it did in {silent} of {wanted} samples"),
                gap: Gap::NotUsable,
            });
        } else {
            session.out_of_time(group.experiment, format!("{name} (after {} samples)", seconds.len()));
        }
        return None;
    }
    session.keep_samples(group.experiment, &name, &seconds);
    let submission = (!submissions.is_empty()).then(|| Timing::of(&submissions));
    Some(Measured { row, timing: Timing::of(&seconds), submission, runs: plan.runs })
}
