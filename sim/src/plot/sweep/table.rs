//! Means over seeds of a sweep's scores: one row per place, policy and score.
//!
//! The axis `seed` is averaged over; every other axis, and the SLO scale as one more, is a column. A place has as many
//! values as it has points; those that failed, and scores that a run has not, are counted as missing and never taken
//! for 0.

use std::collections::BTreeMap;

use super::Row;
use crate::plot::words;
use crate::report::grid::{AxisUnit, GridPoint, GridResults, Scored};
use crate::statistics::Interval;

/// The axis that is averaged over.
pub const SEED: &str = "seed";
/// The SLO scale, which every point has several of.
pub const SLO_SCALE: &str = "slo.scale";

/// A column of places.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Key of the scenario, or the axis' own name.
    pub key: String,
    /// In the head of the CSV: the key with its unit.
    pub name: String,
    /// Along an axis, with its unit.
    pub title: String,
    /// Of its numbers.
    pub unit: AxisUnit,
}

/// One value of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// As the grid writes it.
    pub text: String,
    /// In the CSV: the number in the column's unit, or the text.
    pub cell: String,
    /// The number.
    pub number: Option<f64>,
}

/// A column with its values: numbers ascending, names in the order of the file.
#[derive(Clone, Debug)]
pub struct Dimension {
    /// What it is called.
    pub column: Column,
    /// Its values.
    pub stops: Vec<Stop>,
}

/// The scores by place.
pub struct Table<'a> {
    /// What is tabulated.
    pub results: &'a GridResults,
    /// Every axis but the seed; the SLO scale last, unless it is an axis itself.
    pub dimensions: Vec<Dimension>,
    /// The scale that is planned for: the first of the first point.
    pub planned: Option<f64>,
    /// Points by the index of their stop in each dimension but the SLO scale.
    places: BTreeMap<Vec<usize>, Vec<&'a GridPoint>>,
    has_scales: bool,
}

/// The values of an axis as they are figured: `order[i]` is the stop of the i-th value of the file.
fn dimension(key: &str, unit: AxisUnit, values: &[(String, Option<f64>)]) -> (Dimension, Vec<usize>) {
    let mut sorted: Vec<usize> = (0..values.len()).collect();
    if unit != AxisUnit::Words {
        sorted.sort_by(|a, b| {
            let number = |place: &usize| values[*place].1.unwrap_or(f64::NAN);
            number(a).total_cmp(&number(b))
        });
    }
    let mut order = vec![0; values.len()];
    for (stop, place) in sorted.iter().enumerate() {
        order[*place] = stop;
    }
    let stops = sorted.iter().map(|place| {
        let (text, number) = &values[*place];
        let cell = number.map_or_else(|| text.clone(), |number| number.to_string());
        Stop { text: text.clone(), cell, number: *number }
    });
    (Dimension { column: column(key, unit), stops: stops.collect() }, order)
}

/// Keys that people call by another name, and that name.
const TITLES: [(&str, &str); 8] = [
    ("trace.load", "Load factor"),
    ("trace.draw.load", "Load (times the base load)"),
    ("trace.draw.cv", "Burstiness (cv of the gaps)"),
    ("link", "Link rate"),
    (SLO_SCALE, "SLO scale"),
    ("slo.tbt", "SLO per token"),
    ("batch_size", "Batch size"),
    ("engine.slots", "Staging slots per request"),
];

fn column(key: &str, unit: AxisUnit) -> Column {
    let (suffix, shown) = match unit {
        AxisUnit::Words | AxisUnit::Plain => ("", ""),
        AxisUnit::Seconds => ("_s", ""),
        AxisUnit::Gibibytes => ("_gib", " (GiB)"),
        AxisUnit::GigabytesPerSecond => ("_gb_per_s", " (GB/s)"),
    };
    let title = TITLES.iter().find(|(known, _)| *known == key).map_or(key, |(_, title)| title);
    // As `sweep.csv` calls it.
    let name = if key == SLO_SCALE { "slo_scale" } else { key };
    Column { key: key.to_owned(), name: format!("{name}{suffix}"), title: format!("{title}{shown}"), unit }
}

impl Column {
    /// A cell of the CSV as figures write it.
    pub fn write(&self, cell: &str) -> String {
        match (self.unit, cell.parse::<f64>()) {
            (AxisUnit::Words, _) | (_, Err(_)) => cell.to_owned(),
            (AxisUnit::Seconds, Ok(number)) => words::seconds(number),
            (_, Ok(number)) if self.key == SLO_SCALE => words::factor(number),
            (_, Ok(number)) => words::number(number),
        }
    }

    /// `trace.load = 2`, `link = 7 GB/s`.
    pub fn assign(&self, cell: &str) -> String {
        let unit = match self.unit {
            AxisUnit::Gibibytes => " GiB",
            AxisUnit::GigabytesPerSecond => " GB/s",
            _ => "",
        };
        format!("{} = {}{unit}", self.key, self.write(cell))
    }
}

impl Dimension {
    /// Whether its values are numbers.
    pub fn is_numeric(&self) -> bool {
        self.column.unit != AxisUnit::Words
    }

    /// The stop of that value: as the grid writes it, as the CSV does, or another way to write the same number.
    pub fn find(&self, value: &str) -> Option<usize> {
        let value = value.trim();
        let number: Option<f64> = value.parse().ok();
        self.stops.iter().position(|stop| {
            stop.text == value || stop.cell == value || (number.is_some() && stop.number == number)
        })
    }
}

impl<'a> Table<'a> {
    /// Sorts the points into their places; only those of one seed if it is given.
    pub fn new(results: &'a GridResults, seed: Option<&str>) -> Table<'a> {
        let mut dimensions = Vec::new();
        let mut orders: Vec<Option<Vec<usize>>> = Vec::new();
        let mut seed_axis = None;
        for (index, axis) in results.axes.iter().enumerate() {
            if axis.key == SEED {
                seed_axis = Some(index);
                orders.push(None);
                continue;
            }
            let values: Vec<_> = axis.values.iter().map(|value| (value.text.clone(), value.number)).collect();
            let (made, order) = dimension(&axis.key, axis.unit, &values);
            dimensions.push(made);
            orders.push(Some(order));
        }
        let mut places: BTreeMap<Vec<usize>, Vec<&GridPoint>> = BTreeMap::new();
        for point in &results.points {
            let of_seed = seed_axis.map(|axis| results.axes[axis].values[point.place[axis]].text.as_str());
            if seed.is_some() && of_seed != seed {
                continue;
            }
            let stops = point.place.iter().zip(&orders);
            let place = stops.filter_map(|(value, order)| Some(order.as_ref()?[*value])).collect();
            places.entry(place).or_default().push(point);
        }
        let scored = || results.points.iter().flat_map(|point| &point.scored);
        let planned = scored().next().map(|scored| scored.slo_scale);
        let has_scales = !results.axes.iter().any(|axis| axis.key == SLO_SCALE);
        if has_scales {
            let mut scales: Vec<f64> = Vec::new();
            for scored in scored() {
                if !scales.contains(&scored.slo_scale) {
                    scales.push(scored.slo_scale);
                }
            }
            let values: Vec<_> = scales.iter().map(|scale| (scale.to_string(), Some(*scale))).collect();
            dimensions.push(dimension(SLO_SCALE, AxisUnit::Plain, &values).0);
        }
        Table { results, dimensions, planned, places, has_scales }
    }

    /// Values of the seed axis; `None` without one.
    pub fn seeds(&self) -> Option<Vec<&str>> {
        let axis = self.results.axes.iter().find(|axis| axis.key == SEED)?;
        Some(axis.values.iter().map(|value| value.text.as_str()).collect())
    }

    /// Index of the dimension of that key.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.dimensions.iter().position(|dimension| dimension.column.key == key)
    }

    /// The rows of a figure: the stops of the `free` dimensions, the first slowest, each with every policy and score;
    /// the other dimensions at their stop in `held`.
    pub fn rows(&self, free: &[usize], held: &[usize], metrics: &[&'static str]) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut at = held.to_vec();
        self.fill(free, &mut at, metrics, &mut rows);
        rows
    }

    fn fill(&self, free: &[usize], at: &mut Vec<usize>, metrics: &[&'static str], rows: &mut Vec<Row>) {
        if let Some((dimension, rest)) = free.split_first() {
            for stop in 0..self.dimensions[*dimension].stops.len() {
                at[*dimension] = stop;
                self.fill(rest, at, metrics, rows);
            }
            return;
        }
        for (policy, (key, label)) in self.results.policies.iter().enumerate() {
            let (points, scored) = self.scored(at, policy);
            for metric in metrics {
                let values: Vec<f64> = scored.iter().filter_map(|scored| scored.get(metric)).collect();
                let interval = Interval::of(&values);
                let bounded = interval.filter(|interval| interval.half.is_finite());
                rows.push(Row {
                    at: self.cells(at),
                    policy: key.clone(),
                    label: label.clone(),
                    metric: (*metric).to_owned(),
                    seeds: values.len(),
                    missing: points - values.len(),
                    mean: interval.map(|interval| interval.mean),
                    ci95_low: bounded.map(|interval| interval.low()),
                    ci95_high: bounded.map(|interval| interval.high()),
                });
            }
        }
    }

    /// How many points a place has, and what those have of a policy.
    fn scored(&self, at: &[usize], policy: usize) -> (usize, Vec<&'a Scored>) {
        let (place, scale) = match (self.has_scales, at.split_last()) {
            (true, Some((scale, place))) => {
                (place, self.dimensions[place.len()].stops.get(*scale).and_then(|stop| stop.number))
            }
            _ => (at, None),
        };
        let points = self.places.get(place).map_or(&[][..], Vec::as_slice);
        let of_policy = |point: &&'a GridPoint| {
            point.scored.iter().find(|scored| {
                // An axis of scales has one scored row per point and policy: its first.
                scored.policy == policy && scale.is_none_or(|scale| scored.slo_scale == scale)
            })
        };
        (points.len(), points.iter().filter_map(of_policy).collect())
    }

    /// The cells of a place.
    pub fn cells(&self, at: &[usize]) -> Vec<String> {
        at.iter().zip(&self.dimensions).map(|(stop, dimension)| dimension.stops[*stop].cell.clone()).collect()
    }
}
