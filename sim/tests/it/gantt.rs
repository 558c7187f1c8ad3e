//! The Gantt figure and `states.csv`, which it is drawn from.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use orbitflow_sim::report::{self, SavedResults};
use tempfile::TempDir;

fn orbitflow(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_orbitflow")).args(args).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// Runs two policies of the demo with these overrides into a folder, which is kept under target/tmp to be looked at.
fn compared(name: &str, overrides: &[&str]) -> (PathBuf, SavedResults) {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let mut args = vec!["compare", demo.to_str().unwrap(), "--force", "--out", out.to_str().unwrap()];
    args.extend(["--set", r#"policies=["orbitflow", "resident"]"#]);
    args.extend(overrides.iter().flat_map(|set| ["--set", set]));
    let (code, _, stderr) = orbitflow(&args);
    assert_eq!(code, 0, "{stderr}");
    let saved = report::load(&out).expect("results");
    (out, saved)
}

fn texts(svg: &str) -> Vec<&str> {
    svg.split("<text").skip(1).filter_map(|rest| rest.split_once(">\n")?.1.split('\n').next()).collect()
}

#[test]
fn a_short_run_has_a_figure_with_every_request_and_plot_redraws_it() {
    let (out, saved) = compared("gantt", &["trace.limit=14"]);
    for policy in ["orbitflow", "resident"] {
        let file = out.join("plots").join(format!("gantt-{policy}.svg"));
        let svg = fs::read_to_string(&file).expect("a figure");
        let texts = texts(&svg);
        for request in saved.requests.iter().filter(|request| request.policy == policy) {
            assert!(texts.contains(&request.id.as_str()), "{policy}: {} is missing", request.id);
        }
        for word in ["waiting", "prefill", "decode", "paused", "preempted", "finished", "Simulated time (s)"]
        {
            assert!(texts.contains(&word), "{policy}: no `{word}`");
        }
        fs::remove_file(&file).expect("it was there");
        let (code, said, _) = orbitflow(&["plot", out.to_str().unwrap()]);
        assert!(code == 0 && said.contains(&format!("gantt-{policy}.svg")), "{said}");
        assert_eq!(fs::read_to_string(&file).expect("a figure"), svg);
    }
}

#[test]
fn states_csv_has_each_life_without_a_gap_and_agrees_with_requests_csv() {
    let (_, saved) = compared("gantt-states", &["trace.limit=14"]);
    let mut paused_or_preempted = 0;
    for request in &saved.requests {
        let own = |row: &&report::rows::StateRow| row.policy == request.policy && row.id == request.id;
        let rows: Vec<_> = saved.states.iter().filter(own).collect();
        let (end, states) = rows.split_last().expect("a life");
        assert_eq!((end.state.as_str(), end.start_s), (request.state.as_str(), end.end_s));
        assert_eq!(states.first().map_or(end.start_s, |first| first.start_s), request.arrival_s);
        for pair in rows.windows(2) {
            assert_eq!(pair[0].end_s, pair[1].start_s, "{pair:?}");
        }
        let of = |state: &'static str| states.iter().filter(move |row| row.state == state);
        let seconds = |state: &'static str| of(state).map(|row| row.end_s - row.start_s).sum::<f64>();
        let waited = request.admitted_s.unwrap_or(end.end_s) - request.arrival_s;
        assert!((seconds("waiting") - waited).abs() < 1e-9);
        assert!((seconds("paused") - request.paused_s).abs() < 1e-9);
        let (pauses, preemptions) = (of("paused").count() as u64, of("preempted").count() as u64);
        // One that lasts no time is counted and not shown.
        assert!(pauses <= request.pauses && preemptions <= request.preemptions);
        paused_or_preempted += pauses + preemptions;
        if let Some(first) = of("decode").next() {
            assert_eq!(Some(first.start_s), request.first_token_s);
        }
    }
    assert!(paused_or_preempted > 0, "the demo is short of memory");
}

#[test]
fn a_run_of_more_requests_has_rows_of_the_first_and_a_note_instead_of_a_figure() {
    let dir = TempDir::new().expect("a scratch folder");
    let line = "{\"arrival_s\": 0, \"prompt_tokens\": 40, \"output_tokens\": 2}\n";
    let trace = dir.path().join("many.jsonl");
    fs::write(&trace, line.repeat(61)).expect("a trace");
    let file = format!("trace.file={:?}", trace.to_str().unwrap());
    let (out, saved) =
        compared("gantt-many", &[&file, "trace.format=\"jsonl\"", "batch_size=4", "gpu_kv_blocks=941"]);
    let note = "states.csv: the first 60 of 61 requests (per policy at most 60, and 4000 rows); a run that it does \
                not hold whole has no Gantt figure";
    assert!(saved.results.notes.iter().any(|said| said == note), "{:#?}", saved.results.notes);
    for policy in ["orbitflow", "resident"] {
        let mut ids: Vec<&str> =
            saved.states.iter().filter(|row| row.policy == policy).map(|row| row.id.as_str()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 60);
        assert!(!out.join(format!("plots/gantt-{policy}.svg")).exists());
        assert!(out.join(format!("plots/timeline-{policy}.svg")).exists());
    }
}

#[test]
fn rows_that_no_run_can_have_produced_are_named() {
    let (out, _) = compared("gantt-bad", &["trace.limit=2"]);
    let header = "policy,id,state,start_s,end_s\n";
    let refused = |rows: &str| {
        fs::write(out.join("states.csv"), format!("{header}{rows}")).expect("a file");
        let (code, stdout, stderr) = orbitflow(&["plot", out.to_str().unwrap()]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        stderr
    };
    for (rows, expected) in [
        ("static-9,a,decode,0,1\n", "states.csv: row 1: policy `static-9` is not in results.json"),
        (
            "resident,a,decode,0,1\nresident,a,asleep,1,2\n",
            "states.csv: row 2: `state` is \"asleep\": expected one of `waiting`",
        ),
        ("resident,a,decode,2,1\n", "states.csv: row 1: `end_s` is 1: expected at least `start_s`"),
        ("resident,a,decode,-1,1\n", "states.csv: row 1: `start_s` is -1: expected a finite number"),
        ("resident,a,decode,0,NaN\n", "states.csv: row 1: `end_s` is NaN: expected a finite number"),
        ("resident,a,decode,0,inf\n", "states.csv: row 1: `end_s` is inf: expected a finite number"),
        ("resident,a,decode,0\n", "states.csv: CSV error: record 1"),
        ("resident,a,decode,zero,1\n", "states.csv: CSV deserialize error: record 1"),
    ] {
        let said = refused(rows);
        assert!(said.contains(expected), "{rows}: {said}");
    }
    fs::remove_file(out.join("states.csv")).expect("it was there");
    let (code, _, stderr) = orbitflow(&["plot", out.to_str().unwrap()]);
    assert!(code == 2 && stderr.contains("states.csv: cannot read"), "{stderr}");
}
