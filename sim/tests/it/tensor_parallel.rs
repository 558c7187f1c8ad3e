//! Tensor parallelism and KV elements from the scenario to the result: what they change, what they leave alone, what is
//! refused.

use assert_cmd::Command;
use orbitflow_sim::pipeline::StepInstance;
use orbitflow_sim::runner::{self, Prepared};
use orbitflow_sim::scenario::Scenario;
use serde_json::{Value, json};

use crate::scenarios::parse;

/// Llama-3-8B on the published A6000 and the demo's trace.
fn prepared(overrides: &[&str]) -> Result<Prepared, String> {
    let scenario = demo(overrides)?;
    runner::prepare(&scenario).map_err(|error| error.to_string())
}

fn demo(overrides: &[&str]) -> Result<Scenario, String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Scenario::load(&path, &overrides).map_err(|error| error.to_string())
}

fn has(prepared: &Prepared, note: &str) -> bool {
    prepared.notes.iter().any(|said| said.contains(note))
}

#[test]
fn one_gpu_is_no_tensor_parallelism() {
    let none = prepared(&[]).unwrap();
    let one = prepared(&["engine.tensor_parallel=1", "engine.shared_link=false"]).unwrap();
    assert_eq!((&none.truth, &none.notes, &none.digest), (&one.truth, &one.notes, &one.digest));
    let shared = prepared(&["engine.shared_link=true"]).unwrap();
    assert_eq!((&none.truth, &none.notes), (&shared.truth, &shared.notes));
    assert_ne!(none.digest, shared.digest, "it is another scenario, with the same result");
    assert_eq!(shared.off_preset["engine.shared_link"], "true");
}

#[test]
fn two_gpus_halve_compute_and_own_links_halve_copies() {
    let one = prepared(&["hardware=roofline:rtx-a6000"]).unwrap();
    let own = prepared(&["hardware=roofline:rtx-a6000", "engine.tensor_parallel=2"]).unwrap();
    let shared =
        prepared(&["hardware=roofline:rtx-a6000", "engine.tensor_parallel=2", "engine.shared_link=true"])
            .unwrap();
    for two in [&own, &shared] {
        assert!((two.truth.compute_s(8976, 4) / one.truth.compute_s(8976, 4) - 0.5).abs() < 1e-12);
        assert!(has(two, "all-reduce not known, none of its time is in the result"), "{:?}", two.notes);
        assert!(has(two, "tensor parallel: prefill: divided by 2"));
        // Sizes are those of both GPUs: the same pool, the same blocks.
        assert_eq!(
            (two.server.gpu_blocks, two.model.block_bytes()),
            (one.server.gpu_blocks, one.model.block_bytes())
        );
        assert_ne!(two.digest, one.digest);
        assert_eq!(two.off_preset["engine.tensor_parallel"], "2");
    }
    let copy =
        |prepared: &Prepared| prepared.truth.h2d.copy_time(prepared.model.block_bytes() * 561).as_picos();
    // 561 blocks of 65,536 B at 31.5 GB/s: 1.167 ms; half of that over two links, rounded up to the
    // picosecond
    assert_eq!((copy(&shared), copy(&own)), (copy(&one), copy(&one).div_ceil(2)));
    assert_eq!(shared.truth.d2h, one.truth.d2h);
    assert!(has(&own, "each copies its share over a link of its own of 31.50 GB/s"), "{:?}", own.notes);
    assert!(has(&shared, "they share one host link of 31.50 GB/s"), "{:?}", shared.notes);
}

#[test]
fn a_published_line_is_divided_and_the_assumption_is_said() {
    let one = prepared(&[]).unwrap();
    let two = prepared(&["engine.tensor_parallel=2"]).unwrap();
    // 6.74e-7 · 8976 + 0.0406 = 46.650 ms (facts A.9); half of it is 23.325
    assert!((two.truth.compute_s(8976, 4) * 1e3 - 23.325).abs() < 0.0005);
    assert_eq!(two.truth.h2d.rate.get(), 2 * one.truth.h2d.rate.get());
    assert!(
        has(&two, "both terms of the fitted line A·T + B0 are divided by 2 (assumed:"),
        "{:?}",
        two.notes
    );
    let lined = prepared(&["engine.tensor_parallel=2", "prefill.per_token=\"0.1 ms\""]).unwrap();
    assert_eq!(lined.truth.prefill([1000]).as_secs_f64(), 0.1, "the scenario's line is that of all GPUs");
    assert!(has(&lined, "the scenario's own line is taken as that of all 2 GPUs"));
}

#[test]
fn gpus_that_cannot_split_the_model_or_are_split_already_are_refused() {
    for (gpus, why) in [
        ("3", "expected a number that divides its 32 heads and 8 KV heads: 1, 2, 4, 8"),
        ("16", "1, 2, 4, 8"),
    ] {
        let error = prepared(&[&format!("engine.tensor_parallel={gpus}")]).err().expect("it is refused");
        assert!(
            error.contains(&format!("engine.tensor_parallel: {gpus}: {gpus} GPUs cannot split")),
            "{error}"
        );
        assert!(error.contains(why), "{error}");
    }
    let together = ["model=llama-3-70b", "hardware=engine-fit:4xa6000-70b", "engine.tensor_parallel=2"];
    let error = prepared(&together).err().expect("it is refused");
    assert!(
        error.contains("describe 4 GPUs as a whole: `engine.tensor_parallel = 2` would split them again"),
        "{error}"
    );
    assert!(error.contains("hint: leave `tensor_parallel` out"), "{error}");
    assert!(prepared(&together[..2]).is_ok());
    let believed = prepared(&["planner_profile=engine-fit:4xa6000-70b", "engine.tensor_parallel=2"]);
    assert!(believed.err().expect("it is refused").contains("planner_profile"));
    for bad in ["0", "129", "-1", "2.0", "\"2\"", "nan", "99999999999999999999"] {
        let error = demo(&[&format!("engine.tensor_parallel={bad}")]).expect_err(bad);
        assert!(error.contains("engine.tensor_parallel") && error.contains("from 1 to 128"), "{error}");
    }
}

#[test]
fn kv_elements_are_the_models_unless_the_scenario_says_otherwise() {
    let hardware = "hardware=roofline:rtx-a6000";
    let own = prepared(&[hardware]).unwrap();
    let named = prepared(&[hardware, "kv_cache_dtype=bf16"]).unwrap();
    assert_eq!((&own.digest, &own.notes), (&named.digest, &named.notes), "bf16 is the model's own");
    assert!(named.off_preset.is_empty());
    for (word, bytes) in [("fp8", 1), ("fp32", 4)] {
        let other = prepared(&[hardware, &format!("kv_cache_dtype={word}")]).unwrap();
        // 2 · 8 KV heads · 128 · 16 tokens = 32,768 elements in a layer-block
        assert_eq!(other.model.block_bytes().get(), 32_768 * bytes);
        assert_eq!(other.model.weight_bytes(), own.model.weight_bytes());
        assert_eq!(other.off_preset["kv_cache_dtype"], word);
        assert_ne!(other.digest, own.digest);
        let per_token = 65_536 * bytes;
        let note = format!(
            "KV cache in {word}, {bytes} B per element, not the model's own type: {per_token} B per token"
        );
        assert!(has(&other, &note), "{:?}", other.notes);
    }
    // What was fitted with 131,072 B per token says nothing about 65,536.
    let error = prepared(&["kv_cache_dtype=fp8"]).err().expect("it is refused");
    assert!(error.contains("fitted with llama-3-8b (32 layers, 131072 B of KV per token)"), "{error}");
    assert!(error.contains("llama-3-8b has 32 layers and 65536 B"), "{error}");
    let error = parse(crate::scenarios::SMALL, &["kv_cache_dtype=fp4"]).unwrap_err();
    assert!(error.contains("expected \"bf16\" or \"fp8\" or \"fp32\""), "{error}");
}

/// Four layers, all fetched, two slots: 2 ms of copy per layer hide 1 ms of compute, so a step is 4 · 2 + 1 = 9 ms.
fn copy_bound(gpus: u32, shared_link: bool) -> Value {
    json!({
        "layers": 4, "layer_compute_s": 1e-3, "slots": 2, "tensor_parallel": gpus, "shared_link": shared_link,
        "link": { "blocks_per_s": 5000, "latency_s": 0 },
        "requests": [{ "id": "a", "blocks": 10, "offloaded_layers": [1, 2, 3, 4] }],
    })
}

#[test]
fn a_copy_bound_step_halves_with_own_links_and_keeps_its_copies_with_a_shared_one() {
    let step = |gpus, shared| {
        let answer = StepInstance::parse(&copy_bound(gpus, shared).to_string()).unwrap().answer();
        let nanos = |seconds: f64| (seconds * 1e9).round() as u64;
        [answer.step_s, answer.copy_s, answer.compute_s, answer.prefix_forecast_s].map(nanos)
    };
    // In nanoseconds: step, copies, compute, forecast; the forecast of a step whose last layer waits for every copy is the step itself
    assert_eq!(step(1, false), [9_000_000, 8_000_000, 4_000_000, 9_000_000]);
    assert_eq!(step(1, true), step(1, false));
    assert_eq!(step(2, false), [4_500_000, 4_000_000, 2_000_000, 4_500_000]);
    assert_eq!(step(2, true), [8_500_000, 8_000_000, 2_000_000, 8_500_000]);
    // An all-reduce of 0.25 ms per layer: 4 · 2 + 0.5 + 0.25
    let mut reducing = copy_bound(2, true);
    reducing["all_reduce_s"] = json!(0.25e-3);
    assert_eq!(StepInstance::parse(&reducing.to_string()).unwrap().answer().step_s, 8.75e-3);
    reducing["tensor_parallel"] = json!(1);
    let error = StepInstance::parse(&reducing.to_string()).unwrap_err().to_string();
    assert!(error.contains("all_reduce_s: 0.00025: expected 0 on one GPU"), "{error}");
    reducing["tensor_parallel"] = json!(129);
    let error = StepInstance::parse(&reducing.to_string()).unwrap_err().to_string();
    assert!(error.contains("tensor_parallel: 129: expected a whole number from 1 to 128"), "{error}");
}

/// Exit code, stdout and stderr of `orbitflow ARGS` with `text` on stdin.
fn orbitflow(args: &[&str], text: &str) -> (i32, String, String) {
    let mut command = Command::cargo_bin("orbitflow").expect("the binary is built");
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = command.args(args).write_stdin(text).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn step_and_plan_show_what_the_gpus_make_together() {
    let line =
        "tensor parallel: 2 GPUs, a link each: a layer computes 0.500000 ms, copies move 10000 blocks/s";
    let (code, table, _) = orbitflow(&["step", "-"], &copy_bound(2, false).to_string());
    assert!(code == 0 && table.contains(line), "{table}");
    let (_, json, _) = orbitflow(&["step", "-", "--format", "json"], &copy_bound(2, false).to_string());
    let shown: Value = serde_json::from_str(&json).unwrap();
    let expected = json!({ "gpus": 2, "shared_link": false, "layer_s": 0.5e-3, "blocks_per_s": 10_000.0 });
    assert_eq!(shown["tensor_parallel"], expected);

    let problem = |gpus: u32| {
        json!({
            "layers": 4, "layer_compute_s": 1e-3, "tensor_parallel": gpus, "capacity_layer_blocks": 20,
            "link": { "blocks_per_s": 5000, "latency_s": 0 }, "failure_budget": 0, "window": 1,
            "requests": [{ "id": "a", "blocks": 10, "slo_s": 1, "deposit": 0 }],
        })
        .to_string()
    };
    // Half of the layers stay; two copies of 2 ms, for layers 2 and 4: 4 + (4 − 3) = 5 ms. Two GPUs take half of it.
    let forecast = |gpus| {
        let (code, json, stderr) = orbitflow(&["plan", "-", "--format", "json"], &problem(gpus));
        assert_eq!((code, stderr.as_str()), (0, ""));
        serde_json::from_str::<Value>(&json).unwrap()
    };
    let (one, two) = (forecast(1), forecast(2));
    let seconds = |answer: &Value| answer["forecast_s"].as_f64().unwrap();
    assert!((seconds(&one) - 5e-3).abs() < 1e-12 && (seconds(&two) - 2.5e-3).abs() < 1e-12, "{one} {two}");
    assert!(one.get("tensor_parallel").is_none());
    assert_eq!(two["tensor_parallel"], expected);
    let (_, table, _) = orbitflow(&["plan", "-"], &problem(2));
    assert!(table.contains(line), "{table}");
}

#[test]
fn a_run_on_two_gpus_obeys_every_law_and_says_what_is_assumed() {
    let small = ["--set", "trace.limit=12", "--set", "policies=[\"orbitflow\", \"static-1\"]"];
    let two = ["--set", "engine.tensor_parallel=2", "--set", "engine.shared_link=true"];
    let (code, stdout, stderr) =
        orbitflow(&[&["check", "scenarios/demo.toml"], &small[..], &two[..]].concat(), "");
    assert_eq!(code, 0, "{stdout}{stderr}");
    let compare = |more: &[&str]| {
        let (code, stdout, stderr) = orbitflow(
            &[&["compare", "scenarios/demo.toml", "--format", "json"], &small[..], more].concat(),
            "",
        );
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    assert_eq!(compare(&[]), compare(&["--set", "engine.tensor_parallel=1"]), "to the byte");
    assert_ne!(compare(&[]), compare(&two));
}
