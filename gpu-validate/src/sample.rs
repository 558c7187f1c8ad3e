//! Repeated timings of one thing, and what is said of them (`gpu-measurement.md` §3.5).
//!
//! Quantile p of n sorted values is `sorted[ceil(p·n) − 1]`, as everywhere in this project (design §6).

use serde::{Deserialize, Serialize};

/// What repeated timings of one thing say. All times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Samples.
    pub n: u32,
    /// Median.
    pub median_s: f64,
    /// Distance between the quartiles.
    pub iqr_s: f64,
    /// Least.
    pub min_s: f64,
    /// 95th percentile.
    pub p95_s: f64,
    /// Standard deviation over the mean; 0 for a single sample.
    pub cov: f64,
}

impl Timing {
    /// Of at least one sample; each finite and not negative. Panics otherwise: a timer that gives such values is broken.
    pub fn of(samples: &[f64]) -> Timing {
        assert!(!samples.is_empty(), "Invariant: a timing has at least one sample");
        let sane = samples.iter().all(|sample| sample.is_finite() && *sample >= 0.0);
        assert!(sane, "Invariant: elapsed times are finite and not negative");
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let variance = sorted.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Timing {
            n: sorted.len() as u32,
            median_s: quantile(&sorted, 0.5),
            iqr_s: quantile(&sorted, 0.75) - quantile(&sorted, 0.25),
            min_s: sorted[0],
            p95_s: quantile(&sorted, 0.95),
            cov: if mean > 0.0 { variance.sqrt() / mean } else { 0.0 },
        }
    }

    /// The same of `k` times fewer: of a sample that held `k` runs back to back.
    pub fn per_run(self, k: u32) -> Timing {
        let k = f64::from(k);
        Timing {
            median_s: self.median_s / k,
            iqr_s: self.iqr_s / k,
            min_s: self.min_s / k,
            p95_s: self.p95_s / k,
            ..self
        }
    }
}

/// Quantile `p` of sorted values. Panics without any.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = (p * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// Median of unsorted values; `None` without any.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| quantile(&sorted, 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timing_says_median_quartiles_and_spread() {
        let timing = Timing::of(&[4.0, 1.0, 3.0, 2.0]);
        // sorted 1 2 3 4: ceil(.5·4)−1 = place 1, ceil(.75·4)−1 = 2, ceil(.25·4)−1 = 0, ceil(.95·4)−1 = 3
        assert_eq!((timing.median_s, timing.iqr_s, timing.min_s, timing.p95_s), (2.0, 2.0, 1.0, 4.0));
        // variance (2.25+0.25+0.25+2.25)/3 = 5/3; mean 2.5
        assert!((timing.cov - (5.0_f64 / 3.0).sqrt() / 2.5).abs() < 1e-15);
        assert_eq!(timing.per_run(2).median_s, 1.0);
    }

    #[test]
    #[should_panic(expected = "finite and not negative")]
    fn a_timer_that_runs_backwards_is_a_bug() {
        Timing::of(&[1.0, -1e-9]);
    }
}
