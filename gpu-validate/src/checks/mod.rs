//! E11: is what was computed and copied right (`gpu-measurement.md` §4.3)? Timings of wrong results are worth nothing.
//!
//! Attention and products against a CPU in fp64, copies page by page, and the decode pipeline against itself: offloaded
//! runs must equal resident ones bit for bit, and a pipeline whose compute does not wait for copies must not. A check that
//! is not possible here is waived with its reason; it never passes for that. Knows no timing and no prediction.

mod attention;
mod copies;
mod pipeline;
mod products;
mod reference;

use crate::device::DeviceError;
use crate::results::CheckPoint;
use crate::session::Session;

/// What a check found: the worst over its cases, and more about it.
struct Finding {
    worst: f64,
    note: Option<String>,
}

impl Finding {
    const fn of(worst: f64) -> Finding {
        Finding { worst, note: None }
    }
}

type Run = Box<dyn FnMut(&mut Session<'_>) -> Result<Finding, DeviceError>>;

/// A check, before it is run.
struct Check {
    name: String,
    what: String,
    bound: f64,
    run: Run,
}

impl Check {
    fn point(&self, worst: Option<f64>, pass: Option<bool>, note: Option<String>) -> CheckPoint {
        CheckPoint { name: self.name.clone(), what: self.what.clone(), worst, bound: self.bound, pass, note }
    }

    fn result(&mut self, session: &mut Session<'_>) -> Result<CheckPoint, DeviceError> {
        if !session.device.has_data() {
            let reason = format!("{} has no data", session.device.backend().key());
            return Ok(self.point(None, None, Some(reason)));
        }
        if session.deadline.left_s() <= 0.0 {
            session.out_of_time("E11", self.name.clone());
            return Ok(self.point(None, None, Some("out of time".to_owned())));
        }
        match (self.run)(session) {
            Ok(Finding { worst, note }) => Ok(self.point(Some(worst), Some(worst <= self.bound), note)),
            Err(error @ (DeviceError::Unsupported { .. } | DeviceError::OutOfMemory { .. })) => {
                Ok(self.point(None, None, Some(error.to_string())))
            }
            Err(error) => Err(error),
        }
    }
}

/// Runs every check. Gives back what was on the device before.
///
/// # Errors
/// What the device fails with. A wrong result is no error: it is a [`CheckPoint`] that did not pass.
pub fn checks(session: &mut Session<'_>) -> Result<Vec<CheckPoint>, DeviceError> {
    let mut all = attention::checks(session);
    all.extend(products::checks());
    all.extend(copies::checks(session));
    all.extend(pipeline::checks());
    session.progress.group("E11", all.len());
    let mut points = Vec::new();
    for check in &mut all {
        points.push(check.result(session)?);
        session.progress.point();
    }
    session.device.free_all()?;
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::host::{HostDevice, HostOptions};
    use crate::device::virtual_time::{VirtualTimeDevice, VirtualTruth};
    use crate::device::{Backend, Device};
    use crate::scale::Scale;
    use crate::session::{Deadline, Silent};

    fn run(device: &mut dyn Device) -> Vec<CheckPoint> {
        let scale = Scale::of(device.backend(), true);
        let mut progress = Silent;
        checks(&mut Session::new(device, &scale, Deadline::never(), 11, &mut progress)).unwrap()
    }

    #[test]
    fn every_check_passes_on_the_host_and_none_is_waived() {
        let mut device = HostDevice::new(HostOptions::default()).unwrap();
        let points = run(&mut device);
        for point in &points {
            assert_eq!(point.pass, Some(true), "{point:?}");
        }
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        for name in ["attention_fp64_g4", "gemm_fp64", "copy_h2d_async", "pipeline_dropped_wait_is_caught"] {
            assert!(names.contains(&name), "{names:?}");
        }
    }

    #[test]
    fn without_data_everything_is_waived_and_nothing_passes() {
        let points = run(&mut VirtualTimeDevice::new(VirtualTruth::small()));
        assert!(points.len() > 10);
        for point in points {
            assert_eq!((point.pass, point.worst), (None, None), "{}", point.name);
            assert_eq!(point.note.as_deref(), Some("virtual-time has no data"));
        }
        assert_eq!(Backend::VirtualTime.key(), "virtual-time");
    }
}
