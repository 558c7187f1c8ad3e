//! `orbitflow profile`.

use std::process::ExitCode;

/// A hardware profile: what it says, what it is good for.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
