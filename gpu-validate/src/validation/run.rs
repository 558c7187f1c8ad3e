//! Runs the cases whose predictions are on disk: warm-ups, timed steps, for some an instrumented pass.
//!
//! Cases are shuffled within thirds of their importance, so that drift is not confounded with what is measured, and so
//! that a run out of time drops the least important ones; what is dropped is listed. The predictions are read again at the
//! end. Knows neither costs nor what a prediction is made of.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::predictions::{PredictionsError, Written};
use crate::case::{Case, CaseResult, Instrumented, Prediction};
use crate::decode::{Rig, RigOptions};
use crate::device::DeviceError;
use crate::sample::Timing;
use crate::session::Session;

/// Steps before those that are timed.
pub const WARM_UPS: u32 = 5;
/// Of the cases in their order of importance, every how manieth has an instrumented pass.
const INSTRUMENTED_EVERY: usize = 3;
/// Parts of the cases that are shuffled apart.
const TIERS: usize = 3;

/// Why a validation has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The predictions are gone, or changed while steps were measured.
    #[error(transparent)]
    Predictions(#[from] PredictionsError),
    /// Nothing was predicted of a case as it is.
    #[error("{case}: no prediction of this case was written before measuring")]
    NotPredicted {
        /// Which.
        case: String,
    },
}

/// Measures `cases`, given most important first, and answers in the same order. Cases that the device cannot run, or for
/// which no time is left, are in the session's list of what was dropped.
///
/// # Errors
/// A case that was not predicted; predictions that are not on disk as they were written, before or after; a device that
/// fails.
pub fn run(
    session: &mut Session<'_>,
    cases: &[Case],
    written: &Written,
) -> Result<Vec<CaseResult>, RunError> {
    written.verify()?;
    let predicted = cases
        .iter()
        .map(|case| {
            let missing = || RunError::NotPredicted { case: case.id.clone() };
            written.predictions().of_case(case).ok_or_else(missing)
        })
        .collect::<Result<Vec<&Prediction>, RunError>>()?;
    session.progress.group("E10", cases.len());
    let mut results: Vec<Option<CaseResult>> = vec![None; cases.len()];
    for place in running_order(cases.len(), session.seed) {
        let case = &cases[place];
        if session.deadline.left_s() <= 0.0 {
            session.out_of_time("E10", &case.id);
        } else {
            let instrumented = place % INSTRUMENTED_EVERY == 0;
            match measure(session, case, predicted[place], instrumented) {
                Ok(result) => results[place] = result,
                Err(error) => {
                    session.failures.push(format!("E10 {}: {error}; nothing was measured after it", case.id));
                    break;
                }
            }
        }
        session.progress.point();
    }
    written.verify()?;
    Ok(results.into_iter().flatten().collect())
}

/// One case; `None`: this device cannot run it.
fn measure(
    session: &mut Session<'_>,
    case: &Case,
    prediction: &Prediction,
    instrumented: bool,
) -> Result<Option<CaseResult>, DeviceError> {
    match time(session, case, instrumented) {
        Ok((seconds, instrumented)) => {
            session.keep_samples("E10", &case.id, &seconds);
            session.states.push(session.device.sample_state());
            let (case, prediction) = (case.clone(), prediction.clone());
            Ok(Some(CaseResult { case, prediction, measured: Timing::of(&seconds), instrumented }))
        }
        Err(error) => session.leave_out("E10", &case.id, error).map(|()| None),
    }
}

fn time(
    session: &mut Session<'_>,
    case: &Case,
    instrumented: bool,
) -> Result<(Vec<f64>, Option<Instrumented>), DeviceError> {
    let options = RigOptions::timing(session.seed, session.scale.weight_layers);
    let mut rig = Rig::new(session.device, case, options)?;
    for shared in rig.shared_memory() {
        session.progress.note(&format!("{}: {shared}", case.id));
    }
    let seconds = rig.time_steps(WARM_UPS, session.scale.step_samples)?;
    let instrumented = if instrumented { Some(rig.instrumented_step()?) } else { None };
    Ok((seconds, instrumented))
}

/// The places 0 to `count`: the first third in any order, then the second, then the last.
fn running_order(count: usize, seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..count).collect();
    for tier in order.chunks_mut(count.div_ceil(TIERS).max(1)) {
        for last in (1..tier.len()).rev() {
            tier.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;
    use crate::device::Device;
    use crate::device::virtual_time::{VirtualTimeDevice, VirtualTruth};
    use crate::results::Gap;
    use crate::scale::Scale;
    use crate::session::{Deadline, Silent};
    use crate::validation::testing::TruthCosts;
    use crate::validation::{PREDICTIONS_FILE, Predictions, cases, findings};

    fn emulation() -> (Scale, VirtualTruth, Vec<Case>, Predictions) {
        let (scale, truth) = (Scale::of(Backend::VirtualTime, false), VirtualTruth::small());
        let facts = VirtualTimeDevice::new(truth.clone()).facts().clone();
        let (cases, left_out) = cases(&scale, &facts, &TruthCosts(&truth));
        assert_eq!(left_out, []);
        let predictions = Predictions::of(&cases, &TruthCosts(&truth), "none").unwrap();
        (scale, truth, cases, predictions)
    }

    #[test]
    fn a_case_in_each_third_of_importance_runs_before_any_of_the_next() {
        let order = running_order(10, 7);
        let thirds: Vec<usize> = order.iter().map(|place| place / 4).collect();
        assert_eq!(thirds, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
        assert_eq!(order, running_order(10, 7));
        assert!((0..8).any(|seed| running_order(10, seed) != order), "nothing is shuffled");
        assert!(running_order(0, 1).is_empty());
    }

    #[test]
    fn a_run_in_virtual_time_has_no_error_and_measures_the_predicted_stalls() {
        let (scale, truth, cases, predictions) = emulation();
        let dir = tempfile::tempdir().unwrap();
        let written = predictions.write(dir.path()).unwrap();
        let mut device = VirtualTimeDevice::new(truth);
        let mut silent = Silent;
        let mut session = Session::new(&mut device, &scale, Deadline::never(), 1, &mut silent);
        let results = run(&mut session, &cases, &written).unwrap();
        assert_eq!(results.len(), cases.len());
        assert!(results.iter().map(|result| &result.case.id).eq(cases.iter().map(|case| &case.id)));
        assert!(results.iter().any(|result| result.instrumented.is_some()));
        let findings = findings(&results);
        assert!(findings.headline.unwrap().max_abs < 1e-8);
        assert_eq!((findings.regret, findings.suspicions.len()), (Some(0.0), 0));
        let stalls = findings.stalls.unwrap();
        assert!(stalls.worst.0 < 1e-10, "{stalls:?}");
    }

    #[test]
    fn out_of_time_every_case_is_listed_and_none_is_measured() {
        let (scale, truth, cases, predictions) = emulation();
        let dir = tempfile::tempdir().unwrap();
        let written = predictions.write(dir.path()).unwrap();
        let mut device = VirtualTimeDevice::new(truth);
        let mut silent = Silent;
        let mut session = Session::new(&mut device, &scale, Deadline::after_s(0.0), 1, &mut silent);
        assert!(run(&mut session, &cases, &written).unwrap().is_empty());
        assert_eq!(session.dropped.len(), cases.len());
        assert!(session.dropped.iter().all(|dropped| dropped.gap == Gap::OutOfTime));
    }

    #[test]
    fn predictions_that_changed_or_miss_a_case_end_the_run() {
        let (scale, truth, cases, predictions) = emulation();
        let dir = tempfile::tempdir().unwrap();
        let written = predictions.write(dir.path()).unwrap();
        let mut device = VirtualTimeDevice::new(truth);
        let mut silent = Silent;
        let mut session = Session::new(&mut device, &scale, Deadline::never(), 1, &mut silent);
        let other = [Case { slots: 7, ..cases[0].clone() }];
        assert!(matches!(run(&mut session, &other, &written), Err(RunError::NotPredicted { .. })));
        std::fs::write(dir.path().join(PREDICTIONS_FILE), "{}").unwrap();
        let changed = run(&mut session, &cases[..1], &written);
        assert!(matches!(changed, Err(RunError::Predictions(PredictionsError::Changed { .. }))));
        assert!(session.samples.is_empty(), "nothing was measured against changed predictions");
    }
}
