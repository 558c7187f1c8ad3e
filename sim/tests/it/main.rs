//! The integration tests: one binary, one module per subject.

mod cli_errors;
mod cli_step;
mod golden_plan;
mod golden_step;
mod pipeline_laws;
mod plots;
mod profiles;
mod real_traces;
mod scenarios;
mod traces;
