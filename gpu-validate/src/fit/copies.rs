//! Copies over the link in two regimes: `latency + max(n·submit, n·max(engine, s/BW(s)))` for n pieces of s bytes, `BW(s)`
//! the small rate below a knee and the large one from it on (`gpu-measurement.md` §3.2).
//!
//! Submission is kept out of what is timed (a latch or a head start), so the points hold `latency + n·max(engine, s/BW(s))`
//! alone, and the time to submit comes from the CPU's clock; the simulator puts both together, because there a long run of
//! pieces is submitted while it is copied. The knee and the size below which the engine's least time counts are searched
//! over the measured sizes.

use std::collections::BTreeSet;

use super::affine::{AffineFit, fit_affine};
use super::linear::{Row, criterion, solve};
use super::quality::{Prediction, Quality, fold};
use super::resample::intervals;
use super::{FitSettings, NoFit, above_zero, usable};
use crate::sample::median;

/// `pieces` pieces of `piece_bytes` bytes each.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyObservation {
    /// Which.
    pub point: String,
    /// Pieces.
    pub pieces: u32,
    /// Size of one.
    pub piece_bytes: u64,
    /// CPU seconds to submit one, if that was timed.
    pub submit_s: Option<f64>,
    /// Measured seconds of all pieces, without submitting them.
    pub seconds: f64,
}

/// A fitted way of copying.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyFit {
    /// Seconds before the first byte, or why they are not known.
    pub latency_s: Result<f64, NoFit>,
    /// Least seconds of the engine per piece, or why they are not known.
    pub engine_s: Result<f64, NoFit>,
    /// Rate below the knee and the knee in bytes, where there is one.
    pub small: Option<(f64, u64)>,
    /// Rate of large pieces.
    pub bytes_per_s: f64,
    /// CPU seconds per piece: the median over the points, or why it is not known.
    pub submit_s: Result<f64, NoFit>,
    /// How good it is.
    pub quality: Quality,
    /// Every point.
    pub predictions: Vec<Prediction>,
    /// The plain `latency + bytes/rate` through the same points, to compare.
    pub affine: Result<AffineFit, NoFit>,
}

impl CopyFit {
    /// Seconds of `pieces` pieces of `piece_bytes` bytes, without submitting them.
    pub fn seconds(&self, pieces: u32, piece_bytes: u64) -> f64 {
        let curve = Curve {
            latency_s: *self.latency_s.as_ref().unwrap_or(&0.0),
            engine_s: *self.engine_s.as_ref().unwrap_or(&0.0),
            small_s_per_byte: self.small.map_or(1.0 / self.bytes_per_s, |(rate, _)| 1.0 / rate),
            large_s_per_byte: 1.0 / self.bytes_per_s,
            knee_bytes: self.small.map_or(0, |(_, knee)| knee),
        };
        curve.seconds(pieces, piece_bytes)
    }
}

#[derive(Clone, Copy, Debug)]
struct Curve {
    latency_s: f64,
    engine_s: f64,
    small_s_per_byte: f64,
    large_s_per_byte: f64,
    /// 0: none.
    knee_bytes: u64,
}

impl Curve {
    fn s_per_byte(&self, piece_bytes: u64) -> f64 {
        if piece_bytes < self.knee_bytes { self.small_s_per_byte } else { self.large_s_per_byte }
    }

    fn regime(&self, piece_bytes: u64) -> Regime {
        match piece_bytes as f64 * self.s_per_byte(piece_bytes) < self.engine_s {
            true => Regime::Engine,
            false if piece_bytes < self.knee_bytes => Regime::Small,
            false => Regime::Large,
        }
    }

    fn seconds(&self, pieces: u32, piece_bytes: u64) -> f64 {
        let slope = self.s_per_byte(piece_bytes);
        let piece = (piece_bytes as f64 * slope).max(self.engine_s);
        self.latency_s + f64::from(pieces) * piece
    }

    /// The knee counts as one, as does the rate below it.
    fn coefficients(&self) -> usize {
        let terms = usize::from(self.latency_s > 0.0) + usize::from(self.engine_s > 0.0);
        1 + terms + if self.knee_bytes > 0 { 2 } else { 0 }
    }
}

/// Where the regimes part, as places in the ascending list of sizes: below `engine` the engine's least time counts, from
/// `knee` on the large rate, between them the small one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Split {
    engine: usize,
    knee: usize,
}

/// What a piece's time is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Regime {
    /// The engine's least time.
    Engine,
    /// Its bytes at the small rate.
    Small,
    /// Its bytes at the large rate.
    Large,
}

/// How often regimes are dealt again; they settle in two or three rounds.
const MOST_ROUNDS: usize = 4;

impl Split {
    fn regime(self, size: usize) -> Regime {
        match size {
            size if size < self.engine => Regime::Engine,
            size if size < self.knee => Regime::Small,
            _ => Regime::Large,
        }
    }

    fn has_small(self) -> bool {
        self.engine < self.knee
    }
}

/// A point and the place of its size.
struct Point<'a> {
    seen: &'a CopyObservation,
    size: usize,
}

struct Points<'a> {
    points: Vec<Point<'a>>,
    sizes: Vec<u64>,
}

/// Fits one way of copying. Points with a time that is no number above 0 are left out.
///
/// # Errors
/// No usable point, or times that do not grow with bytes.
pub fn fit_copies(observations: &[CopyObservation], settings: FitSettings) -> Result<CopyFit, NoFit> {
    let seen: Vec<&CopyObservation> = observations
        .iter()
        .filter(|point| usable(point.seconds) && point.pieces > 0 && point.piece_bytes > 0)
        .collect();
    if seen.is_empty() {
        return Err(NoFit::TooFew { points: 0, needed: 1 });
    }
    let submits: Vec<f64> = seen.iter().filter_map(|point| point.submit_s).filter(|s| usable(*s)).collect();
    let submit = median(&submits);
    let points = Points::of(&seen);
    let even = vec![1.0; seen.len()];
    let (split, curve) =
        points.search(&even, points.splits()).ok_or(NoFit::NotPositive { what: "the rate of the link" })?;
    let predictions: Vec<Prediction> = points
        .points
        .iter()
        .map(|point| Prediction {
            point: point.seen.point.clone(),
            at: point.seen.piece_bytes as f64,
            measured_s: point.seen.seconds,
            predicted_s: curve.seconds(point.seen.pieces, point.seen.piece_bytes),
            used: true,
        })
        .collect();
    let mut quality = Quality::of(&predictions);
    quality.folds = points.folds();
    points.add_intervals(&mut quality, split, curve, settings);
    let work = |point: &&CopyObservation| f64::from(point.pieces) * point.piece_bytes as f64;
    let line: Vec<(String, f64, f64)> =
        seen.iter().map(|point| (point.point.clone(), work(point), point.seconds)).collect();
    let told = |value: f64, what| {
        let differ = seen.iter().any(|point| work(point) != work(&seen[0]));
        match above_zero(value) {
            _ if !differ => Err(NoFit::AllEqual { what: "number of bytes" }),
            None => Err(NoFit::NotPositive { what }),
            Some(value) => Ok(value),
        }
    };
    Ok(CopyFit {
        latency_s: told(curve.latency_s, "the latency of a copy"),
        engine_s: told(curve.engine_s, "a least time of the copy engine per piece"),
        small: (curve.knee_bytes > 0).then(|| (1.0 / curve.small_s_per_byte, curve.knee_bytes)),
        bytes_per_s: 1.0 / curve.large_s_per_byte,
        submit_s: submit.ok_or(NoFit::TooFew { points: 0, needed: 1 }),
        quality,
        predictions,
        affine: fit_affine(&line),
    })
}

impl<'a> Points<'a> {
    fn of(seen: &[&'a CopyObservation]) -> Self {
        let sizes: Vec<u64> =
            seen.iter().map(|point| point.piece_bytes).collect::<BTreeSet<u64>>().into_iter().collect();
        let points = seen
            .iter()
            .map(|point| Point { seen: point, size: sizes.partition_point(|size| *size < point.piece_bytes) })
            .collect();
        Points { points, sizes }
    }

    /// Every split that leaves the large rate two sizes, or all there are.
    fn splits(&self) -> Vec<Split> {
        let last = self.sizes.len().saturating_sub(2);
        (0..=last).flat_map(|knee| (0..=knee).map(move |engine| Split { engine, knee })).collect()
    }

    /// The best of the splits by the criterion.
    fn search(&self, weights: &[f64], splits: Vec<Split>) -> Option<(Split, Curve)> {
        let count: f64 = weights.iter().sum();
        let scored = splits.into_iter().filter_map(|split| {
            let (error, curve) = self.fit(weights, split)?;
            Some((criterion(error, count, curve.coefficients()), split, curve))
        });
        scored.min_by(|(a, ..), (b, ..)| a.total_cmp(b)).map(|(_, split, curve)| (split, curve))
    }

    /// The curve of one split, with its `Σ w·(relative error)²`. A split is where the search begins: pieces at the large
    /// rate may still be shorter than the engine's least time, so regimes are dealt again by the fitted curve, and the
    /// best of these curves is taken.
    fn fit(&self, weights: &[f64], split: Split) -> Option<(f64, Curve)> {
        let mut regimes: Vec<Regime> = self.points.iter().map(|point| split.regime(point.size)).collect();
        let mut best: Option<(f64, Curve)> = None;
        for _ in 0..MOST_ROUNDS {
            let Some((error, curve)) = self.fit_regimes(weights, split, &regimes) else { break };
            if best.is_none_or(|(least, _)| error < least) {
                best = Some((error, curve));
            }
            let dealt: Vec<Regime> =
                self.points.iter().map(|point| curve.regime(point.seen.piece_bytes)).collect();
            if split.engine == 0 || dealt == regimes {
                break;
            }
            regimes = dealt;
        }
        best
    }

    fn fit_regimes(&self, weights: &[f64], split: Split, regimes: &[Regime]) -> Option<(f64, Curve)> {
        let rows: Vec<Row<4>> = self
            .points
            .iter()
            .zip(weights)
            .zip(regimes)
            .map(|((point, &weight), regime)| {
                let pieces = f64::from(point.seen.pieces);
                let bytes = pieces * point.seen.piece_bytes as f64;
                let columns = match regime {
                    Regime::Engine => [1.0, pieces, 0.0, 0.0],
                    Regime::Small => [1.0, 0.0, bytes, 0.0],
                    Regime::Large => [1.0, 0.0, 0.0, bytes],
                };
                Row { columns, seconds: point.seen.seconds, weight }
            })
            .collect();
        let [latency_s, engine_s, small, large] = match solve(&rows)? {
            [.., large] if large <= 0.0 && self.one_amount() => [0.0, 0.0, 0.0, self.rate_only(&rows)?],
            solution => solution,
        };
        if above_zero(large).is_none() || (split.has_small() && small < large) {
            return None;
        }
        let curve = Curve {
            latency_s,
            engine_s,
            small_s_per_byte: if split.has_small() { small } else { large },
            large_s_per_byte: large,
            knee_bytes: if split.has_small() { self.sizes[split.knee] } else { 0 },
        };
        let square = |(point, weight): (&Point, &f64)| {
            let seconds = curve.seconds(point.seen.pieces, point.seen.piece_bytes);
            weight * (seconds / point.seen.seconds - 1.0).powi(2)
        };
        let error: f64 = self.points.iter().zip(weights).map(square).sum();
        error.is_finite().then_some((error, curve))
    }

    /// Whether all points move the same number of bytes: then all of their time is taken as rate.
    fn one_amount(&self) -> bool {
        let amount = |point: &Point| u64::from(point.seen.pieces) * point.seen.piece_bytes;
        self.points.iter().all(|point| amount(point) == amount(&self.points[0]))
    }

    fn rate_only(&self, rows: &[Row<4>]) -> Option<f64> {
        let rows: Vec<Row<1>> = rows
            .iter()
            .map(|row| Row { columns: [row.columns[3]], seconds: row.seconds, weight: row.weight })
            .collect();
        solve(&rows).map(|[large]| large)
    }

    /// One size left out at a time; none with fewer than three sizes.
    fn folds(&self) -> Vec<super::Fold> {
        if self.sizes.len() < 3 {
            return Vec::new();
        }
        let of = |(place, &size): (usize, &u64)| {
            let rest: Vec<&CopyObservation> =
                self.points.iter().filter(|point| point.size != place).map(|point| point.seen).collect();
            let rest = Points::of(&rest);
            let (_, curve) = rest.search(&vec![1.0; rest.points.len()], rest.splits())?;
            let errors: Vec<f64> = self
                .points
                .iter()
                .filter(|point| point.size == place)
                .map(|point| {
                    let seconds = curve.seconds(point.seen.pieces, point.seen.piece_bytes);
                    seconds / point.seen.seconds - 1.0
                })
                .collect();
            fold(size, &errors)
        };
        self.sizes.iter().enumerate().filter_map(of).collect()
    }

    fn add_intervals(&self, quality: &mut Quality, split: Split, curve: Curve, settings: FitSettings) {
        // The form stays; its knee may move by one size and the engine's end by two, either way.
        let near = |split: &Split, other: &Split| {
            split.engine.abs_diff(other.engine) <= 2
                && split.knee.abs_diff(other.knee) <= 1
                && split.has_small() == other.has_small()
                && (split.engine > 0) == (other.engine > 0)
        };
        let candidates: Vec<Split> = self.splits().into_iter().filter(|other| near(&split, other)).collect();
        let values = |curve: Curve| {
            [
                curve.latency_s,
                curve.engine_s,
                1.0 / curve.large_s_per_byte,
                if curve.knee_bytes > 0 { 1.0 / curve.small_s_per_byte } else { 0.0 },
                curve.knee_bytes as f64,
            ]
        };
        let refit =
            |weights: &[f64]| self.search(weights, candidates.clone()).map(|(_, curve)| values(curve));
        let estimate = values(curve);
        let Some(ends) = intervals(self.points.len(), estimate, settings, refit) else { return };
        let names =
            ["latency_s", "engine_s_per_desc", "bw_inf_bytes_per_s", "bw_small_bytes_per_s", "knee_bytes"];
        for ((name, value), ends) in names.iter().zip(estimate).zip(ends) {
            if value > 0.0 {
                quality.intervals.insert((*name).to_owned(), ends);
            }
        }
    }
}
