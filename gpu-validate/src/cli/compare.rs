//! `gpu-validate compare`: two profiles side by side.

use std::io::Write as _;
use std::process::ExitCode;

use orbitflow_sim::cost::read;

use super::{Failure, Format, OrInput, OrRun};
use crate::compare::compare;

/// Two profiles side by side: link, memory, compute, prefill, contention, accuracy, and the ratio B/A of each.
#[derive(clap::Args)]
pub struct Args {
    /// Profile A: file, preset or `-`.
    a: String,
    /// Profile B: file, preset or `-`.
    b: String,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (a, b) = (read(&args.a).or_input()?, read(&args.b).or_input()?);
    let comparison = compare((&args.a, &a), (&args.b, &b));
    let text = match args.format {
        Format::Table => comparison.to_text(),
        Format::Json => {
            serde_json::to_string_pretty(&comparison).expect("Invariant: comparisons are plain JSON") + "\n"
        }
    };
    std::io::stdout().write_all(text.as_bytes()).or_run()?;
    Ok(ExitCode::SUCCESS)
}
