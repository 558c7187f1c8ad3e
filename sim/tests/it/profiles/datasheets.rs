//! The datasheet presets against the table of `gpu-measurement.md` §2.7, and the KV capacity that follows from them.

use orbitflow_sim::cost::{ProfileKind, gpus, kv_capacity_layer_blocks, load};
use orbitflow_sim::model::{ModelSpec, TensorParallel};

use super::llama_8b;

/// Name; memory in GB (GiB as drivers report them), memory rate in GB/s, bf16 in TFLOP/s, link in GB/s.
const TABLE: [(&str, u64, f64, f64, f64); 16] = [
    ("rtx-a5000", 24, 768.0, 111.0, 31.5),
    ("rtx-a6000", 48, 768.0, 155.0, 31.5),
    ("rtx-3090", 24, 936.0, 71.0, 31.5),
    ("rtx-4090", 24, 1008.0, 165.0, 31.5),
    ("l4", 24, 300.0, 121.0, 31.5),
    ("l40s", 48, 864.0, 362.0, 31.5),
    ("a100-40-pcie", 40, 1555.0, 312.0, 31.5),
    ("a100-40-sxm", 40, 1555.0, 312.0, 31.5),
    ("a100-80-pcie", 80, 1935.0, 312.0, 31.5),
    ("a100-80-sxm", 80, 2039.0, 312.0, 31.5),
    ("h100-pcie", 80, 2039.0, 756.0, 63.0),
    ("h100-sxm", 80, 3350.0, 989.0, 63.0),
    ("h200-sxm", 141, 4800.0, 989.0, 63.0),
    ("gh200-96", 96, 4000.0, 990.0, 450.0),
    ("gh200-144", 144, 4900.0, 990.0, 450.0),
    ("b200", 180, 8000.0, 2250.0, 63.0),
];

#[test]
fn every_gpu_of_the_table_has_a_datasheet_profile_with_its_figures() {
    for (name, memory, hbm, tflops, link) in TABLE {
        let profile = load(&format!("roofline:{name}")).unwrap();
        assert_eq!((profile.kind, profile.device.count.get()), (ProfileKind::Datasheet, 1), "{name}");
        let datasheet = profile.compute.datasheet.as_ref().expect(name);
        assert_eq!(datasheet.memory_bytes.get(), memory << 30, "{name}");
        let rates = [datasheet.hbm_bytes_per_s.get() / 1e9, datasheet.bf16_flops_per_s.get() / 1e12];
        assert_eq!(rates, [hbm, tflops], "{name}");
        assert_eq!(profile.link.h2d.bw_inf_bytes_per_s.get() / 1e9, link, "{name}");
    }
    let listed: Vec<String> = gpus().into_iter().map(|gpu| gpu.name).collect();
    assert_eq!(listed, TABLE.map(|(name, ..)| name), "and no GPU is listed beside them");
}

fn capacity(profile: &str, model: &ModelSpec, gpus: u32) -> Result<u64, String> {
    let parallel = TensorParallel { gpus, shared_link: false };
    kv_capacity_layer_blocks(&load(profile).unwrap(), model, parallel).map_err(|error| error.to_string())
}

#[test]
fn capacity_by_hand_for_16_and_8_bit_kv_and_for_several_gpus() {
    let bf16 = llama_8b();
    let fp8 = ModelSpec { kv_element_bytes: 1, ..bf16.clone() };
    // 48 GiB = 51,539,607,552 B; less its tenth, 5,153,960,755 B: 46,385,646,797 B; less 2 · 8,030,261,248 B of weights:
    // 30,325,124,301 B; over 65,536 B: 462,724.67
    assert_eq!(capacity("roofline:rtx-a6000", &bf16, 1), Ok(462_724));
    // 32,768 B: 925,449.35; 16-bit weights all the same
    assert_eq!(capacity("roofline:rtx-a6000", &fp8, 1), Ok(925_449));
    // Two: 92,771,293,594 − 16,060,522,496 = 76,710,771,098 B, 1,170,513.47 blocks of both GPUs together
    assert_eq!(capacity("roofline:rtx-a6000", &bf16, 2), Ok(1_170_513));
}

#[test]
fn weights_that_do_not_fit_are_said_with_the_number_of_gpus_that_hold_them() {
    let model = |name| orbitflow_sim::model::preset(name).unwrap();
    // 70B: 141.1 GB of weights; an H100 of 80 GiB has 77.3 GB usable, two have 154.6
    let error = capacity("roofline:h100-sxm", &model("llama-3-70b"), 1).unwrap_err();
    assert!(
        error.contains("weights take 141107412992 B of 77309411328 B usable (85899345920 B less 10 %)"),
        "{error}"
    );
    assert!(error.contains("hint: `engine.tensor_parallel = 2` GPUs hold it"), "{error}");
    assert!(capacity("roofline:h100-sxm", &model("llama-3-70b"), 2).is_ok());
    // 405B: 811.7 GB; 8 H200 have 8 · 136.3 = 1090 GB, 4 have 545; 8 L4 have 185: nothing helps
    let error = capacity("roofline:h200-sxm", &model("llama-3.1-405b"), 4).unwrap_err();
    assert!(error.contains("(4 GPUs of 151397597184 B less 10 %)"), "{error}");
    assert!(error.contains("tensor_parallel = 8"), "{error}");
    let error = capacity("roofline:l4", &model("llama-3.1-405b"), 1).unwrap_err();
    assert!(error.contains("hint: take a smaller model"), "{error}");
}
