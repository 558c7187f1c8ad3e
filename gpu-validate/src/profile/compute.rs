//! The compute section: tables of products from E5, attention from E6, what is left of whole steps from E9, launches from
//! E7.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use orbitflow_sim::cost::BatchTable;
use orbitflow_sim::cost::profile::{AffineLine, Attention, Compute, Launch, ModelShape, Positive};
use orbitflow_sim::model::ModelSpec;

use super::attention::{batch_words, points_of, say};
use super::gaps::Gaps;
use super::{FitReport, Inputs, datasheet};
use crate::case::attention_shape;
use crate::device::{AttentionShape, Backend};
use crate::fit::{
    AttentionFit, OverheadFit, OverheadObservation, Prediction, fit_affine, fit_attention, fit_overhead,
};
use crate::results::{LaunchKind, Matrix, StepPoint, Submission};

/// Decode step times of every model whose products and attention are known.
pub(super) fn of(inputs: &Inputs, gaps: &mut Gaps, report: &mut FitReport) -> Compute {
    let mut parts = Vec::new();
    for model in models(inputs) {
        match Parts::of(inputs, model, report) {
            Ok(part) => parts.push(part),
            Err(reason) => report.warn(format!("{}: no decode times: {reason}", model.name)),
        }
    }
    let fitted = &inputs.scale.fitted;
    let overhead =
        parts.iter().find(|part| part.model.name == fitted.name).map(|part| part.overhead(inputs, report));
    let overhead = overhead.unwrap_or_else(|| Err(format!("{} has no decode times", fitted.name)));
    say_unseen_steps(inputs, &parts, overhead.as_ref().ok(), report);
    let model_shapes = parts
        .iter()
        .enumerate()
        .map(|(place, part)| {
            part.shape(&format!("compute.model_shapes[{place}]"), inputs, &overhead, gaps, report)
        })
        .collect();
    gaps.say("compute.affine", "a line of a serving engine; none was run");
    gaps.say("compute.tail_s", "nothing here samples or schedules");
    let datasheet = match (inputs.run.backend, datasheet::of(&inputs.facts.device.name)) {
        (Backend::Cuda, Some((_, datasheet))) => {
            gaps.say("compute.datasheet.overhead_s", "datasheets know no engine");
            Some(datasheet)
        }
        _ => {
            gaps.say("compute.datasheet", "no datasheet of this device is known to the simulator");
            None
        }
    };
    Compute { model_shapes, affine: None, datasheet, launch: launch(inputs, gaps), tail_s: None }
}

/// The models of a run, each once.
pub(super) fn models<'a>(inputs: &Inputs<'a>) -> Vec<&'a ModelSpec> {
    let scale = inputs.scale;
    let mut models: Vec<&ModelSpec> = Vec::new();
    for model in [&scale.fitted, &scale.held_out].into_iter().chain(&scale.gemm_models) {
        if models.iter().all(|other| other.name != model.name) {
            models.push(model);
        }
    }
    models
}

/// Seconds of a model's products, by matrix and rows.
pub(super) struct Products(BTreeMap<(Matrix, u32), f64>);

impl Products {
    pub(super) fn of(inputs: &Inputs, model: &ModelSpec) -> Self {
        let points = inputs.measurements.gemms.iter().filter(|point| {
            point.model == model.name && point.timing.median_s > 0.0 && point.timing.median_s.is_finite()
        });
        Products(points.map(|point| ((point.matrix, point.rows), point.timing.median_s)).collect())
    }

    /// The four products of a layer; `None` unless all were timed.
    pub(super) fn layer_s(&self, rows: u32) -> Option<f64> {
        [Matrix::Qkv, Matrix::Output, Matrix::GateUp, Matrix::Down]
            .iter()
            .map(|matrix| self.0.get(&(*matrix, rows)))
            .sum()
    }

    /// The output head.
    pub(super) fn head_s(&self, rows: u32) -> Option<f64> {
        self.0.get(&(Matrix::LmHead, rows)).copied()
    }

    /// All rows of which a layer is complete, ascending.
    pub(super) fn layer_rows(&self) -> Vec<u32> {
        let rows: std::collections::BTreeSet<u32> = self.0.keys().map(|(_, rows)| *rows).collect();
        rows.into_iter().filter(|rows| self.layer_s(*rows).is_some()).collect()
    }

    fn table(&self, batches: &[u32], seconds: impl Fn(&Self, u32) -> Option<f64>) -> BTreeMap<u32, Positive> {
        let entry = |&batch: &u32| Some((batch, Positive::new(seconds(self, batch)?).ok()?));
        batches
            .iter()
            .filter(|batch| (1..=BatchTable::MAX_BATCH).contains(*batch))
            .filter_map(entry)
            .collect()
    }
}

/// What is known of one model's step without whole steps.
struct Parts<'a> {
    model: &'a ModelSpec,
    layer: BTreeMap<u32, Positive>,
    head: BTreeMap<u32, Positive>,
    attention: AttentionFit,
    /// Heads that attention was measured with; others than the model's where those were not measured.
    measured_with: AttentionShape,
}

impl<'a> Parts<'a> {
    fn of(inputs: &Inputs, model: &'a ModelSpec, report: &mut FitReport) -> Result<Self, String> {
        let products = Products::of(inputs, model);
        let layer = products.table(&inputs.scale.batches, Products::layer_s);
        if layer.is_empty() {
            return Err(format!("no batch size has all four products; {}", inputs.why_absent("E5")));
        }
        let head = products.table(&inputs.scale.batches, Products::head_s);
        let (measured_with, points) = points_of(inputs, attention_shape(model))
            .ok_or_else(|| format!("no attention with its KV per token; {}", inputs.why_absent("E6")))?;
        let attention = fit_attention(&points, inputs.run.settings())
            .map_err(|reason| format!("attention: {reason}; {}", inputs.why_absent("E6")))?;
        say(inputs, model, measured_with, &attention, report);
        Ok(Parts { model, layer, head, attention, measured_with })
    }

    /// Products, attention and output head of a step over `layers` layers.
    fn kernels_s(&self, point: &StepPoint) -> f64 {
        let tokens: u64 = point.contexts.iter().map(|tokens| u64::from(*tokens)).sum();
        let bytes = tokens * self.model.kv_bytes_per_token_layer().get();
        let batch = point.contexts.len() as u32;
        let layer = BatchTable::new(&self.layer).at(batch) + self.attention.seconds(bytes as f64);
        f64::from(point.layers) * layer + BatchTable::new(&self.head).at(batch)
    }

    fn observations(&self, inputs: &Inputs, submission: Submission) -> Vec<OverheadObservation> {
        let steps = inputs.measurements.steps.iter();
        steps
            .filter(|point| point.model == self.model.name && point.submission == submission)
            .map(|point| OverheadObservation {
                point: format!("{} layers, {}", point.layers, batch_words(&point.contexts)),
                layers: point.layers,
                context: point.contexts.iter().copied().max().map_or(0, u64::from),
                tokens: point.contexts.iter().map(|tokens| u64::from(*tokens)).sum(),
                kernels_s: self.kernels_s(point),
                seconds: point.timing.median_s,
            })
            .collect()
    }

    /// What whole steps take beside their kernels: of steps submitted one kernel at a time, as validation runs them.
    fn overhead(&self, inputs: &Inputs, report: &mut FitReport) -> Result<OverheadFit, String> {
        let name = &self.model.name;
        let arms = [Submission::Stream, Submission::Graph];
        let Some(arm) = arms.into_iter().find(|arm| !self.observations(inputs, *arm).is_empty()) else {
            return Err(inputs.why_absent("E9"));
        };
        if arm == Submission::Graph {
            report.warn(format!(
                "{name}: overheads are of steps as graphs: no step was submitted kernel by kernel"
            ));
        }
        let fit = fit_overhead(&self.observations(inputs, arm), inputs.run.settings())
            .map_err(|reason| reason.to_string())?;
        let path = "compute.model_shapes[0]";
        report.fit(&format!("step {name}"), path, "context tokens", &fit.quality, &fit.predictions);
        if let Err(reason) = &fit.layer_s {
            report.warn(format!("{name}: whole steps take no longer than their kernels alone: {reason}"));
        }
        Ok(fit)
    }

    fn shape(
        &self,
        path: &str,
        inputs: &Inputs,
        overhead: &Result<OverheadFit, String>,
        gaps: &mut Gaps,
        report: &mut FitReport,
    ) -> ModelShape {
        let model = self.model;
        let own = model.name == inputs.scale.fitted.name;
        let (layer_other_s, step_fixed_s) = match overhead {
            Ok(fit) => (
                gaps.coefficient(&format!("{path}.layer_other_s"), &fit.layer_s),
                gaps.coefficient(&format!("{path}.step_fixed_s"), &fit.step_s),
            ),
            Err(reason) => {
                gaps.say(&format!("{path}.layer_other_s"), reason);
                gaps.say(&format!("{path}.step_fixed_s"), reason);
                (None, None)
            }
        };
        let affine = if own {
            self.affine(path, inputs, gaps, report)
        } else {
            let fitted = &inputs.scale.fitted.name;
            let reason = format!(
                "no whole step of this model is fitted; `layer_other_s` and `step_fixed_s` are those of {fitted}"
            );
            report.note(format!("{}: {reason}", model.name));
            gaps.say(&format!("{path}.affine"), &reason);
            None
        };
        ModelShape {
            model: model.name.clone(),
            layers: NonZeroU32::new(model.layers).expect("Invariant: a model has layers"),
            kv_bytes_per_token_layer: NonZeroU64::new(model.kv_bytes_per_token_layer().get())
                .expect("Invariant: KV has bytes"),
            weight_bytes_per_layer: NonZeroU64::new(model.layer_weight_bytes().get())
                .expect("Invariant: a layer has weights"),
            layer_weights_s_by_batch: self.layer.clone(),
            lm_head_s_by_batch: self.head.clone(),
            attn: self.attn(&format!("{path}.attn"), gaps),
            layer_other_s,
            step_fixed_s,
            affine,
        }
    }

    fn attn(&self, path: &str, gaps: &mut Gaps) -> Attention {
        let own = attention_shape(self.model);
        let fit = if own == self.measured_with {
            Some(gaps.quality(&format!("{path}.fit"), &self.attention.quality))
        } else {
            let reason = format!(
                "{} query heads per KV head were not measured: the line of {} stands in",
                own.group(),
                self.measured_with.group()
            );
            gaps.say(&format!("{path}.fit"), &reason);
            None
        };
        Attention {
            floor_s: gaps.coefficient(&format!("{path}.floor_s"), &self.attention.floor_s),
            c_s: gaps.coefficient(&format!("{path}.c_s"), &self.attention.constant_s),
            bytes_per_s: Positive::new(self.attention.bytes_per_s)
                .expect("Invariant: a fitted rate is finite and above 0"),
            gqa: NonZeroU32::new(self.measured_with.group()),
            fit,
        }
    }

    /// The published form: whole steps over context tokens.
    fn affine(
        &self,
        path: &str,
        inputs: &Inputs,
        gaps: &mut Gaps,
        report: &mut FitReport,
    ) -> Option<AffineLine> {
        let path = format!("{path}.affine");
        let whole: Vec<(String, f64, f64)> = [Submission::Stream, Submission::Graph]
            .into_iter()
            .map(|arm| self.observations(inputs, arm))
            .find(|arm| !arm.is_empty())
            .unwrap_or_default()
            .into_iter()
            .filter(|point| point.layers == self.model.layers)
            .map(|point| (point.point, point.tokens as f64, point.seconds))
            .collect();
        let fit = match fit_affine(&whole) {
            Ok(fit) => fit,
            Err(reason) => {
                gaps.say(&path, &format!("{reason}; {}", inputs.why_absent("E9")));
                return None;
            }
        };
        let name = format!("step {} as a line", self.model.name);
        report.fit(&name, &path, "context tokens", &fit.quality, &fit.predictions);
        let line = fit
            .constant_s
            .and_then(|constant| Some((Positive::new(fit.slope_s).ok()?, Positive::new(constant).ok()?)));
        let Some((a_s_per_token, b_s)) = line else {
            gaps.say(&path, "the constant of the line is not told from 0 by these points");
            return None;
        };
        if fit.quality.r2.is_none() {
            gaps.say(&format!("{path}.r2"), "all times are equal");
        }
        Some(AffineLine { a_s_per_token, b_s, r2: fit.quality.r2 })
    }
}

/// Whole steps that no fit saw (another model's, and those submitted the other way), predicted.
fn say_unseen_steps(
    inputs: &Inputs,
    parts: &[Parts],
    overhead: Option<&OverheadFit>,
    report: &mut FitReport,
) {
    let Some(overhead) = overhead else { return };
    let layer_s = *overhead.layer_s.as_ref().unwrap_or(&0.0);
    let step_s = *overhead.step_s.as_ref().unwrap_or(&0.0);
    for part in parts {
        let own = part.model.name == inputs.scale.fitted.name;
        for (arm, word) in [(Submission::Stream, "stream"), (Submission::Graph, "graph")] {
            let fitted_arm =
                part.observations(inputs, Submission::Stream).is_empty() == (arm == Submission::Graph);
            let predictions: Vec<Prediction> = part
                .observations(inputs, arm)
                .into_iter()
                .filter(|point| !(own && fitted_arm) && point.seconds > 0.0)
                .map(|point| Prediction {
                    at: point.tokens as f64,
                    measured_s: point.seconds,
                    predicted_s: point.kernels_s + f64::from(point.layers) * layer_s + step_s,
                    used: false,
                    point: point.point,
                })
                .collect();
            if !predictions.is_empty() {
                report.unfitted(
                    &format!("step {} as a {word}", part.model.name),
                    "context tokens",
                    predictions,
                );
            }
        }
    }
}

fn launch(inputs: &Inputs, gaps: &mut Gaps) -> Option<Launch> {
    let of = |kind: LaunchKind| {
        let points = inputs.measurements.launches.iter().filter(|point| point.kind == kind);
        let longest = points.max_by_key(|point| point.count)?;
        Positive::new(longest.timing.median_s).ok()
    };
    let launch = Launch { stream_s: of(LaunchKind::StreamSubmit), graph_node_s: of(LaunchKind::GraphNode) };
    gaps.say("compute.launch", &inputs.why_absent("E7"));
    (launch.stream_s.is_some() || launch.graph_node_s.is_some()).then_some(launch)
}
