//! From the contention factors of a profile to those of a run: which pair counts, what is noted, what is refused.

use std::collections::BTreeMap;

use orbitflow_sim::cost::profile::{Contention as Measured, Positive};
use orbitflow_sim::cost::{Contention, CostOptions, Finding, HardwareProfile, Verdict, check, load, resolve};

use super::{llama_8b, synthetic};

fn factors(pairs: &[(&str, f64)]) -> BTreeMap<String, Positive> {
    pairs.iter().map(|(pair, factor)| ((*pair).to_owned(), Positive::literal(*factor))).collect()
}

fn contended(copy: &[(&str, f64)], compute: &[(&str, f64)]) -> HardwareProfile {
    let mut profile = synthetic();
    profile.missing.remove("contention");
    let (copy_slowdown, compute_slowdown) = (factors(copy), factors(compute));
    profile.contention = Some(Measured { compute_slowdown, copy_slowdown });
    profile
}

/// The two factors, and what is said of them.
fn resolved(profile: &HardwareProfile, options: &CostOptions) -> ((f64, f64), Vec<String>) {
    let (cost, mut notes) = resolve(profile, &llama_8b(), options).unwrap();
    notes.retain(|note| note.contains("contention") || note.contains("bidir"));
    ((cost.contention.copy_factor(), cost.contention.compute_factor()), notes)
}

#[test]
fn the_pair_measured_under_a_whole_layer_wins_over_single_kernels() {
    let copy = [("h2d|layer", 1.2), ("h2d|attn", 1.4), ("h2d|d2h", 1.9)];
    let compute = [("layer|h2d", 1.05), ("gemm|h2d", 1.3)];
    let (found, notes) = resolved(&contended(&copy, &compute), &CostOptions::default());
    assert_eq!(found, (1.2, 1.05));
    let said = "contention: a copy takes 1.2 times as long while a layer computes, a layer 1.05 times as long while \
                a copy runs (measured); forecasts leave it out";
    assert_eq!(notes, [said]);
}

#[test]
fn without_it_the_worst_kernel_stands_in_and_is_named() {
    let copy = [("h2d|attn", 1.1), ("h2d|gemm", 1.3), ("h2d|hbm_read", 1.25), ("h2d|d2h", 1.9)];
    let compute = [("attn|h2d", 1.02), ("hbm_read|h2d", 1.15)];
    let (found, notes) = resolved(&contended(&copy, &compute), &CostOptions::default());
    assert_eq!(found, (1.3, 1.15));
    for note in [
        "contention: `h2d|layer` not measured, the largest of the single kernels stands in: `h2d|gemm` 1.3",
        "contention: `layer|h2d` not measured, the largest of the single kernels stands in: `hbm_read|h2d` 1.15",
    ] {
        assert!(notes.iter().any(|said| said == note), "{note} in {notes:?}");
    }
}

#[test]
fn a_factor_below_1_is_noise_and_an_unknown_one_is_1_and_both_are_said() {
    let profile = contended(&[("h2d|layer", 0.98), ("h2d|attn", 1.4)], &[("attn|d2h", 1.3)]);
    let (found, notes) = resolved(&profile, &CostOptions::default());
    assert_eq!(found, (1.0, 1.0));
    let expected = [
        "contention: `h2d|layer` 0.98 is below 1, noise of the measurement: taken as 1",
        "contention: no factor on compute known, taken as 1",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn a_scenario_can_leave_contention_out_and_a_profile_without_it_has_none() {
    let profile = contended(&[("h2d|layer", 1.2)], &[("layer|h2d", 1.1), ("attn|h2d", 1.2)]);
    let off = CostOptions { without_contention: true, ..CostOptions::default() };
    let (found, notes) = resolved(&profile, &off);
    assert_eq!(found, (1.0, 1.0));
    assert_eq!(notes, ["contention: the profile's 3 factors are left out, as the scenario says"]);
    for profile in [synthetic(), load("engine-fit:a6000").unwrap()] {
        assert_eq!(resolved(&profile, &off), ((1.0, 1.0), Vec::new()));
        let (cost, _) = resolve(&profile, &llama_8b(), &CostOptions::default()).unwrap();
        assert_eq!(cost.contention, Contention::NONE);
    }
}

fn findings(profile: &HardwareProfile, verdict: Verdict) -> Vec<String> {
    let all = check(profile).into_iter();
    let of_contention = |finding: &Finding| finding.check == "contention" && finding.verdict == verdict;
    all.filter(of_contention).map(|finding| finding.text).collect()
}

#[test]
fn unlikely_factors_are_warned_of_and_what_is_no_pair_is_refused() {
    let good = contended(&[("h2d|layer", 0.5), ("h2d|d2h", 20.0)], &[("layer|h2d", 1.0)]);
    assert_eq!(findings(&good, Verdict::Pass), ["pairs and factors are plausible"]);
    let unlikely = contended(&[("h2d|layer", 0.49)], &[("layer|h2d", 21.0)]);
    let warned = [
        "contention.compute_slowdown.\"layer|h2d\": 21 is not likely: expected 0.5 to 20",
        "contention.copy_slowdown.\"h2d|layer\": 0.49 is not likely: expected 0.5 to 20",
    ];
    assert_eq!(findings(&unlikely, Verdict::Warning), warned);
    assert_eq!(findings(&unlikely, Verdict::Failure), Vec::<String>::new());
    for pair in ["h2d", "h2d_layer", "|layer", "h2d|", "h2d|layer|attn"] {
        let profile = contended(&[(pair, 1.2)], &[]);
        let error = resolve(&profile, &llama_8b(), &CostOptions::default()).unwrap_err().to_string();
        let expected = format!("contention.copy_slowdown.\"{pair}\": expected a pair `slowed|by`");
        assert!(error.contains(&expected), "{error}");
    }
    let error = resolve(&contended(&[("h2d|layer", 1001.0)], &[]), &llama_8b(), &CostOptions::default());
    assert!(error.unwrap_err().to_string().contains("1001 is refused: expected at most 1000"));
}
