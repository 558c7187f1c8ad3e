//! `orbitflow init`: prints a commented scenario that runs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;

use super::OrInput;
use crate::scenario;

/// Print a commented scenario that runs
///
/// For example: orbitflow init my-trace.jsonl > my.toml
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace it runs, `-` for stdin; relative to where the scenario is saved
    #[arg(value_name = "TRACE", default_value = "traces/demo.json")]
    trace: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A trace whose path is not UTF-8 or is empty: TOML could not hold it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let path = args.trace.to_str().filter(|path| !path.trim().is_empty());
    let trace =
        path.ok_or_else(|| anyhow!("TRACE: {:?}: expected a path in UTF-8", args.trace)).or_input()?;
    std::io::stdout().write_all(scenario::template(trace).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
