//! One decode step to predict and to measure: the unit of validation (E10; `gpu-measurement.md` §4.2).
//!
//! Placements are the simulator's own [`LayerSet`]s. Knows neither devices nor cost models: prediction and measurement
//! are handed the same [`Case`].

use orbitflow_sim::model::LayerSet;
use serde::{Deserialize, Serialize};

use crate::device::{AttentionShape, CopyApi};
use crate::sample::Timing;
use orbitflow_sim::cost::profile::PredictedStep;
use orbitflow_sim::model::ModelSpec;

/// In which pieces the KV of one layer of one request is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// In one piece.
    Layer,
    /// In blocks of 16 tokens, one call each.
    BlocksAsync,
    /// In blocks of 16 tokens, one batch call for up to 4,096.
    BlocksBatch,
}

impl Granularity {
    /// All of them.
    pub const ALL: [Granularity; 3] =
        [Granularity::Layer, Granularity::BlocksAsync, Granularity::BlocksBatch];

    /// The word used in files.
    pub const fn key(self) -> &'static str {
        match self {
            Granularity::Layer => "layer",
            Granularity::BlocksAsync => "blocks-async",
            Granularity::BlocksBatch => "blocks-batch",
        }
    }

    /// How its copies are submitted.
    pub const fn api(self) -> CopyApi {
        match self {
            Granularity::Layer | Granularity::BlocksAsync => CopyApi::Async,
            Granularity::BlocksBatch => CopyApi::Batch,
        }
    }

    /// Size of a piece; `None`: the whole layer.
    pub const fn piece_bytes(self, shape: AttentionShape) -> Option<u64> {
        match self {
            Granularity::Layer => None,
            Granularity::BlocksAsync | Granularity::BlocksBatch => Some(shape.block_bytes()),
        }
    }
}

/// Who copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyStreams {
    /// One stream for all requests, in the order (layer, request): `in-order`, what is predicted.
    One,
    /// One stream per request: the hardware picks among those whose slot is free, nearer to `ready-first`.
    PerRequest,
}

/// One decode step to predict and to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Unique name.
    pub id: String,
    /// Cases that differ only in placement, slots or granularity share a workload; placements are ranked within it.
    pub workload: String,
    /// Model.
    pub model: ModelSpec,
    /// Layers that run; the model's, but for models that do not fit the device.
    pub layers: u32,
    /// Context tokens of each request, the one being written included.
    pub contexts: Vec<u32>,
    /// Offloaded layers of each request.
    pub offloaded: Vec<LayerSet>,
    /// The placement in words, for example `every 4th`, `mixed`, `planner`.
    pub placement: String,
    /// Staging slots per request, at least 1.
    pub slots: u32,
    /// Pieces of a copy.
    pub granularity: Granularity,
    /// Who copies.
    pub streams: CopyStreams,
    /// A spin kernel after each layer, in seconds: emulates a slower GPU. 0: none.
    pub dilation_s: f64,
    /// Whether no fit has seen this model.
    pub held_out: bool,
}

impl Case {
    /// Heads of its attention.
    pub fn attention(&self) -> AttentionShape {
        attention_shape(&self.model)
    }

    /// Context tokens of all requests.
    pub fn tokens(&self) -> u64 {
        self.contexts.iter().map(|tokens| u64::from(*tokens)).sum()
    }

    /// Requests.
    pub fn batch(&self) -> u32 {
        self.contexts.len() as u32
    }
}

/// Heads of a model's attention.
pub fn attention_shape(model: &ModelSpec) -> AttentionShape {
    AttentionShape { heads: model.heads, kv_heads: model.kv_heads, head_dim: model.head_dim }
}

/// A predicted step, before it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// [`Case::id`].
    pub case: String,
    /// Copy time over compute time, both alone; 0 when nothing is copied.
    pub rho: f64,
    /// By each model.
    pub step_s: PredictedStep,
    /// What the step is made of.
    pub parts: PredictedParts,
}

/// What a predicted step is made of, in seconds, and what else was predicted of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictedParts {
    /// Compute of all layers alone, dilation included.
    pub compute_s: f64,
    /// Host-to-device copies alone.
    pub copy_s: f64,
    /// After the last layer.
    pub tail_s: f64,
    /// No step takes less: the longer of compute and copies alone, and the tail.
    pub least_s: f64,
    /// No step takes more: compute and copies one after the other, contended, and the tail.
    pub most_s: f64,
    /// The step if copies went `ready-first`: what [`CopyStreams::PerRequest`] may be nearer to.
    pub ready_first_s: f64,
    /// Of each layer: compute waiting before it.
    pub stalls_s: Vec<f64>,
}

/// A case with its prediction and what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseResult {
    /// What was run.
    pub case: Case,
    /// Written before it ran.
    pub prediction: Prediction,
    /// From the end of one step to the end of the next.
    pub measured: Timing,
    /// Of another pass, with events around every layer and copy.
    pub instrumented: Option<Instrumented>,
}

impl CaseResult {
    /// `(predicted − measured) / measured` of the full model.
    pub fn error(&self) -> f64 {
        self.prediction.step_s.full.get() / self.measured.median_s - 1.0
    }
}

/// One step with events around every layer and copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instrumented {
    /// How much longer the step took than without these events, as a share.
    pub overhead: f64,
    /// Start and end of each layer from the start of the step, in seconds.
    pub layers_s: Vec<(f64, f64)>,
    /// Start and end of the copies for each layer that has any: (layer from 1, start, end).
    pub copies_s: Vec<(u32, f64, f64)>,
}
