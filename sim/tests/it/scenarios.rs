//! Scenario files: what they may say and what it means; the commands around them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use orbitflow_sim::pipeline::CopyOrder;
use orbitflow_sim::planner::{PlannerSwitches, Victim};
use orbitflow_sim::runner;
use orbitflow_sim::scenario::{
    GpuKv, LinkIntercept, Scenario, Semantics, Source, TokenSlo, TraceFacts, TraceSource, template,
};
use orbitflow_sim::server::{Admission, Planning, Restore, ServerSwitches, SolverTime, WriteBack};
use orbitflow_sim::trace::generate::{PaperRecipe, generate_paper};
use orbitflow_sim::units::{Bytes, SimDuration};

/// A scenario of five lines; what a test adds begins on line 6.
pub const SMALL: &str = "\
model = \"llama-3-8b\"
hardware = \"engine-fit:a6000\"
policies = [\"orbitflow\", \"static-1\"]
trace.file = \"t.json\"
slo.scale = [1]
";

pub fn parse(text: &str, overrides: &[&str]) -> Result<Scenario, String> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Scenario::parse(text, "demo.toml", Path::new("scenarios"), &overrides).map_err(|error| error.to_string())
}

fn set(overrides: &[&str]) -> Scenario {
    parse(SMALL, overrides).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_example_of_the_design_is_read() {
    let text = r#"
seed = 7
semantics = "published"
model = "llama-3-8b"
hardware = "engine-fit:a6000"
batch_size = 4
gpu_kv_blocks = 561
policies = ["orbitflow", "static-1", { use = "orbitflow", key = "orbitflow-strict", label = "F = 0", failure_budget = 0 }]
[trace]
file = "t.json"
format = "orbitflow"
load = 1.0
[slo]
scale = [1.5, 1, 2.5]
ttft = "5 s"
[prefill]
base = "0 s"
per_token = "0.1 ms"
[engine]
slots = 2
noise = { compute_cv = 0.05, copy_cv = 0.1 }
host_kv = "64 GiB"
[planner]
max_pause = "3 min"
"#;
    let scenario = parse(text, &[]).unwrap();
    assert_eq!((scenario.seed, scenario.semantics), (7, Semantics::Published));
    assert_eq!(scenario.model.name, "llama-3-8b");
    assert_eq!(scenario.hardware, Source::Preset("engine-fit:a6000".to_owned()));
    assert_eq!((scenario.batch_size, scenario.gpu_kv), (Some(4), Some(GpuKv::BlocksPerLayer(561))));
    assert_eq!(
        scenario.trace.source,
        TraceSource::File(PathBuf::from("scenarios/t.json")),
        "relative to the scenario"
    );
    assert_eq!(scenario.slo.per_token, TokenSlo::Scale(vec![1.5, 1.0, 2.5]));
    assert_eq!(scenario.slo.ttft, Some(SimDuration::from_secs(5)));
    assert_eq!(scenario.prefill.unwrap().per_token, SimDuration::from_picos(100_000_000));
    assert_eq!((scenario.engine.noise.compute_cv, scenario.engine.noise.copy_cv), (0.05, 0.1));
    assert_eq!(scenario.host_kv, Some(Bytes::new(64 << 30)));
    assert_eq!(scenario.planner.max_pause, Some(SimDuration::from_secs(180)));
    let strict = &scenario.policies[2];
    assert_eq!((strict.use_.as_str(), strict.key.as_str()), ("orbitflow", "orbitflow-strict"));
    assert_eq!(strict.label.as_deref(), Some("F = 0"));
    assert_eq!(strict.planner, PlannerSwitches { failure_budget: 0.0, ..scenario.planner });
    assert_eq!(scenario.policies[0].planner, scenario.planner);
}

#[test]
fn what_is_absent_has_the_value_of_the_physical_semantics() {
    let scenario = set(&[]);
    assert_eq!((scenario.seed, scenario.semantics), (42, Semantics::Physical));
    let ServerSwitches { charge_staging, slots, copy_order, write_back, restore, .. } = scenario.engine;
    // The right column of the table in design §3.7, row by row.
    assert_eq!((charge_staging, slots, copy_order), (true, 2, CopyOrder::ReadyFirst));
    assert_eq!((write_back, restore), (WriteBack::Link, Restore::Lazy));
    assert_eq!(scenario.engine.admission, Admission::Reclaimable);
    assert_eq!((scenario.engine.planning, scenario.engine.solver_time), (Planning::Ahead, SolverTime::Table));
    assert!(scenario.planner.resume_at_window_end);
    assert_eq!(scenario.planner.max_pause, Some(SimDuration::from_secs(240)));
    assert!(scenario.engine.admit_past_paused && scenario.planner.feedback);
    assert_eq!(scenario.link_intercept, LinkIntercept::Drop);
    assert_eq!((scenario.planner.replan_tolerance, scenario.planner.replan_patience), (0.10, 4));
    assert_eq!(scenario.planner.failure_budget, 2.0);
    assert_eq!((scenario.batch_size, scenario.gpu_kv, scenario.host_kv), (None, None, None));
    assert_eq!((scenario.prefill, scenario.link, scenario.warmup), (None, None, SimDuration::ZERO));
    assert_eq!((scenario.trace.load, scenario.trace.limit), (1.0, None));
    assert!(scenario.off_preset().is_empty(), "{:?}", scenario.off_preset());
}

#[test]
fn what_is_absent_has_the_value_of_the_published_semantics() {
    let scenario = set(&["semantics=published"]);
    let ServerSwitches { charge_staging, slots, copy_order, write_back, restore, .. } = scenario.engine;
    // The left column of the table in design §3.7, row by row.
    assert_eq!((charge_staging, slots, copy_order), (false, 1, CopyOrder::ReadyFirst));
    assert_eq!((write_back, restore), (WriteBack::Free, Restore::Blocking));
    assert_eq!(scenario.engine.admission, Admission::Free);
    assert_eq!(scenario.engine.planning, Planning::Synchronous);
    assert_eq!(scenario.engine.solver_time, SolverTime::Fixed(SimDuration::ZERO));
    assert!(!scenario.planner.resume_at_window_end);
    assert_eq!(scenario.planner.max_pause, None);
    assert!(scenario.engine.admit_past_paused && !scenario.planner.feedback);
    assert_eq!(scenario.link_intercept, LinkIntercept::Drop);
    assert!(scenario.off_preset().is_empty(), "{:?}", scenario.off_preset());
}

#[test]
fn a_victim_is_the_scenario_s_or_one_policy_s_own() {
    let scenario = set(&[
        "planner.victim=shortest",
        "policies=[\"orbitflow\", { use = \"orbitflow\", key = \"first\", victim = \"longest\", max_pause = \"9 s\" }]",
    ]);
    assert_eq!(scenario.policies[0].planner.victim, Victim::Shortest);
    let own = &scenario.policies[1].planner;
    assert_eq!((own.victim, own.max_pause), (Victim::Longest, Some(SimDuration::from_secs(9))));
    let off: Vec<(String, String)> = scenario.off_preset().into_iter().collect();
    let expected = [
        ("planner.victim", "shortest"),
        ("policies.first.max_pause", "9 s"),
        ("policies.first.victim", "longest"),
    ];
    assert_eq!(off, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    // Digests of scenarios written before there were other victims stay as they were.
    assert!(!set(&["planner.victim=longest", "planner.as_coded=false"]).digest_input().contains("victim"));
    let words = ["longest", "shortest", "random", "tightest-slo", "loosest-slo"];
    let read = words.map(|word| set(&[&format!("planner.victim={word}")]).planner.victim);
    assert_eq!(read, Victim::ALL);
}

#[test]
fn a_policy_refuses_the_planner_s_switches_that_it_does_not_read() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let prepare = |policy: &str| {
        let scenario = Scenario::load(&demo, &[format!("policies=[{policy}]")]).expect("it can be read");
        runner::prepare(&scenario).map_err(|error| error.to_string())
    };
    let refusal = |policy: &str| prepare(policy).err().unwrap_or_else(|| panic!("{policy} is accepted"));
    let selectn = refusal("{ use = \"selectn\", victim = \"shortest\" }");
    assert!(
        selectn.ends_with("expected no [planner] key but `as_coded`: this policy has no planner"),
        "{selectn}"
    );
    let flexgen = refusal("{ use = \"flexgen\", failure_budget = 1 }");
    assert!(flexgen.ends_with("expected no [planner] keys: this policy has no planner"), "{flexgen}");
    for policy in ["orbitflow", "static-1"] {
        let coded = refusal(&format!("{{ use = \"{policy}\", as_coded = true }}"));
        assert!(coded.contains("expected no `as_coded`: `selectn` alone"), "{coded}");
    }
    // What is accepted is said: the demo's requests end with 5,631 tokens in the mean.
    let prepared =
        prepare("\"flexgen\", { use = \"selectn\", key = \"coded\", as_coded = true }, \"static-1\"");
    let notes = prepared.unwrap_or_else(|error| panic!("{error}")).notes;
    let told = "told what no server can know (flexgen, coded): requests of this trace end with 5631 tokens";
    assert!(notes.iter().any(|note| note.starts_with(told)), "{notes:?}");
    let plain = prepare("\"heuristic\"").unwrap_or_else(|error| panic!("{error}"));
    assert!(!plain.notes.iter().any(|note| note.contains("no server can know")), "{:?}", plain.notes);
}

#[test]
fn every_switch_off_its_preset_is_reported_and_no_other() {
    let scenario = set(&[
        "engine.slots=1",
        "engine.solver_time=\"12 us\"",
        "engine.noise.copy_cv=0.1",
        "engine.write_back=link", // the preset's own value
        "engine.link_intercept=per-step",
        "engine.contention=false",
        "engine.cross_step_prefetch=true",
        "engine.prefill=chunked:512",
        "engine.host_kv=64 GiB",
        "planner.max_pause=off",
        "planner.admit_past_paused=false",
        "planner.migration_cost=true",
        "link=25.19 GiB/s",
        "policies=[\"orbitflow\", { use = \"orbitflow\", key = \"eager\", feedback = false, pause = true }]",
    ]);
    let expected = [
        ("engine.contention", "false"),
        ("engine.cross_step_prefetch", "true"),
        ("engine.host_kv", "64 GiB"),
        ("engine.link_intercept", "per-step"),
        ("engine.noise.copy_cv", "0.1"),
        ("engine.prefill", "chunked:512"),
        ("engine.slots", "1"),
        ("engine.solver_time", "12 us"),
        ("link", "27047556547 B/s"),
        ("planner.admit_past_paused", "false"),
        ("planner.max_pause", "off"),
        ("planner.migration_cost", "true"),
        ("policies.eager.feedback", "false"),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(scenario.off_preset(), expected);
}

#[test]
fn every_key_changes_the_digest_and_file_names_do_not() {
    let plain = set(&[]).digest_input();
    assert_eq!(
        plain,
        set(&[
            "seed=42",
            "engine.slots=2",
            "trace.load=1",
            "engine.contention=true",
            "engine.cross_step_prefetch=false",
            "engine.prefill=separate",
            "planner.migration_cost=false",
        ])
        .digest_input(),
        "defaults written out"
    );
    assert_eq!(plain, set(&["trace.file=elsewhere.json"]).digest_input(), "its contents are hashed instead");
    let changes = [
        "seed=43",
        "semantics=published",
        "model=mistral-7b",
        "hardware=engine-fit:a5000",
        "planner_profile=engine-fit:a5000",
        "link=7 GB/s",
        "batch_size=4",
        "gpu_kv_blocks=561",
        "gpu_kv=28 GiB",
        "policies=[\"static-1\", \"orbitflow\"]",
        "policies=[\"orbitflow\", { use = \"static-1\", label = \"one\" }]",
        "policies=[\"orbitflow\", { use = \"static-1\", node_cap = 9 }]",
        "warmup=1 s",
        "trace.format=orbitflow",
        "trace.load=2",
        "trace.limit=5",
        "trace.min_prompt_tokens=5",
        "trace.max_context=500",
        "trace.step_time=50 ms",
        "trace.arrivals=poisson:1",
        "slo.scale=[2]",
        "slo.tbt=70 ms",
        "slo.ttft=5 s",
        "prefill.per_token=1 us",
        "engine.host_kv=1 GiB",
        "engine.slots=3",
        "engine.noise.compute_cv=0.1",
        "engine.link_intercept=per-step",
        "engine.contention=false",
        "engine.cross_step_prefetch=true",
        "engine.prefill=chunked:512",
        "engine.prefill=chunked:inf",
        "planner.failure_budget=1",
        "planner.victim=random",
        "planner.as_coded=true",
        "planner.migration_cost=true",
        "policies=[\"orbitflow\", { use = \"static-1\", victim = \"shortest\" }]",
        "planner.max_pause=off",
        "planner.admit_past_paused=false",
    ];
    let mut digests: Vec<String> = changes.iter().map(|change| set(&[change]).digest_input()).collect();
    digests.push(plain);
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), changes.len() + 1);
}

#[test]
fn what_init_prints_parses_with_every_comment_on_or_off() {
    for trace in ["traces/demo.json", "-", "a \"quoted\\path\".jsonl"] {
        let scenario = parse(&template(trace, TraceFacts::default()), &[]).unwrap();
        let expected = if trace == "-" { PathBuf::from("-") } else { Path::new("scenarios").join(trace) };
        assert_eq!(scenario.trace.source, TraceSource::File(expected));
        assert!(scenario.off_preset().is_empty());
    }
    // `# key = value` becomes `key = value`; of two that exclude each other the set one stays.
    let key_line = |line: &&str| {
        line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).is_some_and(|(key, _)| {
            key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && key != "gpu_kv" && key != "tbt"
        })
    };
    let text = template("t.json", TraceFacts::default());
    let all: Vec<&str> = text.lines().map(|line| if key_line(&line) { &line[2..] } else { line }).collect();
    assert!(all.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count() > 50);
    let scenario = parse(&all.join("\n"), &[]).unwrap();
    assert_eq!(scenario.engine, ServerSwitches::PHYSICAL);
    assert_eq!(scenario.planner, PlannerSwitches::PHYSICAL);
}

#[test]
fn an_override_is_a_dotted_key_and_a_toml_value() {
    assert_eq!(set(&["slo.scale=[1, 3]"]).slo.per_token, TokenSlo::Scale(vec![1.0, 3.0]));
    assert_eq!(
        set(&["slo.scale=2", "slo.scale=3"]).slo.per_token,
        TokenSlo::Scale(vec![3.0]),
        "the last wins"
    );
    assert_eq!(set(&["model=qwen2.5-7b"]).model.layers, 28, "a bare word is a string");
    let path = PathBuf::from("elsewhere/t.json");
    assert_eq!(
        set(&["trace.file=elsewhere/t.json"]).trace.source,
        TraceSource::File(path.clone()),
        "relative to the working directory"
    );
    assert_eq!(set(&["engine.noise={ copy_cv = 0.2 }"]).engine.noise.copy_cv, 0.2);
    let tbt = SimDuration::from_picos(70_000_000_000);
    assert_eq!(set(&["slo.tbt=70 ms"]).slo.per_token, TokenSlo::Absolute(tbt), "replaces slo.scale");
    let blocks = parse(&format!("gpu_kv_blocks = 5\n{SMALL}"), &["gpu_kv=1 GiB"]).unwrap();
    assert_eq!(blocks.gpu_kv, Some(GpuKv::Bytes(Bytes::new(1 << 30))), "replaces gpu_kv_blocks");
    let none = parse(&format!("gpu_kv_blocks = 5\n{SMALL}"), &["gpu_kv_blocks="]).unwrap();
    assert_eq!(none.gpu_kv, None, "an empty value takes the key out");
}

#[test]
fn a_file_that_cannot_be_read_says_which_and_what_to_do() {
    let absent = Scenario::load(Path::new("no/such.toml"), &[]).unwrap_err().to_string();
    assert!(absent.starts_with("no/such.toml: cannot read the scenario: "), "{absent}");
    assert!(absent.contains("\nhint: `orbitflow init > my.toml`"), "{absent}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin1.toml");
    std::fs::write(&path, b"model = \"\xe9\"").unwrap();
    let bytes = Scenario::load(&path, &[]).unwrap_err().to_string();
    assert!(bytes.ends_with("latin1.toml: not valid TOML: not UTF-8 from byte 9"), "{bytes}");
}

#[test]
fn a_name_that_does_not_resolve_is_refused_where_it_was_written() {
    let scenario = set(&["policies=[\"orbitflow\", { use = \"statik\" }]"]);
    let error = scenario.refuse("hardware", "expected a profile", Some("`a` is near".to_owned()));
    assert_eq!(
        error.to_string(),
        "demo.toml:2: hardware: \"engine-fit:a6000\": expected a profile\nhint: `a` is near"
    );
    let key = scenario.policy_key(1);
    let error = scenario.refuse(&key, "expected a policy", None).to_string();
    assert!(error.starts_with("`--set policies="), "{error}");
    assert!(error.ends_with("policies[1].use: \"statik\": expected a policy"), "{error}");
    assert_eq!(set(&[]).policy_key(1), "policies[1]");
}

#[test]
fn every_scenario_of_the_repository_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut read = 0;
    for folder in [folder.clone(), folder.join("shared")] {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                Scenario::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
                read += 1;
            }
        }
    }
    assert!(read >= 4, "{read} scenarios");
}

fn orbitflow(args: &[&str]) -> (i32, String, String) {
    let output = assert_cmd::Command::cargo_bin("orbitflow").unwrap().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn init_prints_to_stdout_what_the_library_reads() {
    let (code, stdout, stderr) = orbitflow(&["init"]);
    assert_eq!(code, 0);
    // The tests run where there is no such trace: that is said, and is no error.
    assert!(stderr.starts_with("note: traces/demo.json: no such file here: "), "{stderr}");
    assert_eq!(stdout, template("traces/demo.json", TraceFacts::default()));
    assert_eq!(orbitflow(&["init", "--quiet"]), (0, stdout, String::new()));
    assert_eq!(orbitflow(&["init", "-"]).1, template("-", TraceFacts::default()));
    assert_eq!(orbitflow(&["init", ""]).0, 2);
}

#[test]
fn list_prints_the_models_in_three_formats() {
    let (code, table, _) = orbitflow(&["list", "models"]);
    assert_eq!(code, 0);
    let first: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    // 2 · 8 KV heads · 128 · 2 B · 32 layers = 131,072 B per token; 16 tokens of one layer are 64 KiB
    assert_eq!(first, ["llama-3-8b", "32", "32", "8", "128", "8.03", "131072", "64", "KiB"]);
    let (_, json, _) = orbitflow(&["list", "models", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["kv_bytes_per_token"], 131_072);
    let (_, csv, _) = orbitflow(&["list", "models", "--format", "csv"]);
    assert!(csv.starts_with("model,layers,"), "{csv}");
    assert_eq!(rows.as_array().unwrap().len(), csv.lines().count() - 1);
}

#[test]
fn schemas_are_json_and_a_sweep_is_a_scenario_with_axes() {
    for file in ["scenario", "sweep", "results", "trace"] {
        let (code, stdout, _) = orbitflow(&["schema", file]);
        let schema: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((code, &schema["type"]), (0, &"object".into()), "{file}");
    }
    let (_, scenario, _) = orbitflow(&["schema", "scenario"]);
    let scenario: serde_json::Value = serde_json::from_str(&scenario).unwrap();
    let engine = &scenario["properties"]["engine"];
    assert_eq!(engine["additionalProperties"], false);
    assert_eq!(engine["properties"]["restore"]["enum"], serde_json::json!(["blocking", "lazy"]));
    let (_, sweep, _) = orbitflow(&["schema", "sweep"]);
    let mut sweep: serde_json::Value = serde_json::from_str(&sweep).unwrap();
    let axes = sweep["properties"].as_object_mut().unwrap().remove("axes").unwrap();
    assert_eq!(axes["$ref"], "#/$defs/axes");
    assert_eq!(sweep["$defs"]["axes"]["type"], "object");
    assert_eq!(sweep["properties"], scenario["properties"]);
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = orbitflow(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(["init", "list", "schema"].iter().all(|command| script.contains(command)), "{shell}");
    }
}

#[test]
fn init_leaves_an_authors_trace_its_server_and_draws_arrivals_where_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = folder.path().join("lengths.csv");
    std::fs::write(&lengths, "num_prefill_tokens,num_decode_tokens\n100,5\n200,7\n").unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/demo.json");
    let read = |trace: &Path| {
        let (code, text, stderr) = orbitflow(&["init", trace.to_str().unwrap()]);
        assert_eq!((code, stderr.as_str()), (0, ""));
        parse(&text, &[]).unwrap()
    };
    let own = read(&demo);
    assert_eq!((own.batch_size, own.gpu_kv), (None, None));
    let drawn = read(&lengths);
    assert!(drawn.batch_size.is_some() && drawn.gpu_kv.is_some());
    assert_eq!(drawn.trace.arrivals.as_deref(), Some("poisson:0.5"));
}

#[test]
fn a_drawn_trace_is_the_one_that_generate_writes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.json");
    let recipe = PaperRecipe { seed: 5, load: 1.5, length_scale: 0.25, ..PaperRecipe::default() };
    let (trace, pattern) = generate_paper(&recipe).unwrap();
    std::fs::write(&file, orbitflow_sim::trace::orbitflow::write(&trace, &pattern).unwrap()).unwrap();
    let prepare = |overrides: &[&str]| {
        let common = ["seed=5", "trace.load=2", "trace.limit=40"];
        runner::prepare(&set(&[overrides, &common].concat())).unwrap()
    };
    let drawn = prepare(&["trace.draw={ load = 1.5 }", "trace.draw.length_scale=0.25"]);
    let read = prepare(&[&format!("trace.file={}", file.display())]);
    assert_eq!(drawn.trace.requests, read.trace.requests);
    assert_eq!(drawn.trace.hints, read.trace.hints);
    assert_eq!((drawn.trace.requests.len(), drawn.server.gpu_blocks), (40, read.server.gpu_blocks));
    assert!(drawn.notes.iter().any(|note| note.contains("drawn by the paper's recipe, seed 5")));
    assert_ne!(drawn.digest, prepare(&["trace.draw={ load = 1.5 }", "trace.draw.length_scale=0.5"]).digest);
}
