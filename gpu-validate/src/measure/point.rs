//! What a point of an experiment is to the runner: a name, how much it matters, and closures that enqueue its work.

use super::queue::Queue;
use crate::device::{Device, DeviceError, Stream};
use crate::sample::Timing;

/// How much a point matters when there is not time for all: the least important are left out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// Shows more, decides nothing.
    Detail,
    /// Makes a fit better.
    Useful,
    /// A fit or the report cannot do without.
    Essential,
}

/// Enqueues one run.
pub type Run<'p> = Box<dyn FnMut(&mut Queue<'_>) -> Result<(), DeviceError> + 'p>;

/// Runs a point once with poisoned outputs and compares what came out.
pub type Check<'p> = Box<dyn FnMut(&mut dyn Device, Stream) -> Result<(), DeviceError> + 'p>;

/// Makes a point ready: buffers it alone needs, tables, graphs.
pub type Build<'p> = Box<dyn FnOnce(&mut dyn Device) -> Result<Runs<'p>, DeviceError> + 'p>;

/// What a point enqueues.
pub struct Runs<'p> {
    pub(super) run: Run<'p>,
    pub(super) background: Vec<Run<'p>>,
    pub(super) check: Option<Check<'p>>,
    pub(super) times_submission: bool,
    pub(super) may_be_held: bool,
}

impl<'p> Runs<'p> {
    /// One run enqueues what `run` enqueues.
    pub fn of(run: impl FnMut(&mut Queue<'_>) -> Result<(), DeviceError> + 'p) -> Self {
        Runs {
            run: Box::new(run),
            background: Vec::new(),
            check: None,
            times_submission: false,
            may_be_held: true,
        }
    }

    /// Keeps a stream of its own busy with `run`, before, during and after every measured interval. It must return
    /// without waiting for the device.
    pub fn with_background(mut self, run: Run<'p>) -> Self {
        self.background.push(run);
        self
    }

    /// Compares the result once, before anything is timed, where the device holds data.
    pub fn with_check(mut self, check: Check<'p>) -> Self {
        self.check = Some(check);
        self
    }

    /// Also times the submission of one run into an empty queue, by the CPU's clock.
    pub fn timing_submission(mut self, yes: bool) -> Self {
        self.times_submission = yes;
        self
    }

    /// The submitting call itself waits for the device (copies of pageable memory): nothing may hold the stream, and
    /// the cost of submission is a part of the interval.
    pub fn waiting_for_the_device(mut self, yes: bool) -> Self {
        self.may_be_held = !yes;
        self
    }
}

/// A point to measure; `row` is handed back with its timing.
pub struct Point<'p, R> {
    pub(super) name: String,
    pub(super) importance: Importance,
    pub(super) row: R,
    pub(super) build: Build<'p>,
}

impl<'p, R> Point<'p, R> {
    /// `name` is unique within its experiment.
    pub fn new(
        name: impl Into<String>,
        importance: Importance,
        row: R,
        build: impl FnOnce(&mut dyn Device) -> Result<Runs<'p>, DeviceError> + 'p,
    ) -> Self {
        Point { name: name.into(), importance, row, build: Box::new(build) }
    }
}

/// A point that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured<R> {
    /// As handed in.
    pub row: R,
    /// One run, on the device's clock.
    pub timing: Timing,
    /// Submission of one run into an empty queue, on the CPU's clock; `None` unless asked for.
    pub submission: Option<Timing>,
    /// Runs in one timed interval.
    pub runs: u32,
}
