//! Tables and files from what the metrics counted.
//!
//! [`rows`] are the layouts that other programs read; [`policy_result`] and its neighbours fill them from an
//! [`Outcome`](crate::metrics::Outcome); [`OutputDir`] writes them so that a reader sees complete files or none,
//! [`load`] reads them back; [`table`] is what `compare` prints, [`diff`] what two results differ in. Knows nothing about how a run was made.

mod columns;
pub mod diff;
mod files;
mod from_outcome;
pub mod grid;
pub mod rows;
pub mod table;
#[cfg(test)]
mod tests;

pub use files::{OutputDir, ReportError, SavedResults, StepsPart, load, load_results};
pub use from_outcome::{
    policy_result, quantile_rows, request_rows, scoring_notes, state_rows, states_note, step_row,
    timeline_rows,
};
pub use table::{csv, json, text};

pub use crate::timeline::CHOICE as TIMELINE_CHOICE;
