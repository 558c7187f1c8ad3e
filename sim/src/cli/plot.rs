//! `orbitflow plot`: figures from saved results, without simulating.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::OrInput;
use crate::plot;
use crate::report;

/// Redraws the figures of saved results, without simulating; prints the files it wrote.
#[derive(clap::Args)]
pub struct Args {
    /// A folder that `orbitflow compare --out DIR` wrote: results.json, quantiles.csv, timeline.csv and states.csv.
    dir: PathBuf,
    /// Where the figures go; absent: `plots` in DIR.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also write a PNG copy of each figure (in builds with the cargo feature `png`).
    #[arg(long)]
    png: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let saved = report::load(&args.dir).or_input()?;
    let out = args.out.unwrap_or_else(|| args.dir.join("plots"));
    let drawn =
        plot::draw_all(&saved.results, &saved.quantiles, &saved.timeline, &saved.states, &out, args.png);
    let files = match drawn {
        // Disks fail; everything else is in what was given.
        Err(error @ (plot::PlotError::Write { .. } | plot::PlotError::Draw { .. })) => {
            return Err(error.into());
        }
        Err(error) => return Err(error).with_context(|| args.dir.display().to_string()).or_input(),
        Ok(files) => files,
    };
    let mut stdout = io::stdout().lock();
    for file in files {
        writeln!(stdout, "{}", file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
