//! The rows of the result files (design §2.3), as other programs read them. Units are in the field names.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the layout of `results.json`.
pub const SCHEMA_VERSION: u32 = 1;

/// `results.json`. Beside it stand `requests.csv`, `quantiles.csv`, `timeline.csv`, `states.csv` (each state of the first
/// requests) and, with `--steps`, `steps.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// Version of this layout.
    #[schemars(range(min = SCHEMA_VERSION, max = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// Version of `orbitflow` that wrote it.
    pub tool_version: String,
    /// Name of the scenario: its file name, or `-`.
    pub scenario: String,
    /// SHA-256 of everything that determines the results.
    pub scenario_digest: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// Switches that differ from the semantics' preset, `section.key` to its value.
    pub switches: BTreeMap<String, String>,
    /// Sentences without which the numbers must not be read: assumptions, provenance, skipped rows.
    pub notes: Vec<String>,
    /// What the command line changed in the scenario's file, as `--set` takes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// The trace.
    pub trace: TraceSummary,
    /// Time-between-tokens SLO of the first scale, seconds per token.
    pub slo_s: f64,
    /// Layer-blocks of the GPU pool, if every policy had the same.
    #[serde(default)]
    pub gpu_pool_blocks: Option<u64>,
    /// One entry per policy.
    pub policies: Vec<PolicyResult>,
}

/// What was offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceSummary {
    /// Requests.
    pub requests: u64,
    /// Σ prompt tokens.
    pub prompt_tokens: u64,
    /// Σ output tokens.
    pub output_tokens: u64,
    /// Last arrival, if arrivals are in seconds.
    pub last_arrival_s: Option<f64>,
    /// Last arrival, if arrivals are in engine steps.
    pub last_arrival_step: Option<u64>,
}

/// What one policy did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyResult {
    /// Key in files and on the command line.
    pub key: String,
    /// Name in plots.
    pub label: String,
    /// Requests by their end.
    pub requests: RequestCounts,
    /// Tokens after the first of each request.
    pub tokens: TokenCounts,
    /// Scores at the first SLO scale.
    pub attainment_pct: Attainment,
    /// Share of a client's playing time with no token to show, at the first SLO scale (design §6); null if nothing was
    /// played, because no request got a second token.
    pub playback_stall_pct: Option<f64>,
    /// Scores at every SLO scale.
    pub by_slo_scale: Vec<ScaleResult>,
    /// Duration of the step that made the token, over delivered due tokens.
    pub tbt_step_s: Distribution,
    /// Time since the request's previous token, over delivered due tokens.
    pub tbt_gap_s: Distribution,
    /// Mean step TBT of a request, over finished requests with more than one token.
    pub tpot_step_s: Distribution,
    /// Mean gap TBT of a request, over finished requests with more than one token.
    pub tpot_gap_s: Distribution,
    /// Arrival to first token, over requests that got one.
    pub ttft_s: Distribution,
    /// Arrival to last token, over finished requests.
    pub e2e_s: Distribution,
    /// First arrival to last token.
    pub makespan_s: f64,
    /// Delivered tokens, first ones included, over the makespan.
    pub throughput_tokens_per_s: f64,
    /// Offered load: arrived requests over the time of the last arrival; it depends on the policy when arrivals are in steps.
    pub requests_per_min: Option<f64>,
    /// Finished requests with TPOT (gap) within the SLO, and TTFT within its SLO if set, over the makespan.
    pub goodput_requests_per_s: f64,
    /// Where the makespan went; sums to it.
    pub busy_s: Busy,
    /// Link traffic.
    pub bytes: Traffic,
    /// Engine steps.
    pub steps: StepCounts,
    /// Planner calls.
    pub plans: PlanCounts,
    /// |step − forecast| / step over decode steps that have a forecast.
    pub forecast_error_pct: ForecastError,
    /// How far decode steps are above the bound that their own copies and compute set, step by step.
    #[serde(default)]
    pub above_bound_pct: AboveBound,
    /// Held-back requests.
    pub pauses: PauseCounts,
    /// Times a running request lost its slot.
    pub preemptions: u64,
    /// Placements that did not fit.
    pub refused_placements: u64,
    /// Most layer-blocks in use.
    pub peak_gpu_blocks: u64,
    /// Most host memory in use.
    pub peak_host_bytes: u64,
    /// SHA-256 over every event.
    pub event_digest: String,
}

/// Requests by their end. `arrived = finished + rejected + unfinished`; capped ones are within `unfinished`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestCounts {
    /// All.
    pub arrived: u64,
    /// Made every token.
    pub finished: u64,
    /// Turned away on arrival.
    pub rejected: u64,
    /// Neither.
    pub unfinished: u64,
    /// Outgrew the pool or `max_context`.
    pub capped: u64,
}

/// Due tokens: `output_tokens − 1` of every arrived request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCounts {
    /// Owed.
    pub due: u64,
    /// Made.
    pub delivered: u64,
}

/// Shares in percent: of due tokens for the `tbt_*`, of arrived requests for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attainment {
    /// Step TBT within the SLO.
    pub tbt_step: f64,
    /// Gap TBT within the SLO.
    pub tbt_gap: f64,
    /// Step TBT with deposit playback.
    pub tbt_step_deposit: f64,
    /// Gap TBT with deposit playback.
    pub tbt_gap_deposit: f64,
    /// Mean step TBT within the SLO.
    pub tpot_step: f64,
    /// Mean gap TBT within the SLO.
    pub tpot_gap: f64,
    /// First token within the TTFT SLO (5 s if none is set).
    pub ttft: f64,
    /// Last token by arrival + TTFT SLO (5 s if none) + output_tokens · SLO.
    pub e2e: f64,
}

/// Scores at one SLO scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleResult {
    /// Times the base SLO.
    pub scale: f64,
    /// Seconds per token.
    pub slo_s: f64,
    /// Whether the policy was run again for this scale (it looks at the SLO) or only scored again.
    pub rerun: bool,
    /// Scores.
    pub attainment_pct: Attainment,
    /// Playback stall; null if nothing was played.
    pub playback_stall_pct: Option<f64>,
    /// Goodput.
    pub goodput_requests_per_s: f64,
    /// Median time to first token of the run that was scored: it stands beside every TBT score (design §6).
    pub ttft_p50_s: Option<f64>,
    /// Throughput of the run that was scored.
    pub throughput_tokens_per_s: f64,
}

/// A distribution, in seconds; all null when there is no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// `sorted[ceil(p·n) − 1]` at p = 0.5.
    pub p50: Option<f64>,
    /// p = 0.9.
    pub p90: Option<f64>,
    /// p = 0.95.
    pub p95: Option<f64>,
    /// p = 0.99.
    pub p99: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
}

/// Where the makespan went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Busy {
    /// Decode compute and tail.
    pub compute: f64,
    /// Compute waiting for copies.
    pub stall: f64,
    /// Prompts.
    pub prefill: f64,
    /// Blocking restore copies.
    pub restore: f64,
    /// Solver time charged.
    pub planning: f64,
    /// Nothing to do.
    pub idle: f64,
}

/// Link traffic in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Offloaded layers, host→device.
    pub h2d_prefetch: u64,
    /// Layers that became resident, host→device.
    pub h2d_restore: u64,
    /// Write-through, device→host.
    pub d2h: u64,
}

/// Engine steps by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepCounts {
    /// Decode steps, those with prompt tokens beside the decodes included.
    pub decode: u64,
    /// Prefill steps.
    pub prefill: u64,
}

/// Planner calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanCounts {
    /// Calls by trigger.
    pub by_trigger: BTreeMap<String, u64>,
    /// Instances without a placement within the SLO budget.
    pub infeasible_slo: u64,
    /// Instances without a placement that fits memory.
    pub infeasible_memory: u64,
    /// Calls whose search ran into its node cap: best found instead of best.
    pub node_cap_hits: u64,
    /// Decode steps by how sure their method is that no placement makes them shorter; absent where it does not say
    /// (all but `oracle`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proofs: Option<ProofCounts>,
}

/// Decode steps by what their method said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProofCounts {
    /// No placement makes them shorter.
    pub optimal: u64,
    /// No shorter one was found.
    pub best_found: u64,
}

/// Forecast error in percent; null without forecasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastError {
    /// Median.
    pub median: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
}

/// `100 · (step / max(compute, copies) − 1)` over decode steps: the step without blocking restores and planning,
/// `compute` and `copies` the sums over its layers and its host→device copies, tail and link intercept added to both
/// sides of the ratio. 0: everything that could overlap did. The copies are those of the method's own placement: a
/// method that copies much can be close to a high bound. Null without decode steps, and with `cross_step_prefetch`; steps in which a prompt is prefilled are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AboveBound {
    /// Arithmetic mean over steps.
    pub mean: Option<f64>,
    /// Median.
    pub median: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
}

/// Pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PauseCounts {
    /// How many.
    pub count: u64,
    /// The longest, in seconds.
    pub longest_s: f64,
}

/// A row of `requests.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Policy key.
    pub policy: String,
    /// Name in the trace.
    pub id: String,
    /// `finished`, `capped`, `rejected` or `unfinished`.
    pub state: String,
    /// Entered the queue.
    pub arrival_s: f64,
    /// Took a slot.
    pub admitted_s: Option<f64>,
    /// First token.
    pub first_token_s: Option<f64>,
    /// Last token of a finished request.
    pub finish_s: Option<f64>,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Output tokens asked for.
    pub output_tokens: u64,
    /// Output tokens made, the first included.
    pub delivered_tokens: u64,
    /// Per-token SLO at the first scale.
    pub slo_s: f64,
    /// Arrival to first token.
    pub ttft_s: Option<f64>,
    /// Mean step TBT.
    pub tpot_step_s: Option<f64>,
    /// Mean gap TBT.
    pub tpot_gap_s: Option<f64>,
    /// Late due tokens by step TBT, undelivered ones included.
    pub late_step: u64,
    /// By gap TBT.
    pub late_gap: u64,
    /// By step TBT with playback.
    pub late_step_deposit: u64,
    /// By gap TBT with playback.
    pub late_gap_deposit: u64,
    /// Time held back.
    pub paused_s: f64,
    /// Times held back.
    pub pauses: u64,
    /// Times it lost its slot.
    pub preemptions: u64,
}

/// A row of `quantiles.csv`: 1,001 per policy and metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantileRow {
    /// Policy key.
    pub policy: String,
    /// `tbt_step`, `tbt_gap`, `tpot_step`, `tpot_gap`, `ttft` or `e2e`.
    pub metric: String,
    /// From 0 to 1 in steps of 0.001.
    pub p: f64,
    /// The quantile.
    pub seconds: f64,
}

/// A row of `timeline.csv`: a step, and what it and the steps that it stands for moved ([`TIMELINE_CHOICE`]).
///
/// [`TIMELINE_CHOICE`]: super::TIMELINE_CHOICE
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineRow {
    /// Policy key.
    pub policy: String,
    /// Start of the step.
    pub t_s: f64,
    /// Requests in the step.
    pub running: u32,
    /// Held back.
    pub paused: u32,
    /// Waiting or preempted.
    pub waiting: u32,
    /// Layer-blocks in use.
    pub gpu_blocks: u64,
    /// Duration of the step.
    pub step_s: f64,
    /// Its stall part.
    pub stall_s: f64,
    /// Consecutive steps that the row stands for, this one among them.
    pub steps: u64,
    /// Start of the first of them.
    pub from_s: f64,
    /// End of the last of them.
    pub to_s: f64,
    /// Host→device bytes of all of them.
    pub h2d_bytes: u64,
    /// Device→host bytes of all of them.
    pub d2h_bytes: u64,
}

/// A row of `states.csv`: a state of one of the first requests of the trace ([`crate::states`]), or its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateRow {
    /// Policy key.
    pub policy: String,
    /// Name in the trace.
    pub id: String,
    /// `waiting`, `prefill`, `decode`, `paused` or `preempted`; or the end: `finished`, `capped` or `rejected`.
    pub state: String,
    /// Since when.
    pub start_s: f64,
    /// Until when; an end takes no time.
    pub end_s: f64,
}

/// A row of `steps.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Policy key.
    pub policy: String,
    /// Counter over prefill and decode steps.
    pub step: u64,
    /// `prefill`, `decode`, or `mixed`: prompt tokens beside decodes.
    pub kind: String,
    /// Start.
    pub start_s: f64,
    /// Whole step.
    pub duration_s: f64,
    /// Compute and tail.
    pub compute_s: f64,
    /// Waiting for copies.
    pub stall_s: f64,
    /// Prompts.
    pub prefill_s: f64,
    /// Blocking restores.
    pub restore_s: f64,
    /// Solver time charged.
    pub planning_s: f64,
    /// The planner's forecast.
    pub forecast_s: Option<f64>,
    /// Requests in the step.
    pub running: u32,
    /// Held back.
    pub paused: u32,
    /// Waiting or preempted.
    pub waiting: u32,
    /// Layer-blocks in use.
    pub gpu_blocks: u64,
    /// Host→device bytes.
    pub h2d_bytes: u64,
    /// Device→host bytes.
    pub d2h_bytes: u64,
    /// The planner's trigger, if it was asked.
    pub trigger: Option<String>,
}
