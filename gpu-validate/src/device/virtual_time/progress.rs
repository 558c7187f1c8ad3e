//! How far a kernel or a copy has come while what runs beside it may slow it.
//!
//! The simulator's rule (`pipeline::progress`): a span is a whole number of units, its time alone times its factor in
//! parts per million. Alone a picosecond does as many units as the factor has parts, beside the other kind a million.
//! An end within a picosecond moves to the end of it. The simulator rounds once per layer, this device once per kernel:
//! with contention a layer of ten kernels may be up to ten picoseconds longer here.

use orbitflow_sim::units::{SimDuration, TOO_LONG};

pub(super) const ONE_PPM: u32 = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    left: u128,
    alone: u32,
}

impl Progress {
    /// Something that takes `time` alone, and `factor_ppm` times as long beside the other kind.
    pub fn of(time: SimDuration, factor_ppm: u32) -> Self {
        Progress { left: u128::from(time.as_picos()) * u128::from(factor_ppm), alone: factor_ppm }
    }

    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Time to the end if nothing changes.
    pub fn time_left(&self, beside: bool) -> SimDuration {
        let picos = self.left.div_ceil(u128::from(self.rate(beside)));
        SimDuration::from_picos(u64::try_from(picos).expect(TOO_LONG))
    }

    /// Lets `span` pass.
    pub fn pass(&mut self, span: SimDuration, beside: bool) {
        self.left = self.left.saturating_sub(u128::from(span.as_picos()) * u128::from(self.rate(beside)));
    }

    fn rate(&self, beside: bool) -> u32 {
        if beside { ONE_PPM } else { self.alone }
    }
}
