//! `sweep.csv`: a row per point, policy and SLO scale, written one point at a time.

use std::io::{self, Write};

use super::{Manifest, SweepError};
use crate::report::rows::{PolicyResult, Results, ScaleResult};

/// Columns behind the point and its axes.
const COLUMNS: &[&str] = &[
    "policy",
    "slo_scale",
    "slo_s",
    "e2e_pct",
    "ttft_pct",
    "tbt_step_pct",
    "tbt_gap_pct",
    "tbt_step_deposit_pct",
    "tbt_gap_deposit_pct",
    "tpot_step_pct",
    "tpot_gap_pct",
    "playback_stall_pct",
    "ttft_p50_s",
    "throughput_tokens_per_s",
    "goodput_requests_per_s",
    // Those below are of the policy's run at the first scale.
    "tbt_step_p95_s",
    "tbt_gap_p95_s",
    "e2e_p95_s",
    "requests",
    "finished",
    "rejected",
    "unfinished",
    "requests_per_min",
    "makespan_s",
    "pauses",
    "longest_pause_s",
    "preemptions",
    "refused_placements",
    "forecast_error_median_pct",
    "forecast_error_p95_pct",
    "h2d_bytes",
    "peak_gpu_blocks",
    "event_digest",
];

/// Writes the table; `results` finds a point's by its digest.
pub fn write(
    out: &mut impl Write,
    manifest: &Manifest,
    results: impl Fn(&str) -> Result<Results, SweepError>,
) -> Result<(), SweepError> {
    let mut rows = csv::Writer::from_writer(out);
    let failed = |error: csv::Error| SweepError::io("write", "sweep.csv".as_ref())(io::Error::from(error));
    let axes = manifest.axes.iter().map(String::as_str);
    let header = std::iter::once("point").chain(axes).chain(COLUMNS.iter().copied());
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

/// In the order of [`COLUMNS`]; what there is none of is empty.
fn cells(policy: &PolicyResult, scale: &ScaleResult) -> Vec<String> {
    let or_empty = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let attainment = &scale.attainment_pct;
    vec![
        policy.key.clone(),
        scale.scale.to_string(),
        scale.slo_s.to_string(),
        attainment.e2e.to_string(),
        attainment.ttft.to_string(),
        attainment.tbt_step.to_string(),
        attainment.tbt_gap.to_string(),
        attainment.tbt_step_deposit.to_string(),
        attainment.tbt_gap_deposit.to_string(),
        attainment.tpot_step.to_string(),
        attainment.tpot_gap.to_string(),
        or_empty(scale.playback_stall_pct),
        or_empty(scale.ttft_p50_s),
        scale.throughput_tokens_per_s.to_string(),
        scale.goodput_requests_per_s.to_string(),
        or_empty(policy.tbt_step_s.p95),
        or_empty(policy.tbt_gap_s.p95),
        or_empty(policy.e2e_s.p95),
        policy.requests.arrived.to_string(),
        policy.requests.finished.to_string(),
        policy.requests.rejected.to_string(),
        policy.requests.unfinished.to_string(),
        or_empty(policy.requests_per_min),
        policy.makespan_s.to_string(),
        policy.pauses.count.to_string(),
        policy.pauses.longest_s.to_string(),
        policy.preemptions.to_string(),
        policy.refused_placements.to_string(),
        or_empty(policy.forecast_error_pct.median),
        or_empty(policy.forecast_error_pct.p95),
        (policy.bytes.h2d_prefetch + policy.bytes.h2d_restore).to_string(),
        policy.peak_gpu_blocks.to_string(),
        policy.event_digest.clone(),
    ]
}
