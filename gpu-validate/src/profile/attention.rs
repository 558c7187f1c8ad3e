//! Which points of E6 a model's attention is fitted to, and what is said of the fit.

use orbitflow_sim::model::ModelSpec;

use super::record::best_memory_rate;
use super::{FitReport, Inputs};
use crate::case::attention_shape;
use crate::device::AttentionShape;
use crate::fit::{AttentionFit, AttentionObservation};
use crate::results::{AttentionPoint, MemoryUse};

/// The points of these heads, or of the nearest number of query heads per KV head over the same KV (of two as near, the
/// larger: it computes more). `None` if no such KV was measured.
pub(super) fn points_of(
    inputs: &Inputs,
    wanted: AttentionShape,
) -> Option<(AttentionShape, Vec<AttentionObservation>)> {
    let shape = |point: &AttentionPoint| AttentionShape {
        heads: point.heads,
        kv_heads: point.kv_heads,
        head_dim: point.head_dim,
    };
    let distance = |shape: &AttentionShape| (f64::from(shape.group()) / f64::from(wanted.group())).ln().abs();
    let points = &inputs.measurements.attention;
    let nearest = points
        .iter()
        .map(shape)
        .filter(|shape| (shape.kv_heads, shape.head_dim) == (wanted.kv_heads, wanted.head_dim))
        .min_by(|a, b| distance(a).total_cmp(&distance(b)).then(b.heads.cmp(&a.heads)))?;
    let observations = points
        .iter()
        .filter(|point| shape(point) == nearest)
        .map(|point| AttentionObservation {
            point: batch_words(&point.contexts),
            kv_bytes: point.kv_bytes,
            longest: point.contexts.iter().copied().max().map_or(0, u64::from),
            ragged: point.ragged(),
            seconds: point.timing.median_s,
        })
        .collect();
    Some((nearest, observations))
}

/// `4 × 8192`, or the contexts of a ragged batch in short.
pub(super) fn batch_words(contexts: &[u32]) -> String {
    match (contexts.iter().min(), contexts.iter().max()) {
        (Some(least), Some(most)) if least == most => format!("{} × {most} tokens", contexts.len()),
        (Some(least), Some(most)) => format!("{} requests of {least} to {most} tokens", contexts.len()),
        _ => "no request".to_owned(),
    }
}

/// Fit, share of the memory rate, the second predictor, and what stands in.
pub(super) fn say(
    inputs: &Inputs,
    model: &ModelSpec,
    measured_with: AttentionShape,
    fit: &AttentionFit,
    report: &mut FitReport,
) {
    let AttentionShape { heads, kv_heads, head_dim } = measured_with;
    let name = format!("attention {heads}/{kv_heads}/{head_dim}");
    if report.fits.iter().all(|known| known.name != name) {
        report.fit(&name, "compute.model_shapes", "bytes of KV", &fit.quality, &fit.predictions);
        if let Some(read) = best_memory_rate(inputs, MemoryUse::Read) {
            report.note(format!(
                "{name}: {:.1} GB/s, {:.1} % of the measured reading rate of GPU memory",
                fit.bytes_per_s / 1e9,
                100.0 * fit.bytes_per_s / read
            ));
        }
        if let Some(longest) = &fit.longest_context {
            report.note(format!(
                "{name}: with {:.3e} s per token of the longest context the error on unseen batches falls from {:.2} % \
                 to {:.2} %; the profile has no such term",
                longest.s_per_token,
                100.0 * longest.error_without,
                100.0 * longest.error_with
            ));
        }
    }
    if measured_with != attention_shape(model) {
        report.warn(format!("{}: its heads were not measured: {name} stands in", model.name));
    }
}
