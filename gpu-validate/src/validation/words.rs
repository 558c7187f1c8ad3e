//! What a validation comes to, in sentences, and which measured steps cannot be.
//!
//! Knows only findings: numbers in, words out. A step shorter or longer than any order of its parts allows is a reason to
//! suspect the harness before the model (`gpu-measurement.md` §4.2).

use std::cmp::Ordering;

use super::findings::Findings;
use crate::case::CaseResult;

/// How far below the least possible time a measured step may be, and how far above the most (`gpu-measurement.md` §4.2).
const BELOW: f64 = 0.02;
const ABOVE: f64 = 0.05;

/// A step shorter than its longer part, or longer than both one after the other.
pub(super) fn suspicion(result: &CaseResult) -> Option<String> {
    let (parts, measured) = (&result.prediction.parts, result.measured.median_s);
    let words = |bound: f64, side: &str, cause: &str| {
        format!(
            "{}: {:.3} ms measured, {side} {:.3} ms: suspect the harness ({cause}) before the model",
            result.case.id,
            measured * 1e3,
            bound * 1e3
        )
    };
    if measured < parts.least_s * (1.0 - BELOW) {
        let side = "less than compute or copies alone,";
        return Some(words(parts.least_s, side, "a dependency is missing"));
    }
    let over = measured > parts.most_s * (1.0 + ABOVE);
    let side = "more than compute and copies one after the other,";
    over.then(|| words(parts.most_s, side, "something is serialised"))
}

/// The verdict, most important first.
pub(super) fn sentences(findings: &Findings) -> Vec<String> {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mut sentences = Vec::new();
    let Some(headline) = &findings.headline else {
        return vec![
            "No case of the fitted model was measured: nothing is known of the model's error.".to_owned(),
        ];
    };
    sentences.push(format!(
        "Over {} cases the median error is {}, the 95th percentile {}, the largest {}, the bias {}.",
        headline.n,
        percent(headline.median_abs),
        percent(headline.p95_abs),
        percent(headline.max_abs),
        percent(headline.bias)
    ));
    for (name, words) in [
        ("bound", "max(compute, copies)"),
        ("orbitflow", "the published prefix formula"),
        ("affine", "compute as a line in tokens"),
        ("no_contention", "the model without contention"),
    ] {
        let Some(errors) = findings.by_baseline.get(name) else { continue };
        let verdict = match headline.median_abs.total_cmp(&errors.median_abs) {
            Ordering::Less => "beats",
            Ordering::Equal => "does no better than",
            Ordering::Greater => "does worse than",
        };
        sentences.push(format!(
            "The full model {verdict} {words}: median error {} against {} ({} cases).",
            percent(headline.median_abs),
            percent(errors.median_abs),
            errors.n
        ));
    }
    if let Some(arm) = &findings.second_arm {
        let nearer =
            arm.nearer.map_or("equally near to both orders".to_owned(), |order| format!("nearer to {order}"));
        sentences.push(format!(
            "With one copy stream per request the hardware is {nearer}: median error {} in-order, {} ready-first.",
            percent(arm.in_order.median_abs),
            percent(arm.ready_first.median_abs)
        ));
    }
    sentences
}
