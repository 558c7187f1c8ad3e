//! From the tree of a scenario's text to a [`Scenario`]: one function per section.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{EXCLUSIVE, Node, Table, Value, shorten};
use super::error::{BadValue, Place, ScenarioError};
use super::keys::{self, SectionName};
use super::section::{OrWord, Section, bad_node};
use super::{
    GpuKv, KvCacheType, LinkIntercept, PolicySpec, PrefillSpec, Scenario, Semantics, SloSpec, Source,
    TokenSlo, TraceSource, TraceSpec,
};
use crate::model::{self, Imported, TensorParallel};
use crate::planner::{Objective, PlannerSwitches};
use crate::server::{Noise, ServerSwitches, SolverTime};
use crate::trace::generate::PaperRecipe;
use crate::units::SimDuration;

/// Reads and checks the whole document.
pub fn scenario(root: &Table, name: &str, base: &Path) -> Result<Scenario, ScenarioError> {
    let open = |section| Section::open(root, section, name);
    // Opening refuses unknown keys: all sections before any value, so that a misspelt key is named first.
    let top = open(SectionName::Top)?;
    let (trace, slo) = (open(SectionName::Trace)?, open(SectionName::Slo)?);
    let (prefill, engine) = (open(SectionName::Prefill)?, open(SectionName::Engine)?);
    let (noise, planner) = (open(SectionName::Noise)?, open(SectionName::Planner)?);
    let draw = open(SectionName::Draw)?;
    refuse_exclusive(root)?;

    let semantics: Semantics = top.choice("semantics")?.unwrap_or_default();
    let hint = "`orbitflow list models` names the presets";
    let model_name =
        top.text("model")?.ok_or_else(|| top.missing("model", "a preset or a config.json", Some(hint)))?;
    let from = |key| if top.is_override(key) { Path::new("") } else { base };
    let model_source = source(model_name, from("model"));
    let hint = "`orbitflow list profiles` names the presets";
    let hardware =
        top.text("hardware")?.ok_or_else(|| top.missing("hardware", "a preset or a profile", Some(hint)))?;
    let mut engine_switches = semantics.engine();
    engine_section(&engine, &noise, &mut engine_switches)?;
    let mut planner_switches = semantics.planner();
    planner_section(&planner, &mut planner_switches)?;
    if let Some(admit) = planner.switch("admit_past_paused")? {
        engine_switches.admit_past_paused = admit;
    }
    let Imported { mut model, notes: model_notes } = resolve_model(&top, &model_source)?;
    let kv_cache_type = top.choice::<KvCacheType>("kv_cache_dtype")?;
    let kv_cache_type = kv_cache_type.filter(|kind| kind.element_bytes() != model.kv_element_bytes);
    model.kv_element_bytes = kv_cache_type.map_or(model.kv_element_bytes, KvCacheType::element_bytes);
    let seed = top.count("seed")?.unwrap_or(42);
    Ok(Scenario {
        name: name.to_owned(),
        seed,
        semantics,
        model,
        model_notes,
        kv_cache_type,
        model_source,
        hardware: source(hardware, from("hardware")),
        planner_profile: top.text("planner_profile")?.map(|name| source(name, from("planner_profile"))),
        link: top.rate("link")?,
        batch_size: top.small_count("batch_size")?,
        gpu_kv: match top.count("gpu_kv_blocks")? {
            Some(blocks) => Some(GpuKv::BlocksPerLayer(blocks)),
            None => top.bytes("gpu_kv")?.map(GpuKv::Bytes),
        },
        host_kv: engine.bytes("host_kv")?,
        policies: policies(&top, &planner_switches, name)?,
        warmup: top.duration("warmup")?.unwrap_or(SimDuration::ZERO),
        trace: trace_section(&trace, trace_source(&trace, &draw, seed, name, base)?)?,
        slo: slo_section(&slo)?,
        prefill: prefill_section(&prefill)?,
        engine: engine_switches,
        link_intercept: engine.choice::<LinkIntercept>("link_intercept")?.unwrap_or_default(),
        contention: engine.switch("contention")?.unwrap_or(true),
        parallel: TensorParallel {
            gpus: engine.small_count("tensor_parallel")?.unwrap_or(1),
            shared_link: engine.switch("shared_link")?.unwrap_or(false),
        },
        planner: planner_switches,
        written: written(root),
    })
}

fn refuse_exclusive(root: &Table) -> Result<(), ScenarioError> {
    let written = written(root);
    for [one, other] in EXCLUSIVE {
        if let (Some(_), Some((place, value))) = (written.get(*one), written.get(*other)) {
            return Err(ScenarioError::from(BadValue {
                place: place.clone(),
                key: (*other).to_owned(),
                value: value.clone(),
                problem: format!("expected either `{other}` or `{one}`: both are given"),
                hint: Some(format!("take one of them out; `--set {other}=…` replaces `{one}`")),
            }));
        }
    }
    Ok(())
}

/// A path if it looks like one (a slash, or `.json` at its end), relative to `base`: the folder of the scenario, or
/// the working directory for what the command line overrides; a preset otherwise.
fn source(text: &str, base: &Path) -> Source {
    if text.contains('/') || text.contains('\\') || text.ends_with(".json") {
        Source::File(base.join(text))
    } else {
        Source::Preset(text.to_owned())
    }
}

fn resolve_model(top: &Section<'_>, source: &Source) -> Result<Imported, ScenarioError> {
    match source {
        Source::Preset(name) => {
            model::preset(name).map(|model| Imported { model, notes: Vec::new() }).ok_or_else(|| {
                let known = model::PRESETS.iter().map(|preset| preset.name);
                let nearest =
                    keys::nearest(name, known).map(|(known, _)| format!("the nearest preset is \"{known}\""));
                top.bad("model", "expected a model preset or a path to a config.json", nearest.as_deref())
            })
        }
        Source::File(path) => {
            // The path once, where it is the value as written.
            let written = format!("{}: ", top.text("model")?.unwrap_or_default());
            model::read_config(path).map_err(|error| {
                let problem = error.to_string();
                let hint = "`orbitflow list models` names the presets; a file is a Hugging Face config.json";
                top.bad("model", problem.strip_prefix(&written).unwrap_or(&problem), Some(hint))
            })
        }
    }
}

fn trace_source(
    trace: &Section<'_>,
    draw: &Section<'_>,
    seed: u64,
    name: &str,
    base: &Path,
) -> Result<TraceSource, ScenarioError> {
    if trace.node("draw").is_some() {
        draw.choice::<DrawRecipe>("recipe")?;
        let mut recipe = PaperRecipe { seed, ..PaperRecipe::default() };
        let requests = draw.count("requests")?;
        set(&mut recipe.requests, requests.map(|count| usize::try_from(count).unwrap_or(usize::MAX)));
        set(&mut recipe.load, draw.number("load")?);
        set(&mut recipe.cv, draw.number("cv")?);
        set(&mut recipe.batch_size, draw.small_count("batch_size")?);
        set(&mut recipe.length_scale, draw.number("length_scale")?);
        return Ok(TraceSource::Draw(recipe));
    }
    let hint =
        "`orbitflow trace generate` writes one; `draw = { recipe = \"paper\" }` draws one without a file";
    let file = trace.text("file")?.ok_or_else(|| trace.missing("file", "a trace file", Some(hint)))?;
    if file == "-" && name == "-" {
        return Err(trace.bad("file", "expected a file: the scenario itself comes from stdin", None));
    }
    Ok(TraceSource::File(match file {
        "-" => file.into(),
        _ if trace.is_override("file") => file.into(),
        _ => base.join(file),
    }))
}

/// The recipes of `trace.draw`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DrawRecipe {
    Paper,
}

fn trace_section(trace: &Section<'_>, source: TraceSource) -> Result<TraceSpec, ScenarioError> {
    Ok(TraceSpec {
        source,
        format: trace.text("format")?.map(str::to_owned),
        load: trace.number("load")?.unwrap_or(1.0),
        limit: trace.count("limit")?,
        min_prompt_tokens: trace.count("min_prompt_tokens")?,
        max_context: trace.count("max_context")?,
        step_time: trace.duration("step_time")?,
        arrivals: trace.text("arrivals")?.map(str::to_owned),
    })
}

fn slo_section(slo: &Section<'_>) -> Result<SloSpec, ScenarioError> {
    let per_token = match slo.duration("tbt")? {
        Some(tbt) => TokenSlo::Absolute(tbt),
        None => TokenSlo::Scale(slo.numbers("scale")?.unwrap_or_else(|| vec![1.5, 1.0, 2.5])),
    };
    Ok(SloSpec { per_token, ttft: slo.duration("ttft")? })
}

fn prefill_section(prefill: &Section<'_>) -> Result<Option<PrefillSpec>, ScenarioError> {
    if !prefill.is_given() {
        return Ok(None);
    }
    let base = prefill.duration("base")?.unwrap_or(SimDuration::ZERO);
    let hint = "take [prefill] out for the profile's own cost";
    let missing = || prefill.missing("per_token", "a duration, for example \"0.1 ms\"", Some(hint));
    let per_token = prefill.duration("per_token")?.ok_or_else(missing)?;
    Ok(Some(PrefillSpec { base, per_token }))
}

fn engine_section(
    engine: &Section<'_>,
    noise: &Section<'_>,
    switches: &mut ServerSwitches,
) -> Result<(), ScenarioError> {
    set(&mut switches.charge_staging, engine.switch("charge_staging")?);
    set(&mut switches.slots, engine.small_count("slots")?);
    set(&mut switches.copy_order, engine.choice("copy_order")?);
    set(&mut switches.cross_step_prefetch, engine.switch("cross_step_prefetch")?);
    set(&mut switches.write_back, engine.choice("write_back")?);
    set(&mut switches.restore, engine.choice("restore")?);
    set(&mut switches.admission, engine.choice("admission")?);
    set(&mut switches.prefill, engine.prefill("prefill")?);
    set(&mut switches.planning, engine.choice("planning")?);
    let solver_time = engine.duration_or_word("solver_time")?.map(|time| match time {
        OrWord::Quantity(span) => SolverTime::Fixed(span),
        OrWord::Word => SolverTime::Table,
    });
    set(&mut switches.solver_time, solver_time);
    let Noise { compute_cv, copy_cv } = switches.noise;
    switches.noise = Noise {
        compute_cv: noise.number("compute_cv")?.unwrap_or(compute_cv),
        copy_cv: noise.number("copy_cv")?.unwrap_or(copy_cv),
    };
    Ok(())
}

fn planner_section(planner: &Section<'_>, switches: &mut PlannerSwitches) -> Result<(), ScenarioError> {
    set(&mut switches.failure_budget, planner.number("failure_budget")?);
    set(&mut switches.deposit, planner.switch("deposit")?);
    set(&mut switches.pause, planner.switch("pause")?);
    set(&mut switches.victim, planner.choice("victim")?);
    set(&mut switches.feedback, planner.switch("feedback")?);
    set(&mut switches.replan_tolerance, planner.number("replan_tolerance")?);
    set(&mut switches.replan_patience, planner.small_count("replan_patience")?);
    set(&mut switches.replan_at_window_end, planner.switch("replan_at_window_end")?);
    set(&mut switches.resume_at_window_end, planner.switch("resume_at_window_end")?);
    let max_pause = planner.duration_or_word("max_pause")?.map(|pause| match pause {
        OrWord::Quantity(span) => Some(span),
        OrWord::Word => None,
    });
    set(&mut switches.max_pause, max_pause);
    set(&mut switches.uniform, planner.switch("uniform")?);
    set(&mut switches.as_coded, planner.switch("as_coded")?);
    set(&mut switches.node_cap, planner.count("node_cap")?);
    set(&mut switches.placement_space, planner.choice("placement_space")?);
    set(&mut switches.forecast, planner.choice("forecast")?);
    set(&mut switches.objective, planner.choice("objective")?);
    set(&mut switches.migration_cost, planner.switch("migration_cost")?);
    if switches.objective == Objective::Goodput && !switches.pause {
        let named = if planner.node("objective").is_some() { "objective" } else { "pause" };
        return Err(planner.bad(
            named,
            "expected `pause = true` beside `objective = \"goodput\"`, which pauses",
            None,
        ));
    }
    Ok(())
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

fn policies(
    top: &Section<'_>,
    planner: &PlannerSwitches,
    file: &str,
) -> Result<Vec<PolicySpec>, ScenarioError> {
    let expected = "a list of policies, for example [\"orbitflow\", \"static-1\"]";
    let hint = "`orbitflow list policies` names them";
    let node = top.node("policies").ok_or_else(|| top.missing("policies", expected, Some(hint)))?;
    let items = match &node.value {
        Value::List(items) if !items.is_empty() => items,
        _ => return Err(top.bad("policies", &format!("expected {expected}"), Some(hint))),
    };
    let mut specs: Vec<PolicySpec> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("policies[{index}]");
        let spec = policy(item, &path, planner, file)?;
        if specs.iter().any(|other| other.key == spec.key) {
            let hint = format!("give it a key: {{ use = \"{}\", key = \"…\" }}", spec.use_);
            let problem = format!("expected different keys: `{}` stands twice", spec.key);
            return Err(bad_node(item, &path, &problem, Some(&hint)));
        }
        specs.push(spec);
    }
    Ok(specs)
}

fn policy(
    item: &Node,
    path: &str,
    planner: &PlannerSwitches,
    file: &str,
) -> Result<PolicySpec, ScenarioError> {
    let expected = "expected a policy's name, or a table like { use = \"orbitflow\", key = \"mine\" }";
    let table = match &item.value {
        Value::Text(name) if is_key(name) => {
            return Ok(PolicySpec { use_: name.clone(), key: name.clone(), label: None, planner: *planner });
        }
        Value::Table(table) => table,
        _ => return Err(bad_node(item, path, expected, None)),
    };
    refuse_unknown_policy_keys(table, path)?;
    let section = Section::of_policy(path.to_owned(), table, file);
    let name = |name: &str| match section.text(name)? {
        Some(text) if !is_key(text) => {
            Err(section.bad(name, "expected lower-case letters, digits, `-`, `_` and `.`", None))
        }
        text => Ok(text.map(str::to_owned)),
    };
    let use_ = name("use")?.ok_or_else(|| ScenarioError::Missing {
        place: item.place.clone(),
        key: section.dotted("use"),
        expected: "the name of a policy".to_owned(),
        hint: Some("`orbitflow list policies` names them".to_owned()),
    })?;
    let mut switches = *planner;
    planner_section(&section, &mut switches)?;
    refuse_contradictions(&section, &use_)?;
    Ok(PolicySpec {
        key: name("key")?.unwrap_or_else(|| use_.clone()),
        label: section.text("label")?.map(str::to_owned),
        use_,
        planner: switches,
    })
}

/// Keys name policies in files and on the command line.
fn is_key(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(allowed)
}

const POLICY_KEYS: [&str; 3] = ["use", "key", "label"];

fn refuse_unknown_policy_keys(table: &Table, path: &str) -> Result<(), ScenarioError> {
    let switches = || keys::KEYS.iter().filter(|key| keys::policy_may_override(key)).map(|key| key.name);
    let known = |name: &str| POLICY_KEYS.contains(&name) || switches().any(|switch| switch == name);
    let Some(entry) = table.entries.iter().find(|entry| !known(&entry.key)) else { return Ok(()) };
    let owner = keys::KEYS.iter().find(|key| key.name == entry.key);
    let hint = match owner {
        Some(key) if key.section == SectionName::Top => {
            format!("`{}` is the whole scenario's: it stands at the top of the file", entry.key)
        }
        Some(key) => {
            format!("`{}` is the whole scenario's: it belongs in [{}]", entry.key, key.section.path())
        }
        None => match keys::nearest(&entry.key, POLICY_KEYS.into_iter().chain(switches())) {
            Some((nearest, _)) => format!("the nearest key is `{nearest}`"),
            None => "a policy has `use`, `key`, `label` and the switches of [planner]".to_owned(),
        },
    };
    Err(ScenarioError::UnknownKey {
        place: entry.place.clone(),
        key: format!("{path}.{}", entry.key.escape_debug()),
        hint,
    })
}

/// What the names of variants fix, whatever is written beside them: policy, switch, its value, and who has the other.
const FIXED_BY_NAME: [(&str, &str, bool, &str); 12] = [
    ("orbitflow-no-deposit", "deposit", false, "use = \"orbitflow\" has it"),
    ("orbitflow-no-pause", "pause", false, "use = \"orbitflow\" has it"),
    ("orbitflow-no-feedback", "feedback", false, "use = \"orbitflow\" has it"),
    ("uniform", "uniform", true, "use = \"orbitflow\" has its own for each request"),
    ("uniform", "deposit", false, "use = \"uniform-td\" has it"),
    ("uniform", "pause", false, "use = \"uniform-td-pr\" has it"),
    ("uniform-td", "uniform", true, "use = \"orbitflow\" has its own for each request"),
    ("uniform-td", "deposit", true, "use = \"uniform\" is without it"),
    ("uniform-td", "pause", false, "use = \"uniform-td-pr\" has it"),
    ("uniform-td-pr", "uniform", true, "use = \"orbitflow\" has its own for each request"),
    ("uniform-td-pr", "deposit", true, "use = \"uniform\" is without it"),
    ("uniform-td-pr", "pause", true, "use = \"uniform-td\" is without it"),
];

/// Refuses a switch beside a variant whose name says the opposite.
fn refuse_contradictions(section: &Section<'_>, use_: &str) -> Result<(), ScenarioError> {
    for (_, switch, fixed, hint) in FIXED_BY_NAME.iter().filter(|(policy, ..)| *policy == use_) {
        if section.switch(switch)? == Some(!fixed) {
            let why = match (*switch, *fixed) {
                ("uniform", _) => "has one common distance",
                (_, true) => "has it",
                (_, false) => "is without it",
            };
            return Err(section.bad(switch, &format!("expected {fixed}: `{use_}` {why}"), Some(hint)));
        }
    }
    Ok(())
}

/// Every value of the text that is no table, by its dotted key, with its place.
fn written(root: &Table) -> BTreeMap<String, (Place, String)> {
    fn visit(node: &Node, path: String, all: &mut BTreeMap<String, (Place, String)>) {
        match &node.value {
            Value::Table(table) => {
                let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                for entry in &table.entries {
                    visit(&entry.node, join(&entry.key), all);
                }
            }
            value => {
                if let Value::List(items) = value {
                    for (index, item) in items.iter().enumerate() {
                        visit(item, format!("{path}[{index}]"), all);
                    }
                }
                all.insert(path, (node.place.clone(), shorten(&value.show())));
            }
        }
    }
    let mut all = BTreeMap::new();
    let top = Node { value: Value::Table(root.clone()), place: Place::File(String::new()) };
    visit(&top, String::new(), &mut all);
    all
}
