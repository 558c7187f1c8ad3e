//! From measured points to the coefficients of the step model, and how far they can be trusted.
//!
//! Pure mathematics: no device, no file, no clock. Everything is least squares on *relative* error, so that a 5 µs copy
//! and a 5 ms one count alike (`gpu-measurement.md` §3.1, §3.2, §3.4). Coefficients are times and rates, hence never
//! negative; one that comes out 0 was not told from 0 and is `None` with a reason. Model forms are chosen by the Bayesian
//! information criterion, so that a knee or a floor must earn its place.
//!
//! Every fit says (§3.5): R², largest and median relative error, every residual, the error of points left out (one
//! context or one size at a time, the largest among them: extrapolation), and 95 % bootstrap intervals over resampled
//! points, seeded. A fit that its points do not allow is a [`NoFit`], never a panic and never a NaN.

mod affine;
mod attention;
mod copies;
mod linear;
mod overhead;
mod quality;
mod resample;

pub use affine::{AffineFit, fit_affine};
pub use attention::{AttentionFit, AttentionObservation, LongestContext, fit_attention};
pub use copies::{CopyFit, CopyObservation, fit_copies};
pub use overhead::{OverheadFit, OverheadObservation, fit_overhead};
pub use quality::{FEW_POINTS, Fold, Prediction, Quality};

/// How intervals are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FitSettings {
    /// Of the resampled points.
    pub seed: u64,
    /// Resamples per fit; 0: no intervals.
    pub resamples: u32,
}

impl FitSettings {
    /// Resamples of a real run.
    pub const RESAMPLES: u32 = 1000;
}

/// Why a coefficient cannot be said. The text is what the profile gives as the reason of a null.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFit {
    /// Fewer usable points than coefficients need.
    #[error("{points} usable points, at least {needed} are needed")]
    TooFew {
        /// Points with a finite time above 0.
        points: usize,
        /// The least.
        needed: usize,
    },
    /// The points do not differ in what the coefficient multiplies.
    #[error("all points have the same {what}: the terms cannot be told apart")]
    AllEqual {
        /// What would have to differ.
        what: &'static str,
    },
    /// The best coefficient would not be a time or rate above 0.
    #[error("{what} is not told from 0 by these points")]
    NotPositive {
        /// Which coefficient.
        what: &'static str,
    },
}

/// Whether a measured time can be used: finite and above 0.
fn usable(seconds: f64) -> bool {
    seconds.is_finite() && seconds > 0.0
}

/// A coefficient, or `None` where it came out as nothing.
fn above_zero(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

#[cfg(test)]
mod tests;
