//! The prefill section: the rate of E5's products at many rows, and an attention term that is not measured.
//!
//! Seconds of a prompt of p tokens: `L · layer(p) + head(1) + 2·L·heads·head_dim·p² / rate` (design §3.6), products linear
//! between the measured rows and at the largest rows' rate beyond. The rate of attention is half the datasheet's, or half of
//! what the products reach: prefill attention is not run here, and the profile says so.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use orbitflow_sim::cost::profile::{Positive, Prefill, PrefillShape};
use orbitflow_sim::model::ModelSpec;

use super::compute::{Products, models};
use super::gaps::Gaps;
use super::{FitReport, Inputs, datasheet};
use crate::device::Backend;

/// Share of a peak rate that prefill attention is taken to reach: that of design §3.6.
const ATTENTION_EFFICIENCY: f64 = 0.5;
/// Prompt lengths double from the first to the last, in tokens.
const PROMPTS: (u32, u32) = (128, 131_072);
/// The longest prompt over the most rows measured: beyond, the line is a guess.
const MOST_BEYOND_ROWS: u32 = 16;

/// Prefill times of every model with products at prefill rows.
pub(super) fn of(inputs: &Inputs, gaps: &mut Gaps, report: &mut FitReport) -> Option<Prefill> {
    let model_shapes: Vec<PrefillShape> =
        models(inputs).into_iter().filter_map(|model| shape(inputs, model, report)).collect();
    if model_shapes.is_empty() {
        gaps.say("prefill", &format!("no products at prefill rows; {}", inputs.why_absent("E5")));
        return None;
    }
    Some(Prefill { model_shapes })
}

fn shape(inputs: &Inputs, model: &ModelSpec, report: &mut FitReport) -> Option<PrefillShape> {
    let products = Products::of(inputs, model);
    let rows = products.layer_rows();
    let largest = *rows.iter().rfind(|rows| inputs.scale.prefill_rows.contains(rows))?;
    let layer: Vec<(f64, f64)> = rows
        .iter()
        .filter(|rows| **rows <= largest)
        .filter_map(|rows| Some((f64::from(*rows), products.layer_s(*rows)?)))
        .collect();
    let (rate, attention) = attention_rate(inputs, model, &layer)?;
    // One row: only the last token's logits are needed. Without it the smallest batch's, else nothing, and that is said.
    let head_s = inputs.scale.batches.iter().find_map(|batch| products.head_s(*batch));
    if head_s.is_none() {
        report.warn(format!("{}: prefill without the output head: E5 has none", model.name));
    }
    let layers = f64::from(model.layers);
    let heads = f64::from(model.heads) * f64::from(model.head_dim);
    let seconds = |prompt: u32| {
        let prompt = f64::from(prompt);
        let attention_s = 2.0 * layers * heads * prompt * prompt / rate;
        layers * at(&layer, prompt) + head_s.unwrap_or(0.0) + attention_s
    };
    let first = PROMPTS.0.min(*inputs.scale.prefill_rows.iter().min()?).max(1);
    let prompts = std::iter::successors(Some(first), |prompt| prompt.checked_mul(2))
        .take_while(|prompt| *prompt <= PROMPTS.1.min(largest.saturating_mul(MOST_BEYOND_ROWS)));
    let s_by_prompt_tokens: BTreeMap<u32, Positive> =
        prompts.filter_map(|prompt| Some((prompt, Positive::new(seconds(prompt)).ok()?))).collect();
    report.note(format!(
        "prefill {}: products measured up to {largest} rows, larger prompts at that rate; attention {attention}",
        model.name
    ));
    Some(PrefillShape {
        model: model.name.clone(),
        layers: NonZeroU32::new(model.layers)?,
        weight_bytes_per_layer: NonZeroU64::new(model.layer_weight_bytes().get())?,
        s_by_prompt_tokens,
        attention: Some(attention),
    })
}

/// Operations per second of attention, and where that is from.
fn attention_rate(inputs: &Inputs, model: &ModelSpec, layer: &[(f64, f64)]) -> Option<(f64, String)> {
    if inputs.run.backend == Backend::Cuda
        && let Some((_, datasheet)) = datasheet::of(&inputs.facts.device.name)
    {
        let rate = ATTENTION_EFFICIENCY * datasheet.bf16_flops_per_s.get();
        return Some((rate, format!("datasheet × {ATTENTION_EFFICIENCY}")));
    }
    let &(rows, seconds) = layer.last()?;
    // Two operations per weight and row; norms and biases, counted among the parameters, are below 0.1 %.
    let rate = ATTENTION_EFFICIENCY * 2.0 * rows * model.layer_params() as f64 / seconds;
    Some((rate, format!("measured products × {ATTENTION_EFFICIENCY}")))
}

/// Seconds of one layer's products: linear between the points, in proportion to rows beyond, the least below.
fn at(points: &[(f64, f64)], rows: f64) -> f64 {
    let above = points.partition_point(|&(at, _)| at < rows);
    match (above.checked_sub(1).map(|below| points[below]), points.get(above)) {
        (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) / (x1 - x0) * (rows - x0),
        (Some((last, seconds)), None) => seconds * rows / last,
        (None, first) => first.map_or(0.0, |&(_, seconds)| seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_linear_between_rows_and_in_proportion_beyond() {
        let points = [(64.0, 1.0), (512.0, 2.0), (1024.0, 4.0)];
        // 768: 2 + (4−2)/512·256; 2048: 4·2
        for (rows, seconds) in [(1.0, 1.0), (64.0, 1.0), (512.0, 2.0), (768.0, 3.0), (2048.0, 8.0)] {
            assert_eq!(at(&points, rows), seconds, "{rows} rows");
        }
    }
}
