//! From work to time: how long compute, copies and prefills take on a described server (design §3.6).
//!
//! A [`CostModel`] is resolved once per run from a hardware profile, a model and the scenario; the engine asks
//! it for true times, and a planner owns another one that it believes in. Knows only units and model.

use crate::units::{Bytes, BytesPerSec, SimDuration};

/// Decode compute as a function of the batch: `compute(T, B)`.
#[derive(Clone, Debug, PartialEq)]
pub enum ComputeModel {
    /// `A·T + B₀` (published fits; facts H).
    Affine {
        /// Seconds per context token in the batch.
        per_token_s: f64,
        /// Seconds per step.
        base_s: f64,
    },
    /// `max(weights/HBM, 2·params·B/rate) + T·kv/HBM + overhead`.
    Roofline {
        /// Seconds to read all weights once.
        weights_s: f64,
        /// Seconds of tensor work per request in the batch.
        flops_s_per_request: f64,
        /// Seconds to read the KV of one context token.
        per_token_s: f64,
        /// Fixed seconds per step.
        overhead_s: f64,
    },
}

/// One direction of the host link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkModel {
    /// Time before the first byte of each copy, `l0`.
    pub latency: SimDuration,
    /// Rate after it.
    pub rate: BytesPerSec,
}

impl LinkModel {
    /// `l0 + bytes/bw`, bytes over rate rounded up to the picosecond.
    pub fn copy_time(&self, bytes: Bytes) -> SimDuration {
        self.latency + self.rate.transfer_time(bytes)
    }

    /// [`Self::copy_time`] in seconds, unrounded, for planners.
    pub fn copy_time_s(&self, bytes: Bytes) -> f64 {
        self.latency.as_secs_f64() + bytes.get() as f64 / self.rate.get() as f64
    }
}

/// How long a prefill step takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PrefillModel {
    /// `base + per_token · Σ prompt tokens`.
    Linear {
        /// Seconds per step.
        base_s: f64,
        /// Seconds per prompt token.
        per_token_s: f64,
    },
    /// `max(weights/HBM, Σ_r (2·params·p + 2·L·heads·head_dim·p²) / rate)` (design §3.6).
    Roofline {
        /// Seconds per prompt token: `2·params / rate`.
        per_token_s: f64,
        /// Seconds per squared prompt token: `2·L·heads·head_dim / rate`.
        per_token_squared_s: f64,
        /// Seconds to read all weights once: the least a prefill takes.
        weights_s: f64,
    },
}

/// Everything the engine needs to turn one run's work into time.
#[derive(Clone, Debug, PartialEq)]
pub struct CostModel {
    /// Layers the step's compute is divided by.
    pub layers: u32,
    /// Decode compute.
    pub compute: ComputeModel,
    /// Host→device copies.
    pub h2d: LinkModel,
    /// Device→host copies.
    pub d2h: LinkModel,
    /// Prefill steps.
    pub prefill: PrefillModel,
    /// Per decode step: sampling and scheduling.
    pub tail: SimDuration,
    /// Added once to every decode step that copies; zero with `link_intercept = "drop"`.
    pub link_intercept: SimDuration,
}

impl CostModel {
    /// Compute seconds of a decode step with `context_tokens` tokens of context over `requests` requests.
    pub fn compute_s(&self, context_tokens: u64, requests: u32) -> f64 {
        let tokens = context_tokens as f64;
        match &self.compute {
            ComputeModel::Affine { per_token_s, base_s } => per_token_s * tokens + base_s,
            ComputeModel::Roofline { weights_s, flops_s_per_request, per_token_s, overhead_s } => {
                weights_s.max(flops_s_per_request * f64::from(requests)) + per_token_s * tokens + overhead_s
            }
        }
    }

    /// Compute time of one layer of that step, to the nearest picosecond: `compute(T, B) / L`.
    pub fn layer_compute(&self, context_tokens: u64, requests: u32) -> SimDuration {
        SimDuration::from_secs_f64(self.compute_s(context_tokens, requests) / f64::from(self.layers))
    }

    /// Time of one prefill step over the given prompts.
    pub fn prefill(&self, prompt_tokens: impl IntoIterator<Item = u64>) -> SimDuration {
        let prompts = prompt_tokens.into_iter().map(|tokens| tokens as f64);
        SimDuration::from_secs_f64(match self.prefill {
            PrefillModel::Linear { base_s, per_token_s } => base_s + per_token_s * prompts.sum::<f64>(),
            PrefillModel::Roofline { per_token_s, per_token_squared_s, weights_s } => {
                let work: f64 = prompts.map(|p| per_token_s * p + per_token_squared_s * p * p).sum();
                weights_s.max(work)
            }
        })
    }
}
