//! The switches of a scenario as text: what is off its preset, and what goes into its digest.

use std::collections::BTreeMap;

use serde::Serialize;

use super::quantity::{show_bytes, show_duration, show_rate};
use super::{GpuKv, LinkIntercept, Scenario, Semantics, Source, TokenSlo, TraceSource};
use crate::model::TensorParallel;
use crate::planner::{Forecast, Objective, PlacementSpace, PlannerSwitches, Victim};
use crate::server::{Prefill, ServerSwitches, SolverTime};

/// Name of a switch to its value, as TOML would have it without quotes.
type Shown = BTreeMap<String, String>;

/// Every switch that a preset of the semantics sets, `section.key` to its value.
pub fn preset(semantics: Semantics) -> Shown {
    let mut shown = engine(&semantics.engine(), LinkIntercept::default());
    shown.extend(prefixed("planner", planner(&semantics.planner())));
    shown
}

/// Switches of `scenario` that its preset has otherwise.
pub fn off_preset(scenario: &Scenario) -> Shown {
    let preset = preset(scenario.semantics);
    let mut off = engine(&scenario.engine, scenario.link_intercept);
    off.extend(prefixed("planner", planner(&scenario.planner)));
    off.retain(|switch, value| preset.get(switch) != Some(value));
    off.extend(without_contention(scenario));
    off.extend(split_model(scenario));
    if let Some(host_kv) = scenario.host_kv {
        off.insert("engine.host_kv".to_owned(), show_bytes(host_kv));
    }
    if let Some(link) = scenario.link {
        off.insert("link".to_owned(), show_rate(link));
    }
    let common = planner(&scenario.planner);
    for policy in &scenario.policies {
        let mut own = planner(&policy.planner);
        own.retain(|switch, value| common.get(switch) != Some(value));
        off.extend(prefixed(&format!("policies.{}", policy.key), own));
    }
    off
}

/// `key = value` lines, sorted by key; see [`Scenario::digest_input`].
pub fn digest_input(scenario: &Scenario) -> String {
    let mut all = engine(&scenario.engine, scenario.link_intercept);
    all.extend(prefixed("planner", planner_digest(&scenario.planner)));
    all.extend(without_contention(scenario));
    all.extend(split_model(scenario));
    all.extend(prefixed("server", server(scenario)));
    all.extend(prefixed("trace", trace(scenario)));
    for (index, policy) in scenario.policies.iter().enumerate() {
        let mut own = planner_digest(&policy.planner);
        own.insert("use".to_owned(), policy.use_.clone());
        own.insert("key".to_owned(), policy.key.clone());
        own.insert("label".to_owned(), format!("{:?}", policy.label));
        all.extend(prefixed(&format!("policies[{index}]"), own));
    }
    all.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

/// The switch that no semantics set: it is named only where it is off, so that digests of scenarios written before
/// there was one stay as they were.
fn without_contention(scenario: &Scenario) -> Shown {
    if scenario.contention { Shown::new() } else { shown([("engine.contention", "false".to_owned())]) }
}

/// How the model lies on GPUs, which no semantics set either: named only where it is off.
fn split_model(scenario: &Scenario) -> Shown {
    let mut off = Shown::new();
    let TensorParallel { gpus, shared_link } = scenario.parallel;
    if gpus != TensorParallel::NONE.gpus {
        off.insert("engine.tensor_parallel".to_owned(), gpus.to_string());
    }
    if shared_link != TensorParallel::NONE.shared_link {
        off.insert("engine.shared_link".to_owned(), shared_link.to_string());
    }
    if let Some(kind) = scenario.kv_cache_type {
        off.insert("kv_cache_dtype".to_owned(), kind.name().to_owned());
    }
    off
}

fn server(scenario: &Scenario) -> Shown {
    let or_absent = |value: Option<String>| value.unwrap_or_else(|| "absent".to_owned());
    let model = scenario.model.clone();
    let prefill =
        scenario.prefill.map(|p| format!("{} + {}", show_duration(p.base), show_duration(p.per_token)));
    shown([
        ("seed", scenario.seed.to_string()),
        ("semantics", scenario.semantics.name().to_owned()),
        ("model", source(&scenario.model_source)),
        // The path a model file was read from does not change results, its sizes do.
        ("model_sizes", format!("{:?}", crate::model::ModelSpec { name: String::new(), ..model })),
        ("hardware", source(&scenario.hardware)),
        ("planner_profile", or_absent(scenario.planner_profile.as_ref().map(source))),
        ("link", or_absent(scenario.link.map(show_rate))),
        ("batch_size", or_absent(scenario.batch_size.map(|n| n.to_string()))),
        (
            "gpu_kv",
            or_absent(scenario.gpu_kv.map(|size| match size {
                GpuKv::BlocksPerLayer(blocks) => format!("{blocks} blocks per layer"),
                GpuKv::Bytes(bytes) => show_bytes(bytes),
            })),
        ),
        ("host_kv", or_absent(scenario.host_kv.map(show_bytes))),
        ("prefill", or_absent(prefill)),
        ("warmup", show_duration(scenario.warmup)),
        (
            "slo",
            match &scenario.slo.per_token {
                TokenSlo::Scale(scales) => format!("{scales:?}"),
                TokenSlo::Absolute(span) => show_duration(*span),
            },
        ),
        ("ttft", or_absent(scenario.slo.ttft.map(show_duration))),
    ])
}

fn trace(scenario: &Scenario) -> Shown {
    let trace = &scenario.trace;
    let mut all = shown([
        ("format", format!("{:?}", trace.format)),
        ("load", trace.load.to_string()),
        ("limit", format!("{:?}", trace.limit)),
        ("min_prompt_tokens", format!("{:?}", trace.min_prompt_tokens)),
        ("max_context", format!("{:?}", trace.max_context)),
        ("step_time", format!("{:?}", trace.step_time.map(show_duration))),
        ("arrivals", format!("{:?}", trace.arrivals)),
    ]);
    if let TraceSource::Draw(recipe) = &trace.source {
        all.insert("draw".to_owned(), format!("{recipe:?}"));
    }
    all
}

/// A preset by its name; a file by its contents, which the runner hashes.
fn source(source: &Source) -> String {
    match source {
        Source::Preset(name) => format!("{name:?}"),
        Source::File(_) => "a file".to_owned(),
    }
}

fn engine(switches: &ServerSwitches, link_intercept: LinkIntercept) -> Shown {
    let ServerSwitches {
        charge_staging,
        slots,
        copy_order,
        cross_step_prefetch,
        write_back,
        restore,
        admission,
        prefill,
        planning,
        solver_time,
        admit_past_paused,
        noise,
    } = switches;
    let solver_time = match solver_time {
        SolverTime::Fixed(span) => show_duration(*span),
        SolverTime::Table => "table".to_owned(),
    };
    let mut all = prefixed(
        "engine",
        shown([
            ("charge_staging", charge_staging.to_string()),
            ("slots", slots.to_string()),
            ("copy_order", word(copy_order)),
            ("write_back", word(write_back)),
            ("restore", word(restore)),
            ("admission", word(admission)),
            ("planning", word(planning)),
            ("solver_time", solver_time),
            ("link_intercept", word(&link_intercept)),
            ("noise.compute_cv", noise.compute_cv.to_string()),
            ("noise.copy_cv", noise.copy_cv.to_string()),
        ]),
    );
    // They came later: named only where they are on, so that digests of scenarios written before stay as they were.
    if *cross_step_prefetch {
        all.insert("engine.cross_step_prefetch".to_owned(), true.to_string());
    }
    if *prefill != Prefill::Separate {
        all.insert("engine.prefill".to_owned(), prefill.to_string());
    }
    // The engine reads it, but it is a switch of §4 and stands in that section.
    all.insert("planner.admit_past_paused".to_owned(), admit_past_paused.to_string());
    all
}

fn planner(switches: &PlannerSwitches) -> Shown {
    let PlannerSwitches {
        failure_budget,
        deposit,
        pause,
        victim,
        feedback,
        replan_tolerance,
        replan_patience,
        replan_at_window_end,
        resume_at_window_end,
        max_pause,
        uniform,
        as_coded,
        node_cap,
        placement_space,
        forecast,
        objective,
        migration_cost,
    } = switches;
    shown([
        ("failure_budget", failure_budget.to_string()),
        ("deposit", deposit.to_string()),
        ("pause", pause.to_string()),
        ("victim", word(victim)),
        ("feedback", feedback.to_string()),
        ("replan_tolerance", replan_tolerance.to_string()),
        ("replan_patience", replan_patience.to_string()),
        ("replan_at_window_end", replan_at_window_end.to_string()),
        ("resume_at_window_end", resume_at_window_end.to_string()),
        ("max_pause", max_pause.map_or_else(|| "off".to_owned(), show_duration)),
        ("uniform", uniform.to_string()),
        ("as_coded", as_coded.to_string()),
        ("node_cap", node_cap.to_string()),
        ("placement_space", word(placement_space)),
        ("forecast", word(forecast)),
        ("objective", word(objective)),
        ("migration_cost", migration_cost.to_string()),
    ])
}

/// [`planner`], without the switches that came later where they have the value that every scenario had before: digests
/// of scenarios written then stay as they were.
fn planner_digest(switches: &PlannerSwitches) -> Shown {
    let mut all = planner(switches);
    let came_later = [
        ("victim", word(&Victim::Longest)),
        ("as_coded", false.to_string()),
        ("placement_space", word(&PlacementSpace::Distance)),
        ("forecast", word(&Forecast::Prefix)),
        ("objective", word(&Objective::StepTime)),
        ("replan_at_window_end", true.to_string()),
        ("migration_cost", false.to_string()),
    ];
    all.retain(|switch, value| !came_later.iter().any(|(later, was)| switch == later && value == was));
    all
}

/// The word that a choice has in files.
fn word<T: Serialize>(choice: &T) -> String {
    let value = serde_json::to_value(choice).expect("Invariant: a choice is a word");
    value.as_str().expect("Invariant: a choice is a word").to_owned()
}

fn shown<const N: usize>(pairs: [(&str, String); N]) -> Shown {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn prefixed(section: &str, switches: Shown) -> Shown {
    switches.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)).collect()
}
