//! Joins the parts of a sweep: refuses gaps, mixed versions and contradictions (design §2.1).

use std::path::{Path, PathBuf};

use super::store::{self, Manifest};
use super::{PointRecord, SweepError};

/// Puts the points of every list in `dirs` together in `out`, with the final files that one process would have left.
///
/// # Errors
/// A folder without a list; lists of different sweeps or versions; points that are missing, or that two lists have
/// differently; points whose files are missing, broken or different.
pub fn merge(dirs: &[PathBuf], out: &Path, force: bool) -> Result<Manifest, SweepError> {
    let mut found: Vec<(PathBuf, PathBuf, Manifest)> = Vec::new();
    for dir in dirs {
        let files = store::lists(dir)?;
        if files.is_empty() {
            return Err(SweepError::NoSweep { dir: dir.clone() });
        }
        for file in files {
            let manifest = store::read_manifest(&file)?;
            found.push((dir.clone(), file, manifest));
        }
    }
    let (_, first_file, first) = found.first().expect("Invariant: a merge has a folder");
    let mut whole = Manifest { shard_index: 0, shard_count: 1, points: Vec::new(), ..first.clone() };
    if whole.tool_version != env!("CARGO_PKG_VERSION") {
        let problem = format!(
            "tool_version {:?}: expected {:?}, this program's",
            whole.tool_version,
            env!("CARGO_PKG_VERSION")
        );
        return Err(SweepError::Malformed { file: first_file.clone(), problem });
    }
    let mut points: Vec<Option<PointRecord>> = vec![None; whole.grid_points];
    // Every folder and list that has the point done.
    let mut sources: Vec<Vec<(&Path, &Path)>> = vec![Vec::new(); whole.grid_points];
    for (dir, file, manifest) in &found {
        if !manifest.is_of_one_sweep_with(&whole) {
            let problem = format!("is not of the same sweep or version as {}", first_file.display());
            return Err(SweepError::Malformed { file: file.clone(), problem });
        }
        for point in &manifest.points {
            let place = points.get_mut(point.index).ok_or_else(|| SweepError::Malformed {
                file: file.clone(),
                problem: format!("point {}: expected a place below {}", point.index, whole.grid_points),
            })?;
            match place {
                // A point that failed in one process and was done in another, later one, is done.
                Some(other) if other.digest.is_some() && point.digest.is_none() => continue,
                Some(other)
                    if other.digest.is_some()
                        && (&other.digest, &other.point) != (&point.digest, &point.point) =>
                {
                    let problem = "the scenario digests differ: a trace or a profile was changed".to_owned();
                    return Err(SweepError::Contradiction {
                        file: file.clone(),
                        point: point.point.clone(),
                        problem,
                    });
                }
                _ => *place = Some(point.clone()),
            }
            if point.digest.is_some() {
                sources[point.index].push((dir, file));
            }
        }
    }
    if let Some(first) = points.iter().position(Option::is_none) {
        return Err(gaps(&points, first, &found));
    }
    whole.points = points.into_iter().flatten().collect();
    // Nothing is written before all of it is known to be whole.
    for (point, sources) in whole.points.iter().zip(&sources) {
        if let (Some(digest), Some(((first, _), others))) = (&point.digest, sources.split_first()) {
            store::point_results(first, digest)?;
            for (dir, file) in others {
                store::expect_same_point(first, dir, digest, file, &point.point)?;
            }
        }
    }
    store::open(out, &whole, force || dirs.iter().any(|dir| dir == out))?;
    for (point, sources) in whole.points.iter().zip(&sources) {
        if let (Some(digest), Some((dir, file))) = (&point.digest, sources.first()) {
            store::adopt_point(dir, out, digest, file, &point.point, force)?;
        }
    }
    store::finish(out, &whole)?;
    Ok(whole)
}

fn gaps(points: &[Option<PointRecord>], first: usize, found: &[(PathBuf, PathBuf, Manifest)]) -> SweepError {
    let count = found.iter().map(|(_, _, manifest)| manifest.shard_count).max().unwrap_or(1);
    let mut shards: Vec<usize> =
        (0..points.len()).filter(|place| points[*place].is_none()).map(|place| place % count).collect();
    shards.sort_unstable();
    shards.dedup();
    let shards: Vec<String> = shards.iter().map(|shard| format!("`--shard {shard}/{count}`")).collect();
    SweepError::Gaps {
        missing: points.iter().filter(|point| point.is_none()).count(),
        points: points.len(),
        first: format!("number {first}"),
        shards: shards.join(", "),
    }
}
