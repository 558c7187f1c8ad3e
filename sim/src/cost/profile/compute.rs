//! Compute in a profile: decode step times and prefill times, each per model or from the datasheet. Units stand in the
//! field names. Knows nothing of the link.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fit, Positive};

/// Decode step times, in up to three forms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// Measured tables, one per model shape.
    #[serde(default)]
    pub model_shapes: Vec<ModelShape>,
    /// A line fitted to the step times of one model on a serving engine.
    pub affine: Option<EngineFit>,
    /// The maker's figures.
    pub datasheet: Option<Datasheet>,
    /// Kernel launches.
    pub launch: Option<Launch>,
    /// Sampling and scheduling after the last layer, per decode step.
    pub tail_s: Option<Positive>,
}

/// Measured decode times of one model: per layer `w(B) + max(floor, c + kv_bytes(T)/bytes_per_s) + other`, per
/// step `lm_head(B) + fixed` (`gpu-measurement.md` §3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Name of the model.
    pub model: String,
    /// Layers of the model.
    pub layers: NonZeroU32,
    /// K and V of one token in one layer.
    pub kv_bytes_per_token_layer: NonZeroU64,
    /// Weights of one layer.
    pub weight_bytes_per_layer: NonZeroU64,
    /// Matrix multiplications of one layer, by requests in the batch.
    pub layer_weights_s_by_batch: BTreeMap<u32, Positive>,
    /// Output head, by requests in the batch.
    #[serde(default)]
    pub lm_head_s_by_batch: BTreeMap<u32, Positive>,
    /// Attention of one layer.
    pub attn: Attention,
    /// The rest of a layer: norms, rotary embedding, KV append, launch gaps.
    pub layer_other_s: Option<Positive>,
    /// The rest of a step.
    pub step_fixed_s: Option<Positive>,
    /// The whole step as a line in context tokens, to compare with published fits.
    pub affine: Option<AffineLine>,
}

/// Attention of one layer: a floor, then a line in bytes of KV read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Least time.
    pub floor_s: Option<Positive>,
    /// Constant of the line.
    pub c_s: Option<Positive>,
    /// Rate at which KV is read.
    pub bytes_per_s: Positive,
    /// Query heads per KV head.
    pub gqa: Option<NonZeroU32>,
    /// Quality of the fit.
    pub fit: Option<Fit>,
}

/// `A·T + B` over the context tokens of the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AffineLine {
    /// Seconds per context token.
    pub a_s_per_token: Positive,
    /// Seconds per step.
    pub b_s: Positive,
    /// Share of the variance explained.
    pub r2: Option<f64>,
}

/// `A·T + B` of one model on a serving engine; tied to that model's KV geometry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineFit {
    /// Model it was fitted with.
    pub model: String,
    /// Its layers.
    pub layers: NonZeroU32,
    /// K and V of one of its tokens, over all layers.
    pub kv_bytes_per_token: NonZeroU64,
    /// Seconds per context token.
    pub a_s_per_token: Positive,
    /// Seconds per step.
    pub b_s: Positive,
    /// Share of the variance explained.
    pub r2: Option<f64>,
}

/// The maker's figures, for all GPUs together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Datasheet {
    /// Memory rate.
    pub hbm_bytes_per_s: Positive,
    /// Dense bf16 tensor rate with fp32 accumulation.
    pub bf16_flops_per_s: Positive,
    /// Fixed time per decode step; the simulator takes 0 where it is missing, and says so.
    pub overhead_s: Option<Positive>,
    /// Memory size.
    pub memory_bytes: NonZeroU64,
}

/// Kernel launches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// CPU time of one launch on a stream.
    pub stream_s: Option<Positive>,
    /// GPU time between nodes of a graph.
    pub graph_node_s: Option<Positive>,
}

/// Prefill times, one entry per model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prefill {
    /// Times of one prompt alone, per model shape.
    pub model_shapes: Vec<PrefillShape>,
}

/// Prefill times of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefillShape {
    /// Name of the model.
    pub model: String,
    /// Layers of the model.
    pub layers: NonZeroU32,
    /// Weights of one layer.
    pub weight_bytes_per_layer: NonZeroU64,
    /// Seconds of one prompt, by its tokens; interpolated between, the first entry is the least.
    pub s_by_prompt_tokens: BTreeMap<u32, Positive>,
    /// Where the attention term of those times is from, if not from the same measurement as the rest: `measured`,
    /// `datasheet × 0.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<String>,
}
