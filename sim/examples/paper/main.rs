//! The experiments of the OrbitFlow paper on this simulator: figures, their numbers, and a table of claims and verdicts.
//!
//! `cargo run --release --package orbitflow-sim --example paper -- --out plots` runs every grid of `scenarios/paper` and writes
//! per experiment `paper/NAME.svg` and `paper/NAME.csv`, and `paper/summary.md`; with `--study insights` those of
//! `scenarios/insights` to `insights/`, and `insights.md`. Finished points are kept
//! in `--cache`, so a run that was killed goes on. The same program gives the same bytes, on one thread or many. What
//! it knows of the paper's numbers is in `claims`; step and copy times are the published fits, nothing is measured.

mod claims;
mod experiment;
mod figure;
mod insights;
#[path = "../planner_models.rs"]
#[expect(dead_code, reason = "its `main` only prints what is a table here")]
mod planner_models;
mod reasons;
mod run;
mod scores;
mod summary;
mod table;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orbitflow_sim::scenario::GridPoint;

use experiment::{Experiment, Study};
use run::Store;
use table::{Sample, Table};

/// What the command line says.
#[derive(clap::Parser)]
struct Arguments {
    /// The paper's experiments, or the questions it leaves open.
    #[arg(long, value_enum, default_value = "paper")]
    study: Study,
    /// Folder for the study's folder of figures and numbers, and its text.
    #[arg(long, default_value = "plots")]
    out: PathBuf,
    /// Folder that has the study's folder of scenarios.
    #[arg(long, default_value = "scenarios")]
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
    let files = files(arguments.study, &tables(&arguments, &store)?)?;
    let folder = arguments.out.join(arguments.study.name());
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    files.iter().try_for_each(|(name, text)| write(&arguments.out, name, text))
}

/// Every file by its path below the folder for both studies.
fn files(study: Study, tables: &[(Experiment, Table)]) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for (experiment, table) in tables {
        let svg = figure::draw(study, experiment, table).map_err(anyhow::Error::msg)?;
        let path = format!("{}/{}", study.name(), experiment.name);
        files.push((format!("{path}.svg"), svg));
        files.push((format!("{path}.csv"), table.csv()));
    }
    files.push(match study {
        Study::Paper => ("paper/summary.md".to_owned(), summary::markdown(tables)),
        Study::Insights => ("insights.md".to_owned(), insights::markdown(tables)),
    });
    Ok(files)
}

/// Every experiment with its scores.
fn tables(arguments: &Arguments, store: &Store) -> anyhow::Result<Vec<(Experiment, Table)>> {
    let mut points: Vec<GridPoint> = Vec::new();
    let mut owners: Vec<Experiment> = Vec::new();
    let experiments = arguments.study.experiments();
    let folder = arguments.scenarios.join(arguments.study.name());
    for &experiment in experiments {
        let grid = experiment.grid(&folder, &arguments.overrides)?;
        points.extend(grid.points());
        owners.resize(points.len(), experiment);
    }
    let bar = progress(points.len() as u64);
    let scores = run::all(&points, store, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let mut samples: Vec<Vec<Sample>> = experiments.iter().map(|_| Vec::new()).collect();
    for ((experiment, point), scores) in owners.iter().zip(&points).zip(scores) {
        let own = experiments.iter().position(|other| other.name == experiment.name);
        let own = &mut samples[own.expect("Invariant: every point is of an experiment")];
        own.extend(scores.into_iter().map(|score| Sample {
            semantics: point.scenario.semantics.name().to_owned(),
            place: experiment.place(point),
            seed: point.scenario.seed.to_string(),
            score,
        }));
    }
    Ok(experiments.iter().copied().zip(samples.into_iter().map(Table::new)).collect())
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
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(dir))?;
    file.write_all(text.as_bytes())?;
    file.persist(&path).with_context(|| path.display().to_string())?;
    let mut readable = std::fs::metadata(&path)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut readable, 0o644);
    std::fs::set_permissions(&path, readable).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every experiment with traces of four short requests and one seed, on so many threads.
    fn tiny_files(threads: usize) -> Vec<(String, String)> {
        let cache = tempfile::tempdir().unwrap();
        let overrides = ["trace.draw.requests=4", "trace.draw.length_scale=0.05", "seed=7"];
        let arguments = Arguments {
            study: Study::Paper,
            out: PathBuf::new(),
            scenarios: Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios"),
            cache: cache.path().to_owned(),
            overrides: overrides.map(str::to_owned).to_vec(),
        };
        let store = Store::open(&arguments.cache, b"test").unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| files(arguments.study, &tables(&arguments, &store).unwrap()).unwrap())
    }

    #[test]
    fn one_thread_and_two_write_the_same_bytes_and_every_claim_has_its_row() {
        let files = tiny_files(1);
        // Nine figures with their numbers, and the summary.
        assert_eq!(files.len(), 19);
        assert!(files == tiny_files(2), "threads change nothing");
        let summary = &files[18].1;
        // 5 claims against 2 sets of baselines under 2 semantics; 2 of masking; 2 scorings of 2 scales under 2 semantics; 2 of
        // victims; 6 experiments under 2 semantics; 1 of overhead.
        let claims = summary.split("Verdicts by rule").next().unwrap();
        let rows = claims.lines().filter(|line| line.starts_with("| ")).count() - 1;
        assert_eq!(rows, 20 + 2 + 8 + 2 + 12 + 1, "{claims}");
    }
}
