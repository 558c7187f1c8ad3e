//! From a scripted run to rows, files and the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::rows::{QuantileRow, RequestCounts, Results, SCHEMA_VERSION, StateRow, TraceSummary};
use super::{
    OutputDir, ReportError, SavedResults, load, policy_result, quantile_rows, request_rows, scoring_notes,
    state_rows, states_note, table, timeline_rows,
};
use crate::metrics::{Metrics, Outcome, RequestFacts, ScaleSlo, Scoring, merge_scale_runs};
use crate::record::{Record, Sink, StepKind, StepRecord, Trigger};
use crate::script::{Event, Script, blank, ms};
use crate::states::StateLog;
use crate::timeline::StepGroup;
use crate::units::{Bytes, SimDuration};

const fn asks(id: &str, output_tokens: u64) -> RequestFacts<'_> {
    RequestFacts { id, prompt_tokens: 100, output_tokens, slo: None, ttft_slo: None }
}

/// The first finishes, the second is capped after a pause, the third is turned away.
fn run() -> Script {
    let mut script = Script::default();
    for request in 0..3 {
        script.arrive(request);
    }
    script.reject(2);
    script.admit(0);
    script.admit(1);
    script.plan(Trigger::LiveSet);
    script.prefill(ms(100), &[0, 1]);
    script.pause(1);
    let parts = StepRecord {
        compute: ms(30),
        stall: ms(10),
        forecast: Some(ms(30)),
        bound: Some(ms(32)),
        h2d_prefetch: Bytes::new(500),
        trigger: Some(Trigger::LiveSet),
        ..blank(StepKind::Decode)
    };
    script.step(parts, &[0]);
    script.resume(1);
    script.decode(ms(60), &[0, 1]);
    script.finish(0);
    script.cap(1);
    script
}

fn outcome(scales: &[(f64, u64)]) -> Outcome<'static> {
    let scales = scales.iter().map(|&(scale, slo)| ScaleSlo { scale, slo: ms(slo) }).collect();
    let scoring = Scoring { scales, ttft_slo: None, warmup: SimDuration::ZERO };
    let mut metrics = Metrics::new(vec![asks("a, b", 3), asks("second", 9), asks("third", 9)], scoring);
    run().replay(&mut metrics);
    metrics.finish()
}

fn steps() -> Vec<StepRecord> {
    let step = |event: &Event| match event {
        Event::Step(step, ..) => Some(*step),
        Event::Plain(_) => None,
    };
    run().events.iter().filter_map(step).collect()
}

/// One row per step.
fn groups() -> Vec<StepGroup> {
    steps().iter().map(StepGroup::of).collect()
}

fn states(key: &str) -> Vec<StateRow> {
    let mut log = StateLog::default();
    run().replay(&mut log);
    state_rows(key, &log.finish(), |request| ["a, b", "second", "third"][request.index()])
}

fn saved(digest: &str) -> SavedResults {
    let outcome = outcome(&[(1.5, 50), (1.0, 35)]);
    let rerun = merge_scale_runs([self::outcome(&[(1.5, 50)]), self::outcome(&[(1.0, 35)])]).unwrap();
    let results = Results {
        schema_version: SCHEMA_VERSION,
        tool_version: "0.1.0".to_owned(),
        scenario: "s.toml".to_owned(),
        scenario_digest: digest.to_owned(),
        seed: 42,
        switches: BTreeMap::from([("engine.slots".to_owned(), "1".to_owned())]),
        notes: vec!["no prefix cache".to_owned()],
        overrides: vec!["seed=42".to_owned()],
        trace: TraceSummary {
            requests: 3,
            prompt_tokens: 300,
            output_tokens: 21,
            last_arrival_s: Some(0.0),
            last_arrival_step: None,
        },
        slo_s: 0.05,
        gpu_pool_blocks: Some(1000),
        policies: vec![
            policy_result("static-1", "FlexGen", &outcome, "00"),
            policy_result("orbitflow", "OrbitFlow", &rerun, "11"),
        ],
    };
    let keys = ["static-1", "orbitflow"];
    SavedResults {
        results,
        requests: keys.iter().flat_map(|key| request_rows(key, &outcome)).collect(),
        quantiles: keys.iter().flat_map(|key| quantile_rows(key, &outcome)).collect(),
        timeline: keys.iter().flat_map(|key| timeline_rows(key, &groups()).collect::<Vec<_>>()).collect(),
        states: keys.iter().flat_map(|key| states(key)).collect(),
    }
}

fn write(dir: &Path, digest: &str, force: bool) -> Result<(), ReportError> {
    let mut out = OutputDir::open(dir, digest, force)?;
    out.put_results(&saved(digest))?;
    out.commit()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_policy_s_entry_says_what_its_run_came_to() {
    let result = policy_result("p", "P", &outcome(&[(1.5, 50), (1.0, 35)]), "00");
    let counts = RequestCounts { arrived: 3, finished: 1, rejected: 1, unfinished: 1, capped: 1 };
    assert_eq!(result.requests, counts);
    // Due 2 + 8 + 8; made 2 + 1. Steps 40 and 60, 60 for the second request: at 50 ms one of 18 is in time.
    assert_eq!((result.tokens.due, result.tokens.delivered), (18, 3));
    assert_eq!(result.attainment_pct.tbt_step, 1.0 / 18.0 * 100.0);
    // Playback at 50 ms: the first request's are made at 40 and 100, due at 50 and 100.
    assert_eq!(result.attainment_pct.tbt_step_deposit, 2.0 / 18.0 * 100.0);
    assert_eq!(result.by_slo_scale[1].attainment_pct.tbt_step, 0.0);
    // The second request's token is made 100 ms after its first one, 50 late; played 100 and 100 ms.
    assert_eq!(result.playback_stall_pct, Some(25.0));
    assert_eq!((result.makespan_s, result.throughput_tokens_per_s), (0.2, 25.0));
    let parts = result.busy_s;
    assert_eq!((parts.compute, parts.stall, parts.prefill, parts.idle), (0.09, 0.01, 0.1, 0.0));
    assert_eq!(result.plans.by_trigger, BTreeMap::from([("live_set".to_owned(), 1)]));
    // |40 − 30| / 40
    assert_eq!(result.forecast_error_pct.median, Some(25.0));
    // 40/32 − 1; the other step has no bound.
    assert_eq!((result.above_bound_pct.mean, result.above_bound_pct.p95), (Some(25.0), Some(25.0)));
    assert_eq!((result.pauses.count, result.pauses.longest_s), (1, 0.04));
    assert_eq!((result.tpot_step_s.p50, result.tpot_step_s.mean), (Some(0.05), Some(0.05)));
    assert_eq!(result.requests_per_min, None);
}

#[test]
fn every_metric_with_values_has_1001_quantiles() {
    let rows: Vec<QuantileRow> = quantile_rows("p", &outcome(&[(1.0, 50)])).collect();
    assert_eq!(rows.len(), 6 * 1001);
    assert_eq!((rows[0].p, rows[500].p, rows[1000].p), (0.0, 0.5, 1.0));
    // Step TBTs 40, 60, 60.
    assert_eq!((rows[333].seconds, rows[334].seconds), (0.04, 0.06));
}

#[test]
fn files_are_read_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "aa", false).unwrap();
    assert_eq!(
        names(dir.path()),
        ["quantiles.csv", "requests.csv", "results.json", "states.csv", "timeline.csv"]
    );
    assert_eq!(load(dir.path()).unwrap(), saved("aa"));
    let requests = fs::read_to_string(dir.path().join("requests.csv")).unwrap();
    assert_eq!(
        requests.lines().take(4).collect::<Vec<_>>(),
        [
            "policy,id,state,arrival_s,admitted_s,first_token_s,finish_s,prompt_tokens,output_tokens,\
             delivered_tokens,slo_s,ttft_s,tpot_step_s,tpot_gap_s,late_step,late_gap,late_step_deposit,\
             late_gap_deposit,paused_s,pauses,preemptions",
            "static-1,\"a, b\",finished,0.0,0.0,0.1,0.2,100,3,3,0.05,0.1,0.05,0.05,1,1,0,0,0.0,0,0",
            "static-1,second,capped,0.0,0.0,0.1,,100,9,2,0.05,0.1,0.06,0.1,8,8,8,8,0.04,1,0",
            "static-1,third,rejected,0.0,,,,100,9,0,0.05,,,,8,8,8,8,0.0,0,0",
        ]
    );
}

#[test]
fn requests_that_states_csv_leaves_out_are_said() {
    assert_eq!(states_note(&[]), None);
    assert_eq!(states_note(&[(3, 3), (52, 52)]), None);
    let said = states_note(&[(60, 200), (12, 200)]).unwrap();
    assert!(
        said.starts_with("states.csv: the first 12 to 60 of 200 requests (per policy at most 60, "),
        "{said}"
    );
}

#[test]
fn equal_results_are_equal_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), "aa", false).unwrap();
    write(two.path(), "aa", false).unwrap();
    for name in names(one.path()) {
        assert_eq!(
            fs::read(one.path().join(&name)).unwrap(),
            fs::read(two.path().join(&name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_directory_that_is_not_committed_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "aa", false).unwrap();
    let before = fs::read(dir.path().join("results.json")).unwrap();
    let mut out = OutputDir::open(dir.path(), "bb", true).unwrap();
    out.put_results(&saved("bb")).unwrap();
    out.put("plots/one.svg", b"<svg/>").unwrap();
    drop(out);
    assert_eq!(
        names(dir.path()),
        ["quantiles.csv", "requests.csv", "results.json", "states.csv", "timeline.csv"]
    );
    assert_eq!(fs::read(dir.path().join("results.json")).unwrap(), before);
}

#[test]
fn results_of_another_scenario_are_refused_without_force() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "aa", false).unwrap();
    write(dir.path(), "aa", false).expect("the same scenario again");
    let error = OutputDir::open(dir.path(), "bb", false).unwrap_err().to_string();
    assert!(error.contains("holds the results of another scenario (digest aa, this one is bb)"), "{error}");
    assert!(error.contains("hint: "), "{error}");
    assert_eq!(names(dir.path()).len(), 5);
    write(dir.path(), "bb", true).unwrap();
    assert_eq!(load(dir.path()).unwrap(), saved("bb"));
}

#[test]
fn steps_of_several_policies_are_one_file_with_one_header() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = OutputDir::open(dir.path(), "aa", false).unwrap();
    let parts = ["idle", "static-1", "orbitflow"].map(|policy| {
        let mut part = out.steps_part(policy).unwrap();
        for step in steps().iter().filter(|_| policy != "idle") {
            part.write(step);
        }
        part
    });
    out.put_steps(parts).unwrap();
    out.put_results(&saved("aa")).unwrap();
    out.commit().unwrap();
    let text = fs::read_to_string(dir.path().join("steps.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 2 * 3);
    assert!(lines[0].starts_with("policy,step,kind,start_s,duration_s,compute_s,stall_s"));
    assert_eq!(lines[2], "static-1,1,decode,0.1,0.04,0.03,0.01,0.0,0.0,0.0,0.03,1,1,0,10,500,0,live_set");
    assert!(lines[4].starts_with("orbitflow,0,prefill,"));

    // Results without steps take the old steps away.
    write(dir.path(), "aa", false).unwrap();
    assert!(!dir.path().join("steps.csv").exists());
}

#[test]
fn plots_join_results_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "aa", false).unwrap();
    let mut out = OutputDir::open(dir.path(), "aa", false).unwrap();
    out.put("plots/one.svg", b"<svg/>").unwrap();
    out.commit().unwrap();
    assert_eq!(fs::read(dir.path().join("plots/one.svg")).unwrap(), b"<svg/>");
    assert_eq!(load(dir.path()).unwrap(), saved("aa"));
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let error = |dir: &Path| load(dir).unwrap_err().to_string();
    assert!(error(dir.path()).contains("no `results.json`"));

    write(dir.path(), "aa", false).unwrap();
    let json = dir.path().join("results.json");
    let csv = dir.path().join("requests.csv");
    let (whole_json, whole_csv) = (fs::read_to_string(&json).unwrap(), fs::read_to_string(&csv).unwrap());

    fs::write(&json, &whole_json[..whole_json.len() / 2]).unwrap();
    assert!(error(dir.path()).contains("EOF while parsing"));
    assert!(OutputDir::open(dir.path(), "aa", false).is_err());
    assert!(OutputDir::open(dir.path(), "aa", true).is_ok());

    fs::write(&json, whole_json.replace("\"seed\": 42", "\"seed\": -1")).unwrap();
    assert!(error(dir.path()).contains("`seed`: "), "{}", error(dir.path()));

    fs::write(&json, whole_json.replacen("\"schema_version\": 1", "\"schema_version\": 9", 1)).unwrap();
    assert!(error(dir.path()).contains("schema_version 9, expected 1"));

    fs::write(&json, &whole_json).unwrap();
    let lines: Vec<&str> = whole_csv.lines().collect();
    fs::write(&csv, lines[..3].join("\n") + "\n").unwrap();
    assert!(error(dir.path()).contains("2 rows, expected 6"), "{}", error(dir.path()));

    fs::write(&csv, &whole_csv[..whole_csv.len() - 20]).unwrap();
    assert!(error(dir.path()).contains("line"), "{}", error(dir.path()));
}

#[test]
fn the_table_shows_e2e_stall_ttft_and_throughput_beside_every_tbt_score() {
    let text = table::text(&saved("aa").results);
    insta::assert_snapshot!(text);
    for line in text.lines() {
        assert!(line.chars().count() <= 140, "{line}");
    }
}

#[test]
fn a_table_of_a_long_run_fits_140_columns() {
    let mut results = saved("aa").results;
    for policy in &mut results.policies {
        policy.key = "orbitflow-no-feedback".to_owned();
        policy.requests.arrived = 19_366;
        policy.requests.finished = 19_366;
        policy.pauses.count = 12_345;
        policy.preemptions = 12_345;
        policy.tbt_gap_s.p95 = Some(99.9999);
        for at in &mut policy.by_slo_scale {
            at.throughput_tokens_per_s = 12_345.6;
            at.ttft_p50_s = Some(1234.5);
            at.attainment_pct.tbt_step = 100.0;
        }
    }
    for line in table::text(&results).lines() {
        assert!(line.chars().count() <= 140, "{} {line}", line.chars().count());
    }
}

#[test]
fn the_table_for_programs_has_one_row_per_policy_and_scale() {
    let results = saved("aa").results;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&table::json(&results)).unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!((&rows[0]["policy"], &rows[0]["slo_scale"]), (&"static-1".into(), &1.5.into()));
    // What belongs to the first scale's run only is null where another run was made.
    assert_eq!((&rows[3]["rerun"], &rows[3]["pauses"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(&rows[2]["pauses"], &1);
    let csv = table::csv(&results);
    assert_eq!(csv.lines().count(), 5);
    assert!(csv.starts_with("policy,slo_scale,slo_s,rerun,tbt_step_pct,"));
}

#[test]
fn notes_say_what_is_left_out_and_what_is_coarse() {
    let exact = outcome(&[(1.0, 50)]);
    let notes = scoring_notes(&[("p", &exact)], SimDuration::ZERO);
    assert_eq!(notes[0], "warmup: 0 s, every request is scored");
    assert!(notes[1].starts_with("p: of 3 requests 1 were rejected"), "{}", notes[1]);
    assert_eq!(notes.len(), 2);
    let scoring =
        Scoring { scales: vec![ScaleSlo { scale: 1.0, slo: ms(50) }], ttft_slo: None, warmup: ms(1) };
    let mut metrics =
        Metrics::new(vec![asks("a", 3), asks("b", 9), asks("c", 9)], scoring).with_exact_decode_steps(0);
    run().replay(&mut metrics);
    metrics.record(&Record::PlacementRefused { at: run().now });
    let coarse = metrics.finish();
    let notes = scoring_notes(&[("p", &exact), ("q", &coarse)], ms(1));
    assert!(notes[0].contains("3 requests that arrive before 0.001 s"), "{}", notes[0]);
    assert!(notes[1].contains("of q are from bins of 0.1 %"), "{}", notes[1]);
}
