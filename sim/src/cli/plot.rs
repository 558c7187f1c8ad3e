//! `orbitflow plot`: figures from saved results, of one comparison or of a sweep, without simulating.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::OrInput;
use crate::plot::sweep::{Choice, figures};
use crate::plot::{self, PlotError};
use crate::{report, sweep};

/// Redraws the figures of saved results, without simulating; prints the files it wrote. Beside every figure stand the
/// rows that it was drawn from, as CSV.
#[derive(clap::Args)]
pub struct Args {
    /// A folder that `orbitflow compare --out DIR` or `orbitflow sweep --out DIR` wrote
    dir: PathBuf,
    /// Where the figures go; absent: `plots` in DIR
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also write a PNG copy of each figure (in builds with the cargo feature `png`)
    #[arg(long)]
    png: bool,
    #[command(flatten)]
    choice: SweepChoice,
}

/// What is drawn of a sweep; absent: against every axis, and a heat map over the first two numeric ones.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Of a sweep")]
struct SweepChoice {
    /// The axis along the lower side: a key of `[axes]`, or slo.scale
    #[arg(long, value_name = "KEY")]
    x: Option<String>,
    /// The axis along the left side of a heat map
    #[arg(long, value_name = "KEY")]
    y: Option<String>,
    /// The axis whose values are drawn below each other; absent: the first one of at most four names
    #[arg(long, value_name = "KEY")]
    facet: Option<String>,
    /// One score instead of all: a column of sweep.csv. A heat map shows e2e_pct without it
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Where an axis that is not shown is held; absent: the middle of its numbers, the first of its names, the SLO
    /// scale that is planned for
    #[arg(long = "where", value_name = "KEY=VALUE")]
    held: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Wrong input; a folder that cannot be written.
pub fn run(args: Args, quiet: bool) -> anyhow::Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| args.dir.join("plots"));
    let (is_comparison, is_sweep) = (args.dir.join("results.json").exists(), sweep::is_sweep(&args.dir));
    if is_comparison && is_sweep {
        let both = "holds both a comparison and a sweep: expected the results of one command";
        return Err(anyhow::anyhow!("{}: {both}\nhint: write them into two folders", args.dir.display()))
            .or_input();
    }
    let drawn = if is_sweep {
        let choice = args.choice.read().or_input()?;
        let results = super::sweep::or_input(sweep::grid_results(&args.dir))?;
        say_held(&results, &choice, quiet);
        plot::draw_sweep(&results, &choice, &out, args.png)
    } else {
        let saved = report::load(&args.dir).or_input()?;
        args.choice.refuse(&args.dir).or_input()?;
        plot::draw_all(&saved.results, &saved.quantiles, &saved.timeline, &saved.states, &out, args.png)
    };
    let mut stdout = io::stdout().lock();
    for file in or_input(drawn, &args.dir)? {
        writeln!(stdout, "{}", file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws the figures of a sweep that has just ended, into `plots` beside its table.
///
/// # Errors
/// A folder that cannot be read or written.
pub fn of_sweep(dir: &Path, quiet: bool) -> anyhow::Result<()> {
    let results = super::sweep::or_input(sweep::grid_results(dir))?;
    if results.policies.is_empty() {
        // Every point failed, which is said elsewhere.
        return Ok(());
    }
    let files = or_input(plot::draw_sweep(&results, &Choice::default(), &dir.join("plots"), false), dir)?;
    if !quiet {
        eprintln!("drew {} figures in {}", files.len() / 2, dir.join("plots").display());
    }
    Ok(())
}

/// Disks fail; everything else is in what was given.
fn or_input(drawn: Result<Vec<PathBuf>, PlotError>, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    match drawn {
        Err(error @ (PlotError::Write { .. } | PlotError::Draw { .. })) => Err(error.into()),
        Err(error) => Err(error).with_context(|| dir.display().to_string()).or_input(),
        Ok(files) => Ok(files),
    }
}

/// Says at which values a figure holds the axes that it does not show.
fn say_held(results: &report::grid::GridResults, choice: &Choice, quiet: bool) {
    // What cannot be drawn is said where it is drawn.
    for figure in figures(results, choice).unwrap_or_default() {
        let held = figure.held.iter().filter(|held| held.has_others).map(|held| held.text.as_str());
        let held: Vec<&str> = held.collect();
        if !quiet && !held.is_empty() {
            eprintln!("{}: at {} (`--where KEY=VALUE` takes another)", figure.name, held.join(", "));
        }
    }
}

impl SweepChoice {
    fn read(self) -> anyhow::Result<Choice> {
        let SweepChoice { x, y, facet, metric, held } = self;
        let held = held.iter().map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().trim_matches('"').to_owned())),
            None => {
                anyhow::bail!("--where: {text:?}: expected KEY=VALUE, for example `--where slo.scale=1.5`")
            }
        });
        Ok(Choice { x, y, facet, metric, held: held.collect::<Result<_, _>>()? })
    }

    /// None of it is for the results of one comparison.
    fn refuse(&self, dir: &Path) -> anyhow::Result<()> {
        let given = [
            ("--x", self.x.is_some()),
            ("--y", self.y.is_some()),
            ("--facet", self.facet.is_some()),
            ("--metric", self.metric.is_some()),
            ("--where", !self.held.is_empty()),
        ];
        let Some((flag, _)) = given.iter().find(|(_, given)| *given) else { return Ok(()) };
        let problem = "is for the results of `orbitflow sweep`, and this is one comparison";
        anyhow::bail!("{flag}: {problem}: {}\nhint: leave it out", dir.display())
    }
}
