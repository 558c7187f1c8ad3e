//! The four figures of a report: link curves, attention against context, predicted against measured, error by ρ.
//!
//! Knows the rows of the results and the profile; measured points are marks, fits are lines.

use std::collections::BTreeMap;

use orbitflow_sim::cost::HardwareProfile;
use orbitflow_sim::cost::profile::{CopyDirection, LinkDirection, ModelShape, ValidationCase};
use orbitflow_sim::plot::canvas::RGBColor;
use orbitflow_sim::plot::panel::{Axis, Tick};
use orbitflow_sim::plot::words;

use super::chart::{Band, COLORS, Chart, Look, Marker, Series};
use crate::device::{CopyApi, Direction};
use crate::results::Measurements;

/// Points of one curve, in the units of the axes.
type Curve = Vec<(f64, f64)>;

const DASHED: &[f64] = &[6.0, 4.0];
const MARKERS: [Marker; 5] = [Marker::Disc, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Ring];
/// Half width of the band around a right prediction: the target of the median error.
const BAND: f64 = 0.05;

/// `size_curves`: rate of host↔device copies by size of a piece.
pub fn size_curves(
    measurements: &Measurements,
    profile: &HardwareProfile,
    notes: &[String],
) -> Chart<'static> {
    let mut groups: BTreeMap<(Direction, CopyApi, u32), Curve> = BTreeMap::new();
    for point in &measurements.copies {
        let bytes = point.piece_bytes as f64 * f64::from(point.pieces);
        let rate = bytes / point.timing.median_s / 1e9;
        groups
            .entry((point.direction, point.api, point.pieces))
            .or_default()
            .push((point.piece_bytes as f64, rate));
    }
    // Per direction and way of copying, the most pieces: how fast it is when kept busy.
    let mut busiest: BTreeMap<(Direction, CopyApi), (u32, Curve)> = BTreeMap::new();
    for ((direction, api, pieces), mut points) in groups {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        busiest.insert((direction, api), (pieces, points));
    }
    let mut series = Vec::new();
    for (index, (&(direction, api), (pieces, points))) in busiest.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let marker = MARKERS[index / COLORS.len() % MARKERS.len()];
        if let Some(line) = fitted(profile, direction, api) {
            let curve =
                points.iter().map(|&(size, _)| (size, modelled_rate(line, *pieces, size) / 1e9)).collect();
            series.push(Series { name: String::new(), color, look: Look::Line(&[]), points: curve });
        }
        let name = format!("{} {} ×{pieces}", direction.key().to_uppercase(), api.key());
        series.push(Series { name, color, look: Look::Points(marker), points: points.clone() });
    }
    let all = || series.iter().flat_map(|series| &series.points);
    let x = log_axis(all().map(|point| point.0));
    Chart {
        title: format!("Host link: rate by size of a piece: {}", profile.device.name),
        subtitle: "Marks: measured medians, bytes moved in one direction over time. Lines: the fitted two-regime curve \
                   (where there is one)."
            .to_owned(),
        x_label: "Size of a piece",
        y_label: "Rate (GB/s)",
        x,
        y: log_axis(all().map(|point| point.1)),
        x_ticks: powers_of_8(x),
        x_words: binary_bytes,
        y_words: words::number,
        band: None,
        series,
        notes: notes.to_vec(),
    }
}

fn fitted(profile: &HardwareProfile, direction: Direction, api: CopyApi) -> Option<&LinkDirection> {
    let wanted = match direction {
        Direction::H2d => CopyDirection::H2d,
        Direction::D2h => CopyDirection::D2h,
    };
    let fit = (profile.link.fits.iter())
        .find(|fit| fit.direction == wanted && fit.line.api.as_deref() == Some(&api.key()))?;
    Some(&fit.line)
}

/// `n·s / (latency + max(n·submit, n·max(engine, s/BW(s))))` (`gpu-measurement.md` §3.2).
fn modelled_rate(line: &LinkDirection, pieces: u32, size: f64) -> f64 {
    let or_zero =
        |value: Option<orbitflow_sim::cost::profile::Positive>| value.map_or(0.0, |value| value.get());
    let rate = match (line.knee_bytes, line.bw_small_bytes_per_s) {
        (Some(knee), Some(small)) if size < knee.get() as f64 => small.get(),
        _ => line.bw_inf_bytes_per_s.get(),
    };
    let n = f64::from(pieces);
    let engine = n * (size / rate).max(or_zero(line.engine_s_per_desc));
    n * size / (or_zero(line.latency_s) + engine.max(n * or_zero(line.submit_s_per_desc)))
}

/// `attention`: time of one layer's decode attention by context tokens of the batch.
pub fn attention(measurements: &Measurements, profile: &HardwareProfile, notes: &[String]) -> Chart<'static> {
    let mut groups: BTreeMap<(u32, bool), Vec<(f64, f64)>> = BTreeMap::new();
    for point in &measurements.attention {
        let at = (point.tokens() as f64, point.timing.median_s);
        groups.entry((point.group(), point.ragged())).or_default().push(at);
    }
    let mut series = Vec::new();
    let mut colors: BTreeMap<u32, RGBColor> = BTreeMap::new();
    for (&(group, ragged), points) in &groups {
        let next = COLORS[colors.len() % COLORS.len()];
        let color = *colors.entry(group).or_insert(next);
        let (marker, what) = if ragged { (Marker::Ring, "ragged") } else { (Marker::Disc, "equal contexts") };
        let name = format!("{group} query heads per KV head, {what}");
        series.push(Series { name, color, look: Look::Points(marker), points: points.clone() });
    }
    let tokens = || series.iter().flat_map(|series| &series.points).map(|point| point.0);
    let x = log_axis(tokens());
    for shape in &profile.compute.model_shapes {
        let group = shape.attn.gqa.map_or(0, |gqa| gqa.get());
        let color = colors.get(&group).copied().unwrap_or(COLORS[6]);
        let name = format!("fit: {}", shape.model);
        series.push(Series { name, color, look: Look::Line(&[]), points: attention_line(shape, x) });
    }
    Chart {
        title: format!("Decode attention of one layer by context: {}", profile.device.name),
        subtitle: "Marks: measured medians. Line: max(floor, constant + KV bytes / rate). Our own split-K kernel, not a \
                   serving engine's."
            .to_owned(),
        x_label: "Context tokens of the whole batch",
        y_label: "Time of one layer",
        x,
        y: log_axis(series.iter().flat_map(|series| &series.points).map(|point| point.1)),
        x_ticks: Vec::new(),
        x_words: words::number,
        y_words: words::seconds,
        band: None,
        series,
        notes: notes.to_vec(),
    }
}

fn attention_line(shape: &ModelShape, x: Axis) -> Vec<(f64, f64)> {
    let (Axis::Log { from, to } | Axis::Linear { from, to }) = x;
    let or_zero =
        |value: Option<orbitflow_sim::cost::profile::Positive>| value.map_or(0.0, |value| value.get());
    let at = |tokens: f64| {
        let bytes = tokens * shape.kv_bytes_per_token_layer.get() as f64;
        (or_zero(shape.attn.c_s) + bytes / shape.attn.bytes_per_s.get()).max(or_zero(shape.attn.floor_s))
    };
    let places = 64;
    (0..=places)
        .map(|place| from * (to / from).powf(f64::from(place) / f64::from(places)))
        .map(|tokens| (tokens, at(tokens)))
        .filter(|point| point.1 > 0.0)
        .collect()
}

/// `predicted`: predicted against measured step times, with the band of ±5 %.
pub fn predicted(cases: &[ValidationCase], profile: &HardwareProfile, notes: &[String]) -> Chart<'static> {
    let held_out = held_out_name(profile);
    let series = by_kind(cases, held_out, |case| (case.meas_s.median.get(), case.pred_s.full.get()));
    let axis = log_axis(series.iter().flat_map(|series| &series.points).flat_map(|point| [point.0, point.1]));
    let (Axis::Log { from, to } | Axis::Linear { from, to }) = axis;
    let mut drawn = vec![Series {
        name: "predicted = measured".to_owned(),
        color: COLORS[6],
        look: Look::Line(DASHED),
        points: vec![(from, from), (to, to)],
    }];
    drawn.extend(series);
    Chart {
        title: format!("Decode steps: predicted against measured: {}", profile.device.name),
        subtitle:
            "Each mark is one case: a batch, a placement, slots and a granularity. Above the dashed line the \
                   prediction is too long."
                .to_owned(),
        x_label: "Measured step (median)",
        y_label: "Predicted step",
        x: axis,
        y: axis,
        x_ticks: Vec::new(),
        x_words: words::seconds,
        y_words: words::seconds,
        band: Some(Band {
            name: "±5 %".to_owned(),
            lower: [(from, from * (1.0 - BAND)), (to, to * (1.0 - BAND))],
            upper: [(from, from * (1.0 + BAND)), (to, to * (1.0 + BAND))],
        }),
        series: drawn,
        notes: notes.to_vec(),
    }
}

/// `error_by_rho`: signed error by copy time over compute time.
pub fn error_by_rho(cases: &[ValidationCase], profile: &HardwareProfile, notes: &[String]) -> Chart<'static> {
    let least = cases.iter().map(|case| case.rho).filter(|rho| *rho > 0.0).fold(f64::INFINITY, f64::min);
    // Cases without copies have no place on a logarithmic axis: they stand at its lower end, and the note says so.
    let lowest = if least.is_finite() { least / 2.0 } else { 0.1 };
    let series = by_kind(cases, held_out_name(profile), |case| (case.rho.max(lowest), 100.0 * case.err_rel));
    let worst = cases.iter().map(|case| 100.0 * case.err_rel.abs()).fold(10.0, f64::max);
    let Axis::Linear { to: limit, .. } = Axis::from_zero(worst) else {
        unreachable!("Invariant: an axis from zero is linear")
    };
    let x = log_axis(series.iter().flat_map(|series| &series.points).map(|point| point.0));
    let (Axis::Log { from, to } | Axis::Linear { from, to }) = x;
    let mut notes = notes.to_vec();
    if cases.iter().any(|case| case.rho == 0.0) {
        notes.push(format!("Cases that copy nothing (ρ = 0) stand at ρ = {}.", words::number(lowest)));
    }
    let mut drawn = vec![Series {
        name: String::new(),
        color: COLORS[6],
        look: Look::Line(DASHED),
        points: vec![(from, 0.0), (to, 0.0)],
    }];
    drawn.extend(series);
    Chart {
        title: format!("Error of predicted decode steps by ρ: {}", profile.device.name),
        subtitle: "ρ is copy time over compute time, each alone: below 1 copies can hide behind compute. Above 0 the \
                   prediction is too long."
            .to_owned(),
        x_label: "ρ = copy time / compute time",
        y_label: "Error (%)",
        x,
        y: Axis::Linear { from: -limit, to: limit },
        x_ticks: Vec::new(),
        x_words: words::number,
        y_words: words::number,
        band: Some(Band {
            name: "±5 %".to_owned(),
            lower: [(from, -100.0 * BAND), (to, -100.0 * BAND)],
            upper: [(from, 100.0 * BAND), (to, 100.0 * BAND)],
        }),
        series: drawn,
        notes,
    }
}

fn held_out_name(profile: &HardwareProfile) -> Option<&str> {
    let summary = profile.validation.as_ref()?.summary.as_ref()?;
    Some(&summary.heldout.as_ref()?.model)
}

/// One series per granularity, and one for the model that no fit saw.
fn by_kind(
    cases: &[ValidationCase],
    held_out: Option<&str>,
    at: impl Fn(&ValidationCase) -> (f64, f64),
) -> Vec<Series> {
    let mut kinds: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for case in cases {
        let kind = if Some(case.model.as_str()) == held_out {
            format!("held out: {}", case.model)
        } else if case.rho == 0.0 {
            "nothing copied".to_owned()
        } else {
            format!("copied by {}", case.granularity)
        };
        kinds.entry(kind).or_default().push(at(case));
    }
    (kinds.into_iter().enumerate())
        .map(|(index, (name, points))| Series {
            name,
            color: COLORS[index % COLORS.len()],
            look: Look::Points(MARKERS[index % MARKERS.len()]),
            points,
        })
        .collect()
}

fn log_axis(values: impl Iterator<Item = f64>) -> Axis {
    Axis::log_around(values).unwrap_or(Axis::Log { from: 0.1, to: 10.0 })
}

/// Ticks at 1 B, 8 B, 64 B, … along an axis of sizes, which people read in powers of two.
fn powers_of_8(axis: Axis) -> Vec<Tick> {
    let (Axis::Log { from, to } | Axis::Linear { from, to }) = axis;
    let sizes = (0..20).map(|power| 8_f64.powi(power)).filter(|size| (from..=to).contains(size));
    sizes.map(|value| Tick { value, label: vec![binary_bytes(value)] }).collect()
}

/// A size as `512 B`, `4 KiB`, `256 MiB`.
fn binary_bytes(bytes: f64) -> String {
    for (size, unit) in [(1024.0 * 1024.0 * 1024.0, "GiB"), (1024.0 * 1024.0, "MiB"), (1024.0, "KiB")] {
        if bytes >= size * 0.95 {
            return format!("{} {unit}", words::number(bytes / size));
        }
    }
    format!("{} B", words::number(bytes))
}
