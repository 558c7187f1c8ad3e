//! The machine around a device, as Linux tells of it: CPU, memory, kernel, hypervisor, NUMA, huge pages.
//!
//! Reads `/proc` and `/sys` and changes nothing. What cannot be read is missing with a reason, never 0. Knows no GPU:
//! a PCI address is handed in where one is needed.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use orbitflow_sim::cost::profile::{Host, Positive};

/// What could not be read: the profile's key path, and why.
pub type Missing = Vec<(String, String)>;

/// The machine; the NUMA node is that of the PCI device at `pci_bus_id`, if one is given.
pub fn host(pci_bus_id: Option<&str>, missing: &mut Missing) -> Host {
    let cpu_info = read("/proc/cpuinfo");
    let field = |key: &str| cpu_info.as_deref().and_then(|text| value_of(text, key));
    let mut noted =
        |key: &str, reason: &str| missing.push((format!("provenance.host.{key}"), reason.to_owned()));
    let cpu = field("model name");
    if cpu.is_none() {
        noted("cpu", "/proc/cpuinfo has no `model name`");
    }
    let cores =
        std::thread::available_parallelism().ok().and_then(|cores| NonZeroU32::new(cores.get() as u32));
    let memory = memory_bytes("MemTotal").map(|bytes| bytes as f64 / (1u64 << 30) as f64);
    let mem_gib = memory.and_then(|gib| Positive::new(gib).ok());
    if mem_gib.is_none() {
        noted("mem_gib", "/proc/meminfo has no `MemTotal`");
    }
    let kernel = read("/proc/sys/kernel/osrelease");
    if kernel.is_none() {
        noted("kernel", "/proc/sys/kernel/osrelease cannot be read");
    }
    let virtual_machine =
        field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let hypervisor = hypervisor(virtual_machine);
    if hypervisor.is_none() {
        noted("hypervisor", "none is visible: the CPU has no `hypervisor` flag");
    }
    let numa_node = pci_bus_id.and_then(numa_node);
    if numa_node.is_none() {
        noted("numa_node", "no `numa_node` below /sys/bus/pci/devices for this device");
    }
    let hugepages = read("/sys/kernel/mm/transparent_hugepage/enabled");
    if hugepages.is_none() {
        noted("hugepages", "/sys/kernel/mm/transparent_hugepage/enabled cannot be read");
    }
    Host { cpu, cores, mem_gib, kernel, hypervisor, numa_node, hugepages }
}

/// The vendor of the virtual machine, as far as it shows; `None` on bare metal.
fn hypervisor(flagged: bool) -> Option<String> {
    let product = read("/sys/hypervisor/type").or_else(|| read("/sys/class/dmi/id/product_name"));
    match (flagged, product) {
        (false, _) => None,
        (true, Some(product)) => Some(product),
        (true, None) => Some("present, unnamed".to_owned()),
    }
}

/// The NUMA node of a PCI device; −1 as the kernel reports it when there is none.
pub fn numa_node(pci_bus_id: &str) -> Option<i32> {
    read(format!("/sys/bus/pci/devices/{}/numa_node", sysfs_address(pci_bus_id)))?.parse().ok()
}

/// CPUs of a NUMA node.
pub fn cpus_of_node(node: i32) -> Option<Vec<usize>> {
    parse_cpu_list(&read(format!("/sys/devices/system/node/node{node}/cpulist"))?)
}

/// Host memory that a process may still take, in bytes: what the kernel calls available, within the control group.
pub fn available_memory_bytes() -> Option<u64> {
    let available = memory_bytes("MemAvailable")?;
    let limit = read("/sys/fs/cgroup/memory.max").and_then(|text| text.parse::<u64>().ok());
    let used = read("/sys/fs/cgroup/memory.current").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Some(limit.map_or(available, |limit| available.min(limit.saturating_sub(used))))
}

fn memory_bytes(key: &str) -> Option<u64> {
    let value = value_of(&read("/proc/meminfo")?, key)?;
    Some(value.strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The driver's `0000C1:00.0` and `00000000:C1:00.0` as the kernel writes it: four hexadecimal digits, lower case.
fn sysfs_address(pci_bus_id: &str) -> String {
    let id = pci_bus_id.to_lowercase();
    match id.split_once(':') {
        Some((domain, rest)) if domain.len() > 4 => format!("{}:{rest}", &domain[domain.len() - 4..]),
        _ => id,
    }
}

fn value_of(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?);
    }
    Some(cpus)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drivers_bus_id_is_found_under_the_kernels_name() {
        assert_eq!(sysfs_address("00000000:C1:00.0"), "0000:c1:00.0");
        assert_eq!(sysfs_address("0000:C1:00.0"), "0000:c1:00.0");
    }

    #[test]
    fn cpu_lists_are_ranges_and_single_numbers() {
        assert_eq!(parse_cpu_list("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(parse_cpu_list("x"), None);
    }

    #[test]
    fn what_is_not_known_of_this_machine_has_a_reason() {
        let mut missing = Missing::new();
        let host = host(None, &mut missing);
        assert_eq!(host.numa_node, None);
        assert!(missing.iter().any(|(key, reason)| key == "provenance.host.numa_node" && !reason.is_empty()));
        assert_eq!(host.cpu.is_none(), missing.iter().any(|(key, _)| key == "provenance.host.cpu"));
    }
}
