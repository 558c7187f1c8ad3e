//! `sweep.csv`: a row per point, policy and SLO scale, written one point at a time.

use std::io::{self, Write};

use super::{Manifest, SweepError};
use crate::report::grid::SCORES;
use crate::report::rows::{PolicyResult, Results, ScaleResult};

/// Writes the table; `results` finds a point's by its digest. Columns: the point, its axes, the policy, the scale,
/// [`SCORES`], the digest of every event.
pub fn write(
    out: &mut impl Write,
    manifest: &Manifest,
    results: impl Fn(&str) -> Result<Results, SweepError>,
) -> Result<(), SweepError> {
    let mut rows = csv::Writer::from_writer(out);
    let failed = |error: csv::Error| SweepError::io("write", "sweep.csv".as_ref())(io::Error::from(error));
    let axes = manifest.axes.iter().map(String::as_str);
    let header = std::iter::once("point").chain(axes).chain(["policy", "slo_scale", "slo_s"]);
    let header = header.chain(SCORES.iter().map(|score| score.name)).chain(["event_digest"]);
    rows.write_record(header).map_err(failed)?;
    for point in &manifest.points {
        let Some(digest) = &point.digest else { continue };
        let mut place = vec![point.point.clone()];
        place.extend(point.coordinates.iter().map(|(_, value)| value.clone()));
        for policy in &results(digest)?.policies {
            for scale in &policy.by_slo_scale {
                rows.write_record(place.iter().chain(&cells(policy, scale))).map_err(failed)?;
            }
        }
    }
    rows.flush().map_err(SweepError::io("write", "sweep.csv".as_ref()))
}

/// What there is none of is empty.
fn cells(policy: &PolicyResult, scale: &ScaleResult) -> Vec<String> {
    let or_empty = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut cells = vec![policy.key.clone(), scale.scale.to_string(), scale.slo_s.to_string()];
    cells.extend(SCORES.iter().map(|score| or_empty((score.of)(policy, scale))));
    cells.push(policy.event_digest.clone());
    cells
}
