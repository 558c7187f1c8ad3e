//! Why a sweep cannot be run, saved or merged. A point that fails is none of these: it is in the list of points.

use std::io;
use std::path::{Path, PathBuf};

/// Why a sweep cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The folder holds another sweep.
    #[error(
        "{file}: is of another sweep or version\n\
         hint: choose another `--out`; `--force` replaces its lists and keeps the points that are the same"
    )]
    OtherSweep {
        /// The list that was found.
        file: PathBuf,
    },
    /// The folder holds a comparison.
    #[error(
        "{dir}: holds the results of one comparison: expected a folder for a sweep\nhint: choose another `--out`"
    )]
    HoldsComparison {
        /// The folder.
        dir: PathBuf,
    },
    /// A sweep without its final list.
    #[error(
        "{dir}: this sweep is not over, there is no sweep.json\n\
         hint: run `orbitflow sweep` into it again, or join its parts with `orbitflow merge`"
    )]
    Unfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder without any list of points.
    #[error(
        "{dir}: no sweep.json and no shard-K-of-N.json: expected a folder written by `orbitflow sweep --out`"
    )]
    NoSweep {
        /// The folder.
        dir: PathBuf,
    },
    /// A list or a point that is not what it should be.
    #[error("{file}: {problem}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// Points that no list has.
    #[error("{missing} of {points} points are missing, the first is {first}\nhint: run {shards}")]
    Gaps {
        /// How many.
        missing: usize,
        /// Of how many.
        points: usize,
        /// The first one's name.
        first: String,
        /// The shards that have not ended.
        shards: String,
    },
    /// Two lists that cannot both be right.
    #[error("{file}: {point}: contradicts another list of this sweep: {problem}")]
    Contradiction {
        /// The later list.
        file: PathBuf,
        /// The point.
        point: String,
        /// What differs.
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

impl SweepError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SweepError {
        let path = path.to_owned();
        move |cause| SweepError::Io { action, path, cause }
    }
}
