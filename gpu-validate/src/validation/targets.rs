//! The targets stated before anything was measured (issue 3, point 5), and whether a validation meets them.
//!
//! They hold for the fitted model's cases in the main arm; the held-out model, the second arm and synthetic dilation are
//! reported beside. What was not measured meets nothing.

use orbitflow_sim::cost::profile::Validation;
use orbitflow_sim::cost::{TARGET_MEDIAN, TARGET_P95, TARGET_REGRET};

/// Whether the targets are met: exit code 5 if not.
///
/// # Errors
/// One line per target that is missed or was not measured.
pub fn enforce(validation: &Validation) -> Result<(), Vec<String>> {
    let summary = validation.summary.as_ref();
    let targets = [
        ("median_abs", summary.and_then(|summary| summary.median_abs), TARGET_MEDIAN),
        ("p95_abs", summary.and_then(|summary| summary.p95_abs), TARGET_P95),
        ("regret", summary.and_then(|summary| summary.regret), TARGET_REGRET),
    ];
    let missed: Vec<String> = targets
        .into_iter()
        .filter_map(|(key, share, target)| {
            let expected = format!("expected at most {:.0} %", target * 100.0);
            match share {
                None => Some(format!("validation.summary.{key}: not measured: {expected}")),
                // NaN is no success.
                Some(share) if share <= target => None,
                Some(share) => Some(format!("validation.summary.{key}: {:.2} %: {expected}", share * 100.0)),
            }
        })
        .collect();
    if missed.is_empty() { Ok(()) } else { Err(missed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbitflow_sim::cost::profile::ValidationSummary;

    fn validation(median_abs: Option<f64>, p95_abs: Option<f64>, regret: Option<f64>) -> Validation {
        let summary = ValidationSummary { median_abs, p95_abs, regret, ..Default::default() };
        Validation { summary: Some(summary), ..Default::default() }
    }

    #[test]
    fn targets_are_met_at_their_limit_and_missed_beyond() {
        assert_eq!(enforce(&validation(Some(0.05), Some(0.10), Some(0.02))), Ok(()));
        let missed = enforce(&validation(Some(0.0501), Some(0.2), Some(0.0))).unwrap_err();
        assert_eq!(
            missed,
            [
                "validation.summary.median_abs: 5.01 %: expected at most 5 %",
                "validation.summary.p95_abs: 20.00 %: expected at most 10 %"
            ]
        );
    }

    #[test]
    fn what_was_not_measured_meets_no_target() {
        assert_eq!(enforce(&Validation::default()).unwrap_err().len(), 3);
        let no_regret = enforce(&validation(Some(0.0), Some(0.0), None)).unwrap_err();
        assert_eq!(no_regret, ["validation.summary.regret: not measured: expected at most 2 %"]);
        assert!(enforce(&validation(Some(f64::NAN), Some(0.0), Some(0.0))).is_err());
    }
}
