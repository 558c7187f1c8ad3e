//! How much host→device copies and compute slow each other: two factors, and how a profile's become them (design §3.4).
//!
//! A profile has a factor per pair, `slowed|by`. The simulator knows one kind of copy and one kind of layer, so it
//! takes the pair that was measured under the kernels of a whole decode layer, or the worst single kernel.
//! Knows nothing about when anything runs: the pipeline applies the factors, and only to what overlaps.
//!
//! The rule: side by side, a copy advances at `1/γ_copy` and a layer at `1/γ_compute` of its speed alone; alone, at 1.
//! Worked (γ_copy = 1.5, γ_compute = 1.25): two layers of 1,000 ps, a copy of 2,000 for the second. Layer 1 runs beside the
//! copy until 1,250, when 833.3 of the copy are done; the rest ends at 2,416.7, rounded up; layer 2 alone ends at 3,417.
//! Without contention it would be 3,000. Tests: `only_the_overlap_of_a_copy_and_a_layer_is_slowed`, in an engine
//! `contention_of_the_true_hardware_slows_what_overlaps_in_a_step`.

use std::collections::BTreeMap;

use super::profile::{HardwareProfile, Positive};

/// Two factors of at least 1, in parts per million, so that slowed times are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contention {
    copy_ppm: u32,
    compute_ppm: u32,
}

/// A number that cannot be a factor of [`Contention`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} is no slowdown: expected a number from 1 to {}", Contention::MOST)]
pub struct BadSlowdown {
    /// The factor that was given.
    pub value: f64,
}

impl Contention {
    /// Parts per million in 1.
    pub const ONE_PPM: u32 = 1_000_000;
    /// The largest factor: what is slowed more has stopped.
    pub const MOST: f64 = 1000.0;
    /// Neither slows the other.
    pub const NONE: Contention = Contention { copy_ppm: Self::ONE_PPM, compute_ppm: Self::ONE_PPM };

    /// `copy`: time of a copy while a layer computes, over its time alone; `compute`: time of a layer while a copy
    /// runs, over its time alone. Each to the nearest millionth.
    ///
    /// # Errors
    /// Below 1, above [`Self::MOST`], NaN.
    pub fn of_factors(copy: f64, compute: f64) -> Result<Self, BadSlowdown> {
        Ok(Contention { copy_ppm: parts_per_million(copy)?, compute_ppm: parts_per_million(compute)? })
    }

    /// Time of a copy while a layer computes, over its time alone, in parts per million.
    pub const fn copy_ppm(self) -> u32 {
        self.copy_ppm
    }

    /// Time of a layer while a copy runs, over its time alone, in parts per million.
    pub const fn compute_ppm(self) -> u32 {
        self.compute_ppm
    }

    /// Whether neither slows the other.
    pub fn is_none(self) -> bool {
        self == Contention::NONE
    }

    /// [`Self::copy_ppm`] as a plain factor.
    pub fn copy_factor(self) -> f64 {
        f64::from(self.copy_ppm) / f64::from(Self::ONE_PPM)
    }

    /// [`Self::compute_ppm`] as a plain factor.
    pub fn compute_factor(self) -> f64 {
        f64::from(self.compute_ppm) / f64::from(Self::ONE_PPM)
    }
}

fn parts_per_million(factor: f64) -> Result<u32, BadSlowdown> {
    if (1.0..=Contention::MOST).contains(&factor) {
        Ok((factor * f64::from(Contention::ONE_PPM)).round() as u32)
    } else {
        Err(BadSlowdown { value: factor })
    }
}

/// Kernels of a decode layer, each measured alone against a copy.
const KERNELS: [&str; 3] = ["attn", "gemm", "hbm_read"];

/// The factors of a checked profile, and notes on where they are from and on what is left out. `wanted`: whether the
/// scenario has contention on.
pub(super) fn of_profile(profile: &HardwareProfile, wanted: bool, notes: &mut Vec<String>) -> Contention {
    let contention = match &profile.contention {
        None => Contention::NONE,
        Some(known) if !wanted => {
            let count = known.copy_slowdown.len() + known.compute_slowdown.len();
            notes.push(format!(
                "contention: the profile's {count} factors are left out, as the scenario says"
            ));
            Contention::NONE
        }
        Some(known) => {
            let copy = factor(&known.copy_slowdown, "copies", |kernel| format!("h2d|{kernel}"), notes);
            let compute = factor(&known.compute_slowdown, "compute", |kernel| format!("{kernel}|h2d"), notes);
            let contention = Contention::of_factors(copy, compute)
                .expect("Invariant: checked factors are at most the largest slowdown");
            if !contention.is_none() {
                notes.push(format!(
                    "contention: a copy takes {copy} times as long while a layer computes, a layer {compute} times \
                     as long while a copy runs ({}); forecasts leave it out",
                    profile.standing()
                ));
            }
            contention
        }
    };
    if profile.link.bidir.is_some() {
        notes.push(
            "warning: the profile's `link.bidir` is not applied: copies and write-through do not slow each other"
                .to_owned(),
        );
    }
    contention
}

/// The factor on `slowed`: the one measured under a whole layer, or the largest of the kernels'; at least 1. `key`
/// makes the key of the pair with a kernel.
fn factor(
    known: &BTreeMap<String, Positive>,
    slowed: &str,
    key: impl Fn(&str) -> String,
    notes: &mut Vec<String>,
) -> f64 {
    let whole = key("layer");
    let by_kernel = || KERNELS.iter().filter_map(|kernel| known.get_key_value(&key(kernel)));
    let (from, measured) = match known.get_key_value(&whole) {
        Some((from, factor)) => (from, factor.get()),
        None => match by_kernel().max_by(|(_, a), (_, b)| a.get().total_cmp(&b.get())) {
            Some((from, factor)) => {
                notes.push(format!(
                    "contention: `{whole}` not measured, the largest of the single kernels stands in: `{from}` {factor}"
                ));
                (from, factor.get())
            }
            None => {
                notes.push(format!("contention: no factor on {slowed} known, taken as 1"));
                return 1.0;
            }
        },
    };
    if measured < 1.0 {
        notes.push(format!(
            "contention: `{from}` {measured} is below 1, noise of the measurement: taken as 1"
        ));
    }
    measured.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_kept_to_the_millionth_and_refused_outside_1_to_1000() {
        let contention = Contention::of_factors(1.2345678, 1.0).unwrap();
        assert_eq!((contention.copy_ppm(), contention.compute_ppm()), (1_234_568, 1_000_000));
        assert!(!contention.is_none() && Contention::of_factors(1.0, 1.0).unwrap().is_none());
        for bad in [0.999, 1000.1, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Contention::of_factors(bad, 1.0).is_err() && Contention::of_factors(1.0, bad).is_err());
        }
    }
}
