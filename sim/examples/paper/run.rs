//! Runs points of grids, in parallel and resumably: the scores of a finished point are on disk before the next
//! one counts, so a run that was killed goes on where it was.
//!
//! A saved point is named by the digest of its scenario, which holds everything that determines its numbers but the program; so
//! all points of one program lie in a folder named by the hash of its own file, and another build starts anew.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use orbitflow_sim::runner::{self, Options};
use orbitflow_sim::scenario::GridPoint;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::scores::{self, Score};

/// Where finished points are kept.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The folder of `program` (its file's contents) below `root`, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(root: &Path, program: &[u8]) -> anyhow::Result<Store> {
        let hash: String = Sha256::digest(program).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let dir = root.join(hash);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Store { dir })
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}.json"))
    }

    /// A saved point; one that cannot be read is run again.
    fn load(&self, digest: &str) -> Option<Vec<Score>> {
        serde_json::from_slice(&fs::read(self.file(digest)).ok()?).ok()
    }

    fn save(&self, digest: &str, scores: &[Score]) -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&serde_json::to_vec(scores)?)?;
        file.persist(self.file(digest)).with_context(|| self.dir.display().to_string())?;
        Ok(())
    }
}

/// The scores of every point, in their order; `done` is called once for each.
///
/// # Errors
/// The first point that is no scenario that can run; a file that cannot be written.
pub fn all(points: &[GridPoint], store: &Store, done: &(dyn Fn() + Sync)) -> anyhow::Result<Vec<Vec<Score>>> {
    let one = |point: &GridPoint| {
        let scores = one(point, store);
        done();
        scores.with_context(|| format!("{}: {}", point.scenario.name, point.name))
    };
    points.par_iter().map(one).collect()
}

/// One point: every policy at every SLO scale. Scales are run apart, so that P95, which a comparison keeps for its
/// first scale alone, is known at all of them.
fn one(point: &GridPoint, store: &Store) -> anyhow::Result<Vec<Score>> {
    let mut prepared = runner::prepare(&point.scenario)?;
    if let Some(scores) = store.load(&prepared.digest) {
        return Ok(scores);
    }
    let contenders = std::mem::take(&mut prepared.contenders);
    let mut all = Vec::new();
    for scale in std::mem::take(&mut prepared.scoring.scales) {
        prepared.scoring.scales = vec![scale];
        let comparison = runner::compare(&prepared, &contenders, Options::default());
        all.extend(scores::scores(&comparison.saved));
    }
    store.save(&prepared.digest, &all)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use orbitflow_sim::scenario::Grid;

    use super::*;

    const TINY: &str = "semantics = \"published\"\nmodel = \"llama-3-8b\"\nhardware = \"engine-fit:a6000\"\n\
        policies = [\"orbitflow\", \"static-1\"]\ntrace.draw = { requests = 6, load = 3, length_scale = 0.1 }\n\
        slo.scale = [1, 2]\n[axes]\nseed = [1, 2]\n";

    fn tiny() -> Grid {
        Grid::parse(TINY, "tiny.toml", Path::new(""), &[]).unwrap()
    }

    fn run(grid: &Grid, store: &Store) -> Vec<Vec<Score>> {
        all(&grid.points().collect::<Vec<_>>(), store, &|| ()).unwrap()
    }

    #[test]
    fn a_finished_point_is_taken_from_disk_and_another_program_starts_anew() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), b"one").unwrap();
        let grid = tiny();
        let fresh = run(&grid, &store);
        // 2 seeds; 2 scales of 2 policies each.
        assert_eq!((fresh.len(), fresh[0].len()), (2, 4));
        let forged = vec![fresh[1].clone(); 2];
        let digest = runner::prepare(&grid.point(0).scenario).unwrap().digest;
        store.save(&digest, &fresh[1]).unwrap();
        assert_eq!(run(&grid, &store), forged, "read, not run");
        fs::write(store.file(&digest), "{ half a fi").unwrap();
        assert_eq!(run(&grid, &store), fresh, "a torn file is run again");
        store.save(&digest, &fresh[1]).unwrap();
        assert_eq!(run(&grid, &Store::open(root.path(), b"two").unwrap()), fresh);
    }
}
