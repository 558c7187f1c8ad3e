//! What the tests of this module share: a small model, costs known by heart, cases and results made from them.
//!
//! Host to device 2 GB/s in whole layers, 1.5 GB/s in batches of blocks; nothing here says anything about a GPU.

use std::num::{NonZeroU32, NonZeroU64};

use orbitflow_sim::cost::profile::{
    AffineLine, Attention, CopyDirection, Device as DeviceRecord, HardwareProfile, Host, LinkDirection,
    LinkFit, ModelShape, Positive, ProfileKind,
};
use orbitflow_sim::cost::{
    BatchTable, ComputeModel, Contention, CostModel, LayerAllReduce, LinkModel, MeasuredCompute,
};
use orbitflow_sim::model::ModelSpec;
use orbitflow_sim::units::{BytesPerSec, SimDuration};

use super::costs::{CostSource, NoCosts, ProfileCosts, StepCost};
use super::placements::Rule;
use super::predict::predict;
use crate::case::{Case, CaseResult, CopyStreams, Granularity};
use crate::device::virtual_time::VirtualTruth;
use crate::device::{Backend, Facts};
use crate::sample::Timing;
use crate::scale::Scale;

/// The emulations' fitted model: 8 layers, blocks of 1 KiB.
pub fn model() -> ModelSpec {
    Scale::of(Backend::Host, false).fitted
}

/// A profile that knows `model`: 20 µs of weights per layer, 64 B of KV per token at 16 GB/s, 5 µs beside.
pub fn profile(model: &ModelSpec) -> HardwareProfile {
    let seconds = Positive::literal;
    let line =
        |rate: f64| LinkDirection { latency_s: Some(seconds(1e-6)), ..LinkDirection::of_rate(seconds(rate)) };
    let mut profile = HardwareProfile::new(ProfileKind::HostEmulation, "a test", "none", seconds(2e9));
    profile.backend = Some("host".to_owned());
    for section in
        ["provenance", "device", "link", "hbm", "compute", "prefill", "contention", "validation", "drift"]
    {
        profile.say_missing(section, "made for a test");
    }
    profile.link.h2d = line(2e9);
    let fit = |granularity: Granularity, rate| LinkFit {
        direction: CopyDirection::H2d,
        granularity: granularity.key().to_owned(),
        line: line(rate),
    };
    profile.link.fits = vec![fit(Granularity::Layer, 2e9), fit(Granularity::BlocksBatch, 1.5e9)];
    profile.link.fits[1].line.submit_s_per_desc = Some(seconds(1e-7));
    profile.compute.model_shapes.push(ModelShape {
        model: model.name.clone(),
        layers: NonZeroU32::new(model.layers).unwrap(),
        kv_bytes_per_token_layer: NonZeroU64::new(model.kv_bytes_per_token_layer().get()).unwrap(),
        weight_bytes_per_layer: NonZeroU64::new(model.layer_weight_bytes().get()).unwrap(),
        layer_weights_s_by_batch: [(1, seconds(20e-6)), (8, seconds(24e-6))].into(),
        lm_head_s_by_batch: [(1, seconds(15e-6))].into(),
        attn: Attention {
            floor_s: Some(seconds(3e-6)),
            c_s: Some(seconds(1.5e-6)),
            bytes_per_s: seconds(16e9),
            gqa: None,
            fit: None,
        },
        layer_other_s: Some(seconds(5e-6)),
        step_fixed_s: Some(seconds(2e-6)),
        affine: Some(AffineLine { a_s_per_token: seconds(3e-8), b_s: seconds(250e-6), r2: None }),
    });
    profile
}

/// The costs of that profile, in whole layers.
pub fn step_cost(model: &ModelSpec) -> StepCost {
    ProfileCosts { profile: &profile(model) }.step_cost(model, Granularity::Layer).unwrap()
}

/// The same without its affine line and notes.
pub fn cost_model(model: &ModelSpec) -> CostModel {
    step_cost(model).full
}

/// Llama-3-8B at the floors of `gpu-measurement.md` §2.8: weights at 4.3 TB/s, KV likewise, a link of 55 GB/s and 10 µs.
pub fn h200() -> (ModelSpec, CostModel) {
    let model = Scale::of(Backend::Cuda, false).fitted;
    let seconds = |bytes: u64| bytes as f64 / 4.3e12;
    let table = |s: f64| BatchTable::new(&[(1, Positive::literal(s))].into());
    let rate = BytesPerSec::try_from(55_000_000_000).unwrap();
    let link = LinkModel::line(SimDuration::from_secs_f64(10e-6), rate);
    let cost = CostModel {
        compute: ComputeModel::Measured(MeasuredCompute {
            layer_weights: table(seconds(model.layer_weight_bytes().get())),
            lm_head: table(244e-6),
            attention_floor_s: 0.0,
            attention_constant_s: 0.0,
            attention_s_per_token: seconds(model.kv_bytes_per_token_layer().get()),
            layer_other_s: 0.0,
            step_fixed_s: 0.0,
        }),
        layers: model.layers,
        h2d: link,
        d2h: link,
        contention: Contention::NONE,
        all_reduce: LayerAllReduce::NONE,
        ..cost_model(&self::model())
    };
    (model, cost)
}

/// Plenty of memory.
pub fn facts(scale: &Scale) -> Facts {
    Facts {
        device: DeviceRecord::named("none"),
        host: Host::default(),
        sm_count: 132,
        l2_bytes: 1 << 20,
        memory_bytes: if scale.most_tokens > 100_000 { 140 << 30 } else { 1 << 30 },
        host_memory_bytes: 100 << 30,
        missing: Vec::new(),
        warnings: Vec::new(),
    }
}

/// A case of `model` in whole-layer copies on one stream.
pub fn case(model: &ModelSpec, contexts: &[u32], rule: Rule, slots: u32) -> Case {
    let placement = rule.words(model.layers);
    Case {
        id: format!("test/{placement}/s{slots}"),
        workload: "test".to_owned(),
        model: model.clone(),
        layers: model.layers,
        contexts: contexts.to_vec(),
        offloaded: rule.apply(model, model.layers, contexts, slots, &cost_model(model)).unwrap(),
        placement,
        slots,
        granularity: Granularity::Layer,
        streams: CopyStreams::One,
        dilation_s: 0.0,
        held_out: false,
    }
}

/// `case`, predicted, and measured at `factor` times the prediction.
pub fn result(case: &Case, factor: f64) -> CaseResult {
    let prediction = predict(case, &step_cost(&case.model));
    let measured = Timing::of(&[prediction.step_s.full.get() * factor]);
    CaseResult { case: case.clone(), prediction, measured, instrumented: None }
}

/// The costs of a device whose truth is known.
pub struct TruthCosts<'a>(pub &'a VirtualTruth);

impl CostSource for TruthCosts<'_> {
    fn step_cost(&self, model: &ModelSpec, granularity: Granularity) -> Result<StepCost, NoCosts> {
        let full = self.0.cost_model(model, granularity);
        Ok(StepCost { full, affine: None, notes: Vec::new() })
    }
}
