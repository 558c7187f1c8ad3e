//! What a profile must satisfy before the simulator runs on it, and before its numbers may be called measured.
//!
//! Types already refuse zero, negative and non-finite numbers; this file looks at what types cannot see: units that
//! are off by powers of ten, nulls without a reason, a kind that the contents do not bear out.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::Contention;
use super::compute::BatchTable;
use super::profile::{
    Check, HardwareProfile, LinkDirection, ModelShape, ProfileKind, SCHEMA, SCHEMA_VERSION,
};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Usable, but a reader must know.
    Warning,
    /// The profile is not usable.
    Failure,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// Key path, value, what was expected; for a pass, what was looked at.
    pub text: String,
}

/// Least and most of a number whose key ends in a unit, in that unit. The first suffix that fits counts.
const PLAUSIBLE: [(&str, f64, f64); 7] = [
    // A mobile SoC's flash to a rack of HBM.
    ("bytes_per_s", 1e6, 1e15),
    ("flops_per_s", 1e9, 1e19),
    ("_s_per_token", 1e-12, 1e-2),
    ("_s_per_desc", 1e-10, 1e-1),
    ("mem_bytes", 1e8, 1e15),
    ("memory_bytes", 1e8, 1e15),
    // A tenth of a nanosecond to an hour.
    ("_s", 1e-10, 3600.0),
];

/// Errors that a validated profile should stay below: targets of `gpu-measurement.md` §4.2.
pub const TARGET_MEDIAN: f64 = 0.05;
/// Most that the 95th percentile of a profile's step errors should be (issue 3; `gpu-measurement.md` §4.2).
pub const TARGET_P95: f64 = 0.10;
/// Most that choosing the predicted best placement should cost (issue 3; `gpu-measurement.md` §4.2).
pub const TARGET_REGRET: f64 = 0.02;
/// A contention factor outside of these is more likely a broken measurement than hardware.
const LIKELY_SLOWDOWNS: RangeInclusive<f64> = 0.5..=20.0;
/// The most an anchor may move during a run before it must be said.
const DRIFT_LIMIT: f64 = 0.05;

/// Runs every check; each gives at least one finding.
pub fn check(profile: &HardwareProfile) -> Vec<Finding> {
    let value = serde_json::to_value(profile).expect("Invariant: a profile is plain data");
    let mut findings = Findings(Vec::new());
    findings.group("schema", "name and version", |f| schema(profile, f));
    findings.group("units", "every number is plausible in its unit", |f| units(&value, "", f));
    findings.group("missing", "every null has a reason", |f| missing(profile, &value, f));
    findings.group("kind", "the contents bear out the kind", |f| kind(profile, f));
    findings.group("compute", "decode step times", |f| compute(profile, f));
    findings.group("link", "rates and knees agree", |f| link(profile, f));
    findings.group("contention", "pairs and factors are plausible", |f| contention(profile, f));
    findings.group("prefill", "tables are in order", |f| prefill(profile, f));
    findings.group("own checks", "the measuring run's checks", |f| own_checks(profile, f));
    findings.group("validation", "errors and drift within the targets", |f| validation(profile, f));
    findings.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn group(&mut self, check: &'static str, passed: &str, run: impl FnOnce(&mut Group)) {
        let mut group = Group { check, findings: Vec::new() };
        run(&mut group);
        if group.findings.is_empty() {
            group.add(Verdict::Pass, passed.to_owned());
        }
        self.0.append(&mut group.findings);
    }
}

struct Group {
    check: &'static str,
    findings: Vec<Finding>,
}

impl Group {
    fn add(&mut self, verdict: Verdict, text: String) {
        self.findings.push(Finding { check: self.check, verdict, text });
    }

    fn fail(&mut self, text: String) {
        self.add(Verdict::Failure, text);
    }

    fn warn(&mut self, text: String) {
        self.add(Verdict::Warning, text);
    }
}

fn schema(profile: &HardwareProfile, found: &mut Group) {
    if profile.schema != SCHEMA || profile.schema_version != SCHEMA_VERSION {
        let (schema, version) = (&profile.schema, profile.schema_version);
        found.fail(format!(
            "schema: `{schema}` version {version}: expected `{SCHEMA}` version {SCHEMA_VERSION}"
        ));
    }
}

/// Calls `visit` for every number and null below `value`, with its path and the key that names its unit.
fn leaves(value: &Value, path: &str, unit_key: &str, visit: &mut impl FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let inner_path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                // `layer_weights_s_by_batch` and `s_by_prompt_tokens` name the unit of all their entries.
                let by_table = unit_key.ends_with("_s") && path.contains("s_by_");
                let key = key.split_once("s_by_").map_or(key.as_str(), |_| "table_s");
                leaves(inner, &inner_path, if by_table { unit_key } else { key }, visit);
            }
        }
        Value::Array(array) => {
            for (index, inner) in array.iter().enumerate() {
                leaves(inner, &format!("{path}[{index}]"), unit_key, visit);
            }
        }
        Value::Number(_) | Value::Null => visit(path, unit_key, value),
        Value::Bool(_) | Value::String(_) => {}
    }
}

fn units(value: &Value, path: &str, found: &mut Group) {
    leaves(value, path, "", &mut |path, key, value| {
        let Some(number) = value.as_f64() else { return };
        let Some((unit, least, most)) = PLAUSIBLE.iter().find(|(suffix, ..)| key.ends_with(suffix)) else {
            return;
        };
        // Only counts and clocks can be 0 here; measured numbers are `Positive`.
        if number != 0.0 && !(*least..=*most).contains(&number) {
            let unit = unit.trim_start_matches('_').replace("_per_", "/");
            found.fail(format!(
                "{path}: {number} is not plausible: expected {least} to {most} ({unit}, SI units)"
            ));
        }
    });
}

fn missing(profile: &HardwareProfile, value: &Value, found: &mut Group) {
    let mut nulls = Vec::new();
    leaves(value, "", "", &mut |path, _, value| {
        if value.is_null() {
            nulls.push(path.to_owned());
        }
    });
    // The note of a waived check is the reason why it has no numbers.
    let waived = |null: &str| {
        let noted = |check: &Check| check.waived && check.note.is_some();
        let mut checks = profile.checks.iter().enumerate();
        checks.any(|(index, check)| noted(check) && null.starts_with(&format!("checks[{index}].")))
    };
    let explained = |null: &str| profile.reason_for(null).is_some() || waived(null);
    let unexplained: Vec<&String> = nulls.iter().filter(|null| !explained(null)).collect();
    if let Some(first) = unexplained.first() {
        let others = match unexplained.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more: {})", some_of(&unexplained[1..])),
        };
        found.fail(format!(
            "{first}: null without a reason{others}: expected a number, or an entry in `missing` such as \
             \"{first}\": \"why\"; a reason for a section covers what is in it"
        ));
    }
    // It may be left out, so it needs no reason, but it may have one.
    if profile.all_reduce.is_none() {
        nulls.push("all_reduce".to_owned());
    }
    for (path, reason) in &profile.missing {
        let covers = |null: &String| {
            null.strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if reason.trim().is_empty() {
            found.fail(format!("missing.\"{path}\": empty: expected the reason why it is null"));
        } else if !nulls.iter().any(covers) {
            found.fail(format!("missing.\"{path}\": no null there: expected the key path of a null"));
        }
    }
}

fn some_of(paths: &[&String]) -> String {
    let mut shown: Vec<&str> = paths.iter().take(4).map(|path| path.as_str()).collect();
    if paths.len() > shown.len() {
        shown.push("…");
    }
    shown.join(", ")
}

fn kind(profile: &HardwareProfile, found: &mut Group) {
    let backend = profile.backend.as_deref();
    let mut need = |holds: bool, what: &str| {
        if !holds {
            found.fail(format!("kind: \"{}\": expected {what}", profile.kind.key()));
        }
    };
    match profile.kind {
        ProfileKind::Measured => {
            need(backend == Some("cuda"), "`backend` \"cuda\": only a GPU can be measured");
            need(profile.provenance.tool_version.is_some(), "`provenance.tool_version`");
            need(profile.provenance.utc.is_some(), "`provenance.utc`");
            need(!profile.compute.model_shapes.is_empty(), "at least one entry in `compute.model_shapes`");
        }
        ProfileKind::HostEmulation => {
            let plays_a_gpu = matches!(backend, Some("host" | "virtual-time"));
            need(plays_a_gpu, "`backend` \"host\" or \"virtual-time\"");
            need(!profile.compute.model_shapes.is_empty(), "at least one entry in `compute.model_shapes`");
        }
        ProfileKind::EngineFit => need(profile.compute.affine.is_some(), "`compute.affine`"),
        ProfileKind::Datasheet => need(profile.compute.datasheet.is_some(), "`compute.datasheet`"),
    }
    if profile.kind == ProfileKind::HostEmulation {
        found.warn("kind: host emulation says nothing about any GPU".to_owned());
    }
}

fn compute(profile: &HardwareProfile, found: &mut Group) {
    let compute = &profile.compute;
    if compute.model_shapes.is_empty() && compute.affine.is_none() && compute.datasheet.is_none() {
        found.fail("compute: expected one of `model_shapes`, `affine`, `datasheet`".to_owned());
    }
    for (index, shape) in compute.model_shapes.iter().enumerate() {
        model_shape(&format!("compute.model_shapes[{index}]"), shape, found);
        if compute.model_shapes[..index].iter().any(|other| other.model == shape.model) {
            found.fail(format!("compute.model_shapes[{index}].model: `{}` is there twice", shape.model));
        }
    }
}

fn model_shape(path: &str, shape: &ModelShape, found: &mut Group) {
    let most = BatchTable::MAX_BATCH;
    if shape.layer_weights_s_by_batch.is_empty() {
        found.fail(format!("{path}.layer_weights_s_by_batch: empty: expected at least one batch size"));
    }
    let tables = [
        ("layer_weights_s_by_batch", &shape.layer_weights_s_by_batch),
        ("lm_head_s_by_batch", &shape.lm_head_s_by_batch),
    ];
    for (name, table) in tables {
        for batch in table.keys().filter(|&&batch| batch == 0 || batch > most) {
            found.fail(format!("{path}.{name}: batch {batch} is refused: expected 1 to {most} requests"));
        }
    }
    if shape.lm_head_s_by_batch.is_empty() {
        found.warn(format!("{path}.lm_head_s_by_batch: empty: the output head is taken as free"));
    }
}

fn link(profile: &HardwareProfile, found: &mut Group) {
    direction("link.h2d", &profile.link.h2d, found);
    if let Some(d2h) = &profile.link.d2h {
        direction("link.d2h", d2h, found);
    }
    if let Some(pageable) = &profile.link.pageable {
        direction("link.pageable", pageable, found);
    }
    for (index, fit) in profile.link.fits.iter().enumerate() {
        direction(&format!("link.fits[{index}].line"), &fit.line, found);
    }
}

fn direction(path: &str, direction: &LinkDirection, found: &mut Group) {
    match (direction.bw_small_bytes_per_s, direction.knee_bytes) {
        (Some(small), Some(_)) if small > direction.bw_inf_bytes_per_s => found.fail(format!(
            "{path}.bw_small_bytes_per_s: {small} is above bw_inf_bytes_per_s {}: expected at most that",
            direction.bw_inf_bytes_per_s
        )),
        (Some(_), None) | (None, Some(_)) => found
            .fail(format!("{path}: expected both of `bw_small_bytes_per_s` and `knee_bytes`, or neither")),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn contention(profile: &HardwareProfile, found: &mut Group) {
    let Some(known) = &profile.contention else { return };
    let factors = [("compute_slowdown", &known.compute_slowdown), ("copy_slowdown", &known.copy_slowdown)];
    for (name, factors) in factors {
        for (pair, factor) in factors {
            let path = format!("contention.{name}.\"{pair}\"");
            let sides: Vec<&str> = pair.split('|').collect();
            if sides.len() != 2 || sides.iter().any(|side| side.trim().is_empty()) {
                found.fail(format!(
                    "{path}: expected a pair `slowed|by`, such as \"h2d|layer\" or \"layer|h2d\""
                ));
            }
            let factor = factor.get();
            if factor > Contention::MOST {
                found.fail(format!("{path}: {factor} is refused: expected at most {}", Contention::MOST));
            } else if !LIKELY_SLOWDOWNS.contains(&factor) {
                let (least, most) = (LIKELY_SLOWDOWNS.start(), LIKELY_SLOWDOWNS.end());
                found.warn(format!("{path}: {factor} is not likely: expected {least} to {most}"));
            }
        }
    }
}

fn prefill(profile: &HardwareProfile, found: &mut Group) {
    let Some(prefill) = &profile.prefill else {
        return found.warn("prefill: none: the simulator takes 0.5 × the datasheet's bf16 rate".to_owned());
    };
    for (index, shape) in prefill.model_shapes.iter().enumerate() {
        let path = format!("prefill.model_shapes[{index}].s_by_prompt_tokens");
        let table = &shape.s_by_prompt_tokens;
        if table.is_empty() || table.contains_key(&0) {
            found.fail(format!("{path}: expected at least one entry, each for 1 prompt token or more"));
        }
        if table.values().zip(table.values().skip(1)).any(|(short, long)| long < short) {
            found.warn(format!("{path}: a longer prompt takes less time than a shorter one"));
        }
    }
}

fn own_checks(profile: &HardwareProfile, found: &mut Group) {
    let real = profile.checks.iter().filter(|check| !check.waived).count();
    match (profile.kind, real, profile.checks.len()) {
        (ProfileKind::Measured, 0, 0) => {
            found.warn("checks: none: its numbers are not called measured".to_owned());
        }
        (ProfileKind::Measured, 0, _) => {
            found.warn("checks: all waived: its numbers are not called measured".to_owned());
        }
        (_, _, 0) => found.add(Verdict::Pass, "none: nothing was measured on a GPU".to_owned()),
        _ => {}
    }
    for check in &profile.checks {
        let note = check.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        if check.waived {
            found.warn(format!("checks: `{}` was waived{note}", check.name));
        } else if !check.pass {
            found.warn(format!("checks: `{}` failed{note}: its numbers are not called measured", check.name));
        }
    }
    if !profile.provenance.dropped_groups.is_empty() {
        found.warn(format!("dropped for lack of time: {}", profile.provenance.dropped_groups.join(", ")));
    }
}

fn validation(profile: &HardwareProfile, found: &mut Group) {
    let summary = profile.validation.as_ref().and_then(|validation| validation.summary.as_ref());
    let drift = profile.drift.as_ref();
    let measured = [
        ("validation.summary.median_abs", summary.and_then(|s| s.median_abs), TARGET_MEDIAN),
        ("validation.summary.p95_abs", summary.and_then(|s| s.p95_abs), TARGET_P95),
        ("validation.summary.regret", summary.and_then(|s| s.regret), TARGET_REGRET),
        ("drift.h2d_rel", drift.and_then(|d| d.h2d_rel), DRIFT_LIMIT),
        ("drift.step_rel", drift.and_then(|d| d.step_rel), DRIFT_LIMIT),
    ];
    for (path, share, target) in measured {
        if let Some(share) = share.filter(|share| share.abs() > target) {
            found.warn(format!("{path}: {:.1} %: expected at most {:.0} %", share * 100.0, target * 100.0));
        }
    }
    if summary.is_none() {
        found
            .warn("validation: none: how far simulated steps are from measured ones is not known".to_owned());
    }
}
