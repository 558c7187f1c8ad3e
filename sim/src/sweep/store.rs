//! The files of a sweep: each complete or not there, whenever the program is stopped.
//!
//! A file is written under a temporary name of its own, brought to the disk, renamed, and the rename brought to the
//! disk. What a killed process leaves is such a temporary name, which the next one writes over and takes away.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{PointRecord, Shard, SweepError, table};
use crate::report::rows::Results;
use crate::scenario::Grid;

const LIST: &str = "sweep.json";
const TABLE: &str = "sweep.csv";
const POINTS: &str = "points";

/// Version of the layout of [`Manifest`].
const SCHEMA_VERSION: u32 = 1;

/// The list of points in `sweep.json`, and of one process in `shard-K-of-N.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout.
    pub schema_version: u32,
    /// Version of `orbitflow` that wrote it.
    pub tool_version: String,
    /// The grid's file.
    pub grid: String,
    /// SHA-256 over the names and scenarios of all points, without the files they name.
    pub grid_digest: String,
    /// Points of the whole grid.
    pub grid_points: usize,
    /// The axes, in order.
    pub axes: Vec<String>,
    /// K of the process that wrote it.
    pub shard_index: usize,
    /// N of the process that wrote it.
    pub shard_count: usize,
    /// Its points, in order.
    pub points: Vec<PointRecord>,
}

impl Manifest {
    /// An empty list for that part of the grid.
    pub(super) fn new(grid: &Grid, shard: Shard) -> Self {
        let mut hash = Sha256::new();
        for point in grid.points() {
            hash.update(format!("{}\n{}\n", point.name, point.scenario.digest_input()));
        }
        Manifest {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            grid: file_name(&grid.name),
            grid_digest: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            grid_points: grid.len(),
            axes: grid.axes.clone(),
            shard_index: shard.index,
            shard_count: shard.count,
            points: Vec::new(),
        }
    }

    /// Points that failed.
    pub fn failed(&self) -> impl Iterator<Item = &PointRecord> {
        self.points.iter().filter(|point| point.error.is_some())
    }

    /// Whether both are lists of one sweep by one version.
    pub(super) fn is_of_one_sweep_with(&self, other: &Manifest) -> bool {
        (self.schema_version, &self.tool_version, &self.grid_digest, self.grid_points)
            == (other.schema_version, &other.tool_version, &other.grid_digest, other.grid_points)
    }
}

/// Makes the folder, refuses one that holds another sweep, and takes away the final files of an earlier end.
pub(super) fn open(dir: &Path, manifest: &Manifest, force: bool) -> Result<(), SweepError> {
    if dir.join("results.json").exists() {
        return Err(SweepError::HoldsComparison { dir: dir.to_owned() });
    }
    let points = dir.join(POINTS);
    fs::create_dir_all(&points).map_err(SweepError::io("create the directory", &points))?;
    for file in lists(dir)? {
        let same = read_manifest(&file).is_ok_and(|found| found.is_of_one_sweep_with(manifest));
        if !same && !force {
            return Err(SweepError::OtherSweep { file });
        }
        if !same {
            fs::remove_file(&file).map_err(SweepError::io("remove", &file))?;
        }
    }
    if manifest.shard_count == 1 {
        // Results of a sweep stand beside its list, or not at all.
        for file in [dir.join(LIST), dir.join(TABLE)] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SweepError::io("remove", &file)(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The lists of points in a folder, `sweep.json` first, then the shards' by name.
pub(super) fn lists(dir: &Path) -> Result<Vec<PathBuf>, SweepError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(SweepError::io("read the directory", dir))? {
        let name = entry.map_err(SweepError::io("read the directory", dir))?.file_name();
        let name = name.to_string_lossy();
        if name == LIST || (name.starts_with("shard-") && name.ends_with(".json")) {
            files.push(dir.join(&*name));
        }
    }
    files.sort_by_key(|file| (!file.ends_with(LIST), file.clone()));
    Ok(files)
}

/// Reads one list.
pub(super) fn read_manifest(file: &Path) -> Result<Manifest, SweepError> {
    let text = fs::read_to_string(file).map_err(SweepError::io("read", file))?;
    let mut json = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let problem = format!("`{}`: {}", error.path(), error.inner());
        SweepError::Malformed { file: file.to_owned(), problem }
    })
}

/// Whether a folder is a sweep's, finished or not.
pub fn is_sweep(dir: &Path) -> bool {
    dir.join(POINTS).is_dir() || dir.join(LIST).exists()
}

/// The list of a finished sweep.
///
/// # Errors
/// No such folder, or one whose sweep has not ended.
pub fn load(dir: &Path) -> Result<Manifest, SweepError> {
    let file = dir.join(LIST);
    if !file.exists() {
        let dir = dir.to_owned();
        return Err(if is_sweep(&dir) {
            SweepError::Unfinished { dir }
        } else {
            SweepError::NoSweep { dir }
        });
    }
    read_manifest(&file)
}

pub(super) fn write_manifest(file: &Path, manifest: &Manifest) -> Result<(), SweepError> {
    write_atomically(file, "", |out| {
        serde_json::to_writer_pretty(&mut *out, manifest)?;
        out.write_all(b"\n")
    })
}

fn point_file(dir: &Path, digest: &str) -> PathBuf {
    dir.join(POINTS).join(format!("{digest}.json"))
}

/// The results of the point with that scenario digest.
///
/// # Errors
/// No such file, or one that is not this point's.
pub fn point_results(dir: &Path, digest: &str) -> Result<Results, SweepError> {
    let file = point_file(dir, digest);
    let text = fs::read_to_string(&file).map_err(SweepError::io("read", &file))?;
    let malformed = |problem: String| SweepError::Malformed { file: file.clone(), problem };
    let results: Results = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    if results.scenario_digest != digest {
        return Err(malformed("expected the scenario digest of its name".to_owned()));
    }
    Ok(results)
}

pub(super) fn write_point(dir: &Path, index: usize, results: &Results) -> Result<(), SweepError> {
    // Two points of one grid may be the same scenario: the place keeps their temporary names apart.
    write_atomically(&point_file(dir, &results.scenario_digest), &format!(".{index}"), |out| {
        serde_json::to_writer_pretty(&mut *out, results)?;
        out.write_all(b"\n")
    })
}

/// Puts the file of a point from another folder beside the others; `force` replaces one that is there and differs.
///
/// # Errors
/// Files of one point that differ.
pub(super) fn adopt_point(
    from: &Path,
    to: &Path,
    digest: &str,
    list: &Path,
    point: &str,
    force: bool,
) -> Result<(), SweepError> {
    let (source, target) = (point_file(from, digest), point_file(to, digest));
    if target.exists() && !force {
        return expect_same_point(from, to, digest, list, point);
    }
    let bytes = fs::read(&source).map_err(SweepError::io("read", &source))?;
    write_atomically(&target, "", |out| out.write_all(&bytes))
}

/// Two folders have the same results of a point, byte for byte; `list` is the one that named the second.
///
/// # Errors
/// They differ, or one is not there.
pub(super) fn expect_same_point(
    one: &Path,
    other: &Path,
    digest: &str,
    list: &Path,
    point: &str,
) -> Result<(), SweepError> {
    let [one, other] = [one, other].map(|dir| point_file(dir, digest));
    let read = |file: &Path| fs::read(file).map_err(SweepError::io("read", file));
    if read(&one)? == read(&other)? {
        return Ok(());
    }
    let problem = format!("{} and {} differ", one.display(), other.display());
    Err(SweepError::Contradiction { file: list.to_owned(), point: point.to_owned(), problem })
}

/// What a grid is called in files: its file's name, so that results do not hang on where it was started from.
pub(super) fn file_name(grid: &str) -> String {
    Path::new(grid).file_name().map_or(grid.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Writes the table and the list of a sweep that is over, the list last.
pub(super) fn finish(dir: &Path, manifest: &Manifest) -> Result<(), SweepError> {
    let mut unreadable = None;
    write_atomically(&dir.join(TABLE), "", |out| {
        table::write(out, manifest, |digest| point_results(dir, digest)).map_err(|error| {
            let said = io::Error::other(error.to_string());
            unreadable = Some(error);
            said
        })
    })
    .map_err(|error| unreadable.unwrap_or(error))?;
    write_manifest(&dir.join(LIST), manifest)
}

fn write_atomically(
    file: &Path,
    suffix: &str,
    contents: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), SweepError> {
    let name = file.file_name().expect("Invariant: a file has a name").to_string_lossy();
    let temporary = file.with_file_name(format!(".{name}{suffix}.tmp"));
    let created = File::create(&temporary).map_err(SweepError::io("create", &temporary))?;
    let mut out = BufWriter::new(created);
    let written = contents(&mut out).and_then(|()| out.into_inner().map_err(io::Error::from)?.sync_all());
    written.map_err(SweepError::io("write", &temporary))?;
    fs::rename(&temporary, file).map_err(SweepError::io("move the finished file here", file))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(SweepError::io("sync", parent))
}
