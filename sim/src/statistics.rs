//! Means with 95 % confidence intervals from a few independent runs: Student's t over seeds.
//!
//! `mean ± t(0.975, n − 1) · s / √n`. The distribution function is the finite sum of Abramowitz and Stegun 26.7.3
//! and 26.7.4 for a whole number of degrees of freedom, turned around by bisection. Worked number (a test): 1, 2, 3, 4
//! have mean 2.5 and s = 1.291, t(0.975, 3) = 3.182, so 2.5 ± 3.182·1.291/2 = 2.5 ± 2.054. Assumes that seeds are independent and
//! their values roughly normal; knows nothing of what is averaged, nor of the range that it may have: an interval of shares
//! may reach beyond 0 and 100 %.

use std::f64::consts::{FRAC_2_PI, PI};

/// A mean and how far its 95 % interval reaches to either side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Arithmetic mean.
    pub mean: f64,
    /// Half the width of the interval; infinite for a single value.
    pub half: f64,
    /// Values behind it.
    pub count: usize,
}

impl Interval {
    /// Of these values; `None` without any.
    pub fn of(values: &[f64]) -> Option<Interval> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        if count == 1 {
            return Some(Interval { mean, half: f64::INFINITY, count });
        }
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let deviation = (squares / (count - 1) as f64).sqrt();
        let half = t_of_95_percent(count as u32 - 1) * deviation / (count as f64).sqrt();
        Some(Interval { mean, half, count })
    }

    /// Lower end.
    pub fn low(&self) -> f64 {
        self.mean - self.half
    }

    /// Upper end.
    pub fn high(&self) -> f64 {
        self.mean + self.half
    }
}

/// `P(|T| ≤ t)` for a whole number of degrees of freedom.
fn within(t: f64, freedom: u32) -> f64 {
    let angle = libm::atan(t / f64::from(freedom).sqrt());
    let (sine, cosine) = (libm::sin(angle), libm::cos(angle));
    let odd = freedom % 2 == 1;
    // Odd: cos θ + 2/3 cos³ θ + …, even: 1 + 1/2 cos² θ + …; the last power is freedom − 2.
    let mut power = if odd { 1 } else { 0 };
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    while power + 2 <= freedom {
        sum += term;
        term *= cosine * cosine * f64::from(power + 1) / f64::from(power + 2);
        power += 2;
    }
    if odd { FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

/// The t with `P(|T| ≤ t) = 0.95`.
fn t_of_95_percent(freedom: u32) -> f64 {
    // 12.706 at one degree of freedom is the largest there is.
    let (mut low, mut high) = (0.0, 4.0 * PI + 1.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if within(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        // Abramowitz and Stegun, table 26.10, P = 0.975 one-sided.
        let table = [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (9, 2.262),
            (19, 2.093),
            (30, 2.042),
            (120, 1.980),
        ];
        for (freedom, t) in table {
            assert!((t_of_95_percent(freedom) - t).abs() < 5e-4, "{freedom}: {}", t_of_95_percent(freedom));
        }
    }

    #[test]
    fn the_worked_number_of_the_header() {
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((interval.mean, interval.count), (2.5, 4));
        assert!((interval.half - 2.054).abs() < 5e-4, "{interval:?}");
    }

    #[test]
    fn one_value_says_nothing_about_its_error_and_none_nothing_at_all() {
        assert_eq!(Interval::of(&[7.0]).map(|interval| interval.half), Some(f64::INFINITY));
        assert_eq!(Interval::of(&[]), None);
    }
}
