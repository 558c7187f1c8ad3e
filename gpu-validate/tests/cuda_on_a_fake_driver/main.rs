//! The CUDA backend on a driver that pretends: every call, argument, size, event, graph and latch, without a GPU. It
//! says nothing about speed and nothing about a real driver's limits; `FIRST_GPU_RUN.md` lists those.

mod copies;
mod fake;
mod layer;
mod order;

use gpu_validate::device::Device;
use gpu_validate::preflight::{self, Part, State};

use fake::{on_fake_driver, open};

#[test]
fn preflight_finds_all_that_is_needed_and_names_the_gpu() {
    on_fake_driver("preflight_finds_all_that_is_needed_and_names_the_gpu", &[], || {
        let found = preflight::probe();
        assert_eq!(found.missing_line(), None, "{found}");
        let state = found.state(Part::Gpu).expect("it was looked for");
        assert!(
            matches!(state, State::Found { version: Some(text), .. } if text == "Fake GPU (sm_90)"),
            "{state:?}"
        );
        let Some(State::Found { path: Some(path), .. }) = found.state(Part::DriverLibrary) else {
            panic!("{found}")
        };
        assert!(path.ends_with("libcuda.so.1"), "{path}");
    });
}

#[test]
fn a_driver_without_a_gpu_is_missing_with_its_code_and_name() {
    let test = "a_driver_without_a_gpu_is_missing_with_its_code_and_name";
    on_fake_driver(test, &[("FAKE_CUDA_NO_DEVICE", "1")], || {
        let line = preflight::probe().missing_line().expect("no GPU");
        assert_eq!(line, "no usable GPU: CUDA driver: cuInit answers 100 (CUDA_ERROR_NO_DEVICE)");
    });
}

#[test]
fn facts_are_the_drivers_and_what_is_not_known_has_a_reason() {
    on_fake_driver("facts_are_the_drivers_and_what_is_not_known_has_a_reason", &[], || {
        let device = open();
        let facts = device.facts();
        assert_eq!((facts.device.name.as_str(), facts.sm_count, facts.l2_bytes), ("Fake GPU", 4, 1 << 20));
        assert_eq!(facts.device.sm.as_deref(), Some("9.0"));
        let uuid = "GPU-abababab-abab-abab-abab-abababababab";
        assert_eq!(facts.device.uuid.as_deref(), Some(uuid));
        assert_eq!(facts.device.cublas.as_deref(), Some("13.1.0"));
        assert_eq!(facts.device.nvrtc.as_deref(), Some("13.0"));
        assert!(facts.memory_bytes < (1 << 30) - (512 << 20)); // 1 GiB less the reserve and what was allocated
        for key in ["device.driver", "device.mig", "device.pcie"] {
            assert!(facts.missing.iter().any(|(missing, why)| missing == key && !why.is_empty()), "{key}");
        }
        assert!(facts.warnings.iter().any(|warning| warning.contains("NVML")), "{:?}", facts.warnings);
    });
}
