//! The server that is simulated: its sizes and the switches of its model (design §3.7), with their two named sets.
//!
//! Admission, write-through and copies across steps have pages of their own (`policy::admission`, `pipeline`). The others:
//!
//! * **Restores** (`restore`; design §3.5.4, facts A.3). A request whose `m_r` layers become resident copies each of them once,
//!   in a time `C_r`. Blocking: the step begins with `Σ_r m_r·C_r`. Lazy: they are copies of the next decode step
//!   like any other, within its slots, and stay. Worked (4 layers of 1 ms, 4 copies of 1 ms): blocking 4 + 4 = 8 ms; lazy
//!   with one slot 8 ms, with two 5 ms. Test: `restores_lengthen_the_step_when_blocking_and_overlap_compute_when_lazy`.
//! * **Planning time** (`planning`, `solver_time`; design §3.7). Of the modelled time `s` of a step's plans, and `p` the
//!   length of the step before, the step pays `s` when synchronous, `max(0, s − p)` ahead, nothing when free. Worked
//!   (p = 16 ms): 5 ms cost 5 synchronous and 0 ahead; 20 ms cost 4 ahead.
//!   Test: `solver_time_lengthens_the_step_when_synchronous_and_hides_behind_the_previous_one_when_ahead`.
//! * **Staging** (`charge_staging`, `slots`; design §3.4, facts A.4). A request of `b` blocks with any layer offloaded takes
//!   `(L − n)·b + slots·b` layer-blocks when staging is charged, `(L − n)·b` when not. Worked (L = 32): 300 blocks at
//!   distance 1 and two slots are 16·300 + 600 = 5,400.
//!   Test: `the_example_offloads_every_second_layer_of_the_longest_and_of_no_more_than_it_must`.
//! * **Noise** (`noise`; design §3.6). A step's compute and each copy take `exp(σ·z − σ²/2)` times as long, with
//!   `σ² = ln(1 + cv²)` and `z` a standard normal number drawn from (seed, step) and (seed, step, request, layer): mean 1,
//!   coefficient of variation `cv`, and the same whatever else was drawn. Worked: cv = 0.5 is σ² = 0.2231, z = 1 is 1.434.
//!   Test: `a_noise_factor_is_lognormal_of_mean_1_and_belongs_to_one_thing`.
//! * **Tail and link intercept** (design §3.4, §3.6; facts H). Each is added once per step, the intercept only where anything
//!   is copied. Worked (compute 4 ms, tail 3, intercept 10): 7 ms resident, 19 with two copies of 2 ms that stall it by
//!   2. Test: `tail_and_link_intercept_are_added_once_per_step`.

use std::fmt;
use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline::CopyOrder;
use crate::units::{Bytes, SimDuration};

/// Device→host write-through of new KV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteBack {
    /// Inside the compute time.
    Free,
    /// Real traffic on the device→host engine, behind the compute of its layer.
    Link,
}

/// How layers that become resident reach the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restore {
    /// Copied before the step, which they lengthen.
    Blocking,
    /// Fetched in the next decode step as if offloaded, and kept.
    Lazy,
}

/// What a newcomer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Blocks that are free now.
    Free,
    /// Also what running requests would give up at their densest placement.
    Reclaimable,
}

/// In which steps prompts are processed (design §3.5.3; `engine`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefill {
    /// In steps of their own, in which running requests wait.
    #[default]
    Separate,
    /// Beside the decodes of each step, up to so many prompt tokens in sum; `None`: all that there are.
    Chunked(Option<NonZeroU64>),
}

impl Prefill {
    /// Most prompt tokens that a step can be given: more than any prompt has.
    pub const MOST_TOKENS: u64 = 1_000_000_000_000;

    /// `separate`, `chunked:N` with N from 1 to [`Self::MOST_TOKENS`], or `chunked:inf`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "separate" {
            return Some(Prefill::Separate);
        }
        match text.strip_prefix("chunked:")? {
            "inf" => Some(Prefill::Chunked(None)),
            // `parse` alone would take a sign.
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let tokens = digits.parse().ok().filter(|tokens| *tokens <= Self::MOST_TOKENS)?;
                Some(Prefill::Chunked(Some(NonZeroU64::new(tokens)?)))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Prefill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Prefill::Separate => f.write_str("separate"),
            Prefill::Chunked(Some(tokens)) => write!(f, "chunked:{tokens}"),
            Prefill::Chunked(None) => f.write_str("chunked:inf"),
        }
    }
}

/// What a step pays for the planner's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Planning {
    /// All of it.
    Synchronous,
    /// Only what exceeds the previous step's length.
    Ahead,
    /// Nothing.
    Free,
}

/// The modelled time of one solve; never the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolverTime {
    /// The same for every solve.
    Fixed(SimDuration),
    /// By requests and candidates, as measured by `make bench` (`planner::solver_time`).
    Table,
}

/// Lognormal factors of mean 1 on the true times (design §3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// Coefficient of variation of a step's compute.
    pub compute_cv: f64,
    /// Coefficient of variation of a copy.
    pub copy_cv: f64,
}

/// Every switch of §3 that the engine reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerSwitches {
    /// Whether staging slots take room in the GPU pool.
    pub charge_staging: bool,
    /// Staging slots per request with an offloaded layer.
    pub slots: u32,
    /// Which copy goes first.
    pub copy_order: CopyOrder,
    /// Whether a request's first copy of the next step may start in this one (`pipeline::cross_step`).
    pub cross_step_prefetch: bool,
    /// Write-through.
    pub write_back: WriteBack,
    /// Restores.
    pub restore: Restore,
    /// Admission.
    pub admission: Admission,
    /// In which steps prompts are processed.
    pub prefill: Prefill,
    /// Who pays for planning.
    pub planning: Planning,
    /// Modelled time of a solve.
    pub solver_time: SolverTime,
    /// Whether new requests are admitted while one is paused.
    pub admit_past_paused: bool,
    /// Noise of the truth.
    pub noise: Noise,
}

impl ServerSwitches {
    /// The published semantics.
    pub const PUBLISHED: ServerSwitches = ServerSwitches {
        charge_staging: false,
        slots: 1,
        copy_order: CopyOrder::ReadyFirst,
        cross_step_prefetch: false,
        write_back: WriteBack::Free,
        restore: Restore::Blocking,
        admission: Admission::Free,
        prefill: Prefill::Separate,
        planning: Planning::Synchronous,
        solver_time: SolverTime::Fixed(SimDuration::ZERO),
        admit_past_paused: true,
        noise: Noise { compute_cv: 0.0, copy_cv: 0.0 },
    };

    /// The physical semantics (default).
    pub const PHYSICAL: ServerSwitches = ServerSwitches {
        charge_staging: true,
        slots: 2,
        copy_order: CopyOrder::ReadyFirst,
        cross_step_prefetch: false,
        write_back: WriteBack::Link,
        restore: Restore::Lazy,
        admission: Admission::Reclaimable,
        prefill: Prefill::Separate,
        planning: Planning::Ahead,
        solver_time: SolverTime::Table,
        admit_past_paused: true,
        noise: Noise { compute_cv: 0.0, copy_cv: 0.0 },
    };
}

/// One server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerConfig {
    /// Most live requests, running and paused.
    pub batch_size: u32,
    /// Layer-blocks of the GPU pool.
    pub gpu_blocks: u64,
    /// Host memory for KV; `None` is unbounded.
    pub host_kv: Option<Bytes>,
    /// Longest context, and the most prompt tokens in one step; `None` is no limit.
    pub max_context: Option<u64>,
    /// The switches.
    pub switches: ServerSwitches,
    /// Seed of noise and of random victims.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_to_prefill_is_read_as_it_is_shown_and_nothing_else_is_one() {
        for text in ["separate", "chunked:1", "chunked:512", "chunked:1000000000000", "chunked:inf"] {
            assert_eq!(Prefill::parse(text).map(|prefill| prefill.to_string()).as_deref(), Some(text));
        }
        let none = [
            "",
            "chunked",
            "chunked:",
            "chunked:0",
            "chunked:-1",
            "chunked:+1",
            "chunked:x",
            "chunked:1.5",
            "chunked: 1",
            "chunked:1e3",
            "chunked:INF",
            "chunked:nan",
            "Separate",
            "chunked:1000000000001",
            "chunked:99999999999999999999999",
        ];
        for text in none {
            assert_eq!(Prefill::parse(text), None, "{text}");
        }
    }
}
