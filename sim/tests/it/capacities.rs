//! `orbitflow capacity`: answers that hold when they are run again, and wrong input.

use std::fs;

use assert_cmd::Command;

const SCENARIO: &str = r#"
semantics = "published"
model = "llama-3-8b"
hardware = "engine-fit:a6000"
policies = ["heuristic", "static-1", "resident"]
slo.scale = [1.5]
[trace]
draw = { requests = 8, length_scale = 0.2 }
step_time = "50 ms"
[axes]
seed = [1, 2]
"#;

fn orbitflow(dir: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("orbitflow").expect("the program");
    command.current_dir(dir).args(args);
    command
}

fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a scratch folder");
    fs::write(folder.path().join("s.toml"), SCENARIO).expect("a scratch file");
    folder
}

fn json(dir: &std::path::Path, args: &[&str]) -> serde_json::Value {
    let answer = orbitflow(dir, args).args(["--format", "json"]).assert().success();
    serde_json::from_slice(&answer.get_output().stdout).expect("JSON")
}

/// End-to-end attainment of one policy at one load, with the SLO of the scenario.
fn e2e(dir: &std::path::Path, policy: &str, seed: u32, load: f64) -> f64 {
    let rows = json(
        dir,
        &["compare", "s.toml", "--set", &format!("seed={seed}"), "--set", &format!("trace.load={load}")],
    );
    let row = rows.as_array().expect("rows").iter().find(|row| row["policy"] == policy).expect("the policy");
    row["e2e_pct"].as_f64().expect("a number")
}

#[test]
fn the_largest_load_holds_with_every_seed_and_two_percent_more_does_not() {
    let place = place();
    let dir = place.path();
    let rows = json(dir, &["capacity", "s.toml", "--attain", "75"]);
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    let mut bracketed = 0;
    for row in rows {
        let policy = row["policy"].as_str().expect("a key");
        let (Some(load), Some(missed)) = (row["load"].as_f64(), row["missed_at"].as_f64()) else { continue };
        bracketed += 1;
        assert!(missed / load <= 1.02, "{row}");
        let worst = |load| e2e(dir, policy, 1, load).min(e2e(dir, policy, 2, load));
        assert!(worst(load) >= 75.0 && worst(missed) < 75.0, "{row}: {} {}", worst(load), worst(missed));
    }
    assert!(bracketed > 0, "{rows:?}");
}

#[test]
fn not_reached_is_an_answer_and_a_figure_is_drawn() {
    let place = place();
    let dir = place.path();
    let args =
        ["capacity", "s.toml", "--attain", "100", "--metric", "ttft", "--set", "slo.ttft=1 us", "--out", "o"];
    let rows = json(dir, &args);
    assert_eq!((&rows[0]["load"], &rows[0]["note"]), (&serde_json::Value::Null, &"not reached".into()));
    let figure = fs::read_to_string(dir.join("o/capacity.svg")).unwrap();
    assert!(
        figure.contains("Largest load factor with 100 % ttft attainment") && figure.contains("not reached")
    );
    let lines = fs::read_to_string(dir.join("o/capacity.csv")).unwrap();
    assert_eq!(lines.lines().count(), 1 + 3 * 2, "{lines}");
    assert_eq!(
        lines.lines().nth(1),
        Some("heuristic,Dynamic heuristic,1,,,,not-reached,"),
        "missing is empty, not 0"
    );
}

#[test]
fn a_pool_that_is_derived_from_each_seeds_trace_is_searched_from_its_own() {
    let place = place();
    let dir = place.path();
    let args = ["capacity", "s.toml", "--attain", "60", "--of", "gpu-kv", "--out", "o"];
    let rows = json(dir, &args);
    let read = || csv::Reader::from_path(dir.join("o/capacity.csv")).expect("the rows of the figure");
    let of_seed = |policy: &str, seed: &str| -> f64 {
        let row = read().into_records().map(|row| row.expect("a row"));
        let row = row.into_iter().find(|row| row[0] == *policy && row[2] == *seed).expect("policy and seed");
        row[3].parse().unwrap_or(f64::INFINITY)
    };
    let mut answered = 0;
    for row in rows.as_array().expect("rows") {
        let policy = row["policy"].as_str().expect("a key");
        let alone = |seed: &str| {
            let one = ["capacity", "s.toml", "--attain", "60", "--of", "gpu-kv", "--set"];
            let answer = json(dir, &[&one[..], &[&format!("seed={seed}")]].concat());
            let rows = answer.as_array().expect("rows").clone();
            let own = rows.into_iter().find(|row| row["policy"] == policy).expect("the policy");
            own["gpu_kv_layer_blocks"].as_f64().unwrap_or(f64::INFINITY)
        };
        for seed in ["1", "2"] {
            // The table has three decimals.
            assert!((of_seed(policy, seed) - alone(seed)).abs() < 1e-3 || alone(seed).is_infinite());
        }
        let Some(needed) = row["gpu_kv_layer_blocks"].as_f64() else { continue };
        let worst = of_seed(policy, "1").max(of_seed(policy, "2"));
        assert!((needed - worst).abs() < 1e-3, "{policy}: {needed}, of the seeds {worst}");
        answered += 1;
    }
    assert!(answered > 0, "{rows}");
}

#[test]
fn less_pool_and_less_link_are_searched_downwards() {
    let place = place();
    let dir = place.path();
    for (of, column) in [("gpu-kv", "gpu_kv_layer_blocks"), ("link", "link_gb_per_s")] {
        let args = ["capacity", "s.toml", "--attain", "60", "--of", of, "--set", "seed=1"];
        let rows = json(dir, &args);
        let answered = rows.as_array().unwrap().iter().filter(|row| row[column].is_number());
        assert!(answered.clone().count() > 0, "{rows}");
        for row in answered {
            let missed = row["missed_at"].as_f64().unwrap_or(0.0);
            assert!(missed < row[column].as_f64().unwrap(), "{row}");
        }
    }
}

#[test]
fn what_lies_beyond_what_can_be_simulated_is_said_and_no_error() {
    let place = place();
    let dir = place.path();
    // A link of 20 B/s: 1/64 of it is less than 1 B/s, and copies at a few bytes per second outlive 213 days.
    let args = [
        "capacity",
        "s.toml",
        "--attain",
        "60",
        "--of",
        "link",
        "--set",
        "link=20 B/s",
        "--set",
        "seed=1",
        "--set",
        "policies=[\"static-1\"]",
    ];
    let rows = json(dir, &args);
    assert_eq!(rows[0]["link_gb_per_s"], serde_json::Value::Null);
    let note = rows[0]["note"].as_str().unwrap();
    assert!(note.starts_with("not reached; not tried at "), "{note}");
    assert!(note.ends_with("beyond what can be simulated"), "{note}");
}

#[test]
fn the_pool_of_each_seed_is_its_own() {
    let place = place();
    let dir = place.path();
    // Traces drawn with other seeds bring other pools: the answer is the larger of the two pools, not of two factors.
    let pool = |seed: &str| {
        let args = ["capacity", "s.toml", "--attain", "60", "--of", "gpu-kv", "--set", seed];
        json(dir, &args)[0]["gpu_kv_layer_blocks"].as_f64()
    };
    let (one, two) = (pool("seed=1").unwrap(), pool("seed=2").unwrap());
    let both = json(dir, &["capacity", "s.toml", "--attain", "60", "--of", "gpu-kv"]);
    assert_eq!(both[0]["gpu_kv_layer_blocks"].as_f64(), Some(one.max(two)), "{one} {two}");
}

#[test]
fn wrong_input_is_named() {
    let place = place();
    let said = |args: &[&str]| {
        let refused = orbitflow(place.path(), &[&["capacity", "s.toml"], args].concat()).assert().code(2);
        String::from_utf8_lossy(&refused.get_output().stderr).into_owned()
    };
    for wrong in ["-1", "101", "nan", "inf"] {
        assert!(said(&["--attain", wrong]).contains("expected a percentage from 0 to 100"), "{wrong}");
    }
    let metric = said(&["--attain", "90", "--metric", "tpot_stp"]);
    assert!(
        metric.contains("expected one of e2e, ttft") && metric.contains("did you mean `tpot_step`?"),
        "{metric}"
    );
    let grid = SCENARIO.replace("seed = [1, 2]", "\"trace.draw.cv\" = [1, 2]");
    fs::write(place.path().join("s.toml"), grid).unwrap();
    let refused = said(&["--attain", "90"]);
    assert!(refused.contains("s.toml: axes.trace.draw.cv: expected no axis but `seed`"), "{refused}");
    // What the hint says does it: one value is no axis.
    assert!(refused.contains("`--set trace.draw.cv=…` takes one value"), "{refused}");
    let one = [
        "capacity",
        "s.toml",
        "--attain",
        "90",
        "--set",
        "trace.draw.cv=1",
        "--set",
        "policies=[\"static-1\"]",
    ];
    orbitflow(place.path(), &one).assert().success();
}
