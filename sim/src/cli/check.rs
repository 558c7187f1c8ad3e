//! `orbitflow check`: every policy twice under all laws.

use std::io::Write;
use std::process::ExitCode;

use super::progress::Progress;
use super::scenario_args::ScenarioArgs;
use super::table::{Cell, Table};
use super::{Format, OrInput};
use crate::runner::{self, Prepared, within_213_days};
use crate::scenario::GridPoint;

/// Run every policy twice under all laws, at every point of a grid; name the first event that differs. Exit code 1 if anything is wrong.
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
    let grid = args.scenario.load_grid()?;
    let points: Vec<GridPoint> = grid.points().collect();
    let prepared: Result<Vec<Prepared>, _> =
        points.iter().map(|point| runner::prepare(&point.scenario)).collect();
    let prepared = prepared.or_input()?;
    let runs = prepared.iter().map(runner::check_runs).sum();
    let bar = Progress::new("checking", "runs", runs, quiet);
    let mut checked = Vec::new();
    for (point, prepared) in points.iter().zip(&prepared) {
        let of_point = within_213_days(|| runner::check(prepared, Some(&|runs| bar.add(runs))))?;
        checked.extend(of_point.into_iter().map(|one| (point.name.as_str(), one)));
    }
    bar.finish();
    let columns = ["policy", "slo_scale", "events", "steps_checked", "laws_broken", "second_run"];
    let of_a_grid = !grid.axes.is_empty();
    let mut table = Table::new(of_a_grid.then_some("point").into_iter().chain(columns));
    for (point, one) in &checked {
        let cells = [
            one.key.as_str().into(),
            Cell::Number(one.scale, 2),
            (one.events as u64).into(),
            one.verdict.steps.into(),
            one.verdict.count.into(),
            if one.difference.is_none() { "the same" } else { "differs" }.into(),
        ];
        table.push(of_a_grid.then(|| (*point).into()).into_iter().chain(cells));
    }
    std::io::stdout().write_all(table.render(args.format)?.as_bytes())?;
    for (point, one) in &checked {
        let at = if point.is_empty() { String::new() } else { format!("{point}: ") };
        for violation in &one.verdict.violations {
            eprintln!("{at}{} at SLO scale {}: {violation}", one.key, one.scale);
        }
        if let Some(difference) = &one.difference {
            let record = difference.record.as_deref().unwrap_or("the second run ended before it");
            eprintln!(
                "{at}{} at SLO scale {}: event {} differs: {record}",
                one.key, one.scale, difference.place
            );
        }
    }
    let wrong = checked.iter().filter(|(_, one)| !one.holds()).count();
    anyhow::ensure!(wrong == 0, "{wrong} of {} checks failed", checked.len());
    Ok(ExitCode::SUCCESS)
}
