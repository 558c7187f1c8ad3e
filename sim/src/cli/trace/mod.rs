//! `orbitflow trace`: look at a trace, change its format, draw one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::OrInput as _;
use crate::trace::{self, ArrivalProcess, Format, ReadOptions, Trace};
use crate::units::SimDuration;

mod generate;
mod stats;

/// Look at a trace, change its format, draw one.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Box<Command>,
}

#[derive(Subcommand)]
enum Command {
    Stats(stats::Args),
    Convert(ConvertArgs),
    Generate(generate::Args),
}

/// Runs the command. `quiet`: no notes on stderr.
pub fn run(args: Args, quiet: bool) -> anyhow::Result<ExitCode> {
    match *args.command {
        Command::Stats(args) => stats::run(args)?,
        Command::Convert(args) => convert(args, quiet)?,
        Command::Generate(args) => generate::run(args, quiet)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a trace file is read with.
#[derive(clap::Args)]
struct ReadArgs {
    /// The trace: a file (plain or gzipped), a folder of sessions, or `-` for stdin
    trace: PathBuf,
    /// Format of the trace; recognised by content if absent (see `list formats`)
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Divide the times of arrival by this factor; think times stay
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    load: f64,
    /// Keep the first N requests, after every other filter
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out requests with a shorter prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    min_prompt_tokens: u64,
    /// Seconds that a step takes: turns arrivals in steps into seconds; for stats, seconds into steps of the
    /// pressure
    #[arg(long, value_name = "SECONDS", value_parser = step_time, allow_negative_numbers = true)]
    step_time_s: Option<SimDuration>,
    /// How requests of a table of lengths, or sessions, arrive: a process such as poisson:0.5 (per second)
    #[arg(long, value_name = "PROCESS")]
    arrivals: Option<ArrivalProcess>,
    /// Seed of what is drawn while reading
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl ReadArgs {
    /// The trace, with steps turned into seconds if a step time was given.
    fn read(&self) -> anyhow::Result<Trace> {
        self.read_with(self.step_time_s)
    }

    fn read_with(&self, step_time: Option<SimDuration>) -> anyhow::Result<Trace> {
        let options = ReadOptions {
            format: self.from,
            load: self.load,
            limit: self.limit,
            min_prompt_tokens: self.min_prompt_tokens,
            step_time,
            arrivals: self.arrivals,
            seed: self.seed,
        };
        trace::read(&self.trace, &options).or_input()
    }
}

fn step_time(text: &str) -> Result<SimDuration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    SimDuration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| *time > SimDuration::ZERO)
        .ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

/// A format that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum WriteFormat {
    /// Our own, one request per line
    Jsonl,
    /// The OrbitFlow authors' JSON, with batch size and GPU blocks
    Orbitflow,
}

impl WriteFormat {
    fn write(self, trace: &Trace, arrival_pattern: &str) -> anyhow::Result<String> {
        match self {
            WriteFormat::Jsonl => Ok(trace::jsonl::write(trace)),
            WriteFormat::Orbitflow => trace::orbitflow::write(trace, arrival_pattern).or_input(),
        }
    }
}

/// Change the format of a trace.
#[derive(clap::Args)]
struct ConvertArgs {
    #[command(flatten)]
    read: ReadArgs,
    /// Format to write
    #[arg(long, value_enum)]
    to: WriteFormat,
    /// File to write, or `-` for stdout
    #[arg(long, default_value = "-")]
    out: PathBuf,
}

fn convert(args: ConvertArgs, quiet: bool) -> anyhow::Result<()> {
    let trace = args.read.read()?;
    let pattern = format!("converted from {}", args.read.trace.display());
    let text = args.to.write(&trace, &pattern)?;
    if !quiet {
        show_notes(&trace, args.to);
    }
    write_whole(&args.out, &text)
}

/// Says on stderr what a reader of the written trace would not see.
fn show_notes(trace: &Trace, written: WriteFormat) {
    for note in &trace.notes {
        eprintln!("note: {note}");
    }
    if let (WriteFormat::Jsonl, Some(batch), Some(blocks)) =
        (written, trace.hints.batch_size, trace.hints.gpu_kv_blocks)
    {
        eprintln!("note: jsonl has no place for the server: batch_size = {batch}, gpu_kv_blocks = {blocks}");
    }
}

/// Writes a file that is there whole or not at all, by rename; `-` is stdout.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(std::io::stdout().lock().write_all(text.as_bytes())?);
    }
    let cannot = || format!("cannot write `{}`", path.display());
    if path.exists() && !path.is_file() {
        // A device or a pipe is written to, not replaced.
        return fs::write(path, text).with_context(cannot);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    fs::write(&unfinished, text).with_context(cannot)?;
    fs::rename(&unfinished, path).with_context(cannot)
}
