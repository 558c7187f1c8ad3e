//! What every experiment is handed: a device, how much to measure, the time left, and where samples and gaps go.
//!
//! Knows no experiment. The wall clock is read here and in the device backends, nowhere else.

use std::time::{Duration, Instant};

use orbitflow_sim::cost::profile::DeviceSample;

use crate::device::{Device, DeviceError};
use crate::results::{Dropped, Gap};
use crate::scale::Scale;

/// Says how far a run is; the command line shows it on stderr.
pub trait Progress {
    /// A group of `points` points begins.
    fn group(&mut self, experiment: &str, points: usize);
    /// One point of the group is done.
    fn point(&mut self);
    /// Something the reader should know now.
    fn note(&mut self, line: &str);
}

/// Tells no one.
pub struct Silent;

impl Progress for Silent {
    fn group(&mut self, _: &str, _: usize) {}
    fn point(&mut self) {}
    fn note(&mut self, _: &str) {}
}

/// When a run must stop beginning new points.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    began: Instant,
    limit: Option<Duration>,
}

impl Deadline {
    /// `seconds` from now.
    pub fn after_s(seconds: f64) -> Self {
        Deadline { began: Instant::now(), limit: Some(Duration::from_secs_f64(seconds)) }
    }

    /// Never.
    pub fn never() -> Self {
        Deadline { began: Instant::now(), limit: None }
    }

    /// Seconds since the run began.
    pub fn elapsed_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds left; infinite without a limit, 0 once it has passed.
    pub fn left_s(&self) -> f64 {
        match self.limit {
            Some(limit) => limit.saturating_sub(self.began.elapsed()).as_secs_f64(),
            None => f64::INFINITY,
        }
    }

    /// The same deadline, `reserve_s` seconds earlier: for groups that must leave time to later ones.
    pub fn keeping_s(&self, reserve_s: f64) -> Deadline {
        let limit = self.limit.map(|limit| limit.saturating_sub(Duration::from_secs_f64(reserve_s)));
        Deadline { limit, ..*self }
    }
}

/// One timed sample, for `samples.csv`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SampleRow {
    /// Experiment, for example `E2`.
    pub experiment: String,
    /// Readable name of the point, unique within the experiment.
    pub point: String,
    /// From 0, in the order of measuring.
    pub sample: u32,
    /// Seconds of one run of the point.
    pub seconds: f64,
}

/// What every experiment is handed.
pub struct Session<'a> {
    /// Where it runs.
    pub device: &'a mut dyn Device,
    /// How much it measures.
    pub scale: &'a Scale,
    /// When it must stop beginning new points.
    pub deadline: Deadline,
    /// Of random data and of the order of points.
    pub seed: u64,
    /// Where it says how far it is.
    pub progress: &'a mut dyn Progress,
    /// Every sample taken.
    pub samples: Vec<SampleRow>,
    /// Every point left out.
    pub dropped: Vec<Dropped>,
    /// Points that failed while the device went on: each makes the run a failed one.
    pub failures: Vec<String>,
    /// Clocks, power and throttling, read while something ran.
    pub states: Vec<DeviceSample>,
}

impl<'a> Session<'a> {
    /// With nothing measured yet.
    pub fn new(
        device: &'a mut dyn Device,
        scale: &'a Scale,
        deadline: Deadline,
        seed: u64,
        progress: &'a mut dyn Progress,
    ) -> Self {
        let (samples, dropped, failures, states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Session { device, scale, deadline, seed, progress, samples, dropped, failures, states }
    }

    /// Keeps the samples of a point for `samples.csv`.
    pub fn keep_samples(&mut self, experiment: &str, point: &str, seconds: &[f64]) {
        self.samples.extend(seconds.iter().enumerate().map(|(sample, seconds)| SampleRow {
            experiment: experiment.to_owned(),
            point: point.to_owned(),
            sample: sample as u32,
            seconds: *seconds,
        }));
    }

    /// Notes a point that the deadline took.
    pub fn out_of_time(&mut self, experiment: &str, what: impl Into<String>) {
        let reason = "out of time".to_owned();
        self.dropped.push(Dropped {
            experiment: experiment.to_owned(),
            what: what.into(),
            reason,
            gap: Gap::OutOfTime,
        });
    }

    /// Leaves out a point that gave an error, and goes on: what is not possible here is waived; what failed is also kept
    /// in [`Session::failures`], as long as the device still answers.
    ///
    /// # Errors
    /// `error` itself when the device no longer answers: nothing more can be measured.
    pub fn leave_out(
        &mut self,
        experiment: &str,
        what: impl Into<String>,
        error: DeviceError,
    ) -> Result<(), DeviceError> {
        let (what, reason) = (what.into(), error.to_string());
        let gap = match error {
            DeviceError::Unsupported { .. } | DeviceError::OutOfMemory { .. } => Gap::NotPossible,
            DeviceError::Failed { .. } => {
                if self.device.synchronize().is_err() {
                    return Err(error);
                }
                self.failures.push(format!("{experiment} {what}: {reason}"));
                Gap::NotUsable
            }
        };
        self.dropped.push(Dropped { experiment: experiment.to_owned(), what, reason, gap });
        Ok(())
    }
}
