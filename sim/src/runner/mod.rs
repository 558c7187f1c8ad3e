//! Runs policies over one prepared scenario and collects what the sinks counted.
//!
//! Every policy gets the same trace and seeds; policies and SLO scales run in parallel, and results are placed by
//! index, so that threads change nothing. [`compare`] takes any [`Policy`], also from outside this library.

mod check;
mod limits;
mod prepare;

use std::collections::BTreeMap;

use rayon::prelude::*;

pub use check::{Checked, check, runs as check_runs};
pub use limits::{TooLong, within_213_days};
pub use prepare::prepare;

use crate::cost::{CostError, CostModel};
use crate::digest::EventDigest;
use crate::engine::{self, EngineRequest, Setup};
use crate::ids::RequestId;
use crate::laws::{self, Laws, Verdict};
use crate::metrics::{self, Metrics, Outcome, RequestFacts, ScaleSlo, Scoring};
use crate::model::ModelSpec;
use crate::perfetto::{self, Perfetto};
use crate::policy::Policy;
use crate::record::{Record, Sink, StepRecord};
use crate::report::rows::{Results, SCHEMA_VERSION, TraceSummary};
use crate::report::{self, SavedResults, StepsPart};
use crate::scenario::ScenarioError;
use crate::server::ServerConfig;
use crate::states::{Passage, StateLog};
use crate::steps::StepLog;
use crate::timeline::{StepGroup, Timeline};
use crate::trace::{Arrival, Trace, TraceError, TraceRequest};
use crate::units::SimDuration;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A key of the scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A profile.
    #[error(transparent)]
    Cost(#[from] CostError),
}

/// A policy in a comparison: how it is called and how a fresh one is made for each run.
pub struct Contender {
    /// Key in files.
    pub key: String,
    /// Name in plots.
    pub label: String,
    make: Box<dyn Fn() -> Box<dyn Policy> + Send + Sync>,
}

impl Contender {
    /// A contender whose runs each start with a policy from `make`.
    pub fn new(key: &str, label: &str, make: impl Fn() -> Box<dyn Policy> + Send + Sync + 'static) -> Self {
        Contender { key: key.to_owned(), label: label.to_owned(), make: Box::new(make) }
    }

    /// A fresh policy.
    pub fn make(&self) -> Box<dyn Policy> {
        (self.make)()
    }
}

/// A scenario with everything it names read and resolved.
pub struct Prepared {
    /// Name of the scenario.
    pub name: String,
    /// Its semantics.
    pub semantics: &'static str,
    /// Switches off the semantics' preset.
    pub off_preset: BTreeMap<String, String>,
    /// The model.
    pub model: ModelSpec,
    /// The trace.
    pub trace: Trace,
    /// What work truly costs.
    pub truth: CostModel,
    /// The server.
    pub server: ServerConfig,
    /// How runs are scored.
    pub scoring: Scoring,
    /// The scenario's policies.
    pub contenders: Vec<Contender>,
    /// What a reader of the results must know.
    pub notes: Vec<String>,
    /// SHA-256 of everything that determines the results.
    pub digest: String,
}

/// What a comparison does besides running.
#[derive(Default)]
pub struct Options<'a> {
    /// Check laws 1 to 5 on every step (slow).
    pub laws: bool,
    /// Where each policy's steps go, in the order of the policies; empty: nowhere.
    pub steps: Vec<StepsPart>,
    /// Where each policy's trace events go, in the order of the policies; empty: nowhere. Slow, as laws are.
    pub perfetto: Vec<perfetto::Part>,
    /// The steps that trace events show; absent: all.
    pub perfetto_window: Option<perfetto::Window>,
    /// Called with the number of requests that ended since the last call.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

/// A comparison's results.
pub struct Comparison {
    /// Everything that is saved.
    pub saved: SavedResults,
    /// Steps on their way to a file, in the order of the policies.
    pub steps: Vec<StepsPart>,
    /// Trace events on their way to a file, in the order of the policies.
    pub perfetto: Vec<perfetto::Part>,
    /// Broken laws, per policy that broke any.
    pub broken: Vec<(String, Verdict)>,
}

/// One run to do: a policy, and the SLO scales that it is scored at.
struct Job<'a> {
    contender: &'a Contender,
    scales: Vec<ScaleSlo>,
    writes: Writes,
}

/// What a run writes as it goes.
#[derive(Default)]
struct Writes {
    steps: Option<StepsPart>,
    /// Its place among the policies, and its events.
    perfetto: Option<(u64, perfetto::Part)>,
}

/// What one run leaves.
struct Run<'a> {
    outcome: Outcome<'a>,
    digest: String,
    timeline: Vec<StepGroup>,
    states: Vec<(RequestId, Vec<Passage>)>,
    verdict: Option<Verdict>,
    writes: Writes,
}

/// Runs `contenders` over a prepared scenario. Policies that look at the SLO run once per scale, the others once.
/// Panics if two contenders have one key: no one could tell their rows apart. Unwinds, for [`within_213_days`] to catch,
/// if a run outlives time.
pub fn compare(prepared: &Prepared, contenders: &[Contender], options: Options<'_>) -> Comparison {
    let mut keys: Vec<&str> = contenders.iter().map(|contender| contender.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), contenders.len(), "Invariant: every contender has a key of its own");
    let Options { laws, steps, perfetto, perfetto_window, progress } = options;
    let (mut steps, mut perfetto) = (steps.into_iter(), (0..).zip(perfetto));
    let mut jobs = Vec::new();
    for contender in contenders {
        let mut writes = Writes { steps: steps.next(), perfetto: perfetto.next() };
        if contender.make().looks_at_slo() {
            for scale in &prepared.scoring.scales {
                jobs.push(Job { contender, scales: vec![*scale], writes: std::mem::take(&mut writes) });
            }
        } else {
            jobs.push(Job { contender, scales: prepared.scoring.scales.clone(), writes });
        }
    }
    let keys: Vec<&Contender> = jobs.iter().map(|job| job.contender).collect();
    let window = perfetto_window.unwrap_or(perfetto::Window::ALL);
    let runs: Vec<(&str, Result<Run<'_>, TooLong>)> = jobs
        .into_par_iter()
        .map(|job| {
            let key = job.contender.key.as_str();
            (key, within_213_days(|| run(prepared, job, laws, window, progress)))
        })
        .collect();
    collect(prepared, contenders, &keys, limits::all_within(runs))
}

/// Puts the runs of each contender together.
fn collect<'a>(
    prepared: &'a Prepared,
    contenders: &[Contender],
    of: &[&Contender],
    runs: Vec<Run<'a>>,
) -> Comparison {
    let mut comparison = Comparison {
        saved: SavedResults {
            results: blank_results(prepared),
            requests: Vec::new(),
            quantiles: Vec::new(),
            timeline: Vec::new(),
            states: Vec::new(),
        },
        steps: Vec::new(),
        perfetto: Vec::new(),
        broken: Vec::new(),
    };
    let mut runs = of.iter().zip(runs).peekable();
    let mut outcomes: Vec<(&str, Outcome<'a>)> = Vec::new();
    let mut kept = Vec::new();
    for contender in contenders {
        let mut own = Vec::new();
        let (mut digest, mut timeline, mut states) = (None, Vec::new(), Vec::new());
        while let Some((_, run)) = runs.next_if(|(of, _)| of.key == contender.key) {
            if digest.is_none() {
                (digest, timeline, states) = (Some(run.digest), run.timeline, run.states);
            }
            comparison.steps.extend(run.writes.steps);
            comparison.perfetto.extend(run.writes.perfetto.map(|(_, part)| part));
            if let Some(verdict) = run.verdict.filter(|verdict| !verdict.holds()) {
                comparison.broken.push((contender.key.clone(), verdict));
            }
            own.push(run.outcome);
        }
        let outcome = if own.len() == 1 { own.pop() } else { metrics::merge_scale_runs(own) };
        let outcome = outcome.expect("Invariant: every contender has a run");
        let digest = digest.expect("Invariant: every contender has a run");
        let (key, label) = (&contender.key, &contender.label);
        let saved = &mut comparison.saved;
        saved.results.policies.push(report::policy_result(key, label, &outcome, &digest));
        saved.requests.extend(report::request_rows(key, &outcome));
        saved.quantiles.extend(report::quantile_rows(key, &outcome));
        saved.timeline.extend(report::timeline_rows(key, &timeline));
        let id_of = |request: RequestId| prepared.trace.requests[request.index()].id.as_str();
        saved.states.extend(report::state_rows(key, &states, id_of));
        kept.push((states.len(), outcome.requests.len() as u64));
        outcomes.push((key, outcome));
    }
    let by_key: Vec<(&str, &Outcome<'_>)> = outcomes.iter().map(|(key, outcome)| (*key, outcome)).collect();
    let scoring = report::scoring_notes(&by_key, prepared.scoring.warmup);
    comparison.saved.results.notes.extend(scoring);
    comparison.saved.results.notes.extend(report::states_note(&kept));
    comparison
}

fn run<'a>(
    prepared: &'a Prepared,
    job: Job<'_>,
    laws: bool,
    window: perfetto::Window,
    progress: Option<&(dyn Fn(u64) + Sync)>,
) -> Run<'a> {
    let requests = prepared.engine_requests(job.scales[0]);
    let facts = prepared.trace.requests.iter().map(request_facts).collect();
    let mut metrics = Metrics::new(facts, Scoring { scales: job.scales, ..prepared.scoring.clone() });
    let mut digest = EventDigest::default();
    let (mut timeline, mut states) = (Timeline::default(), StateLog::default());
    let mut laws = laws.then(|| Laws::new(prepared.law_facts()));
    let mut writes = job.writes;
    let mut write_step = writes.steps.as_mut().map(|part| StepLog::new(|step: &StepRecord| part.write(step)));
    let mut events = writes.perfetto.as_mut().map(|(place, part)| {
        let requests = prepared.trace.requests.iter().map(|request| request.id.as_str()).collect();
        let subject = perfetto::Subject { place: *place, key: &job.contender.key, requests };
        Perfetto::new(&mut part.events, subject, window)
    });
    let mut policy = job.contender.make();
    {
        let progress = progress.map(|report| Ended { report, unreported: 0 });
        let written = ((&mut timeline, &mut states), (write_step.as_mut(), events.as_mut()));
        let mut sink = ((&mut metrics, &mut digest), ((laws.as_mut(), progress), written));
        engine::run(prepared.setup(&requests), &mut *policy, &mut sink);
    }
    events.into_iter().for_each(Perfetto::finish);
    let outcome = metrics.finish();
    let verdict = laws.map(|laws| laws.finish(law_totals(&outcome)));
    Run {
        outcome,
        digest: digest.finish(),
        timeline: timeline.finish(),
        states: states.finish(),
        verdict,
        writes,
    }
}

impl Prepared {
    /// The trace as the engine takes it, with each request's SLO at one scale.
    pub fn engine_requests(&self, at: ScaleSlo) -> Vec<EngineRequest> {
        let slo = |own: Option<SimDuration>| own.map_or(at.slo, |own| own.scale_saturating(at.scale));
        let requests = self.trace.requests.iter();
        requests
            .map(|request| EngineRequest {
                arrival: request.arrival,
                prompt_tokens: request.prompt_tokens,
                output_tokens: request.output_tokens,
                slo: slo(request.slo),
            })
            .collect()
    }

    /// One run's setup over these requests.
    pub fn setup<'a>(&'a self, requests: &'a [EngineRequest]) -> Setup<'a> {
        Setup { requests, server: &self.server, footprint: self.model.footprint(), truth: &self.truth }
    }

    fn law_facts(&self) -> Vec<laws::RequestFacts> {
        let previous = |arrival| match arrival {
            Arrival::AfterTurn { previous, .. } => Some(previous),
            Arrival::At(_) | Arrival::Step(_) => None,
        };
        let requests = self.trace.requests.iter();
        requests
            .map(|request| laws::RequestFacts {
                output_tokens: request.output_tokens,
                previous_turn: previous(request.arrival),
            })
            .collect()
    }
}

/// What the report says, for law 2.
fn law_totals(outcome: &Outcome<'_>) -> laws::Totals {
    laws::Totals {
        delivered_tokens: outcome.delivered_tokens,
        makespan: outcome.makespan,
        busy_and_idle: outcome.busy.sum() + outcome.idle,
    }
}

fn request_facts(request: &TraceRequest) -> RequestFacts<'_> {
    RequestFacts {
        id: &request.id,
        prompt_tokens: request.prompt_tokens,
        output_tokens: request.output_tokens,
        slo: request.slo,
        ttft_slo: request.ttft_slo,
    }
}

fn blank_results(prepared: &Prepared) -> Results {
    let requests = &prepared.trace.requests;
    let last_at = requests.iter().filter_map(|request| match request.arrival {
        Arrival::At(at) => Some(at),
        Arrival::Step(_) | Arrival::AfterTurn { .. } => None,
    });
    let last_step = requests.iter().filter_map(|request| match request.arrival {
        Arrival::Step(step) => Some(step),
        Arrival::At(_) | Arrival::AfterTurn { .. } => None,
    });
    let mut notes = vec![format!("semantics: {}", prepared.semantics)];
    notes.extend(prepared.notes.iter().cloned());
    Results {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: prepared.name.clone(),
        scenario_digest: prepared.digest.clone(),
        seed: prepared.server.seed,
        switches: prepared.off_preset.clone(),
        notes,
        overrides: Vec::new(),
        trace: TraceSummary {
            requests: requests.len() as u64,
            prompt_tokens: requests.iter().map(|request| request.prompt_tokens).sum(),
            output_tokens: requests.iter().map(|request| request.output_tokens).sum(),
            last_arrival_s: last_at.max().map(|at| at.as_secs_f64()),
            last_arrival_step: last_step.max(),
        },
        gpu_pool_blocks: Some(prepared.server.gpu_blocks),
        slo_s: prepared.scoring.scales[0].slo.as_secs_f64(),
        policies: Vec::new(),
    }
}

/// Tells how many requests have ended, a few at a time.
struct Ended<'a> {
    report: &'a (dyn Fn(u64) + Sync),
    unreported: u64,
}

impl Sink for Ended<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if matches!(record, Record::Finished { .. } | Record::Rejected { .. } | Record::Capped { .. }) {
            self.unreported += 1;
            if self.unreported == 16 {
                (self.report)(std::mem::take(&mut self.unreported));
            }
        }
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        (self.report)(self.unreported);
    }
}
