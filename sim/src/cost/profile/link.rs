//! The link in a profile: the recommended line of each direction, and every other that was fitted. Units stand in the
//! field names. Knows nothing of what a copy is for.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Positive;

/// The link between host and GPU memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Host to device.
    pub h2d: LinkDirection,
    /// Device to host; the simulator takes `h2d` where it is missing, and says so.
    pub d2h: Option<LinkDirection>,
    /// Rates with both directions busy, over the rates alone.
    pub bidir: Option<Bidirectional>,
    /// Host to device from pageable memory.
    pub pageable: Option<LinkDirection>,
    /// File of the whole curves, beside the profile.
    pub curves: Option<String>,
    /// Constant of a whole-step fit, per step that copies: `B_comm − B_compute/L` (design §3.6).
    pub link_intercept_s: Option<Positive>,
    /// Every way of copying that was fitted, `h2d` and `d2h` among them: those two are the recommended ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fits: Vec<LinkFit>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CopyDirection {
    /// Host to device.
    H2d,
    /// Device to host.
    D2h,
}

impl CopyDirection {
    /// The words for people.
    pub const fn words(self) -> &'static str {
        match self {
            CopyDirection::H2d => "host to device",
            CopyDirection::D2h => "device to host",
        }
    }
}

/// One way of copying, fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkFit {
    /// Which way.
    pub direction: CopyDirection,
    /// What is copied at once, and how: `layer`, `blocks-async`, `blocks-batch`; empty where it is not said.
    #[serde(default)]
    pub granularity: String,
    /// The fit; its `api` names the calls.
    pub line: LinkDirection,
}

/// One direction: `t = latency + max(n·submit, Σ max(engine, s/BW(s)))` over `n` pieces of sizes `s`, with
/// `BW(s)` = `bw_small` below the knee and `bw_inf` from it on (`gpu-measurement.md` §3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkDirection {
    /// How copies are submitted: `async`, `batch`, `batch+overlap`, `sm_gather`.
    pub api: Option<String>,
    /// Host memory: `pinned`, `pinned-wc`, `pageable`.
    pub mem: Option<String>,
    /// Rate of large pieces.
    pub bw_inf_bytes_per_s: Positive,
    /// Rate of pieces below the knee.
    pub bw_small_bytes_per_s: Option<Positive>,
    /// Size from which a piece moves at the large rate.
    pub knee_bytes: Option<NonZeroU64>,
    /// Time before the first byte of a copy; the simulator takes 0 where it is missing, and says so.
    pub latency_s: Option<Positive>,
    /// CPU time to submit one piece.
    pub submit_s_per_desc: Option<Positive>,
    /// Least time of the copy engine per piece.
    pub engine_s_per_desc: Option<Positive>,
    /// Size of the pieces in which the KV of one layer is copied; null: in one piece.
    pub descriptor_bytes: Option<NonZeroU64>,
    /// Quality of the fit.
    pub fit: Option<Fit>,
}

impl LinkDirection {
    /// A direction of which only the rate is known.
    pub fn of_rate(bytes_per_s: Positive) -> Self {
        LinkDirection {
            api: None,
            mem: None,
            bw_inf_bytes_per_s: bytes_per_s,
            bw_small_bytes_per_s: None,
            knee_bytes: None,
            latency_s: None,
            submit_s_per_desc: None,
            engine_s_per_desc: None,
            descriptor_bytes: None,
            fit: None,
        }
    }
}

/// Quality of a fit. Errors are shares: 0.05 is 5 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Share of the variance explained.
    pub r2: Option<f64>,
    /// Largest relative error.
    pub max_rel_err: Option<f64>,
    /// Median relative error.
    pub med_rel_err: Option<f64>,
    /// Relative error of a point left out of the fit.
    pub loo_rel_err: Option<f64>,
    /// Points.
    pub n: Option<NonZeroU32>,
    /// 95 % interval per coefficient: low, high.
    #[serde(default)]
    pub ci95: BTreeMap<String, [f64; 2]>,
}

/// Rates with both directions busy, over the rates alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bidirectional {
    /// Host to device.
    pub h2d_factor: Option<Positive>,
    /// Device to host.
    pub d2h_factor: Option<Positive>,
}
