//! What is known of the machine that plays the GPU, from `/proc` and `/sys`; what they do not say is listed as missing.

use std::num::{NonZeroU32, NonZeroU64};

use orbitflow_sim::cost::profile::{Device as DeviceRecord, Host, Positive};

use super::HostOptions;
use crate::device::{Backend, Facts};

/// Taken for the level-2 cache where `/sys` does not say.
const L2_ASSUMED: u64 = 1 << 20;
/// The most memory of each side unless the options say otherwise: this is a shared machine.
const MOST_MEMORY: u64 = 4 << 30;

/// What is known before anything is measured.
pub(super) fn facts(options: &HostOptions) -> Facts {
    let mut missing: Vec<(String, String)> = Vec::new();
    let mut lacks = |path: &str, reason: &str| missing.push((path.to_owned(), reason.to_owned()));
    let cpu = cpu_line("model name");
    if cpu.is_none() {
        lacks("provenance.host.cpu", "/proc/cpuinfo has no `model name`");
    }
    let total = memory_bytes("MemTotal:");
    if total.is_none() {
        lacks("provenance.host.mem_gib", "/proc/meminfo has no `MemTotal`");
    }
    let l2 = text("/sys/devices/system/cpu/cpu0/cache/index2/size").and_then(|size| cache_bytes(&size));
    if l2.is_none() {
        lacks(
            "device.l2_bytes",
            "/sys has no level-2 cache size; 1 MiB is assumed where buffers must exceed it",
        );
    }
    let host = Host {
        cpu: cpu.clone(),
        cores: std::thread::available_parallelism().ok().and_then(|cores| NonZeroU32::try_from(cores).ok()),
        mem_gib: total.and_then(|bytes| Positive::try_from(bytes as f64 / f64::from(1 << 30)).ok()),
        kernel: text("/proc/sys/kernel/osrelease"),
        hypervisor: hypervisor(),
        numa_node: None,
        hugepages: text("/sys/kernel/mm/transparent_hugepage/enabled").as_deref().and_then(chosen),
    };
    lacks("provenance.host", "host emulation: /proc and /sys do not say");
    lacks("device", "host emulation: a CPU has none");
    let cores = host.cores.unwrap_or(NonZeroU32::MIN);
    let mut device = DeviceRecord::named(&format!("host emulation on {}", cpu.as_deref().unwrap_or("a CPU")));
    device.sm_count = Some(cores);
    device.l2_bytes = l2.and_then(NonZeroU64::new);
    let memory_bytes = options.memory_bytes.unwrap_or_else(|| {
        memory_bytes("MemAvailable:").map_or(MOST_MEMORY, |available| (available / 4).min(MOST_MEMORY))
    });
    device.mem_bytes = NonZeroU64::new(memory_bytes);
    let mut warnings: Vec<String> = Backend::Host.disclaimer().map(str::to_owned).into_iter().collect();
    if let Some(rate) = options.link_bytes_per_s {
        warnings.push(format!("the host link is memcpy, held to {:.3} GB/s at most", rate / 1e9));
    }
    Facts {
        device,
        host,
        sm_count: cores.get(),
        l2_bytes: l2.unwrap_or(L2_ASSUMED),
        memory_bytes,
        host_memory_bytes: memory_bytes,
        missing,
        warnings,
    }
}

fn text(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn cpu_line(key: &str) -> Option<String> {
    let lines = text("/proc/cpuinfo")?;
    let line = lines.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_bytes(key: &str) -> Option<u64> {
    let lines = text("/proc/meminfo")?;
    let line = lines.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `512K` or `2M`.
fn cache_bytes(size: &str) -> Option<u64> {
    let (number, unit) = size.split_at_checked(size.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "K" => Some(number << 10),
        "M" => Some(number << 20),
        _ => None,
    }
}

/// The word in brackets.
fn chosen(words: &str) -> Option<String> {
    let (_, after) = words.split_once('[')?;
    Some(after.split_once(']')?.0.to_owned())
}

fn hypervisor() -> Option<String> {
    let flagged = || cpu_line("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    text("/sys/hypervisor/type").or_else(|| flagged().then(|| "visible to the CPU, no name given".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_choices_are_read_as_the_kernel_writes_them() {
        let sizes = ["512K", "2M", "2G", "K", "", "x1K"].map(cache_bytes);
        assert_eq!(sizes, [Some(524_288), Some(2_097_152), None, None, None, None]);
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("never"), None);
    }

    #[test]
    fn every_report_of_a_host_device_is_told_what_it_is() {
        let facts = facts(&HostOptions { link_bytes_per_s: Some(2e9), memory_bytes: Some(1 << 30) });
        assert_eq!(facts.warnings[0], "host emulation: says nothing about any GPU");
        assert!(facts.warnings[1].contains("2.000 GB/s"), "{:?}", facts.warnings);
        assert_eq!((facts.memory_bytes, facts.host_memory_bytes), (1 << 30, 1 << 30));
        assert!(facts.sm_count >= 1 && facts.l2_bytes >= 1 << 16);
    }
}
