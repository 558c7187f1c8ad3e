//! `orbitflow diff`: two results side by side, word for word and number by number; sweeps joined by point; wrong input.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use orbitflow_sim::report::diff::{self, Side, Verdict};
use orbitflow_sim::report::load_results;
use orbitflow_sim::report::rows::Results;
use serde_json::Value;
use tempfile::TempDir;

const SCENARIO: &str = r#"
model = "llama-3-8b"
hardware = "engine-fit:a6000"
link = "1 GB/s"
slo.scale = [1.5, 1]
[trace.draw]
requests = 6
length_scale = 0.1
"#;

struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().expect("a scratch folder");
        fs::write(folder.path().join("s.toml"), SCENARIO).expect("a scratch file");
        let axes = format!("policies = [\"static-1\"]\n{SCENARIO}[axes]\nseed = [1, 2]\n");
        fs::write(folder.path().join("grid.toml"), axes).expect("a scratch file");
        Desk { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn orbitflow(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("orbitflow").expect("the program");
        let output = command.current_dir(self.folder.path()).args(args).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    /// Runs `compare` into that folder.
    fn compare(&self, out: &str, policies: &str, overrides: &[&str]) -> Results {
        let policies = format!("policies={policies}");
        let mut args = vec!["compare", "s.toml", "--quiet", "--out", out, "--set", &policies];
        overrides.iter().for_each(|text| args.extend(["--set", *text]));
        let (code, _, stderr) = self.orbitflow(&args);
        assert_eq!(code, 0, "{stderr}");
        load_results(&self.path(out)).expect("results")
    }

    fn diff(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.orbitflow(&[&["diff"], args].concat());
        assert_eq!((code, stderr.as_str()), (0, ""));
        stdout
    }
}

/// The two results that most tests compare: another number of slots, and a policy that each has alone.
fn two(desk: &Desk) -> (Results, Results) {
    let a = desk.compare("a", "[\"static-1\", \"heuristic\", \"resident\"]", &["engine.slots=1"]);
    let b = desk.compare("b", "[\"static-1\", \"resident\", \"next-layer\"]", &[]);
    (a, b)
}

/// Without what every release and every edit of a scenario changes.
fn steady(text: &str) -> String {
    let word = |word: &str| {
        let digest = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digest { "DIGEST".to_owned() } else { word.to_owned() }
    };
    let lines = text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n").replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn two_results_stand_side_by_side_with_what_was_run_differently() {
    let desk = Desk::new();
    two(&desk);
    insta::assert_snapshot!(steady(&desk.diff(&["a", "b"])));
}

#[test]
fn results_that_are_the_same_say_so_to_the_last_event() {
    let desk = Desk::new();
    let a = desk.compare("a", "[\"static-1\", \"resident\"]", &[]);
    desk.compare("again", "[\"static-1\", \"resident\"]", &[]);
    let said = desk.diff(&["a", "again"]);
    assert!(said.contains("\nidentical: every setting, "), "{said}");
    assert!(said.ends_with("the digest over every event of every policy (2)\n"), "{said}");
    let json: Value = serde_json::from_str(&desk.diff(&["a", "again", "--format", "json"])).unwrap();
    assert_eq!((&json["identical"], json["settings"].as_array().unwrap().len()), (&Value::Bool(true), 0));
    // One event's digest is enough to make it untrue, however equal the numbers are.
    let mut other = a.clone();
    other.policies[1].event_digest = "0".repeat(64);
    let found = diff::diff(&a, &other);
    assert!(!found.identical && found.policies[0].is_identical() && !found.policies[1].is_identical());
    assert_eq!(found.policies[1].same_events, Some(false));
}

#[test]
fn every_number_of_both_sides_is_there_and_the_other_way_round_signs_and_verdicts_turn() {
    let desk = Desk::new();
    let (a, b) = two(&desk);
    let (there, back) = (diff::diff(&a, &b), diff::diff(&b, &a));
    let sides: Vec<(&str, Side)> = there.policies.iter().map(|p| (p.key.as_str(), p.side)).collect();
    let expected = [
        ("static-1", Side::Both),
        ("heuristic", Side::OnlyA),
        ("resident", Side::Both),
        ("next-layer", Side::OnlyB),
    ];
    assert_eq!(sides, expected);
    let mut better = 0;
    for policy in &there.policies {
        let other = back.policies.iter().find(|other| other.key == policy.key).expect("in both directions");
        assert_eq!(policy.rows.len(), other.rows.len());
        for (row, turned) in policy.rows.iter().zip(&other.rows) {
            assert_eq!((&row.metric, &row.a, &row.b), (&turned.metric, &turned.b, &turned.a));
            let number =
                |number: &Option<serde_json::Number>| number.as_ref().and_then(serde_json::Number::as_f64);
            let (difference, back) = (number(&row.difference), number(&turned.difference));
            assert_eq!(difference, back.map(|back| -back), "{row:?}");
            let expected = match row.verdict {
                Some(Verdict::Better) => Some(Verdict::Worse),
                Some(Verdict::Worse) => Some(Verdict::Better),
                None => None,
            };
            assert_eq!(turned.verdict, expected, "{row:?}");
            better += u32::from(row.verdict == Some(Verdict::Better));
        }
    }
    assert!(better > 0);
    // A second slot: less stall of static-1, said to be better; and its throughput is that of results.json.
    let of = |metric: &str| there.policies[0].rows.iter().find(|row| row.metric == metric).expect("a row");
    let stall = of("busy_s.stall");
    assert_eq!(stall.verdict, Some(Verdict::Better), "{stall:?}");
    let throughput = of("throughput_tokens_per_s");
    assert_eq!(throughput.slo_scale, Some(1.5));
    assert_eq!(
        throughput.a.as_ref().and_then(serde_json::Number::as_f64),
        Some(a.policies[0].throughput_tokens_per_s)
    );
    // CSV has a line for each: settings, texts, numbers.
    let csv = desk.diff(&["a", "b", "--format", "csv"]);
    let lines = there.policies.iter().map(|policy| policy.rows.len() + policy.texts.len()).sum::<usize>();
    let read = csv::Reader::from_reader(csv.as_bytes()).into_records().count();
    assert_eq!(read, lines + there.settings.len());
}

#[test]
fn another_promise_another_trace_and_another_version_are_cautions() {
    let desk = Desk::new();
    let a = desk.compare("a", "[\"static-1\"]", &[]);
    assert_eq!(diff::diff(&a, &a).cautions, Vec::<String>::new());
    let mut b = a.clone();
    b.tool_version = "9.9.9".to_owned();
    b.trace.requests += 1;
    b.policies[0].by_slo_scale[1].slo_s *= 2.0;
    b.notes[0] = "semantics: published".to_owned();
    b.notes.push("a note of its own".to_owned());
    let found = diff::diff(&a, &b);
    assert_eq!(found.cautions.len(), 3, "{:?}", found.cautions);
    let settings: Vec<&str> = found.settings.iter().map(|setting| setting.name.as_str()).collect();
    assert_eq!(settings, ["tool_version", "trace.requests", "note semantics", "note"]);
    assert_eq!(found.settings[2].a.as_deref(), Some("semantics: physical"));
    assert_eq!((&found.settings[3].a, found.settings[3].b.as_deref()), (&None, Some("a note of its own")));
}

#[test]
fn sweeps_are_joined_by_the_names_of_their_points() {
    let desk = Desk::new();
    let sweep = |out: &str, args: &[&str]| {
        let all = [&["sweep", "grid.toml", "--quiet", "--shard", "0/1", "--out", out], args].concat();
        assert_eq!(desk.orbitflow(&all).0, 0);
    };
    sweep("a", &[]);
    sweep("same", &[]);
    let said = desk.diff(&["a", "same"]);
    assert!(said.contains("identical: every setting and number of 2 points"), "{said}");
    let grid = fs::read_to_string(desk.path("grid.toml")).unwrap();
    fs::write(desk.path("grid.toml"), grid.replace("[1, 2]", "[2, 3]")).unwrap();
    sweep("b", &[]);
    let json: Value = serde_json::from_str(&desk.diff(&["a", "b", "--format", "json"])).unwrap();
    let points: Vec<(&str, &str, bool)> = json["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| {
            let diff = &point["diff"];
            (point["point"].as_str().unwrap(), point["side"].as_str().unwrap(), diff["identical"] == true)
        })
        .collect();
    assert_eq!(points, [("seed=1", "only-a", false), ("seed=2", "both", true), ("seed=3", "only-b", false)]);
    assert_eq!(json["identical"], false);
    let said = desk.diff(&["a", "b"]);
    assert!(said.contains("1 of 3 points are identical"), "{said}");
    assert!(said.contains("seed=1: only in A\nseed=3: only in B\n"), "{said}");
    // The same points under another link: every number of the summary is over both.
    sweep("c", &["--set", "link=3 GB/s"]);
    insta::assert_snapshot!(steady(&desk.diff(&["b", "c"])));
}

fn refusal(desk: &Desk, a: &str, b: &str) -> String {
    let (code, stdout, stderr) = desk.orbitflow(&["diff", a, b]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("hint: "), "{stderr}");
    stderr
}

#[test]
fn what_is_no_result_is_refused_in_one_line() {
    let desk = Desk::new();
    desk.compare("good", "[\"static-1\"]", &[]);
    let results = fs::read_to_string(desk.path("good/results.json")).unwrap();
    let put = |folder: &str, file: &str, text: &str| {
        fs::create_dir_all(desk.path(folder)).expect("a folder");
        fs::write(desk.path(folder).join(file), text).expect("a file");
    };
    fs::create_dir(desk.path("empty")).unwrap();
    put("cut", "results.json", &results[..results.len() / 2]);
    put("later", "results.json", &results.replace("\"schema_version\": 1", "\"schema_version\": 2"));
    put("wrong", "results.json", &results.replace("\"seed\": 42", "\"seed\": \"none\""));
    fs::create_dir_all(desk.path("stopped/points")).unwrap();
    let sweep = ["sweep", "grid.toml", "--quiet", "--shard", "0/1", "--out", "swept"];
    assert_eq!(desk.orbitflow(&sweep).0, 0);
    let told: Vec<String> = [
        ("missing", "good"),
        ("good", "missing"),
        ("s.toml", "good"),
        ("empty", "good"),
        ("cut", "good"),
        ("good", "later"),
        ("good", "wrong"),
        ("good", "swept"),
        ("swept", "good"),
        ("stopped", "swept"),
    ]
    .map(|(a, b)| format!("$ orbitflow diff {a} {b}\n{}", refusal(&desk, a, b)))
    .into();
    insta::assert_snapshot!(told.concat());
    // A point that is listed and gone.
    let points = fs::read_dir(desk.path("swept/points")).unwrap();
    points.for_each(|point| fs::remove_file(point.unwrap().path()).unwrap());
    assert!(refusal(&desk, "swept", "swept").contains("swept/points/"));
    assert!(Path::new(&desk.path("good/results.json")).exists());
}
