//! The verdict: predicted against measured, over all cases and by what might explain the errors.
//!
//! An error is `(predicted − measured) / measured` of a step's median, as a share. The **headline** is the fitted model's
//! cases in the main arm; the held-out model, the second arm (one copy stream per request) and synthetic dilation
//! are counted apart, never in it. What was not measured is `None`, never 0. Knows no device and no file.

use std::collections::BTreeMap;

use orbitflow_sim::cost::profile::{
    HeldOut, MeasuredStep, Positive, Validation, ValidationCase, ValidationSummary,
};
use orbitflow_sim::units::blocks_for_tokens;
use serde::Serialize;

use super::ranking::{Ranked, kendall_tau, regret};
use super::words::{sentences, suspicion};
use crate::case::{Case, CaseResult, CopyStreams};
use crate::sample::quantile;

/// Placements that a workload must have for its order to mean something.
const LEAST_RANKED: usize = 5;
/// Errors of some cases, as shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Errors {
    /// Cases.
    pub n: u32,
    /// Median of the absolute errors.
    pub median_abs: f64,
    /// Their 95th percentile.
    pub p95_abs: f64,
    /// The largest.
    pub max_abs: f64,
    /// Mean signed error: above 0, predictions are too long.
    pub bias: f64,
}

impl Errors {
    /// `None` without an error.
    pub fn of(errors: &[f64]) -> Option<Errors> {
        let mut sorted: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Errors {
            n: sorted.len() as u32,
            max_abs: *sorted.last()?,
            median_abs: quantile(&sorted, 0.5),
            p95_abs: quantile(&sorted, 0.95),
            bias: errors.iter().sum::<f64>() / errors.len() as f64,
        })
    }
}

/// How well the placements of one workload are ordered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkloadFindings {
    /// [`Case::workload`].
    pub workload: String,
    /// Whether no fit has seen its model: then it is not in the headline.
    pub held_out: bool,
    /// Placements measured.
    pub placements: u32,
    /// Tau-b of predicted against measured order.
    pub kendall_tau: Option<f64>,
    /// See [`super::regret`].
    pub regret: Option<f64>,
}

/// Whether one copy stream per request is nearer to `ready-first` or to `in-order`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SecondArm {
    /// Errors of the in-order prediction.
    pub in_order: Errors,
    /// Errors of the ready-first prediction.
    pub ready_first: Errors,
    /// The order whose median error is smaller; `None`: the two predictions do not differ, or err alike.
    pub nearer: Option<&'static str>,
}

/// Stalls before single layers, predicted against the instrumented passes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StallErrors {
    /// Cases with an instrumented pass.
    pub cases: u32,
    /// Median over all their layers of |predicted − measured| stall, seconds.
    pub median_s: f64,
    /// 95th percentile, seconds.
    pub p95_s: f64,
    /// Largest, seconds, with its case and layer.
    pub worst: (f64, String, u32),
}

/// Everything a report says of a validation. Errors are shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    /// Of the fitted model in the main arm.
    pub headline: Option<Errors>,
    /// The headline's cases by band of ρ ([`rho_band`]).
    pub by_rho: BTreeMap<String, Errors>,
    /// The headline's cases by granularity.
    pub by_granularity: BTreeMap<String, Errors>,
    /// The same cases predicted by simpler models: `affine`, `bound`, `orbitflow`, `no_contention`.
    pub by_baseline: BTreeMap<String, Errors>,
    /// Of the model that no fit saw, and its name.
    pub held_out: Option<(String, Errors)>,
    /// Each workload with enough placements.
    pub workloads: Vec<WorkloadFindings>,
    /// Mean over the headline's workloads.
    pub kendall_tau: Option<f64>,
    /// Worst of the headline's workloads.
    pub regret: Option<f64>,
    /// One copy stream per request.
    pub second_arm: Option<SecondArm>,
    /// Cases with a spin after each layer: they test the overlap, not a GPU's compute.
    pub synthetic: Option<Errors>,
    /// Layer by layer.
    pub stalls: Option<StallErrors>,
    /// Steps that took less or more than any order of copies and layers allows: suspect the harness.
    pub suspicions: Vec<String>,
    /// What it comes to, in sentences.
    pub sentences: Vec<String>,
}

/// The verdict on `results`.
pub fn findings(results: &[CaseResult]) -> Findings {
    let main = || results.iter().filter(|result| arm(&result.case).is_none());
    let headline: Vec<&CaseResult> = main().filter(|result| !result.case.held_out).collect();
    let held_out: Vec<&CaseResult> = main().filter(|result| result.case.held_out).collect();
    let workloads = workloads(&main().collect::<Vec<_>>());
    let fitted = || workloads.iter().filter(|workload| !workload.held_out);
    let taus: Vec<f64> = fitted().filter_map(|workload| workload.kendall_tau).collect();
    let mut findings = Findings {
        headline: full_errors(&headline),
        by_rho: grouped(&headline, |result| rho_band(result.prediction.rho).to_owned()),
        by_granularity: grouped(&headline, |result| result.case.granularity.key().to_owned()),
        by_baseline: baselines(&headline),
        held_out: full_errors(&held_out).map(|errors| (held_out[0].case.model.name.clone(), errors)),
        kendall_tau: (!taus.is_empty()).then(|| taus.iter().sum::<f64>() / taus.len() as f64),
        regret: fitted().filter_map(|workload| workload.regret).max_by(f64::total_cmp),
        second_arm: second_arm(results),
        synthetic: full_errors(
            &results.iter().filter(|result| arm(&result.case) == Some(SYNTHETIC)).collect::<Vec<_>>(),
        ),
        stalls: stalls(results),
        suspicions: results.iter().filter_map(suspicion).collect(),
        workloads,
        sentences: Vec::new(),
    };
    findings.sentences = sentences(&findings);
    findings
}

/// The profile's `validation` section.
pub fn summary(results: &[CaseResult], predictions_sha256: &str) -> Validation {
    let findings = findings(results);
    let held_out = findings.held_out.as_ref().map(|(model, errors)| HeldOut {
        model: model.clone(),
        median_abs: Some(errors.median_abs),
        p95_abs: Some(errors.p95_abs),
        bias: Some(errors.bias),
    });
    let medians = |groups: &BTreeMap<String, Errors>| {
        groups.iter().map(|(key, errors)| (key.clone(), errors.median_abs)).collect()
    };
    Validation {
        predictions_sha256: Some(predictions_sha256.to_owned()),
        cases: results.iter().map(validation_case).collect(),
        summary: Some(ValidationSummary {
            median_abs: findings.headline.map(|errors| errors.median_abs),
            p95_abs: findings.headline.map(|errors| errors.p95_abs),
            bias: findings.headline.map(|errors| errors.bias),
            kendall_tau: findings.kendall_tau,
            regret: findings.regret,
            heldout: held_out,
            by_baseline: medians(&findings.by_baseline),
            by_rho: medians(&findings.by_rho),
        }),
    }
}

const PER_REQUEST: &str = "per-request-streams";
const SYNTHETIC: &str = "synthetic-dilation";

/// The arm a case belongs to; `None`: the main one.
fn arm(case: &Case) -> Option<&'static str> {
    if case.dilation_s > 0.0 {
        Some(SYNTHETIC)
    } else {
        (case.streams == CopyStreams::PerRequest).then_some(PER_REQUEST)
    }
}

/// The band of a ratio of copies to compute, least first in the order of the words.
pub fn rho_band(rho: f64) -> &'static str {
    match rho {
        0.0 => "0",
        rho if rho < 0.65 => "0-0.65",
        rho if rho < 0.9 => "0.65-0.9",
        rho if rho <= 1.1 => "0.9-1.1",
        rho if rho <= 1.6 => "1.1-1.6",
        rho if rho <= 3.0 => "1.6-3",
        _ => "3-",
    }
}

fn full_errors(results: &[&CaseResult]) -> Option<Errors> {
    Errors::of(&results.iter().map(|result| result.error()).collect::<Vec<_>>())
}

fn grouped(results: &[&CaseResult], key: impl Fn(&CaseResult) -> String) -> BTreeMap<String, Errors> {
    let mut groups: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for result in results {
        groups.entry(key(result)).or_default().push(result.error());
    }
    groups.into_iter().filter_map(|(key, errors)| Some((key, Errors::of(&errors)?))).collect()
}

fn baselines(results: &[&CaseResult]) -> BTreeMap<String, Errors> {
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for result in results {
        let step = &result.prediction.step_s;
        let others = [
            ("affine", step.affine),
            ("bound", step.bound),
            ("orbitflow", step.orbitflow),
            ("no_contention", step.no_contention),
        ];
        for (name, predicted) in others {
            let error = predicted.map(|predicted| relative(predicted.get(), result));
            errors.entry(name.to_owned()).or_default().extend(error);
        }
    }
    errors.into_iter().filter_map(|(name, errors)| Some((name, Errors::of(&errors)?))).collect()
}

fn relative(predicted_s: f64, result: &CaseResult) -> f64 {
    predicted_s / result.measured.median_s - 1.0
}

fn workloads(results: &[&CaseResult]) -> Vec<WorkloadFindings> {
    let mut groups: BTreeMap<&str, Vec<&CaseResult>> = BTreeMap::new();
    for result in results {
        groups.entry(&result.case.workload).or_default().push(result);
    }
    let enough = groups.into_iter().filter(|(_, members)| members.len() >= LEAST_RANKED);
    enough
        .map(|(workload, members)| {
            let ranked: Vec<Ranked> = members.iter().map(|result| ranked(result)).collect();
            WorkloadFindings {
                workload: workload.to_owned(),
                held_out: members[0].case.held_out,
                placements: members.len() as u32,
                kendall_tau: kendall_tau(&ranked),
                regret: regret(&ranked),
            }
        })
        .collect()
}

fn ranked(result: &CaseResult) -> Ranked {
    let case = &result.case;
    let offloaded = case.contexts.iter().zip(&case.offloaded);
    Ranked {
        predicted_s: result.prediction.step_s.full.get(),
        measured_s: result.measured.median_s,
        offloaded_blocks: offloaded
            .map(|(&tokens, set)| blocks_for_tokens(u64::from(tokens)) * u64::from(set.len()))
            .sum(),
    }
}

fn second_arm(results: &[CaseResult]) -> Option<SecondArm> {
    let (mut in_order, mut ready_first) = (Vec::new(), Vec::new());
    for result in results.iter().filter(|result| arm(&result.case) == Some(PER_REQUEST)) {
        in_order.push(result.error());
        ready_first.push(relative(result.prediction.parts.ready_first_s, result));
    }
    let (in_order, ready_first) = (Errors::of(&in_order)?, Errors::of(&ready_first)?);
    let nearer = match in_order.median_abs.total_cmp(&ready_first.median_abs) {
        std::cmp::Ordering::Less => Some("in-order"),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some("ready-first"),
    };
    Some(SecondArm { in_order, ready_first, nearer })
}

fn stalls(results: &[CaseResult]) -> Option<StallErrors> {
    let mut errors: Vec<(f64, &str, u32)> = Vec::new();
    let mut cases = 0;
    for result in results {
        let Some(instrumented) = &result.instrumented else { continue };
        cases += 1;
        let mut free = 0.0;
        let predicted = &result.prediction.parts.stalls_s;
        for (layer, ((start, end), predicted)) in (1..).zip(instrumented.layers_s.iter().zip(predicted)) {
            errors.push(((predicted - (start - free)).abs(), &result.case.id, layer));
            free = *end;
        }
    }
    errors.sort_by(|one, other| one.0.total_cmp(&other.0));
    let &(worst, case, layer) = errors.last()?;
    let sorted: Vec<f64> = errors.iter().map(|(error, _, _)| *error).collect();
    Some(StallErrors {
        cases,
        median_s: quantile(&sorted, 0.5),
        p95_s: quantile(&sorted, 0.95),
        worst: (worst, case.to_owned(), layer),
    })
}

fn validation_case(result: &CaseResult) -> ValidationCase {
    let (case, measured) = (&result.case, &result.measured);
    ValidationCase {
        id: case.id.clone(),
        arm: arm(case).map(str::to_owned),
        model: case.model.name.clone(),
        batch: case.batch(),
        ctx: case.contexts.iter().map(|&tokens| u64::from(tokens)).collect(),
        placement: case.placement.clone(),
        slots: case.slots,
        granularity: case.granularity.key().to_owned(),
        rho: result.prediction.rho,
        pred_s: result.prediction.step_s.clone(),
        meas_s: MeasuredStep {
            median: Positive::new(measured.median_s).expect("Invariant: a measured step takes time"),
            iqr: measured.iqr_s,
            n: measured.n,
        },
        err_rel: result.error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Instrumented;
    use crate::validation::placements::Rule;
    use crate::validation::testing;

    /// A case of every rule whose measured time is the predicted one times a factor.
    fn results(factors: &[f64]) -> Vec<CaseResult> {
        let rules = [Rule::None, Rule::Every(2), Rule::Every(3), Rule::Last, Rule::All, Rule::Mixed];
        let model = testing::model();
        let of =
            |(rule, factor)| testing::result(&testing::case(&model, &[3200, 1600, 1600], rule, 1), factor);
        rules.into_iter().zip(factors.iter().copied()).map(of).collect()
    }

    #[test]
    fn quantiles_and_bias_by_hand() {
        // sorted absolutes 1 2 3 4 %: median place ceil(2) = 2 %, P95 place ceil(3.8) = 4 %; mean (1−2+3−4)/4
        let errors = Errors::of(&[0.01, -0.02, 0.03, -0.04]).unwrap();
        assert_eq!((errors.n, errors.median_abs, errors.p95_abs, errors.max_abs), (4, 0.02, 0.04, 0.04));
        assert!((errors.bias + 0.005).abs() < 1e-15);
        assert_eq!(Errors::of(&[]), None);
    }

    #[test]
    fn exact_predictions_have_no_error_full_agreement_and_no_suspicion() {
        let findings = findings(&results(&[1.0; 6]));
        let headline = findings.headline.unwrap();
        assert_eq!((headline.n, headline.max_abs), (6, 0.0));
        assert_eq!((findings.kendall_tau, findings.regret), (Some(1.0), Some(0.0)));
        assert_eq!(findings.suspicions, [""; 0]);
        assert!(findings.by_baseline["bound"].max_abs > 0.0);
        assert!(findings.sentences[1].starts_with("The full model beats max(compute, copies)"));
    }

    #[test]
    fn errors_are_predicted_against_measured_and_signed() {
        // measured 25 % longer than predicted: 1/1.25 − 1 = −20 %
        let validation = summary(&results(&[1.25; 6]), "abc");
        assert!(validation.cases.iter().all(|case| (case.err_rel + 0.2).abs() < 1e-12));
        let summary = validation.summary.unwrap();
        assert!((summary.median_abs.unwrap() - 0.2).abs() < 1e-12 && summary.bias.unwrap() < 0.0);
        assert_eq!(validation.predictions_sha256.as_deref(), Some("abc"));
    }

    #[test]
    fn held_out_second_arm_and_synthetic_cases_stay_out_of_the_headline() {
        let mut all = results(&[1.0; 6]);
        for (place, result) in results(&[2.0; 3]).into_iter().enumerate() {
            let mut case = result.case.clone();
            match place {
                0 => case.held_out = true,
                1 => case.streams = CopyStreams::PerRequest,
                _ => case.dilation_s = 1e-4,
            }
            all.push(CaseResult { case, ..result });
        }
        let findings = findings(&all);
        assert_eq!(findings.headline.unwrap().max_abs, 0.0);
        assert_eq!(findings.held_out.as_ref().unwrap().1.median_abs, 0.5);
        assert_eq!(findings.synthetic.unwrap().n, 1);
        assert_eq!(findings.second_arm.unwrap().in_order.median_abs, 0.5);
        let arms: Vec<_> = summary(&all, "").cases.into_iter().filter_map(|case| case.arm).collect();
        assert_eq!(arms, [PER_REQUEST, SYNTHETIC]);
    }

    #[test]
    fn no_cases_give_nulls_and_meet_no_target() {
        let validation = summary(&[], "abc");
        let empty = ValidationSummary::default();
        assert_eq!(validation.summary, Some(empty));
        assert_eq!(crate::validation::enforce(&validation).unwrap_err().len(), 3);
        assert_eq!(findings(&[]).sentences.len(), 1);
    }

    #[test]
    fn impossible_times_accuse_the_harness() {
        let too_short = findings(&results(&[0.5, 1.0, 1.0, 1.0, 1.0, 1.0])).suspicions;
        assert!(too_short.len() == 1 && too_short[0].contains("a dependency is missing"), "{too_short:?}");
        let too_long = findings(&results(&[1.0, 1.0, 1.0, 1.0, 3.0, 1.0])).suspicions;
        assert!(too_long.len() == 1 && too_long[0].contains("serialised"), "{too_long:?}");
    }

    #[test]
    fn the_arm_is_nearer_to_the_order_that_predicts_it() {
        let model = testing::model();
        let case = testing::case(&model, &[1600, 1600, 1600, 1600], Rule::Mixed, 1);
        let mut result = testing::result(&case, 1.0);
        result.case.streams = CopyStreams::PerRequest;
        let ready_first = result.prediction.parts.ready_first_s;
        assert!(ready_first < result.prediction.step_s.full.get(), "the case must tell the two apart");
        assert_eq!(findings(&[result.clone()]).second_arm.unwrap().nearer, Some("in-order"));
        result.measured = crate::sample::Timing::of(&[ready_first]);
        assert_eq!(findings(&[result]).second_arm.unwrap().nearer, Some("ready-first"));
    }

    #[test]
    fn stalls_are_compared_layer_by_layer() {
        let mut result = testing::result(&testing::case(&testing::model(), &[320], Rule::None, 1), 1.0);
        // Eight layers of 1 ms without a gap but 3 µs before the third.
        let gap = |layer: u32| if layer >= 2 { 3e-6 } else { 0.0 };
        let layers_s = (0..8).map(|layer| {
            let start = f64::from(layer) * 1e-3 + gap(layer);
            (start, start + 1e-3)
        });
        result.instrumented =
            Some(Instrumented { overhead: 0.0, layers_s: layers_s.collect(), copies_s: Vec::new() });
        let stalls = findings(&[result]).stalls.unwrap();
        assert!(stalls.median_s < 1e-12 && (stalls.worst.0 - 3e-6).abs() < 1e-12);
        assert_eq!(stalls.worst.2, 3);
    }

    #[test]
    fn every_target_ratio_has_its_band_and_bands_sort_by_size() {
        let bands: Vec<_> = [0.0, 0.25, 0.8, 1.0, 1.25, 2.0, 5.0].into_iter().map(rho_band).collect();
        assert!(bands.is_sorted() && bands.windows(2).all(|pair| pair[0] != pair[1]), "{bands:?}");
        assert_eq!(rho_band(0.5), rho_band(0.25));
    }
}
