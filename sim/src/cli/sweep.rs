//! `orbitflow sweep` and `orbitflow merge`: every point of a grid, in one process or in many.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::progress::Progress;
use super::scenario_args::ScenarioArgs;
use super::{OrInput, plot};
use crate::sweep::{self, Manifest, Shard, SweepError};

/// Simulate every point of a grid, a scenario with `[axes]`; a sweep that was stopped goes on where it was. Exit code 1
/// if a point failed.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Write sweep.csv, sweep.json, points/ and plots/ here
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Points at once; absent: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Only every N-th point from the K-th, K from 0; absent: what Slurm's or Kubernetes' environment says, or all
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Replace the lists of another sweep; its points are kept where they are the same
    #[arg(long)]
    force: bool,
}

/// Join the parts of a sweep; refuses gaps, mixed versions and contradictions.
#[derive(clap::Args)]
pub struct MergeArgs {
    /// Folders that `orbitflow sweep --shard K/N --out DIR` wrote; one folder may hold several parts
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Where the whole sweep goes; absent: the first DIR
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the lists of another sweep in --out
    #[arg(long)]
    force: bool,
}

/// Runs `sweep`.
///
/// # Errors
/// Wrong input; a folder that cannot be written; points that failed.
pub fn run(args: Args, quiet: bool) -> anyhow::Result<ExitCode> {
    let shard = match &args.shard {
        Some(text) => text.parse().or_input()?,
        None => match Shard::from_environment(|key| std::env::var(key).ok()).or_input()? {
            Some((shard, whose)) => {
                if !quiet {
                    let Shard { index, count } = shard;
                    eprintln!("{whose} says: shard {index}/{count} (`--shard 0/1` does all of it)");
                }
                shard
            }
            None => Shard::WHOLE,
        },
    };
    let grid = args.scenario.load_grid()?;
    let points = shard.indices(grid.len()).count() as u64;
    let bar = Progress::new("sweeping", "points", points, quiet);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.jobs.map_or(0, usize::from)).build()?;
    let report = |done| bar.add(done);
    let swept = threads.install(|| sweep::run(&grid, &args.out, shard, args.force, Some(&report)));
    bar.finish();
    let swept = or_input(swept)?;
    if !quiet {
        let written = if shard.is_whole() { "sweep.csv".to_owned() } else { shard.file_name() };
        let reused =
            if swept.reused > 0 { format!(", {} of them done before", swept.reused) } else { String::new() };
        eprintln!("wrote {}: {}{reused}", args.out.join(written).display(), counted(points));
    }
    if shard.is_whole() {
        plot::of_sweep(&args.out, quiet)?;
    }
    close(&swept.manifest)
}

/// Runs `merge`.
///
/// # Errors
/// Parts that do not make a whole; a folder that cannot be written; points that failed.
pub fn run_merge(args: MergeArgs, quiet: bool) -> anyhow::Result<ExitCode> {
    let out = args.out.unwrap_or_else(|| args.dirs[0].clone());
    let manifest = or_input(sweep::merge(&args.dirs, &out, args.force))?;
    if !quiet {
        eprintln!("wrote {}: {}", out.join("sweep.csv").display(), counted(manifest.points.len() as u64));
    }
    plot::of_sweep(&out, quiet)?;
    close(&manifest)
}

/// Disks fail; everything else is in what was given.
pub(super) fn or_input<T>(result: Result<T, SweepError>) -> anyhow::Result<T> {
    match result {
        Err(error @ SweepError::Io { .. }) => Err(error.into()),
        result => result.or_input(),
    }
}

fn counted(points: u64) -> String {
    format!("{points} {}", if points == 1 { "point" } else { "points" })
}

/// Says how many points there are, and which failed and why.
fn close(manifest: &Manifest) -> anyhow::Result<ExitCode> {
    let failed: Vec<_> = manifest.failed().collect();
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "points,done,failed\n{},{},{}",
        manifest.points.len(),
        manifest.points.len() - failed.len(),
        failed.len()
    )?;
    for point in &failed {
        eprintln!("{}: {}", point.point, point.error.as_deref().unwrap_or_default());
    }
    anyhow::ensure!(failed.is_empty(), "{} of {} points failed", failed.len(), manifest.points.len());
    Ok(ExitCode::SUCCESS)
}
