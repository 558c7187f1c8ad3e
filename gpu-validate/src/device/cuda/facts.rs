//! What is known of the GPU and the machine before anything is measured, from the driver, NVML and Linux.
//!
//! What cannot be read is null with a reason. The PCIe link is read while copies run, because an idle one clocks down.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use orbitflow_sim::cost::profile::{Device as DeviceRecord, Pcie};

use super::driver::{Driver, Pinning};
use super::management::Management;
use crate::device::environment::{self, Missing};
use crate::device::{DeviceError, Facts};
use crate::preflight::{Part, Preflight, State};

/// GPU memory that is left to the driver and to libraries.
const DEVICE_RESERVE: u64 = 512 << 20;
/// The most host memory that is taken for copies, of what is available: pinned memory is out of everyone's reach.
const HOST_SHARE: u64 = 2;
/// Copies under which the link is read: until it is at its best, at most this long.
const LINK_BYTES: u64 = 64 << 20;
const LINK_COPIES: usize = 8;
const LINK_LIMIT: Duration = Duration::from_secs(1);

/// Where facts come from.
pub(super) struct Sources<'a> {
    pub(super) driver: &'a Driver,
    pub(super) found: &'a Preflight,
    pub(super) nvrtc: &'a str,
    pub(super) cublas: &'a str,
}

/// How much host memory may be taken for copies, in bytes.
pub(super) fn host_memory_limit() -> u64 {
    const LITTLE: u64 = 1 << 30; // where the kernel does not say: enough for the smallest experiments
    environment::available_memory_bytes().map_or(LITTLE, |bytes| bytes / HOST_SHARE)
}

/// Everything; with NVML where it is there.
pub(super) fn gather(
    sources: &Sources<'_>,
    host_memory_bytes: u64,
) -> Result<(Facts, Option<Management>), DeviceError> {
    let driver = sources.driver;
    let mut missing = Missing::new();
    let mut warnings = sources.found.warnings();
    let (uuid, pci_bus_id) = (uuid_text(driver.uuid()?), driver.pci_bus_id()?);
    let management = management(sources.found, &uuid, &pci_bus_id, &mut warnings);
    let host = environment::host(Some(&pci_bus_id), &mut missing);

    let mut device = DeviceRecord::named(&driver.name()?);
    let number = |attribute| driver.attribute(attribute);
    let sm_count = number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).unwrap_or(0);
    let l2_bytes = u64::from(number(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).unwrap_or(0));
    device.uuid = Some(uuid);
    device.sm = compute_capability(driver).map(|(major, minor)| format!("{major}.{minor}"));
    device.sm_count = NonZeroU32::new(sm_count);
    device.l2_bytes = NonZeroU64::new(l2_bytes);
    device.mem_bytes = NonZeroU64::new(driver.total_memory()?);
    device.cuda_driver_api = Some(driver.api_version()?);
    device.nvrtc = Some(sources.nvrtc.to_owned());
    device.cublas = Some(sources.cublas.to_owned());
    device.ecc = number(Attribute::CU_DEVICE_ATTRIBUTE_ECC_ENABLED).map(|enabled| enabled == 1);
    describe_by_management(&mut device, management.as_ref(), driver, &mut missing, &mut warnings)?;

    let memory_bytes = driver.free_memory()?.saturating_sub(DEVICE_RESERVE);
    let facts = Facts {
        device,
        host,
        sm_count: sm_count.max(1),
        l2_bytes,
        memory_bytes,
        host_memory_bytes,
        missing,
        warnings,
    };
    Ok((facts, management))
}

/// Major and minor number of the instruction set.
pub(super) fn compute_capability(driver: &Driver) -> Option<(u32, u32)> {
    let major = driver.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    Some((major, driver.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?))
}

fn management(
    found: &Preflight,
    uuid: &str,
    pci_bus_id: &str,
    warnings: &mut Vec<String>,
) -> Option<Management> {
    let Some(State::Found { path: Some(path), .. }) = found.state(Part::Nvml) else { return None };
    match Management::open(&OsString::from(path), uuid, pci_bus_id) {
        Ok(management) => Some(management),
        Err(reason) => {
            warnings.push(format!("NVML does not answer: {reason}"));
            None
        }
    }
}

fn describe_by_management(
    device: &mut DeviceRecord,
    management: Option<&Management>,
    driver: &Driver,
    missing: &mut Missing,
    warnings: &mut Vec<String>,
) -> Result<(), DeviceError> {
    let Some(management) = management else {
        for key in ["driver", "mig", "pcie"] {
            missing.push((format!("device.{key}"), "there is no NVML".to_owned()));
        }
        return Ok(());
    };
    let mut noted = |key: &str, reason: String| missing.push((format!("device.{key}"), reason));
    match management.driver_version() {
        Ok(version) => device.driver = Some(version),
        Err(reason) => noted("driver", reason),
    }
    match management.partitioned() {
        Ok(partitioned) => device.mig = Some(partitioned),
        Err(reason) => noted("mig", reason),
    }
    if let Ok(corrected) = management.error_corrected() {
        device.ecc = Some(corrected);
    }
    let pcie = link_under_load(driver, management, missing)?;
    warnings.extend(link_warning(&pcie));
    device.pcie = Some(pcie);
    Ok(())
}

/// The link's state while copies to the GPU run.
fn link_under_load(
    driver: &Driver,
    management: &Management,
    missing: &mut Missing,
) -> Result<Pcie, DeviceError> {
    let idle = |management: &Management, missing: &mut Missing, reason: &str| {
        missing.push(("device.pcie.gen_cur_loaded".to_owned(), reason.to_owned()));
        Pcie { gen_cur_loaded: None, ..management.link(missing) }
    };
    let Some(host) = driver.alloc_pinned(LINK_BYTES, Pinning::Cached)? else {
        return Ok(idle(management, missing, "no host memory to copy from while it is read"));
    };
    let (target, stream) = (driver.alloc(LINK_BYTES)?, driver.stream()?);
    let (began, mut best) = (Instant::now(), Pcie::default());
    let mut reasons = Missing::new();
    while began.elapsed() < LINK_LIMIT && (best.gen_max.is_none() || best.gen_cur_loaded < best.gen_max) {
        for _ in 0..LINK_COPIES {
            driver.copy_to_device(stream, target, host, LINK_BYTES)?;
        }
        let mut unknown = Missing::new();
        let now = management.link(&mut unknown);
        driver.synchronize()?;
        best = if now.gen_cur_loaded >= best.gen_cur_loaded { now } else { best };
        reasons = unknown;
        if best.gen_max.is_none() {
            break;
        }
    }
    missing.extend(reasons);
    driver.destroy_stream(stream)?;
    driver.free(target)?;
    driver.free_pinned(host)?;
    Ok(best)
}

fn link_warning(pcie: &Pcie) -> Option<String> {
    let slow = pcie.gen_cur_loaded < pcie.gen_max && pcie.gen_cur_loaded.is_some();
    let narrow = pcie.width_cur < pcie.width_max && pcie.width_cur.is_some();
    let number = |value: Option<NonZeroU32>| value.map_or("unknown".to_owned(), |value| value.to_string());
    (slow || narrow).then(|| {
        format!(
            "the PCIe link runs below its maximum: generation {} of {}, {} of {} lanes",
            number(pcie.gen_cur_loaded),
            number(pcie.gen_max),
            number(pcie.width_cur),
            number(pcie.width_max)
        )
    })
}

/// As NVML writes it.
fn uuid_text(bytes: [u8; 16]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("GPU-{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_id_is_written_as_nvml_writes_it() {
        let bytes = std::array::from_fn(|index| index as u8);
        assert_eq!(uuid_text(bytes), "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn a_link_below_its_width_is_warned_of_and_an_unknown_one_is_not() {
        let lanes = |count| NonZeroU32::new(count);
        let narrow = Pcie { width_cur: lanes(8), width_max: lanes(16), ..Pcie::default() };
        assert!(link_warning(&narrow).is_some_and(|line| line.contains("8 of 16 lanes")));
        assert_eq!(link_warning(&Pcie { width_max: lanes(16), ..Pcie::default() }), None);
    }
}
