//! `gpu-validate`: measures a GPU and its host link and writes the hardware profile that `orbitflow` runs on.
//!
//! This build has no experiment yet: it says so and exits 3 (no usable GPU), so that no script takes it for a
//! measurement.

use std::process::ExitCode;

use clap::Parser;

/// Measures a GPU and its host link, writes a hardware profile, validates the step model against it.
#[derive(Parser)]
#[command(name = "gpu-validate", version)]
struct Cli {}

fn main() -> ExitCode {
    Cli::parse();
    eprintln!(
        "gpu-validate: measures nothing yet: this version ({} layers at most per model) has no experiments; \
         no profile was written",
        orbitflow_sim::ids::Layer::MAX
    );
    ExitCode::from(3)
}
