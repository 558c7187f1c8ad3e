//! How far a copy or a layer has come, when what runs beside it may slow it: the one place where contention is
//! arithmetic (design §3.4).
//!
//! Work is a whole number of units: a span alone times the factor in parts per million. Alone, each picosecond does
//! as many units as the factor has parts; beside the other kind, a million, which is `1/factor` of it. Whatever
//! mix of the two a copy or layer meets is therefore accounted for exactly. **Rounding**: an end that falls within
//! a picosecond is moved to the end of it, so each copy and each layer is at most 1 ps longer than the real number.
//! A factor of 1 rounds nothing.

use crate::cost::Contention;
use crate::units::{SimDuration, TOO_LONG};

/// A copy or a layer that runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Progress {
    /// Units to do: more than a `u64` holds where a factor meets a long span.
    left: u128,
    /// Units in a picosecond alone.
    alone: u32,
}

impl Progress {
    /// A copy that takes `time` alone, before its first byte.
    pub fn of_copy(time: SimDuration, contention: Contention) -> Self {
        Progress::new(time, contention.copy_ppm())
    }

    /// A layer that takes `time` alone, before it begins.
    pub fn of_layer(time: SimDuration, contention: Contention) -> Self {
        Progress::new(time, contention.compute_ppm())
    }

    fn new(time: SimDuration, factor_ppm: u32) -> Self {
        Progress { left: u128::from(time.as_picos()) * u128::from(factor_ppm), alone: factor_ppm }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Time to the end if nothing changes: `beside`, whether the other kind runs.
    pub fn time_left(&self, beside: bool) -> SimDuration {
        let picos = self.left.div_ceil(u128::from(self.rate(beside)));
        SimDuration::from_picos(u64::try_from(picos).expect(TOO_LONG))
    }

    /// Lets `span` pass, which is at most [`Self::time_left`].
    pub fn pass(&mut self, span: SimDuration, beside: bool) {
        // In its last picosecond less may be left than one can do.
        self.left = self.left.saturating_sub(u128::from(span.as_picos()) * u128::from(self.rate(beside)));
    }

    fn rate(&self, beside: bool) -> u32 {
        if beside { Contention::ONE_PPM } else { self.alone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picos(picos: u64) -> SimDuration {
        SimDuration::from_picos(picos)
    }

    #[test]
    fn only_the_overlapped_part_is_slowed_and_the_end_rounds_up() {
        // 10 ps alone, 1.5 times as long beside compute. 6 ps beside do 4; the other 6 take 6 alone or 9 beside.
        let contention = Contention::of_factors(1.5, 1.0).unwrap();
        let mut copy = Progress::of_copy(picos(10), contention);
        assert_eq!((copy.time_left(false), copy.time_left(true)), (picos(10), picos(15)));
        copy.pass(picos(6), true);
        assert_eq!((copy.time_left(false), copy.time_left(true)), (picos(6), picos(9)));
        // One more beside: 4.67 done, 5.33 left: 5.33 alone, 8 beside.
        copy.pass(picos(1), true);
        assert_eq!((copy.time_left(false), copy.time_left(true)), (picos(6), picos(8)));
        copy.pass(picos(6), false);
        assert!(copy.is_done());
        // The layer's factor is 1: it takes no notice.
        assert_eq!(Progress::of_layer(picos(7), contention).time_left(true), picos(7));
    }

    #[test]
    fn the_longest_span_times_the_largest_factor_is_still_exact() {
        let contention = Contention::of_factors(1000.0, 1.0).unwrap();
        let mut copy = Progress::of_copy(picos(u64::MAX), contention);
        assert_eq!(copy.time_left(false), picos(u64::MAX));
        copy.pass(picos(u64::MAX), true); // a thousandth of it, and the part of a picosecond that is over
        assert_eq!(copy.time_left(false), picos(u64::MAX - u64::MAX / 1000));
    }
}
