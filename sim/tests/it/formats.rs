//! The layouts that other programs rely on (design §2.3), word for word: keys of JSON, columns of CSV.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The files of the demo's first six requests under two policies.
fn written() -> TempDir {
    let out = TempDir::new().expect("a scratch folder");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let mut command = Command::cargo_bin("orbitflow").expect("the binary is built");
    command.arg("compare").arg(demo).arg("--steps").arg("--out").arg(out.path());
    command.args(["--set", "trace.limit=6", "--set", "policies=[\"orbitflow\", \"static-1\"]"]);
    command.assert().success();
    out
}

/// What `orbitflow COMMAND - --format json` answers to an instance.
fn answer(command: &str, instance: &Value) -> Value {
    let mut program = Command::cargo_bin("orbitflow").expect("the binary is built");
    let output = program.args([command, "-", "--format", "json"]).write_stdin(instance.to_string());
    serde_json::from_slice(&output.assert().success().get_output().stdout).expect("JSON")
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("an object, not {value}")).keys().map(String::as_str).collect()
}

/// The keys must all be there; more may be.
fn assert_holds(value: &Value, place: &str, expected: &str) {
    let found = keys(value);
    for key in expected.split(", ") {
        assert!(found.contains(&key), "{place}: `{key}` is missing from {found:?}");
    }
}

/// Exactly these keys, in any order.
fn assert_is(value: &Value, place: &str, expected: &str) {
    let (mut found, mut expected): (Vec<&str>, Vec<&str>) = (keys(value), expected.split(", ").collect());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{place}");
}

/// Every key with the type of its value; of an array the first entry.
fn layout(value: &Value, place: &str, lines: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_u64() => "whole number",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            lines.push(format!("{place}: list"));
            return items.first().into_iter().for_each(|item| layout(item, &format!("{place}[]"), lines));
        }
        // Whichever triggers fired.
        Value::Object(_) if place.ends_with("by_trigger") => "counts by trigger",
        Value::Object(entries) => {
            let inner = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
            return entries.iter().for_each(|(key, value)| layout(value, &inner(key), lines));
        }
    };
    lines.push(format!("{place}: {kind}"));
}

#[test]
fn results_json_has_every_key_of_the_design() {
    let out = written();
    let text = fs::read_to_string(out.path().join("results.json")).expect("results.json");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    assert_holds(
        &results,
        "results",
        "schema_version, tool_version, scenario, scenario_digest, seed, switches, trace, slo_s, policies",
    );
    let trace = "requests, prompt_tokens, output_tokens, last_arrival_s, last_arrival_step";
    assert_is(&results["trace"], "trace", trace);
    assert!(results["switches"].is_object());
    let policies = results["policies"].as_array().expect("a list");
    assert_eq!(policies.len(), 2);
    for policy in policies {
        assert_holds(
            policy,
            "policies[]",
            "key, label, requests, tokens, attainment_pct, playback_stall_pct, by_slo_scale, tbt_step_s, tbt_gap_s, \
             tpot_step_s, tpot_gap_s, ttft_s, e2e_s, makespan_s, throughput_tokens_per_s, goodput_requests_per_s, \
             busy_s, bytes, steps, plans, forecast_error_pct, pauses, preemptions, refused_placements, \
             peak_gpu_blocks, peak_host_bytes, event_digest",
        );
        assert_is(&policy["requests"], "requests", "arrived, finished, rejected, unfinished, capped");
        assert_is(&policy["tokens"], "tokens", "due, delivered");
        let attainment =
            "tbt_step, tbt_gap, tbt_step_deposit, tbt_gap_deposit, tpot_step, tpot_gap, ttft, e2e";
        assert_is(&policy["attainment_pct"], "attainment_pct", attainment);
        let by_scale = policy["by_slo_scale"].as_array().expect("a list");
        assert_eq!(by_scale.len(), 3);
        for scale in by_scale {
            assert_holds(
                scale,
                "by_slo_scale[]",
                "scale, slo_s, rerun, attainment_pct, goodput_requests_per_s",
            );
            assert_is(&scale["attainment_pct"], "by_slo_scale[].attainment_pct", attainment);
        }
        for distribution in ["tbt_step_s", "tbt_gap_s", "tpot_step_s", "tpot_gap_s", "ttft_s", "e2e_s"] {
            assert_is(&policy[distribution], distribution, "mean, p50, p90, p95, p99, max");
        }
        assert_is(&policy["busy_s"], "busy_s", "compute, stall, prefill, restore, planning, idle");
        assert_is(&policy["bytes"], "bytes", "h2d_prefetch, h2d_restore, d2h");
        assert_is(&policy["steps"], "steps", "decode, prefill");
        assert_holds(&policy["plans"], "plans", "by_trigger, infeasible_slo, infeasible_memory");
        assert_is(&policy["forecast_error_pct"], "forecast_error_pct", "median, p95");
        assert_is(&policy["above_bound_pct"], "above_bound_pct", "mean, median, p95");
        assert_is(&policy["pauses"], "pauses", "count, longest_s");
        // The top-level scores are those of the first scale.
        assert_eq!(policy["attainment_pct"], by_scale[0]["attainment_pct"]);
        assert_eq!(results["slo_s"], by_scale[0]["slo_s"]);
    }
}

#[test]
fn the_layout_of_results_json_changes_only_with_its_schema_version() {
    let out = written();
    let text = fs::read_to_string(out.path().join("results.json")).expect("results.json");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let mut lines = Vec::new();
    layout(&results, "", &mut lines);
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_tables_have_the_columns_of_the_design_in_its_order() {
    let out = written();
    let expected = BTreeMap::from([
        (
            "requests.csv",
            "policy, id, state, arrival_s, admitted_s, first_token_s, finish_s, prompt_tokens, output_tokens, \
             delivered_tokens, slo_s, ttft_s, tpot_step_s, tpot_gap_s, late_step, late_gap, late_step_deposit, \
             late_gap_deposit, paused_s, pauses, preemptions",
        ),
        ("quantiles.csv", "policy, metric, p, seconds"),
        ("states.csv", "policy, id, state, start_s, end_s"),
        (
            "timeline.csv",
            "policy, t_s, running, paused, waiting, gpu_blocks, step_s, stall_s, steps, from_s, to_s, h2d_bytes, \
             d2h_bytes",
        ),
        (
            "steps.csv",
            "policy, step, kind, start_s, duration_s, compute_s, stall_s, prefill_s, restore_s, planning_s, \
             forecast_s, running, paused, waiting, gpu_blocks, h2d_bytes, d2h_bytes, trigger",
        ),
    ]);
    for (name, columns) in expected {
        let text = fs::read_to_string(out.path().join(name)).expect("a table");
        assert_eq!(text.lines().next(), Some(columns.replace(", ", ",").as_str()), "{name}");
    }
    let quantiles = fs::read_to_string(out.path().join("quantiles.csv")).expect("a table");
    let of_one = quantiles.lines().filter(|line| line.starts_with("static-1,tbt_gap,")).count();
    assert_eq!(of_one, 1001);
    let timeline = fs::read_to_string(out.path().join("timeline.csv")).expect("a table");
    assert!(timeline.lines().filter(|line| line.starts_with("static-1,")).count() <= 4000);
}

/// Two layers of 10 ms, one request of 100 blocks per layer, 5,000 blocks/s.
fn instance() -> Value {
    json!({
        "layers": 2,
        "layer_compute_s": 0.01,
        "link": { "blocks_per_s": 5000, "latency_s": 0 },
        "requests": [{ "id": "a", "blocks": 100, "distance": 1 }],
    })
}

#[test]
fn step_json_has_the_keys_of_the_design_and_no_other() {
    let answer = answer("step", &instance());
    let keys = "step_s, compute_s, copy_s, stall_s, prefix_forecast_s, layers, copies";
    assert_is(&answer, "step", keys);
    assert_is(&answer["layers"][0], "layers[]", "layer, start_s, end_s, stall_s");
    assert_is(&answer["copies"][0], "copies[]", "request, layer, start_s, end_s");
    let mut across = instance();
    across["cross_step_prefetch"] = json!(true);
    let answer = self::answer("step", &across);
    assert_is(&answer, "step", &format!("{keys}, cross_step"));
    assert_is(&answer["cross_step"], "cross_step", "steps_before, period, mean_step_s, carried, ahead");
}

#[test]
fn plan_json_has_the_keys_of_the_design_and_no_other_feasible_or_not() {
    let golden: Value = serde_json::from_str(include_str!("../golden/plan.json")).expect("JSON");
    let (mut feasible, mut reasons) = (0, Vec::new());
    for case in golden.as_array().expect("a list of cases") {
        let answer = answer("plan", &case["instance"]);
        let keys = "feasible, reason, forecast_s, t_max_s, placements, memory, slo_load, solver";
        assert_is(&answer, "plan", keys);
        assert_is(&answer["memory"], "memory", "used, capacity");
        assert_is(&answer["slo_load"], "slo_load", "used, budget");
        let solver = "name, optimal, gap, nodes, variables, constraints";
        assert_is(&answer["solver"], "solver", solver);
        if answer["feasible"] == json!(true) {
            feasible += 1;
            assert_eq!(answer["reason"], Value::Null);
            assert_is(&answer["placements"][0], "placements[]", "request, distance, offloaded_layers");
        } else {
            reasons.push(answer["reason"].as_str().expect("a reason").to_owned());
        }
    }
    assert!(feasible > 0, "no feasible case among them");
    assert!(reasons.iter().all(|reason| reason == "memory" || reason == "slo"), "{reasons:?}");
}
