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
pub fn run(args: Args, quiet: bool) -> anyhow::Result<ExitCode> {
    let path = args.trace.to_str().filter(|path| !path.trim().is_empty());
    let trace =
        path.ok_or_else(|| anyhow!("TRACE: {:?}: expected a path in UTF-8", args.trace)).or_input()?;
    let (facts, unknown) = facts(&args.trace);
    std::io::stdout().write_all(scenario::template(trace, facts).as_bytes())?;
    if let (Some(why), false) = (unknown, quiet) {
        eprintln!(
            "note: {why}: whether it brings its server and its arrivals is not known, so the scenario sets a server"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks into the trace, if it is there: a scenario must not overrule the server that a trace was made for, and one
/// without arrivals would not run. Beside the facts stands why there are none: the trace may come later, or be named
/// from where the scenario will be saved, so that is no error.
fn facts(path: &Path) -> (TraceFacts, Option<String>) {
    if path == Path::new("-") {
        return (TraceFacts::default(), None);
    }
    if !path.exists() {
        return (TraceFacts::default(), Some(format!("{}: no such file here", path.display())));
    }
    match trace::read(path, &ReadOptions::default()) {
        Ok(trace) => {
            let own_server = trace.hints.batch_size.is_some() && trace.hints.gpu_kv_blocks.is_some();
            (TraceFacts { own_server, needs_arrivals: false }, None)
        }
        Err(TraceError::NoArrivals { .. }) => (TraceFacts { own_server: false, needs_arrivals: true }, None),
        Err(error) => {
            let error = error.to_string();
            let problem = error.lines().next().unwrap_or_default();
            (TraceFacts::default(), Some(problem.to_owned()))
        }
    }
}
