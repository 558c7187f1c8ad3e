//! The integration tests: one binary, one module per subject.

mod cli_errors;
mod cli_step;
mod engine;
mod feedback;
mod golden_plan;
mod golden_step;
mod laws;
mod next_layer;
mod pipeline_laws;
mod plots;
mod profiles;
mod random_scenarios;
mod real_traces;
mod scenario_errors;
mod scenarios;
mod servers;
mod traces;
