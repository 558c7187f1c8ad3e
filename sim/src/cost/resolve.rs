//! From a profile, a model and the scenario's wishes to a [`CostModel`], and to notes that say where every number
//! is from. Nothing is filled in silently: what the profile does not know is refused or noted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::refuse_failures;
use super::presets::engine_fits_for;
use super::profile::{Datasheet, LinkDirection, ModelShape, Positive, PrefillShape};
use super::{
    BatchTable, ComputeModel, CostError, CostModel, HardwareProfile, LayerAllReduce, LinkModel,
    MeasuredCompute, Pieces, PrefillModel, PromptTable, contention, parallel,
};
use crate::model::{ModelSpec, TensorParallel};
use crate::units::{Bytes, BytesPerSec, SimDuration};

/// Share of the datasheet's dense bf16 rate that a prefill reaches when nothing better is known (design §3.6).
const PREFILL_EFFICIENCY: f64 = 0.5;
/// The most that a scenario's prefill line may say: an hour, and 10 ms per token.
const MOST_PREFILL_BASE_S: f64 = 3600.0;
const MOST_PREFILL_PER_TOKEN_S: f64 = 0.01;

/// Which form of decode compute a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeForm {
    /// `A·T + B₀`.
    Affine,
    /// The datasheet's rates.
    Roofline,
    /// The profile's tables for this model.
    Measured,
}

/// What becomes of the constant of a whole-step link fit (design §3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkIntercept {
    /// It is left out.
    #[default]
    Drop,
    /// It is added once to every decode step that copies.
    PerStep,
}

/// The scenario's own prefill time: `base + per_token · Σ prompt tokens`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrefillLine {
    /// Seconds per prefill step, 0 to 3600.
    pub base_s: f64,
    /// Seconds per prompt token, 0 to 0.01.
    pub per_token_s: f64,
}

/// What a scenario may say about costs beside naming a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostOptions {
    /// Rate of both directions of the link instead of the profile's.
    pub link_rate: Option<BytesPerSec>,
    /// What becomes of the link intercept.
    pub link_intercept: LinkIntercept,
    /// Prefill times instead of the profile's.
    pub prefill: Option<PrefillLine>,
    /// The form of decode compute; `None`: the profile's best for this model (tables, then line, then datasheet).
    pub compute: Option<ComputeForm>,
    /// Whether the profile's contention factors are left out.
    pub without_contention: bool,
    /// The GPUs that split the model.
    pub parallel: TensorParallel,
}

/// The costs of running `model` on `profile`, and notes for the report, one line each; those that begin with
/// `warning:` must be shown on stderr too.
///
/// # Errors
/// A profile whose checks fail, a model the profile knows nothing about, a prefill line that is no time; GPUs that cannot
/// split the model, or a profile that describes several GPUs as a whole and is to be split again.
pub fn resolve(
    profile: &HardwareProfile,
    model: &ModelSpec,
    options: &CostOptions,
) -> Result<(CostModel, Vec<String>), CostError> {
    refuse_failures(&profile.device.name, profile)?;
    let mut notes = vec![format!("hardware: {}: {}", profile.device.name, profile.standing())];
    let compute = compute(profile, model, options, &mut notes)?;
    let (h2d, d2h) = link(profile, options, &mut notes);
    let prefill = prefill(profile, model, options, &mut notes)?;
    let link_intercept = link_intercept(profile, options, &mut notes);
    let contention = contention::of_profile(profile, !options.without_contention, &mut notes);
    let cost = CostModel {
        layers: model.layers,
        compute,
        h2d,
        d2h,
        prefill,
        fixed_tail: duration(profile.compute.tail_s),
        link_intercept,
        contention,
        all_reduce: LayerAllReduce::NONE,
    };
    let cost = parallel::split(profile, model, options.parallel, cost, &mut notes)?;
    Ok((cost, notes))
}

fn compute(
    profile: &HardwareProfile,
    model: &ModelSpec,
    options: &CostOptions,
    notes: &mut Vec<String>,
) -> Result<ComputeModel, CostError> {
    let known = &profile.compute;
    let form = options.compute.unwrap_or(if !known.model_shapes.is_empty() {
        ComputeForm::Measured
    } else if known.affine.is_some() {
        ComputeForm::Affine
    } else {
        ComputeForm::Roofline
    });
    match form {
        ComputeForm::Measured => measured(profile, model, notes),
        ComputeForm::Affine => affine(profile, model, notes),
        ComputeForm::Roofline => {
            let Some(datasheet) = &known.datasheet else {
                let problem = "no `compute.datasheet`: there is nothing to take a roofline from".to_owned();
                return Err(wrong_model(profile, problem, None));
            };
            notes.push(format!(
                "compute: datasheet: max(weights / {:.0} GB/s, tensor work / {:.0} TFLOP/s) + KV / memory rate",
                datasheet.hbm_bytes_per_s.get() / 1e9,
                datasheet.bf16_flops_per_s.get() / 1e12
            ));
            if datasheet.overhead_s.is_none() {
                notes.push("compute: overhead per step not known, taken as 0".to_owned());
            }
            Ok(roofline(datasheet, model))
        }
    }
}

fn measured(
    profile: &HardwareProfile,
    model: &ModelSpec,
    notes: &mut Vec<String>,
) -> Result<ComputeModel, CostError> {
    let Some(shape) = shape_of(profile, model) else {
        let known: Vec<&str> =
            profile.compute.model_shapes.iter().map(|shape| shape.model.as_str()).collect();
        let known = if known.is_empty() { "no model".to_owned() } else { known.join(", ") };
        let problem = format!("no measured times for {}: the profile has {known}", model.name);
        let hint = match &profile.compute.datasheet {
            Some(_) => "measure this model with `gpu-validate`, or set the compute form `roofline`",
            None => "measure this model with `gpu-validate`",
        };
        return Err(wrong_model(profile, problem, Some(hint.to_owned())));
    };
    let measured = MeasuredCompute {
        layer_weights: BatchTable::new(&shape.layer_weights_s_by_batch),
        lm_head: BatchTable::new(&shape.lm_head_s_by_batch),
        attention_floor_s: seconds(shape.attn.floor_s),
        attention_constant_s: seconds(shape.attn.c_s),
        attention_s_per_token: shape.kv_bytes_per_token_layer.get() as f64 / shape.attn.bytes_per_s.get(),
        layer_other_s: seconds(shape.layer_other_s),
        step_fixed_s: seconds(shape.step_fixed_s),
    };
    notes.push(format!(
        "compute: tables of {} ({}), batches up to {}, beyond that the last slope",
        shape.model,
        profile.standing(),
        measured.layer_weights.last_batch()
    ));
    let gaps = [
        ("attention floor", shape.attn.floor_s),
        ("attention constant", shape.attn.c_s),
        ("rest of a layer", shape.layer_other_s),
        ("rest of a step", shape.step_fixed_s),
    ];
    let gaps: Vec<&str> = gaps.iter().filter(|(_, known)| known.is_none()).map(|(name, _)| *name).collect();
    if !gaps.is_empty() {
        notes.push(format!("compute: not known, taken as 0: {}", gaps.join(", ")));
    }
    if shape.model != model.name {
        notes.push(format!("compute: {} has the shape of {}, whose times are used", model.name, shape.model));
    }
    Ok(ComputeModel::Measured(measured))
}

/// The measured shape of the model: the one with its layers, KV and layer weights, the same name first.
fn shape_of<'a>(profile: &'a HardwareProfile, model: &ModelSpec) -> Option<&'a ModelShape> {
    let fits = |shape: &&ModelShape| {
        shape.layers.get() == model.layers
            && shape.kv_bytes_per_token_layer.get() == model.kv_bytes_per_token_layer().get()
            && shape.weight_bytes_per_layer.get() == model.layer_weight_bytes().get()
    };
    let fitting = || profile.compute.model_shapes.iter().filter(fits);
    fitting().find(|shape| shape.model == model.name).or_else(|| fitting().next())
}

fn affine(
    profile: &HardwareProfile,
    model: &ModelSpec,
    notes: &mut Vec<String>,
) -> Result<ComputeModel, CostError> {
    if let Some(fit) = &profile.compute.affine {
        let kv_bytes = model.kv_bytes_per_token().get();
        if fit.layers.get() != model.layers || fit.kv_bytes_per_token.get() != kv_bytes {
            let problem = format!(
                "fitted with {} ({} layers, {} B of KV per token); {} has {} layers and {kv_bytes} B: its times \
                 would be made up",
                fit.model, fit.layers, fit.kv_bytes_per_token, model.name, model.layers
            );
            return Err(wrong_model(profile, problem, Some(other_profiles(model))));
        }
        if fit.model != model.name {
            notes.push(format!("warning: {} runs on times fitted with {}", model.name, fit.model));
        }
        notes.push(line_note(profile, fit.a_s_per_token, fit.b_s, fit.r2));
        return Ok(line(fit.a_s_per_token, fit.b_s));
    }
    let Some(fit) = shape_of(profile, model).and_then(|shape| shape.affine.as_ref()) else {
        let problem = format!("no line fitted for {}", model.name);
        return Err(wrong_model(profile, problem, Some(other_profiles(model))));
    };
    notes.push(line_note(profile, fit.a_s_per_token, fit.b_s, fit.r2));
    Ok(line(fit.a_s_per_token, fit.b_s))
}

fn line(a: Positive, b: Positive) -> ComputeModel {
    ComputeModel::Affine { per_token_s: a.get(), base_s: b.get() }
}

fn line_note(profile: &HardwareProfile, a: Positive, b: Positive, r2: Option<f64>) -> String {
    let r2 = r2.map_or(String::new(), |r2| format!(", R² {r2}"));
    format!("compute: {:e} s/token · T + {:.4} ms{r2} ({})", a.get(), b.get() * 1e3, profile.standing())
}

fn other_profiles(model: &ModelSpec) -> String {
    match engine_fits_for(model.layers, model.kv_bytes_per_token().get()).as_slice() {
        [] => "a `roofline:` preset takes any model".to_owned(),
        fits => format!("{} fits this model; a `roofline:` preset takes any", fits.join(", ")),
    }
}

fn wrong_model(profile: &HardwareProfile, problem: String, hint: Option<String>) -> CostError {
    CostError::WrongModel { device: profile.device.name.clone(), problem, hint }
}

fn roofline(datasheet: &Datasheet, model: &ModelSpec) -> ComputeModel {
    let hbm = datasheet.hbm_bytes_per_s.get();
    ComputeModel::Roofline {
        weights_s: model.streamed_weight_bytes().get() as f64 / hbm,
        flops_s_per_request: 2.0 * model.params() as f64 / datasheet.bf16_flops_per_s.get(),
        per_token_s: model.kv_bytes_per_token().get() as f64 / hbm,
        overhead_s: seconds(datasheet.overhead_s),
    }
}

fn link(profile: &HardwareProfile, options: &CostOptions, notes: &mut Vec<String>) -> (LinkModel, LinkModel) {
    let h2d_known = &profile.link.h2d;
    let rate_gb = |direction: &LinkDirection| direction.bw_inf_bytes_per_s.get() / 1e9;
    if let Some(rate) = options.link_rate {
        notes.push(format!(
            "link: {:.2} GB/s in both directions as the scenario says (the profile: {:.2} GB/s); costs of pieces \
             left out",
            rate.get() as f64 / 1e9,
            rate_gb(h2d_known)
        ));
        let d2h_known = profile.link.d2h.as_ref().unwrap_or(h2d_known);
        return (
            LinkModel::line(duration(h2d_known.latency_s), rate),
            LinkModel::line(duration(d2h_known.latency_s), rate),
        );
    }
    notes.push(format!("link: host to device {:.2} GB/s ({})", rate_gb(h2d_known), profile.standing()));
    if h2d_known.latency_s.is_none() {
        notes.push("link: latency per copy not known, taken as 0".to_owned());
    }
    let h2d = direction(h2d_known);
    let d2h = match &profile.link.d2h {
        Some(known) => {
            notes.push(format!("link: device to host {:.2} GB/s ({})", rate_gb(known), profile.standing()));
            direction(known)
        }
        None => {
            notes.push("link: device to host not known, taken as host to device".to_owned());
            h2d
        }
    };
    (h2d, d2h)
}

fn direction(known: &LinkDirection) -> LinkModel {
    let rate = |rate: Positive| {
        BytesPerSec::try_from_f64(rate.get()).expect("Invariant: checked rates are plausible")
    };
    let full_rate = rate(known.bw_inf_bytes_per_s);
    let pieces = Pieces {
        piece: known.descriptor_bytes.map(|bytes| Bytes::new(bytes.get())),
        knee: known.knee_bytes.map_or(Bytes::ZERO, |bytes| Bytes::new(bytes.get())),
        small_rate: known.bw_small_bytes_per_s.map_or(full_rate, rate),
        submit: duration(known.submit_s_per_desc),
        engine: duration(known.engine_s_per_desc),
    };
    let plain = known.bw_small_bytes_per_s.is_none()
        && known.submit_s_per_desc.is_none()
        && known.engine_s_per_desc.is_none();
    LinkModel {
        latency: duration(known.latency_s),
        rate: full_rate,
        pieces: if plain { None } else { Some(pieces) },
    }
}

fn link_intercept(profile: &HardwareProfile, options: &CostOptions, notes: &mut Vec<String>) -> SimDuration {
    match (options.link_intercept, profile.link.link_intercept_s) {
        (LinkIntercept::PerStep, Some(known)) => {
            notes
                .push(format!("link: intercept {:.2} ms added to every step that copies", known.get() * 1e3));
            duration(Some(known))
        }
        (LinkIntercept::PerStep, None) => {
            notes.push("warning: the profile has no link intercept: none is added".to_owned());
            SimDuration::ZERO
        }
        (LinkIntercept::Drop, Some(known)) => {
            notes.push(format!("link: intercept of the fit, {:.2} ms per step, dropped", known.get() * 1e3));
            SimDuration::ZERO
        }
        (LinkIntercept::Drop, None) => SimDuration::ZERO,
    }
}

fn prefill(
    profile: &HardwareProfile,
    model: &ModelSpec,
    options: &CostOptions,
    notes: &mut Vec<String>,
) -> Result<PrefillModel, CostError> {
    if let Some(PrefillLine { base_s, per_token_s }) = options.prefill {
        let limits =
            [("base", base_s, MOST_PREFILL_BASE_S), ("per_token", per_token_s, MOST_PREFILL_PER_TOKEN_S)];
        for (key, value, most) in limits {
            if !(0.0..=most).contains(&value) {
                return Err(CostError::BadPrefill { key, value, most });
            }
        }
        notes.push(format!("prefill: {base_s} s + {per_token_s} s/token as the scenario says"));
        return Ok(PrefillModel::Linear { base_s, per_token_s });
    }
    let fits = |shape: &&PrefillShape| {
        shape.layers.get() == model.layers
            && shape.weight_bytes_per_layer.get() == model.layer_weight_bytes().get()
    };
    if let Some(shape) = profile.prefill.iter().flat_map(|prefill| &prefill.model_shapes).find(fits) {
        let points =
            shape.s_by_prompt_tokens.iter().map(|(&tokens, s)| (f64::from(tokens), s.get())).collect();
        let table = PromptTable::new(points);
        let longest = table.longest();
        let standing = profile.standing();
        let attention =
            shape.attention.as_ref().map_or(String::new(), |from| format!(", its attention {from}"));
        notes.push(format!(
            "prefill: table of {} ({standing}{attention}), prompts up to {longest} tokens, beyond that the last slope",
            shape.model
        ));
        return Ok(PrefillModel::Table(table));
    }
    let Some(datasheet) = &profile.compute.datasheet else {
        let problem = format!("no prefill times for {} and no datasheet to stand in", model.name);
        let hint = "say `base` and `per_token` under `[prefill]` in the scenario";
        return Err(wrong_model(profile, problem, Some(hint.to_owned())));
    };
    notes.push(format!("prefill: datasheet × {PREFILL_EFFICIENCY}"));
    notes.push(match &profile.prefill {
        Some(_) => {
            format!("warning: the profile has no prefill times for {}: the datasheet stands in", model.name)
        }
        None => "warning: the profile has no prefill times: the datasheet stands in".to_owned(),
    });
    let rate = PREFILL_EFFICIENCY * datasheet.bf16_flops_per_s.get();
    let attention = 2 * u64::from(model.layers) * u64::from(model.heads) * u64::from(model.head_dim);
    Ok(PrefillModel::Roofline {
        per_token_s: 2.0 * model.params() as f64 / rate,
        per_token_squared_s: attention as f64 / rate,
        weights_s: model.streamed_weight_bytes().get() as f64 / datasheet.hbm_bytes_per_s.get(),
    })
}

fn seconds(known: Option<Positive>) -> f64 {
    known.map_or(0.0, Positive::get)
}

fn duration(known: Option<Positive>) -> SimDuration {
    SimDuration::from_secs_f64(seconds(known))
}
