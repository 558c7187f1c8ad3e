//! What to simulate: a scenario file and the overrides of the command line, read, checked and resolved.
//!
//! A [`Scenario`] is plain data: the configs that other modules own, and the names of files and presets that the
//! runner resolves. Reading it checks every key, unit and range, and says where each value was written. It knows
//! no trace, profile or policy by content: [`Scenario::refuse`] gives those who resolve them the same messages.
//!
//! Sections are those of design §2.2: switches of §3 stand in `[engine]`, those of §4 in `[planner]`, and the
//! hardware's own numbers (`link`, `gpu_kv`) at the top.

mod document;
mod error;
mod grid;
mod key_table;
mod keys;
pub mod quantity;
mod read;
mod schema;
mod section;
mod switches;
mod template;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::cost::LinkIntercept;
pub use error::{BadValue, Place, ScenarioError};
pub use grid::{Grid, GridPoint};
pub use keys::{AxisNumber, axis_number, did_you_mean};
pub use schema::{json_schema, sweep_json_schema};
pub use template::{TraceFacts, template};

use crate::model::{ModelSpec, TensorParallel};
use crate::planner::PlannerSwitches;
use crate::server::ServerSwitches;
use crate::trace::generate::PaperRecipe;
use crate::units::{Bytes, BytesPerSec, SimDuration};

/// The two named sets of all switches (design §3.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Semantics {
    /// As the system was published.
    Published,
    /// As a server can do it.
    #[default]
    Physical,
}

impl Semantics {
    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Semantics::Published => "published",
            Semantics::Physical => "physical",
        }
    }

    /// Its switches of §3.
    pub const fn engine(self) -> ServerSwitches {
        match self {
            Semantics::Published => ServerSwitches::PUBLISHED,
            Semantics::Physical => ServerSwitches::PHYSICAL,
        }
    }

    /// Its switches of §4.
    pub const fn planner(self) -> PlannerSwitches {
        match self {
            Semantics::Published => PlannerSwitches::PUBLISHED,
            Semantics::Physical => PlannerSwitches::PHYSICAL,
        }
    }
}

/// Something named by a preset or read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A name.
    Preset(String),
    /// A path, already relative to the working directory.
    File(PathBuf),
}

impl Source {
    /// The name, or the path, as a command line would give it.
    pub fn argument(&self) -> String {
        match self {
            Source::Preset(name) => name.clone(),
            Source::File(path) => path.display().to_string(),
        }
    }
}

/// Type of the elements of the KV cache, in the words of vLLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvCacheType {
    /// 16 bits.
    Bf16,
    /// 8 bits; their scales, a few numbers per layer, are left out.
    Fp8,
    /// 32 bits.
    Fp32,
}

impl KvCacheType {
    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            KvCacheType::Bf16 => "bf16",
            KvCacheType::Fp8 => "fp8",
            KvCacheType::Fp32 => "fp32",
        }
    }

    /// Bytes of one element.
    pub const fn element_bytes(self) -> u32 {
        match self {
            KvCacheType::Fp8 => 1,
            KvCacheType::Bf16 => 2,
            KvCacheType::Fp32 => 4,
        }
    }
}

/// Size of the GPU pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuKv {
    /// Blocks per layer if every layer is resident: the pool holds this times L layer-blocks.
    BlocksPerLayer(u64),
    /// Bytes.
    Bytes(Bytes),
}

/// One policy to run.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySpec {
    /// Name in the registry.
    pub use_: String,
    /// Unique key in results: `use_` unless given.
    pub key: String,
    /// Name in plots, if not the registry's.
    pub label: Option<String>,
    /// The switches of §4 with this policy's own values in. A variant (`orbitflow-no-pause`) still applies its own.
    pub planner: PlannerSwitches,
}

/// Where the trace comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum TraceSource {
    /// The file, already relative to the working directory; `-` is stdin.
    File(PathBuf),
    /// Drawn in the process with the scenario's seed: what `orbitflow trace generate --recipe paper` writes.
    Draw(PaperRecipe),
}

/// What arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSpec {
    /// Where from.
    pub source: TraceSource,
    /// Name of the format; absent: recognised by content.
    pub format: Option<String>,
    /// Load factor f of design §2.2.
    pub load: f64,
    /// Only the first so many requests.
    pub limit: Option<u64>,
    /// Only requests with at least so long a prompt.
    pub min_prompt_tokens: Option<u64>,
    /// Longest context in tokens.
    pub max_context: Option<u64>,
    /// Turns arrivals in decode steps into seconds.
    pub step_time: Option<SimDuration>,
    /// Arrival process for traces that have only lengths, as the trace reader spells it.
    pub arrivals: Option<String>,
}

/// What is promised per token.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenSlo {
    /// These times the base SLO (design §6), all different; the first is planned for.
    Scale(Vec<f64>),
    /// This long.
    Absolute(SimDuration),
}

/// What is promised.
#[derive(Clone, Debug, PartialEq)]
pub struct SloSpec {
    /// Per token.
    pub per_token: TokenSlo,
    /// To the first token.
    pub ttft: Option<SimDuration>,
}

/// A prefill cost that wins over the profile's: `base + per_token · Σ prompt tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefillSpec {
    /// Per prefill step.
    pub base: SimDuration,
    /// Per prompt token.
    pub per_token: SimDuration,
}

/// A scenario, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// File name as given, `-` for stdin.
    pub name: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// The preset of the switches.
    pub semantics: Semantics,
    /// The model, with the KV elements of [`Self::kv_cache_type`].
    pub model: ModelSpec,
    /// What the model's file says and is simulated otherwise, one line each.
    pub model_notes: Vec<String>,
    /// Elements of the KV cache, if they are not the model's own.
    pub kv_cache_type: Option<KvCacheType>,
    /// Where the model came from.
    pub model_source: Source,
    /// The true hardware.
    pub hardware: Source,
    /// The hardware planners believe in; `None` is the true one.
    pub planner_profile: Option<Source>,
    /// Replaces the rate of the true link in both directions, and the believed one unless `planner_profile` is set.
    pub link: Option<BytesPerSec>,
    /// Most live requests; `None`: an authors' trace says it.
    pub batch_size: Option<u32>,
    /// GPU pool; `None`: an authors' trace says it, or memory − weights − activations.
    pub gpu_kv: Option<GpuKv>,
    /// Host memory for KV; `None` is unbounded.
    pub host_kv: Option<Bytes>,
    /// At least one, with different keys.
    pub policies: Vec<PolicySpec>,
    /// Requests that arrive before it are left out of the scores.
    pub warmup: SimDuration,
    /// What arrives.
    pub trace: TraceSpec,
    /// What is promised.
    pub slo: SloSpec,
    /// `None`: the profile's.
    pub prefill: Option<PrefillSpec>,
    /// Switches of §3 after overrides.
    pub engine: ServerSwitches,
    /// Link fits' constant.
    pub link_intercept: LinkIntercept,
    /// Whether the profile's contention factors count.
    pub contention: bool,
    /// The GPUs that split the model.
    pub parallel: TensorParallel,
    /// Switches of §4 after overrides.
    pub planner: PlannerSwitches,
    /// Where each key was written, and its value as written.
    written: BTreeMap<String, (Place, String)>,
}

impl Scenario {
    /// Reads a scenario file, `-` for stdin, and applies `--set` overrides (`KEY=VALUE`) in their order. A grid is
    /// taken if the overrides leave one point of it.
    ///
    /// # Errors
    /// Everything that [`ScenarioError`] lists.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Scenario, ScenarioError> {
        let (text, name, base) = Scenario::read_text(path)?;
        Scenario::parse(&text, &name, &base, overrides)
    }

    /// The text of a scenario file, its name in messages, and the folder its paths start from.
    fn read_text(path: &Path) -> Result<(String, String, PathBuf), ScenarioError> {
        let stdin = path == Path::new("-");
        let mut bytes = Vec::new();
        let read = if stdin {
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
        } else {
            std::fs::read(path).map(|content| bytes = content)
        };
        read.map_err(|cause| {
            let hint = "`orbitflow init > my.toml` prints a scenario that runs";
            let hint = (cause.kind() == std::io::ErrorKind::NotFound).then(|| hint.to_owned());
            ScenarioError::Unreadable { path: path.to_owned(), cause, hint }
        })?;
        let name = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|error| ScenarioError::Syntax {
            place: Place::File(name.clone()),
            message: format!("not UTF-8 from byte {}", error.utf8_error().valid_up_to()),
        })?;
        let base = if stdin { None } else { path.parent() };
        Ok((text, name, base.unwrap_or(Path::new("")).to_owned()))
    }

    /// Reads a scenario's text. `name` stands in messages and results, relative paths start at `base`.
    ///
    /// # Errors
    /// All of [`Scenario::load`] but the file's own.
    pub fn parse(
        text: &str,
        name: &str,
        base: &Path,
        overrides: &[String],
    ) -> Result<Scenario, ScenarioError> {
        Grid::parse(text, name, base, overrides)?.only()
    }

    /// The error for a key whose value turned out wrong when it was resolved: a preset, format or policy that does
    /// not exist. `problem` reads `expected …`.
    pub fn refuse(&self, key: &str, problem: impl Into<String>, hint: Option<String>) -> ScenarioError {
        let absent = || (Place::File(self.name.clone()), "absent".to_owned());
        let (place, value) = self.written.get(key).cloned().unwrap_or_else(absent);
        ScenarioError::from(BadValue { place, key: key.to_owned(), value, problem: problem.into(), hint })
    }

    /// The key of [`Scenario::refuse`] for the name of the `index`-th policy.
    pub fn policy_key(&self, index: usize) -> String {
        let table = format!("policies[{index}].use");
        if self.written.contains_key(&table) { table } else { format!("policies[{index}]") }
    }

    /// Every switch that differs from the preset of the semantics, `section.key` to its value; what a policy
    /// has of its own as `policies.KEY.switch`.
    pub fn off_preset(&self) -> BTreeMap<String, String> {
        switches::off_preset(self)
    }

    /// Everything that determines the results apart from the contents of trace, profiles and a model file, as
    /// `key = value` lines in a stable order: the runner hashes it with those contents.
    pub fn digest_input(&self) -> String {
        switches::digest_input(self)
    }
}
