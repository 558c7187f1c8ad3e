//! Which figures of a sweep are drawn, and where the axes that a figure does not show are held.
//!
//! Without a wish: against every axis the scores as lines and as bars, a map over the first two numeric axes, and the
//! scores against the SLO scale. An axis that a figure does not show is held at one value: numbers at the middle
//! one, names at the first, the SLO scale at the one that is planned for; names of few values are facets instead.

use super::table::{SEED, SLO_SCALE, Table};
use super::{Kind, measure};

/// More bars than this in one panel cannot be told apart.
const MOST_BARS: usize = 160;

/// Names of at most so many values are shown side by side instead of one of them.
const MOST_FACETS: usize = 4;

/// What the reader wishes to see; everything absent is chosen as the module's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Axis along the lower side.
    pub x: Option<String>,
    /// Axis along the left side: asks for a map.
    pub y: Option<String>,
    /// Axis whose values are rows of panels.
    pub facet: Option<String>,
    /// Column of `sweep.csv`.
    pub metric: Option<String>,
    /// Axes and the values that they are held at.
    pub held: Vec<(String, String)>,
}

/// Why a wish cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Every point failed.
    #[error(
        "no point of the sweep was simulated, so there is nothing to draw\nhint: sweep.json says why each failed"
    )]
    NothingDone,
    /// No such axis.
    #[error("{option}: `{name}` is no axis of this sweep: expected one of {known}")]
    UnknownAxis {
        /// The flag.
        option: &'static str,
        /// What it names.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such value.
    #[error("--where: {axis}: `{value}` is no value of this axis: expected one of {known}")]
    UnknownValue {
        /// The axis.
        axis: String,
        /// What it was to be.
        value: String,
        /// What there is.
        known: String,
    },
    /// No such score.
    #[error("--metric: `{name}` is no column of sweep.csv: expected one of {known}")]
    UnknownMetric {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// An axis in two roles.
    #[error("{first} and {second} both name `{axis}`: expected two different axes")]
    Twice {
        /// One flag.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The axis.
        axis: String,
    },
    /// A map over one axis.
    #[error("--y: a map needs a second axis, and this sweep has only `{axis}` besides seeds")]
    NoSecondAxis {
        /// The one there is.
        axis: String,
    },
    /// Facets of a map.
    #[error(
        "--facet: a map has one panel per policy and no facets\nhint: `--where {axis}=VALUE` takes one value"
    )]
    FacetOfMap {
        /// The axis.
        axis: String,
    },
}

/// One figure to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub kind: Kind,
    /// `None`: the policies side by side at one place.
    pub x: Option<usize>,
    /// Rows of panels, or the left side of a map.
    pub second: Option<usize>,
    /// A stop of every dimension; those of the free ones say nothing.
    pub held: Vec<usize>,
    pub metrics: Vec<&'static str>,
    /// The score that was asked for.
    pub metric: Option<&'static str>,
}

/// Scores of a figure of lines, and beside those of TBT what they cost.
const LINES: [&str; 8] = [
    "e2e_pct",
    "tbt_step_deposit_pct",
    "tbt_gap_pct",
    "tpot_gap_pct",
    "ttft_pct",
    "playback_stall_pct",
    "ttft_p50_s",
    "throughput_tokens_per_s",
];
/// Scores of a figure of bars, likewise.
const BARS: [&str; 6] = [
    "tbt_step_p95_s",
    "tbt_gap_p95_s",
    "throughput_tokens_per_s",
    "e2e_pct",
    "playback_stall_pct",
    "ttft_p50_s",
];

/// The seed that `--where` names.
pub(super) fn seed(choice: &Choice) -> Option<&str> {
    choice.held.iter().rev().find(|(key, _)| key == SEED).map(|(_, value)| value.as_str())
}

pub(super) fn plans(table: &Table<'_>, choice: &Choice) -> Result<Vec<Plan>, ChoiceError> {
    if table.results.policies.is_empty() {
        return Err(ChoiceError::NothingDone);
    }
    let mut planner = Planner::new(table, choice)?;
    let axis =
        |option, name: &Option<String>| name.as_ref().map(|name| find(table, option, name)).transpose();
    let (x, y) = (axis("--x", &choice.x)?, axis("--y", &choice.y)?);
    planner.facet = axis("--facet", &choice.facet)?;
    planner.refuse_two_roles(x, y)?;
    if let Some(y) = y {
        if let Some(facet) = &choice.facet {
            return Err(ChoiceError::FacetOfMap { axis: facet.clone() });
        }
        let x = x.or_else(|| planner.varied().into_iter().find(|axis| *axis != y));
        let x = x.ok_or_else(|| ChoiceError::NoSecondAxis { axis: planner.key(y) })?;
        return Ok(vec![planner.map(x, y)]);
    }
    if let Some(x) = x {
        return Ok(planner.against(x));
    }
    let varied = planner.varied();
    let scale = table.find(SLO_SCALE);
    let (scales, axes): (Vec<usize>, Vec<usize>) = varied.iter().partition(|axis| Some(**axis) == scale);
    let mut plans: Vec<Plan> = Vec::new();
    for plan in axes.iter().flat_map(|axis| planner.against(*axis)) {
        // Bars of one place are the same whichever axis has too many.
        if !plans.contains(&plan) {
            plans.push(plan);
        }
    }
    if axes.is_empty() && planner.metric.is_none() {
        plans.push(planner.plan(Kind::Bars, None, BARS.to_vec()));
    }
    plans.extend(scales.iter().map(|scale| planner.lines(*scale)));
    let numeric: Vec<usize> =
        axes.into_iter().filter(|axis| table.dimensions[*axis].is_numeric()).take(2).collect();
    if let [x, y] = numeric[..] {
        plans.push(planner.map(x, y));
    }
    Ok(plans)
}

fn find(table: &Table<'_>, option: &'static str, name: &str) -> Result<usize, ChoiceError> {
    table.find(name).ok_or_else(|| {
        let known = table.dimensions.iter().map(|dimension| format!("`{}`", dimension.column.key));
        let seed = table.seeds().filter(|_| option == "--where").map(|_| format!("`{SEED}`"));
        let known = known.chain(seed).collect::<Vec<_>>().join(", ");
        ChoiceError::UnknownAxis { option, name: name.to_owned(), known }
    })
}

struct Planner<'a> {
    table: &'a Table<'a>,
    held: Vec<usize>,
    is_held: Vec<bool>,
    facet: Option<usize>,
    metric: Option<&'static str>,
}

impl<'a> Planner<'a> {
    fn new(table: &'a Table<'a>, choice: &Choice) -> Result<Planner<'a>, ChoiceError> {
        let metric = choice.metric.as_ref().map(|name| metric(name)).transpose()?;
        let mut held: Vec<usize> = Vec::new();
        for dimension in &table.dimensions {
            held.push(match (dimension.column.key.as_str(), table.planned) {
                (SLO_SCALE, Some(planned)) => {
                    dimension.stops.iter().position(|stop| stop.number == Some(planned)).unwrap_or(0)
                }
                _ if dimension.is_numeric() => (dimension.stops.len() - 1) / 2,
                _ => 0,
            });
        }
        let mut planner = Planner { table, is_held: vec![false; held.len()], held, facet: None, metric };
        for (key, value) in &choice.held {
            planner.hold(key, value)?;
        }
        Ok(planner)
    }

    fn hold(&mut self, key: &str, value: &str) -> Result<(), ChoiceError> {
        let unknown = |known: Vec<&str>| {
            let known = known.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
            ChoiceError::UnknownValue { axis: key.to_owned(), value: value.to_owned(), known }
        };
        if let (SEED, Some(seeds)) = (key, self.table.seeds()) {
            return if seeds.contains(&value) { Ok(()) } else { Err(unknown(seeds)) };
        }
        let axis = find(self.table, "--where", key)?;
        let dimension = &self.table.dimensions[axis];
        self.held[axis] = dimension
            .find(value)
            .ok_or_else(|| unknown(dimension.stops.iter().map(|stop| stop.text.as_str()).collect()))?;
        self.is_held[axis] = true;
        Ok(())
    }

    fn key(&self, axis: usize) -> String {
        self.table.dimensions[axis].column.key.clone()
    }

    /// No axis may be two of x, y, facet and held.
    fn refuse_two_roles(&self, x: Option<usize>, y: Option<usize>) -> Result<(), ChoiceError> {
        let roles = [("--x", x), ("--y", y), ("--facet", self.facet)];
        for (index, (second, axis)) in roles.iter().enumerate() {
            let Some(axis) = *axis else { continue };
            let other =
                roles[..index].iter().find(|(_, other)| *other == Some(axis)).map(|(first, _)| *first);
            let other = other.or(self.is_held[axis].then_some("--where"));
            if let Some(first) = other {
                return Err(ChoiceError::Twice { first, second, axis: self.key(axis) });
            }
        }
        Ok(())
    }

    /// Axes of more than one value that are not held.
    fn varied(&self) -> Vec<usize> {
        let free = |axis: &usize| !self.is_held[*axis] && self.table.dimensions[*axis].stops.len() > 1;
        (0..self.held.len()).filter(free).collect()
    }

    /// The axis of the facets of a figure against `x`: the one asked for, or the first of few names.
    fn facet(&self, x: Option<usize>) -> Option<usize> {
        let few_names = |axis: &usize| {
            let dimension = &self.table.dimensions[*axis];
            !dimension.is_numeric() && dimension.stops.len() <= MOST_FACETS
        };
        let asked =
            self.facet.or_else(|| self.varied().into_iter().find(|axis| Some(*axis) != x && few_names(axis)));
        asked.filter(|facet| Some(*facet) != x)
    }

    fn plan(&self, kind: Kind, x: Option<usize>, metrics: Vec<&'static str>) -> Plan {
        Plan { kind, x, second: self.facet(x), held: self.held.clone(), metrics, metric: self.metric }
    }

    fn lines(&self, x: usize) -> Plan {
        self.plan(Kind::Lines, Some(x), self.metric.map_or(LINES.to_vec(), measure::with_price))
    }

    /// Lines, and bars unless one score was asked for or the axis is that of the scales: distributions are of the
    /// first scale's run. With too many places for bars, those of one place.
    fn against(&self, x: usize) -> Vec<Plan> {
        let mut plans = vec![self.lines(x)];
        if self.metric.is_none() && self.table.dimensions[x].column.key != SLO_SCALE {
            let bars = self.table.dimensions[x].stops.len() * self.table.results.policies.len();
            let shown = Some(x).filter(|_| bars <= MOST_BARS);
            plans.push(self.plan(Kind::Bars, shown, BARS.to_vec()));
        }
        plans
    }

    fn map(&self, x: usize, y: usize) -> Plan {
        let metrics = measure::with_price(self.metric.unwrap_or("e2e_pct"));
        Plan { second: Some(y), ..self.plan(Kind::Map, Some(x), metrics) }
    }
}

fn metric(name: &str) -> Result<&'static str, ChoiceError> {
    measure::find(name).map(|measure| measure.name).ok_or_else(|| {
        let known = measure::names().collect::<Vec<_>>().join(", ");
        ChoiceError::UnknownMetric { name: name.to_owned(), known }
    })
}
