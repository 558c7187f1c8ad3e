//! An [`Instance`] as a file: the JSON of `orbitflow plan` and of the known answers (`tests/golden/README.md`).
//!
//! Keys the reader does not know are errors. Every number is checked here, at the edge.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{DEFAULT_NODE_CAP, Forecast, Instance, PlacementSpace, PlanRequest, StepModel};
use crate::ids::Layer;
use crate::model::{LayerSet, TensorParallel};
use crate::pipeline::CopyOrder;

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceFile {
    /// Layers L, 1 … 128.
    pub layers: u32,
    /// Compute time of one layer, seconds.
    pub layer_compute_s: f64,
    /// The host→device link.
    pub link: LinkFile,
    /// Layer-blocks that placements may use, headroom already off.
    pub capacity_layer_blocks: u64,
    /// Most `Σ_r max(0, 1 − SLO_r/t − deposit_r/W)`.
    pub failure_budget: f64,
    /// Tokens W the plan is made for.
    pub window: u64,
    /// The batch, in admission order.
    pub requests: Vec<RequestFile>,
    /// One common distance, or set of layers, for all.
    #[serde(default)]
    pub uniform: bool,
    /// Whether the copies that bring layers back count, spread over the window.
    #[serde(default)]
    pub migration_cost: bool,
    /// What is chosen per request.
    #[serde(default)]
    pub placement_space: PlacementSpace,
    /// The model of a step.
    #[serde(default)]
    pub forecast: Forecast,
    /// Staging slots per request, 1 to 128: what the pipeline forecast reckons with.
    #[serde(default = "one")]
    pub slots: u32,
    /// Which copy goes first in the pipeline forecast.
    #[serde(default)]
    pub copy_order: CopyOrder,
    /// Blocks per resident layer that the window adds to every request.
    #[serde(default)]
    pub growth_blocks: u64,
    /// Staging slots charged to every request with an offloaded layer.
    #[serde(default)]
    pub staging_slots: u64,
    /// GPUs that split every layer and every copy evenly, 1 to 128; `layer_compute_s` and `link` are those of one GPU.
    #[serde(default = "one")]
    pub tensor_parallel: u32,
    /// Whether they share one link instead of one each.
    #[serde(default)]
    pub shared_link: bool,
    /// What each layer takes for all-reduces, in seconds; 0 on one GPU.
    #[serde(default)]
    pub all_reduce_s: f64,
}

/// The link of an [`InstanceFile`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFile {
    /// Blocks of one layer per second.
    pub blocks_per_s: f64,
    /// Seconds per copy.
    pub latency_s: f64,
}

/// A request of an [`InstanceFile`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestFile {
    /// Name, unique.
    pub id: String,
    /// Blocks per layer.
    pub blocks: u64,
    /// Seconds per token promised.
    pub slo_s: f64,
    /// Tokens made ahead of the promise.
    pub deposit: u64,
    /// Layers on the GPU now; absent: neither changes nor restores are counted for this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_layers: Option<Vec<u32>>,
}

/// A value in an [`InstanceFile`] that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{key}`: {value}: expected {expected}")]
pub struct BadValue {
    /// The key, with its path.
    pub key: String,
    /// What stood there.
    pub value: String,
    /// What may stand there.
    pub expected: String,
}

/// Most blocks per layer of a request, and most of a capacity per layer: far above any GPU, far below overflow.
const MOST_BLOCKS: u64 = 1_000_000_000;
/// Longest time of one thing, seconds.
const LONGEST_S: f64 = 86_400.0;
/// Most requests in a batch.
const MOST_REQUESTS: u64 = 4096;

impl InstanceFile {
    /// The GPUs and their links.
    pub fn parallel(&self) -> TensorParallel {
        TensorParallel { gpus: self.tensor_parallel, shared_link: self.shared_link }
    }

    /// Compute time of one layer on all GPUs, in seconds: each has its share, then they sum what they have.
    pub fn layer_s(&self) -> f64 {
        self.parallel().share(self.layer_compute_s) + self.all_reduce_s
    }

    /// Layer-blocks per second over all links: a copy is one share per GPU, at once.
    pub fn blocks_per_s(&self) -> f64 {
        self.parallel().over_links(self.link.blocks_per_s)
    }
}

impl TryFrom<&InstanceFile> for Instance {
    type Error = BadValue;

    fn try_from(file: &InstanceFile) -> Result<Self, BadValue> {
        whole("layers", u64::from(file.layers), 1, u64::from(Layer::MAX))?;
        positive("layer_compute_s", file.layer_compute_s, LONGEST_S)?;
        number("link.blocks_per_s", file.link.blocks_per_s, 1.0, 1e15)?;
        number("link.latency_s", file.link.latency_s, 0.0, LONGEST_S)?;
        whole("tensor_parallel", u64::from(file.tensor_parallel), 1, u64::from(TensorParallel::MOST))?;
        number("all_reduce_s", file.all_reduce_s, 0.0, LONGEST_S)?;
        if file.parallel().is_none() && file.all_reduce_s > 0.0 {
            let expected = "0 on one GPU, or `tensor_parallel` above 1".to_owned();
            return Err(bad("all_reduce_s", file.all_reduce_s.to_string(), expected));
        }
        let most_capacity = u64::from(Layer::MAX) * MOST_REQUESTS * MOST_BLOCKS;
        whole("capacity_layer_blocks", file.capacity_layer_blocks, 0, most_capacity)?;
        number("failure_budget", file.failure_budget, 0.0, 1e6)?;
        whole("window", file.window, 1, MOST_BLOCKS)?;
        whole("growth_blocks", file.growth_blocks, 0, MOST_BLOCKS)?;
        whole("slots", u64::from(file.slots), 1, u64::from(Layer::MAX))?;
        whole("staging_slots", file.staging_slots, 0, u64::from(Layer::MAX))?;
        if !(1..=MOST_REQUESTS as usize).contains(&file.requests.len()) {
            let expected = format!("1 to {MOST_REQUESTS} requests");
            return Err(bad("requests", format!("{} of them", file.requests.len()), expected));
        }
        let mut ids = BTreeSet::new();
        let mut requests = Vec::with_capacity(file.requests.len());
        for (index, request) in file.requests.iter().enumerate() {
            if request.id.is_empty() || !ids.insert(&request.id) {
                let key = format!("requests[{index}].id");
                return Err(bad(
                    key,
                    format!("\"{}\"", request.id),
                    "a name that no other request has".into(),
                ));
            }
            requests.push(request.checked(&format!("requests[{index}]"), file)?);
        }
        if file.migration_cost && requests.iter().all(|request| request.resident_layers.is_none()) {
            let expected = "`resident_layers` of some request: what comes back is counted against them";
            return Err(bad("migration_cost", "true".to_owned(), expected.to_owned()));
        }
        Ok(Instance {
            layers: file.layers,
            layer_compute_s: file.layer_s(),
            block_copy_s: 1.0 / file.blocks_per_s(),
            copy_latency_s: file.link.latency_s,
            intercept_s: 0.0,
            tail_s: 0.0,
            capacity: file.capacity_layer_blocks,
            failure_budget: file.failure_budget,
            window: file.window,
            space: file.placement_space,
            model: StepModel::of(file.forecast, file.slots, file.copy_order),
            uniform: file.uniform,
            migration_cost: file.migration_cost,
            staging_slots: file.staging_slots,
            node_cap: DEFAULT_NODE_CAP,
            requests,
        })
    }
}

impl RequestFile {
    fn checked(&self, path: &str, file: &InstanceFile) -> Result<PlanRequest, BadValue> {
        whole(&format!("{path}.blocks"), self.blocks, 1, MOST_BLOCKS)?;
        positive(&format!("{path}.slo_s"), self.slo_s, LONGEST_S)?;
        whole(&format!("{path}.deposit"), self.deposit, 0, MOST_BLOCKS)?;
        let resident_layers = match &self.resident_layers {
            Some(layers) => Some(layer_set(&format!("{path}.resident_layers"), layers, file.layers)?),
            None => None,
        };
        Ok(PlanRequest {
            id: self.id.clone(),
            blocks: self.blocks,
            growth_blocks: file.growth_blocks,
            slo_s: self.slo_s,
            deposit: self.deposit,
            resident_layers,
        })
    }
}

fn one() -> u32 {
    1
}

fn layer_set(path: &str, layers: &[u32], most: u32) -> Result<LayerSet, BadValue> {
    let mut set = LayerSet::EMPTY;
    for (index, &layer) in layers.iter().enumerate() {
        if !(1..=most).contains(&layer) || set.contains(Layer(layer)) {
            let expected = format!("layers from 1 to {most}, each once");
            return Err(bad(format!("{path}[{index}]"), layer.to_string(), expected));
        }
        set.insert(Layer(layer));
    }
    Ok(set)
}

fn whole(key: &str, value: u64, least: u64, most: u64) -> Result<(), BadValue> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(bad(key, value.to_string(), format!("a whole number from {least} to {most}")))
}

fn number(key: &str, value: f64, least: f64, most: f64) -> Result<(), BadValue> {
    // NaN is in no range
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(bad(key, value.to_string(), format!("a number from {least} to {most:e}")))
}

fn positive(key: &str, value: f64, most: f64) -> Result<(), BadValue> {
    if value >= 1e-12 && value <= most {
        return Ok(());
    }
    Err(bad(key, value.to_string(), format!("a number above 0 (1e-12 s or more), at most {most}")))
}

fn bad(key: impl Into<String>, value: String, expected: String) -> BadValue {
    BadValue { key: key.into(), value, expected }
}
