//! What is said about a wrong scenario: the place, the key, the value, what was expected, and what to do.

use crate::scenarios::{SMALL, parse};

fn small_and(text: &str) -> Result<(), String> {
    parse(&format!("{SMALL}{text}\n"), &[]).map(|_| ())
}

#[test]
fn a_wrong_override_is_named_as_one() {
    let say = |text: &str| parse(SMALL, &[text]).unwrap_err();
    assert_eq!(
        say("slo.tbt=70"),
        "`--set slo.tbt=70`: slo.tbt: 70: expected a duration with its unit, for example \"70 ms\"\n\
         hint: write the unit: \"70 ms\"; units are ps, ns, us, ms, s, min, h"
    );
    assert!(say("engine.slot=1").starts_with("`--set engine.slot=1`: engine.slot: unknown key"));
    assert!(say("engine.slots=abc").contains("engine.slots: \"abc\": expected a whole number from 1 to 128"));
    assert!(say("slo.scale=[1").contains("expected a TOML value"));
    assert!(say("slo.scale=[1, -2]").contains("`--set slo.scale=[1, -2]`: slo.scale: -2: expected a finite"));
    assert!(say("slo").contains("expected KEY=VALUE"));
    assert!(say("=1").contains("expected a dotted key"));
    assert!(say("slo..tbt=1").contains("expected a dotted key"));
    assert!(say("model.x=1").contains("`model` is none"));
    assert!(say(&format!("{}=1", "a.".repeat(9) + "a")).contains("expected a dotted key of at most 8 parts"));
    let long = say(&format!("model={}", "x".repeat(1000)));
    assert!(long.contains("xxx…: expected a model preset") && long.len() < 1400, "{}", long.len());
    assert!(say("model=").contains("demo.toml: model: missing"));
}

#[test]
fn a_bare_number_for_a_quantity_names_key_line_and_fix() {
    assert_eq!(
        parse(&SMALL.replace("slo.scale = [1]", "slo.tbt = 70"), &[]).unwrap_err(),
        "demo.toml:5: slo.tbt: 70: expected a duration with its unit, for example \"70 ms\"\n\
         hint: write the unit: \"70 ms\"; units are ps, ns, us, ms, s, min, h"
    );
    let keys = [
        ("gpu_kv = 48", "gpu_kv: 48: expected a size with its unit, for example \"48 GiB\""),
        ("link = 25.19", "link: 25.19: expected a rate with its unit, for example \"25.19 GiB/s\""),
        ("warmup = 1", "warmup: 1: expected a duration"),
        ("trace.step_time = 0.05", "trace.step_time: 0.05: expected a duration"),
        ("slo.ttft = 5", "slo.ttft: 5: expected a duration"),
        ("prefill.per_token = 0.1", "prefill.per_token: 0.1: expected a duration"),
        ("engine.host_kv = 64", "engine.host_kv: 64: expected a size"),
        ("engine.solver_time = 0", "engine.solver_time: 0: expected a duration"),
        ("planner.max_pause = 240", "planner.max_pause: 240: expected a duration"),
    ];
    for (line, expected) in keys {
        let error = small_and(line).unwrap_err();
        assert!(error.starts_with(&format!("demo.toml:6: {expected}")), "{error}");
        assert!(error.contains("\nhint: write the unit: "), "{error}");
    }
}

#[test]
fn a_wrong_quantity_says_what_was_expected() {
    let cases = [
        ("slo.ttft = \"5\"", "\"5\": expected a duration with its unit, for example \"70 ms\""),
        ("slo.ttft = \"5 GiB\"", "\"5 GiB\": expected a duration with its unit"),
        ("slo.ttft = \"5 S\"", "hint: write \"5 s\""),
        ("slo.ttft = \"-5 s\"", "not negative"),
        ("slo.ttft = \"0 s\"", "more than zero"),
        ("slo.ttft = \"nan s\"", "finite"),
        ("slo.ttft = \"inf\"", "finite"),
        ("slo.ttft = nan", "nan: expected a duration"),
        ("slo.ttft = -inf", "-inf: expected a duration"),
        ("slo.ttft = \"1e30 s\"", "at most 213 days"),
        ("slo.ttft = \"1e99 s\"", "at most 213 days"),
        ("slo.ttft = \"1e99999999999 s\"", "at most 213 days"),
        ("slo.ttft = \"1e-99 s\"", "more than zero"),
        ("slo.ttft = \"1234567890123456789012345678901 s\"", "hint: a number has at most 30 digits"),
        ("slo.ttft = \"\"", "\"\": expected a duration"),
        ("slo.ttft = true", "true: expected a duration"),
        ("slo.ttft = [\"5 s\"]", "[\"5 s\"]: expected a duration"),
        ("slo.ttft = 2026-11-23", "2026-11-23: expected a duration"),
        ("slo.ttft.s = 5", "slo.ttft: { s = 5 }: expected a duration"),
        ("gpu_kv = \"0 GiB\"", "more than zero"),
        ("gpu_kv = \"48 gb\"", "hint: write \"48 GB\""),
        ("gpu_kv = \"48 GiB/s\"", "expected a size with its unit"),
        ("gpu_kv = \"2000000 TiB\"", "at most 2^60 bytes"),
        ("link = \"0 GB/s\"", "at least 1 B/s"),
        ("link = \"7 GB\"", "expected a rate with its unit"),
        (
            "planner.max_pause = \"of\"",
            "expected a duration with its unit, for example \"70 ms\", or \"off\"",
        ),
        ("planner.max_pause = \"0 s\"", "more than zero, or \"off\""),
    ];
    for (line, expected) in cases {
        let error = small_and(line).unwrap_err();
        assert!(error.contains("demo.toml:6: ") && error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn a_wrong_number_says_its_range() {
    let cases = [
        ("batch_size = 0", "batch_size: 0: expected a whole number from 1 to 1000000"),
        ("batch_size = -4", "batch_size: -4: expected a whole number"),
        ("batch_size = 4.5", "batch_size: 4.5: expected a whole number"),
        ("batch_size = \"4\"", "hint: without quotes"),
        ("batch_size = 99999999999999999999", "batch_size: 99999999999999999999: expected a whole number"),
        ("gpu_kv_blocks = 0", "expected a whole number from 1"),
        ("seed = -1", "seed: -1: expected a whole number from 0"),
        ("trace.load = 0", "trace.load: 0: expected a finite number from 0.000001 to 1000000"),
        ("trace.load = nan", "trace.load: nan: expected a finite number"),
        ("trace.load = inf", "trace.load: inf: expected a finite number"),
        ("trace.load = -1", "trace.load: -1: expected a finite number"),
        ("trace.load = 1e300", "expected a finite number"),
        ("trace.limit = 0", "trace.limit: 0: expected a whole number from 1"),
        ("engine.slots = 0", "engine.slots: 0: expected a whole number from 1 to 128"),
        (
            "engine.noise = { copy_cv = -0.1 }",
            "engine.noise.copy_cv: -0.1: expected a finite number from 0 to 10",
        ),
        ("engine.noise = 0.1", "engine.noise: 0.1: expected a table"),
        ("engine.charge_staging = \"yes\"", "expected true or false"),
        ("engine.charge_staging = 1", "expected true or false"),
    ];
    for (line, expected) in cases {
        let error = small_and(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let scale = |text: &str| parse(&SMALL.replace("[1]", text), &[]).unwrap_err();
    assert!(scale("[]").contains("slo.scale: []: expected at least one number"));
    assert!(scale("[1, 0]").contains("slo.scale: 0: expected a finite number"));
    assert!(scale("[1, nan]").contains("slo.scale: nan: expected a finite number"));
    assert!(scale("[1, 1.0]").contains("slo.scale: 1.0: expected different numbers"));
    assert!(scale("\"1\"").contains("slo.scale: \"1\": expected a finite number"));
    assert!(scale("[\"1\"]").ends_with("hint: without quotes"));
}

#[test]
fn an_unknown_key_names_the_nearest_or_its_section() {
    let cases = [
        ("batchsize = 4", "demo.toml:6: batchsize: unknown key\nhint: the nearest key is `batch_size`"),
        ("sol.tbt = \"70 ms\"", "sol: unknown key\nhint: the nearest key is `slo`"),
        ("[engine]\nslotz = 2", "demo.toml:7: engine.slotz: unknown key\nhint: the nearest key is `slots`"),
        (
            "[engine]\nmax_pause = \"1 s\"",
            "engine.max_pause: unknown key\nhint: `max_pause` belongs in [planner]",
        ),
        ("[planner]\nslots = 2", "hint: `slots` belongs in [engine]"),
        ("[planner]\nplanning = \"free\"", "hint: `planning` belongs in [engine]"),
        ("max_context = 5", "hint: `max_context` belongs in [trace]"),
        ("host_kv = \"1 GiB\"", "hint: `host_kv` belongs in [engine]"),
        (
            "[engine]\ngpu_kv = \"1 GiB\"",
            "hint: `gpu_kv` stands at the top of the file, before the first [section]",
        ),
        ("[engine]\ncopy_cv = 0.1", "hint: `copy_cv` belongs in engine.noise"),
        (
            "engine.noise = { copycv = 0.1 }",
            "engine.noise.copycv: unknown key\nhint: the nearest key is `copy_cv`",
        ),
        ("[engine]\nmax_pauze = 1", "hint: the nearest key is `max_pause`, in [planner]"),
        ("[axes]\nload = [1]", "demo.toml:7: load: unknown key\nhint: `load` belongs in [trace]"),
    ];
    for (line, expected) in cases {
        let error = small_and(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn a_chunk_that_is_none_says_what_one_is() {
    let words = [
        "",
        "chunk",
        "chunked",
        "chunked:",
        "chunked:0",
        "chunked:-1",
        "chunked:x",
        "chunked:1.5",
        "chunked:nan",
    ];
    let huge = ["chunked:1000000000001", "chunked:99999999999999999999999999", "separate "];
    for text in words.iter().chain(&huge) {
        assert_eq!(
            small_and(&format!("engine.prefill = \"{text}\"")).unwrap_err(),
            format!(
                "demo.toml:6: engine.prefill: \"{text}\": expected \"separate\", \"chunked:N\" or \"chunked:inf\", N from 1 to \
                 1000000000000\nhint: \"chunked:512\": up to 512 prompt tokens join each decode step; \"chunked:inf\": whole \
                 prompts do"
            )
        );
    }
    let number = small_and("engine.prefill = 512").unwrap_err();
    assert!(number.contains("engine.prefill: 512: expected \"separate\", \"chunked:N\""), "{number}");
}

#[test]
fn a_wrong_word_names_the_right_ones() {
    let cases = [
        (
            "engine.restore = \"lasy\"",
            "demo.toml:6: engine.restore: \"lasy\": expected \"blocking\" or \"lazy\"\nhint: the nearest is \"lazy\"",
        ),
        ("semantics = \"real\"", "semantics: \"real\": expected \"physical\" or \"published\""),
        ("engine.copy_order = 1", "engine.copy_order: 1: expected \"ready-first\" or \"in-order\""),
        ("engine.tensor_parallel = 0", "engine.tensor_parallel: 0: expected a whole number from 1 to 128"),
        (
            "planner.objective = \"goodput\"\nplanner.pause = false",
            "planner.objective: \"goodput\": expected `pause = true` beside",
        ),
        ("planner.migration_cost = 1", "expected true or false"),
    ];
    for (line, expected) in cases {
        let error = small_and(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let number = parse(&SMALL.replace("\"llama-3-8b\"", "8"), &[]).unwrap_err();
    assert_eq!(number, "demo.toml:1: model: 8: expected a string that is not empty");
    let model = parse(&SMALL.replace("llama-3-8b", "llama3-8b"), &[]).unwrap_err();
    assert_eq!(
        model,
        "demo.toml:1: model: \"llama3-8b\": expected a model preset or a path to a config.json\n\
         hint: the nearest preset is \"llama-3-8b\""
    );
    let missing = parse(&SMALL.replace("llama-3-8b", "no/config.json"), &[]).unwrap_err();
    assert!(missing.contains("scenarios/no/config.json: cannot read the model"), "{missing}");
}

#[test]
fn policies_are_names_or_tables_with_different_keys() {
    let say = |list: &str| parse(SMALL, &[&format!("policies={list}")]).unwrap_err();
    assert!(say("[]").contains("policies: []: expected a list of policies"));
    assert!(say("orbitflow").contains("policies: \"orbitflow\": expected a list of policies"));
    assert!(say("[3]").contains("policies[0]: 3: expected a policy's name"));
    assert!(say("[\"\"]").contains("policies[0]: \"\": expected a policy's name"));
    assert!(say("[\"a b\"]").contains("expected a policy's name"));
    assert!(say("[{ key = \"x\" }]").contains("policies[0].use: missing: expected the name of a policy"));
    assert!(
        say("[{ use = \"orbitflow\", key = \"X y\" }]")
            .contains("policies[0].key: \"X y\": expected lower-case")
    );
    assert!(say("[{ use = \"orbitflow\", pauses = true }]").contains("the nearest key is `pause`"));
    assert!(say("[{ use = \"orbitflow\", slots = 1 }]").contains("it belongs in [engine]"));
    assert!(say("[{ use = \"orbitflow\", admit_past_paused = false }]").contains("it belongs in [planner]"));
    assert!(say("[{ use = \"orbitflow\", batch_size = 1 }]").contains("it stands at the top of the file"));
    assert!(
        say("[{ use = \"orbitflow\", max_pause = 1 }]")
            .contains("policies[0].max_pause: 1: expected a duration")
    );
    let lairs = say("[{ use = \"orbitflow\", key = \"orbitflow-layers\", placement_space = \"lairs\" }]");
    assert!(lairs.contains("policies[0].placement_space: \"lairs\": expected"), "{lairs}");
    let twice = say("[\"orbitflow\", { use = \"orbitflow\", pause = false }]");
    assert!(
        twice.contains("policies[1]: { use = \"orbitflow\", pause = false }: expected different keys: `orbitflow` stands twice"),
        "{twice}"
    );
    let against = say("[{ use = \"orbitflow-no-pause\", pause = true }]");
    assert!(against.contains("policies[0].pause: true: expected false: `orbitflow-no-pause`"), "{against}");
    assert!(say("[{ use = \"uniform\", uniform = false }]").contains("has one common distance"));
    assert!(say("[{ use = \"uniform-td-pr\", uniform = false }]").contains("has one common distance"));
    let pausing = say("[{ use = \"uniform-td\", pause = true }]");
    assert!(
        pausing.ends_with(
            "policies[0].pause: true: expected false: `uniform-td` is without it\nhint: use = \"uniform-td-pr\" has it"
        ),
        "{pausing}"
    );
    let poor = say("[{ use = \"uniform-td\", deposit = false }]");
    assert!(poor.contains("policies[0].deposit: false: expected true: `uniform-td` has it"), "{poor}");
    let nobody = say("[{ use = \"orbitflow\", victim = \"shortes\" }]");
    assert!(
        nobody.contains("policies[0].victim: \"shortes\": expected \"longest\" or \"shortest\" or"),
        "{nobody}"
    );
    assert!(nobody.ends_with("hint: the nearest is \"shortest\""), "{nobody}");
}

#[test]
fn keys_that_exclude_each_other_and_missing_ones_are_named() {
    let both = small_and("slo.tbt = \"70 ms\"").unwrap_err();
    assert!(
        both.starts_with("demo.toml:6: slo.tbt: \"70 ms\": expected either `slo.tbt` or `slo.scale`"),
        "{both}"
    );
    let both = small_and("gpu_kv = \"1 GiB\"\ngpu_kv_blocks = 5").unwrap_err();
    assert!(both.starts_with("demo.toml:6: gpu_kv: \"1 GiB\": expected either"), "{both}");
    for key in ["model", "hardware", "policies", "trace.file"] {
        let without: Vec<&str> = SMALL.lines().filter(|line| !line.starts_with(key)).collect();
        let error = parse(&without.join("\n"), &[]).unwrap_err();
        assert!(error.starts_with(&format!("demo.toml: {key}: missing: expected ")), "{error}");
        assert!(error.contains("\nhint: "), "{error}");
    }
    let base = small_and("prefill.base = \"1 ms\"").unwrap_err();
    assert!(base.starts_with("demo.toml: prefill.per_token: missing: expected a duration"), "{base}");
    assert!(parse("", &[]).unwrap_err().starts_with("demo.toml: model: missing"));
}

#[test]
fn what_is_not_toml_names_the_line() {
    let syntax = small_and("seed = ").unwrap_err();
    assert!(syntax.starts_with("demo.toml:6: not valid TOML: "), "{syntax}");
    assert!(!syntax.contains('\n'), "{syntax}");
    let twice = small_and("seed = 1\nseed = 2").unwrap_err();
    assert!(twice.starts_with("demo.toml:7: not valid TOML: duplicate key"), "{twice}");
    assert!(small_and("policies = [").unwrap_err().contains("not valid TOML"));
}
