//! Does the model order placements as the device does? Kendall's tau-b, and the regret of trusting it.
//!
//! Knows only numbers: a predicted time, a measured time, and how much each placement offloads.

/// One placement of a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Predicted step, seconds.
    pub predicted_s: f64,
    /// Measured step, seconds, above 0.
    pub measured_s: f64,
    /// Layer-blocks that it takes off the GPU.
    pub offloaded_blocks: u64,
}

/// Kendall's tau-b of the predicted against the measured order: `(C − D) / √((n₀ − n₁)(n₀ − n₂))`, ties counted on each
/// side. `None` without a pair, or if either side is one single tie.
pub fn kendall_tau(placements: &[Ranked]) -> Option<f64> {
    let (mut balance, mut untied_predicted, mut untied_measured) = (0_i64, 0_u64, 0_u64);
    for (place, one) in placements.iter().enumerate() {
        for other in &placements[..place] {
            let predicted = one.predicted_s.total_cmp(&other.predicted_s) as i64;
            let measured = one.measured_s.total_cmp(&other.measured_s) as i64;
            balance += predicted * measured;
            untied_predicted += predicted.unsigned_abs();
            untied_measured += measured.unsigned_abs();
        }
    }
    let scale = (untied_predicted as f64 * untied_measured as f64).sqrt();
    (scale > 0.0).then(|| balance as f64 / scale)
}

/// Measured time of the predicted best over the measured best, less 1: the worst over every memory limit that the
/// placements tell apart. `None` without a placement.
///
/// With no limit the best placement offloads nothing and there is nothing to choose. So for each amount that must be
/// taken off the GPU, the choice is among the placements that take off at least as much, which is the planner's
/// question. Among equally good predictions the slowest counts.
pub fn regret(placements: &[Ranked]) -> Option<f64> {
    placements.iter().map(|limit| regret_within(placements, limit.offloaded_blocks)).max_by(f64::total_cmp)
}

fn regret_within(placements: &[Ranked], least_blocks: u64) -> f64 {
    let allowed = || placements.iter().filter(|placement| placement.offloaded_blocks >= least_blocks);
    let least = |time: fn(&Ranked) -> f64| allowed().map(time).fold(f64::INFINITY, f64::min);
    let predicted_best = least(|placement| placement.predicted_s);
    let chosen = allowed()
        .filter(|placement| placement.predicted_s == predicted_best)
        .map(|placement| placement.measured_s)
        .fold(0.0, f64::max);
    chosen / least(|placement| placement.measured_s) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placements(rows: &[(f64, f64, u64)]) -> Vec<Ranked> {
        let row = |&(predicted_s, measured_s, offloaded_blocks): &(f64, f64, u64)| Ranked {
            predicted_s,
            measured_s,
            offloaded_blocks,
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn tau_counts_concordant_against_discordant_pairs() {
        let same = placements(&[(1.0, 10.0, 0), (2.0, 20.0, 0), (3.0, 30.0, 0)]);
        assert_eq!(kendall_tau(&same), Some(1.0));
        let reversed = placements(&[(1.0, 30.0, 0), (2.0, 20.0, 0), (3.0, 10.0, 0)]);
        assert_eq!(kendall_tau(&reversed), Some(-1.0));
        // 1 2 3 4 against 1 3 2 4: five pairs agree, one does not: 4/6
        let one_swap = placements(&[(1.0, 1.0, 0), (2.0, 3.0, 0), (3.0, 2.0, 0), (4.0, 4.0, 0)]);
        assert!((kendall_tau(&one_swap).unwrap() - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn ties_are_taken_out_of_the_scale() {
        // predicted 1 1 2, measured 1 2 3: pairs (0, +), (+, +), (+, +): 2 / √(2·3)
        let tied = placements(&[(1.0, 1.0, 0), (1.0, 2.0, 0), (2.0, 3.0, 0)]);
        assert!((kendall_tau(&tied).unwrap() - 2.0 / 6.0_f64.sqrt()).abs() < 1e-15);
        assert_eq!(kendall_tau(&placements(&[(1.0, 1.0, 0), (1.0, 2.0, 0)])), None);
        assert_eq!(kendall_tau(&placements(&[(1.0, 1.0, 0)])), None);
    }

    #[test]
    fn regret_is_what_trusting_the_prediction_costs() {
        // predicted best is the second, 1.1 against 1.0
        let wrong = placements(&[(2.0, 1.0, 5), (1.0, 1.1, 5), (3.0, 4.0, 5)]);
        assert!((regret(&wrong).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(regret(&placements(&[(1.0, 1.0, 5), (2.0, 1.5, 5)])), Some(0.0));
        assert_eq!(regret(&[]), None);
    }

    #[test]
    fn offloading_nothing_does_not_hide_a_bad_choice_under_a_memory_limit() {
        // "none" is rightly best; among those that offload 8 blocks the model picks 3.0 where 2.0 was to be had
        let hidden = placements(&[(1.0, 1.0, 0), (1.5, 3.0, 8), (2.5, 2.0, 8)]);
        assert!((regret(&hidden).unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn of_equally_good_predictions_the_slowest_counts() {
        assert_eq!(regret(&placements(&[(1.0, 1.0, 4), (1.0, 1.25, 4)])), Some(0.25));
    }
}
