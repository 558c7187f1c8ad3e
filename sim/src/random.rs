//! Every random number of the program: named streams of ChaCha8, and our own draws from them.
//!
//! One seed gives independent streams ([`Stream`], design §9), so that drawing one arrival more never changes a
//! length. Policies that are compared share the seed, hence the draws. Numbers that belong to *one thing* (the
//! noise of one copy in one step) must not come from a running sequence, or a policy that copies less would see
//! other noise afterwards: they come from [`keyed`].
//!
//! The shapes are drawn here, from 53-bit uniforms through `libm`, and not by `rand_distr`, whose samples
//! change with the system's `exp` and `ln` when anything in the build turns `num-traits/std` on. Formulas:
//! inversion (exponential), Box and Muller 1958 (normal), Marsaglia and Tsang 2000 (gamma). The tests compare
//! each with `rand_distr` and pin its samples bit for bit.
//!
//! Knows nothing about requests, traces or time.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The independent sequences of one seed. The numbers are part of the results and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Gaps between arrivals.
    Arrivals = 1,
    /// Prompt and output lengths.
    Lengths = 2,
    /// Where inside its coarse time stamp a request arrives.
    StampSpreading = 3,
    /// Noise of the truth profile.
    Noise = 4,
    /// Victims that are chosen at random.
    Victims = 5,
}

/// The running sequence of `stream`.
pub fn sequence(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream as u64);
    generator
}

/// The sequence that belongs to one thing, named by `parts`, whatever was drawn before.
///
/// The parts are folded into the seed one by one with the SplitMix64 finaliser (Steele, Lea and Flood 2014), so
/// their order matters.
pub fn keyed(seed: u64, stream: Stream, parts: &[u64]) -> ChaCha8Rng {
    let folded = parts.iter().fold(seed, |state, &part| mixed(state ^ mixed(part)));
    sequence(folded, stream)
}

fn mixed(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number in [0, 1), a multiple of 2⁻⁵³.
pub fn uniform(generator: &mut ChaCha8Rng) -> f64 {
    // 2^53 as f64 is exact.
    (generator.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0
}

/// A whole number from `low` to `high`, both included. Panics if `low > high`.
pub fn uniform_whole(generator: &mut ChaCha8Rng, low: u64, high: u64) -> u64 {
    assert!(low <= high, "Invariant: a range is not empty: {low} to {high}");
    let Some(span) = (high - low).checked_add(1) else { return generator.next_u64() };
    // Refuse the last, incomplete run of `span` numbers, or small ones would be likelier.
    let largest = u64::MAX - (u64::MAX % span + 1) % span;
    loop {
        let bits = generator.next_u64();
        if bits <= largest {
            return low + bits % span;
        }
    }
}

/// The place of a weight, with probability proportional to it. Panics if no weight is positive.
pub fn weighted_index(generator: &mut ChaCha8Rng, weights: &[f64]) -> usize {
    let total: f64 = weights.iter().sum();
    let mut left = uniform(generator) * total;
    for (index, &weight) in weights.iter().enumerate() {
        if left < weight {
            return index;
        }
        left -= weight;
    }
    // Rounding may leave a hair: it belongs to the last weight that can be drawn.
    weights.iter().rposition(|&weight| weight > 0.0).expect("Invariant: some weight is positive")
}

/// An exponential number of mean `mean`: −mean · ln(1 − u).
pub fn exponential(generator: &mut ChaCha8Rng, mean: f64) -> f64 {
    -mean * libm::log(1.0 - uniform(generator))
}

/// A normal number of mean 0 and variance 1: √(−2 ln(1 − u)) · cos(2π v).
pub fn standard_normal(generator: &mut ChaCha8Rng) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(generator)));
    radius * libm::cos(2.0 * std::f64::consts::PI * uniform(generator))
}

/// A lognormal number of mean `mean` and coefficient of variation `cv`: σ² = ln(cv² + 1), μ = ln mean − σ²/2.
pub fn lognormal(generator: &mut ChaCha8Rng, mean: f64, cv: f64) -> f64 {
    let variance = libm::log(cv * cv + 1.0);
    let exponent = libm::sqrt(variance) * standard_normal(generator) - variance / 2.0;
    mean * libm::exp(exponent)
}

/// A gamma number of shape `shape` > 0 and mean `mean`; its coefficient of variation is 1/√shape.
pub fn gamma(generator: &mut ChaCha8Rng, shape: f64, mean: f64) -> f64 {
    if shape < 1.0 {
        // G(a) = G(a + 1) · u^(1/a)
        let boost = libm::pow(1.0 - uniform(generator), 1.0 / shape);
        return mean / shape * standard_gamma(generator, shape + 1.0) * boost;
    }
    mean / shape * standard_gamma(generator, shape)
}

/// Shape ≥ 1, scale 1, by rejection from a cubed normal.
fn standard_gamma(generator: &mut ChaCha8Rng, shape: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = standard_normal(generator);
        let v = 1.0 + c * x;
        if v <= 0.0 {
            continue;
        }
        let v = v * v * v;
        let accepted = libm::log(1.0 - uniform(generator)) < 0.5 * x * x + d - d * v + d * libm::log(v);
        if accepted {
            return d * v;
        }
    }
}

/// The noise factor of one thing: lognormal of mean 1 and coefficient of variation `cv`, the same whenever it
/// is asked for. Exactly 1 if `cv` is 0.
pub fn keyed_factor(seed: u64, stream: Stream, parts: &[u64], cv: f64) -> f64 {
    if cv == 0.0 { 1.0 } else { lognormal(&mut keyed(seed, stream, parts), 1.0, cv) }
}

#[cfg(test)]
mod tests {
    use rand_distr::Distribution;
    use sha2::{Digest, Sha256};

    use super::*;

    const SAMPLES: usize = 20_000;

    fn samples(mut draw: impl FnMut(&mut ChaCha8Rng) -> f64) -> Vec<f64> {
        let mut generator = sequence(7, Stream::Arrivals);
        (0..SAMPLES).map(|_| draw(&mut generator)).collect()
    }

    /// The largest distance between two empirical distributions (Kolmogorov and Smirnov).
    fn distance(mut ours: Vec<f64>, mut theirs: Vec<f64>) -> f64 {
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        let below = |value: f64| theirs.partition_point(|&other| other <= value) as f64 / theirs.len() as f64;
        ours.iter()
            .enumerate()
            .map(|(rank, &value)| ((rank + 1) as f64 / ours.len() as f64 - below(value)).abs())
            .fold(0.0, f64::max)
    }

    fn assert_same_shape(
        name: &str,
        theirs: impl Distribution<f64>,
        ours: impl FnMut(&mut ChaCha8Rng) -> f64,
    ) {
        let mut generator = sequence(8, Stream::Lengths);
        let theirs: Vec<f64> = (0..SAMPLES).map(|_| theirs.sample(&mut generator)).collect();
        let distance = distance(samples(ours), theirs);
        // 1.95 · √(2/n) = 0.0195 is passed by chance once in a thousand; the seeds are fixed.
        assert!(distance < 0.0195, "{name}: {distance}");
    }

    #[test]
    fn every_shape_is_that_of_rand_distr() {
        assert_same_shape("uniform", rand_distr::Uniform::new(0.0, 1.0).unwrap(), uniform);
        assert_same_shape("exponential", rand_distr::Exp::new(0.5).unwrap(), |g| exponential(g, 2.0));
        assert_same_shape("normal", rand_distr::StandardNormal, standard_normal);
        let lognormal_3_2 = rand_distr::LogNormal::from_mean_cv(3.0, 2.0).unwrap();
        assert_same_shape("lognormal", lognormal_3_2, |g| lognormal(g, 3.0, 2.0));
        for shape in [0.2, 1.0, 7.5] {
            let theirs = rand_distr::Gamma::new(shape, 3.0 / shape).unwrap();
            assert_same_shape("gamma", theirs, |g| gamma(g, shape, 3.0));
        }
    }

    #[test]
    fn mean_and_variation_are_what_was_asked_for() {
        let moments = |values: Vec<f64>| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance =
                values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (mean, variance.sqrt() / mean)
        };
        for (values, mean, cv) in [
            (samples(|g| exponential(g, 2.0)), 2.0, 1.0),
            (samples(|g| lognormal(g, 3.0, 0.5)), 3.0, 0.5),
            (samples(|g| gamma(g, 0.25, 5.0)), 5.0, 2.0),
            // 3 to 9 evenly: mean 6, variance (7² − 1)/12 = 4
            (samples(|g| uniform_whole(g, 3, 9) as f64), 6.0, 2.0 / 6.0),
        ] {
            let (measured_mean, measured_cv) = moments(values);
            assert!((measured_mean / mean - 1.0).abs() < 0.04, "{measured_mean} for {mean}");
            assert!((measured_cv / cv - 1.0).abs() < 0.04, "{measured_cv} for {cv}");
        }
    }

    #[test]
    fn samples_are_the_same_bits_on_every_machine() {
        let hash = |values: Vec<f64>| {
            let mut digest = Sha256::new();
            for value in values {
                digest.update(value.to_bits().to_le_bytes());
            }
            digest.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let hashes = [
            ("uniform", hash(samples(uniform))),
            ("exponential", hash(samples(|g| exponential(g, 2.0)))),
            ("normal", hash(samples(standard_normal))),
            ("lognormal", hash(samples(|g| lognormal(g, 3.0, 2.0)))),
            ("gamma below 1", hash(samples(|g| gamma(g, 0.2, 3.0)))),
            ("gamma above 1", hash(samples(|g| gamma(g, 7.5, 3.0)))),
            ("whole", hash(samples(|g| uniform_whole(g, 3, 1_000_000) as f64))),
            ("weighted", hash(samples(|g| weighted_index(g, &[1.0, 0.0, 3.0]) as f64))),
            ("keyed", hash((0..100).map(|i| keyed_factor(7, Stream::Noise, &[i, 3], 0.1)).collect())),
        ];
        let pinned = [
            ("uniform", "e07f61b52e1583a1"),
            ("exponential", "c7b720c01e026517"),
            ("normal", "345661036a181777"),
            ("lognormal", "f7a41abdd288f708"),
            ("gamma below 1", "cebac50a3484cebd"),
            ("gamma above 1", "83b8b4b149b52bde"),
            ("whole", "55073c867ace67f0"),
            ("weighted", "59a0c37864945966"),
            ("keyed", "57bf814b0107fa1e"),
        ];
        let hashes: Vec<(&str, &str)> = hashes.iter().map(|(name, hash)| (*name, hash.as_str())).collect();
        assert_eq!(hashes, pinned);
    }

    #[test]
    fn streams_and_keys_are_independent_of_what_was_drawn_before() {
        let first = |mut generator: ChaCha8Rng| generator.next_u64();
        assert_ne!(first(sequence(1, Stream::Arrivals)), first(sequence(1, Stream::Lengths)));
        assert_eq!(first(keyed(1, Stream::Noise, &[5, 2])), first(keyed(1, Stream::Noise, &[5, 2])));
        for other in [&[2, 5][..], &[5], &[5, 2, 0], &[5, 3]] {
            assert_ne!(first(keyed(1, Stream::Noise, &[5, 2])), first(keyed(1, Stream::Noise, other)));
        }
        assert_eq!(keyed_factor(1, Stream::Noise, &[5, 2], 0.0), 1.0);
    }

    #[test]
    fn a_noise_factor_is_lognormal_of_mean_1_and_belongs_to_one_thing() {
        // σ² = ln 1.25 = 0.22314; z = 1: exp(0.47238 − 0.11157) = 1.4345
        let factor = |z: f64, cv: f64| {
            let variance = (cv * cv + 1.0).ln();
            (variance.sqrt() * z - variance / 2.0).exp()
        };
        assert!((factor(1.0, 0.5) - 1.4345).abs() < 1e-4);
        // Step 7, request 3, layer 12; asked for twice, and after another one.
        let copy = [7, 3, 12];
        let z = standard_normal(&mut keyed(1, Stream::Noise, &copy));
        let ours = keyed_factor(1, Stream::Noise, &copy, 0.5);
        assert!((ours - factor(z, 0.5)).abs() < 1e-12);
        let all: Vec<f64> =
            (0..20_000).map(|step| keyed_factor(1, Stream::Noise, &[step, 3, 12], 0.5)).collect();
        assert_eq!(all[7], ours);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        // Of 20,000 the mean is known to 0.5/√20,000 = 0.0035.
        assert!(
            (mean - 1.0).abs() < 0.012 && (variance.sqrt() / mean - 0.5).abs() < 0.025,
            "{mean} {variance}"
        );
    }

    #[test]
    fn a_weight_of_zero_is_never_drawn() {
        let drawn = samples(|g| weighted_index(g, &[0.0, 1.0, 0.0]) as f64);
        assert!(drawn.iter().all(|&index| index == 1.0));
    }
}
