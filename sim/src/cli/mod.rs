//! The command line: one file per command, each with its flags and what it does. Nothing here computes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod json_input;
mod plan;
mod profile;
mod step;
mod trace;

/// Wrong usage or input: exit code 2 (design §2.1). Any other error is exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct InputError(pub anyhow::Error);

/// Turns a result into one that exits with code 2.
pub trait OrInput<T> {
    /// Marks the error as wrong usage or input.
    fn or_input(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrInput<T> for Result<T, E> {
    fn or_input(self) -> anyhow::Result<T> {
        self.map_err(|error| InputError(error.into()).into())
    }
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

#[derive(Parser)]
#[command(name = "orbitflow", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// No progress, no hints on stderr.
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Plan(plan::Args),
    Step(step::Args),
    Trace(trace::Args),
    Profile(profile::Args),
}

/// Runs one command line. `Ok` carries the exit code of a run that was answered.
///
/// # Errors
/// [`InputError`] for wrong input, anything else for a run that failed.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> anyhow::Result<ExitCode> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return Ok(ExitCode::from(code));
        }
    };
    let _ = cli.quiet;
    match cli.command {
        Command::Plan(args) => plan::run(args),
        Command::Step(args) => step::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Profile(args) => profile::run(args),
    }
}
