//! 95 % intervals by resampling the points of a fit with replacement (Efron's percentile bootstrap), seeded.
//!
//! With few points percentiles are too narrow by about `sqrt(n/(n−p))`, n points and p coefficients, so each end is moved
//! away from the estimate by that factor. Times and rates end at 0.

use orbitflow_sim::random::uniform;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{FEW_POINTS, FitSettings};
use crate::sample::quantile;

/// For each coefficient of `estimate` its interval. `refit` is given how often each point counts. `None` with too few
/// points, without resamples, or if a tenth of the refits fail.
pub(super) fn intervals<const C: usize>(
    points: usize,
    estimate: [f64; C],
    settings: FitSettings,
    refit: impl Fn(&[f64]) -> Option<[f64; C]>,
) -> Option<[[f64; 2]; C]> {
    if points < FEW_POINTS || settings.resamples == 0 {
        return None;
    }
    let mut generator = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut drawn: [Vec<f64>; C] = std::array::from_fn(|_| Vec::with_capacity(settings.resamples as usize));
    let mut counts = vec![0.0; points];
    for _ in 0..settings.resamples {
        counts.fill(0.0);
        for _ in 0..points {
            let place = (uniform(&mut generator) * points as f64) as usize;
            counts[place.min(points - 1)] += 1.0;
        }
        if let Some(values) = refit(&counts).filter(|values| values.iter().all(|value| value.is_finite())) {
            for (all, value) in drawn.iter_mut().zip(values) {
                all.push(value);
            }
        }
    }
    if drawn[0].len() * 10 < settings.resamples as usize * 9 {
        return None;
    }
    let widen = (points as f64 / (points.saturating_sub(C)).max(1) as f64).sqrt();
    Some(std::array::from_fn(|place| {
        drawn[place].sort_by(f64::total_cmp);
        let end = |p: f64| {
            let from = estimate[place];
            (from + (quantile(&drawn[place], p) - from) * widen).max(0.0)
        };
        [end(0.025), end(0.975)]
    }))
}
