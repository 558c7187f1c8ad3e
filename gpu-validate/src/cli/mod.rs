//! The command line: one file per command, each with its flags and what it does. Nothing here measures.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::device::Backend;

mod compare;
mod kernels;
mod preflight;
mod progress;
mod run;

/// What ended a command before it had an answer; each kind has its exit code (`gpu-measurement.md` §4.5).
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage or input: exit code 2.
    #[error("{0:#}")]
    Input(anyhow::Error),
    /// No usable GPU, driver or library: exit code 3.
    #[error("{0}")]
    NoGpu(String),
    /// The run failed: exit code 1.
    #[error("{0:#}")]
    Run(#[from] anyhow::Error),
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Run(_) => 1,
            Failure::Input(_) => 2,
            Failure::NoGpu(_) => 3,
        }
    }
}

/// Marks errors as wrong usage or input.
trait OrInput<T> {
    fn or_input(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrInput<T> for Result<T, E> {
    fn or_input(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Input(error.into()))
    }
}

/// Marks errors as a run that failed.
trait OrRun<T> {
    fn or_run(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrRun<T> for Result<T, E> {
    fn or_run(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Run(error.into()))
    }
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Where the experiments run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// The GPU.
    #[default]
    Cuda,
    /// CPU threads that play a GPU: exercises everything, says nothing about any GPU.
    Host,
    /// A clock with exact, made-up times: says nothing about any GPU.
    VirtualTime,
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Backend {
        match name {
            BackendName::Cuda => Backend::Cuda,
            BackendName::Host => Backend::Host,
            BackendName::VirtualTime => Backend::VirtualTime,
        }
    }
}

const EXIT_CODES: &str = "Exit codes: 0 ok; 1 the run failed; 2 wrong usage or input; 3 no usable GPU (one line says what \
is missing); 4 a correctness check failed; 5 an accuracy target was missed (only with --enforce); 6 the deadline took \
some points, the results without them are kept.";

/// Measures a GPU and its host link, writes the hardware profile that `orbitflow` runs on, and shows how far predicted
/// decode steps are from measured ones.
#[derive(Parser)]
#[command(name = "gpu-validate", version, about, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// No progress and no notes on stderr.
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Preflight(preflight::Args),
    Run(run::RunArgs),
    Measure(run::MeasureArgs),
    Validate(run::ValidateArgs),
    Compare(compare::Args),
    Kernels(kernels::Args),
}

/// Runs one command line and answers its exit code.
///
/// # Errors
/// [`Failure`], which has the exit code.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<ExitCode, Failure> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return Ok(ExitCode::from(code));
        }
    };
    match cli.command {
        Command::Preflight(args) => preflight::run(&args),
        Command::Run(args) => run::run(&args, cli.quiet),
        Command::Measure(args) => run::measure(&args, cli.quiet),
        Command::Validate(args) => run::validate(&args, cli.quiet),
        Command::Compare(args) => compare::run(&args),
        Command::Kernels(args) => kernels::run(&args),
    }
}
