//! `--perfetto FILE` of `run` and `compare`: opens the trace file, and says what was written and who can show it.

use std::path::PathBuf;

use super::OrInput;
use super::interrupt::{self, RemoveOnInterrupt};
use crate::perfetto::{Part, TraceFile, Window, Written};
use crate::report::rows::Results;

/// From here on the file is said to be large: `chrome://tracing` reads no more, and `ui.perfetto.dev` needs several times
/// the JSON, of the 2 GB that a browser typically gives it (perfetto.dev/docs/visualization/large-traces).
const LARGE: u64 = 256_000_000;

#[derive(clap::Args, Debug)]
pub struct PerfettoArgs {
    /// Write every step, copy, stall and state as a trace for ui.perfetto.dev or chrome://tracing; .gz compresses (slow)
    #[arg(long, value_name = "FILE")]
    perfetto: Option<PathBuf>,
    /// Show only steps A to B, both included, counted from 0 as in steps.csv
    #[arg(long, value_name = "A..B", requires = "perfetto", value_parser = window)]
    perfetto_steps: Option<Window>,
}

fn window(text: &str) -> Result<Window, String> {
    let expected = || "expected two whole numbers A..B with A at most B, for example `0..999`".to_owned();
    let (first, last) = text.split_once("..").ok_or_else(expected)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| expected());
    let window = Window { first: number(first)?, last: number(last)? };
    if window.first <= window.last { Ok(window) } else { Err(expected()) }
}

/// The trace file of a comparison.
pub struct Trace {
    file: TraceFile,
    path: PathBuf,
    window: Option<Window>,
    cleanup: RemoveOnInterrupt,
}

impl PerfettoArgs {
    /// Opens the file, if one is asked for.
    ///
    /// # Errors
    /// What cannot be a file, or cannot be written to.
    pub fn open(&self) -> anyhow::Result<Option<Trace>> {
        let Some(path) = &self.perfetto else { return Ok(None) };
        let file = TraceFile::open(path).or_input()?;
        let cleanup = RemoveOnInterrupt::new(file.staging())?;
        Ok(Some(Trace { file, path: path.clone(), window: self.perfetto_steps, cleanup }))
    }
}

impl Trace {
    /// A part for each policy.
    ///
    /// # Errors
    /// Anything the system refuses.
    pub fn parts(&self, policies: usize) -> anyhow::Result<Vec<Part>> {
        Ok((0..policies).map(|_| self.file.part()).collect::<Result<_, _>>()?)
    }

    /// The steps that are shown, if not all.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Moves the file into place, and says on stderr what it is.
    ///
    /// # Errors
    /// Anything the system refuses.
    pub fn finish(self, results: &Results, parts: Vec<Part>, quiet: bool) -> anyhow::Result<()> {
        let Trace { file, path, window, cleanup } = self;
        let about = serde_json::json!({
            "tool": format!("orbitflow {}", results.tool_version),
            "scenario": results.scenario,
            "scenario_digest": results.scenario_digest,
            "seed": results.seed,
            "time": "ts and dur in microseconds of simulated time, exact to the picosecond",
            "notes": results.notes,
        });
        let written = interrupt::without(|| file.finish(&about, parts))?;
        drop(cleanup);
        if !quiet {
            for policy in &results.policies {
                let steps = policy.steps.decode + policy.steps.prefill;
                if let Some(window) = window.filter(|window| window.first >= steps) {
                    let first = window.first;
                    eprintln!(
                        "--perfetto-steps: {}: none is shown: it has {steps} steps, and {first} is the first",
                        policy.key
                    );
                }
            }
            say(&path.display().to_string(), written);
        }
        Ok(())
    }
}

fn say(path: &str, Written { events, bytes, file_bytes }: Written) {
    let packed =
        if file_bytes < bytes { format!(", {} compressed", megabytes(file_bytes)) } else { String::new() };
    eprintln!("wrote {path}: {events} trace events, {} of JSON{packed}", megabytes(bytes));
    if bytes > LARGE {
        eprintln!(
            "hint: chrome://tracing opens {} at most, ui.perfetto.dev as much as its browser's memory holds (typically 2 GB, \
             several times the JSON): `--perfetto-steps A..B` shows fewer steps, `trace_processor --httpd {path}` opens all",
            megabytes(LARGE)
        );
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
