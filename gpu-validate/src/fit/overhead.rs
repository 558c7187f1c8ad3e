//! What a whole step takes beyond its kernels: `step − kernels = layers·g + e`, g per layer and e per step
//! (`gpu-measurement.md` §3.1).
//!
//! The relative error is that of the whole step, not of the small difference: a step time is what the model is for.

use std::collections::BTreeSet;

use super::linear::{Row, solve};
use super::quality::{Prediction, Quality, fold};
use super::resample::intervals;
use super::{FitSettings, NoFit, above_zero, usable};

/// One whole step.
#[derive(Clone, Debug, PartialEq)]
pub struct OverheadObservation {
    /// Which.
    pub point: String,
    /// Layers that ran.
    pub layers: u32,
    /// The most context tokens of a request; points of one context are left out together.
    pub context: u64,
    /// Context tokens of all requests.
    pub tokens: u64,
    /// Seconds of its products, attention and output head by their own fits.
    pub kernels_s: f64,
    /// Measured seconds.
    pub seconds: f64,
}

/// What a step takes beyond its kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct OverheadFit {
    /// Seconds per layer, or why it is not known.
    pub layer_s: Result<f64, NoFit>,
    /// Seconds per step, or why it is not known.
    pub step_s: Result<f64, NoFit>,
    /// Of whole steps.
    pub quality: Quality,
    /// Every step.
    pub predictions: Vec<Prediction>,
}

/// Fits `layer_s` and `step_s`.
///
/// # Errors
/// No usable step.
pub fn fit_overhead(
    observations: &[OverheadObservation],
    settings: FitSettings,
) -> Result<OverheadFit, NoFit> {
    let points: Vec<&OverheadObservation> =
        observations.iter().filter(|point| usable(point.seconds) && point.kernels_s.is_finite()).collect();
    if points.is_empty() {
        return Err(NoFit::TooFew { points: 0, needed: 1 });
    }
    let both = points.iter().any(|point| point.layers != points[0].layers);
    let even = vec![1.0; points.len()];
    let (layer, step) = coefficients(&points, &even, both);
    let predict = |point: &OverheadObservation, (layer, step): (f64, f64)| {
        point.kernels_s + f64::from(point.layers) * layer + step
    };
    let predictions: Vec<Prediction> = points
        .iter()
        .map(|point| Prediction {
            point: point.point.clone(),
            at: point.tokens as f64,
            measured_s: point.seconds,
            predicted_s: predict(point, (layer, step)),
            used: true,
        })
        .collect();
    let mut quality = Quality::of(&predictions);
    let contexts: BTreeSet<u64> = points.iter().map(|point| point.context).collect();
    quality.folds = contexts
        .iter()
        .filter(|_| contexts.len() > 1)
        .filter_map(|left_out| {
            let weights: Vec<f64> =
                points.iter().map(|point| f64::from(u8::from(point.context != *left_out))).collect();
            let fitted = coefficients(&points, &weights, both);
            let errors: Vec<f64> = points
                .iter()
                .filter(|point| point.context == *left_out)
                .map(|point| predict(point, fitted) / point.seconds - 1.0)
                .collect();
            fold(*left_out, &errors)
        })
        .collect();
    let refit = |weights: &[f64]| Some(<[f64; 2]>::from(coefficients(&points, weights, both)));
    if let Some([layer_ends, step_ends]) = intervals(points.len(), [layer, step], settings, refit) {
        quality.intervals.insert("layer_other_s".to_owned(), layer_ends);
        if both {
            quality.intervals.insert("step_fixed_s".to_owned(), step_ends);
        }
    }
    let step_s = if both {
        known(step, "the rest of a step")
    } else {
        Err(NoFit::AllEqual { what: "number of layers" })
    };
    Ok(OverheadFit { layer_s: known(layer, "the rest of a layer"), step_s, quality, predictions })
}

fn known(value: f64, what: &'static str) -> Result<f64, NoFit> {
    above_zero(value).ok_or(NoFit::NotPositive { what })
}

/// (per layer, per step), least squares of `layers·g + e − (step − kernels)` over the step's time; neither below 0.
fn coefficients(points: &[&OverheadObservation], weights: &[f64], both: bool) -> (f64, f64) {
    // ((layers·g + e − rest)/step)² is (rest/step)² · ((layers·g + e)/rest − 1)²: an error relative to the rest, weighted
    // by its share of the step. A rest of nothing is moved by a billionth of the step, so that it still counts.
    let rows: Vec<Row<2>> = points
        .iter()
        .zip(weights)
        .map(|(point, &weight)| {
            let rest = point.seconds - point.kernels_s;
            let sign = if rest < 0.0 { -1.0 } else { 1.0 };
            let rest = rest.abs().max(1e-9 * point.seconds);
            Row {
                columns: [sign * f64::from(point.layers), if both { sign } else { 0.0 }],
                seconds: rest,
                weight: weight * (rest / point.seconds).powi(2),
            }
        })
        .collect();
    solve(&rows).map_or((0.0, 0.0), |[layer, step]| (layer, step))
}
