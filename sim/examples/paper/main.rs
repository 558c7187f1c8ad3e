//! The experiments of the OrbitFlow paper on this simulator: figures, their numbers, and a table of claims and verdicts.
//!
//! `cargo run --release --package orbitflow-sim --example paper -- --out plots/paper` runs every grid of
//! `scenarios/paper` and writes per experiment `NAME.svg` and `NAME.csv`, and `summary.md`. Finished points are kept
//! in `--cache`, so a run that was killed goes on. The same program gives the same bytes, on one thread or many. What
//! it knows of the paper's numbers is in `claims`; step and copy times are the published fits, nothing is measured.

mod claims;
mod experiment;
mod figure;
mod reasons;
mod run;
mod scores;
mod student;
mod summary;
mod table;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orbitflow_sim::scenario::{Grid, GridPoint};

use experiment::{EXPERIMENTS, Experiment};
use run::Store;
use table::{Sample, Table};

/// What the command line says.
#[derive(clap::Parser)]
struct Arguments {
    /// Folder for figures, their numbers and the summary.
    #[arg(long, default_value = "plots/paper")]
    out: PathBuf,
    /// Folder of the scenarios.
    #[arg(long, default_value = "scenarios/paper")]
    scenarios: PathBuf,
    /// Folder where finished points are kept.
    #[arg(long, default_value = "out/paper")]
    cache: PathBuf,
    /// A scenario key and its value, for every experiment: `--set seed=1` is a quick look.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let program = std::env::current_exe()?;
    let program = std::fs::read(&program).with_context(|| program.display().to_string())?;
    let store = Store::open(&arguments.cache, &program)?;
    let tables = tables(&arguments, &store)?;
    std::fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    for (experiment, table) in &tables {
        let svg = figure::draw(experiment, table).map_err(anyhow::Error::msg)?;
        write(&arguments.out, &format!("{}.svg", experiment.name), &svg)?;
        write(&arguments.out, &format!("{}.csv", experiment.name), &table.csv())?;
    }
    write(&arguments.out, "summary.md", &summary::markdown(&tables))
}

/// Every experiment with its scores.
fn tables(arguments: &Arguments, store: &Store) -> anyhow::Result<Vec<(Experiment, Table)>> {
    let grids: Vec<Grid> = EXPERIMENTS
        .iter()
        .map(|experiment| experiment.grid(&arguments.scenarios, &arguments.overrides))
        .collect::<Result<_, _>>()?;
    let points: Vec<&GridPoint> = grids.iter().flat_map(|grid| &grid.points).collect();
    let bar = progress(points.len() as u64);
    let mut scores = run::all(&points, store, &|| bar.inc(1))?.into_iter();
    bar.finish_and_clear();
    let table = |(experiment, grid): (Experiment, &Grid)| {
        let samples = grid.points.iter().zip(scores.by_ref()).flat_map(|(point, scores)| {
            let sample = move |score| Sample {
                semantics: point.scenario.semantics.name().to_owned(),
                place: experiment.place(point),
                seed: point.scenario.seed.to_string(),
                score,
            };
            scores.into_iter().map(sample)
        });
        (experiment, Table::new(samples.collect()))
    };
    Ok(EXPERIMENTS.into_iter().zip(&grids).map(table).collect())
}

/// A bar with rate and time left; silent unless stderr is a terminal.
fn progress(points: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("simulating {bar:30} {pos}/{len} points, {per_sec}, {eta} left");
    ProgressBar::with_draw_target(Some(points), target)
        .with_style(style.expect("Invariant: the template is well formed"))
}

/// A file that appears whole or not at all.
fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(&path).with_context(|| path.display().to_string())?;
    let mut readable = std::fs::metadata(&path)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut readable, 0o644);
    std::fs::set_permissions(&path, readable).with_context(|| path.display().to_string())
}
