//! Sweeps: every point of a grid, simulated once, saved under what it is, and put together in one table (design §10).
//!
//! ```text
//! DIR/points/DIGEST.json   the `results.json` of one point, named by its scenario digest
//! DIR/shard-K-of-N.json    what one of N processes did, where there is more than one
//! DIR/sweep.json           every point: its name, its digest or why it failed
//! DIR/sweep.csv            a row per point, policy and SLO scale
//! ```
//!
//! A point's file appears by rename when it is on disk, and its name says all that determines it. So a sweep that is
//! killed goes on where it was, several processes may share a folder, and the final files do not depend on any of that.
//! Which process simulates which point is arithmetic ([`Shard`]); the queue is the cluster's own. Memory holds the
//! points being simulated, and a line for each of the others.

mod error;
mod merge;
mod point;
mod results;
mod shard;
mod store;
mod table;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use error::SweepError;
pub use merge::merge;
pub use point::simulate;
pub use results::grid_results;
pub use shard::{BadShard, Shard};
pub use store::{Manifest, is_sweep, load, point_results};

use crate::scenario::Grid;

/// One point of a sweep, when it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointRecord {
    /// Its place in the grid, from 0.
    pub index: usize,
    /// Its name, `axis=value` joined by commas.
    pub point: String,
    /// Axis and value.
    pub coordinates: Vec<(String, String)>,
    /// Scenario digest, the name of its file; `None` if it failed.
    pub digest: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a sweep left behind.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Every point of this process.
    pub manifest: Manifest,
    /// Points that were there already.
    pub reused: usize,
}

/// Simulates the points of `grid` that are this `shard`'s and not yet in `dir`. `progress` is called with the number of
/// points that ended since its last call. The whole grid in one shard leaves `sweep.json` and `sweep.csv`, a part of it
/// its own list.
///
/// # Errors
/// A folder that holds another sweep (unless `force`) or cannot be written. A point that fails is in the list and
/// stops no other.
pub fn run(
    grid: &Grid,
    dir: &Path,
    shard: Shard,
    force: bool,
    progress: Option<&(dyn Fn(u64) + Sync)>,
) -> Result<Swept, SweepError> {
    let mut manifest = Manifest::new(grid, shard);
    store::open(dir, &manifest, force)?;
    let done: Vec<(PointRecord, bool)> = shard
        .indices(grid.len())
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|index| {
            let done = point::run(grid, index, dir);
            if let Some(report) = progress {
                report(1);
            }
            done
        })
        .collect::<Result<_, SweepError>>()?;
    let reused = done.iter().filter(|(_, reused)| *reused).count();
    manifest.points = done.into_iter().map(|(record, _)| record).collect();
    if shard.is_whole() {
        store::finish(dir, &manifest)?;
    } else {
        store::write_manifest(&dir.join(shard.file_name()), &manifest)?;
    }
    Ok(Swept { manifest, reused })
}
