//! Figures from saved results: SVG, and PNG copies with the cargo feature `png`.
//!
//! A plot knows the rows of the result files ([`crate::report::rows`], [`crate::report::grid`]) and nothing else: no
//! engine, no scenario. The same rows give the same bytes, and stand beside every figure in a CSV of its name. Adding a
//! plot is one file here and one line in [`draw_all`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report::grid::GridResults;
use crate::report::rows::{PolicyResult, QuantileRow, Results, StateRow, TimelineRow};

mod attainment;
pub mod canvas;
mod capacity;
mod distribution;
mod gantt;
mod page;
pub mod panel;
pub mod raster;
mod scoreboard;
pub mod style;
pub mod sweep;
mod timeline;
pub mod words;

pub use capacity::CapacityBar;
pub use raster::AVAILABLE as PNG_AVAILABLE;
use style::PolicyStyle;

/// Policies in the order of the results, each with its look.
type Looks<'a> = [(&'a PolicyResult, PolicyStyle)];

/// Why figures could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// There is nothing to show.
    #[error(
        "results.json: `policies` is empty: expected at least one policy\nhint: run `orbitflow compare SCENARIO --out DIR` first"
    )]
    NoPolicies,
    /// Two policies cannot be told apart.
    #[error("results.json: `policies`: key `{key}` occurs twice: expected every key once")]
    DuplicatePolicy {
        /// The key.
        key: String,
    },
    /// A row of another run.
    #[error(
        "{file}: row {row}: policy `{key}` is not in results.json: expected one of {known}\nhint: the files are of different runs; run `orbitflow compare` again"
    )]
    UnknownPolicy {
        /// The file.
        file: &'static str,
        /// Counted from 1, without the header.
        row: usize,
        /// The key.
        key: String,
        /// The keys in results.json.
        known: String,
    },
    /// A number that no run can have produced.
    #[error("{file}: row {row}: `{column}` is {value}: expected {expected}")]
    BadNumber {
        /// The file.
        file: &'static str,
        /// Counted from 1, without the header.
        row: usize,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: f64,
        /// What it may hold.
        expected: &'static str,
    },
    /// A choice of figures that a sweep does not have.
    #[error(transparent)]
    Choice(#[from] sweep::ChoiceError),
    /// A state that no request can be in.
    #[error("states.csv: row {row}: `state` is {state:?}: expected one of {known}")]
    UnknownState {
        /// Counted from 1, without the header.
        row: usize,
        /// What it holds.
        state: String,
        /// What there is.
        known: String,
    },
    /// PNG copies were asked of a build without them.
    #[error(
        "this build of orbitflow writes no PNG files\nhint: rebuild with `cargo build --release --features png`, or use the SVG files"
    )]
    NoPng,
    /// The drawing backend failed.
    #[error("{figure}: {message}")]
    Draw {
        /// The file's name.
        figure: String,
        /// What the backend said.
        message: String,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One figure: the stem of its files, its SVG and the rows that it was drawn from.
struct Drawn {
    name: String,
    svg: Result<String, String>,
    csv: Result<String, String>,
}

/// Draws every figure into the folder `dir`, which is made if it is not there, and returns the files in a fixed order:
/// `attainment`, `tbt_cdf`, and for each policy `timeline-KEY` and, if all its requests are in `states`, `gantt-KEY`; each
/// as SVG, with `png` as PNG too, and as CSV.
///
/// Nothing is written unless every figure could be drawn; each file appears by rename.
///
/// # Errors
/// See [`PlotError`]. Rows that are merely few or all zero give figures that say so.
pub fn draw_all(
    results: &Results,
    quantiles: &[QuantileRow],
    timeline: &[TimelineRow],
    states: &[StateRow],
    dir: &Path,
    png: bool,
) -> Result<Vec<PathBuf>, PlotError> {
    check(results, quantiles, timeline)?;
    gantt::check(results, states)?;
    let styles = style::styles(results.policies.iter().map(|policy| policy.key.as_str()));
    let looks: Vec<_> = results.policies.iter().zip(styles).collect();

    let mut figures = vec![
        Drawn {
            name: "attainment".to_owned(),
            svg: attainment::draw(results, &looks),
            csv: csv(attainment::rows(results)),
        },
        Drawn {
            name: "tbt_cdf".to_owned(),
            svg: distribution::draw(results, quantiles, &looks),
            csv: csv(distribution::rows(quantiles)),
        },
    ];
    for (index, (policy, name)) in results.policies.iter().zip(timeline_names(results)).enumerate() {
        let rows: Vec<&TimelineRow> = timeline.iter().filter(|row| row.policy == policy.key).collect();
        let gantt = name.replacen("timeline", "gantt", 1);
        figures.push(Drawn {
            name,
            svg: timeline::draw(results, &rows, &looks, index),
            csv: csv(rows.into_iter()),
        });
        let lives = gantt::lives(states, &policy.key);
        if !lives.is_empty() && lives.len() as u64 == policy.requests.arrived {
            figures.push(Drawn {
                name: gantt,
                svg: gantt::draw(results, &lives, &looks, index),
                csv: csv(states.iter().filter(|row| row.policy == policy.key)),
            });
        }
    }
    save(figures, dir, png)
}

/// Draws the figures of a sweep that are asked for, like [`draw_all`].
///
/// # Errors
/// A choice of what the sweep has not; see [`PlotError`].
pub fn draw_sweep(
    results: &GridResults,
    choice: &sweep::Choice,
    dir: &Path,
    png: bool,
) -> Result<Vec<PathBuf>, PlotError> {
    let figures = sweep::figures(results, choice)?;
    let drawn = figures.iter().map(|figure| Drawn {
        name: figure.name.clone(),
        svg: figure.svg(),
        csv: Ok(figure.csv()),
    });
    save(drawn.collect(), dir, png)
}

/// Rows as CSV; their fields are the columns.
fn csv<T: Serialize>(rows: impl Iterator<Item = T>) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|error| error.to_string())?;
    }
    let bytes = writer.into_inner().map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Writes figures that could all be drawn.
fn save(figures: Vec<Drawn>, dir: &Path, png: bool) -> Result<Vec<PathBuf>, PlotError> {
    if png && !raster::AVAILABLE {
        return Err(PlotError::NoPng);
    }
    let mut files = Vec::new();
    for Drawn { name, svg, csv } in figures {
        let failed = |message| PlotError::Draw { figure: name.clone(), message };
        let svg = svg.map_err(failed)?;
        let copy = if png { Some(raster::png(&svg).map_err(failed)?) } else { None };
        let csv = csv.map_err(failed)?;
        files.push((dir.join(format!("{name}.svg")), svg.into_bytes()));
        files.extend(copy.map(|copy| (dir.join(format!("{name}.png")), copy)));
        files.push((dir.join(format!("{name}.csv")), csv.into_bytes()));
    }
    fs::create_dir_all(dir).map_err(|source| PlotError::Write { path: dir.to_owned(), source })?;
    files.into_iter().map(|(path, bytes)| write(path, &bytes)).collect()
}

/// Draws the capacity of each policy into one SVG file, which appears by rename.
///
/// # Errors
/// [`PlotError::Draw`] and [`PlotError::Write`].
pub fn draw_capacity(
    title: &str,
    setting: &str,
    bars: &[CapacityBar],
    file: &Path,
) -> Result<PathBuf, PlotError> {
    let styles = style::styles(bars.iter().map(|bar| bar.key.as_str()));
    let svg = capacity::draw(title, setting, bars, &styles)
        .map_err(|message| PlotError::Draw { figure: "capacity".to_owned(), message })?;
    write(file.to_owned(), svg.as_bytes())
}

/// A file name per policy; names that are the same once they are plain, also where capitals do not count, get a number.
fn timeline_names(results: &Results) -> Vec<String> {
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    results
        .policies
        .iter()
        .map(|policy| {
            let key = plain(&policy.key);
            let uses = taken.entry(key.to_ascii_lowercase()).or_default();
            *uses += 1;
            if *uses == 1 { format!("timeline-{key}") } else { format!("timeline-{key}~{uses}") }
        })
        .collect()
}

/// A key in a file's name. Keys are free text: what is no letter, digit, `-`, `_` or `.` becomes `_`.
fn plain(key: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    key.chars().map(|character| if is_plain(character) { character } else { '_' }).collect()
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, PlotError> {
    let partial = path.with_added_extension("partial");
    match fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, &path)) {
        Ok(()) => Ok(path),
        Err(source) => Err(PlotError::Write { path, source }),
    }
}

/// Refuses rows that are of another run or that no run can have produced.
///
/// # Errors
/// The first such row.
pub(crate) fn check(
    results: &Results,
    quantiles: &[QuantileRow],
    timeline: &[TimelineRow],
) -> Result<(), PlotError> {
    let mut keys: Vec<&str> = results.policies.iter().map(|policy| policy.key.as_str()).collect();
    if keys.is_empty() {
        return Err(PlotError::NoPolicies);
    }
    let known = || keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    for (row, quantile) in quantiles.iter().enumerate() {
        let file = "quantiles.csv";
        check_policy(file, row, &quantile.policy, &keys, known)?;
        check_number(file, row, "p", quantile.p, 1.0, "a number from 0 to 1")?;
        check_number(file, row, "seconds", quantile.seconds, f64::MAX, "a finite number of seconds ≥ 0")?;
    }
    for (row, step) in timeline.iter().enumerate() {
        let file = "timeline.csv";
        check_policy(file, row, &step.policy, &keys, known)?;
        let (from, to) = (("from_s", step.from_s), ("to_s", step.to_s));
        for (column, value) in
            [("t_s", step.t_s), ("step_s", step.step_s), ("stall_s", step.stall_s), from, to]
        {
            check_number(file, row, column, value, f64::MAX, "a finite number of seconds ≥ 0")?;
        }
    }
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(PlotError::DuplicatePolicy { key: pair[0].to_owned() }),
        None => Ok(()),
    }
}

/// Refuses a row of a policy that is not in results.json.
pub(crate) fn check_policy(
    file: &'static str,
    row: usize,
    key: &str,
    keys: &[&str],
    known: impl Fn() -> String,
) -> Result<(), PlotError> {
    if keys.contains(&key) {
        return Ok(());
    }
    Err(PlotError::UnknownPolicy { file, row: row + 1, key: key.to_owned(), known: known() })
}

/// Refuses a number that is negative, not finite, or above `most`.
pub(crate) fn check_number(
    file: &'static str,
    row: usize,
    column: &'static str,
    value: f64,
    most: f64,
    expected: &'static str,
) -> Result<(), PlotError> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(PlotError::BadNumber { file, row: row + 1, column, value, expected })
}
