//! From contexts and a pool to the numbers of an [`Instance`](super::Instance): how long a plan is made for, how
//! much its requests grow meanwhile, and how much of the pool placements may use (design §4.2; facts B.4, J.6).
//!
//! Growth enters memory only, not the forecast.

use crate::model::Distance;
use crate::units::blocks_for_tokens;

/// Windows W that a plan may be made for, in tokens, longest first.
pub const WINDOWS: [u64; 4] = [128, 96, 64, 32];

/// The failure budget F as published.
pub const DEFAULT_FAILURE_BUDGET: f64 = 2.0;

/// A floor of the headroom, in layer-blocks.
const LEAST_HEADROOM: u64 = 100;

/// Blocks per layer that a request of `context` tokens gains within `window` tokens: `ceil((c + W)/16) − ceil(c/16)`.
pub fn growth_blocks(context: u64, window: u64) -> u64 {
    blocks_for_tokens(context + window) - blocks_for_tokens(context)
}

/// The longest of [`WINDOWS`] at which the placement with every request at its densest candidate fits `capacity`
/// layer-blocks; `None`: not even the shortest ([`Infeasible::Memory`](super::Infeasible::Memory)).
///
/// `contexts` holds the context tokens of each candidate request; `staging_slots` are charged as in
/// [`Instance`](super::Instance).
pub fn widest_window(contexts: &[u64], layers: u32, capacity: u64, staging_slots: u64) -> Option<u64> {
    let densest = Distance::candidates(layers).last().map_or(0, |distance| distance.offloaded(layers));
    let resident = u128::from(layers - densest);
    let slots = if densest > 0 { u128::from(staging_slots) } else { 0 };
    WINDOWS.into_iter().find(|&window| {
        let needed: u128 = contexts
            .iter()
            .map(|&context| {
                let blocks = u128::from(blocks_for_tokens(context));
                resident * u128::from(blocks_for_tokens(context + window)) + slots * blocks
            })
            .sum();
        needed <= u128::from(capacity)
    })
}

/// Layer-blocks that placements of `requests` candidates may use of a pool of `pool` layer-blocks:
/// `floor(pool − max(0.1 % of pool, 100, requests·L))`, 0 if the headroom is larger than the pool.
pub fn placement_capacity(pool: u64, requests: u64, layers: u32) -> u64 {
    // floor(pool − pool/1000) = pool − ceil(pool/1000)
    let share = pool.div_ceil(1000);
    pool.saturating_sub(share.max(LEAST_HEADROOM).max(requests * u64::from(layers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headroom_is_the_largest_of_its_three_parts() {
        // facts A.9: 561 · 32 = 17,952 layer-blocks; 4 · 32 = 128, 2 · 32 < 100, 0.1 % = 17.952
        assert_eq!(placement_capacity(17_952, 4, 32), 17_824);
        assert_eq!(placement_capacity(17_952, 2, 32), 17_852);
        // floor(999,999 − 999.999) = 998,999; 1,000,000 − 1,000 = 999,000
        assert_eq!(placement_capacity(999_999, 4, 32), 998_999);
        assert_eq!(placement_capacity(1_000_000, 4, 32), 999_000);
        assert_eq!(placement_capacity(99, 1, 32), 0);
    }

    #[test]
    fn a_request_grows_by_the_blocks_its_window_begins() {
        assert_eq!(growth_blocks(16, 32), 2);
        assert_eq!(growth_blocks(15, 32), 2);
        assert_eq!(growth_blocks(1, 128), 8);
    }

    #[test]
    fn the_window_is_the_longest_whose_densest_placement_fits() {
        // 2 requests of 1,600 tokens: 100 blocks; densest of 32 layers keeps 16.
        // W 128: 2·16·108 = 3,456; 96: 2·16·106 = 3,392; 64: 3,328; 32: 3,264
        let window = |capacity, slots| widest_window(&[1600, 1600], 32, capacity, slots);
        assert_eq!(window(3456, 0), Some(128));
        assert_eq!(window(3455, 0), Some(96));
        assert_eq!(window(3391, 0), Some(64));
        assert_eq!(window(3264, 0), Some(32));
        assert_eq!(window(3263, 0), None);
        // two slots of 100 blocks each for both, without growth: 400 more
        assert_eq!(window(3456, 2), None);
        assert_eq!(window(3856, 2), Some(128));
        assert_eq!(window(3663, 2), None);
        assert_eq!(window(3664, 2), Some(32));
    }
}
