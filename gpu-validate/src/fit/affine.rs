//! A line `slope·x + constant`: step times over context tokens, to compare with published fits; copies over bytes.

use super::linear::{Row, solve};
use super::quality::{Prediction, Quality};
use super::{NoFit, above_zero, usable};

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineFit {
    /// Seconds per unit of x.
    pub slope_s: f64,
    /// Seconds at 0; `None`: not told from 0.
    pub constant_s: Option<f64>,
    /// How good it is.
    pub quality: Quality,
    /// Every point.
    pub predictions: Vec<Prediction>,
}

/// The line through `(name, x, seconds)`, on relative error.
///
/// # Errors
/// Fewer than two different x, or a line that does not rise.
pub fn fit_affine(points: &[(String, f64, f64)]) -> Result<AffineFit, NoFit> {
    let points: Vec<&(String, f64, f64)> =
        points.iter().filter(|(_, x, seconds)| usable(*seconds) && x.is_finite()).collect();
    if points.len() < 2 {
        return Err(NoFit::TooFew { points: points.len(), needed: 2 });
    }
    if points.iter().all(|(_, x, _)| *x == points[0].1) {
        return Err(NoFit::AllEqual { what: "x" });
    }
    let rows: Vec<Row<2>> = points
        .iter()
        .map(|(_, x, seconds)| Row { columns: [1.0, *x], seconds: *seconds, weight: 1.0 })
        .collect();
    let not_rising = NoFit::NotPositive { what: "the slope" };
    let Some([constant, slope]) = solve(&rows) else { return Err(not_rising) };
    let slope_s = above_zero(slope).ok_or(not_rising)?;
    let predictions: Vec<Prediction> = points
        .iter()
        .map(|(point, x, seconds)| Prediction {
            point: point.clone(),
            at: *x,
            measured_s: *seconds,
            predicted_s: constant + slope_s * x,
            used: true,
        })
        .collect();
    let quality = Quality::of(&predictions);
    Ok(AffineFit { slope_s, constant_s: above_zero(constant), quality, predictions })
}
