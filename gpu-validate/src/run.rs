//! A run from the first experiment to the report: which groups, in which order, and what is on disk after each.
//!
//! Correctness first, then what everything else rests on (link, memory, kernels), then whole steps; predictions only when
//! all fits are done, and validation last but for the drift anchors, with time kept free for it. A group that fails is
//! named and the others go on; what they found is kept.

use orbitflow_sim::cost::{HardwareProfile, TARGET_MEDIAN, TARGET_P95, TARGET_REGRET};
use serde::Serialize;

use crate::checks;
use crate::device::DeviceError;
use crate::experiments::{self, Anchor, kv_layouts, link_peak, matrix_products, memory_rates, size_curve};
use crate::fit::FitSettings;
use crate::folder::Folder;
use crate::full_step;
use crate::profile::{self, FitReport};
use crate::report;
use crate::results::{Dropped, Gap, Measurements};
use crate::session::Session;
use crate::validation::{self, Predictions, ProfileCosts};

/// Share of the time that validation and the drift anchors must be left.
const KEPT_FOR_VALIDATION: f64 = 0.2;

/// Who runs it and how.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// The command line.
    pub argv: Vec<String>,
    /// When it began, RFC 3339 in UTC.
    pub utc: String,
    /// Of random data and orders.
    pub seed: u64,
    /// Whether it is the short run.
    pub quick: bool,
}

/// What was measured, and the profile made from it.
#[derive(Debug)]
pub struct Measured {
    measurements: Measurements,
    profile: HardwareProfile,
    fits: Option<FitReport>,
    failed_groups: Vec<String>,
}

impl Measured {
    /// A profile from elsewhere; nothing was measured in this run.
    pub fn given(profile: HardwareProfile) -> Self {
        Measured { measurements: Measurements::default(), profile, fits: None, failed_groups: Vec::new() }
    }
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conclusion {
    /// The answer, one line each, for stdout.
    pub lines: Vec<String>,
    /// Groups that ended with an error.
    pub failed_groups: Vec<String>,
    /// Correctness checks that failed.
    pub failed_checks: Vec<String>,
    /// Accuracy targets that were missed or could not be judged; empty when nothing was validated.
    pub missed_targets: Vec<String>,
    /// Points that the deadline took.
    pub out_of_time: usize,
}

impl Conclusion {
    /// The process's exit code: the gravest of what happened.
    pub fn exit_code(&self, enforce: bool) -> u8 {
        if !self.failed_groups.is_empty() {
            1
        } else if !self.failed_checks.is_empty() {
            4
        } else if enforce && !self.missed_targets.is_empty() {
            5
        } else if self.out_of_time > 0 {
            6
        } else {
            0
        }
    }

    /// What went wrong, one line each, for stderr.
    pub fn problems(&self, enforce: bool) -> Vec<String> {
        let mut problems: Vec<String> =
            self.failed_groups.iter().map(|group| format!("failed: {group}")).collect();
        problems.extend(self.failed_checks.iter().map(|check| format!("correctness check failed: {check}")));
        if enforce {
            problems.extend(self.missed_targets.iter().map(|target| format!("target missed: {target}")));
        }
        if self.out_of_time > 0 {
            let points = self.out_of_time;
            problems.push(format!("deadline: {points} points or groups were left out; the rest is kept"));
        }
        problems
    }
}

/// The rows of one group, as they stand in `groups/`.
#[derive(Serialize)]
struct GroupFile<'a, R> {
    experiment: &'a str,
    backend: &'a str,
    /// What must be said of it before any number.
    disclaimer: Option<&'a str>,
    /// What the rows' sizes and rates count.
    convention: &'a str,
    points: &'a [R],
    dropped: &'a [Dropped],
    /// Why the group ended early.
    error: Option<String>,
}

/// One run's groups, as they go to disk.
struct Groups<'f> {
    folder: &'f Folder,
    failed: Vec<String>,
    dropped: Vec<Dropped>,
}

impl Groups<'_> {
    /// Runs one group, keeps its samples and rows on disk, and answers the rows; none if it failed.
    fn run<R: Serialize>(
        &mut self,
        session: &mut Session<'_>,
        experiment: &str,
        convention: &str,
        body: impl FnOnce(&mut Session<'_>) -> Result<Vec<R>, DeviceError>,
    ) -> anyhow::Result<Vec<R>> {
        let outcome = body(session);
        let freed = session.device.free_all();
        let dropped = std::mem::take(&mut session.dropped);
        self.folder.append_samples(&std::mem::take(&mut session.samples))?;
        let (rows, error) = match outcome.and_then(|rows| freed.map(|()| rows)) {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let backend = session.device.backend();
        let file = GroupFile {
            experiment,
            backend: backend.key(),
            disclaimer: backend.disclaimer(),
            convention,
            points: &rows,
            dropped: &dropped,
            error: error.clone(),
        };
        self.folder.save_json(&format!("groups/{experiment}.json"), &file)?;
        self.dropped.extend(dropped);
        self.failed.append(&mut session.failures);
        if let Some(error) = error {
            session.progress.note(&format!("{experiment}: failed: {error}"));
            self.failed.push(format!("{experiment}: {error}"));
        }
        Ok(rows)
    }
}

/// E0 to E9, E11 and E12: measures and fits. `environment.json` and each group's file are on disk when it returns; the
/// profile and the report are written by [`conclude`] or [`validate`].
///
/// # Errors
/// The folder cannot be written; not even the link could be measured.
pub fn measure(session: &mut Session<'_>, folder: &Folder, info: &RunInfo) -> anyhow::Result<Measured> {
    let whole = session.deadline;
    session.deadline = whole.keeping_s(KEPT_FOR_VALIDATION * session.scale.deadline_s);
    folder.save_json("environment.json", &environment(session))?;
    let mut groups = Groups { folder, failed: Vec::new(), dropped: Vec::new() };
    let run = &mut groups;
    let checks = run.run(session, "E11", "worst: relative error, or differing bytes", checks::checks)?;
    let first = anchors(session, "E12 first", &mut run.failed);
    let link = run.run(session, "E1", "bytes moved in the measured direction alone", link_peak)?;
    let memory =
        run.run(session, "E4", "copy: bytes read plus written; read, write: those alone", memory_rates)?;
    let launches = run.run(session, "E7", "no bytes", experiments::launches)?;
    let gemms = run.run(session, "E5", "no bytes: rows, out and inner give them", matrix_products)?;
    let attention =
        run.run(session, "E6", "kv_bytes: K and V of all context tokens, once", experiments::attention)?;
    let steps = run.run(session, "E9", "no bytes", full_step::full_step)?;
    let contention = run.run(
        session,
        "E8",
        "no bytes: times of the same work alone and together",
        experiments::contention,
    )?;
    let copies = run.run(session, "E2", "pieces × piece_bytes, one direction", size_curve)?;
    let layouts = run.run(session, "E3", "bytes of all pieces, host to device", kv_layouts)?;
    let last = anchors(session, "E12 last", &mut run.failed);
    let drift = run.run(session, "E12", "no bytes", |_| Ok(experiments::drift(&first, &last)))?;
    session.deadline = whole;
    let measurements = Measurements {
        link,
        copies,
        layouts,
        memory,
        gemms,
        attention,
        launches,
        contention,
        steps,
        checks,
        drift,
        dropped: groups.dropped,
    };
    let (profile, fits) = assemble(session, info, &measurements)?;
    Ok(Measured { measurements, profile, fits: Some(fits), failed_groups: groups.failed })
}

/// Predicts, writes the predictions with their hash, measures decode steps, compares, and writes profile and report.
///
/// # Errors
/// A profile that says nothing of the models to validate; the folder cannot be written; the device failed.
pub fn validate(
    session: &mut Session<'_>,
    folder: &Folder,
    info: &RunInfo,
    mut measured: Measured,
) -> anyhow::Result<Conclusion> {
    let facts = session.device.facts().clone();
    let costs = ProfileCosts { profile: &measured.profile };
    let (cases, without) = validation::cases(session.scale, &facts, &costs);
    let predictions = Predictions::of(&cases, &costs, &validation::profile_sha256(&measured.profile))?;
    let written = predictions.write(folder.path())?;
    session.progress.note(&format!("{} predictions written, SHA-256 {}", cases.len(), written.sha256()));
    session.dropped.extend(without);
    // Whatever happens to the steps, the profile they were predicted from is on disk.
    folder.save_json("profile.json", &measured.profile)?;
    let results = validation::run(session, &cases, &written);
    if let Err(error) = session.device.free_all() {
        measured.failed_groups.push(format!("E10: {error}"));
    }
    measured.failed_groups.append(&mut session.failures);
    folder.append_samples(&std::mem::take(&mut session.samples))?;
    measured.measurements.dropped.append(&mut session.dropped);
    measured.profile.device.samples.append(&mut session.states);
    let results = results?;
    let findings = validation::findings(&results);
    folder.save_json("groups/E10.json", &findings)?;
    let summary = validation::summary(&results, written.sha256());
    let reasons = validation::reasons_for_nulls(&summary);
    profile::attach_validation(&mut measured.profile, summary, &reasons);
    write(session, folder, info, &measured, &findings.sentences)
}

/// Writes profile and report of a run without validation.
///
/// # Errors
/// The folder cannot be written.
pub fn conclude(
    session: &mut Session<'_>,
    folder: &Folder,
    info: &RunInfo,
    measured: Measured,
) -> anyhow::Result<Conclusion> {
    write(session, folder, info, &measured, &[])
}

fn write(
    session: &mut Session<'_>,
    folder: &Folder,
    info: &RunInfo,
    measured: &Measured,
    findings: &[String],
) -> anyhow::Result<Conclusion> {
    let backend = session.device.backend();
    let mut said = session.device.facts().warnings.clone();
    said.extend(measured.fits.iter().flat_map(|fits| fits.warnings.clone()));
    let warnings = report::warnings(&measured.profile, &measured.measurements, &said);
    let fits = measured.fits.as_ref().map(FitReport::lines).unwrap_or_default();
    let subject = report::Subject {
        profile: &measured.profile,
        measurements: &measured.measurements,
        backend,
        quick: info.quick,
        warnings: &warnings,
        findings,
        fits: &fits,
    };
    for (name, text) in report::files(&subject).map_err(anyhow::Error::msg)? {
        folder.save(&name, text.as_bytes())?;
    }
    if let Some(fits) = &measured.fits {
        folder.save_json("fits.json", fits)?;
    }
    let profile = folder.save_json("profile.json", &measured.profile)?;
    let mut conclusion = conclusion(measured);
    if let Some(disclaimer) = backend.disclaimer() {
        conclusion.lines.insert(0, disclaimer.to_owned());
    }
    conclusion.lines.push(format!("profile: {}", profile.display()));
    conclusion.lines.push(format!("report: {}", folder.path().join("report.md").display()));
    Ok(conclusion)
}

/// The drift anchors: link, memory and a whole step; a failure is named and the run goes on without.
fn anchors(session: &mut Session<'_>, pass: &str, failed: &mut Vec<String>) -> Vec<Anchor> {
    let mut anchors = Vec::new();
    match experiments::anchors(session, pass, Vec::new()) {
        Ok(timed) => anchors.extend(timed),
        Err(error) => failed.push(format!("{pass}: {error}")),
    }
    match full_step::anchor(session) {
        Ok(timing) => anchors.push(Anchor { name: "step".to_owned(), timing }),
        Err(error) => failed.push(format!("{pass}: step: {error}")),
    }
    anchors
}

/// What came out, for stdout and the exit code.
fn conclusion(measured: &Measured) -> Conclusion {
    let profile = &measured.profile;
    let failed = profile.checks.iter().filter(|check| !check.waived && !check.pass);
    let mut lines = vec![
        format!("{}: {}", profile.device.name, profile.standing()),
        format!("host to device: {:.2} GB/s", profile.link.h2d.bw_inf_bytes_per_s.get() / 1e9),
    ];
    let mut missed_targets = Vec::new();
    if let Some(validation) = &profile.validation {
        let summary = validation.summary.clone().unwrap_or_default();
        let shown = |value: Option<f64>| {
            value.map_or("not known".to_owned(), |value| format!("{:.1} %", 100.0 * value))
        };
        lines.push(format!(
            "predicted steps, {} cases: median |error| {} (target {:.0} %), P95 {} (target {:.0} %), regret {} (target {:.0} %)",
            validation.cases.len(),
            shown(summary.median_abs),
            100.0 * TARGET_MEDIAN,
            shown(summary.p95_abs),
            100.0 * TARGET_P95,
            shown(summary.regret),
            100.0 * TARGET_REGRET
        ));
        missed_targets = validation::enforce(validation).err().unwrap_or_default();
    }
    Conclusion {
        lines,
        failed_groups: measured.failed_groups.clone(),
        failed_checks: failed.map(|check| check.name.clone()).collect(),
        missed_targets,
        out_of_time: measured
            .measurements
            .dropped
            .iter()
            .filter(|dropped| dropped.gap == Gap::OutOfTime)
            .count(),
    }
}

/// E0: what was there before anything ran.
#[derive(Serialize)]
struct Environment {
    backend: &'static str,
    disclaimer: Option<&'static str>,
    device: orbitflow_sim::cost::profile::Device,
    host: orbitflow_sim::cost::profile::Host,
    memory_bytes: u64,
    host_memory_bytes: u64,
    missing: Vec<(String, String)>,
    warnings: Vec<String>,
}

fn environment(session: &Session<'_>) -> Environment {
    let facts = session.device.facts().clone();
    let backend = session.device.backend();
    Environment {
        backend: backend.key(),
        disclaimer: backend.disclaimer(),
        device: facts.device,
        host: facts.host,
        memory_bytes: facts.memory_bytes,
        host_memory_bytes: facts.host_memory_bytes,
        missing: facts.missing,
        warnings: facts.warnings,
    }
}

fn assemble(
    session: &mut Session<'_>,
    info: &RunInfo,
    measurements: &Measurements,
) -> Result<(HardwareProfile, FitReport), profile::ProfileError> {
    let run = profile::RunInfo {
        backend: session.device.backend(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: option_env!("GPU_VALIDATE_COMMIT").map(str::to_owned),
        utc: Some(info.utc.clone()),
        duration_s: session.deadline.elapsed_s(),
        seed: info.seed,
        argv: info.argv.clone(),
        curves: Some("groups/E2.json".to_owned()),
        samples: std::mem::take(&mut session.states),
        resamples: FitSettings::RESAMPLES,
    };
    profile::assemble(measurements, session.device.facts(), session.scale, &run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_gravest_thing() {
        let mut conclusion = Conclusion { out_of_time: 1, ..Conclusion::default() };
        assert_eq!(conclusion.exit_code(true), 6);
        conclusion.missed_targets.push("median".to_owned());
        assert_eq!((conclusion.exit_code(true), conclusion.exit_code(false)), (5, 6));
        conclusion.failed_checks.push("attention_fp64".to_owned());
        assert_eq!(conclusion.exit_code(true), 4);
        conclusion.failed_groups.push("E2: it broke".to_owned());
        assert_eq!(conclusion.exit_code(true), 1);
        assert_eq!(conclusion.problems(true).len(), 4);
        assert_eq!(Conclusion::default().exit_code(true), 0);
    }
}
