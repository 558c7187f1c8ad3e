//! `orbitflow schema`: JSON Schema of the files, so that editors complete and validate.

use std::io::Write;
use std::process::ExitCode;

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::cost::HardwareProfile;
use crate::report::rows::Results;
use crate::scenario;

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
        Subject::Trace => schema_for!(TraceLine).into(),
        Subject::Profile => schema_for!(HardwareProfile).into(),
        Subject::Sweep => scenario::sweep_json_schema(),
    };
    let mut text = serde_json::to_string_pretty(&schema)?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// One request of a JSONL trace (design §2.2): when it arrives, and how long it is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct TraceLine {
    /// Unique name; the row number if absent.
    id: Option<String>,
    /// When it arrives, and as a turn of what.
    #[schemars(flatten)]
    arrival: ArrivalKeys,
    /// Prompt tokens.
    #[schemars(range(min = 1))]
    prompt_tokens: u64,
    /// Output tokens.
    #[schemars(range(min = 1))]
    output_tokens: u64,
    /// Promised time per token, in seconds.
    #[schemars(range(min = 0))]
    slo_s: Option<f64>,
    /// Promised time to the first token, in seconds.
    #[schemars(range(min = 0))]
    ttft_slo_s: Option<f64>,
}

/// Exactly one of three ways to arrive.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ArrivalKeys {
    /// Seconds since the start; or `arrival_step`, or `think_s`.
    #[schemars(range(min = 0))]
    arrival_s: Option<f64>,
    /// Engine steps since the start.
    arrival_step: Option<u64>,
    /// Seconds after the previous answer of the same session.
    #[schemars(range(min = 0))]
    think_s: Option<f64>,
    /// Conversation that the request is a turn of.
    session: Option<String>,
}
