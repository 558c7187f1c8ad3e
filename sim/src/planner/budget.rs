//! The SLO budget: `Σ_r max(0, 1 − SLO_r/t − deposit_r/W) ≤ F`, the share of tokens that a step time makes late.
//!
//! The left side (the **SLO load**) grows with `t`, so the budget is a limit `t ≤ t_max` (design §4.2; facts B.4).
//! Knows nothing about memory or copies.

/// One request's promise: `(seconds per token, tokens made ahead)`.
pub type Promise = (f64, u64);

/// `Σ_r max(0, 1 − SLO_r/t − deposit_r/W)` at step time `step_s` seconds, for a window of `window` tokens.
pub fn slo_load(promises: impl IntoIterator<Item = Promise>, window: u64, step_s: f64) -> f64 {
    promises.into_iter().map(|(slo_s, deposit)| (exposed(deposit, window) - slo_s / step_s).max(0.0)).sum()
}

/// Tokens on time per second at a step time of `step_s` seconds, `Σ_r min(1, SLO_r/t + deposit_r/W) / t`: what is left of
/// a token per request and step once the SLO load is taken off (design §4.2, `objective = "goodput"`).
///
/// Worked (A6000, an SLO of 69.97 ms, no deposit): requests of 600 and 200 blocks take 88.765 ms together,
/// `2 · 69.97/88.765 / 0.088765` = 17.76 tokens/s; the shorter one alone takes 42.757 ms: 23.39 tokens/s
/// (`goodput_is_a_token_per_request_and_step_less_the_slo_load`).
pub fn goodput(promises: impl IntoIterator<Item = Promise>, window: u64, step_s: f64) -> f64 {
    let on_time = |(slo_s, deposit): Promise| (slo_s / step_s + deposit as f64 / window as f64).min(1.0);
    promises.into_iter().map(on_time).sum::<f64>() / step_s
}

/// The longest step time, in seconds, whose SLO load is at most `budget`; `None`: every step time is within it.
///
/// Request `r` counts from `θ_r = SLO_r / a_r` on, `a_r = 1 − deposit_r/W`. With the `k` lowest thresholds passed the
/// load is `A_k − S_k/t` (sums of `a` and SLO), so `t_max = S_k / (A_k − F)` at the first `k` where that comes
/// before the next threshold (design §4.2, `failure_budget`; facts B.4).
///
/// Worked: four requests with an SLO of 50 ms and no deposit, F = 2: `4·(1 − 50/t) = 2` at t = 100 ms; two of them never load
/// more than 2, so any step time is within it (`four_equal_promises_and_a_budget_of_two_allow_twice_the_slo`).
pub fn t_max(promises: &[Promise], window: u64, budget: f64) -> Option<f64> {
    // Exposed shares are kept in W-ths, whole numbers, so that a sum that just equals the budget is seen as equal.
    let mut terms: Vec<(u64, f64)> = promises
        .iter()
        .map(|&(slo_s, deposit)| (window.saturating_sub(deposit), slo_s))
        .filter(|(exposed, _)| *exposed > 0)
        .collect();
    let threshold = |&(exposed, slo_s): &(u64, f64)| slo_s * window as f64 / exposed as f64;
    terms.sort_by(|a, b| threshold(a).total_cmp(&threshold(b)));
    let (mut exposed_sum, mut slo_sum) = (0, 0.0);
    for (k, term) in terms.iter().enumerate() {
        exposed_sum += term.0;
        slo_sum += term.1;
        let excess = exposed_sum as f64 / window as f64 - budget;
        if excess > 0.0 {
            let limit = slo_sum / excess;
            if terms.get(k + 1).is_none_or(|next| limit <= threshold(next)) {
                return Some(limit);
            }
        }
    }
    None
}

/// The share of the window that no deposit covers, `1 − deposit/W`; negative when the deposit outlasts it.
fn exposed(deposit: u64, window: u64) -> f64 {
    1.0 - deposit as f64 / window as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn goodput_is_a_token_per_request_and_step_less_the_slo_load() {
        let slo = 0.069_97;
        let together = goodput([(slo, 0), (slo, 0)], 32, 0.088_765);
        let alone = goodput([(slo, 0)], 32, 0.042_757);
        assert_eq!(
            (format!("{together:.2}"), format!("{alone:.2}")),
            ("17.76".to_owned(), "23.39".to_owned())
        );
        // A deposit of half the window makes all of the slower tokens on time: 69.97/88.765 + 1/2 > 1.
        assert_eq!(goodput([(slo, 16); 2], 32, 0.088_765), 2.0 / 0.088_765);
        for (promises, step) in
            [([(0.05, 3), (0.07, 0), (0.2, 40)], 0.09), ([(0.01, 0), (1.0, 9), (0.03, 31)], 0.11)]
        {
            let load = slo_load(promises, 32, step);
            assert!((goodput(promises, 32, step) - (3.0 - load) / step).abs() < 1e-9);
        }
    }

    #[test]
    fn four_equal_promises_and_a_budget_of_two_allow_twice_the_slo() {
        // 4·(1 − SLO/t) = 2  ⇔  t = 2·SLO (facts B.4)
        let limit = t_max(&[(0.05, 0); 4], 32, 2.0).unwrap();
        assert!((limit - 0.1).abs() < 1e-15, "{limit}");
        // two requests can never load more than 2
        assert_eq!(t_max(&[(0.05, 0); 2], 32, 2.0), None);
        // a deposit that covers the window takes a request out of the sum
        assert_eq!(t_max(&[(0.05, 0), (0.05, 0), (0.05, 32), (0.05, 40)], 32, 2.0), None);
        // no budget: the first promise decides
        assert_eq!(t_max(&[(0.07, 0), (0.05, 0)], 32, 0.0), Some(0.05));
    }

    proptest! {
        #[test]
        fn the_closed_form_is_where_bisection_ends(
            promises in proptest::collection::vec((0.001f64..1.0, 0u64..80), 1..12),
            window in prop_oneof![Just(32u64), Just(64), Just(128)],
            budget in prop_oneof![Just(0.0f64), 0.0f64..4.0],
        ) {
            let load = |t: f64| slo_load(promises.iter().copied(), window, t);
            let (mut low, mut high) = (1e-6, 1e9);
            match t_max(&promises, window, budget) {
                None => prop_assert!(load(1e12) <= budget),
                Some(limit) if limit < high => {
                    for _ in 0..200 {
                        let middle = 0.5 * (low + high);
                        if load(middle) <= budget { low = middle } else { high = middle }
                    }
                    prop_assert!((limit - low).abs() <= 1e-6 * low, "{limit} against {low}");
                }
                Some(limit) => prop_assert!(load(0.5 * limit) <= budget),
            }
        }
    }
}
