//! `orbitflow schema`: JSON Schema of the files, so that editors complete and validate.

use std::io::Write;
use std::process::ExitCode;

use schemars::schema_for;
use serde_json::Value;

use crate::cost::HardwareProfile;
use crate::report::rows::Results;
use crate::scenario;
use crate::trace::jsonl::Line;

/// Print the JSON Schema of a file
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of which file
    #[arg(value_enum)]
    what: Subject,
}

/// Files that have a schema.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Subject {
    /// A scenario (TOML)
    Scenario,
    /// `results.json`
    Results,
    /// One line of our JSONL trace
    Trace,
    /// A hardware profile
    Profile,
    /// A scenario with `[axes]` (TOML)
    Sweep,
}

/// Runs the command.
///
/// # Errors
/// Output that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let schema: Value = match args.what {
        Subject::Scenario => scenario::json_schema(),
        Subject::Results => schema_for!(Results).into(),
        Subject::Trace => schema_for!(Line).into(),
        Subject::Profile => schema_for!(HardwareProfile).into(),
        Subject::Sweep => scenario::sweep_json_schema(),
    };
    let mut text = serde_json::to_string_pretty(&schema)?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
