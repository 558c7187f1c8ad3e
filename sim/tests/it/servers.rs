//! Servers that several tests use.

use orbitflow_sim::cost::{ComputeModel, Contention, CostModel, LayerAllReduce, LinkModel, PrefillModel};
use orbitflow_sim::model::{self, ModelSpec};
use orbitflow_sim::units::{BytesPerSec, SimDuration};

/// Llama-3-8B.
pub fn llama() -> ModelSpec {
    model::preset("llama-3-8b").expect("a preset")
}

/// The published A6000 fit, written out by hand (facts H): compute 6.74e-7·T + 0.0406 s, copies at the
/// Communication slope 1.87e-5 s per token over all layers; 0.1 ms of prefill per prompt token.
pub fn a6000() -> CostModel {
    let rate = BytesPerSec::try_from_f64(131_072.0 / 1.87e-5).expect("a rate");
    let link = LinkModel::line(SimDuration::ZERO, rate);
    CostModel {
        layers: 32,
        compute: ComputeModel::Affine { per_token_s: 6.74e-7, base_s: 4.06e-2 },
        h2d: link,
        d2h: link,
        prefill: PrefillModel::Linear { base_s: 0.0, per_token_s: 1e-4 },
        fixed_tail: SimDuration::ZERO,
        link_intercept: SimDuration::ZERO,
        contention: Contention::NONE,
        all_reduce: LayerAllReduce::NONE,
    }
}
