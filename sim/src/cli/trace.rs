//! `orbitflow trace`.

use std::process::ExitCode;

/// Look at a trace, change its format, draw one.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
