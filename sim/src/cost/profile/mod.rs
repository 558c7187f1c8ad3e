//! The hardware profile: what is known of one server's GPU, link and model shapes, and how it is known.
//!
//! One JSON layout, one Rust type, for both programs: `gpu-validate` writes it, `orbitflow` reads it
//! (`gpu-measurement.md` §4.4, with `kind` on top and `prefill` added). Units stand in the field names. What is
//! not known is null, and [`HardwareProfile::missing`] says why; it is never 0, which [`Positive`] refuses.
//! Knows nothing about files, models by name, or what a number will be used for.

mod positive;
mod validation;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use positive::{BadNumber, Positive};
pub use validation::{
    Check, Drift, HeldOut, MeasuredStep, PredictedStep, Validation, ValidationCase, ValidationSummary,
};

/// Value of [`HardwareProfile::schema`].
pub const SCHEMA: &str = "gpu-validate/hardware-profile";
/// Value of [`HardwareProfile::schema_version`].
pub const SCHEMA_VERSION: u32 = 1;

/// How the numbers of a profile came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileKind {
    /// Measured on the GPU it names, by `gpu-validate`.
    Measured,
    /// Fitted by others to step times of a serving engine.
    EngineFit,
    /// From the maker's datasheet.
    Datasheet,
    /// Measured without a GPU, on a CPU that plays one: says nothing about any GPU.
    HostEmulation,
}

impl ProfileKind {
    /// The word used in files.
    pub const fn key(self) -> &'static str {
        match self {
            ProfileKind::Measured => "measured",
            ProfileKind::EngineFit => "engine-fit",
            ProfileKind::Datasheet => "datasheet",
            ProfileKind::HostEmulation => "host-emulation",
        }
    }
}

/// What is known of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HardwareProfile {
    /// Always `gpu-validate/hardware-profile`.
    pub schema: String,
    /// Always 1.
    pub schema_version: u32,
    /// How the numbers came to be.
    pub kind: ProfileKind,
    /// What ran the measurement: `cuda` or `host`.
    pub backend: Option<String>,
    /// Where the numbers are from.
    pub provenance: Provenance,
    /// The GPU, or the GPUs taken as one.
    pub device: Device,
    /// The link between host and GPU memory.
    pub link: Link,
    /// GPU memory rates.
    pub hbm: Option<Hbm>,
    /// Decode step times.
    pub compute: Compute,
    /// Prefill times.
    pub prefill: Option<Prefill>,
    /// How much copies and compute slow each other.
    pub contention: Option<Contention>,
    /// Predicted against measured step times.
    pub validation: Option<Validation>,
    /// Correctness checks of the run that measured.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// How far repeated anchors moved during the run.
    pub drift: Option<Drift>,
    /// Why a null is null: key path (`link.h2d.latency_s`, `compute.model_shapes[0].attn`) → reason. A reason
    /// for a section covers every null in it.
    #[serde(default)]
    pub missing: BTreeMap<String, String>,
}

impl HardwareProfile {
    /// A profile that says nothing yet but what it is, for which GPU, and how fast the link is.
    pub fn new(kind: ProfileKind, summary: &str, device: &str, h2d_bytes_per_s: Positive) -> Self {
        HardwareProfile {
            schema: SCHEMA.to_owned(),
            schema_version: SCHEMA_VERSION,
            kind,
            backend: None,
            provenance: Provenance { summary: summary.to_owned(), ..Provenance::default() },
            device: Device::named(device),
            link: Link {
                h2d: LinkDirection::of_rate(h2d_bytes_per_s),
                d2h: None,
                bidir: None,
                pageable: None,
                curves: None,
                link_intercept_s: None,
            },
            hbm: None,
            compute: Compute::default(),
            prefill: None,
            contention: None,
            validation: None,
            checks: Vec::new(),
            drift: None,
            missing: BTreeMap::new(),
        }
    }

    /// Says why everything at or under the key path `path` that is null is null.
    pub fn say_missing(&mut self, path: &str, reason: &str) {
        self.missing.insert(path.to_owned(), reason.to_owned());
    }

    /// The reason given for a null at `path`: its own, or that of the nearest section around it.
    pub fn reason_for(&self, path: &str) -> Option<&str> {
        let mut section = path;
        loop {
            if let Some(reason) = self.missing.get(section) {
                return Some(reason);
            }
            section = &section[..section.rfind(['.', '['])?];
        }
    }

    /// Whether its numbers may be called measured: its kind says so, it was checked, and every check passed.
    pub fn is_measured(&self) -> bool {
        self.kind == ProfileKind::Measured
            && !self.checks.is_empty()
            && self.checks.iter().all(|check| check.pass)
    }

    /// What a report calls numbers taken from this profile.
    pub fn standing(&self) -> &'static str {
        match self.kind {
            ProfileKind::Measured if self.is_measured() => "measured",
            ProfileKind::Measured => "unconfirmed (the measuring run's checks did not all pass)",
            ProfileKind::EngineFit => "published fit to a serving engine",
            ProfileKind::Datasheet => "datasheet",
            ProfileKind::HostEmulation => "host emulation (says nothing about any GPU)",
        }
    }
}

/// Where the numbers are from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// One or two sentences for people: what was measured or taken from where.
    pub summary: String,
    /// Version of the program that measured.
    pub tool_version: Option<String>,
    /// Its git commit.
    pub git_commit: Option<String>,
    /// When, RFC 3339 in UTC.
    pub utc: Option<String>,
    /// Seconds the measurement took.
    pub duration_s: Option<Positive>,
    /// Seed of its random data.
    pub seed: Option<u64>,
    /// Its command line.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Groups of experiments that were dropped for lack of time.
    #[serde(default)]
    pub dropped_groups: Vec<String>,
    /// The machine around the GPU.
    pub host: Option<Host>,
}

/// The machine around the GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// CPU model.
    pub cpu: Option<String>,
    /// CPU cores.
    pub cores: Option<NonZeroU32>,
    /// Memory, GiB.
    pub mem_gib: Option<Positive>,
    /// Kernel version.
    pub kernel: Option<String>,
    /// Hypervisor, if one is visible.
    pub hypervisor: Option<String>,
    /// NUMA node of the GPU; −1 as the kernel reports it when there is none.
    pub numa_node: Option<i32>,
    /// Huge page setting of the copied host memory.
    pub hugepages: Option<String>,
}

/// The GPU, or several GPUs whose numbers describe them together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Name, as the driver or the datasheet has it.
    pub name: String,
    /// GPUs that the numbers describe together.
    #[serde(default = "one")]
    pub count: NonZeroU32,
    /// Unique id.
    pub uuid: Option<String>,
    /// Compute capability, for example `9.0`.
    pub sm: Option<String>,
    /// Multiprocessors.
    pub sm_count: Option<NonZeroU32>,
    /// Level-2 cache.
    pub l2_bytes: Option<NonZeroU64>,
    /// Memory of all `count` GPUs.
    pub mem_bytes: Option<NonZeroU64>,
    /// Driver version.
    pub driver: Option<String>,
    /// CUDA version of the driver interface, for example 13000.
    pub cuda_driver_api: Option<u32>,
    /// NVRTC version.
    pub nvrtc: Option<String>,
    /// cuBLAS version.
    pub cublas: Option<String>,
    /// Whether memory is error-corrected.
    pub ecc: Option<bool>,
    /// Whether the GPU is partitioned.
    pub mig: Option<bool>,
    /// The PCIe link.
    pub pcie: Option<Pcie>,
    /// Clocks, power and temperature during the run.
    #[serde(default)]
    pub samples: Vec<DeviceSample>,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl Device {
    /// One GPU of which nothing but the name is known.
    pub fn named(name: &str) -> Self {
        Device {
            name: name.to_owned(),
            count: one(),
            uuid: None,
            sm: None,
            sm_count: None,
            l2_bytes: None,
            mem_bytes: None,
            driver: None,
            cuda_driver_api: None,
            nvrtc: None,
            cublas: None,
            ecc: None,
            mig: None,
            pcie: None,
            samples: Vec::new(),
        }
    }
}

/// The PCIe link, read under load (an idle link clocks down).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pcie {
    /// Generation under load.
    pub gen_cur_loaded: Option<NonZeroU32>,
    /// Lanes in use.
    pub width_cur: Option<NonZeroU32>,
    /// Highest generation.
    pub gen_max: Option<NonZeroU32>,
    /// Most lanes.
    pub width_max: Option<NonZeroU32>,
    /// Packets sent again during the run; 0 is a count, not a gap.
    pub replays_delta: Option<u64>,
}

/// Clocks, power and temperature at one moment of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSample {
    /// Seconds since the run's start.
    pub t_s: f64,
    /// Multiprocessor clock.
    pub sm_mhz: Option<NonZeroU32>,
    /// Memory clock.
    pub mem_mhz: Option<NonZeroU32>,
    /// Power.
    pub power_w: Option<Positive>,
    /// Temperature.
    pub temp_c: Option<f64>,
    /// NVML's throttle reasons; 0 is none.
    pub throttle_bits: Option<u64>,
}

/// The link between host and GPU memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Host to device.
    pub h2d: LinkDirection,
    /// Device to host; the simulator takes `h2d` where it is missing, and says so.
    pub d2h: Option<LinkDirection>,
    /// Rates with both directions busy, over the rates alone.
    pub bidir: Option<Bidirectional>,
    /// Host to device from pageable memory.
    pub pageable: Option<LinkDirection>,
    /// File of the whole curves, beside the profile.
    pub curves: Option<String>,
    /// Constant of a whole-step fit, per step that copies: `B_comm − B_compute/L` (design §3.6).
    pub link_intercept_s: Option<Positive>,
}

/// One direction: `t = latency + max(n·submit, Σ max(engine, s/BW(s)))` over `n` pieces of sizes `s`, with
/// `BW(s)` = `bw_small` below the knee and `bw_inf` from it on (`gpu-measurement.md` §3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkDirection {
    /// How copies are submitted: `async`, `batch`, `batch+overlap`, `sm_gather`.
    pub api: Option<String>,
    /// Host memory: `pinned`, `pinned-wc`, `pageable`.
    pub mem: Option<String>,
    /// Rate of large pieces.
    pub bw_inf_bytes_per_s: Positive,
    /// Rate of pieces below the knee.
    pub bw_small_bytes_per_s: Option<Positive>,
    /// Size from which a piece moves at the large rate.
    pub knee_bytes: Option<NonZeroU64>,
    /// Time before the first byte of a copy; the simulator takes 0 where it is missing, and says so.
    pub latency_s: Option<Positive>,
    /// CPU time to submit one piece.
    pub submit_s_per_desc: Option<Positive>,
    /// Least time of the copy engine per piece.
    pub engine_s_per_desc: Option<Positive>,
    /// Size of the pieces in which the KV of one layer is copied; null: in one piece.
    pub descriptor_bytes: Option<NonZeroU64>,
    /// Quality of the fit.
    pub fit: Option<Fit>,
}

impl LinkDirection {
    /// A direction of which only the rate is known.
    pub fn of_rate(bytes_per_s: Positive) -> Self {
        LinkDirection {
            api: None,
            mem: None,
            bw_inf_bytes_per_s: bytes_per_s,
            bw_small_bytes_per_s: None,
            knee_bytes: None,
            latency_s: None,
            submit_s_per_desc: None,
            engine_s_per_desc: None,
            descriptor_bytes: None,
            fit: None,
        }
    }
}

/// Quality of a fit. Errors are shares: 0.05 is 5 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Share of the variance explained.
    pub r2: Option<f64>,
    /// Largest relative error.
    pub max_rel_err: Option<f64>,
    /// Median relative error.
    pub med_rel_err: Option<f64>,
    /// Relative error of a point left out of the fit.
    pub loo_rel_err: Option<f64>,
    /// Points.
    pub n: Option<NonZeroU32>,
    /// 95 % interval per coefficient: low, high.
    #[serde(default)]
    pub ci95: BTreeMap<String, [f64; 2]>,
}

/// Rates with both directions busy, over the rates alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bidirectional {
    /// Host to device.
    pub h2d_factor: Option<Positive>,
    /// Device to host.
    pub d2h_factor: Option<Positive>,
}

/// GPU memory rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hbm {
    /// Copy inside the GPU, bytes read plus bytes written.
    pub copy_rw_bytes_per_s: Option<Positive>,
    /// Reading only.
    pub read_bytes_per_s: Option<Positive>,
}

/// Decode step times, in up to three forms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// Measured tables, one per model shape.
    #[serde(default)]
    pub model_shapes: Vec<ModelShape>,
    /// A line fitted to the step times of one model on a serving engine.
    pub affine: Option<EngineFit>,
    /// The maker's figures.
    pub datasheet: Option<Datasheet>,
    /// Kernel launches.
    pub launch: Option<Launch>,
    /// Sampling and scheduling after the last layer, per decode step.
    pub tail_s: Option<Positive>,
}

/// Measured decode times of one model: per layer `w(B) + max(floor, c + kv_bytes(T)/bytes_per_s) + other`, per
/// step `lm_head(B) + fixed` (`gpu-measurement.md` §3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Name of the model.
    pub model: String,
    /// Layers of the model.
    pub layers: NonZeroU32,
    /// K and V of one token in one layer.
    pub kv_bytes_per_token_layer: NonZeroU64,
    /// Weights of one layer.
    pub weight_bytes_per_layer: NonZeroU64,
    /// Matrix multiplications of one layer, by requests in the batch.
    pub layer_weights_s_by_batch: BTreeMap<u32, Positive>,
    /// Output head, by requests in the batch.
    #[serde(default)]
    pub lm_head_s_by_batch: BTreeMap<u32, Positive>,
    /// Attention of one layer.
    pub attn: Attention,
    /// The rest of a layer: norms, rotary embedding, KV append, launch gaps.
    pub layer_other_s: Option<Positive>,
    /// The rest of a step.
    pub step_fixed_s: Option<Positive>,
    /// The whole step as a line in context tokens, to compare with published fits.
    pub affine: Option<AffineLine>,
}

/// Attention of one layer: a floor, then a line in bytes of KV read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Least time.
    pub floor_s: Option<Positive>,
    /// Constant of the line.
    pub c_s: Option<Positive>,
    /// Rate at which KV is read.
    pub bytes_per_s: Positive,
    /// Query heads per KV head.
    pub gqa: Option<NonZeroU32>,
    /// Quality of the fit.
    pub fit: Option<Fit>,
}

/// `A·T + B` over the context tokens of the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AffineLine {
    /// Seconds per context token.
    pub a_s_per_token: Positive,
    /// Seconds per step.
    pub b_s: Positive,
    /// Share of the variance explained.
    pub r2: Option<f64>,
}

/// `A·T + B` of one model on a serving engine; tied to that model's KV geometry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineFit {
    /// Model it was fitted with.
    pub model: String,
    /// Its layers.
    pub layers: NonZeroU32,
    /// K and V of one of its tokens, over all layers.
    pub kv_bytes_per_token: NonZeroU64,
    /// Seconds per context token.
    pub a_s_per_token: Positive,
    /// Seconds per step.
    pub b_s: Positive,
    /// Share of the variance explained.
    pub r2: Option<f64>,
}

/// The maker's figures, for all GPUs together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Datasheet {
    /// Memory rate.
    pub hbm_bytes_per_s: Positive,
    /// Dense bf16 tensor rate with fp32 accumulation.
    pub bf16_flops_per_s: Positive,
    /// Fixed time per decode step; the simulator takes 0 where it is missing, and says so.
    pub overhead_s: Option<Positive>,
    /// Memory size.
    pub memory_bytes: NonZeroU64,
}

/// Kernel launches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// CPU time of one launch on a stream.
    pub stream_s: Option<Positive>,
    /// GPU time between nodes of a graph.
    pub graph_node_s: Option<Positive>,
}

/// Prefill times, one entry per model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prefill {
    /// Times of one prompt alone, per model shape.
    pub model_shapes: Vec<PrefillShape>,
}

/// Prefill times of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefillShape {
    /// Name of the model.
    pub model: String,
    /// Layers of the model.
    pub layers: NonZeroU32,
    /// Weights of one layer.
    pub weight_bytes_per_layer: NonZeroU64,
    /// Seconds of one prompt, by its tokens; interpolated between, the first entry is the least.
    pub s_by_prompt_tokens: BTreeMap<u32, Positive>,
}

/// How much copies and compute slow each other: key `slowed|by`, for example `h2d|attn`; 1 is not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contention {
    /// Factors on compute times.
    #[serde(default)]
    pub compute_slowdown: BTreeMap<String, Positive>,
    /// Factors on copy times.
    #[serde(default)]
    pub copy_slowdown: BTreeMap<String, Positive>,
}
