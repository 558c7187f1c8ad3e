//! The fits on made-up points whose coefficients and noise are known.

use orbitflow_sim::random::uniform;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;

const FEW: FitSettings = FitSettings { seed: 7, resamples: 200 };
const NONE: FitSettings = FitSettings { seed: 7, resamples: 0 };

/// Factors of mean 1, uniform in ±`share`·√3: standard deviation `share`.
struct Noise(ChaCha8Rng, f64);

impl Noise {
    fn of(seed: u64, share: f64) -> Self {
        Noise(ChaCha8Rng::seed_from_u64(seed), share)
    }

    fn factor(&mut self) -> f64 {
        1.0 + self.1 * 3.0_f64.sqrt() * (2.0 * uniform(&mut self.0) - 1.0)
    }
}

/// max(8 µs, 3 µs + bytes/3 TB/s) over 1 to 32 requests of 512 to 131,072 tokens at 4,096 B, at most 2²⁰ tokens.
fn attention(noise: &mut Noise) -> Vec<AttentionObservation> {
    let mut points = Vec::new();
    for batch in [1_u64, 2, 4, 8, 16, 32] {
        for context in (9..=17).map(|power| 1_u64 << power).filter(|context| batch * context <= 1 << 20) {
            let kv_bytes = batch * context * 4096;
            let seconds = 8e-6_f64.max(3e-6 + kv_bytes as f64 / 3e12) * noise.factor();
            let point = format!("{batch} × {context}");
            points.push(AttentionObservation { point, kv_bytes, longest: context, ragged: false, seconds });
        }
    }
    points
}

/// 2 µs + n·max(1 µs, s/BW(s)), 6 GB/s below 28 KiB, 55 GB/s from there; sizes of E2.
fn copies(noise: &mut Noise, pieces: &[u32]) -> Vec<CopyObservation> {
    let mut sizes: Vec<u64> = (9..=28).map(|power| 1 << power).collect();
    sizes.extend([12, 20, 24, 28, 32, 48].map(|kib: u64| kib << 10));
    sizes.sort_unstable();
    sizes.dedup();
    let mut points = Vec::new();
    for &pieces in pieces {
        for &bytes in sizes.iter().filter(|&&bytes| bytes * u64::from(pieces) <= 1 << 30) {
            let rate = if bytes < 28 << 10 { 6e9 } else { 55e9 };
            let seconds = 2e-6 + f64::from(pieces) * 1e-6_f64.max(bytes as f64 / rate);
            points.push(copy(pieces, bytes, seconds * noise.factor()));
        }
    }
    points
}

fn copy(pieces: u32, piece_bytes: u64, seconds: f64) -> CopyObservation {
    let point = format!("{pieces} × {piece_bytes}");
    CopyObservation { point, pieces, piece_bytes, submit_s: None, seconds }
}

#[track_caller]
fn near(value: f64, truth: f64, share: f64) {
    assert!((value / truth - 1.0).abs() <= share, "{value} against {truth}, at most {share} off");
}

#[test]
fn exact_attention_gives_its_coefficients_and_no_residual() {
    let fit = fit_attention(&attention(&mut Noise::of(1, 0.0)), NONE).unwrap();
    near(fit.floor_s.unwrap(), 8e-6, 1e-9);
    near(fit.constant_s.unwrap(), 3e-6, 1e-6);
    near(fit.bytes_per_s, 3e12, 1e-9);
    assert!(fit.quality.largest_error.unwrap() < 1e-9);
    assert!(fit.quality.extrapolation_error().unwrap() < 1e-9);
    assert!(fit.longest_context.is_none(), "{:?}", fit.longest_context);
}

#[test]
fn noisy_attention_gives_its_coefficients_within_the_noise() {
    // 2 % noise over about 50 points, 35 of them on the line: the rate within 2 %, floor and constant within 5 %.
    let fit = fit_attention(&attention(&mut Noise::of(2, 0.02)), FEW).unwrap();
    near(fit.bytes_per_s, 3e12, 0.02);
    near(fit.floor_s.clone().unwrap(), 8e-6, 0.05);
    // Almost all that lies on the line is far above 3 µs.
    near(fit.constant_s.clone().unwrap(), 3e-6, 0.2);
    let error = fit.quality.median_error.unwrap();
    assert!((0.005..0.03).contains(&error), "{error}");
    assert_eq!(fit.quality.intervals.len(), 3);
    assert!(fit.quality.r2.unwrap() > 0.99);
}

#[test]
fn intervals_of_attention_cover_the_truth_about_as_often_as_they_say() {
    let mut covered = [0; 2];
    for seed in 0..100 {
        let settings = FitSettings { seed, resamples: 200 };
        let fit = fit_attention(&attention(&mut Noise::of(1000 + seed, 0.03)), settings).unwrap();
        for (count, (name, truth)) in covered.iter_mut().zip([("bytes_per_s", 3e12), ("floor_s", 8e-6)]) {
            let [low, high] = fit.quality.intervals[name];
            *count += u32::from((low..=high).contains(&truth));
        }
    }
    // 95 of 100 in the mean; 85 is what a percentile bootstrap of few points must reach.
    assert!(covered.iter().all(|count| *count >= 85), "{covered:?} of 100");
}

#[test]
fn intervals_of_a_link_cover_the_truth_about_as_often_as_they_say() {
    let mut covered = 0;
    for seed in 0..100 {
        let settings = FitSettings { seed, resamples: 100 };
        let fit = fit_copies(&copies(&mut Noise::of(2000 + seed, 0.03), &[1, 16]), settings).unwrap();
        let [low, high] = fit.quality.intervals["bw_inf_bytes_per_s"];
        covered += u32::from((low..=high).contains(&55e9));
    }
    assert!(covered >= 85, "{covered} of 100");
}

#[test]
fn exact_copies_give_the_knee_both_rates_and_no_residual() {
    let fit = fit_copies(&copies(&mut Noise::of(3, 0.0), &[1, 16, 256]), NONE).unwrap();
    let (small, knee) = fit.small.unwrap();
    assert_eq!(knee, 28 << 10);
    near(small, 6e9, 1e-6);
    near(fit.bytes_per_s, 55e9, 1e-6);
    near(fit.latency_s.clone().unwrap(), 2e-6, 1e-6);
    near(fit.engine_s.clone().unwrap(), 1e-6, 1e-6);
    assert!(fit.quality.largest_error.unwrap() < 1e-6);
    // 2 + 16·65,536/55e9 µs
    near(fit.seconds(16, 65_536), 2e-6 + 16.0 * 65_536.0 / 55e9, 1e-6);
    // One line for both regimes is far off.
    assert!(fit.affine.unwrap().quality.largest_error.unwrap() > 0.3);
}

#[test]
fn noisy_copies_give_the_knee_and_rates_within_the_noise() {
    let fit = fit_copies(&copies(&mut Noise::of(4, 0.03), &[1, 16, 256]), FEW).unwrap();
    let (small, knee) = fit.small.unwrap();
    assert_eq!(knee, 28 << 10);
    near(small, 6e9, 0.03);
    near(fit.bytes_per_s, 55e9, 0.03);
    near(fit.latency_s.unwrap(), 2e-6, 0.2);
    assert!(fit.quality.left_out_error().unwrap() < 0.05);
}

#[test]
fn a_straight_line_is_given_no_knee() {
    let points: Vec<CopyObservation> =
        (12..=28).map(|power| copy(1, 1 << power, 4e-6 + (1_u64 << power) as f64 / 25e9)).collect();
    let fit = fit_copies(&points, NONE).unwrap();
    assert_eq!(fit.small, None);
    assert_eq!(fit.engine_s, Err(NoFit::NotPositive { what: "a least time of the copy engine per piece" }));
    near(fit.latency_s.unwrap(), 4e-6, 1e-9);
    near(fit.bytes_per_s, 25e9, 1e-9);
}

#[test]
fn submitting_is_the_median_over_the_points_and_no_part_of_the_curve() {
    let mut points = copies(&mut Noise::of(3, 0.0), &[1, 16]);
    let without = fit_copies(&points, NONE).unwrap();
    assert_eq!(without.submit_s, Err(NoFit::TooFew { points: 0, needed: 1 }));
    points.iter_mut().for_each(|point| point.submit_s = Some(4e-6));
    let with = fit_copies(&points, NONE).unwrap();
    assert_eq!(with.submit_s, Ok(4e-6));
    assert_eq!(with.predictions, without.predictions);
}

/// 4, 8 and 16 layers of 100 µs each, 12 µs per layer and 40 µs per step on top, four contexts.
fn steps(noise: &mut Noise, layer_counts: &[u32]) -> Vec<OverheadObservation> {
    let mut points = Vec::new();
    for &layers in layer_counts {
        for context in [512, 2048, 8192, 32_768] {
            let kernels_s = f64::from(layers) * (100e-6 + context as f64 * 1e-9) + 300e-6;
            let seconds = (kernels_s + f64::from(layers) * 12e-6 + 40e-6) * noise.factor();
            let point = format!("{layers} × {context}");
            points.push(OverheadObservation { point, layers, context, tokens: context, kernels_s, seconds });
        }
    }
    points
}

#[test]
fn layer_counts_tell_the_cost_of_a_layer_from_that_of_a_step() {
    let fit = fit_overhead(&steps(&mut Noise::of(5, 0.0), &[4, 8, 16]), NONE).unwrap();
    near(fit.layer_s.unwrap(), 12e-6, 1e-9);
    near(fit.step_s.unwrap(), 40e-6, 1e-6);
    assert!(fit.quality.largest_error.unwrap() < 1e-9 && fit.quality.folds.len() == 4);
    // 0.2 % of a step of 0.5 to 2 ms is up to 4 µs.
    let fit = fit_overhead(&steps(&mut Noise::of(6, 0.002), &[4, 8, 16]), FEW).unwrap();
    near(fit.layer_s.unwrap(), 12e-6, 0.1);
    assert!(fit.quality.intervals.contains_key("step_fixed_s"));
}

#[test]
fn one_layer_count_gives_a_layer_its_rest_and_says_why_a_step_has_none() {
    let fit = fit_overhead(&steps(&mut Noise::of(7, 0.0), &[8]), NONE).unwrap();
    // (8·12 + 40)/8 µs
    near(fit.layer_s.unwrap(), 17e-6, 1e-9);
    assert_eq!(fit.step_s, Err(NoFit::AllEqual { what: "number of layers" }));
}

#[test]
fn steps_faster_than_their_kernels_have_no_rest_rather_than_a_negative_one() {
    let mut points = steps(&mut Noise::of(8, 0.0), &[4, 8]);
    points.iter_mut().for_each(|point| point.seconds = 0.9 * point.kernels_s);
    let fit = fit_overhead(&points, FEW).unwrap();
    assert!(matches!(fit.layer_s, Err(NoFit::NotPositive { .. })));
    assert!(matches!(fit.step_s, Err(NoFit::NotPositive { .. })));
}

#[test]
fn the_longest_context_is_reported_where_batches_wait_for_it() {
    let mut points = attention(&mut Noise::of(9, 0.01));
    points.iter_mut().for_each(|point| point.seconds += 1e-9 * point.longest as f64);
    let longest = fit_attention(&points, NONE).unwrap().longest_context.unwrap();
    near(longest.s_per_token, 1e-9, 0.1);
    assert!(longest.error_with < longest.error_without);
}

#[test]
fn ragged_batches_are_predicted_and_not_fitted() {
    let mut points = attention(&mut Noise::of(10, 0.0));
    let even = fit_attention(&points, NONE).unwrap();
    let point = "ragged".to_owned();
    let kv_bytes = 1 << 30;
    points.push(AttentionObservation { point, kv_bytes, longest: 131_072, ragged: true, seconds: 1.0 });
    let with = fit_attention(&points, NONE).unwrap();
    assert_eq!((with.bytes_per_s, with.quality.points), (even.bytes_per_s, even.quality.points));
    let ragged = with.predictions.last().unwrap();
    assert!(!ragged.used && ragged.error() < -0.99);
}

#[test]
fn few_or_equal_points_give_a_reason_and_never_a_panic_or_nan() {
    let zero = NoFit::TooFew { points: 0, needed: 1 };
    assert_eq!(fit_copies(&[], FEW).unwrap_err(), zero);
    assert_eq!(fit_attention(&[], FEW).unwrap_err(), zero);
    assert_eq!(fit_overhead(&[], FEW).unwrap_err(), zero);
    assert_eq!(fit_affine(&[]).unwrap_err(), NoFit::TooFew { points: 0, needed: 2 });
    for seconds in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        assert_eq!(fit_copies(&[copy(1, 4096, seconds)], FEW).unwrap_err(), zero);
    }
    // One point, and one size ten times: all of the time is rate.
    for count in [1, 10] {
        let fit = fit_copies(&vec![copy(1, 1_000_000, 1e-3); count], FEW).unwrap();
        near(fit.bytes_per_s, 1e9, 1e-12);
        assert_eq!(fit.latency_s, Err(NoFit::AllEqual { what: "number of bytes" }));
        assert!(fit.quality.r2.is_none() && fit.quality.folds.is_empty());
        let point = AttentionObservation {
            point: "one".to_owned(),
            kv_bytes: 1_000_000,
            longest: 1,
            ragged: false,
            seconds: 1e-3,
        };
        let fit = fit_attention(&vec![point; count], FEW).unwrap();
        near(fit.bytes_per_s, 1e9, 1e-12);
        assert_eq!(fit.floor_s, Err(NoFit::AllEqual { what: "bytes of KV" }));
    }
    // Times that fall with size have no rate.
    let falling = [copy(1, 1 << 20, 2e-3), copy(1, 1 << 24, 1e-3)];
    assert_eq!(fit_copies(&falling, FEW).unwrap_err(), NoFit::NotPositive { what: "the rate of the link" });
}

#[test]
fn the_same_seed_gives_the_same_intervals() {
    let points = attention(&mut Noise::of(11, 0.03));
    let intervals = |seed| fit_attention(&points, FitSettings { seed, ..FEW }).unwrap().quality.intervals;
    assert_eq!(intervals(1), intervals(1));
    assert_ne!(intervals(1), intervals(2));
}
