//! `orbitflow init`: prints a commented scenario that runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;

use super::OrInput;
use crate::scenario::{self, TraceFacts};
use crate::trace::{self, ReadOptions, TraceError};

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
    std::io::stdout().write_all(scenario::template(trace, facts(&args.trace)).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Looks into the trace, if it is there: a scenario must not overrule the server that a trace was made for, and one
/// without arrivals would not run. What is wrong with a trace is said when the scenario is run.
fn facts(path: &Path) -> TraceFacts {
    if path == Path::new("-") || !path.exists() {
        return TraceFacts::default();
    }
    match trace::read(path, &ReadOptions::default()) {
        Ok(trace) => {
            let own_server = trace.hints.batch_size.is_some() && trace.hints.gpu_kv_blocks.is_some();
            TraceFacts { own_server, needs_arrivals: false }
        }
        Err(error) => {
            let needs_arrivals = matches!(error, TraceError::NoArrivals { .. });
            TraceFacts { own_server: false, needs_arrivals }
        }
    }
}
