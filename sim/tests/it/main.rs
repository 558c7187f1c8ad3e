//! The integration tests: one binary, one module per subject.

mod architecture;
mod cli_errors;
mod cli_manners;
mod cli_step;
mod determinism;
mod engine;
mod feedback;
mod formats;
mod golden_plan;
mod golden_step;
mod laws;
mod next_layer;
mod own_policy;
mod pipeline_laws;
mod plots;
mod profiles;
mod random_scenarios;
mod real_traces;
mod scenario_errors;
mod scenarios;
mod servers;
mod traces;
