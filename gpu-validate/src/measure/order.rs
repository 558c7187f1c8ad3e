//! The order of samples, how many runs one holds, and how many runs of a background outlast it: arithmetic only.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// `0 … count − 1` in a random order that is a function of the four alone.
pub fn shuffled(count: usize, seed: u64, experiment: &str, pass: u32) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ hash(experiment));
    random.set_stream(u64::from(pass));
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // the remainder's bias is below count / 2^64
        order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Runs that fill `least_s` seconds when one takes `run_s`: at least 1, at most `most`.
pub fn runs_to_fill(least_s: f64, run_s: f64, most: usize) -> u32 {
    let most = most.clamp(1, u32::MAX as usize) as u32;
    if run_s <= 0.0 {
        return most;
    }
    // an f64 beyond u32 saturates; rounding of the quotient must not add a run to a window that is already full
    ((least_s / run_s * (1.0 - 1e-9)).ceil() as u32).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_a_function_of_seed_experiment_and_pass() {
        assert_eq!(shuffled(50, 7, "E2", 0), shuffled(50, 7, "E2", 0));
        for other in [shuffled(50, 8, "E2", 0), shuffled(50, 7, "E3", 0), shuffled(50, 7, "E2", 1)] {
            assert_ne!(shuffled(50, 7, "E2", 0), other); // equal by chance: 1 in 50!
        }
    }

    #[test]
    fn every_point_comes_up_once_in_a_pass() {
        let mut order = shuffled(37, 1, "E6", 3);
        order.sort_unstable();
        assert_eq!(order, (0..37).collect::<Vec<_>>());
    }

    #[test]
    fn short_runs_fill_the_window_and_long_ones_run_once() {
        assert_eq!(runs_to_fill(200e-6, 30e-6, 1000), 7); // 6.7 of them
        assert_eq!(runs_to_fill(200e-6, 20e-6, 1000), 10); // exactly
        assert_eq!(runs_to_fill(200e-6, 20e-6, 4), 4);
        assert_eq!(runs_to_fill(200e-6, 1.0, 4), 1);
        assert_eq!(runs_to_fill(200e-6, 0.0, 9), 9);
    }
}
