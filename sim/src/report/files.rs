//! The result files of one scenario in one directory (design §2.3): written to the side, moved into place at the end.
//!
//! [`OutputDir`] keeps everything under `DIR/.tmp-…` until [`OutputDir::commit`], which renames each file and
//! `results.json` last, after taking an old one away: a directory with a `results.json` is complete, whenever the
//! program is stopped. Its name on disk is the only thing that differs between two equal runs.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::columns::CsvRow;
use super::from_outcome::step_row;
use super::rows::{QuantileRow, RequestRow, Results, SCHEMA_VERSION, StateRow, StepRow, TimelineRow};
use crate::record::StepRecord;

const RESULTS: &str = "results.json";
const REQUESTS: &str = "requests.csv";
const QUANTILES: &str = "quantiles.csv";
const TIMELINE: &str = "timeline.csv";
const STATES: &str = "states.csv";
const STEPS: &str = "steps.csv";
/// What only the folder of a sweep has, finished or not.
const OF_SWEEPS: [&str; 2] = ["sweep.json", "points"];
/// p from 0 to 1 in steps of 0.001.
const QUANTILES_OF_ONE: usize = 1001;

/// Why result files could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The directory holds the results of something else.
    #[error(
        "{dir}: holds the results of another scenario (digest {found}, this one is {expected})\n\
         hint: choose another `--out`, or replace them with `--force`"
    )]
    OtherScenario {
        /// The directory.
        dir: PathBuf,
        /// The digest in its `results.json`.
        found: String,
        /// The digest of the scenario at hand.
        expected: String,
    },
    /// The folder is a sweep's.
    #[error("{dir}: holds a sweep: expected a folder for one comparison\nhint: choose another `--out`")]
    HoldsSweep {
        /// The directory.
        dir: PathBuf,
    },
    /// There are no results.
    #[error(
        "{dir}: no `results.json`, expected a directory written by `orbitflow compare --out`\n\
         hint: a run that was stopped leaves none; run it again"
    )]
    NoResults {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of another layout.
    #[error(
        "{path}: schema_version {found}, expected {SCHEMA_VERSION}\nhint: run the scenario again with this version"
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// A file that is not what it should be.
    #[error(
        "{path}: {problem}\nhint: run the scenario again into another `--out`, or replace it with `--force`"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// The system refused.
    #[error("{path}: cannot {action}: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

impl ReportError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReportError {
        let path = path.to_owned();
        move |cause| ReportError::Io { action, path, cause }
    }
}

/// What `results.json` and the tables beside it hold, but for `steps.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedResults {
    /// `results.json`.
    pub results: Results,
    /// `requests.csv`.
    pub requests: Vec<RequestRow>,
    /// `quantiles.csv`.
    pub quantiles: Vec<QuantileRow>,
    /// `timeline.csv`.
    pub timeline: Vec<TimelineRow>,
    /// `states.csv`.
    pub states: Vec<StateRow>,
}

/// A directory that is being filled. Dropped without [`OutputDir::commit`], it leaves the directory as it was.
#[derive(Debug)]
pub struct OutputDir {
    dir: PathBuf,
    staging: TempDir,
    /// Paths of staged files below both directories, in the order in which they are moved.
    staged: Vec<PathBuf>,
}

impl OutputDir {
    /// Creates `dir` if needed and opens it for the results of the scenario with that digest. Call it before
    /// simulating: it is here that a wrong `--out` is refused.
    ///
    /// # Errors
    /// Without `force`: results of another scenario, or a `results.json` that cannot be read. Anything the system
    /// refuses.
    pub fn open(dir: &Path, scenario_digest: &str, force: bool) -> Result<Self, ReportError> {
        if OF_SWEEPS.iter().any(|name| dir.join(name).exists()) {
            return Err(ReportError::HoldsSweep { dir: dir.to_owned() });
        }
        fs::create_dir_all(dir).map_err(ReportError::io("create the directory", dir))?;
        if !force && dir.join(RESULTS).exists() {
            let found = load_results(dir)?.scenario_digest;
            if found != scenario_digest {
                let expected = scenario_digest.to_owned();
                return Err(ReportError::OtherScenario { dir: dir.to_owned(), found, expected });
            }
        }
        let staging = (tempfile::Builder::new().prefix(".tmp-").tempdir_in(dir))
            .map_err(ReportError::io("create a directory in it", dir))?;
        Ok(OutputDir { dir: dir.to_owned(), staging, staged: Vec::new() })
    }

    /// Where files stand until they are moved: to be removed if the program is stopped, and a place for scratch files.
    pub fn staging(&self) -> &Path {
        self.staging.path()
    }

    /// Stages a file with these contents at `relative`, for example `plots/attainment.svg`.
    ///
    /// # Errors
    /// Anything the system refuses.
    pub fn put(&mut self, relative: &str, contents: &[u8]) -> Result<(), ReportError> {
        self.write(relative, |out| out.write_all(contents))
    }

    /// Stages `results.json` and the tables beside it.
    ///
    /// # Errors
    /// Anything the system refuses.
    pub fn put_results(&mut self, saved: &SavedResults) -> Result<(), ReportError> {
        self.put_rows(REQUESTS, &saved.requests)?;
        self.put_rows(QUANTILES, &saved.quantiles)?;
        self.put_rows(TIMELINE, &saved.timeline)?;
        self.put_rows(STATES, &saved.states)?;
        self.write(RESULTS, |out| {
            serde_json::to_writer_pretty(&mut *out, &saved.results)?;
            out.write_all(b"\n")
        })
    }

    /// A file for the steps of one policy, to be written while it runs. Policies may run at the same time.
    ///
    /// # Errors
    /// Anything the system refuses.
    pub fn steps_part(&self, policy: &str) -> Result<StepsPart, ReportError> {
        let (file, path) = (tempfile::Builder::new().prefix("part-").tempfile_in(self.staging.path()))
            .and_then(|part| part.keep().map_err(|error| error.error))
            .map_err(ReportError::io("create a file in it", self.staging.path()))?;
        let rows = rows_of(BufWriter::new(file));
        Ok(StepsPart { policy: policy.to_owned(), path, rows, has_forecasts: false, error: None })
    }

    /// Stages `steps.csv` from the parts, in the order given, but those with forecasts first: DuckDB takes a column's type
    /// from the first 20,480 rows, and a `forecast_s` without a number in them would be text to it.
    ///
    /// # Errors
    /// What a part could not write; anything the system refuses.
    pub fn put_steps(&mut self, parts: impl IntoIterator<Item = StepsPart>) -> Result<(), ReportError> {
        let mut parts: Vec<StepsPart> = parts.into_iter().collect();
        parts.sort_by_key(|part| !part.has_forecasts);
        let mut files = Vec::new();
        for part in parts {
            let path = part.path.clone();
            part.close().map_err(ReportError::io("write", &path))?;
            files.push(BufReader::new(File::open(&path).map_err(ReportError::io("read", &path))?));
        }
        self.write(STEPS, |out| {
            writeln!(out, "{}", StepRow::COLUMNS.join(","))?;
            files.iter_mut().try_for_each(|file| io::copy(file, out).map(|_| ()))
        })
    }

    /// Moves everything staged into place, `results.json` last.
    ///
    /// # Errors
    /// Anything the system refuses; then there is no `results.json` if there was to be a new one.
    pub fn commit(mut self) -> Result<(), ReportError> {
        if self.staged.iter().any(|staged| staged == Path::new(RESULTS)) {
            remove_if_there(&self.dir.join(RESULTS))?;
            if !self.staged.iter().any(|staged| staged == Path::new(STEPS)) {
                // Steps of an earlier run must not stand beside results that they do not belong to.
                remove_if_there(&self.dir.join(STEPS))?;
            }
        }
        self.staged.sort_by_key(|staged| staged == Path::new(RESULTS));
        for relative in &self.staged {
            let target = self.dir.join(relative);
            create_parent(&target)?;
            fs::rename(self.staging.path().join(relative), &target)
                .map_err(ReportError::io("move the finished file here", &target))?;
        }
        self.staging.close().map_err(ReportError::io("remove its temporary directory", &self.dir))
    }

    fn put_rows<T: CsvRow>(&mut self, name: &str, rows: &[T]) -> Result<(), ReportError> {
        self.write(name, |out| {
            let mut writer = rows_of(out);
            writer.write_record(T::COLUMNS).map_err(io::Error::from)?;
            for row in rows {
                writer.serialize(row).map_err(io::Error::from)?;
            }
            writer.flush()
        })
    }

    fn write(
        &mut self,
        relative: &str,
        contents: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), ReportError> {
        let path = self.staging.path().join(relative);
        create_parent(&path)?;
        let file = File::create(&path).map_err(ReportError::io("create", &path))?;
        let mut out = BufWriter::new(file);
        contents(&mut out).and_then(|()| out.flush()).map_err(ReportError::io("write", &path))?;
        let relative = PathBuf::from(relative);
        if !self.staged.contains(&relative) {
            self.staged.push(relative);
        }
        Ok(())
    }
}

/// The steps of one policy on their way to `steps.csv`. A row that cannot be written is reported at the end, by
/// [`OutputDir::put_steps`].
#[derive(Debug)]
pub struct StepsPart {
    policy: String,
    path: PathBuf,
    rows: csv::Writer<BufWriter<File>>,
    /// Whether any step had one.
    has_forecasts: bool,
    error: Option<io::Error>,
}

impl StepsPart {
    /// Writes one step.
    pub fn write(&mut self, step: &StepRecord) {
        self.has_forecasts |= step.forecast.is_some();
        if self.error.is_none() {
            self.error = self.rows.serialize(step_row(&self.policy, step)).err().map(io::Error::from);
        }
    }

    fn close(mut self) -> io::Result<()> {
        self.error.map_or_else(|| self.rows.flush(), Err)
    }
}

/// Reads what [`OutputDir::put_results`] wrote.
///
/// # Errors
/// No results, another layout, a file that is missing, truncated or malformed: with its line or key.
pub fn load(dir: &Path) -> Result<SavedResults, ReportError> {
    let results = load_results(dir)?;
    let path = dir.join(REQUESTS);
    let requests: Vec<RequestRow> = read_rows(&path)?;
    let arrived: u64 = results.policies.iter().map(|policy| policy.requests.arrived).sum();
    if requests.len() as u64 != arrived {
        let problem = format!("{} rows, expected {arrived} as in `{RESULTS}`: cut short?", requests.len());
        return Err(ReportError::Malformed { path, problem });
    }
    let quantiles = read_rows(&dir.join(QUANTILES))?;
    check_quantiles(&dir.join(QUANTILES), &quantiles)?;
    let timeline = read_rows(&dir.join(TIMELINE))?;
    check_timeline(&dir.join(TIMELINE), &results, &timeline)?;
    let states: Vec<StateRow> = read_rows(&dir.join(STATES))?;
    if states.is_empty() && !requests.is_empty() {
        let problem = "no rows, expected the states of the first requests: cut short?".to_owned();
        return Err(ReportError::Malformed { path: dir.join(STATES), problem });
    }
    Ok(SavedResults { results, requests, quantiles, timeline, states })
}

/// Reads `results.json` alone.
///
/// # Errors
/// As [`load`].
pub fn load_results(dir: &Path) -> Result<Results, ReportError> {
    let path = dir.join(RESULTS);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReportError::NoResults { dir: dir.to_owned() });
        }
        Err(error) => return Err(ReportError::io("read", &path)(error)),
    };
    let malformed = |problem: String| ReportError::Malformed { path: path.clone(), problem };
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let found = value["schema_version"].as_u64();
    match found {
        Some(found) if found == u64::from(SCHEMA_VERSION) => {}
        Some(found) => return Err(ReportError::OtherVersion { path, found }),
        None => return Err(malformed("no `schema_version`, expected a whole number".to_owned())),
    }
    serde_path_to_error::deserialize(value)
        .map_err(|error| malformed(format!("`{}`: {}", error.path(), error.inner())))
}

/// A writer that leaves the header to its user: a table without rows has one too.
fn rows_of<W: Write>(out: W) -> csv::Writer<W> {
    csv::WriterBuilder::new().has_headers(false).from_writer(out)
}

fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    let text = fs::read(path).map_err(ReportError::io("read", path))?;
    let malformed = |problem: String| ReportError::Malformed { path: path.to_owned(), problem };
    let rows: Result<Vec<T>, csv::Error> = csv::Reader::from_reader(&text[..]).into_deserialize().collect();
    let rows = rows.map_err(|error| malformed(error.to_string()))?;
    // A number that lost its last digits is still a number.
    if text.last().is_some_and(|last| *last != b'\n') {
        return Err(malformed("the last line has no end: cut short?".to_owned()));
    }
    Ok(rows)
}

/// Every policy and metric that has quantiles has all of them.
fn check_quantiles(path: &Path, rows: &[QuantileRow]) -> Result<(), ReportError> {
    for of_one in rows.chunk_by(|one, next| (&one.policy, &one.metric) == (&next.policy, &next.metric)) {
        if of_one.len() != QUANTILES_OF_ONE {
            let QuantileRow { policy, metric, .. } = &of_one[0];
            let problem = format!(
                "{} rows of `{policy}` and `{metric}`, expected {QUANTILES_OF_ONE}: cut short?",
                of_one.len()
            );
            return Err(ReportError::Malformed { path: path.to_owned(), problem });
        }
    }
    Ok(())
}

/// The rows stand for as many steps as the run made.
fn check_timeline(path: &Path, results: &Results, rows: &[TimelineRow]) -> Result<(), ReportError> {
    for policy in &results.policies {
        let own = rows.iter().filter(|row| row.policy == policy.key);
        let found: u128 = own.map(|row| u128::from(row.steps)).sum();
        let expected = u128::from(policy.steps.decode) + u128::from(policy.steps.prefill);
        if found != expected {
            let problem = format!(
                "rows for {found} steps of `{}`, expected {expected} as in `{RESULTS}`: cut short?",
                policy.key
            );
            return Err(ReportError::Malformed { path: path.to_owned(), problem });
        }
    }
    Ok(())
}

fn create_parent(path: &Path) -> Result<(), ReportError> {
    let parent = path.parent().expect("Invariant: a file below a directory has a parent");
    fs::create_dir_all(parent).map_err(ReportError::io("create the directory", parent))
}

fn remove_if_there(path: &Path) -> Result<(), ReportError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ReportError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
