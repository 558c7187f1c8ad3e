//! Figures of a sweep: scores against an axis as lines, P95 and throughput as bars, one score over two axes as a map.
//!
//! A [`Figure`] is its rows: the CSV that is written beside it holds exactly those, and it is drawn from nothing else
//! but them and its words. Names are stable (`NAME` below; what is no letter, digit, `-`, `_` or `.` in a key is `_`):
//!
//! ```text
//! attainment-by-AXIS     attainments, playback stall, median TTFT and throughput, as lines
//! METRIC-by-AXIS         one score, and beside one of TBT what it costs
//! bars-by-AXIS, bars     P95 TBT and throughput, and what they cost, as bars
//! heatmap-METRIC-by-X-and-Y  one score as a map, a panel per policy
//! ```

mod bars;
mod choice;
mod lines;
mod map;
mod measure;
mod sheet;
mod table;

use std::fmt::Write as _;

pub use choice::{Choice, ChoiceError};
pub use table::Column;

use super::page;
use crate::report::grid::GridResults;
use choice::Plan;
use table::Table;

/// How the rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line per policy.
    Lines,
    /// A bar per policy.
    Bars,
    /// A panel per policy.
    Map,
}

/// A mean over seeds: what one point, bar or cell shows, and a row of the CSV.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// A cell for each of the figure's columns: the place on each axis but the seed.
    pub at: Vec<String>,
    /// Key of the policy.
    pub policy: String,
    /// Its name.
    pub label: String,
    /// Column of `sweep.csv`; its end is the unit of the mean.
    pub metric: String,
    /// Values behind the mean.
    pub seeds: usize,
    /// Points of this place that have no value: they failed, or there is nothing to measure.
    pub missing: usize,
    /// `None` without a value.
    pub mean: Option<f64>,
    /// Lower end of the 95 % interval (Student's t); `None` for fewer than two values.
    pub ci95_low: Option<f64>,
    /// Upper end.
    pub ci95_high: Option<f64>,
}

/// An axis that a figure does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `key = value`.
    pub text: String,
    /// Whether the axis has other values.
    pub has_others: bool,
}

/// One figure: its rows, and the words around them.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Stem of its files.
    pub name: String,
    /// How it is drawn.
    pub kind: Kind,
    /// What the cells of [`Row::at`] are.
    pub columns: Vec<Column>,
    /// The column along the lower side; `None`: there is one place.
    pub x: Option<usize>,
    /// The column of the rows of panels, or of the left side of a map.
    pub second: Option<usize>,
    /// Axes that it does not show.
    pub held: Vec<Held>,
    /// What it shows of what.
    pub title: String,
    /// What the means are of.
    pub averaged: String,
    /// Sentences below it.
    pub notes: Vec<String>,
    /// The program and the input.
    pub origin: String,
    /// What it shows.
    pub rows: Vec<Row>,
}

/// Figures of a sweep.
///
/// # Errors
/// A choice of what there is not; a sweep without a point that was simulated.
pub fn figures(results: &GridResults, choice: &Choice) -> Result<Vec<Figure>, ChoiceError> {
    let table = Table::new(results, choice::seed(choice));
    let plans = choice::plans(&table, choice)?;
    Ok(plans.iter().map(|plan| figure(&table, choice, plan)).collect())
}

fn figure(table: &Table<'_>, choice: &Choice, plan: &Plan) -> Figure {
    let columns: Vec<Column> = table.dimensions.iter().map(|dimension| dimension.column.clone()).collect();
    let free: Vec<usize> = [plan.second, plan.x].into_iter().flatten().collect();
    let cells = table.cells(&plan.held);
    let held = (columns.iter().zip(&cells).enumerate())
        .filter(|(index, _)| !free.contains(index))
        .map(|(index, (column, cell))| Held {
            text: column.assign(cell),
            has_others: table.dimensions[index].stops.len() > 1,
        })
        .collect();
    let results = table.results;
    let failed = results.points.iter().filter(|point| point.scored.is_empty()).count();
    let mut notes = Vec::new();
    if failed > 0 {
        let points = results.points.len();
        notes.push(format!(
            "{failed} of {points} points failed: means there are over fewer seeds, or missing."
        ));
    }
    notes.extend(moving_slo(results));
    if !results.notes.is_empty() {
        notes.push(format!("Of every point: {}.", results.notes.join("; ")));
    }
    Figure {
        name: name(plan, &columns),
        kind: plan.kind,
        title: title(plan, &columns, &results.grid),
        averaged: averaged(table, choice, plan.kind),
        held,
        notes,
        origin: page::origin(&results.tool_version, "grid", &results.grid_digest, &results.switches),
        rows: table.rows(&free, &plan.held, &plan.metrics),
        columns,
        x: plan.x,
        second: plan.second,
    }
}

/// That one scale is not one promise, where the base SLO is not the same at every point: it follows compute and the pool.
fn moving_slo(results: &GridResults) -> Option<String> {
    let scored = results.points.iter().flat_map(|point| &point.scored);
    let (least, most) = scored
        .map(|scored| scored.slo_s / scored.slo_scale * 1e3)
        .fold((f64::INFINITY, 0.0_f64), |(least, most), base| (least.min(base), most.max(base)));
    (most > least * 1.001).then(|| {
        format!(
            "SLO scale 1 is {least:.1} to {most:.1} ms per token: the base SLO follows compute and pool of each point, so \
             one scale is not one promise."
        )
    })
}

fn name(plan: &Plan, columns: &[Column]) -> String {
    let key = |axis: Option<usize>| axis.map_or(String::new(), |axis| super::plain(&columns[axis].key));
    let x = key(plan.x);
    match (plan.kind, plan.metric) {
        (Kind::Lines, None) => format!("attainment-by-{x}"),
        (Kind::Lines, Some(metric)) => format!("{metric}-by-{x}"),
        (Kind::Bars, _) if plan.x.is_none() => "bars".to_owned(),
        (Kind::Bars, _) => format!("bars-by-{x}"),
        (Kind::Map, _) => format!("heatmap-{}-by-{x}-and-{}", plan.metrics[0], key(plan.second)),
    }
}

fn title(plan: &Plan, columns: &[Column], grid: &str) -> String {
    let axis = |axis: Option<usize>| {
        axis.map_or(String::new(), |axis| {
            // Without what stands in brackets.
            let title = columns[axis].title.split(" (").next().unwrap_or_default();
            // "SLO scale" keeps its capitals.
            let is_word = title.chars().nth(1).is_some_and(char::is_lowercase);
            if is_word { title[..1].to_lowercase() + &title[1..] } else { title.to_owned() }
        })
    };
    let metric = measure::find(plan.metrics[0]).map_or("", |measure| measure.title);
    match (plan.kind, plan.metric) {
        (Kind::Lines, None) => format!("SLO attainment, and what it costs, against {}: {grid}", axis(plan.x)),
        (Kind::Lines, Some(_)) => format!("{metric} against {}: {grid}", axis(plan.x)),
        (Kind::Bars, _) => {
            let by = if plan.x.is_some() { format!(" by {}", axis(plan.x)) } else { String::new() };
            format!("P95 time between tokens (TBT), throughput and e2e{by}: {grid}")
        }
        (Kind::Map, _) => format!("{metric} over {} and {}: {grid}", axis(plan.x), axis(plan.second)),
    }
}

/// What a mean is over, and why there is no interval where there is none.
fn averaged(table: &Table<'_>, choice: &Choice, kind: Kind) -> String {
    match (table.seeds(), choice::seed(choice)) {
        (None, _) => "One run per place: no intervals".to_owned(),
        (Some(_), Some(seed)) => format!("Seed {seed} alone: no intervals"),
        (Some(seeds), None) if seeds.len() == 1 => format!("Seed {} alone: no intervals", seeds[0]),
        (Some(seeds), None) => {
            let intervals = if kind == Kind::Map { "in the CSV beside it" } else { "whiskers" };
            format!("Means over {} seeds; {intervals}: 95 % intervals (Student's t)", seeds.len())
        }
    }
}

impl Figure {
    /// The figure as SVG.
    ///
    /// # Errors
    /// What the drawing backend said.
    pub fn svg(&self) -> Result<String, String> {
        match self.kind {
            Kind::Lines => lines::draw(self),
            Kind::Bars => bars::draw(self),
            Kind::Map => map::draw(self),
        }
    }

    /// Its rows as CSV, numbers so that they read back the same.
    pub fn csv(&self) -> String {
        let mut text = String::new();
        let head = self.columns.iter().map(|column| column.name.as_str());
        let rest = ["policy", "label", "metric", "seeds", "missing", "mean", "ci95_low", "ci95_high"];
        push_line(&mut text, head.chain(rest));
        for row in &self.rows {
            let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
            let counts = [row.seeds.to_string(), row.missing.to_string()];
            let values = [number(row.mean), number(row.ci95_low), number(row.ci95_high)];
            let cells = row.at.iter().chain([&row.policy, &row.label, &row.metric]);
            push_line(&mut text, cells.chain(&counts).chain(&values).map(String::as_str));
        }
        text
    }

    /// Cells of a column in the order of the rows, each once.
    fn stops(&self, column: usize) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.at[column].as_str()))
    }

    /// Key and name of each policy, in the order of the rows.
    fn policies(&self) -> Vec<(&str, &str)> {
        distinct(self.rows.iter().map(|row| (row.policy.as_str(), row.label.as_str())))
    }

    /// Scores in the order of the rows.
    fn measures(&self) -> Vec<measure::Measure> {
        distinct(self.rows.iter().map(|row| row.metric.as_str()))
            .into_iter()
            .filter_map(measure::find)
            .collect()
    }

    /// Rows without a value.
    fn without_value(&self) -> usize {
        self.rows.iter().filter(|row| row.mean.is_none()).count()
    }
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for item in items {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

/// Cells with a comma, a quote or a line break stand in quotes (RFC 4180).
fn push_line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>) {
    for (index, cell) in cells.enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let written = if cell.contains([',', '"', '\n', '\r']) {
            write!(text, "{separator}\"{}\"", cell.replace('"', "\"\""))
        } else {
            write!(text, "{separator}{cell}")
        };
        written.expect("Invariant: a string takes any text");
    }
    text.push('\n');
}
