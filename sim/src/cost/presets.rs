//! Profiles that need no measurement: published engine fits, and rooflines from datasheets.
//!
//! * `engine-fit:<gpu>`: the step-time lines that the published system was profiled with (facts H). Their link is
//!   the Communication slope alone: `KV bytes per token / A_comm`, latency 0. The constant
//!   `B_comm − B_compute/L` is kept as `link_intercept_s`; a scenario may add it per step.
//! * `roofline:<gpu>`: datasheet figures (`gpu-measurement.md` §2.7), theoretical rates throughout, so that all
//!   presets err to the same side. A datasheet's GB of memory are taken as GiB, which is what drivers report to
//!   within 1 %.

use std::num::{NonZeroU32, NonZeroU64};

use super::profile::{Datasheet, EngineFit, Fit, HardwareProfile, Positive, ProfileKind};

/// A name and one line about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresetInfo {
    /// What a scenario writes.
    pub name: String,
    /// What it is.
    pub description: String,
}

/// One row of `gpu-measurement.md` §2.7.
struct Gpu {
    name: &'static str,
    product: &'static str,
    memory_gib: u64,
    hbm_gb_per_s: f64,
    bf16_tflops: f64,
    /// Theoretical, one direction.
    link_gb_per_s: f64,
    /// One direction, seen or expected by others.
    typical_link: &'static str,
}

const fn gpu(
    name: &'static str,
    product: &'static str,
    memory_gib: u64,
    hbm_gb_per_s: f64,
    bf16_tflops: f64,
    link_gb_per_s: f64,
    typical_link: &'static str,
) -> Gpu {
    Gpu { name, product, memory_gib, hbm_gb_per_s, bf16_tflops, link_gb_per_s, typical_link }
}

const GPUS: [Gpu; 16] = [
    gpu("rtx-a5000", "RTX A5000", 24, 768.0, 111.0, 31.5, "24-26"),
    gpu("rtx-a6000", "RTX A6000", 48, 768.0, 155.0, 31.5, "24-26"),
    gpu("rtx-3090", "RTX 3090", 24, 936.0, 71.0, 31.5, "24-26"),
    gpu("rtx-4090", "RTX 4090", 24, 1008.0, 165.0, 31.5, "24-26"),
    gpu("l4", "L4", 24, 300.0, 121.0, 31.5, "22-25"),
    gpu("l40s", "L40S", 48, 864.0, 362.0, 31.5, "24-26"),
    gpu("a100-40-pcie", "A100 40 GB PCIe", 40, 1555.0, 312.0, 31.5, "24-26"),
    gpu("a100-40-sxm", "A100 40 GB SXM", 40, 1555.0, 312.0, 31.5, "24-26"),
    gpu("a100-80-pcie", "A100 80 GB PCIe", 80, 1935.0, 312.0, 31.5, "24-26"),
    gpu("a100-80-sxm", "A100 80 GB SXM", 80, 2039.0, 312.0, 31.5, "24-26"),
    gpu("h100-pcie", "H100 PCIe", 80, 2039.0, 756.0, 63.0, "50-56"),
    gpu("h100-sxm", "H100 SXM", 80, 3350.0, 989.0, 63.0, "50-56"),
    gpu("h200-sxm", "H200 SXM", 141, 4800.0, 989.0, 63.0, "50-56"),
    gpu("gh200-96", "GH200 96 GB, NVLink-C2C", 96, 4000.0, 990.0, 450.0, "300-375"),
    gpu("gh200-144", "GH200 144 GB, NVLink-C2C", 144, 4900.0, 990.0, 450.0, "300-375"),
    // The smaller of the two sizes sold (180 and 192 GB).
    gpu("b200", "B200", 180, 8000.0, 2250.0, 63.0, "50-57"),
];

/// One row of facts H.
struct Published {
    name: &'static str,
    /// File of the authors' repository, without its ending.
    file: &'static str,
    /// Row of [`GPUS`] that its datasheet figures are from.
    gpu: &'static str,
    count: u32,
    model: &'static str,
    layers: u32,
    kv_bytes_per_token: u64,
    /// "NoPrefetch", the resident step: A, B, R².
    compute: [f64; 3],
    /// "Communication", the step with every layer fetched: A, B, R².
    communication: [f64; 3],
}

const PUBLISHED: [Published; 4] = [
    Published {
        name: "engine-fit:a5000",
        file: "profiled_results_A5000",
        gpu: "rtx-a5000",
        count: 1,
        model: "llama-3-8b",
        layers: 32,
        kv_bytes_per_token: 131_072,
        compute: [9.63e-7, 4.95e-2, 0.6915],
        communication: [1.72e-5, 1.39e-2, 0.9804],
    },
    Published {
        name: "engine-fit:a6000",
        file: "profiled_results_A6000",
        gpu: "rtx-a6000",
        count: 1,
        model: "llama-3-8b",
        layers: 32,
        kv_bytes_per_token: 131_072,
        compute: [6.74e-7, 4.06e-2, 0.8078],
        communication: [1.87e-5, 1.06e-2, 0.9999],
    },
    // The authors do not say which A100; its datasheet figures are those of the 80 GB SXM part.
    Published {
        name: "engine-fit:a100",
        file: "profiled_results_A100_8B",
        gpu: "a100-80-sxm",
        count: 1,
        model: "llama-3-8b",
        layers: 32,
        kv_bytes_per_token: 131_072,
        compute: [8.89e-7, 4.83e-2, 0.9430],
        communication: [1.81e-5, 6.31e-2, 0.9991],
    },
    Published {
        name: "engine-fit:4xa6000-70b",
        file: "profiled_results_A6000_70B",
        gpu: "rtx-a6000",
        count: 4,
        model: "llama-3-70b",
        layers: 80,
        kv_bytes_per_token: 327_680,
        compute: [1.16e-6, 1.32e-1, 0.50],
        communication: [5.51e-5, 2.38e-2, 0.9982],
    },
];

/// Every preset with one line about it, engine fits first.
pub fn presets() -> Vec<PresetInfo> {
    let published = PUBLISHED.iter().map(|fit| PresetInfo {
        name: fit.name.to_owned(),
        description: format!(
            "published fit for {} on {}: link {:.2} GB/s effective",
            fit.model,
            product(fit),
            fit.link_bytes_per_s() / 1e9
        ),
    });
    let rooflines =
        gpus().into_iter().map(|gpu| PresetInfo { name: format!("roofline:{}", gpu.name), ..gpu });
    published.chain(rooflines).collect()
}

/// Every GPU of the datasheet table with its figures.
pub fn gpus() -> Vec<PresetInfo> {
    let line = |gpu: &Gpu| PresetInfo {
        name: gpu.name.to_owned(),
        description: format!(
            "{}: {} GiB, {} GB/s memory, {} TFLOP/s bf16, link {} GB/s (datasheet)",
            gpu.product, gpu.memory_gib, gpu.hbm_gb_per_s, gpu.bf16_tflops, gpu.link_gb_per_s
        ),
    };
    GPUS.iter().map(line).collect()
}

/// The profile of that name, for example `engine-fit:a6000` or `roofline:h100-sxm`.
pub fn preset(name: &str) -> Option<HardwareProfile> {
    if let Some(short) = name.strip_prefix("roofline:") {
        return GPUS.iter().find(|gpu| gpu.name == short).map(roofline);
    }
    PUBLISHED.iter().find(|fit| fit.name == name).map(engine_fit)
}

/// Names of the engine fits for a model of this geometry.
pub(super) fn engine_fits_for(layers: u32, kv_bytes_per_token: u64) -> Vec<&'static str> {
    let fits = |fit: &&Published| fit.layers == layers && fit.kv_bytes_per_token == kv_bytes_per_token;
    PUBLISHED.iter().filter(fits).map(|fit| fit.name).collect()
}

impl Published {
    fn link_bytes_per_s(&self) -> f64 {
        self.kv_bytes_per_token as f64 / self.communication[0]
    }

    /// `B_comm − B_compute/L`.
    fn link_intercept_s(&self) -> f64 {
        self.communication[1] - self.compute[1] / f64::from(self.layers)
    }

    fn gpu(&self) -> &'static Gpu {
        GPUS.iter()
            .find(|gpu| gpu.name == self.gpu)
            .expect("Invariant: every published fit names a tabled GPU")
    }
}

fn product(fit: &Published) -> String {
    let product = fit.gpu().product;
    if fit.count == 1 { product.to_owned() } else { format!("{} × {product}", fit.count) }
}

fn engine_fit(fit: &Published) -> HardwareProfile {
    let [a, b, r2] = fit.compute;
    let [a_comm, _, r2_comm] = fit.communication;
    let summary = format!(
        "Step-time lines of the published system ({}.json, vLLM 0.6 fork, {}): resident steps A = {a} s/token, \
         B = {b} s; the link is the slope of steps with every layer fetched, {a_comm} s/token, a whole-step slope \
         and not an isolated copy. Memory, prefill: datasheet of {}.",
        fit.file,
        fit.model,
        product(fit)
    );
    let rate = Positive::literal(fit.link_bytes_per_s());
    let mut profile = HardwareProfile::new(ProfileKind::EngineFit, &summary, &product(fit), rate);
    profile.device.count = NonZeroU32::new(fit.count).expect("Invariant: a published fit has a GPU");
    profile.link.h2d.fit = Some(Fit { r2: Some(r2_comm), ..Fit::default() });
    profile.link.link_intercept_s = Some(Positive::literal(fit.link_intercept_s()));
    profile.compute.affine = Some(EngineFit {
        model: fit.model.to_owned(),
        layers: NonZeroU32::new(fit.layers).expect("Invariant: a published fit has layers"),
        kv_bytes_per_token: NonZeroU64::new(fit.kv_bytes_per_token).expect("Invariant: KV has bytes"),
        a_s_per_token: Positive::literal(a),
        b_s: Positive::literal(b),
        r2: Some(r2),
    });
    profile.compute.datasheet = Some(datasheet(fit.gpu(), fit.count));
    say_nothing_was_run(&mut profile);
    profile.say_missing("link.h2d", "a whole-step slope tells neither a latency per copy nor a knee");
    profile.say_missing("compute.tail_s", "inside the fitted constant");
    profile
}

fn roofline(gpu: &Gpu) -> HardwareProfile {
    let summary = format!(
        "Datasheet figures of {}: theoretical memory, tensor (dense bf16) and link rates; on the link others saw or \
         expect {} GB/s. A floor for step times, not a forecast.",
        gpu.product, gpu.typical_link
    );
    let rate = Positive::literal(gpu.link_gb_per_s * 1e9);
    let mut profile = HardwareProfile::new(ProfileKind::Datasheet, &summary, gpu.product, rate);
    profile.compute.datasheet = Some(datasheet(gpu, 1));
    say_nothing_was_run(&mut profile);
    profile.say_missing("link.h2d", "datasheets give a rate only");
    profile.say_missing("link.link_intercept_s", "not a fit");
    profile.say_missing("compute.affine", "not a fit");
    profile.say_missing("compute.tail_s", "datasheets know no engine");
    profile
}

fn datasheet(gpu: &Gpu, count: u32) -> Datasheet {
    let all = f64::from(count);
    Datasheet {
        hbm_bytes_per_s: Positive::literal(all * gpu.hbm_gb_per_s * 1e9),
        bf16_flops_per_s: Positive::literal(all * gpu.bf16_tflops * 1e12),
        overhead_s: None,
        memory_bytes: NonZeroU64::new((u64::from(count) * gpu.memory_gib) << 30)
            .expect("Invariant: a GPU has memory"),
    }
}

fn say_nothing_was_run(profile: &mut HardwareProfile) {
    for section in ["backend", "provenance", "hbm", "compute.launch", "contention", "validation", "drift"] {
        profile.say_missing(section, "nothing was run for this preset");
    }
    profile.say_missing("device", "no single device was looked at");
    profile.say_missing("link.d2h", "not known apart from h2d");
    for section in ["link.bidir", "link.pageable", "link.curves"] {
        profile.say_missing(section, "nothing was run for this preset");
    }
    profile.say_missing("compute.datasheet.overhead_s", "datasheets know no engine");
    profile.say_missing("prefill", "not published; the tensor rate of the datasheet stands in");
}
