//! Predicted against measured decode steps (E10; `gpu-measurement.md` §4.2): which cases, what the simulator says of
//! them, what the device did, and the verdict.
//!
//! ```text
//! HardwareProfile ──► costs ──► cases (ρ, placements, planner) ──► predict ──► predictions.json + .sha256 on disk
//!                                                                                    │ only then
//!                    findings, targets ◄── CaseResult ◄── run (decode::Rig) ◄────────┘
//! ```
//!
//! Architecture invariants: [`predict()`] and what it is made of import neither devices nor the rig (a test reads them), so no
//! measured step can reach a prediction; [`run()`] takes [`Written`] predictions, which only writing them to disk makes,
//! and reads them again afterwards. Step times come from `orbitflow_sim::pipeline`, costs from `orbitflow_sim::cost`.
//!
//! Knows nothing about CUDA, how a profile was fitted, or how a report looks.

mod cases;
mod costs;
mod findings;
mod groups;
mod placements;
mod predict;
mod predictions;
mod ranking;
mod run;
mod targets;
mod words;
mod workload;

#[cfg(test)]
mod exactness;
#[cfg(test)]
mod testing;

pub use cases::cases;
pub use costs::{CostSource, NoCosts, ProfileCosts, StepCost};
pub use findings::{Errors, Findings, SecondArm, StallErrors, WorkloadFindings, findings, rho_band, summary};
pub use placements::Rule;
pub use predict::predict;
pub use predictions::{
    COPY_ORDER, PREDICTIONS_FILE, PredictedCase, Predictions, PredictionsError, Written, profile_sha256,
};
pub use ranking::{Ranked, kendall_tau, regret};
pub use run::{RunError, WARM_UPS, run};
pub use targets::enforce;
pub use words::reasons_for_nulls;
