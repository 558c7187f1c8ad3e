//! The command line: one file per command, each with its flags and what it does. Nothing here computes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod capacity;
mod check;
mod compare;
mod completions;
mod diff;
mod init;
mod interrupt;
mod json_input;
mod list;
mod perfetto;
mod plan;
mod plot;
mod profile;
mod progress;
mod report;
mod scenario_args;
mod schema;
mod split;
mod step;
mod sweep;
mod table;
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
    Init(init::Args),
    Run(compare::RunArgs),
    Compare(compare::Args),
    Check(check::Args),
    Sweep(sweep::Args),
    Merge(sweep::MergeArgs),
    Capacity(capacity::Args),
    Diff(diff::Args),
    Plan(plan::Args),
    Plot(plot::Args),
    Report(report::Args),
    Step(step::Args),
    Trace(trace::Args),
    Profile(profile::Args),
    List(list::Args),
    Schema(schema::Args),
    Completions(completions::Args),
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
    match cli.command {
        Command::Init(args) => init::run(args, cli.quiet),
        Command::Run(args) => compare::run_one(args, cli.quiet),
        Command::Compare(args) => compare::run(args, cli.quiet),
        Command::Check(args) => check::run(args, cli.quiet),
        Command::Sweep(args) => sweep::run(args, cli.quiet),
        Command::Merge(args) => sweep::run_merge(args, cli.quiet),
        Command::Capacity(args) => capacity::run(args, cli.quiet),
        Command::Diff(args) => diff::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Report(args) => report::run(args),
        Command::Plot(args) => plot::run(args, cli.quiet),
        Command::Step(args) => step::run(args),
        Command::Trace(args) => trace::run(args, cli.quiet),
        Command::Profile(args) => profile::run(args),
        Command::List(args) => list::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => completions::run(args),
    }
}
