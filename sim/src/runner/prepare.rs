//! From a scenario to everything a run needs: trace read, profiles resolved, pool sized, SLOs set, assumptions noted.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{Contender, Prepared, RunError};
use crate::cost::{self, CostError, CostModel, CostOptions, HardwareProfile};
use crate::metrics::{ScaleSlo, Scoring};
use crate::policy::registry::{self, Known, Method};
use crate::scenario::{GpuKv, Scenario, Source, TokenSlo, TraceSource, TraceSpec, did_you_mean};
use crate::server::{Prefill, ServerConfig, SolverTime};
use crate::trace::generate::PaperRecipe;
use crate::trace::{self, Arrival, ArrivalProcess, Format, ReadOptions, Trace, TraceError};
use crate::units::{BytesPerSec, SimDuration};

/// Resolves a scenario.
///
/// # Errors
/// Whatever the scenario names and is not there or does not fit together.
pub fn prepare(scenario: &Scenario) -> Result<Prepared, RunError> {
    let mut notes = model_notes(scenario);
    let profile = load_profile(scenario, "hardware", &scenario.hardware)?;
    let truth = resolve(scenario, "hardware", &profile, scenario.link, &mut notes)?;
    let (belief, believed_profile) = match &scenario.planner_profile {
        None => (truth.clone(), None),
        Some(source) => {
            let profile = load_profile(scenario, "planner_profile", source)?;
            notes.push(format!(
                "planners believe in {}, not in the true hardware; `link` does not change what they believe",
                source.argument()
            ));
            let mut said = Vec::new();
            let belief = resolve(scenario, "planner_profile", &profile, None, &mut said)?;
            notes.extend(said.into_iter().map(|note| format!("planners' belief: {note}")));
            (belief, Some(profile))
        }
    };
    let trace = read_trace(scenario)?;
    notes.extend(trace.notes.iter().cloned());
    let batch_size = batch_size(scenario, &trace, &mut notes)?;
    let gpu_blocks = gpu_blocks(scenario, &trace, &profile, &mut notes)?;
    let server = ServerConfig {
        batch_size,
        gpu_blocks,
        host_kv: scenario.host_kv,
        max_context: scenario.trace.max_context,
        switches: scenario.engine,
        seed: scenario.seed,
    };
    notes.extend(assumptions(scenario, &trace));
    let scoring = scoring(scenario, &truth, &server, &mut notes)?;
    let known = Known { belief, truth: truth.clone(), mean_final_tokens: mean_final_tokens(&trace) };
    let contenders = contenders(scenario, &known, batch_size, &mut notes)?;
    let digest = digest(scenario, &trace, &profile, believed_profile.as_ref());
    Ok(Prepared {
        name: scenario.name.clone(),
        semantics: scenario.semantics.name(),
        off_preset: scenario.off_preset(),
        model: scenario.model.clone(),
        trace,
        truth,
        server,
        scoring,
        contenders,
        notes,
        digest,
    })
}

fn load_profile(scenario: &Scenario, key: &str, source: &Source) -> Result<HardwareProfile, RunError> {
    cost::load(&source.argument()).map_err(|error| match (source, error) {
        (source, CostError::Unknown { hint, .. }) => {
            let what = if matches!(source, Source::File(_)) { "file" } else { "preset" };
            let problem = format!("no such {what}: expected a hardware preset or a path to a profile");
            scenario.refuse(key, problem, hint).into()
        }
        (Source::Preset(_), error) => scenario.refuse(key, error.to_string(), None).into(),
        (Source::File(_), error) => RunError::Cost(error),
    })
}

fn resolve(
    scenario: &Scenario,
    key: &str,
    profile: &HardwareProfile,
    link_rate: Option<BytesPerSec>,
    notes: &mut Vec<String>,
) -> Result<CostModel, RunError> {
    let options = CostOptions {
        link_rate,
        link_intercept: scenario.link_intercept,
        prefill: scenario.prefill.map(|line| cost::PrefillLine {
            base_s: line.base.as_secs_f64(),
            per_token_s: line.per_token.as_secs_f64(),
        }),
        without_contention: !scenario.contention,
        parallel: scenario.parallel,
        ..CostOptions::default()
    };
    let (model, said) = cost::resolve(profile, &scenario.model, &options).map_err(|error| {
        let key = if matches!(error, CostError::BadSplit(_)) { "engine.tensor_parallel" } else { key };
        RunError::from(scenario.refuse(key, error.to_string(), None))
    })?;
    notes.extend(said);
    Ok(model)
}

fn read_trace(scenario: &Scenario) -> Result<Trace, RunError> {
    let spec: &TraceSpec = &scenario.trace;
    let format = match &spec.format {
        None => None,
        Some(name) => Some(name.parse::<Format>().map_err(|_| {
            let known = trace::FORMATS.iter().map(|(_, name, _)| *name);
            scenario.refuse(
                "trace.format",
                format!("expected one of {}", Format::names()),
                did_you_mean(name, known),
            )
        })?),
    };
    let arrivals = match &spec.arrivals {
        None => None,
        Some(text) => Some(
            text.parse::<ArrivalProcess>()
                .map_err(|error| scenario.refuse("trace.arrivals", error.to_string(), None))?,
        ),
    };
    let options = ReadOptions {
        format,
        load: spec.load,
        limit: spec.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        min_prompt_tokens: spec.min_prompt_tokens.unwrap_or(0),
        step_time: spec.step_time,
        arrivals,
        seed: scenario.seed,
    };
    let file = match &spec.source {
        TraceSource::File(file) => file,
        TraceSource::Draw(recipe) => return drawn_trace(scenario, recipe, &options),
    };
    let trace = trace::read(file, &options).map_err(|error| match error {
        // The key and its line: the path in the message is the one that the scenario's own folder gives.
        TraceError::Read { .. } => {
            let hint = "`orbitflow trace generate` draws a trace".to_owned();
            RunError::from(scenario.refuse("trace.file", error.to_string(), Some(hint)))
        }
        error => error.into(),
    })?;
    if trace.requests.is_empty() {
        let problem = "expected at least one request after its filters";
        return Err(scenario.refuse("trace.file", problem, None).into());
    }
    Ok(trace)
}

/// The trace as if `orbitflow trace generate` had written it and it were read back.
fn drawn_trace(scenario: &Scenario, recipe: &PaperRecipe, options: &ReadOptions) -> Result<Trace, RunError> {
    let refuse = |problem: String| RunError::from(scenario.refuse("trace.draw", problem, None));
    let (trace, pattern) =
        trace::generate::generate_paper(recipe).map_err(|error| refuse(error.to_string()))?;
    let text = trace::orbitflow::write(&trace, &pattern).map_err(|error| refuse(error.to_string()))?;
    let mut trace = trace::read_bytes("trace.draw", text.into_bytes(), options)?;
    trace.notes.insert(0, format!("trace drawn by the paper's recipe, seed {}: {pattern}", recipe.seed));
    if trace.requests.is_empty() {
        return Err(refuse("expected at least one request after its filters".to_owned()));
    }
    Ok(trace)
}

fn batch_size(scenario: &Scenario, trace: &Trace, notes: &mut Vec<String>) -> Result<u32, RunError> {
    match (scenario.batch_size, trace.hints.batch_size) {
        (Some(size), _) => {
            notes.push(format!("batch_size {size} from the scenario"));
            Ok(size)
        }
        (None, Some(size)) => {
            notes.push(format!("batch_size {size} from the trace"));
            Ok(size)
        }
        (None, None) => {
            let hint = "add `batch_size = 16`: the most requests served at once".to_owned();
            Err(scenario
                .refuse("batch_size", "expected a number: this trace does not say it", Some(hint))
                .into())
        }
    }
}

/// Layer-blocks of the GPU pool, and where the number came from.
fn gpu_blocks(
    scenario: &Scenario,
    trace: &Trace,
    profile: &HardwareProfile,
    notes: &mut Vec<String>,
) -> Result<u64, RunError> {
    let layers = u64::from(scenario.model.layers);
    let per_layer = |blocks: u64, from: &str, notes: &mut Vec<String>| {
        notes.push(format!("gpu_kv_blocks {blocks} ({} layer-blocks) from {from}", blocks * layers));
        blocks * layers
    };
    let blocks = match (scenario.gpu_kv, trace.hints.gpu_kv_blocks) {
        (Some(GpuKv::BlocksPerLayer(blocks)), _) => per_layer(blocks, "the scenario", notes),
        (Some(GpuKv::Bytes(bytes)), _) => {
            let blocks = bytes.get() / scenario.model.block_bytes().get();
            notes.push(format!("GPU KV pool of {bytes}, {blocks} layer-blocks, from the scenario"));
            blocks
        }
        (None, Some(blocks)) => per_layer(blocks, "the trace", notes),
        (None, None) => {
            let blocks = cost::kv_capacity_layer_blocks(profile, &scenario.model, scenario.parallel)
                .map_err(|error| scenario.refuse("gpu_kv", error.to_string(), None))?;
            let of_all = match scenario.parallel.gpus {
                1 => String::new(),
                gpus => format!(", of {gpus} GPUs together"),
            };
            notes.push(format!(
                "GPU KV pool of {blocks} layer-blocks: memory − weights − 10 % for activations{of_all}"
            ));
            blocks
        }
    };
    if blocks < layers {
        let least = scenario.model.block_bytes() * layers;
        let problem =
            format!("expected room for at least one block per layer: {layers} layer-blocks, {least}");
        return Err(scenario.refuse("gpu_kv", problem, None).into());
    }
    Ok(blocks)
}

/// What the model's file says and is simulated otherwise, and KV elements that are not the model's own.
fn model_notes(scenario: &Scenario) -> Vec<String> {
    let mut notes = scenario.model_notes.clone();
    if let Some(kind) = scenario.kv_cache_type {
        notes.push(format!(
            "KV cache in {}, {} B per element, not the model's own type: {} B per token",
            kind.name(),
            kind.element_bytes(),
            scenario.model.kv_bytes_per_token().get()
        ));
    }
    notes
}

/// What a reader of the results must know of the model behind them.
fn assumptions(scenario: &Scenario, trace: &Trace) -> Vec<String> {
    let mut notes = Vec::new();
    match scenario.engine.solver_time {
        SolverTime::Fixed(SimDuration::ZERO) => notes.push("solver time: 0 (assumed)".to_owned()),
        SolverTime::Fixed(time) => notes.push(format!("solver time: {time} per solve (assumed)")),
        SolverTime::Table => notes
            .push("solver time: modelled, from a table measured with this program's own search".to_owned()),
    }
    if let Prefill::Chunked(most) = scenario.engine.prefill {
        let joining = most.map_or("whole prompts".to_owned(), |most| format!("up to {most} prompt tokens"));
        notes.push(format!(
            "chunked prefill: {joining} join each decode step, first come first served; a chunk adds what it adds to \
             its prompt's own step, an even share to every layer: nothing is lost to small chunks (assumed)"
        ));
        notes.push(
            "chunked prefill: a request takes the memory of its whole prompt when it is admitted, and planners count \
             it as one that decodes; steps with prompt tokens have no forecast, and step TBT has those tokens in it"
                .to_owned(),
        );
    }
    if scenario.slo.ttft.is_none() && trace.requests.iter().any(|request| request.ttft_slo.is_none()) {
        notes.push("no TTFT SLO is set: 5 s is taken for `ttft` and `e2e`, none for goodput".to_owned());
    }
    let own = trace.requests.iter().filter(|request| request.slo.is_some()).count();
    if own > 0 {
        notes.push(format!("{own} requests have an SLO of their own: it is multiplied by the SLO scale"));
    }
    if let Some(longest) = trace.hints.max_model_len {
        let enforced = match scenario.trace.max_context {
            Some(limit) => format!("{limit} is enforced"),
            None => "not enforced".to_owned(),
        };
        notes.push(format!("the trace names a max_model_len of {longest} tokens: {enforced}"));
    }
    if trace.requests.iter().any(|request| matches!(request.arrival, Arrival::Step(_))) {
        notes.push(
            "arrivals are in engine steps: the offered load per second depends on the policy \
             (`requests_per_min` in results.json)"
                .to_owned(),
        );
    }
    notes.push(
        "one replica, no prefix cache, no speculative decoding; answer quality is not simulated".to_owned(),
    );
    notes
}

/// The SLO of each scale (design §6): `compute(16·N, batch_size)` of the truth, N = blocks per layer of the pool.
fn scoring(
    scenario: &Scenario,
    truth: &CostModel,
    server: &ServerConfig,
    notes: &mut Vec<String>,
) -> Result<Scoring, RunError> {
    let slo = |secs: f64| {
        SimDuration::try_from_secs_f64(secs)
            .map_err(|error| RunError::from(scenario.refuse("slo.scale", error.to_string(), None)))
    };
    let scales = match &scenario.slo.per_token {
        TokenSlo::Absolute(slo) => {
            notes.push(format!("SLO {slo} per token, absolute"));
            vec![ScaleSlo { scale: 1.0, slo: *slo }]
        }
        TokenSlo::Scale(scales) => {
            let per_layer = server.gpu_blocks / u64::from(scenario.model.layers);
            let base = truth.compute_s(16 * per_layer, server.batch_size);
            notes.push(format!(
                "base SLO {:.3} ms per token: compute of a full, fully resident GPU ({} tokens, batch {})",
                base * 1e3,
                16 * per_layer,
                server.batch_size
            ));
            let scaled = scales.iter().map(|scale| Ok(ScaleSlo { scale: *scale, slo: slo(base * scale)? }));
            scaled.collect::<Result<_, RunError>>()?
        }
    };
    Ok(Scoring { scales, ttft_slo: scenario.slo.ttft, warmup: scenario.warmup })
}

fn contenders(
    scenario: &Scenario,
    known: &Known,
    batch_size: u32,
    notes: &mut Vec<String>,
) -> Result<Vec<Contender>, RunError> {
    let mut contenders = Vec::new();
    let mut oracles = Vec::new();
    let mut told_truth = Vec::new();
    for (index, spec) in scenario.policies.iter().enumerate() {
        let entry = registry::find(&spec.use_).ok_or_else(|| {
            let known = || registry::METHODS.iter().map(|entry| entry.key);
            let problem = format!("expected a policy: {}", known().collect::<Vec<_>>().join(", "));
            let hint = did_you_mean(&spec.use_, known())
                .unwrap_or_else(|| "`orbitflow list policies` says what each does".to_owned());
            scenario.refuse(&scenario.policy_key(index), problem, Some(hint))
        })?;
        if entry.method.read_of(spec.planner, scenario.planner) != spec.planner {
            let problem = match entry.method {
                Method::SelectN => "expected no [planner] key but `as_coded`: this policy has no planner",
                Method::Oracle => "expected no [planner] key but `node_cap`: this policy has no planner",
                _ if spec.planner.as_coded != scenario.planner.as_coded => {
                    "expected no `as_coded`: `selectn` alone has a rule as published and one as coded"
                }
                _ => "expected no [planner] keys: this policy has no planner",
            };
            return Err(scenario.refuse(&scenario.policy_key(index), problem, None).into());
        }
        if let Some(most) = entry.method.most_requests().filter(|most| batch_size > *most) {
            let problem = format!(
                "expected a batch_size of at most {most} for this policy: it is {batch_size}, and every layer of every \
                 request is searched"
            );
            let hint = format!("leave it out of `policies`, or set `batch_size = {most}` for all of them");
            return Err(scenario.refuse(&scenario.policy_key(index), problem, Some(hint)).into());
        }
        if entry.method.knows_truth() {
            told_truth.push(spec.key.as_str());
        }
        if entry.method.knows_lengths() {
            oracles.push(spec.key.as_str());
        }
        let (method, switches, known) = (entry.method, spec.planner, known.clone());
        let label = match &spec.label {
            Some(label) => label.clone(),
            None if spec.key != spec.use_ => spec.key.clone(),
            None => entry.label.to_owned(),
        };
        contenders.push(Contender::new(&spec.key, &label, move || method.build(switches, &known)));
    }
    if !oracles.is_empty() {
        notes.push(format!(
            "told what no server can know ({}): requests of this trace end with {} tokens (prompt + output) in the mean",
            oracles.join(", "),
            known.mean_final_tokens
        ));
    }
    if !told_truth.is_empty() {
        notes.push(format!(
            "told what no server can know ({}): the true time of every step it could make; a ceiling of single steps, which \
             pays for restores as everyone does and no solver time",
            told_truth.join(", ")
        ));
    }
    Ok(contenders)
}

/// Mean of prompt + output tokens over the requests of the trace, rounded up: what oracle methods are told.
fn mean_final_tokens(trace: &Trace) -> u64 {
    let lengths = trace.requests.iter().map(|request| request.prompt_tokens + request.output_tokens);
    lengths.sum::<u64>().div_ceil(trace.requests.len() as u64)
}

/// SHA-256 of everything that determines the results: switches and names, trace, profiles, this program's version.
fn digest(
    scenario: &Scenario,
    trace: &Trace,
    profile: &HardwareProfile,
    believed: Option<&HardwareProfile>,
) -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(scenario.digest_input());
    hash.update(format!("{:?}\n", scenario.model));
    for profile in [Some(profile), believed].into_iter().flatten() {
        hash.update(
            serde_json::to_string(profile).expect("Invariant: a profile that was read can be written"),
        );
        hash.update("\n");
    }
    let mut line = String::new();
    for request in &trace.requests {
        line.clear();
        writeln!(line, "{request:?}").expect("Invariant: a string takes any text");
        hash.update(&line);
    }
    hash.update(format!("{:?}", trace.hints));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
