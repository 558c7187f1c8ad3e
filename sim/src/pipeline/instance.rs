//! One decode step as a file: the instance that `orbitflow step` reads. What it answers is a [`StepAnswer`].
//!
//! The keys are those of the known answers (`sim/tests/golden/README.md`). Sizes are in blocks and the link in
//! blocks per second, so nothing is said about a model or a GPU. Knows no files: it is handed text, and
//! whoever read it adds the name.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::answer::StepAnswer;
use super::{
    Contention, CopyOrder, CopyTimes, LayerTimes, StepRequest, StepWork, joined_layers, prefix_forecast,
    steady, timeline,
};
use crate::ids::Layer;
use crate::model::{Distance, LayerSet, Placement, TensorParallel};
use crate::units::{SimDuration, SimTime};

/// The longest step that is simulated, a little below the 213 days that time can hold.
const LONGEST_STEP_S: f64 = 1.8e7;

/// A decode step to simulate. Valid once [`StepInstance::parse`] or [`StepInstance::check`] accepted it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a step instance: an object with `layers`, `layer_compute_s`, `link` and `requests`"
)]
pub struct StepInstance {
    /// Layers L, 1 to 128.
    pub layers: u32,
    /// Compute time of one layer, in seconds.
    pub layer_compute_s: f64,
    /// The host→device link.
    pub link: Link,
    /// The batch, in batch order.
    pub requests: Vec<InstanceRequest>,
    /// Staging slots per request, 1 to 128.
    #[serde(default = "one")]
    pub slots: u32,
    /// Time after the last layer (sampling, scheduling), in seconds. It counts in the step and in the forecast.
    #[serde(default)]
    pub tail_s: f64,
    /// Which copy goes first.
    #[serde(default)]
    pub copy_order: CopyOrder,
    /// Whether a request's first copy of the next step may start in this one. The answer is then of a step between
    /// steps like it ([`steady()`]).
    #[serde(default)]
    pub cross_step_prefetch: bool,
    /// How much copies and compute slow each other; absent: not at all. The forecast leaves it out.
    #[serde(default)]
    pub contention: Slowdowns,
    /// GPUs that split every layer and every copy evenly, 1 to 128; `layer_compute_s` and `link` are those of one GPU.
    #[serde(default = "one")]
    pub tensor_parallel: u32,
    /// Whether they share one link instead of one each.
    #[serde(default)]
    pub shared_link: bool,
    /// What each layer takes for all-reduces, in seconds; 0 on one GPU.
    #[serde(default)]
    pub all_reduce_s: f64,
    /// Compute of prompt tokens beside the decodes (`prefill = "chunked:N"`), in seconds: an even share in every layer. As
    /// it is, on however many GPUs.
    #[serde(default)]
    pub prefill_s: f64,
}

/// Factors of an instance, each 1 to 1000 and 1 if absent: how many times as long it takes while the other runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object with `copy` and `compute`")]
pub struct Slowdowns {
    /// On a copy while a layer computes.
    pub copy: f64,
    /// On a layer while a copy runs.
    pub compute: f64,
}

impl Default for Slowdowns {
    fn default() -> Self {
        Slowdowns { copy: 1.0, compute: 1.0 }
    }
}

/// The host→device link of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `blocks_per_s` and `latency_s`")]
pub struct Link {
    /// Layer-blocks per second.
    pub blocks_per_s: f64,
    /// Seconds before the first block of every copy.
    pub latency_s: f64,
}

/// One request of an instance. Without a placement it is resident: nothing is fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `id`, `blocks` and its placement")]
pub struct InstanceRequest {
    /// Its name, unique in the batch.
    pub id: String,
    /// Blocks of each of its layers, at least 1.
    pub blocks: u64,
    /// Every `(distance + 1)`-th layer is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<u32>,
    /// The layers that are fetched, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offloaded_layers: Option<Vec<u32>>,
}

fn one() -> u32 {
    1
}

/// Why a text is no step instance. No simulation was made.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Not JSON, a key missing or unknown, or a value of the wrong type.
    #[error("{place}{message}{hint}")]
    Format {
        /// Where, ending with a colon and a space; empty at the top.
        place: String,
        /// What is wrong, with line and column.
        message: String,
        /// A line of its own that says what to do, or empty.
        hint: String,
    },
    /// A value out of its range.
    #[error("{place}: {value}: expected {expected}")]
    Value {
        /// Where, for example `requests[1].distance`.
        place: String,
        /// What was given.
        value: String,
        /// What would have been right.
        expected: String,
    },
}

impl StepInstance {
    /// Reads an instance from JSON and checks it.
    ///
    /// # Errors
    /// What is no JSON, has an unknown or missing key, or holds a value out of range.
    pub fn parse(text: &str) -> Result<Self, InstanceError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let instance: StepInstance = serde_path_to_error::deserialize(&mut json).map_err(format_error)?;
        json.end().map_err(|error| InstanceError::Format {
            place: String::new(),
            message: error.to_string(),
            hint: String::new(),
        })?;
        instance.check()?;
        Ok(instance)
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first value that is not.
    pub fn check(&self) -> Result<(), InstanceError> {
        let between = |low: u32, high: u32| format!("a whole number from {low} to {high}");
        let seconds = "a number of seconds, 0 or more";
        require((1..=Layer::MAX).contains(&self.layers), "layers", self.layers, between(1, Layer::MAX))?;
        let compute = self.layer_compute_s;
        let long_enough = compute.is_finite() && compute >= 1e-12;
        require(
            long_enough,
            "layer_compute_s",
            compute,
            "a number of seconds, 1e-12 (a picosecond) or more",
        )?;
        let rate = self.link.blocks_per_s;
        require(rate.is_finite() && rate > 0.0, "link.blocks_per_s", rate, "a number of blocks above 0")?;
        let latency = self.link.latency_s;
        require(latency.is_finite() && latency >= 0.0, "link.latency_s", latency, seconds)?;
        require((1..=Layer::MAX).contains(&self.slots), "slots", self.slots, between(1, Layer::MAX))?;
        require(self.tail_s.is_finite() && self.tail_s >= 0.0, "tail_s", self.tail_s, seconds)?;
        let most = TensorParallel::MOST;
        let gpus = self.tensor_parallel;
        require((1..=most).contains(&gpus), "tensor_parallel", gpus, between(1, most))?;
        let reduce = self.all_reduce_s;
        require(reduce.is_finite() && reduce >= 0.0, "all_reduce_s", reduce, seconds)?;
        require(
            gpus > 1 || reduce == 0.0,
            "all_reduce_s",
            reduce,
            "0 on one GPU, or `tensor_parallel` above 1",
        )?;
        let prefill = self.prefill_s;
        require(prefill.is_finite() && prefill >= 0.0, "prefill_s", prefill, seconds)?;
        let Slowdowns { copy, compute } = self.contention;
        for (place, factor) in [("contention.copy", copy), ("contention.compute", compute)] {
            let most = Contention::MOST;
            require((1.0..=most).contains(&factor), place, factor, format!("a number from 1 to {most}"))?;
        }
        require(!self.requests.is_empty(), "requests", "[]", "at least one request")?;
        let mut ids = BTreeSet::new();
        for (place, request) in self.requests.iter().enumerate() {
            let place = format!("requests[{place}]");
            request.check(&place, self.layers)?;
            let new = ids.insert(&request.id);
            require(new, &format!("{place}.id"), format!("\"{}\"", request.id), "an id of its own")?;
        }
        self.check_length()
    }

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

    /// A step never takes longer than all its compute and copies one after the other, each as slow as it can be.
    fn check_length(&self) -> Result<(), InstanceError> {
        let Slowdowns { copy, compute } = self.contention;
        let layers_s = f64::from(self.layers) * self.layer_s() + self.prefill_s;
        let mut longest = layers_s * compute + self.tail_s;
        let expected =
            || format!("at most {LONGEST_STEP_S} s (213 days) for all layers, copies and the tail of a step");
        require(
            longest <= LONGEST_STEP_S,
            "layer_compute_s, prefill_s and tail_s",
            format!("{longest} s"),
            expected(),
        )?;
        for (place, request) in self.requests.iter().enumerate() {
            longest += f64::from(request.fetched(self.layers).len()) * self.copy_s(request) * copy;
            let place = format!("requests[{place}].blocks over link.blocks_per_s");
            require(longest <= LONGEST_STEP_S, &place, format!("{longest} s"), expected())?;
        }
        Ok(())
    }

    /// Seconds of one copy of `request`, unrounded: `latency + blocks / rate`; 0 for one that has none.
    fn copy_s(&self, request: &InstanceRequest) -> f64 {
        if request.fetched(self.layers).is_empty() {
            return 0.0;
        }
        self.link.latency_s + request.blocks as f64 / self.blocks_per_s()
    }

    /// Hands the step to `run` as work of the pipeline, every time to the nearest picosecond. The instance must
    /// have been checked.
    pub fn with_work<T>(&self, run: impl FnOnce(&StepWork<'_>) -> T) -> T {
        let requests: Vec<StepRequest<'_>> = (self.requests.iter())
            .map(|request| StepRequest {
                fetched: request.fetched(self.layers),
                copy: CopyTimes::Same(SimDuration::from_secs_f64(self.copy_s(request))),
            })
            .collect();
        let layer = SimDuration::from_secs_f64(self.layer_s());
        let mut joined = Vec::new();
        run(&StepWork {
            layers: self.layers,
            compute: if self.prefill_s > 0.0 {
                joined_layers(layer, self.prefill(), self.layers, &mut joined);
                LayerTimes::PerLayer(&joined)
            } else {
                LayerTimes::Same(layer)
            },
            requests: &requests,
            slots: self.slots,
            order: self.copy_order,
            contention: Contention::of_factors(self.contention.copy, self.contention.compute)
                .expect("Invariant: a checked instance has factors from 1 to 1000"),
        })
    }

    /// The prefix forecast in seconds, with the latency once per copy and the tail.
    pub fn forecast_s(&self) -> f64 {
        let copies: Vec<(LayerSet, f64)> = (self.requests.iter())
            .map(|request| (request.fetched(self.layers), self.copy_s(request)))
            .collect();
        let layer_s = self.layer_s() + self.prefill_s / f64::from(self.layers);
        prefix_forecast(self.layers, layer_s, &copies) + self.tail_s
    }

    pub(super) fn prefill(&self) -> SimDuration {
        SimDuration::from_secs_f64(self.prefill_s)
    }

    /// Simulates the step. The instance must have been checked.
    pub fn answer(&self) -> StepAnswer {
        if self.cross_step_prefetch {
            let tail = SimDuration::from_secs_f64(self.tail_s);
            return StepAnswer::across(self, &self.with_work(|work| steady(work, tail)));
        }
        let (timing, timeline) = self.with_work(|work| timeline(work, SimTime::ZERO, None));
        StepAnswer::new(self, timing, &timeline)
    }
}

impl InstanceRequest {
    /// The layers that come over the link, out of `layers`.
    pub fn fetched(&self, layers: u32) -> LayerSet {
        match (&self.offloaded_layers, self.distance) {
            (Some(offloaded), _) => offloaded.iter().map(|layer| Layer(*layer)).collect(),
            (None, Some(distance)) => Placement::at(Distance::At(distance), layers).offloaded,
            (None, None) => LayerSet::EMPTY,
        }
    }

    fn check(&self, place: &str, layers: u32) -> Result<(), InstanceError> {
        require(!self.id.is_empty(), &format!("{place}.id"), "\"\"", "a name that is not empty")?;
        require(
            self.blocks > 0,
            &format!("{place}.blocks"),
            self.blocks,
            "a whole number of blocks, 1 or more",
        )?;
        if let Some(distance) = self.distance {
            let expected = format!("0 to {}, or no `distance` for a resident request", layers - 1);
            require(distance < layers, &format!("{place}.distance"), distance, expected)?;
        }
        let both = self.distance.is_some() && self.offloaded_layers.is_some();
        require(!both, place, "`distance` and `offloaded_layers`", "one of the two")?;
        let mut seen = LayerSet::EMPTY;
        for (index, layer) in self.offloaded_layers.iter().flatten().copied().enumerate() {
            let place = format!("{place}.offloaded_layers[{index}]");
            require((1..=layers).contains(&layer), &place, layer, format!("a layer from 1 to {layers}"))?;
            require(!seen.contains(Layer(layer)), &place, layer, "every layer once")?;
            seen.insert(Layer(layer));
        }
        Ok(())
    }
}

fn require(
    holds: bool,
    place: &str,
    value: impl ToString,
    expected: impl ToString,
) -> Result<(), InstanceError> {
    if holds {
        return Ok(());
    }
    let (value, expected) = (value.to_string(), expected.to_string());
    Err(InstanceError::Value { place: place.to_owned(), value, expected })
}

/// Adds the place and what to do, and says types in the words of JSON.
fn format_error(error: serde_path_to_error::Error<serde_json::Error>) -> InstanceError {
    let path = error.path().to_string();
    // Where the text ends or breaks within an object, the path ends with an unknown key.
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let mut message = error.inner().to_string();
    let hint = match error.inner().classify() {
        Category::Eof => Some("the text ends too early: is the file complete?".to_owned()),
        Category::Syntax => Some("JSON has no NaN, Infinity, comments or trailing commas".to_owned()),
        _ => nearest_key(&message).map(|key| format!("did you mean `{key}`?")),
    };
    let words = [
        ("expected f64", "a number"),
        ("expected u32", "a whole number"),
        ("expected u64", "a whole number"),
    ];
    for (rust, json) in words {
        message = message.replace(rust, &format!("expected {json}"));
    }
    let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    InstanceError::Format { place, message, hint }
}

/// Out of serde's "unknown field `a`, expected one of `b`, `c`": whichever of `b` and `c` is like `a`.
fn nearest_key(message: &str) -> Option<&str> {
    let mut quoted = message.strip_prefix("unknown field")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let likeness = |key: &&str| (1000.0 * strsim::jaro_winkler(unknown, key)) as u32;
    quoted.max_by_key(likeness).filter(|key| likeness(key) >= 700)
}
