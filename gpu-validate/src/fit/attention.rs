//! Attention of one layer as a hinge: `max(floor, constant + bytes/rate)` over the bytes of KV that are read
//! (`gpu-measurement.md` §3.1).
//!
//! Fitted to batches of equal contexts; batches of unequal ones are predicted and reported, never fitted. Every place of the
//! hinge between two measured sizes is tried, and none. A second predictor, the longest context of the batch (one request's
//! splits may be what everyone waits for), is tried and only reported: the profile has no place for it.

use std::collections::BTreeSet;

use super::linear::{Row, criterion, solve};
use super::quality::{Prediction, Quality, fold};
use super::resample::intervals;
use super::{FitSettings, NoFit, above_zero, usable};

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionObservation {
    /// Which.
    pub point: String,
    /// K and V of all context tokens, read once.
    pub kv_bytes: u64,
    /// The most context tokens of a request.
    pub longest: u64,
    /// Whether contexts differ.
    pub ragged: bool,
    /// Measured seconds.
    pub seconds: f64,
}

/// The hinge.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionFit {
    /// Least seconds, or why there is none.
    pub floor_s: Result<f64, NoFit>,
    /// Constant of the line in seconds, or why there is none.
    pub constant_s: Result<f64, NoFit>,
    /// Rate at which KV is read.
    pub bytes_per_s: f64,
    /// How good it is; without the ragged batches.
    pub quality: Quality,
    /// Every batch, ragged ones among them.
    pub predictions: Vec<Prediction>,
    /// The second predictor, where it lowers the error on batches that the fit has not seen.
    pub longest_context: Option<LongestContext>,
}

/// What the longest context of a batch adds.
#[derive(Clone, Debug, PartialEq)]
pub struct LongestContext {
    /// Seconds per token of the longest context.
    pub s_per_token: f64,
    /// Median error left out and on ragged batches, without it.
    pub error_without: f64,
    /// The same with it.
    pub error_with: f64,
}

impl AttentionFit {
    /// Seconds of a batch that reads `kv_bytes` bytes.
    pub fn seconds(&self, kv_bytes: f64) -> f64 {
        let constant = *self.constant_s.as_ref().unwrap_or(&0.0);
        (constant + kv_bytes / self.bytes_per_s).max(*self.floor_s.as_ref().unwrap_or(&0.0))
    }
}

#[derive(Clone, Copy, Debug)]
struct Hinge {
    floor_s: f64,
    constant_s: f64,
    s_per_byte: f64,
    s_per_token: f64,
    /// Sizes below this were taken as floor when it was fitted.
    from_bytes: u64,
}

impl Hinge {
    fn seconds(&self, point: &AttentionObservation) -> f64 {
        let line = self.constant_s
            + self.s_per_byte * point.kv_bytes as f64
            + self.s_per_token * point.longest as f64;
        line.max(self.floor_s)
    }

    fn error(&self, point: &AttentionObservation) -> f64 {
        self.seconds(point) / point.seconds - 1.0
    }

    fn coefficients(&self) -> usize {
        1 + [self.floor_s, self.constant_s, self.s_per_token].iter().filter(|value| **value > 0.0).count()
    }
}

/// Fits the hinge of one head geometry. Points with a time that is no number above 0 are left out.
///
/// # Errors
/// No usable batch of equal contexts, or times that do not grow with bytes.
pub fn fit_attention(
    observations: &[AttentionObservation],
    settings: FitSettings,
) -> Result<AttentionFit, NoFit> {
    let usable: Vec<&AttentionObservation> =
        observations.iter().filter(|point| usable(point.seconds) && point.kv_bytes > 0).collect();
    let even: Vec<&AttentionObservation> = usable.iter().copied().filter(|point| !point.ragged).collect();
    if even.is_empty() {
        return Err(NoFit::TooFew { points: 0, needed: 1 });
    }
    let ones = vec![1.0; even.len()];
    let hinge = search(&even, &ones, false).ok_or(NoFit::NotPositive { what: "the rate of attention" })?;
    let predictions: Vec<Prediction> = usable
        .iter()
        .map(|point| Prediction {
            point: point.point.clone(),
            at: point.kv_bytes as f64,
            measured_s: point.seconds,
            predicted_s: hinge.seconds(point),
            used: !point.ragged,
        })
        .collect();
    let mut quality = Quality::of(&predictions);
    let unseen = |with_longest| unseen(&even, with_longest);
    quality.folds = unseen(false).iter().filter_map(|(context, errors)| fold(*context, errors)).collect();
    let known = |value: f64, what| above_zero(value).ok_or(NoFit::NotPositive { what });
    let sizes: BTreeSet<u64> = even.iter().map(|point| point.kv_bytes).collect();
    let one_size = sizes.len() < 2;
    let same = || Err(NoFit::AllEqual { what: "bytes of KV" });
    add_intervals(&mut quality, &even, hinge, settings);
    Ok(AttentionFit {
        floor_s: if one_size { same() } else { known(hinge.floor_s, "a floor of attention") },
        constant_s: if one_size { same() } else { known(hinge.constant_s, "the constant of attention") },
        bytes_per_s: 1.0 / hinge.s_per_byte,
        quality,
        predictions,
        longest_context: longest_context(&usable, &even, hinge),
    })
}

/// Errors of each context's points by a fit of all others, ascending in context; none with fewer than three contexts.
fn unseen(even: &[&AttentionObservation], with_longest: bool) -> Vec<(u64, Vec<f64>)> {
    let contexts: BTreeSet<u64> = even.iter().map(|point| point.longest).collect();
    let of = |left_out: u64| -> Option<(u64, Vec<f64>)> {
        let (out, rest): (Vec<_>, Vec<_>) = even.iter().copied().partition(|point| point.longest == left_out);
        let hinge = search(&rest, &vec![1.0; rest.len()], with_longest)?;
        Some((left_out, out.iter().map(|point| hinge.error(point)).collect()))
    };
    if contexts.len() < 3 { Vec::new() } else { contexts.into_iter().filter_map(of).collect() }
}

/// The second predictor, if points that the fit has not seen (left out, or ragged) come out better with it.
fn longest_context(
    usable: &[&AttentionObservation],
    even: &[&AttentionObservation],
    without: Hinge,
) -> Option<LongestContext> {
    let with = search(even, &vec![1.0; even.len()], true).filter(|hinge| hinge.s_per_token > 0.0)?;
    let error = |with_longest: bool, hinge: Hinge| {
        let left_out = unseen(even, with_longest).into_iter().flat_map(|(_, errors)| errors);
        let ragged = usable.iter().filter(|point| point.ragged).map(|point| hinge.error(point));
        let errors: Vec<f64> = left_out.chain(ragged).map(f64::abs).collect();
        crate::sample::median(&errors)
    };
    let (error_without, error_with) = (error(false, without)?, error(true, with)?);
    (error_with < error_without).then_some(LongestContext {
        s_per_token: with.s_per_token,
        error_without,
        error_with,
    })
}

fn add_intervals(quality: &mut Quality, even: &[&AttentionObservation], hinge: Hinge, settings: FitSettings) {
    let sizes: Vec<u64> = even.iter().map(|p| p.kv_bytes).collect::<BTreeSet<_>>().into_iter().collect();
    let place = sizes.partition_point(|&bytes| bytes < hinge.from_bytes);
    // The form stays; its hinge may move by three sizes either way.
    let near =
        if hinge.floor_s > 0.0 { place.saturating_sub(3).max(1)..(place + 4).min(sizes.len()) } else { 0..1 };
    let refit = |weights: &[f64]| {
        let best = near
            .clone()
            .filter_map(|place| at(even, weights, sizes[place], false))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))?
            .1;
        Some([best.floor_s, best.constant_s, 1.0 / best.s_per_byte])
    };
    let estimate = [hinge.floor_s, hinge.constant_s, 1.0 / hinge.s_per_byte];
    let Some(ends) = intervals(even.len(), estimate, settings, refit) else { return };
    for ((name, value), ends) in ["floor_s", "c_s", "bytes_per_s"].iter().zip(estimate).zip(ends) {
        if value > 0.0 {
            quality.intervals.insert((*name).to_owned(), ends);
        }
    }
}

/// The best hinge over every place of it, and over none.
fn search(points: &[&AttentionObservation], weights: &[f64], with_longest: bool) -> Option<Hinge> {
    let sizes: BTreeSet<u64> = points.iter().map(|point| point.kv_bytes).collect();
    let scored = sizes.into_iter().filter_map(|from| {
        let (error, hinge) = at(points, weights, from, with_longest)?;
        Some((criterion(error, points.len() as f64, hinge.coefficients()), hinge))
    });
    // Ties go to the first, the one with the lower hinge.
    scored.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, hinge)| hinge)
}

/// The hinge whose line is fitted to sizes from `from` on and whose floor to those below, with its `Σ w·(relative error)²`
/// over all points.
fn at(
    points: &[&AttentionObservation],
    weights: &[f64],
    from: u64,
    with_longest: bool,
) -> Option<(f64, Hinge)> {
    let weighted = || points.iter().zip(weights);
    let above: Vec<Row<3>> = weighted()
        .filter(|(point, _)| point.kv_bytes >= from)
        .map(|(point, &weight)| {
            let longest = if with_longest { point.longest as f64 } else { 0.0 };
            Row { columns: [1.0, point.kv_bytes as f64, longest], seconds: point.seconds, weight }
        })
        .collect();
    let [mut constant_s, mut s_per_byte, mut s_per_token] = solve(&above)?;
    if s_per_byte <= 0.0 {
        // One size cannot tell the constant from the rate: all of it is rate.
        let rate_only: Vec<Row<1>> = above
            .iter()
            .map(|row| Row { columns: [row.columns[1]], seconds: row.seconds, weight: row.weight })
            .collect();
        let sizes: BTreeSet<u64> = points.iter().map(|point| point.kv_bytes).collect();
        if sizes.len() > 1 {
            return None;
        }
        (constant_s, s_per_byte, s_per_token) = (0.0, solve(&rate_only)?[0], 0.0);
    }
    let (mut ones, mut squares) = (0.0, 0.0);
    for (point, weight) in weighted().filter(|(point, _)| point.kv_bytes < from) {
        ones += weight / point.seconds;
        squares += weight / (point.seconds * point.seconds);
    }
    let floor_s = if squares > 0.0 { ones / squares } else { 0.0 };
    let hinge = Hinge { floor_s, constant_s, s_per_byte, s_per_token, from_bytes: from };
    let error = weighted().map(|(point, weight)| weight * hinge.error(point).powi(2)).sum::<f64>();
    (error.is_finite() && above_zero(1.0 / s_per_byte).is_some()).then_some((error, hinge))
}
