//! `orbitflow step`.

use std::process::ExitCode;

/// One decode step: the timeline of every copy and every layer.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
