//! The integration tests: one binary, one module per subject.

mod architecture;
mod capacities;
mod chunked;
mod chunked_twin;
mod cli_errors;
mod cli_manners;
mod cli_step;
mod determinism;
mod diffs;
mod engine;
mod feedback;
mod formats;
mod gantt;
mod golden_plan;
mod golden_step;
mod html_report;
mod laws;
mod made_up;
mod methods;
mod models;
mod next_layer;
mod oracle;
mod own_policy;
mod pages;
mod perfetto;
mod pipeline_laws;
mod planner_models;
mod plots;
mod profiles;
mod random_scenarios;
mod real_traces;
mod scenario_errors;
mod scenarios;
mod servers;
mod sweep_figures;
mod sweeps;
mod tensor_parallel;
mod traces;

/// Says on stderr that a test did not do its work, and why. The test runner keeps what `eprintln!` of a test that
/// passes says to itself; what is written to the stream directly is seen.
fn say_skipped(why: &str) {
    use std::io::Write as _;
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
