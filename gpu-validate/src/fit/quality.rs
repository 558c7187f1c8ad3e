//! How good a fit is: its residuals, what they add up to, and how far it is off where it has not looked.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use orbitflow_sim::cost::profile::Fit;
use serde::Serialize;

use crate::sample::median;

/// With fewer points than this no interval is given, and its width means little below twice as many.
pub const FEW_POINTS: usize = 6;

/// Times that differ by less than this share of their mean are equal.
const EQUAL: f64 = 1e-9;

/// A point, as measured and as the fit has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Which point.
    pub point: String,
    /// What it is plotted over: bytes or context tokens.
    pub at: f64,
    /// Measured seconds.
    pub measured_s: f64,
    /// Seconds by the fit.
    pub predicted_s: f64,
    /// Whether the fit saw it.
    pub used: bool,
}

impl Prediction {
    /// `(predicted − measured) / measured`.
    pub fn error(&self) -> f64 {
        self.predicted_s / self.measured_s - 1.0
    }
}

/// The points of one context or one size, predicted by a fit of all others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fold {
    /// Context tokens or bytes that were left out.
    pub left_out: u64,
    /// Median of the absolute relative errors of its points.
    pub error: f64,
}

/// What is said of a fit. Errors are shares: 0.05 is 5 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Points the fit saw.
    pub points: usize,
    /// Share of the variance explained, 1 − Σ(t − fit)² / Σ(t − mean)²; `None` where all times are equal.
    pub r2: Option<f64>,
    /// Largest absolute relative error.
    pub largest_error: Option<f64>,
    /// Median absolute relative error.
    pub median_error: Option<f64>,
    /// One context or size left out at a time, ascending: the last is an extrapolation.
    pub folds: Vec<Fold>,
    /// 95 % interval of each coefficient, by its name in the profile.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

impl Quality {
    /// Of the predictions that the fit saw.
    pub(super) fn of(predictions: &[Prediction]) -> Quality {
        let used: Vec<&Prediction> = predictions.iter().filter(|prediction| prediction.used).collect();
        let errors: Vec<f64> = used.iter().map(|prediction| prediction.error().abs()).collect();
        let mean = used.iter().map(|prediction| prediction.measured_s).sum::<f64>() / used.len() as f64;
        let squares = |value: &dyn Fn(&Prediction) -> f64| -> f64 {
            used.iter().map(|prediction| value(prediction).powi(2)).sum()
        };
        let total = squares(&|prediction| prediction.measured_s - mean);
        let left = squares(&|prediction| prediction.measured_s - prediction.predicted_s);
        Quality {
            points: used.len(),
            r2: (total > used.len() as f64 * (EQUAL * mean).powi(2))
                .then(|| 1.0 - left / total)
                .filter(|r2| r2.is_finite()),
            largest_error: errors.iter().copied().max_by(f64::total_cmp),
            median_error: median(&errors),
            folds: Vec::new(),
            intervals: BTreeMap::new(),
        }
    }

    /// Median error over the folds; `None` if there are none.
    pub fn left_out_error(&self) -> Option<f64> {
        median(&self.folds.iter().map(|fold| fold.error).collect::<Vec<f64>>())
    }

    /// Error at the largest context or size, predicted from all smaller ones; `None` without folds.
    pub fn extrapolation_error(&self) -> Option<f64> {
        self.folds.last().map(|fold| fold.error)
    }

    /// As the profile has it.
    pub fn to_fit(&self) -> Fit {
        Fit {
            r2: self.r2,
            max_rel_err: self.largest_error,
            med_rel_err: self.median_error,
            loo_rel_err: self.left_out_error(),
            n: u32::try_from(self.points).ok().and_then(NonZeroU32::new),
            ci95: self.intervals.clone(),
        }
    }
}

/// The fold of one left-out context or size; `None` without predictions.
pub(super) fn fold(left_out: u64, errors: &[f64]) -> Option<Fold> {
    let error = median(&errors.iter().map(|error| error.abs()).collect::<Vec<f64>>())?;
    error.is_finite().then_some(Fold { left_out, error })
}
