//! From work to time: how long compute, copies and prefills take on a described server (design §3.6).
//!
//! A [`HardwareProfile`] says what is known of the hardware, [`load()`] reads and checks one (a file or one of the
//! [`presets()`]), and [`resolve()`] turns it, a model and the scenario's wishes into a [`CostModel`], with notes
//! on where each number is from. The engine asks its cost model for true times; a planner owns another one that
//! it believes in. Knows only units and model.

mod capacity;
mod check;
mod compute;
mod contention;
mod error;
mod link;
mod load;
mod parallel;
mod prefill;
mod presets;
pub mod profile;
mod resolve;

pub use capacity::{MEMORY_RESERVE, kv_capacity_layer_blocks};
pub use check::{Finding, TARGET_MEDIAN, TARGET_P95, TARGET_REGRET, Verdict, check};
pub use compute::{BatchTable, ComputeModel, MeasuredCompute};
pub use contention::{BadSlowdown, Contention};
pub use error::CostError;
pub use link::{LinkModel, Pieces};
pub use load::{load, parse, read};
pub use parallel::LayerAllReduce;
pub use prefill::{PrefillModel, PromptChunk, PromptTable};
pub use presets::{PresetInfo, gpus, preset, presets};
pub use profile::{HardwareProfile, ProfileKind};
pub use resolve::{ComputeForm, CostOptions, LinkIntercept, PrefillLine, resolve};

use crate::units::SimDuration;

/// Everything the engine needs to turn one run's work into time.
#[derive(Clone, Debug, PartialEq)]
pub struct CostModel {
    /// Layers L.
    pub layers: u32,
    /// Decode compute.
    pub compute: ComputeModel,
    /// Host→device copies.
    pub h2d: LinkModel,
    /// Device→host copies.
    pub d2h: LinkModel,
    /// Prefill steps.
    pub prefill: PrefillModel,
    /// Per decode step whatever the batch: sampling and scheduling. Ask [`Self::tail`] for all of the tail.
    pub fixed_tail: SimDuration,
    /// Added once to every decode step that copies; zero with `link_intercept = "drop"`.
    pub link_intercept: SimDuration,
    /// How much host→device copies and the compute of a decode step slow each other. Planners' forecasts leave it out.
    pub contention: Contention,
    /// What several GPUs exchange in every layer, in decode and in prefill steps.
    pub all_reduce: LayerAllReduce,
}

impl CostModel {
    /// Compute seconds of a decode step with `context_tokens` tokens of context over `requests` requests, without
    /// [`Self::fixed_tail`]: the SLO's base.
    pub fn compute_s(&self, context_tokens: u64, requests: u32) -> f64 {
        self.compute.step_s(context_tokens, requests, self.layers)
            + f64::from(self.layers) * self.all_reduce.layer_s(u64::from(requests))
    }

    /// Compute seconds of one layer of that step: what a planner takes for `tc`.
    pub fn layer_compute_s(&self, context_tokens: u64, requests: u32) -> f64 {
        self.compute.layer_s(context_tokens, requests, self.layers)
            + self.all_reduce.layer_s(u64::from(requests))
    }

    /// [`Self::layer_compute_s`] to the nearest picosecond.
    pub fn layer_compute(&self, context_tokens: u64, requests: u32) -> SimDuration {
        SimDuration::from_secs_f64(self.layer_compute_s(context_tokens, requests))
    }

    /// What follows the last layer of a decode step: sampling, scheduling, and a measured profile's output head.
    pub fn tail(&self, requests: u32) -> SimDuration {
        match &self.compute {
            ComputeModel::Affine { .. } | ComputeModel::Roofline { .. } => self.fixed_tail,
            ComputeModel::Measured(_) => {
                self.fixed_tail + SimDuration::from_secs_f64(self.compute.after_layers_s(requests))
            }
        }
    }

    /// Time of one prefill step over the given prompts, in tokens. The scenario's own line has every all-reduce in it.
    pub fn prefill(&self, prompt_tokens: impl IntoIterator<Item = u64>) -> SimDuration {
        let mut reducing_s = 0.0;
        let prompts =
            prompt_tokens.into_iter().inspect(|&tokens| reducing_s += self.prefill_reduce_s(tokens));
        let work_s = self.prefill.step_s(prompts);
        SimDuration::from_secs_f64(work_s + reducing_s)
    }

    /// Time that these parts of prompts add to a step: `R(F(to)) − R(F(from))` of a prompt by itself, R being to the
    /// nearest picosecond; of several that of their sum. Whole prompts in a step without decodes take
    /// [`Self::prefill`]; what a step pays once it pays if a prompt begins in it. `beside_decodes`: reading the weights is in
    /// the decodes' compute.
    pub fn prefill_chunks(
        &self,
        chunks: impl Iterator<Item = PromptChunk> + Clone,
        beside_decodes: bool,
    ) -> SimDuration {
        let begun = chunks.clone().filter(|chunk| chunk.from > 0);
        let begins = chunks.clone().any(|chunk| chunk.from == 0);
        let (mut before_s, mut before_reducing_s) = (0.0, 0.0);
        if begun.clone().next().is_some() {
            let paid_again_s = if begins { self.prefill.base_s() } else { 0.0 };
            before_s =
                self.prefill.work_s(begun.clone().map(|chunk| (chunk.prompt, chunk.from))) - paid_again_s;
            before_reducing_s = begun.map(|chunk| self.prefill_reduce_s(chunk.from)).sum();
        } else if !begins {
            return SimDuration::ZERO;
        }
        let after_s = self.prefill.work_s(chunks.clone().map(|chunk| (chunk.prompt, chunk.to)));
        let after_reducing_s: f64 = chunks.map(|chunk| self.prefill_reduce_s(chunk.to)).sum();
        let chunk = SimDuration::from_secs_f64(after_s + after_reducing_s)
            - SimDuration::from_secs_f64(before_s + before_reducing_s);
        let least_s = self.prefill.least_s();
        if beside_decodes || least_s == 0.0 {
            return chunk;
        }
        chunk.max(SimDuration::from_secs_f64(least_s + (after_reducing_s - before_reducing_s)))
    }

    /// What one prompt adds for all-reduces.
    fn prefill_reduce_s(&self, tokens: u64) -> f64 {
        if matches!(self.prefill, PrefillModel::Linear { .. }) {
            return 0.0;
        }
        f64::from(self.layers) * self.all_reduce.layer_s(tokens)
    }
}
