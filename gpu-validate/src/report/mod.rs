//! `report.md` and its figures: what was measured, how far it can be trusted, what it may be used for.
//!
//! Knows the profile and the rows of the results; no device, no fit code. Every header of a run without a GPU carries
//! the backend's disclaimer.

mod chart;
mod figures;
mod tables;
mod warnings;

use orbitflow_sim::cost::HardwareProfile;

use crate::device::Backend;
use crate::results::Measurements;

pub use warnings::warnings;

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The profile, with validation and checks where there were any.
    pub profile: &'a HardwareProfile,
    /// The rows it was made from; those of a validation alone are empty.
    pub measurements: &'a Measurements,
    /// What ran it.
    pub backend: Backend,
    /// Whether it was the short run.
    pub quick: bool,
    /// What a reader must know: see [`warnings`].
    pub warnings: &'a [String],
    /// What the validation comes to, in sentences; empty if there was none.
    pub findings: &'a [String],
    /// One line per fit, and what the fits assumed; empty if nothing was fitted.
    pub fits: &'a [String],
}

/// A file of the report: name within the run's folder, and text.
pub type File = (String, String);

/// Every file of the report: `report.md` and `plots/*.svg`.
///
/// # Errors
/// What the drawing backend said.
pub fn files(subject: &Subject<'_>) -> Result<Vec<File>, String> {
    let profile = subject.profile;
    let notes = figure_notes(subject);
    let cases = profile.validation.as_ref().map(|validation| validation.cases.as_slice()).unwrap_or_default();
    let mut charts = Vec::new();
    if !subject.measurements.copies.is_empty() {
        charts.push(("size_curves", figures::size_curves(subject.measurements, profile, &notes)));
    }
    if !subject.measurements.attention.is_empty() {
        charts.push(("attention", figures::attention(subject.measurements, profile, &notes)));
    }
    if !cases.is_empty() {
        charts.push(("predicted", figures::predicted(cases, profile, &notes)));
        charts.push(("error_by_rho", figures::error_by_rho(cases, profile, &notes)));
    }
    let names: Vec<&str> = charts.iter().map(|(name, _)| *name).collect();
    let mut files = vec![("report.md".to_owned(), tables::markdown(subject, &names))];
    for (name, chart) in charts {
        files.push((format!("plots/{name}.svg"), chart.draw()?));
    }
    Ok(files)
}

/// What stands below every figure: what it is, and the disclaimer.
fn figure_notes(subject: &Subject<'_>) -> Vec<String> {
    let profile = subject.profile;
    let mut notes: Vec<String> =
        subject.backend.disclaimer().map(|line| format!("{}.", capital(line))).into_iter().collect();
    let run = if subject.quick { "quick run" } else { "full run" };
    let when = profile.provenance.utc.as_deref().unwrap_or("time not recorded");
    let version = profile.provenance.tool_version.as_deref().unwrap_or("?");
    notes.push(format!("gpu-validate {version}, {run}, {when}. Numbers: {}.", profile.standing()));
    notes
}

/// The line with its first letter large.
fn capital(line: &str) -> String {
    let mut letters = line.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
