//! The integration tests: one binary, one module per subject.

mod cli_errors;
mod engine;
mod feedback;
mod golden_plan;
mod golden_step;
mod plots;
mod profiles;
mod random_scenarios;
mod real_traces;
mod scenarios;
mod servers;
mod traces;
