//! What a reader must be warned of: throttling, a link below its maximum, noise, drift, points left out.

use orbitflow_sim::cost::HardwareProfile;

use crate::results::{Gap, Measurements};

/// NVML's throttle reasons that mean the clocks were held down: power cap, thermal (software and hardware), hardware
/// slowdown, power brake (NVML API: `nvmlClocksEventReason…`). Idle (1), application clocks (2), sync boost (16) and
/// display clocks (256) are no fault.
const THROTTLED: [(u64, &str); 5] = [
    (0x4, "software power cap"),
    (0x8, "hardware slowdown"),
    (0x20, "software thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "hardware power brake"),
];
/// A point whose quartiles are further apart than this share of its median is noisy.
const NOISY: f64 = 0.10;
/// Anchors may move by this share from start to end.
const DRIFTED: f64 = 0.03;

/// One sentence per warning; `device` are those that the device itself gave.
pub fn warnings(profile: &HardwareProfile, measurements: &Measurements, device: &[String]) -> Vec<String> {
    let mut found = device.to_vec();
    found.extend(throttling(profile));
    found.extend(pcie(profile));
    found.extend(noise(measurements));
    for drift in measurements.drift.iter().filter(|drift| drift.relative().abs() > DRIFTED) {
        let percent = 100.0 * drift.relative();
        found.push(format!(
            "`{}` took {percent:+.1} % at the end of the run against its start.",
            drift.anchor
        ));
    }
    let late = measurements.dropped.iter().filter(|dropped| dropped.gap == Gap::OutOfTime).count();
    if late > 0 {
        found.push(format!("{late} points or groups were left out for lack of time (listed below)."));
    }
    found
}

fn throttling(profile: &HardwareProfile) -> Vec<String> {
    let samples = &profile.device.samples;
    let known = samples.iter().filter(|sample| sample.throttle_bits.is_some()).count();
    let mut found = Vec::new();
    for (bit, name) in THROTTLED {
        let held = samples.iter().filter(|sample| sample.throttle_bits.unwrap_or(0) & bit != 0).count();
        if held > 0 {
            found.push(format!("The GPU was throttled ({name}) in {held} of {known} samples of its state."));
        }
    }
    found
}

fn pcie(profile: &HardwareProfile) -> Option<String> {
    let pcie = profile.device.pcie.as_ref()?;
    let below = |now: Option<std::num::NonZeroU32>, most: Option<std::num::NonZeroU32>| Some(now? < most?);
    let slower = below(pcie.gen_cur_loaded, pcie.gen_max) == Some(true);
    let narrower = below(pcie.width_cur, pcie.width_max) == Some(true);
    (slower || narrower).then(|| {
        "The PCIe link ran below its maximum generation or width under load: the rates are this host's, not the GPU's."
            .to_owned()
    })
}

fn noise(measurements: &Measurements) -> Option<String> {
    let timings = (measurements.copies.iter().map(|point| &point.timing))
        .chain(measurements.gemms.iter().map(|point| &point.timing))
        .chain(measurements.attention.iter().map(|point| &point.timing))
        .chain(measurements.steps.iter().map(|point| &point.timing));
    let (mut all, mut noisy) = (0, 0);
    for timing in timings {
        all += 1;
        noisy += usize::from(timing.iqr_s > NOISY * timing.median_s);
    }
    (noisy > 0).then(|| {
        format!("{noisy} of {all} points of E2, E5, E6 and E9 are noisy: quartiles more than 10 % of the median apart.")
    })
}

#[cfg(test)]
mod tests {
    use orbitflow_sim::cost::ProfileKind;
    use orbitflow_sim::cost::profile::{DeviceSample, Pcie, Positive};

    use super::*;
    use crate::results::{DriftPoint, Dropped};
    use crate::sample::Timing;

    fn profile() -> HardwareProfile {
        HardwareProfile::new(ProfileKind::Measured, "s", "G", Positive::literal(1e9))
    }

    fn sample(throttle_bits: Option<u64>) -> DeviceSample {
        DeviceSample { t_s: 0.0, sm_mhz: None, mem_mhz: None, power_w: None, temp_c: None, throttle_bits }
    }

    #[test]
    fn a_quiet_run_has_no_warning_and_idle_clocks_are_no_throttling() {
        let mut profile = profile();
        profile.device.samples = vec![sample(Some(0)), sample(Some(1)), sample(None)];
        assert_eq!(warnings(&profile, &Measurements::default(), &[]), Vec::<String>::new());
    }

    #[test]
    fn throttling_a_narrow_link_drift_and_lost_points_are_each_said_once() {
        let mut profile = profile();
        profile.device.samples = vec![sample(Some(0x4)), sample(Some(0x44)), sample(Some(0))];
        let number = std::num::NonZeroU32::new;
        profile.device.pcie = Some(Pcie {
            gen_cur_loaded: number(5),
            gen_max: number(5),
            width_cur: number(8),
            width_max: number(16),
            replays_delta: None,
        });
        let drift =
            DriftPoint { anchor: "h2d".to_owned(), first: Timing::of(&[1.0]), last: Timing::of(&[1.05]) };
        let lost =
            |gap| Dropped { experiment: "E2".to_owned(), what: "x".to_owned(), reason: "r".to_owned(), gap };
        let measurements = Measurements {
            drift: vec![drift],
            dropped: vec![lost(Gap::OutOfTime), lost(Gap::NotPossible), lost(Gap::NotUsable)],
            ..Measurements::default()
        };
        let found = warnings(&profile, &measurements, &["no NVML".to_owned()]).join("\n");
        for said in [
            "no NVML",
            "software power cap) in 2 of 3",
            "thermal slowdown) in 1 of 3",
            "below its maximum",
            "+5.0 %",
            "1 points",
        ] {
            assert_eq!(found.matches(said).count(), 1, "{said} in:\n{found}");
        }
    }
}
