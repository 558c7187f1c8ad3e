//! `orbitflow step`: exit codes, stdout and stderr for good and bad instances.

use assert_cmd::Command;
use serde_json::{Value, json};

/// Two layers of 10 ms; one copy of 100 blocks at 5,000 blocks/s, 20 ms, for layer 2 of `a`; `b` is resident.
/// Layer 1: 0–10. The copy: 0–20. Layer 2: 20–30, 10 of stall. Forecast: 20 + (20 − 10) = 30.
fn instance() -> Value {
    json!({
        "layers": 2,
        "layer_compute_s": 0.01,
        "link": { "blocks_per_s": 5000, "latency_s": 0 },
        "requests": [{ "id": "a", "blocks": 100, "distance": 1 }, { "id": "b", "blocks": 7 }],
    })
}

/// Exit code, stdout and stderr of `orbitflow step - ARGS` with `text` on stdin.
fn step(text: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("orbitflow").expect("the binary is built");
    let output = command.args(["step", "-"]).args(args).write_stdin(text).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn json_holds_the_step_every_layer_and_every_copy() {
    let (code, stdout, stderr) = step(&instance().to_string(), &["--format", "json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let expected = json!({
        "step_s": 0.03, "compute_s": 0.02, "copy_s": 0.02, "stall_s": 0.01, "prefix_forecast_s": 0.03,
        "layers": [
            { "layer": 1, "start_s": 0.0, "end_s": 0.01, "stall_s": 0.0 },
            { "layer": 2, "start_s": 0.02, "end_s": 0.03, "stall_s": 0.01 },
        ],
        "copies": [{ "request": "a", "layer": 2, "start_s": 0.0, "end_s": 0.02 }],
    });
    assert_eq!(serde_json::from_str::<Value>(&stdout).expect("JSON"), expected);
}

#[test]
fn latency_counts_once_per_copy_and_the_tail_in_step_and_forecast() {
    let mut instance = instance();
    instance["link"]["latency_s"] = json!(0.001);
    instance["tail_s"] = json!(0.005);
    let (code, stdout, _) = step(&instance.to_string(), &["--format", "json"]);
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(code, 0);
    // The copy ends at 21 ms, layer 2 at 31, the step at 36.
    assert_eq!((&answer["step_s"], &answer["prefix_forecast_s"]), (&json!(0.036), &json!(0.036)));
    assert_eq!((&answer["copy_s"], &answer["stall_s"]), (&json!(0.021), &json!(0.011)));
}

#[test]
fn contention_slows_what_overlaps_and_the_forecast_leaves_it_out() {
    let mut instance = instance();
    instance["contention"] = json!({ "copy": 2, "compute": 1.25 });
    let (code, stdout, _) = step(&instance.to_string(), &["--format", "json"]);
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(code, 0);
    // Layer 1 ends at 12.5 ms, with 6.25 of the copy's 20 done; the other 13.75 end at 26.25, layer 2 at 36.25.
    assert_eq!((&answer["step_s"], &answer["prefix_forecast_s"]), (&json!(0.03625), &json!(0.03)));
    assert_eq!((&answer["compute_s"], &answer["copy_s"]), (&json!(0.0225), &json!(0.02625)));
    assert_refused(
        &instance.to_string().replace("1.25", "0.9"),
        "contention.compute: 0.9: expected a number from 1 to 1000",
    );
    assert_refused(&instance.to_string().replace("compute\":1", "computes\":1"), "did you mean `compute`?");
}

/// Four layers of 1 ms, layer 2 of `a` over the link in 6 ms: the worked step of `pipeline::steady`.
fn across() -> Value {
    json!({
        "layers": 4,
        "layer_compute_s": 0.001,
        "link": { "blocks_per_s": 10000, "latency_s": 0 },
        "requests": [{ "id": "a", "blocks": 60, "offloaded_layers": [2] }],
        "cross_step_prefetch": true,
    })
}

#[test]
fn cross_step_prefetch_shows_the_step_among_steps_like_it() {
    let (code, stdout, stderr) = step(&across().to_string(), &["--format", "json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    // 7 ms instead of 9: max(4 · 1, 6 + 1). Layer 1 0–1, the copy ends at 4, layer 2 4–5, layers 3, 4 to 7.
    assert_eq!((&answer["step_s"], &answer["stall_s"]), (&json!(0.007), &json!(0.003)));
    assert_eq!((&answer["copy_s"], &answer["copies"]), (&json!(0.0), &json!([])));
    let expected = json!({
        "steps_before": 2, "period": 1, "mean_step_s": 0.007,
        "carried": [{ "request": "a", "layer": 2, "start_s": -0.002, "end_s": 0.004 }],
        "ahead": [{ "request": "a", "layer": 2, "start_s": 0.005, "end_s": 0.011 }],
    });
    assert_eq!(answer["cross_step"], expected);

    let (code, csv, _) = step(&across().to_string(), &["--format", "csv"]);
    assert_eq!(code, 0);
    let rows = "carried,a,2,-0.002,0.004,\nahead,a,2,0.005,0.011,\n";
    assert!(csv.ends_with(rows), "{csv}");

    let mut off = across();
    off["cross_step_prefetch"] = json!(false);
    let (_, stdout, _) = step(&off.to_string(), &["--format", "json"]);
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&answer["step_s"], answer.get("cross_step")), (&json!(0.009), None));
}

#[test]
fn the_table_of_a_step_among_others_marks_what_crosses_its_ends() {
    let (code, stdout, stderr) = step(&across().to_string(), &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout, @r"
    step 7000.000 us = compute 4000.000 us + stall 3000.000 us + tail 0.000 us
    copies 0.000 us, prefix forecast 9000.000 us (28.57 % off the step)
    a: blocks per layer 60, layers fetched 1, 6000.000 us each
    cross-step prefetch: after 2 steps like it every step is this one
    carried in: a layer 2, begun 2000.000 us before the step, landed 4000.000 us into it
    ahead: a layer 2 of the next step, 5000.000 us to 11000.000 us

    layer     start       end     stall  |0                                                7000.000 us|
        1     0.000  1000.000     0.000  |#########                                                   |
        2  4000.000  5000.000  3000.000  |<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<#########>>>>>>>>>>>>>>>>>|
        3  5000.000  6000.000     0.000  |                                           ########         |
        4  6000.000  7000.000     0.000  |                                                   #########|
    times in us; - copies of the layer, < carried in, > ahead for the next step, # its compute
    ");
    // Without anything to copy it is a step like any other.
    let mut resident = across();
    resident["requests"][0] = json!({ "id": "a", "blocks": 60 });
    let (code, stdout, _) = step(&resident.to_string(), &[]);
    assert_eq!(code, 0);
    assert!(stdout.contains("after 1 steps like it every step is this one"), "{stdout}");
    assert!(!stdout.contains("carried in:") && !stdout.contains("ahead:"), "{stdout}");
}

#[test]
fn cross_step_prefetch_is_a_switch() {
    let wrong = across().to_string().replace("\"cross_step_prefetch\":true", "\"cross_step_prefetch\":1");
    assert_refused(&wrong, "cross_step_prefetch: invalid type: integer `1`, expected");
    let wrong = across().to_string().replace("cross_step_prefetch", "cross_step_prefech");
    assert_refused(&wrong, "hint: did you mean `cross_step_prefetch`?");
}

#[test]
fn prompt_tokens_beside_the_decodes_are_an_even_share_of_every_layer() {
    let mut instance = instance();
    instance["prefill_s"] = json!(0.008);
    let (code, stdout, _) = step(&instance.to_string(), &[]);
    assert_eq!(code, 0);
    // 14 ms a layer; the copy still ends at 20: 6 ms of stall, 34 in all. The forecast: 28 + (20 − 14).
    insta::assert_snapshot!(stdout, @r"
    step 34.000 ms = compute 20.000 ms + prefill 8.000 ms + stall 6.000 ms + tail 0.000 ms
    copies 20.000 ms, prefix forecast 34.000 ms (0.00 % off the step)
    a: blocks per layer 100, layers fetched 1, 20.000 ms each
    b: blocks per layer 7, layers fetched 0

    layer     start       end     stall  |0                                                  34.000 ms|
        1     0.000    14.000     0.000  |#########################                                   |
        2    20.000    34.000     6.000  |-----------------------------------#########################|
    times in ms; - copies of the layer, # its compute
    ");
    let (_, stdout, _) = step(&instance.to_string(), &["--format", "json"]);
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&answer["compute_s"], &answer["prefill_s"]), (&json!(0.02), &json!(0.008)));
    for (value, expected) in
        [("-1", "prefill_s: -1: expected a number of seconds, 0 or more"), ("1e300", "at most 18000000 s")]
    {
        assert_refused(&instance.to_string().replace("0.008", value), expected);
    }
    assert_refused(&instance.to_string().replace("prefill_s", "prefil_s"), "did you mean `prefill_s`?");
}

#[test]
fn csv_has_one_row_per_layer_and_copy() {
    let (code, stdout, stderr) = step(&instance().to_string(), &["--format", "csv"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let expected = "kind,request,layer,start_s,end_s,stall_s\n\
                    layer,,1,0.0,0.01,0.0\n\
                    layer,,2,0.02,0.03,0.01\n\
                    copy,a,2,0.0,0.02,\n";
    assert_eq!(stdout, expected);
}

#[test]
fn the_table_draws_copies_and_compute_on_one_axis() {
    let (code, stdout, stderr) = step(&instance().to_string(), &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout, @r"
    step 30.000 ms = compute 20.000 ms + stall 10.000 ms + tail 0.000 ms
    copies 20.000 ms, prefix forecast 30.000 ms (0.00 % off the step)
    a: blocks per layer 100, layers fetched 1, 20.000 ms each
    b: blocks per layer 7, layers fetched 0

    layer     start       end     stall  |0                                                  30.000 ms|
        1     0.000    10.000     0.000  |####################                                        |
        2    20.000    30.000    10.000  |----------------------------------------####################|
    times in ms; - copies of the layer, # its compute
    ");
}

#[test]
fn the_table_of_32_layers_fits_100_columns() {
    let mut instance = instance();
    instance["layers"] = json!(32);
    let (code, stdout, _) = step(&instance.to_string(), &[]);
    assert_eq!(code, 0);
    assert!(stdout.lines().count() >= 32);
    assert!(stdout.lines().all(|line| line.chars().count() <= 100), "{stdout}");
}

#[test]
fn a_wrong_value_is_named_with_its_place_and_what_was_expected() {
    let cases: [(&str, Value, &str); 24] = [
        ("/layers", json!(0), "layers: 0: expected a whole number from 1 to 128"),
        ("/layers", json!(129), "layers: 129: expected a whole number from 1 to 128"),
        ("/layers", json!(-1), "layers: invalid value: integer `-1`, expected a whole number"),
        ("/layers", json!("2"), "layers: invalid type: string \"2\", expected a whole number"),
        (
            "/layer_compute_s",
            json!(0),
            "layer_compute_s: 0: expected a number of seconds, 1e-12 (a picosecond)",
        ),
        ("/layer_compute_s", json!(-0.5), "layer_compute_s: -0.5: expected a number of seconds"),
        ("/layer_compute_s", json!(1e300), "expected at most 18000000 s (213 days)"),
        ("/link/blocks_per_s", json!(0), "link.blocks_per_s: 0: expected a number of blocks above 0"),
        (
            "/link/blocks_per_s",
            json!("25 GB/s"),
            "link.blocks_per_s: invalid type: string \"25 GB/s\", expected a number",
        ),
        ("/link/blocks_per_s", json!(1e-9), "requests[0].blocks over link.blocks_per_s: 1000000000"),
        ("/link/latency_s", json!(-1), "link.latency_s: -1: expected a number of seconds, 0 or more"),
        ("/requests", json!([]), "requests: []: expected at least one request"),
        (
            "/requests/0/blocks",
            json!(0),
            "requests[0].blocks: 0: expected a whole number of blocks, 1 or more",
        ),
        (
            "/requests/0/blocks",
            json!(1.5),
            "requests[0].blocks: invalid type: floating point `1.5`, expected a whole number",
        ),
        ("/requests/0/distance", json!(2), "requests[0].distance: 2: expected 0 to 1, or no `distance`"),
        ("/requests/1/id", json!("a"), "requests[1].id: \"a\": expected an id of its own"),
        ("/requests/1/id", json!(""), "requests[1].id: \"\": expected a name that is not empty"),
        (
            "/requests/0/offloaded_layers",
            json!([2]),
            "requests[0]: `distance` and `offloaded_layers`: expected one of the two",
        ),
        (
            "/requests/1/offloaded_layers",
            json!([2, 3]),
            "requests[1].offloaded_layers[1]: 3: expected a layer from 1 to 2",
        ),
        (
            "/requests/1/offloaded_layers",
            json!([2, 2]),
            "requests[1].offloaded_layers[1]: 2: expected every layer once",
        ),
        ("/slots", json!(0), "slots: 0: expected a whole number from 1 to 128"),
        ("/tail_s", json!(-1), "tail_s: -1: expected a number of seconds, 0 or more"),
        (
            "/copy_order",
            json!("ready"),
            "copy_order: unknown variant `ready`, expected `ready-first` or `in-order`",
        ),
        (
            "/link",
            json!(7),
            "link: invalid type: integer `7`, expected an object with `blocks_per_s` and `latency_s`",
        ),
    ];
    for (key, value, expected) in cases {
        let mut instance = instance();
        let (parent, name) = key.rsplit_once('/').expect("a pointer");
        instance.pointer_mut(parent).expect("a parent")[name] = value;
        assert_refused(&instance.to_string(), expected);
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let mut wrong = instance();
    wrong["slot"] = json!(2);
    assert_refused(&wrong.to_string(), "slot: unknown field `slot`, expected one of");
    assert_refused(&wrong.to_string(), "\nhint: did you mean `slots`?\n");
    let mut wrong = instance();
    wrong["requests"][1]["distanse"] = json!(1);
    assert_refused(&wrong.to_string(), "requests[1].distanse: unknown field");
    assert_refused(&wrong.to_string(), "\nhint: did you mean `distance`?\n");
}

#[test]
fn what_is_no_instance_is_refused() {
    let good = instance().to_string();
    assert_refused("", "EOF while parsing a value");
    assert_refused(&good[..good.len() / 2], "hint: the text ends too early");
    assert_refused(&format!("{good} x"), "trailing characters");
    assert_refused(&good.replace("0.01", "NaN"), "hint: JSON has no NaN");
    assert_refused(&good.replace("0.01", "1e999"), "layer_compute_s: number out of range");
    assert_refused("[]", "expected a step instance: an object with `layers`");
    assert_refused("{\"layers\": 2}", "missing field `layer_compute_s`");
}

#[test]
fn a_resident_request_may_be_of_any_size() {
    // Nothing of it is copied, however long that would take.
    let mut instance = instance();
    instance["requests"][1]["blocks"] = json!(u64::MAX);
    let (code, _, stderr) = step(&instance.to_string(), &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn a_missing_file_is_named() {
    let mut command = Command::cargo_bin("orbitflow").expect("the binary is built");
    let output = command.args(["step", "no/such.json"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.starts_with("error: no/such.json: No such file or directory"), "{stderr}");
}

fn assert_refused(text: &str, expected: &str) {
    let (code, stdout, stderr) = step(text, &[]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{text}");
    assert!(stderr.starts_with("error: stdin: "), "{stderr}");
    assert!(stderr.contains(expected), "expected {expected:?} in {stderr}");
}
