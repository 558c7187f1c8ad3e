//! What NVML tells of the GPU: clocks, power, temperature, throttling, the PCIe link. Reads only; sets nothing.
//!
//! The device is found by unique id or PCI address, never by index, because the two libraries may count differently. In
//! a virtual machine much of it is not supported: missing with a reason then, never 0.

use std::ffi::OsStr;
use std::num::NonZeroU32;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use orbitflow_sim::cost::profile::{DeviceSample, Pcie, Positive};

use crate::device::environment::Missing;

/// NVML and the GPU in it.
pub(super) struct Management {
    library: Nvml,
    uuid: String,
    pci_bus_id: String,
    first_replays: Option<u32>,
}

impl Management {
    /// The GPU with this unique id, or else at this PCI address.
    ///
    /// # Errors
    /// Why there is no NVML, or why it does not know the GPU.
    pub(super) fn open(library: &OsStr, uuid: &str, pci_bus_id: &str) -> Result<Self, String> {
        let library = Nvml::builder().lib_path(library).init().map_err(|error| error.to_string())?;
        let (uuid, pci_bus_id) = (uuid.to_owned(), pci_bus_id.to_owned());
        let mut management = Management { library, uuid, pci_bus_id, first_replays: None };
        management.first_replays =
            management.device().map_err(|error| error.to_string())?.pcie_replay_counter().ok();
        Ok(management)
    }

    fn device(&self) -> Result<nvml_wrapper::Device<'_>, NvmlError> {
        self.library
            .device_by_uuid(self.uuid.as_str())
            .or_else(|_| self.library.device_by_pci_bus_id(self.pci_bus_id.as_str()))
    }

    /// The driver's version.
    pub(super) fn driver_version(&self) -> Result<String, String> {
        self.library.sys_driver_version().map_err(|error| error.to_string())
    }

    /// Whether memory is error-corrected.
    pub(super) fn error_corrected(&self) -> Result<bool, String> {
        let state = self.device().and_then(|device| device.is_ecc_enabled());
        state.map(|state| state.currently_enabled).map_err(|error| error.to_string())
    }

    /// Whether the GPU is partitioned.
    pub(super) fn partitioned(&self) -> Result<bool, String> {
        let mode = self.device().and_then(|device| device.mig_mode());
        mode.map(|mode| mode.current == 1).map_err(|error| error.to_string())
    }

    /// The link now. An idle one clocks down: ask while copies run.
    pub(super) fn link(&self, missing: &mut Missing) -> Pcie {
        let device = match self.device() {
            Ok(device) => device,
            Err(error) => {
                missing.push(("device.pcie".to_owned(), error.to_string()));
                return Pcie::default();
            }
        };
        let mut known = |key: &str, value: Result<u32, NvmlError>| match value {
            Ok(value) => NonZeroU32::new(value).or_else(|| {
                missing.push((format!("device.pcie.{key}"), "NVML answers 0".to_owned()));
                None
            }),
            Err(error) => {
                missing.push((format!("device.pcie.{key}"), error.to_string()));
                None
            }
        };
        Pcie {
            gen_cur_loaded: known("gen_cur_loaded", device.current_pcie_link_gen()),
            width_cur: known("width_cur", device.current_pcie_link_width()),
            gen_max: known("gen_max", device.max_pcie_link_gen()),
            width_max: known("width_max", device.max_pcie_link_width()),
            replays_delta: self.replays(),
        }
    }

    /// Packets sent again since this was opened; `None` where they are not counted.
    pub(super) fn replays(&self) -> Option<u64> {
        let now = self.device().ok()?.pcie_replay_counter().ok()?;
        Some(u64::from(now.wrapping_sub(self.first_replays?)))
    }

    /// Clocks, power, temperature and throttling at `t_s` seconds of the run.
    pub(super) fn sample(&self, t_s: f64) -> DeviceSample {
        let Ok(device) = self.device() else { return no_sample(t_s) };
        let mhz = |clock| device.clock_info(clock).ok().and_then(NonZeroU32::new);
        let watts = device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3);
        let throttle =
            device.current_throttle_reasons_strict().or_else(|_| device.current_throttle_reasons());
        DeviceSample {
            t_s,
            sm_mhz: mhz(Clock::SM),
            mem_mhz: mhz(Clock::Memory),
            power_w: watts.and_then(|watts| Positive::new(watts).ok()),
            temp_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            throttle_bits: throttle.ok().map(|reasons| reasons.bits()),
        }
    }
}

/// A sample of a GPU that nothing can be read of.
pub(super) fn no_sample(t_s: f64) -> DeviceSample {
    DeviceSample { t_s, sm_mhz: None, mem_mhz: None, power_w: None, temp_c: None, throttle_bits: None }
}
