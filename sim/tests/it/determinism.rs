//! Law 7 (design §8): the same inputs and seed give the same bytes, on one thread or many, in this order of policies
//! or another, whatever else is looked at or written. Debug against release is `make determinism`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use orbitflow_sim::report::rows::{PolicyResult, Results};
use orbitflow_sim::runner::{self, Options};
use orbitflow_sim::scenario::Scenario;
use tempfile::TempDir;

/// The first 12 requests of the demo, noise and random victims on: 4 may run at once, memory is short.
const SHORT: [&str; 6] = [
    "--set",
    "trace.limit=12",
    "--set",
    "engine.noise={ compute_cv = 0.05, copy_cv = 0.05 }",
    "--set",
    "planner.victim=random",
];
const POLICIES: [&str; 5] = ["orbitflow", "heuristic", "selectn", "static-1", "resident"];

fn policies(keys: impl Iterator<Item = &'static str>) -> String {
    let quoted: Vec<String> = keys.map(|key| format!("\"{key}\"")).collect();
    format!("policies=[{}]", quoted.join(", "))
}

/// Stdout of `orbitflow compare` on the demo with these flags.
fn compare(policies: &str, flags: &[&str]) -> String {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let mut command = Command::cargo_bin("orbitflow").expect("the binary is built");
    command.arg("compare").arg(demo).args(SHORT).args(["--set", policies]).args(flags);
    let output = command.output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flags:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The table and every file that `compare --out` wrote, with the flags.
fn everything(policies: &str, flags: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let out = TempDir::new().expect("a scratch folder");
    let to = out.path().display().to_string();
    let table = compare(policies, &[&["--out", &to], flags].concat());
    let mut files = BTreeMap::from([("stdout".to_owned(), table.into_bytes())]);
    for folder in [out.path().to_owned(), out.path().join("plots")] {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.strip_prefix(out.path()).expect("below it").display().to_string();
                files.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

fn same(first: &BTreeMap<String, Vec<u8>>, second: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (name, bytes) in first {
        assert!(*bytes == second[name], "{name} differs");
    }
}

/// `results.json` among [`everything`].
fn results(files: &BTreeMap<String, Vec<u8>>) -> Results {
    serde_json::from_slice(&files["results.json"]).expect("results")
}

/// The same comparison through the library: no files, no steps, no laws.
fn in_memory(overrides: &[&str]) -> Results {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let all = policies(POLICIES.into_iter());
    let short = SHORT.iter().filter(|flag| **flag != "--set");
    let overrides: Vec<String> =
        short.chain(overrides).chain([&all.as_str()]).map(|text| (*text).to_owned()).collect();
    let prepared =
        runner::prepare(&Scenario::load(&demo, &overrides).expect("a scenario")).expect("it is whole");
    runner::compare(&prepared, &prepared.contenders, Options::default()).saved.results
}

fn by_key(results: Results) -> BTreeMap<String, PolicyResult> {
    results.policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect()
}

#[test]
fn two_runs_on_one_thread_or_four_write_the_same_bytes() {
    let all = policies(POLICIES.into_iter());
    let first = everything(&all, &["--steps", "--jobs", "1"]);
    assert!(first.contains_key("steps.csv") && first.keys().any(|name| name.starts_with("plots/")));
    same(&first, &everything(&all, &["--steps", "--jobs", "1"]));
    same(&first, &everything(&all, &["--steps", "--jobs", "4"]));
}

#[test]
fn the_order_of_the_policies_changes_no_row_of_any() {
    let forwards = everything(&policies(POLICIES.into_iter()), &["--steps"]);
    let backwards = everything(&policies(POLICIES.into_iter().rev()), &["--steps"]);
    let keys: Vec<String> = results(&backwards).policies.into_iter().map(|policy| policy.key).collect();
    assert_eq!(keys, ["resident", "static-1", "selectn", "heuristic", "orbitflow"]);
    assert_eq!(by_key(results(&forwards)), by_key(results(&backwards)));
    for name in ["requests.csv", "quantiles.csv", "timeline.csv", "states.csv", "steps.csv"] {
        for policy in POLICIES {
            let rows = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
                let text = String::from_utf8(files[name].clone()).expect("UTF-8");
                let own = text.lines().filter(|line| line.split(',').next() == Some(policy));
                own.map(str::to_owned).collect()
            };
            assert!(!rows(&forwards).is_empty(), "{name} has rows of {policy}");
            assert!(rows(&forwards) == rows(&backwards), "{policy} in {name}");
        }
    }
}

#[test]
fn laws_steps_and_files_change_nothing_that_happens() {
    let all = policies(POLICIES.into_iter());
    let plain = in_memory(&["seed=42"]);
    let saved = results(&everything(&all, &[]));
    assert_eq!(plain.policies, saved.policies);
    let watched = results(&everything(&all, &["--steps", "--laws"]));
    let digests = |results: &Results| -> Vec<String> {
        results.policies.iter().map(|policy| policy.event_digest.clone()).collect()
    };
    assert_eq!(digests(&plain), digests(&watched));
    assert_eq!(saved, watched);
}

#[test]
fn another_seed_is_another_run() {
    // The digests above could be blind: they are not.
    let (one, other) = (in_memory(&["seed=1"]), in_memory(&["seed=2"]));
    assert_ne!(one.scenario_digest, other.scenario_digest);
    for (one, other) in one.policies.iter().zip(&other.policies) {
        assert_ne!(one.event_digest, other.event_digest, "{}", one.key);
    }
}
