//! `gpu-validate preflight`: what is there, what is missing, where it looked.

use std::io::Write as _;
use std::process::ExitCode;

use super::{Failure, Format, OrRun};
use crate::preflight;

/// What is there for a measurement, what is missing, where it was looked for. Exit code 3 if something needed is
/// missing.
#[derive(clap::Args)]
pub struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let found = preflight::probe();
    let text = match args.format {
        Format::Table => found.table(),
        Format::Json => {
            serde_json::to_string_pretty(&found).expect("Invariant: findings are plain JSON") + "\n"
        }
    };
    std::io::stdout().write_all(text.as_bytes()).or_run()?;
    match found.missing_line() {
        None => Ok(ExitCode::SUCCESS),
        Some(missing) => Err(Failure::NoGpu(missing)),
    }
}
