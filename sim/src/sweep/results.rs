//! A finished sweep, read back for its figures: one point at a time, of each only its scores.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Manifest, SweepError, store};
use crate::report::grid::{AxisUnit, GridAxis, GridPoint, GridResults, GridValue, Scored};
use crate::report::rows::Results;
use crate::scenario::quantity::Dimension;
use crate::scenario::{AxisNumber, axis_number};

/// The scores of every point of the finished sweep in `dir`.
///
/// # Errors
/// No such folder, a sweep that has not ended, a point whose file is missing or broken.
pub fn grid_results(dir: &Path) -> Result<GridResults, SweepError> {
    let manifest = store::load(dir)?;
    let places = places(&manifest);
    let mut results = GridResults {
        axes: axes(&manifest, &places),
        grid: manifest.grid,
        grid_digest: manifest.grid_digest,
        tool_version: manifest.tool_version,
        policies: Vec::new(),
        points: Vec::with_capacity(manifest.points.len()),
        notes: Vec::new(),
        switches: BTreeMap::new(),
    };
    let mut is_first = true;
    for point in &manifest.points {
        let place = point.coordinates.iter().zip(&places).map(|((_, text), places)| places[text]).collect();
        let mut scored = Vec::new();
        if let Some(digest) = &point.digest {
            let saved = store::point_results(dir, digest)?;
            scored = Scored::of(&saved.policies, |policy| {
                let known = results.policies.iter().position(|(key, _)| *key == policy.key);
                known.unwrap_or_else(|| {
                    results.policies.push((policy.key.clone(), policy.label.clone()));
                    results.policies.len() - 1
                })
            });
            keep_common(&mut results, saved, is_first);
            is_first = false;
        }
        results.points.push(GridPoint { place, scored });
    }
    Ok(results)
}

/// Notes and switches that every point has.
fn keep_common(results: &mut GridResults, saved: Results, is_first: bool) {
    if is_first {
        (results.notes, results.switches) = (saved.notes, saved.switches);
    } else {
        results.notes.retain(|note| saved.notes.contains(note));
        results.switches.retain(|switch, value| saved.switches.get(switch) == Some(value));
    }
}

/// The values of each axis, numbered in the order in which the points first have them.
fn places(manifest: &Manifest) -> Vec<BTreeMap<String, usize>> {
    let mut places = vec![BTreeMap::new(); manifest.axes.len()];
    for point in &manifest.points {
        for ((_, text), places) in point.coordinates.iter().zip(&mut places) {
            let next = places.len();
            places.entry(text.clone()).or_insert(next);
        }
    }
    places
}

/// An axis has numbers if every value of it is one, all in one unit.
fn axes(manifest: &Manifest, places: &[BTreeMap<String, usize>]) -> Vec<GridAxis> {
    let axis = |(key, places): (&String, &BTreeMap<String, usize>)| {
        let mut texts: Vec<&String> = places.keys().collect();
        texts.sort_by_key(|text| places[*text]);
        let numbers: Option<Vec<AxisNumber>> = texts.iter().map(|text| axis_number(key, text)).collect();
        let values = texts.into_iter().map(|text| GridValue { text: text.clone(), number: None });
        let mut axis = GridAxis { key: key.clone(), unit: AxisUnit::Words, values: values.collect() };
        if let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) {
            axis.unit = unit(numbers[0]);
            for (value, number) in axis.values.iter_mut().zip(numbers) {
                value.number = Some(in_unit(number));
            }
        }
        axis
    };
    manifest.axes.iter().zip(places).map(axis).collect()
}

const fn unit(number: AxisNumber) -> AxisUnit {
    match number.dimension {
        None => AxisUnit::Plain,
        Some(Dimension::Duration) => AxisUnit::Seconds,
        Some(Dimension::Bytes) => AxisUnit::Gibibytes,
        Some(Dimension::Rate) => AxisUnit::GigabytesPerSecond,
    }
}

/// In the axis' unit. Sizes and rates are whole bytes, so the quotient is the same on every machine.
fn in_unit(number: AxisNumber) -> f64 {
    match unit(number) {
        AxisUnit::Gibibytes => number.value / (1_u64 << 30) as f64,
        AxisUnit::GigabytesPerSecond => number.value / 1e9,
        AxisUnit::Plain | AxisUnit::Seconds | AxisUnit::Words => number.value,
    }
}
