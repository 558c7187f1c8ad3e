//! The traces that the repository ships, and `orbitflow trace` on them.

use std::collections::BTreeSet;
use std::fs;

use assert_cmd::Command;
use orbitflow_sim::trace::stats::{PressureServer, pressure};
use orbitflow_sim::trace::{Arrival, ReadOptions, orbitflow};

use super::{read, repository};

#[test]
fn the_shipped_traces_are_what_their_commands_draw() {
    let readme = fs::read_to_string(repository().join("traces/README.md")).unwrap();
    let mut drawn = BTreeSet::from(["README.md".to_owned()]);
    for line in readme.lines().filter(|line| line.starts_with("orbitflow trace generate")) {
        let (flags, file) = line.split_once(" --out traces/").expect(line);
        let output =
            Command::cargo_bin("orbitflow").unwrap().args(flags.split(' ').skip(1)).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let shipped = fs::read(repository().join("traces").join(file)).unwrap();
        assert!(output.stdout == shipped, "{file} is not what this prints: {line}");
        drawn.insert(file.to_owned());
    }
    let files: BTreeSet<String> = fs::read_dir(repository().join("traces"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, drawn);
}

#[test]
fn the_demo_trace_has_pressure_and_brings_its_server() {
    let trace =
        orbitflow_sim::trace::read(&repository().join("traces/demo.json"), &ReadOptions::default()).unwrap();
    assert_eq!((trace.requests.len(), trace.hints.batch_size), (52, Some(4)));
    assert_eq!(trace.requests[0].arrival, Arrival::Step(0));
    let peak = orbitflow::peak_batch_blocks(&trace).unwrap();
    // ceil(0.23 · peak), facts G.2
    assert_eq!(trace.hints.gpu_kv_blocks, Some((23 * peak).div_ceil(100)));
    let pressure = pressure(&trace, PressureServer::default()).unwrap();
    assert!(pressure.above_n_pct.unwrap() > 30.0, "{pressure:?}");
}

fn orbitflow_trace(args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("orbitflow").unwrap().arg("trace").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn convert_writes_a_trace_that_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (lines, back) = (folder.path().join("t.jsonl"), folder.path().join("t.json"));
    let demo = repository().join("traces/demo.json");
    let (code, _, stderr) = orbitflow_trace(&[
        "convert",
        demo.to_str().unwrap(),
        "--to",
        "jsonl",
        "--out",
        lines.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("jsonl has no place for the server: batch_size = 4"), "{stderr}");
    let (code, ..) = orbitflow_trace(&[
        "convert",
        lines.to_str().unwrap(),
        "--to",
        "orbitflow",
        "--out",
        back.to_str().unwrap(),
    ]);
    assert_eq!(code, 0);
    let options = ReadOptions::default();
    let original = orbitflow_sim::trace::read(&demo, &options).unwrap();
    assert_eq!(orbitflow_sim::trace::read(&lines, &options).unwrap().requests, original.requests);
    assert_eq!(orbitflow_sim::trace::read(&back, &options).unwrap().requests, original.requests);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no unfinished file is left");
}

#[test]
fn stats_speak_table_json_and_csv() {
    let demo = repository().join("traces/demo.json");
    let demo = demo.to_str().unwrap();
    let (code, table, _) = orbitflow_trace(&["stats", demo]);
    assert_eq!(code, 0);
    assert!(table.contains("over the pool of 941"), "{table}");
    let (_, json, _) = orbitflow_trace(&["stats", demo, "--format", "json", "--gpu-kv-blocks", "500"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pressure"]["gpu_kv_blocks"], 500);
    let (_, csv, _) = orbitflow_trace(&["stats", demo, "--format", "csv"]);
    assert!(csv.starts_with("name,value\nrequests,52\n"), "{csv}");
}

#[test]
fn wrong_flags_and_files_exit_with_2_and_one_clear_line() {
    let draw = [
        "generate",
        "--requests",
        "2",
        "--arrivals",
        "poisson:1",
        "--prompt",
        "fixed:5",
        "--output",
        "fixed:5",
    ];
    let with = |flags: &[&'static str]| [draw.as_slice(), flags].concat();
    for (args, message) in [
        (vec!["stats", "no-such-file"], "cannot read trace `no-such-file`"),
        (vec!["stats", "no-such-file", "--load", "-1"], "cannot read trace `no-such-file`"),
        (vec!["generate", "--requests", "2"], "--arrivals"),
        (vec!["generate", "--recipe", "paper", "--load", "NaN"], "`load` is NaN: expected 0.001 to 1000"),
        (vec!["generate", "--recipe", "paper", "--cv", "-1"], "`cv` is -1"),
        (vec!["generate", "--recipe", "paper", "--requests", "0"], "`requests` is 0"),
        (vec!["generate", "--recipe", "paper", "--mix", "SX=1"], "expected a pair of S, M and L"),
        (vec!["generate", "--recipe", "paper", "--mix", "SS=0"], "not all of them 0"),
        (with(&["--rate", "3"]), "2 numbers are not what `poisson` takes"),
        (with(&["--unit", "steps", "--turns", "2"]), "sessions think in seconds"),
        (with(&["--turns", "0"]), "`turns` is 0"),
        (with(&["--turns", "2", "--think-s", "-1"]), "`think` is -1"),
        (with(&["--to", "orbitflow"]), "knows only decode steps"),
    ] {
        let (code, stdout, stderr) = orbitflow_trace(&args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
}

#[test]
fn a_recipe_draws_the_mix_it_is_given() {
    let (code, text, _) = orbitflow_trace(&[
        "generate",
        "--recipe",
        "paper",
        "--mix",
        "SL=1",
        "--batch-size",
        "8",
        "--requests",
        "30",
    ]);
    assert_eq!(code, 0);
    let trace = read(&text);
    assert_eq!(trace.hints.batch_size, Some(8));
    for request in &trace.requests {
        assert!((96..=608).contains(&request.prompt_tokens), "{}", request.prompt_tokens);
        assert!((3264..=9824).contains(&request.output_tokens), "{}", request.output_tokens);
    }
}
