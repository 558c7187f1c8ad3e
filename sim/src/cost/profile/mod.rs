//! The hardware profile: what is known of one server's GPU, link and model shapes, and how it is known.
//!
//! One JSON layout, one Rust type, for both programs: `gpu-validate` writes it, `orbitflow` reads it
//! (`gpu-measurement.md` §4.4, with `kind` on top and `prefill` added). Units stand in the field names. What is
//! not known is null, and [`HardwareProfile::missing`] says why; it is never 0, which [`Positive`] refuses.
//! Knows nothing about files, models by name, or what a number will be used for.

mod compute;
mod link;
mod positive;
mod validation;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compute::{
    AffineLine, Attention, Compute, Datasheet, EngineFit, Launch, ModelShape, Prefill, PrefillShape,
};
pub use link::{Bidirectional, CopyDirection, Fit, Link, LinkDirection, LinkFit};
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
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Always 1.
    #[schemars(range(min = SCHEMA_VERSION, max = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// How the numbers came to be.
    pub kind: ProfileKind,
    /// What ran the measurement: `cuda`, `host` or `virtual-time`.
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
    /// What several GPUs of this kind take to sum what each has; profiles of one GPU leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_reduce: Option<AllReduce>,
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
                fits: Vec::new(),
            },
            hbm: None,
            compute: Compute::default(),
            prefill: None,
            contention: None,
            all_reduce: None,
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

    /// Whether its numbers may be called measured: its kind says so, and of the checks that were not waived there is
    /// at least one and every one passed.
    pub fn is_measured(&self) -> bool {
        let mut real = self.checks.iter().filter(|check| !check.waived).peekable();
        self.kind == ProfileKind::Measured && real.peek().is_some() && real.all(|check| check.pass)
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

/// GPU memory rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hbm {
    /// Copy inside the GPU, bytes read plus bytes written.
    pub copy_rw_bytes_per_s: Option<Positive>,
    /// Reading only.
    pub read_bytes_per_s: Option<Positive>,
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

/// One all-reduce among the GPUs of a server: `latency_s + bytes / bytes_per_s`, `bytes` being what each GPU holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllReduce {
    /// GPUs it was measured among.
    pub gpus: NonZeroU32,
    /// Time of the smallest.
    pub latency_s: Positive,
    /// Bytes of one GPU's tensor per second, not bytes on the wire.
    pub bytes_per_s: Positive,
}
