//! The link section: E1 and E2 fitted, E3 as a check of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use orbitflow_sim::cost::profile::{Bidirectional, CopyDirection, Link, LinkDirection, LinkFit, Positive};

use super::gaps::Gaps;
use super::{FitReport, Inputs, ProfileError};
use crate::case::{Granularity, attention_shape};
use crate::device::{CopyApi, Direction, HostMemory};
use crate::fit::{CopyFit, CopyObservation, Prediction, fit_copies};
use crate::results::{CopyPoint, LinkPoint};

/// The fitted rate of large copies may be off the measured peak by this share before it is said.
const PEAK_LIMIT: f64 = 0.05;

/// The link: recommended lines, every other line, both directions at once, pageable memory.
pub(super) fn of(inputs: &Inputs, gaps: &mut Gaps, report: &mut FitReport) -> Result<Link, ProfileError> {
    let fitted = fit_all(inputs, report);
    let no_link = || ProfileError::NoLink {
        reason: format!("{}; {}", inputs.why_absent("E1"), inputs.why_absent("E2")),
    };
    let h2d = recommended(inputs, &fitted, Direction::H2d, "link.h2d", gaps, report).ok_or_else(no_link)?;
    let d2h = recommended(inputs, &fitted, Direction::D2h, "link.d2h", gaps, report);
    if d2h.is_none() {
        gaps.say("link.d2h", &format!("{}; {}", inputs.why_absent("E1"), inputs.why_absent("E2")));
    }
    check_layouts(inputs, &fitted, report);
    gaps.say("link.link_intercept_s", "copies were timed alone: there is no whole-step fit to take it from");
    if inputs.run.curves.is_none() {
        gaps.say("link.curves", "no curves were written");
    }
    let pageable = pageable(inputs, gaps);
    let bidir = both_directions(inputs, gaps);
    let fits = every_line(inputs, &fitted, gaps);
    Ok(Link { h2d, d2h, bidir, pageable, curves: inputs.run.curves.clone(), link_intercept_s: None, fits })
}

type Fitted = BTreeMap<(Direction, CopyApi), CopyFit>;

/// A fit per direction and way of submitting. What cannot be fitted is warned of.
fn fit_all(inputs: &Inputs, report: &mut FitReport) -> Fitted {
    let points = &inputs.measurements.copies;
    let ways: BTreeSet<(Direction, CopyApi)> =
        points.iter().map(|point| (point.direction, point.api)).collect();
    let mut fitted = Fitted::new();
    for (direction, api) in ways {
        let name = format!("{} {}", direction.key(), api.key());
        let observations: Vec<CopyObservation> = points
            .iter()
            .filter(|point| (point.direction, point.api) == (direction, api))
            .map(observation)
            .collect();
        match fit_copies(&observations, inputs.run.settings()) {
            Ok(fit) => {
                let path = match api {
                    CopyApi::Async => format!("link.{}", direction.key()),
                    _ => "link.fits".to_owned(),
                };
                report.fit(&name, &path, "bytes per piece", &fit.quality, &fit.predictions);
                say_affine(&name, &fit, report);
                fitted.insert((direction, api), fit);
            }
            Err(reason) => report.warn(format!("{name}: not fitted: {reason}")),
        }
    }
    fitted
}

fn observation(point: &CopyPoint) -> CopyObservation {
    CopyObservation {
        point: format!("{} × {} B", point.pieces, point.piece_bytes),
        pieces: point.pieces,
        piece_bytes: point.piece_bytes,
        submit_s: point.submit_s,
        seconds: point.timing.median_s,
    }
}

fn say_affine(name: &str, fit: &CopyFit, report: &mut FitReport) {
    let Ok(affine) = &fit.affine else { return };
    let (Some(with), Some(without)) = (fit.quality.largest_error, affine.quality.largest_error) else {
        return;
    };
    report.note(format!(
        "{name}: largest error {:.1} % with two regimes, {:.1} % as latency + bytes/rate ({:.2} GB/s)",
        100.0 * with,
        100.0 * without,
        1e-9 / affine.slope_s
    ));
}

/// Pinned memory, one asynchronous copy per layer: the fit of E2, else E1's rate alone.
fn recommended(
    inputs: &Inputs,
    fitted: &Fitted,
    direction: Direction,
    path: &str,
    gaps: &mut Gaps,
    report: &mut FitReport,
) -> Option<LinkDirection> {
    let peak = peak(inputs, direction, HostMemory::Pinned, false);
    if let Some(fit) = fitted.get(&(direction, CopyApi::Async))
        && let Some(line) = line(fit, CopyApi::Async, None, path, gaps)
    {
        let name = format!("{} async", direction.key());
        if let Some(peak) = peak
            && (fit.bytes_per_s / peak - 1.0).abs() > PEAK_LIMIT
        {
            report.warn(format!(
                "{name}: fitted rate {:.2} GB/s is {:+.1} % off the peak of E1, {:.2} GB/s: expected within {:.0} %",
                fit.bytes_per_s / 1e9,
                100.0 * (fit.bytes_per_s / peak - 1.0),
                peak / 1e9,
                100.0 * PEAK_LIMIT
            ));
        }
        return Some(line);
    }
    let rate = Positive::new(peak?).ok()?;
    gaps.say(path, &format!("only the peak of E1 is known; {}", inputs.why_absent("E2")));
    report
        .warn(format!("{}: only the peak of E1 is known, taken as its rate at every size", direction.key()));
    Some(rate_only(rate, HostMemory::Pinned))
}

fn rate_only(rate: Positive, memory: HostMemory) -> LinkDirection {
    LinkDirection {
        api: Some(CopyApi::Async.key()),
        mem: Some(memory.key().to_owned()),
        ..LinkDirection::of_rate(rate)
    }
}

/// The fit as the profile has it, in pieces of `piece` bytes or in one.
fn line(
    fit: &CopyFit,
    api: CopyApi,
    piece: Option<NonZeroU64>,
    path: &str,
    gaps: &mut Gaps,
) -> Option<LinkDirection> {
    let rate = Positive::new(fit.bytes_per_s).ok()?;
    let small =
        fit.small.and_then(|(small, knee)| Some((Positive::new(small).ok()?, NonZeroU64::new(knee)?)));
    if small.is_none() {
        for key in ["bw_small_bytes_per_s", "knee_bytes"] {
            gaps.say(
                &format!("{path}.{key}"),
                "a second rate for small pieces does not describe the points better",
            );
        }
    }
    if piece.is_none() {
        gaps.say(&format!("{path}.descriptor_bytes"), "each copy is one piece");
    }
    let submit = match &fit.submit_s {
        Ok(_) => gaps.coefficient(&format!("{path}.submit_s_per_desc"), &fit.submit_s),
        Err(_) => {
            gaps.say(
                &format!("{path}.submit_s_per_desc"),
                "submitting was not timed for this way of copying",
            );
            None
        }
    };
    Some(LinkDirection {
        api: Some(api.key()),
        mem: Some(HostMemory::Pinned.key().to_owned()),
        bw_inf_bytes_per_s: rate,
        bw_small_bytes_per_s: small.map(|(rate, _)| rate),
        knee_bytes: small.map(|(_, knee)| knee),
        latency_s: gaps.coefficient(&format!("{path}.latency_s"), &fit.latency_s),
        submit_s_per_desc: submit,
        engine_s_per_desc: gaps.coefficient(&format!("{path}.engine_s_per_desc"), &fit.engine_s),
        descriptor_bytes: piece,
        fit: Some(gaps.quality(&format!("{path}.fit"), &fit.quality)),
    })
}

/// Every way of copying: the three granularities, the other ways of submitting, the other memories.
fn every_line(inputs: &Inputs, fitted: &Fitted, gaps: &mut Gaps) -> Vec<LinkFit> {
    let shape = attention_shape(&inputs.scale.fitted);
    let mut fits = Vec::new();
    let mut add =
        |direction: Direction, granularity: &str, make: &mut dyn FnMut(&str) -> Option<LinkDirection>| {
            let path = format!("link.fits[{}].line", fits.len());
            if let Some(line) = make(&path) {
                let direction = match direction {
                    Direction::H2d => CopyDirection::H2d,
                    Direction::D2h => CopyDirection::D2h,
                };
                fits.push(LinkFit { direction, granularity: granularity.to_owned(), line });
            }
        };
    for (&(direction, api), fit) in fitted {
        let named: Vec<Granularity> =
            Granularity::ALL.into_iter().filter(|granularity| granularity.api() == api).collect();
        for granularity in &named {
            let piece = granularity.piece_bytes(shape).and_then(NonZeroU64::new);
            add(direction, granularity.key(), &mut |path| line(fit, api, piece, path, gaps));
        }
        if named.is_empty() {
            add(direction, "", &mut |path| line(fit, api, None, path, gaps));
        }
    }
    for direction in [Direction::H2d, Direction::D2h] {
        let others = [HostMemory::PinnedWriteCombined, HostMemory::Pageable, HostMemory::RegisteredHugePages];
        for memory in others {
            let Some(rate) = peak(inputs, direction, memory, false).and_then(|rate| Positive::new(rate).ok())
            else {
                continue;
            };
            add(direction, "", &mut |path| {
                gaps.say(path, "E1 times one size of this memory");
                Some(rate_only(rate, memory))
            });
        }
    }
    fits
}

/// The best rate of E1 in bytes per second.
fn peak(inputs: &Inputs, direction: Direction, memory: HostMemory, opposite_busy: bool) -> Option<f64> {
    let wanted = |point: &&LinkPoint| {
        (point.direction, point.memory, point.opposite_busy) == (direction, memory, opposite_busy)
    };
    let rates = inputs.measurements.link.iter().filter(wanted).map(LinkPoint::bytes_per_s);
    rates.filter(|rate| rate.is_finite() && *rate > 0.0).max_by(f64::total_cmp)
}

fn pageable(inputs: &Inputs, gaps: &mut Gaps) -> Option<LinkDirection> {
    let rate =
        peak(inputs, Direction::H2d, HostMemory::Pageable, false).and_then(|rate| Positive::new(rate).ok());
    match rate {
        Some(_) => gaps.say("link.pageable", "E1 times one size of this memory"),
        None => gaps.say("link.pageable", &inputs.why_absent("E1")),
    }
    rate.map(|rate| rate_only(rate, HostMemory::Pageable))
}

/// Rate with the other direction busy over the rate alone, pinned memory.
pub(super) fn busy_factor(inputs: &Inputs, direction: Direction) -> Option<f64> {
    let rate = |busy| peak(inputs, direction, HostMemory::Pinned, busy);
    Some(rate(true)? / rate(false)?).filter(|factor| factor.is_finite())
}

fn both_directions(inputs: &Inputs, gaps: &mut Gaps) -> Option<Bidirectional> {
    let factor = |direction| busy_factor(inputs, direction).and_then(|factor| Positive::new(factor).ok());
    let bidir = Bidirectional { h2d_factor: factor(Direction::H2d), d2h_factor: factor(Direction::D2h) };
    gaps.say("link.bidir", &inputs.why_absent("E1"));
    (bidir.h2d_factor.is_some() || bidir.d2h_factor.is_some()).then_some(bidir)
}

/// E3 predicted by the fits of E2: pieces of one size, in the cut they were copied in.
fn check_layouts(inputs: &Inputs, fitted: &Fitted, report: &mut FitReport) {
    let mut by_api: BTreeMap<CopyApi, Vec<Prediction>> = BTreeMap::new();
    for point in &inputs.measurements.layouts {
        let Some(fit) = fitted.get(&(Direction::H2d, point.api)) else { continue };
        let pieces = point.pieces.max(1);
        let piece_bytes = point.bytes / u64::from(pieces);
        let measured_s = point.timing.median_s;
        if measured_s > 0.0 {
            let cut = if point.fused { "K and V together" } else { "K and V apart" };
            by_api.entry(point.api).or_default().push(Prediction {
                point: format!("{} tokens per block, {cut}, runs of {}", point.block_tokens, point.run),
                at: piece_bytes as f64,
                measured_s,
                predicted_s: fit.seconds(pieces, piece_bytes),
                used: false,
            });
        }
    }
    for (api, predictions) in by_api {
        // Nothing was fitted to them: their quality is that of no points.
        let name = format!("layouts h2d {} (by the fit of E2)", api.key());
        report.unfitted(&name, "bytes per piece", predictions);
    }
}
