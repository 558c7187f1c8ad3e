//! `orbitflow run` and `orbitflow compare`: simulate, print the table, write files and plots.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::interrupt::{self, RemoveOnInterrupt};
use super::perfetto::PerfettoArgs;
use super::progress::Progress;
use super::scenario_args::ScenarioArgs;
use super::{Format, OrInput};
use crate::plot;
use crate::policy::registry;
use crate::report::{self, OutputDir};
use crate::runner::{self, Comparison, Contender, Options, Prepared, within_213_days};
use crate::scenario::did_you_mean;

/// Every policy of the scenario on the same trace and seed: a table, and files and plots under DIR.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    scenario: ScenarioArgs,
    #[command(flatten)]
    output: Output,
}

/// One policy on one trace: the same table and files as `compare`.
#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Key of one of the scenario's policies, or of any that `orbitflow list policies` names
    #[arg(long, value_name = "KEY")]
    policy: String,
    #[command(flatten)]
    output: Output,
}

#[derive(clap::Args)]
struct Output {
    /// Write results.json, CSV tables and plots/ here
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite results of another scenario
    #[arg(long)]
    force: bool,
    /// Write every step to DIR/steps.csv
    #[arg(long, requires = "out")]
    steps: bool,
    #[command(flatten)]
    trace: PerfettoArgs,
    /// Also write a PNG copy of each figure (in builds with the cargo feature `png`)
    #[arg(long, requires = "out")]
    png: bool,
    /// Check laws 1 to 5 on every step (slow); exit code 1 if one is broken
    #[arg(long)]
    laws: bool,
    /// Simulations at once; absent: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// How to print the table
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `compare`.
///
/// # Errors
/// Wrong input; a directory that cannot be written; a broken law.
pub fn run(args: Args, quiet: bool) -> anyhow::Result<ExitCode> {
    let prepared = runner::prepare(&args.scenario.load()?).or_input()?;
    simulate(prepared, args.scenario.all_overrides(), args.output, quiet)
}

/// Runs `run`.
///
/// # Errors
/// As [`run`].
pub fn run_one(mut args: RunArgs, quiet: bool) -> anyhow::Result<ExitCode> {
    let mut prepared = runner::prepare(&args.scenario.load()?).or_input()?;
    if !prepared.contenders.iter().any(|contender| contender.key == args.policy) {
        refuse_unknown(&args.policy, &prepared).or_input()?;
        // Not one of the scenario's own: then one of the registry's, with the scenario's switches.
        args.scenario.overrides.push(format!("policies=[\"{}\"]", args.policy));
        prepared = runner::prepare(&args.scenario.load()?).or_input()?;
    }
    prepared.contenders.retain(|contender| contender.key == args.policy);
    simulate(prepared, args.scenario.all_overrides(), args.output, quiet)
}

/// Every key is the scenario's or the registry's.
fn refuse_unknown(key: &str, prepared: &Prepared) -> anyhow::Result<()> {
    if registry::find(key).is_some() {
        return Ok(());
    }
    let own = prepared.contenders.iter().map(|contender| contender.key.as_str());
    let mut known: Vec<&str> = own.collect();
    for method in registry::METHODS {
        if !known.contains(&method.key) {
            known.push(method.key);
        }
    }
    let hint = did_you_mean(key, known.iter().copied())
        .unwrap_or_else(|| "`orbitflow list policies` says what each does".to_owned());
    anyhow::bail!("--policy: {key:?}: expected one of {}\nhint: {hint}", known.join(", "))
}

fn simulate(
    prepared: Prepared,
    overrides: Vec<String>,
    output: Output,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    let dir = output.out.clone();
    fill(prepared, overrides, output, quiet).inspect_err(|_| {
        // A directory made for results that never came: it goes if it is empty, and stays if it is not.
        let _ = dir.map(std::fs::remove_dir);
    })
}

fn fill(
    mut prepared: Prepared,
    overrides: Vec<String>,
    output: Output,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    if output.png && !plot::PNG_AVAILABLE {
        return Err(plot::PlotError::NoPng).or_input();
    }
    let mut target = match &output.out {
        None => None,
        Some(dir) => {
            let target = OutputDir::open(dir, &prepared.digest, output.force).or_input()?;
            let cleanup = RemoveOnInterrupt::new(target.staging())?;
            Some((target, cleanup))
        }
    };
    let trace = output.trace.open()?;
    let contenders = std::mem::take(&mut prepared.contenders);
    let mut options = Options { laws: output.laws, ..Options::default() };
    if let (true, Some((target, _))) = (output.steps, &target) {
        let parts = contenders.iter().map(|contender| target.steps_part(&contender.key));
        options.steps = parts.collect::<Result<_, _>>()?;
    }
    if let Some(trace) = &trace {
        options.perfetto = trace.parts(contenders.len())?;
        options.perfetto_window = trace.window();
    }
    let comparison = with_progress(&prepared, &contenders, options, output.jobs, quiet)?;
    let Comparison { mut saved, steps, perfetto, broken } = comparison;
    saved.results.overrides = overrides;
    let warmup = prepared.scoring.warmup;
    if saved.requests.iter().all(|request| request.arrival_s < warmup.as_secs_f64()) {
        return Err(anyhow::anyhow!(
            "warmup: {warmup}: expected less: every request arrives before it, so none is scored"
        ))
        .or_input();
    }
    if let Some((mut target, cleanup)) = target.take() {
        target.put_results(&saved)?;
        if output.steps {
            target.put_steps(steps)?;
        }
        let figures = tempfile::tempdir_in(target.staging())?;
        let drawn = plot::draw_all(
            &saved.results,
            &saved.quantiles,
            &saved.timeline,
            &saved.states,
            figures.path(),
            output.png,
        )?;
        for figure in drawn {
            let name = figure.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            target.put(&format!("plots/{name}"), &std::fs::read(&figure)?)?;
        }
        drop(figures);
        interrupt::without(|| target.commit())?;
        drop(cleanup);
    }
    let table = match output.format {
        Format::Table => report::text(&saved.results),
        Format::Json => report::json(&saved.results),
        Format::Csv => report::csv(&saved.results),
    };
    std::io::stdout().write_all(table.as_bytes())?;
    if let (Some(dir), false) = (&output.out, quiet) {
        eprintln!("wrote {0}\nhint: `orbitflow report {0}` makes one HTML page of it", dir.display());
    }
    if let Some(trace) = trace {
        trace.finish(&saved.results, perfetto, quiet)?;
    }
    for (key, verdict) in &broken {
        for violation in &verdict.violations {
            eprintln!("{key}: {violation}");
        }
    }
    anyhow::ensure!(broken.is_empty(), "laws were broken in {} runs", broken.len());
    if output.laws && !quiet {
        eprintln!("laws 1 to 5 hold on every step");
    }
    Ok(ExitCode::SUCCESS)
}

fn with_progress(
    prepared: &Prepared,
    contenders: &[Contender],
    options: Options<'_>,
    jobs: Option<u16>,
    quiet: bool,
) -> anyhow::Result<Comparison> {
    let scales = prepared.scoring.scales.len() as u64;
    let runs: u64 = contenders.iter().map(|c| if c.make().looks_at_slo() { scales } else { 1 }).sum();
    let total = runs * prepared.trace.requests.len() as u64;
    let bar = Progress::new("simulating", "requests", total, quiet || !std::io::stderr().is_terminal());
    let report = |ended| bar.add(ended);
    let options = Options { progress: Some(&report), ..options };
    let threads = rayon::ThreadPoolBuilder::new().num_threads(jobs.map_or(0, usize::from)).build()?;
    Ok(within_213_days(|| threads.install(|| runner::compare(prepared, contenders, options)))?)
}
