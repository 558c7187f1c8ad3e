//! Time, memory and rates as integers, so that every result is the same on every machine.
//!
//! Simulated time is a number of **picoseconds** in a `u64` (213 days). An instant ([`SimTime`]) and a
//! span ([`SimDuration`]) are different types. Everything that turns one unit into another stands in this
//! file, with its rounding named: bytes over a rate round **up** to the picosecond
//! ([`BytesPerSec::transfer_time`]), every other duration rounds to the nearest
//! ([`SimDuration::from_secs_f64`]). Overflow panics: a simulation that outlives 213 days is a wrong input.
//!
//! This module knows nothing about requests, GPUs or files.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// Picoseconds in a second.
pub const PICOS_PER_SEC: u64 = 1_000_000_000_000;

/// Tokens in a block: the unit of KV memory is 16 tokens of K and V of one layer (design §3.1).
pub const TOKENS_PER_BLOCK: u64 = 16;

/// What a panic says when a simulation or one of its times is longer than a `u64` of picoseconds. The command line makes
/// an error of it.
pub const TOO_LONG: &str = "simulated time is limited to 213 days (2^64 picoseconds)";

/// An instant of simulated time, in picoseconds since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SimTime(u64);

/// A span of simulated time, in picoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SimDuration(u64);

/// A number of seconds that cannot be a duration.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} s is not a duration: expected a finite number of seconds from 0 to 18446744 (213 days)")]
pub struct BadSeconds {
    /// The number that was given, in seconds.
    pub value: f64,
}

impl SimTime {
    /// The start of the run.
    pub const ZERO: SimTime = SimTime(0);

    /// An instant `picos` picoseconds after the start.
    pub const fn from_picos(picos: u64) -> Self {
        SimTime(picos)
    }

    /// Picoseconds since the start.
    pub const fn as_picos(self) -> u64 {
        self.0
    }

    /// Seconds since the start, to the nearest `f64`.
    pub fn as_secs_f64(self) -> f64 {
        SimDuration(self.0).as_secs_f64()
    }

    /// The span from `earlier` to `self`. Panics if `earlier` is later: time never goes back.
    pub fn since(self, earlier: SimTime) -> SimDuration {
        SimDuration(self.0.checked_sub(earlier.0).expect("Invariant: time never goes back"))
    }

    /// The span from `earlier` to `self`, zero if `earlier` is later.
    pub fn saturating_since(self, earlier: SimTime) -> SimDuration {
        SimDuration(self.0.saturating_sub(earlier.0))
    }
}

impl SimDuration {
    /// No time at all.
    pub const ZERO: SimDuration = SimDuration(0);
    /// The longest span, 213 days.
    pub const MAX: SimDuration = SimDuration(u64::MAX);

    /// A span of `picos` picoseconds.
    pub const fn from_picos(picos: u64) -> Self {
        SimDuration(picos)
    }

    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        SimDuration(secs * PICOS_PER_SEC)
    }

    /// The span nearest to `secs` seconds: the one place where `f64` becomes picoseconds.
    ///
    /// # Errors
    /// NaN, infinite, negative and more than 213 days.
    pub fn try_from_secs_f64(secs: f64) -> Result<Self, BadSeconds> {
        let picos = (secs * PICOS_PER_SEC as f64).round();
        // 2^64 as f64 is exact; NaN fails both comparisons.
        if (0.0..18_446_744_073_709_551_616.0).contains(&picos) {
            Ok(SimDuration(picos as u64))
        } else {
            Err(BadSeconds { value: secs })
        }
    }

    /// [`Self::try_from_secs_f64`] for a value that the program computed itself. Panics if it is no duration.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self::try_from_secs_f64(secs).unwrap_or_else(|error| panic!("Invariant: {TOO_LONG}: {error}"))
    }

    /// Picoseconds.
    pub const fn as_picos(self) -> u64 {
        self.0
    }

    /// Seconds, to the nearest `f64`.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / PICOS_PER_SEC as f64
    }

    /// `self − other`, zero if negative.
    pub fn saturating_sub(self, other: SimDuration) -> SimDuration {
        SimDuration(self.0.saturating_sub(other.0))
    }

    /// One `parts`-th of the span, to the nearest picosecond. Panics if `parts` is 0.
    pub fn div_nearest(self, parts: u64) -> SimDuration {
        SimDuration((self.0 + parts / 2) / parts)
    }

    /// `self / other`, rounded up. Panics if `other` is zero.
    pub fn div_ceil(self, other: SimDuration) -> u64 {
        self.0.div_ceil(other.0)
    }

    /// A promise times a factor ≥ 0: more than 213 days is no promise, so that is where it stops.
    pub fn scale_saturating(self, factor: f64) -> SimDuration {
        let seconds = self.as_secs_f64() * factor;
        if seconds < SimDuration::MAX.as_secs_f64() { self.scale(factor) } else { SimDuration::MAX }
    }

    /// The span times a factor ≥ 0, to the nearest picosecond.
    pub fn scale(self, factor: f64) -> SimDuration {
        if factor == 1.0 { self } else { SimDuration::from_secs_f64(self.as_secs_f64() * factor) }
    }
}

impl Add<SimDuration> for SimTime {
    type Output = SimTime;
    fn add(self, span: SimDuration) -> SimTime {
        SimTime(self.0.checked_add(span.0).expect(TOO_LONG))
    }
}

impl AddAssign<SimDuration> for SimTime {
    fn add_assign(&mut self, span: SimDuration) {
        *self = *self + span;
    }
}

impl Add for SimDuration {
    type Output = SimDuration;
    fn add(self, other: SimDuration) -> SimDuration {
        SimDuration(self.0.checked_add(other.0).expect(TOO_LONG))
    }
}

impl AddAssign for SimDuration {
    fn add_assign(&mut self, other: SimDuration) {
        *self = *self + other;
    }
}

impl Sub for SimDuration {
    type Output = SimDuration;
    fn sub(self, other: SimDuration) -> SimDuration {
        SimDuration(self.0.checked_sub(other.0).expect("Invariant: a span is never negative"))
    }
}

impl SubAssign for SimDuration {
    fn sub_assign(&mut self, other: SimDuration) {
        *self = *self - other;
    }
}

impl Mul<u64> for SimDuration {
    type Output = SimDuration;
    fn mul(self, times: u64) -> SimDuration {
        SimDuration(self.0.checked_mul(times).expect(TOO_LONG))
    }
}

impl Sum for SimDuration {
    fn sum<I: Iterator<Item = SimDuration>>(spans: I) -> SimDuration {
        spans.fold(SimDuration::ZERO, |total, span| total + span)
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.as_secs_f64())
    }
}

impl fmt::Display for SimDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.as_secs_f64())
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bytes(u64);

impl Bytes {
    /// No bytes.
    pub const ZERO: Bytes = Bytes(0);

    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Bytes(bytes)
    }

    /// The plain number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0 + other.0)
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        self.0 += other.0;
    }
}

impl Sub for Bytes {
    type Output = Bytes;
    fn sub(self, other: Bytes) -> Bytes {
        Bytes(self.0 - other.0)
    }
}

impl Mul<u64> for Bytes {
    type Output = Bytes;
    fn mul(self, times: u64) -> Bytes {
        Bytes(self.0 * times)
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(all: I) -> Bytes {
        all.fold(Bytes::ZERO, |total, bytes| total + bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

/// A rate in bytes per second, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct BytesPerSec(u64);

/// A number that cannot be a rate.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} B/s is not a rate: expected a finite number of at least 1 byte per second")]
pub struct BadRate {
    /// The number that was given, in bytes per second.
    pub value: f64,
}

impl BytesPerSec {
    /// The whole number of bytes per second nearest to `rate`.
    ///
    /// # Errors
    /// NaN, infinite, below 1 byte per second, above 2^63.
    pub fn try_from_f64(rate: f64) -> Result<Self, BadRate> {
        if rate.is_finite() && (1.0..9.2e18).contains(&rate) {
            Ok(BytesPerSec(rate.round() as u64))
        } else {
            Err(BadRate { value: rate })
        }
    }

    /// The plain number of bytes per second.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The time that `bytes` take at this rate, rounded **up** to the picosecond.
    pub fn transfer_time(self, bytes: Bytes) -> SimDuration {
        let picos = (u128::from(bytes.0) * u128::from(PICOS_PER_SEC)).div_ceil(u128::from(self.0));
        SimDuration(u64::try_from(picos).expect(TOO_LONG))
    }
}

impl TryFrom<u64> for BytesPerSec {
    type Error = BadRate;
    fn try_from(rate: u64) -> Result<Self, BadRate> {
        if rate > 0 { Ok(BytesPerSec(rate)) } else { Err(BadRate { value: 0.0 }) }
    }
}

impl From<BytesPerSec> for u64 {
    fn from(rate: BytesPerSec) -> u64 {
        rate.0
    }
}

impl fmt::Display for BytesPerSec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B/s", self.0)
    }
}

/// Blocks that hold `tokens` tokens of one layer: `ceil(tokens / 16)` (design §3.1).
pub const fn blocks_for_tokens(tokens: u64) -> u64 {
    tokens.div_ceil(TOKENS_PER_BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_over_rate_round_up_and_seconds_round_to_the_nearest() {
        let rate = BytesPerSec::try_from_f64(3.0).unwrap();
        // 1 B / 3 B/s = 333,333,333,333.33 ps
        assert_eq!(rate.transfer_time(Bytes::new(1)).as_picos(), 333_333_333_334);
        assert_eq!(rate.transfer_time(Bytes::new(3)).as_picos(), PICOS_PER_SEC);
        assert_eq!(SimDuration::from_secs_f64(1.0 / 3.0).as_picos(), 333_333_333_333);
    }

    #[test]
    fn what_is_no_duration_or_rate_is_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9, 1.9e7] {
            assert!(SimDuration::try_from_secs_f64(bad).is_err(), "{bad}");
        }
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0, 0.5, 1e19] {
            assert!(BytesPerSec::try_from_f64(bad).is_err(), "{bad}");
        }
        assert!(SimDuration::try_from_secs_f64(0.0).is_ok());
    }

    #[test]
    #[should_panic(expected = "time never goes back")]
    fn an_instant_before_another_has_no_span_since_it() {
        let _ = SimTime::ZERO.since(SimTime::from_picos(1));
    }

    #[test]
    #[should_panic(expected = "213 days")]
    fn more_than_213_days_is_an_error_that_says_so() {
        let _ = SimTime::from_picos(u64::MAX) + SimDuration::from_picos(1);
    }

    #[test]
    fn a_block_holds_sixteen_tokens() {
        assert_eq!([0, 1, 16, 17, 8976].map(blocks_for_tokens), [0, 1, 1, 2, 561]);
    }
}
