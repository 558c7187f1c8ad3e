//! What a measuring run says about its own trustworthiness: checks, drift, predicted against measured steps
//! (`gpu-measurement.md` §4.2 to §4.4). Errors are shares: 0.05 is 5 %.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Positive;

/// Predicted against measured step times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Hash of the predictions, written before the first case ran.
    pub predictions_sha256: Option<String>,
    /// Each case.
    #[serde(default)]
    pub cases: Vec<ValidationCase>,
    /// Over all cases.
    pub summary: Option<ValidationSummary>,
}

/// One decode step, predicted and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidationCase {
    /// Unique name.
    pub id: String,
    /// Which arm of the comparison it belongs to, where the same work was measured in several ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Model shape.
    pub model: String,
    /// Requests in the batch.
    pub batch: u32,
    /// Context tokens of each request, or of all if there is one entry.
    pub ctx: Vec<u64>,
    /// Where the layers lived.
    pub placement: String,
    /// Staging slots per request.
    pub slots: u32,
    /// `layer`, or the pieces in which a layer was copied.
    pub granularity: String,
    /// Copy time over compute time; 0 when nothing is copied.
    pub rho: f64,
    /// Predicted step times.
    pub pred_s: PredictedStep,
    /// Measured step times.
    pub meas_s: MeasuredStep,
    /// `(predicted − measured) / measured` of the full model.
    pub err_rel: f64,
}

/// Predicted step times by model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictedStep {
    /// Tables, curve and contention.
    pub full: Positive,
    /// Compute as a line in context tokens.
    pub affine: Option<Positive>,
    /// The published planner's formula.
    pub orbitflow: Option<Positive>,
    /// The longer of all compute and all copies: no step takes less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Positive>,
    /// The full model less contention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_contention: Option<Positive>,
}

/// Measured step times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasuredStep {
    /// Median.
    pub median: Positive,
    /// Distance between the quartiles.
    pub iqr: f64,
    /// Steps.
    pub n: u32,
}

/// Errors over all cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidationSummary {
    /// Median of the absolute errors.
    pub median_abs: Option<f64>,
    /// Their 95th percentile.
    pub p95_abs: Option<f64>,
    /// Mean signed error.
    pub bias: Option<f64>,
    /// Agreement of the order of placements, −1 to 1.
    pub kendall_tau: Option<f64>,
    /// Measured time of the predicted best over the measured best, less 1.
    pub regret: Option<f64>,
    /// Errors of the model that no fit saw.
    pub heldout: Option<HeldOut>,
    /// Median of the absolute errors of the other predictions, by their key in `pred_s`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_baseline: BTreeMap<String, f64>,
    /// Median of the absolute errors of the full model, by band of `rho`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_rho: BTreeMap<String, f64>,
}

/// Errors of the model that no fit saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Its name.
    pub model: String,
    /// Median of the absolute errors.
    pub median_abs: Option<f64>,
    /// Their 95th percentile.
    pub p95_abs: Option<f64>,
    /// Mean signed error.
    pub bias: Option<f64>,
}

/// One correctness check of the measuring run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Name, for example `attn_fp64`.
    pub name: String,
    /// Worst relative error; 0 for bit equality.
    pub worst_rel: Option<f64>,
    /// The most that passes; 0 where only bit equality does.
    pub bound: Option<f64>,
    /// Whether it passed; says nothing of a waived check.
    pub pass: bool,
    /// It could not be made here, and counts neither as passed nor as failed; `note` says why.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waived: bool,
    /// What a reader should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// How far repeated anchors moved between start and end of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Host-to-device rate.
    pub h2d_rel: Option<f64>,
    /// Resident step time.
    pub step_rel: Option<f64>,
}
