//! The sections that are taken over rather than fitted: provenance, memory rates, contention, checks, drift.

use std::collections::BTreeMap;

use orbitflow_sim::cost::profile::{Check, Contention, Drift, Hbm, Host, Positive, Provenance};

use super::gaps::Gaps;
use super::link::busy_factor;
use super::{FitReport, Inputs};
use crate::device::Direction;
use crate::results::{ContentionPoint, Gap, MemoryPoint, MemoryUse};

/// An anchor that moved by more than this is warned of.
const DRIFT_LIMIT: f64 = 0.05;
/// Dropped points named per experiment; the rest are counted.
const NAMED_POINTS: usize = 3;

pub(super) fn provenance(inputs: &Inputs, gaps: &mut Gaps) -> Provenance {
    let run = inputs.run;
    if run.git_commit.is_none() {
        gaps.say("provenance.git_commit", "this build does not know its commit");
    }
    if run.utc.is_none() {
        gaps.say("provenance.utc", "the run gave no date");
    }
    let what = format!(
        "Measured by gpu-validate {} on {}: link, memory, products, attention and whole steps of {}, fitted on relative \
         error; own kernels and cuBLAS, no serving engine",
        run.tool_version, inputs.facts.device.name, inputs.scale.fitted.name
    );
    let summary = match run.backend.disclaimer() {
        Some(disclaimer) => format!("{disclaimer}. {what}."),
        None => format!("{what}."),
    };
    let host: Host = inputs.facts.host.clone();
    Provenance {
        summary,
        tool_version: Some(run.tool_version.clone()),
        git_commit: run.git_commit.clone(),
        utc: run.utc.clone(),
        duration_s: gaps.number(
            "provenance.duration_s",
            run.duration_s,
            "the run took no time that was measured",
        ),
        seed: Some(run.seed),
        argv: run.argv.clone(),
        dropped_groups: dropped(inputs),
        host: Some(host),
    }
}

/// One line per experiment for what the deadline took; what is not possible here is not among them.
fn dropped(inputs: &Inputs) -> Vec<String> {
    let mut by_experiment: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for dropped in inputs.measurements.dropped.iter().filter(|dropped| dropped.gap == Gap::OutOfTime) {
        by_experiment.entry(&dropped.experiment).or_default().push(&dropped.what);
    }
    let line = |(experiment, points): (&str, Vec<&str>)| {
        let named = points[..points.len().min(NAMED_POINTS)].join(", ");
        match points.len().saturating_sub(NAMED_POINTS) {
            0 => format!("{experiment}: {named}"),
            more => format!("{experiment}: {named} and {more} more"),
        }
    };
    by_experiment.into_iter().map(line).collect()
}

pub(super) fn memory_rates(inputs: &Inputs, gaps: &mut Gaps) -> Option<Hbm> {
    let rate = |usage| best_memory_rate(inputs, usage).and_then(|rate| Positive::new(rate).ok());
    let hbm = Hbm { copy_rw_bytes_per_s: rate(MemoryUse::Copy), read_bytes_per_s: rate(MemoryUse::Read) };
    gaps.say("hbm", &inputs.why_absent("E4"));
    (hbm.copy_rw_bytes_per_s.is_some() || hbm.read_bytes_per_s.is_some()).then_some(hbm)
}

/// The best rate of one use of GPU memory, in bytes per second.
pub(super) fn best_memory_rate(inputs: &Inputs, usage: MemoryUse) -> Option<f64> {
    let points = inputs.measurements.memory.iter().filter(|point| point.usage == usage);
    points.map(MemoryPoint::bytes_per_s).filter(|rate| rate.is_finite() && *rate > 0.0).max_by(f64::total_cmp)
}

/// Factors of E8 as `slowed|by`, and of E1 for the two directions. As measured: one below 1 is noise, and is said.
pub(super) fn contention(inputs: &Inputs, gaps: &mut Gaps, report: &mut FitReport) -> Option<Contention> {
    let mut contention = Contention::default();
    for point in &inputs.measurements.contention {
        let (compute, copy) = (point.background.key(), point.traffic.key());
        let factors = [
            (
                &mut contention.compute_slowdown,
                format!("{compute}|{copy}"),
                ContentionPoint::compute_slowdown(point),
            ),
            (
                &mut contention.copy_slowdown,
                format!("{copy}|{compute}"),
                ContentionPoint::copy_slowdown(point),
            ),
        ];
        for (factors, pair, value) in factors {
            match Positive::new(value) {
                Ok(factor) => {
                    factors.insert(pair, factor);
                }
                Err(bad) => report.warn(format!("contention `{pair}`: {bad}; left out")),
            }
        }
    }
    for (direction, pair) in [(Direction::H2d, "h2d|d2h"), (Direction::D2h, "d2h|h2d")] {
        if let Some(factor) = busy_factor(inputs, direction).and_then(|rate| Positive::new(1.0 / rate).ok()) {
            contention.copy_slowdown.insert(pair.to_owned(), factor);
        }
    }
    let below: Vec<&str> = contention
        .compute_slowdown
        .iter()
        .chain(&contention.copy_slowdown)
        .filter(|(_, factor)| factor.get() < 1.0)
        .map(|(pair, _)| pair.as_str())
        .collect();
    if !below.is_empty() {
        report.note(format!("contention: below 1, noise of the measurement: {}", below.join(", ")));
    }
    if contention == Contention::default() {
        gaps.say("contention", &inputs.why_absent("E8"));
        return None;
    }
    Some(contention)
}

/// Checks of E11; a waived one is neither passed nor failed.
pub(super) fn checks(inputs: &Inputs, gaps: &mut Gaps) -> Vec<Check> {
    let check = |(place, point): (usize, &crate::results::CheckPoint)| {
        let worst_rel = point.worst.filter(|worst| worst.is_finite());
        let bound = Some(point.bound).filter(|bound| bound.is_finite());
        let note = point.note.clone();
        let why = match (point.pass, point.worst) {
            (None, _) => note.clone().unwrap_or_else(|| "waived".to_owned()),
            (Some(_), Some(_)) => "not a finite number".to_owned(),
            (Some(_), None) => "the check does not say".to_owned(),
        };
        for (key, value) in [("worst_rel", worst_rel), ("bound", bound)] {
            if value.is_none() {
                gaps.say(&format!("checks[{place}].{key}"), &why);
            }
        }
        Check {
            name: point.name.clone(),
            worst_rel,
            bound,
            pass: point.pass.unwrap_or(false),
            waived: point.pass.is_none(),
            note,
        }
    };
    inputs.measurements.checks.iter().enumerate().map(check).collect()
}

/// How far the anchors moved: the link's rate and the step's time in the profile, all of them in the report.
pub(super) fn drift(inputs: &Inputs, gaps: &mut Gaps, report: &mut FitReport) -> Option<Drift> {
    let mut drift = Drift::default();
    for point in &inputs.measurements.drift {
        let slower = point.relative();
        if !slower.is_finite() || slower <= -1.0 {
            report.warn(format!("drift of {}: no usable times", point.anchor));
            continue;
        }
        let line = format!("drift: {} takes {:+.2} % longer at the end", point.anchor, 100.0 * slower);
        if slower.abs() > DRIFT_LIMIT {
            report.warn(line)
        } else {
            report.note(line)
        }
        match point.anchor.as_str() {
            // Rates are the inverse of times.
            "h2d" => drift.h2d_rel = Some(1.0 / (1.0 + slower) - 1.0),
            "step" => drift.step_rel = Some(slower),
            _ => {}
        }
    }
    gaps.say("drift", &inputs.why_absent("E12"));
    (drift != Drift::default()).then_some(drift)
}
