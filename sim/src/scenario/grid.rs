//! A grid: a scenario with `[axes]`, and the scenarios that its points are.
//!
//! ```toml
//! [axes]
//! "trace.load" = [1, 2, 4]
//! seed = [1, 2, 3]
//! context = [{ name = "8k", "trace.draw.length_scale" = 0.25 }, { name = "32k", "trace.draw.length_scale" = 1 }]
//! ```
//!
//! An axis is a key of the scenario with the list of its values, or a name of its own with a list of tables, each with a
//! `name` and the keys that change together. Axes are crossed in the order of the file, the last one fastest. An
//! override of an axis takes one of its points: `--set seed=2`, `--set context=8k`. A file without axes is a grid
//! of one point. Knows nothing about running.

use std::path::{Path, PathBuf};

use super::document::{self, Entry, Node, Table, Value};
use super::error::{BadValue, Place, ScenarioError};
use super::section::bad_node;
use super::{Scenario, did_you_mean, read};

/// A scenario file and the scenarios of its points.
#[derive(Clone, Debug)]
pub struct Grid {
    /// File name as given, `-` for stdin.
    pub name: String,
    /// The axes' names, in order.
    pub axes: Vec<String>,
    root: Table,
    stops: Vec<Axis>,
    overrides: Vec<String>,
    base: PathBuf,
}

/// One point of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct GridPoint {
    /// `axis=value` of every axis, joined by commas; empty in a grid without axes.
    pub name: String,
    /// Axis and value, as `--set` takes them.
    pub coordinates: Vec<(String, String)>,
    /// What to simulate.
    pub scenario: Scenario,
}

/// More points than anyone waits for: a slip of the pen.
const MOST_POINTS: usize = 100_000;

/// One axis: its name and its stops.
#[derive(Clone, Debug)]
struct Axis {
    name: String,
    stops: Vec<Stop>,
}

/// One value of an axis: how it is called and the keys it sets.
#[derive(Clone, Debug)]
struct Stop {
    name: String,
    keys: Vec<(String, Node)>,
}

impl Grid {
    /// Reads a scenario file with or without axes, `-` for stdin, and applies overrides.
    ///
    /// # Errors
    /// As [`Scenario::load`], of the first point that is no scenario; axes that are none.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Grid, ScenarioError> {
        let (text, name, base) = Scenario::read_text(path)?;
        Grid::parse(&text, &name, &base, overrides)
    }

    /// Reads the text of a grid. `name` stands in messages and results, relative paths start at `base`.
    ///
    /// # Errors
    /// All of [`Grid::load`] but the file's own.
    pub fn parse(text: &str, name: &str, base: &Path, overrides: &[String]) -> Result<Grid, ScenarioError> {
        let mut root = document::parse(text, name)?;
        let written = root.get("axes").cloned();
        root.remove("axes");
        let mut axes = written.map_or(Ok(Vec::new()), |entry| read_axes(&entry))?;
        let mut left = Vec::new();
        for text in overrides {
            if !choose(&mut axes, text)? {
                left.push(text.clone());
            }
        }
        let points = axes.iter().map(|axis| axis.stops.len()).try_fold(1usize, usize::checked_mul);
        if let Some(axis) = axes.first().filter(|_| points.is_none_or(|points| points > MOST_POINTS)) {
            let node = &axis.stops[0].keys[0].1;
            let problem = format!("expected at most {MOST_POINTS} points in all");
            return Err(bad_node(node, &format!("axes.{}", axis.name), &problem, None));
        }
        let grid = Grid {
            name: name.to_owned(),
            axes: axes.iter().map(|axis| axis.name.clone()).collect(),
            root,
            stops: axes,
            overrides: left,
            base: base.to_owned(),
        };
        for index in 0..grid.len() {
            grid.read_point(index)?;
        }
        Ok(grid)
    }

    /// The axes that still have several values, in order.
    pub fn varied(&self) -> impl Iterator<Item = &str> {
        self.stops.iter().filter(|axis| axis.stops.len() > 1).map(|axis| axis.name.as_str())
    }

    /// Points, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a grid is never empty")]
    pub fn len(&self) -> usize {
        self.stops.iter().map(|axis| axis.stops.len()).product()
    }

    /// The point of that place in the order of the axes. Panics beyond the last.
    pub fn point(&self, index: usize) -> GridPoint {
        assert!(index < self.len(), "Invariant: a grid has the points it counts");
        self.read_point(index).expect("Invariant: every point was read when the grid was")
    }

    /// Every point, made as it is asked for.
    pub fn points(&self) -> impl Iterator<Item = GridPoint> {
        (0..self.len()).map(|index| self.point(index))
    }

    fn read_point(&self, index: usize) -> Result<GridPoint, ScenarioError> {
        let mut rest = index;
        let mut places = vec![0; self.stops.len()];
        for (place, axis) in places.iter_mut().zip(&self.stops).rev() {
            *place = rest % axis.stops.len();
            rest /= axis.stops.len();
        }
        let mut document = self.root.clone();
        let mut coordinates = Vec::with_capacity(self.stops.len());
        for (axis, place) in self.stops.iter().zip(places) {
            let stop = &axis.stops[place];
            for (key, node) in &stop.keys {
                document::put(&mut document, key, Some(node.clone()))
                    .map_err(|problem| bad_node(node, key, &problem, None))?;
            }
            coordinates.push((axis.name.clone(), stop.name.clone()));
        }
        for text in &self.overrides {
            document::apply_override(&mut document, text)?;
        }
        let names: Vec<String> = coordinates.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        let scenario = read::scenario(&document, &self.name, &self.base)?;
        Ok(GridPoint { name: names.join(","), coordinates, scenario })
    }

    /// The scenario of a grid that has one point.
    ///
    /// # Errors
    /// More points than one: which overrides would leave the first of them.
    pub fn only(self) -> Result<Scenario, ScenarioError> {
        let first = self.point(0);
        if self.len() == 1 {
            return Ok(first.scenario);
        }
        let sets: Vec<String> =
            first.coordinates.iter().map(|(axis, value)| format!("--set {axis}={value}")).collect();
        Err(ScenarioError::from(BadValue {
            place: Place::File(self.name.clone()),
            key: "axes".to_owned(),
            value: self.axes.join(", "),
            problem: format!("expected one scenario: this is a grid of {} points", self.len()),
            hint: Some(format!(
                "`{}` takes its first; `orbitflow sweep` runs all of them, `orbitflow check` checks them",
                sets.join(" ")
            )),
        }))
    }
}

fn read_axes(entry: &Entry) -> Result<Vec<Axis>, ScenarioError> {
    let Value::Table(table) = &entry.node.value else {
        return Err(bad_node(&entry.node, "axes", "expected a table of keys with lists of values", None));
    };
    // Quoted or dotted, a key is the same key.
    let mut axes = Vec::new();
    for entry in &table.entries {
        flatten(&entry.key, &entry.node, &mut axes)?;
    }
    Ok(axes)
}

fn flatten(name: &str, node: &Node, axes: &mut Vec<Axis>) -> Result<(), ScenarioError> {
    match &node.value {
        Value::Table(table) => table
            .entries
            .iter()
            .try_for_each(|inner| flatten(&format!("{name}.{}", inner.key), &inner.node, axes)),
        Value::List(items) if !items.is_empty() => {
            let mut stops: Vec<Stop> = Vec::with_capacity(items.len());
            for item in items {
                let stop = read_stop(name, item)?;
                if stops.iter().any(|other| other.name == stop.name) {
                    let problem = "expected different values: it stands twice";
                    return Err(bad_node(item, &format!("axes.{name}"), problem, None));
                }
                stops.push(stop);
            }
            axes.push(Axis { name: name.to_owned(), stops });
            Ok(())
        }
        _ => {
            let hint = "for example `\"trace.load\" = [1, 2, 4]`";
            Err(bad_node(node, &format!("axes.{name}"), "expected a list of at least one value", Some(hint)))
        }
    }
}

fn read_stop(axis: &str, item: &Node) -> Result<Stop, ScenarioError> {
    let Value::Table(table) = &item.value else {
        let name = match &item.value {
            Value::Text(text) => text.clone(),
            value => value.show(),
        };
        return Ok(Stop { name, keys: vec![(axis.to_owned(), item.clone())] });
    };
    let bad = |problem| Err(bad_node(item, &format!("axes.{axis}"), problem, None));
    let Some(Value::Text(name)) = table.get("name").map(|entry| &entry.node.value) else {
        return bad("expected a `name` beside the keys that change together");
    };
    if name.is_empty() || name.contains([',', '=']) {
        return bad("expected a `name` without `,` and `=`");
    }
    let mut keys = Vec::new();
    for entry in table.entries.iter().filter(|entry| entry.key != "name") {
        leaves(&entry.key, &entry.node, &mut keys);
    }
    if keys.is_empty() {
        return bad("expected at least one key beside `name`");
    }
    Ok(Stop { name: name.clone(), keys })
}

/// Every value below a table with its dotted key.
fn leaves(key: &str, node: &Node, all: &mut Vec<(String, Node)>) {
    match &node.value {
        Value::Table(table) => {
            table.entries.iter().for_each(|entry| leaves(&format!("{key}.{}", entry.key), &entry.node, all));
        }
        _ => all.push((key.to_owned(), node.clone())),
    }
}

/// Whether `text` overrides an axis: a named one is then cut down to the stop of that name, another one goes.
fn choose(axes: &mut Vec<Axis>, text: &str) -> Result<bool, ScenarioError> {
    let Some((key, value)) = text.split_once('=') else { return Ok(false) };
    let Some(place) = axes.iter().position(|axis| axis.name == key.trim()) else { return Ok(false) };
    let axis = &mut axes[place];
    let named = axis.stops.iter().any(|stop| stop.keys.iter().any(|(key, _)| *key != axis.name));
    let wanted = value.trim().trim_matches('"');
    if let Some(stop) = axis.stops.iter().position(|stop| stop.name == wanted) {
        axis.stops = vec![axis.stops.swap_remove(stop)];
        return Ok(true);
    }
    if named {
        let known = axis.stops.iter().map(|stop| stop.name.as_str());
        let problem = format!("expected one of {}", known.clone().collect::<Vec<_>>().join(", "));
        let node = Node { value: Value::Text(wanted.to_owned()), place: Place::Override(text.to_owned()) };
        return Err(bad_node(&node, &axis.name, &problem, did_you_mean(wanted, known).as_deref()));
    }
    axes.remove(place);
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str =
        "model = \"llama-3-8b\"\nhardware = \"engine-fit:a6000\"\npolicies = [\"orbitflow\"]\n";

    fn grid(axes: &str, overrides: &[&str]) -> Result<Grid, String> {
        let text = format!("{BASE}trace.draw.load = 1\n[axes]\n{axes}\n");
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        Grid::parse(&text, "g.toml", Path::new(""), &overrides).map_err(|error| error.to_string())
    }

    fn names(grid: &Grid) -> Vec<String> {
        grid.points().map(|point| point.name).collect()
    }

    #[test]
    fn axes_are_crossed_in_order_the_last_one_fastest() {
        let grid = grid("\"trace.draw.load\" = [1, 2.5]\nseed = [7, 8]", &[]).unwrap();
        assert_eq!(
            names(&grid),
            [
                "trace.draw.load=1,seed=7",
                "trace.draw.load=1,seed=8",
                "trace.draw.load=2.5,seed=7",
                "trace.draw.load=2.5,seed=8"
            ]
        );
        assert_eq!(grid.point(1).scenario.seed, 8);
        let super::super::TraceSource::Draw(recipe) = grid.point(3).scenario.trace.source else {
            panic!("drawn")
        };
        assert_eq!((recipe.load, recipe.seed), (2.5, 8));
    }

    #[test]
    fn keys_that_change_together_are_one_axis_with_names() {
        let axis = "context = [{ name = \"8k\", \"trace.draw.length_scale\" = 0.25 }, \
                    { name = \"128k\", trace.draw.length_scale = 4, batch_size = 8 }]";
        let both = grid(axis, &[]).unwrap();
        assert_eq!(names(&both), ["context=8k", "context=128k"]);
        assert_eq!(both.point(1).scenario.batch_size, Some(8));
        let one = grid(axis, &["context=8k"]).unwrap();
        assert_eq!(names(&one), ["context=8k"]);
        let wrong = grid(axis, &["context=9k"]).unwrap_err();
        assert!(wrong.contains("`--set context=9k`: context: \"9k\": expected one of 8k, 128k"), "{wrong}");
    }

    #[test]
    fn an_override_of_an_axis_takes_its_place() {
        let of = |set| names(&grid("seed = [1, 2]", &[set]).unwrap()).join(" ");
        assert_eq!(of("seed=2"), "seed=2");
        let other = grid("seed = [1, 2]", &["seed=9"]).unwrap();
        assert_eq!((names(&other), other.point(0).scenario.seed), (vec![String::new()], 9));
    }

    #[test]
    fn a_grid_is_no_scenario_until_one_point_is_left() {
        let many = grid("seed = [1, 2]\n\"trace.load\" = [1, 3]", &[]).unwrap();
        let error = many.only().unwrap_err().to_string();
        assert!(
            error.contains(
                "g.toml: axes: seed, trace.load: expected one scenario: this is a grid of 4 points"
            ),
            "{error}"
        );
        assert!(error.contains("--set seed=1 --set trace.load=1"), "{error}");
        let one = grid("seed = [1, 2]\n\"trace.load\" = [1, 3]", &["seed=2", "trace.load=3"]).unwrap();
        assert_eq!(one.only().unwrap().trace.load, 3.0);
    }

    #[test]
    fn axes_that_are_none_are_refused_at_their_line() {
        for (axes, expected) in [
            ("seed = []", "g.toml:6: axes.seed: []: expected a list of at least one value"),
            ("seed = 3", "g.toml:6: axes.seed: 3: expected a list of at least one value"),
            ("seed = [1, 1]", "g.toml:6: axes.seed: 1: expected different values: it stands twice"),
            ("sede = [1, 2]", "g.toml:6: sede: unknown key"),
            ("seed = [1, -2]", "g.toml:6: seed: -2: expected a whole number"),
            ("both = [{ seed = 1 }]", "expected a `name` beside the keys that change together"),
            ("both = [{ name = \"a\" }]", "expected at least one key beside `name`"),
            ("both = [{ name = \"a,b\", seed = 1 }]", "expected a `name` without"),
            ("both = [{ name = \"a\", sead = 1 }]", "sead: unknown key"),
        ] {
            let error = grid(axes, &[]).unwrap_err();
            assert!(error.contains(expected), "{axes}: {error}");
        }
        let many: Vec<String> = (0..400).map(|n| n.to_string()).collect();
        let many = many.join(", ");
        let error = grid(&format!("seed = [{many}]\n\"trace.limit\" = [{many}]"), &[]).unwrap_err();
        assert!(error.contains("expected at most 100000 points"), "{error}");
    }
}
