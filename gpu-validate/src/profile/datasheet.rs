//! From the name a driver gives to the simulator's datasheet figures of that GPU.
//!
//! Only figures that the measurement cannot give are taken from there, and marked. An unknown name is no guess.

use orbitflow_sim::cost::preset;
use orbitflow_sim::cost::profile::Datasheet;

/// Words that the driver's name must hold, words it must not, and the simulator's name of that GPU (empty: it has none).
/// The first match counts.
const NAMES: [(&[&str], &[&str], &str); 19] = [
    (&["RTX A5000"], &["Laptop"], "rtx-a5000"),
    (&["RTX A6000"], &[], "rtx-a6000"),
    (&["RTX 3090"], &["Ti"], "rtx-3090"),
    (&["RTX 4090"], &["Laptop", " D"], "rtx-4090"),
    (&["L40S"], &[], "l40s"),
    (&["NVIDIA L4"], &["L40"], "l4"),
    (&["A100", "80GB", "PCIe"], &[], "a100-80-pcie"),
    (&["A100", "SXM", "80GB"], &[], "a100-80-sxm"),
    (&["A100", "PCIE", "40GB"], &[], "a100-40-pcie"),
    (&["A100", "SXM", "40GB"], &[], "a100-40-sxm"),
    (&["GH200", "144G"], &[], "gh200-144"),
    (&["GH200"], &["144G"], "gh200-96"),
    (&["H100", "PCIe"], &[], "h100-pcie"),
    (&["H100", "80GB HBM3"], &[], "h100-sxm"),
    (&["H100", "SXM"], &[], "h100-sxm"),
    (&["H200", "NVL"], &[], ""),
    (&["H200"], &[], "h200-sxm"),
    (&["GB200"], &[], ""),
    (&["B200"], &[], "b200"),
];

/// The simulator's name of the GPU, and its figures.
pub(super) fn of(device: &str) -> Option<(&'static str, Datasheet)> {
    let holds = |word: &&str| device.contains(*word);
    let (_, _, name) =
        NAMES.iter().find(|(all, none, _)| all.iter().all(holds) && !none.iter().any(holds))?;
    let datasheet = preset(&format!("roofline:{name}"))?.compute.datasheet?;
    Some((name, datasheet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_names_find_their_row_and_others_none() {
        let known = [
            ("NVIDIA H200", "h200-sxm"),
            ("NVIDIA H100 80GB HBM3", "h100-sxm"),
            ("NVIDIA H100 PCIe", "h100-pcie"),
            ("NVIDIA A100-SXM4-80GB", "a100-80-sxm"),
            ("NVIDIA A100 80GB PCIe", "a100-80-pcie"),
            ("NVIDIA A100-PCIE-40GB", "a100-40-pcie"),
            ("NVIDIA A100-SXM4-40GB", "a100-40-sxm"),
            ("NVIDIA GH200 480GB", "gh200-96"),
            ("NVIDIA GH200 144G HBM3e", "gh200-144"),
            ("NVIDIA RTX A6000", "rtx-a6000"),
            ("NVIDIA GeForce RTX 4090", "rtx-4090"),
            ("NVIDIA L4", "l4"),
            ("NVIDIA L40S", "l40s"),
            ("NVIDIA B200", "b200"),
        ];
        for (device, name) in known {
            assert_eq!(of(device).map(|(found, _)| found), Some(name), "{device}");
        }
        for other in ["NVIDIA H200 NVL", "NVIDIA L40", "NVIDIA GB200", "NVIDIA T4", "AMD EPYC 7763", ""] {
            assert_eq!(of(other).map(|(found, _)| found), None, "{other}");
        }
        assert_eq!(of("NVIDIA H200").map(|(_, sheet)| sheet.bf16_flops_per_s.get()), Some(989e12));
    }
}
