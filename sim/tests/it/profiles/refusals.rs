//! Every way a profile file can be wrong, and what a user is told.

use orbitflow_sim::cost::profile::HardwareProfile;
use orbitflow_sim::cost::{load, preset};
use serde_json::{Value, json};

use super::{synthetic, table};

/// The A6000 preset as JSON, changed by `change`.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut value = serde_json::to_value(preset("engine-fit:a6000").unwrap()).unwrap();
    change(&mut value);
    value.to_string()
}

/// What `load` says of a file with this text.
fn refusal(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.json");
    std::fs::write(&file, text).unwrap();
    let error = load(file.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("bad.json"), "names the file: {error}");
    error
}

#[test]
fn every_bad_profile_gets_a_line_with_place_value_and_expectation() {
    let rate = "/link/h2d/bw_inf_bytes_per_s";
    let set = |path: &'static str, to: Value| changed(|value| *value.pointer_mut(path).unwrap() = to);
    let whole = changed(|_| ());
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("empty", String::new(), &["ends in the middle", "hint: the file is empty or truncated"]),
        ("truncated", whole[..whole.len() / 2].to_owned(), &[":1:", "ends in the middle"]),
        ("no object", "[1]".to_owned(), &["schema: missing", "expected a JSON object"]),
        (
            "another file",
            "{\"layers\": 4}".to_owned(),
            &["schema: missing: expected \"gpu-validate/hardware-profile\""],
        ),
        ("version", set("/schema_version", json!(2)), &["schema_version: 2: expected 1", "hint: "]),
        ("version text", set("/schema_version", json!("1")), &["schema_version: \"1\": expected 1"]),
        (
            "kind",
            set("/kind", json!("mesured")),
            &["kind", "unknown value `mesured`", "did you mean `measured`?"],
        ),
        (
            "zero",
            set(rate, json!(0)),
            &["link.h2d.bw_inf_bytes_per_s: 0 is refused", "above 0", "hint: what is not known is null"],
        ),
        ("negative", set(rate, json!(-5.0)), &["link.h2d.bw_inf_bytes_per_s: -5 is refused"]),
        (
            "infinite",
            set(rate, json!(1.25e11)).replace("125000000000.0", "1e999"),
            &["link.h2d.bw_inf_bytes_per_s", "number out of range"],
        ),
        (
            "not a number",
            set(rate, json!(1.25e11)).replace("125000000000.0", "NaN"),
            &["link.h2d.bw_inf_bytes_per_s", "expected"],
        ),
        ("null where needed", set(rate, Value::Null), &["link.h2d.bw_inf_bytes_per_s", "null"]),
        (
            "text for a number",
            set(rate, json!("7 GB/s")),
            &["link.h2d.bw_inf_bytes_per_s", "string \"7 GB/s\""],
        ),
        (
            "GB/s for B/s",
            set(rate, json!(7.009)),
            &["link.h2d.bw_inf_bytes_per_s: 7.009 is not plausible", "1000000 to"],
        ),
        (
            "ms for s",
            set("/compute/affine/a_s_per_token", json!(0.674)),
            &["compute.affine.a_s_per_token: 0.674 is not plausible"],
        ),
        ("huge", set("/compute/affine/b_s", json!(1e300)), &["compute.affine.b_s: 1", "is not plausible"]),
        ("no layers", set("/compute/affine/layers", json!(0)), &["compute.affine.layers", "nonzero"]),
        (
            "missing key",
            changed(|v| drop(v["compute"]["affine"].as_object_mut().unwrap().remove("b_s"))),
            &["compute.affine", "missing field `b_s`"],
        ),
        (
            "unknown key",
            changed(|v| v["link"]["h2d"]["latncy_s"] = json!(1e-6)),
            &["link.h2d.latncy_s", "unknown key `latncy_s`", "hint: did you mean `latency_s`?"],
        ),
        (
            "kind below",
            changed(|v| v["provenance"]["kind"] = json!("measured")),
            &["provenance.kind", "hint: `kind` stands at the top"],
        ),
        (
            "no reason",
            changed(|v| drop(v["missing"].as_object_mut().unwrap().remove("hbm"))),
            &["hbm: null without a reason"],
        ),
        (
            "stale reason",
            changed(|v| v["missing"]["compute.affine.b_s"] = json!("?")),
            &["missing.\"compute.affine.b_s\": no null there"],
        ),
        ("empty reason", changed(|v| v["missing"]["hbm"] = json!(" ")), &["missing.\"hbm\": empty"]),
        (
            "false kind",
            changed(|v| v["kind"] = json!("measured")),
            &["kind: \"measured\": expected `backend` \"cuda\""],
        ),
        (
            "half a knee",
            set("/link/h2d/knee_bytes", json!(28_672)),
            &["link.h2d: expected both of `bw_small_bytes_per_s` and `knee_bytes`"],
        ),
        ("more text", format!("{whole} {{}}"), &["trailing characters"]),
    ];
    for (case, text, expected) in cases {
        let error = refusal(&text);
        for part in expected {
            assert!(error.contains(part), "{case}: expected `{part}` in: {error}");
        }
    }
}

#[test]
fn bad_tables_are_refused_with_their_place() {
    type Change = fn(&mut HardwareProfile);
    let cases: [(Change, &str); 5] = [
        (
            |p| p.compute.model_shapes[0].layer_weights_s_by_batch.clear(),
            "compute.model_shapes[0].layer_weights_s_by_batch: empty",
        ),
        (
            |p| p.compute.model_shapes[0].layer_weights_s_by_batch = table(&[(1, 1e-4), (100_000, 1e-3)]),
            "batch 100000 is refused: expected 1 to 4096",
        ),
        (
            |p| p.compute.model_shapes[0].layer_weights_s_by_batch = table(&[(1, 1e6)]),
            "compute.model_shapes[0].layer_weights_s_by_batch.1: 1000000 is not plausible",
        ),
        (
            |p| p.prefill.as_mut().unwrap().model_shapes[0].s_by_prompt_tokens.clear(),
            "prefill.model_shapes[0].s_by_prompt_tokens: expected at least one entry",
        ),
        (
            |p| {
                p.compute.model_shapes =
                    [p.compute.model_shapes.clone(), p.compute.model_shapes.clone()].concat()
            },
            "compute.model_shapes[1].model: `llama-3-8b` is there twice",
        ),
    ];
    for (change, expected) in cases {
        let mut profile = synthetic();
        change(&mut profile);
        let error = refusal(&serde_json::to_string(&profile).unwrap());
        assert!(error.contains(expected), "expected `{expected}` in: {error}");
    }
}

#[test]
fn an_unknown_preset_names_the_nearest_one() {
    let cases = [
        ("engine-fit:a600", "did you mean `engine-fit:a6000`?"),
        ("roofline:h100-smx", "did you mean `roofline:h100-sxm`?"),
        ("roofline:a6000", "did you mean `roofline:rtx-a6000`?"),
        ("h200", "did you mean `roofline:h200-sxm`?"),
        ("no/such/file.json", "`orbitflow list profiles` names the presets"),
    ];
    for (name, hint) in cases {
        let error = load(name).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains(hint), "{error}");
    }
    assert!(load("/").unwrap_err().to_string().contains("cannot be read"));
}
