//! `orbitflow check`: every policy twice under all laws.

use std::io::Write;
use std::process::ExitCode;

use super::limits::within_213_days;
use super::progress::Progress;
use super::scenario_args::ScenarioArgs;
use super::table::{Cell, Table};
use super::{Format, OrInput};
use crate::runner;

/// Run every policy twice under all laws; name the first event that differs. Exit code 1 if anything is wrong.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// Wrong input; a broken law; two runs that differ.
pub fn run(args: Args, quiet: bool) -> anyhow::Result<ExitCode> {
    let prepared = runner::prepare(&args.scenario.load()?).or_input()?;
    let bar = Progress::new("checking", "runs", runner::check_runs(&prepared), quiet);
    let checked = within_213_days(|| runner::check(&prepared, Some(&|runs| bar.add(runs))))?;
    bar.finish();
    let mut table =
        Table::new(["policy", "slo_scale", "events", "steps_checked", "laws_broken", "second_run"]);
    for one in &checked {
        table.push([
            one.key.as_str().into(),
            Cell::Number(one.scale, 2),
            (one.events as u64).into(),
            one.verdict.steps.into(),
            one.verdict.count.into(),
            if one.difference.is_none() { "the same" } else { "differs" }.into(),
        ]);
    }
    std::io::stdout().write_all(table.render(args.format)?.as_bytes())?;
    for one in &checked {
        for violation in &one.verdict.violations {
            eprintln!("{} at SLO scale {}: {violation}", one.key, one.scale);
        }
        if let Some(difference) = &one.difference {
            let record = difference.record.as_deref().unwrap_or("the second run ended before it");
            eprintln!("{} at SLO scale {}: event {} differs: {record}", one.key, one.scale, difference.place);
        }
    }
    let wrong = checked.iter().filter(|one| !one.holds()).count();
    anyhow::ensure!(wrong == 0, "{wrong} of {} checks failed", checked.len());
    Ok(ExitCode::SUCCESS)
}
