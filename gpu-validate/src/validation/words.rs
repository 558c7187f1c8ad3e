//! What a validation comes to, in sentences, and which measured steps cannot be.
//!
//! Knows only findings: numbers in, words out. A step shorter or longer than any order of its parts allows is a reason to
//! suspect the harness before the model (`gpu-measurement.md` §4.2).

use std::cmp::Ordering;

use orbitflow_sim::cost::profile::Validation;

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

/// Why something in a validation is null, by key path of the profile, for `profile::attach_validation`.
pub fn reasons_for_nulls(validation: &Validation) -> Vec<(String, String)> {
    let mut reasons: Vec<(String, String)> = (validation.cases.iter().enumerate())
        .filter(|(_, case)| case.pred_s.affine.is_none())
        .map(|(place, case)| {
            let reason = format!("the profile has no line in tokens for {}", case.model);
            (format!("validation.cases[{place}].pred_s.affine"), reason)
        })
        .collect();
    let Some(summary) = &validation.summary else { return reasons };
    let (no_case, no_order) = (
        "no case of the fitted model was measured",
        "no workload of the fitted model had enough placements measured",
    );
    let nulls = [
        ("median_abs", summary.median_abs.is_none(), no_case),
        ("p95_abs", summary.p95_abs.is_none(), no_case),
        ("bias", summary.bias.is_none(), no_case),
        ("kendall_tau", summary.kendall_tau.is_none(), no_order),
        ("regret", summary.regret.is_none(), no_order),
        ("heldout", summary.heldout.is_none(), "no case of the held-out model was measured"),
    ];
    let missing = nulls.into_iter().filter(|(_, missing, _)| *missing);
    reasons.extend(missing.map(|(key, _, reason)| (format!("validation.summary.{key}"), reason.to_owned())));
    reasons
}

#[cfg(test)]
mod tests {
    use orbitflow_sim::cost::{Verdict, check};

    use super::*;
    use crate::profile::attach_validation;
    use crate::validation::placements::Rule;
    use crate::validation::{summary, testing};

    #[test]
    fn every_null_of_a_validation_has_its_reason_and_the_profile_passes_its_check() {
        let model = testing::model();
        let mut one = testing::result(&testing::case(&model, &[320], Rule::None, 1), 1.0);
        one.prediction.step_s.affine = None;
        for results in [vec![], vec![one]] {
            let mut profile = testing::profile(&model);
            let validation = summary(&results, "abc");
            let reasons = reasons_for_nulls(&validation);
            attach_validation(&mut profile, validation, &reasons);
            let failures: Vec<String> = check(&profile)
                .into_iter()
                .filter(|finding| finding.verdict == Verdict::Failure)
                .map(|finding| finding.text)
                .collect();
            assert_eq!(failures, [""; 0]);
        }
    }
}
