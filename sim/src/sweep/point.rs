//! One point: simulated, or found in the folder already.

use std::path::Path;

use super::{PointRecord, SweepError, store};
use crate::report::rows::Results;
use crate::runner::{self, Options, Prepared, RunError, within_213_days};
use crate::scenario::{Grid, Scenario};

/// The results of one scenario, as `orbitflow compare` has them in `results.json`.
///
/// # Errors
/// Whatever the scenario names and is not there or does not fit together; time beyond 213 days. In words.
pub fn simulate(scenario: &Scenario) -> Result<Results, String> {
    simulate_prepared(&prepare(scenario)?)
}

fn simulate_prepared(prepared: &Prepared) -> Result<Results, String> {
    within_213_days(|| runner::compare(prepared, &prepared.contenders, Options::default()))
        .map(|comparison| comparison.saved.results)
        .map_err(|error| error.to_string())
}

fn prepare(scenario: &Scenario) -> Result<Prepared, String> {
    runner::prepare(scenario).map_err(|error: RunError| error.to_string())
}

/// Simulates and saves the point of that place unless it is in `dir` already. Whether it was.
///
/// # Errors
/// A folder that cannot be read or written. A point that fails is a record like the others.
pub fn run(grid: &Grid, index: usize, dir: &Path) -> Result<(PointRecord, bool), SweepError> {
    let point = grid.point(index);
    let mut record =
        PointRecord { index, point: point.name, coordinates: point.coordinates, digest: None, error: None };
    let mut reused = false;
    let results = prepare(&point.scenario).and_then(|prepared| {
        // A file that is there and broken is written again.
        reused = store::point_results(dir, &prepared.digest).is_ok();
        let results = if reused { None } else { Some(simulate_prepared(&prepared)?) };
        Ok((prepared.digest, results))
    });
    match results {
        Ok((digest, results)) => {
            if let Some(mut results) = results {
                results.scenario = store::file_name(&results.scenario);
                store::write_point(dir, index, &results)?;
            }
            record.digest = Some(digest);
        }
        Err(error) => record.error = Some(error),
    }
    Ok((record, reused))
}
