//! `orbitflow plan`.

use std::process::ExitCode;

/// One placement decision: distances, forecast, every constraint's use, the gap.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
