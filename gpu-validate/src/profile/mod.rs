//! From measured points to the hardware profile: fits them, names what is missing and why, and says who measured.
//!
//! [`assemble`] is the whole of it. Validation comes later and is put in by [`attach_validation`]: predictions must exist
//! before the first validation step runs. Knows no device and writes no file.
//!
//! Choices that the profile's reader should know: `link.h2d` and `link.d2h` are pinned memory, one asynchronous copy per
//! layer; every other way is in `link.fits`. The times of the held-out model are its products and attention alone; what a
//! layer and a step take beside them is the fitted model's, and no whole step of it is ever looked at by a fit.

mod attention;
mod compute;
mod datasheet;
mod gaps;
mod link;
mod prefill;
mod record;
mod report;

use orbitflow_sim::cost::HardwareProfile;
use orbitflow_sim::cost::profile::{
    Device as DeviceRecord, DeviceSample, LinkDirection, ProfileKind, SCHEMA, SCHEMA_VERSION, Validation,
};

use crate::device::{Backend, Facts};
use crate::fit::FitSettings;
use crate::results::Measurements;
use crate::scale::Scale;
use gaps::Gaps;
pub use report::{FitReport, FitSummary};

/// Why no profile can be made.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not even the rate of the link is known.
    #[error("no profile: E1 and E2 gave no usable host-to-device copy: {reason}; expected at least one")]
    NoLink {
        /// What became of them.
        reason: String,
    },
}

/// Who measured, when and how: what is known besides the numbers.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// What it ran on.
    pub backend: Backend,
    /// Version of this program.
    pub tool_version: String,
    /// Its git commit, where the build knows it.
    pub git_commit: Option<String>,
    /// When, RFC 3339 in UTC.
    pub utc: Option<String>,
    /// Seconds the measurement took.
    pub duration_s: f64,
    /// Seed of its random data; fits draw their resamples from it.
    pub seed: u64,
    /// Its command line.
    pub argv: Vec<String>,
    /// File of the whole link curves, beside the profile.
    pub curves: Option<String>,
    /// States of the device during the run.
    pub samples: Vec<DeviceSample>,
    /// Resamples per fit, [`FitSettings::RESAMPLES`] in a real run.
    pub resamples: u32,
}

impl RunInfo {
    fn settings(&self) -> FitSettings {
        FitSettings { seed: self.seed, resamples: self.resamples }
    }
}

/// The most gaps of one experiment that a reason names.
const MOST_REASONS: usize = 3;

/// What the parts of the profile are made from.
struct Inputs<'a> {
    measurements: &'a Measurements,
    facts: &'a Facts,
    scale: &'a Scale,
    run: &'a RunInfo,
}

impl Inputs<'_> {
    /// Why there is nothing of `experiment`: what was dropped of it, or that it has no such point.
    fn why_absent(&self, experiment: &str) -> String {
        let dropped = || self.measurements.dropped.iter().filter(|dropped| dropped.experiment == experiment);
        let named: Vec<String> =
            dropped().take(MOST_REASONS).map(|gap| format!("{}: {}", gap.what, gap.reason)).collect();
        if named.is_empty() {
            return format!("{experiment} has no such point");
        }
        match dropped().count().saturating_sub(MOST_REASONS) {
            0 => format!("{experiment}: {}", named.join("; ")),
            more => format!("{experiment}: {} (and {more} more)", named.join("; ")),
        }
    }
}

/// Fits everything that was measured and makes the profile. It passes `orbitflow_sim::cost::check` unless `facts` or the
/// measurements are not plausible; `validation` is still missing.
///
/// # Errors
/// Not even the rate of the link is known.
pub fn assemble(
    measurements: &Measurements,
    facts: &Facts,
    scale: &Scale,
    run: &RunInfo,
) -> Result<(HardwareProfile, FitReport), ProfileError> {
    let inputs = Inputs { measurements, facts, scale, run };
    let (mut gaps, mut report) = (Gaps::default(), FitReport::default());
    let link = link::of(&inputs, &mut gaps, &mut report)?;
    let hbm = record::memory_rates(&inputs, &mut gaps);
    let compute = compute::of(&inputs, &mut gaps, &mut report);
    let prefill = prefill::of(&inputs, &mut gaps, &mut report);
    let contention = record::contention(&inputs, &mut gaps, &mut report);
    gaps.say("validation", "not validated in this run");
    let mut samples = facts.device.samples.clone();
    samples.extend(run.samples.iter().cloned());
    let mut profile = HardwareProfile {
        schema: SCHEMA.to_owned(),
        schema_version: SCHEMA_VERSION,
        kind: kind(run.backend),
        backend: Some(run.backend.key().to_owned()),
        provenance: record::provenance(&inputs, &mut gaps),
        device: DeviceRecord { samples, ..facts.device.clone() },
        link,
        hbm,
        compute,
        prefill,
        contention,
        all_reduce: None,
        validation: None,
        checks: record::checks(&inputs, &mut gaps),
        drift: record::drift(&inputs, &mut gaps, &mut report),
        missing: std::collections::BTreeMap::new(),
    };
    for (path, reason) in &facts.missing {
        gaps.say(path, reason);
    }
    gaps.finish(&mut profile, run.backend);
    Ok((profile, report))
}

/// Puts a validation into a profile. `reasons`: why something within it is null, by key path
/// (`validation.summary.heldout`).
pub fn attach_validation(
    profile: &mut HardwareProfile,
    validation: Validation,
    reasons: &[(String, String)],
) {
    profile.missing.retain(|path, _| path != "validation" && !path.starts_with("validation."));
    profile.validation = Some(validation);
    for (path, reason) in reasons {
        profile.say_missing(path, reason);
    }
    gaps::forget_what_is_there(profile);
}

/// The profile with `h2d` and `d2h` as its only link lines: what a prediction of another way of copying runs on. Passes
/// `orbitflow_sim::cost::check` if `profile` does.
pub fn with_link_lines(profile: &HardwareProfile, h2d: LinkDirection, d2h: LinkDirection) -> HardwareProfile {
    let mut profile = profile.clone();
    let of_lines = ["link.h2d", "link.d2h", "link.fits"];
    profile.missing.retain(|path, _| !of_lines.iter().any(|line| path.starts_with(line)));
    profile.link.h2d = h2d;
    profile.link.d2h = Some(d2h);
    profile.link.fits.clear();
    for line in ["link.h2d", "link.d2h"] {
        profile.say_missing(line, "the profile that this line is from says why");
    }
    gaps::forget_what_is_there(&mut profile);
    profile
}

/// Only what a GPU gave is called measured.
fn kind(backend: Backend) -> ProfileKind {
    match backend {
        Backend::Cuda => ProfileKind::Measured,
        Backend::Host | Backend::VirtualTime => ProfileKind::HostEmulation,
    }
}

#[cfg(test)]
mod tests;
