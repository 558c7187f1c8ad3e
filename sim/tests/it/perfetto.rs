//! `--perfetto`: the file is what a viewer takes, and its picture is what the engine charged.

mod lawful;
mod reader;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use assert_cmd::Command;
use orbitflow_sim::engine::{self, Setup};
use orbitflow_sim::perfetto::{Events, Perfetto, Subject, Window, assemble};
use orbitflow_sim::policy::registry::{Entry, METHODS};
use orbitflow_sim::record::{Record, Sink};
use orbitflow_sim::report::rows::Results;
use orbitflow_sim::units::SimTime;
use serde_json::Value;
use tempfile::TempDir;

use crate::random_scenarios::{Scenario, draw};
use lawful::Told;
use reader::Trace;

/// Random scenarios; each runs every method.
const SCENARIOS: u64 = 40;

/// When a request ended, and how.
type End = (u64, &'static str);

/// What the records alone say of a run.
#[derive(Default)]
struct Witness {
    /// When each request arrived, and its end.
    lives: BTreeMap<u32, (u64, Option<End>)>,
    steps: u64,
    bytes: [u64; 3],
    first_tokens: BTreeMap<u32, u64>,
}

impl Witness {
    fn ends(&mut self, request: u32, at: SimTime, how: &'static str) {
        self.lives.get_mut(&request).expect("it arrived").1 = Some((at.as_picos(), how));
    }
}

impl Sink for Witness {
    fn record(&mut self, record: &Record<'_>) {
        match *record {
            Record::Arrived { at, request } => drop(self.lives.insert(request.0, (at.as_picos(), None))),
            Record::Finished { at, request } => self.ends(request.0, at, "finished"),
            Record::Capped { at, request } => self.ends(request.0, at, "capped"),
            Record::Rejected { at, request, .. } => self.ends(request.0, at, "rejected"),
            Record::Step { step, delivered } => {
                self.steps += 1;
                let end = (step.start + step.duration).as_picos();
                for request in delivered {
                    self.first_tokens.entry(request.0).or_insert(end);
                }
                for (sum, bytes) in self.bytes.iter_mut().zip([step.h2d_prefetch, step.h2d_restore, step.d2h])
                {
                    *sum += bytes.get();
                }
            }
            _ => {}
        }
    }
}

fn text_of(entry: &Entry, scenario: &Scenario, window: Window, witness: &mut Witness) -> String {
    let mut policy = entry.method.build(scenario.planner, &scenario.known);
    let names: Vec<String> = (0..scenario.requests.len()).map(|id| format!("r{id}")).collect();
    let requests = names.iter().map(String::as_str).collect();
    let mut events = Events::new(Vec::new());
    let mut perfetto = Perfetto::new(&mut events, Subject { place: 0, key: entry.key, requests }, window);
    let Scenario { requests, server, footprint, truth, .. } = scenario;
    let setup = Setup { requests, server, footprint: *footprint, truth };
    engine::run(setup, &mut *policy, &mut (&mut perfetto, witness));
    perfetto.finish();
    let (text, _) = events.finish().expect("memory");
    let mut file = Vec::new();
    assemble(&Value::Null, [text.as_slice()], &mut file).expect("memory");
    String::from_utf8(file).expect("UTF-8")
}

/// Each request is somewhere from its arrival to its end, and decodes from its first token on.
fn assert_lives(trace: &Trace, witness: &Witness) {
    for (&request, &(arrived, end)) in &witness.lives {
        let track = (2, u64::from(request) + 1);
        assert_eq!(trace.threads[&track], format!("r{request}"));
        let states = trace.slices.get(&track).map_or(&[][..], Vec::as_slice);
        let (ended, how) = end.expect("every request ends");
        let (from, to) = match (states.first(), states.last()) {
            (Some(first), Some(last)) => (first.start, last.end),
            _ => (arrived, arrived),
        };
        assert_eq!((from, to), (arrived, ended), "r{request}: {states:#?}");
        let mut marks = trace.instants.iter().filter(|event| event.track == track && event.category == "end");
        let mark = marks.next().expect("an end");
        assert_eq!((mark.start, mark.name.as_str(), marks.count()), (ended, how, 0));
        let decodes = states.iter().find(|state| state.name == "decode");
        if let (Some(decodes), Some(first)) = (decodes, witness.first_tokens.get(&request)) {
            assert!(decodes.start >= *first, "r{request} decodes before its first token");
        }
    }
}

#[test]
fn the_picture_of_every_policy_on_random_scenarios_is_what_was_charged() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..SCENARIOS {
        let scenario = draw(seed);
        for entry in METHODS {
            let mut witness = Witness::default();
            let text = text_of(entry, &scenario, Window::ALL, &mut witness);
            let trace = reader::read(&text);
            let told = lawful::check(&trace, 0);
            assert_lives(&trace, &witness);
            assert_bytes(&told, witness.bytes);
            assert_eq!(told.steps.values().sum::<u64>(), witness.steps);
            let what = trace.slices.values().flatten().chain(&trace.instants);
            for event in what {
                *seen.entry(format!("{} {}", event.category, first_words(&event.name))).or_default() += 1;
            }
        }
    }
    for what in [
        "layer layer",
        "layer layers",
        "stall stall: r",
        "tail tail:",
        "intercept link",
        "planning planning",
        "restore_wait restore: r",
        "prefill prefill",
        "prefetch r",
        "prefetch_next r",
        "restore r",
        "write rows",
        "prompt_write prompts",
        "state waiting",
        "state prefill",
        "state decode",
        "state paused",
        "state preempted",
        "end finished",
        "end capped",
        "end rejected",
        "plan plan:",
        "plan placement",
        "placed placed:",
    ] {
        assert!(seen.keys().any(|key| key.starts_with(what)), "no `{what}` in any scenario: {seen:#?}");
    }
}

/// The first two words of a name, without numbers.
fn first_words(name: &str) -> String {
    name.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// What is copied is what was counted: prefetch, restore, write.
fn assert_bytes(told: &Told, [prefetch, restore, d2h]: [u64; 3]) {
    let of = |categories: &[&str]| categories.iter().filter_map(|key| told.bytes.get(*key)).sum::<u64>();
    assert_eq!(of(&["prefetch", "prefetch_next"]), prefetch);
    assert_eq!(of(&["restore"]), restore);
    let parts = |key: &str| told.parts.get(key).copied().unwrap_or_default();
    assert_eq!((parts("h2d_prefetch_bytes"), parts("h2d_restore_bytes")), (prefetch, restore));
    assert_eq!(parts("d2h_bytes"), d2h);
    // Without traffic of their own writes are not shown.
    let written = of(&["write", "prompt_write"]);
    assert!(written == d2h || written == 0, "{written} of {d2h}");
}

#[test]
fn the_same_run_twice_is_the_same_bytes() {
    for seed in 0..4 {
        for entry in METHODS {
            let text = || text_of(entry, &draw(seed), Window::ALL, &mut Witness::default());
            assert!(text() == text(), "{} on seed {seed}", entry.key);
        }
    }
}

#[test]
fn a_window_shows_its_steps_and_cuts_states_there() {
    for seed in 0..20 {
        let scenario = draw(seed);
        let entry = &METHODS[usize::try_from(seed).expect("small") % METHODS.len()];
        let all = reader::read(&text_of(entry, &scenario, Window::ALL, &mut Witness::default()));
        let steps = all.track(1, "steps");
        let (first, last) = (steps.len() / 3, steps.len() / 2);
        if first == last {
            continue;
        }
        let window = Window { first: first as u64, last: last as u64 };
        let part = reader::read(&text_of(entry, &scenario, window, &mut Witness::default()));
        lawful::check(&part, 0);
        let (start, end) = (steps[first].start, steps[last].end);
        let named = |steps: &[reader::Event]| steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>();
        assert_eq!(named(part.track(1, "steps")), named(&steps[first..=last]));
        // Compute and states are those of the whole picture, cut at the window.
        for (track, slices) in all.slices.iter().filter(|(track, _)| track.0 == 2 || **track == (1, 2)) {
            let cut: Vec<_> = (slices.iter())
                .map(|slice| (slice.name.clone(), slice.start.max(start), slice.end.min(end)))
                .filter(|(_, from, to)| from < to)
                .collect();
            let shown: Vec<_> = (part.slices.get(track).into_iter().flatten())
                .map(|slice| (slice.name.clone(), slice.start, slice.end))
                .collect();
            assert_eq!(shown, cut, "{} on seed {seed}", entry.key);
        }
    }
}

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name)
}

/// `orbitflow` on the demo's server with six short requests that do not fit together, two policies; what it says on stderr.
fn orbitflow(command: &str, flags: &[&str]) -> String {
    static TRACE: LazyLock<PathBuf> = LazyLock::new(|| {
        let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join("perfetto.jsonl");
        let line = "{\"arrival_s\": 0.5, \"prompt_tokens\": 9000, \"output_tokens\": 20}\n";
        std::fs::write(&trace, line.repeat(6)).expect("a trace");
        trace
    });
    let file = format!("trace.file={:?}", TRACE.to_str().expect("UTF-8"));
    let sets = [
        &file,
        "trace.format=\"jsonl\"",
        "batch_size=4",
        "gpu_kv_blocks=1500",
        r#"policies=["orbitflow", "static-1"]"#,
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_orbitflow"))
        .arg(command)
        .arg(scenario("demo.toml"))
        .args(sets.iter().flat_map(|set| ["--set", set]))
        .args(flags)
        .output()
        .expect("it runs");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{flags:?}: {stderr}");
    stderr
}

#[test]
fn compare_writes_one_process_per_policy_that_sums_to_results_json() {
    let dir = TempDir::new().expect("a scratch folder");
    let (out, file) = (dir.path().join("out"), dir.path().join("trace.json"));
    for semantics in ["published", "physical"] {
        let set = format!("semantics={semantics}");
        let flags =
            ["--set", &set, "--force", "--out", out.to_str().unwrap(), "--perfetto", file.to_str().unwrap()];
        let said = orbitflow("compare", &flags);
        let text = std::fs::read_to_string(&file).expect("a trace");
        let trace = reader::read(&text);
        let megabytes = format!("{:.1} MB of JSON", text.len() as f64 / 1e6);
        assert!(said.contains(&format!("wrote {}: ", file.display())) && said.contains(&megabytes), "{said}");
        assert!(said.contains(&format!("{} trace events", text.lines().count() - 2)), "{said}");

        let results = std::fs::read(out.join("results.json")).expect("results");
        let results: Results = serde_json::from_slice(&results).expect("results");
        assert_eq!(trace.about["scenario_digest"], results.scenario_digest.as_str());
        for (place, policy) in (0..).zip(&results.policies) {
            assert_eq!(trace.processes[&(2 * place + 1)], format!("{}: server", policy.key));
            let told = lawful::check(&trace, place);
            let seconds = |key: &str| told.parts[key] as f64 / 1e12;
            let busy = policy.busy_s;
            for (key, expected) in [
                ("compute_us", busy.compute),
                ("stall_us", busy.stall),
                ("prefill_us", busy.prefill),
                ("restore_us", busy.restore),
                ("planning_us", busy.planning),
            ] {
                assert!((seconds(key) - expected).abs() <= 1e-12 * expected, "{key} of {}", policy.key);
            }
            let bytes = policy.bytes;
            assert_bytes(&told, [bytes.h2d_prefetch, bytes.h2d_restore, bytes.d2h]);
            assert_eq!(told.steps.get("decode"), Some(&policy.steps.decode));
            assert_eq!(told.steps.get("prefill"), Some(&policy.steps.prefill));
        }
    }
}

#[test]
fn the_file_is_the_same_on_any_number_of_threads_and_packed_by_its_name() {
    let dir = TempDir::new().expect("a scratch folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    orbitflow("compare", &["--jobs", "1", "--perfetto", &path("one.json")]);
    let said = orbitflow("compare", &["--jobs", "4", "--perfetto", &path("four.json.gz")]);
    assert!(said.contains(" MB compressed"), "{said}");
    let one = std::fs::read(path("one.json")).expect("a trace");
    let packed = std::fs::read(path("four.json.gz")).expect("a trace");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).expect("gzip");
    assert!(one == unpacked);
    assert!(packed.len() * 4 < one.len());
    // Nothing else is left.
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 2);
    assert_eq!(orbitflow("run", &["--policy", "resident", "--quiet", "--perfetto", &path("one.json")]), "");
}

#[test]
fn what_cannot_be_a_trace_file_or_a_window_is_one_clear_line() {
    let dir = TempDir::new().expect("a scratch folder");
    let file = dir.path().join("t.json").display().to_string();
    let folder = dir.path().display().to_string();
    let nowhere = dir.path().join("no/where.json").display().to_string();
    let refused = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_orbitflow"))
            .args(["run", "--policy", "resident"])
            .arg(scenario("demo.toml"))
            .args(flags)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    for (path, problem) in
        [("-", "stdout has the table"), (folder.as_str(), "this is a folder"), (&nowhere, "entity not found")]
    {
        let said = refused(&["--perfetto", path]);
        let expected =
            format!("error: --perfetto: {path:?}: expected the name of a file, in a folder that is there: ");
        assert!(said.starts_with(&expected) && said.contains(problem) && said.lines().count() == 1, "{said}");
    }
    for window in ["", "5", "5..", "..5", "5..4", "-1..4", "1.5..4", "0..99999999999999999999", "NaN..inf"] {
        let said = refused(&["--perfetto", &file, &format!("--perfetto-steps={window}")]);
        assert!(said.contains("expected two whole numbers A..B with A at most B"), "{window}: {said}");
    }
    assert!(refused(&["--perfetto-steps=0..9"]).contains("--perfetto <FILE>"));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
}

#[test]
fn a_window_beyond_the_run_is_said() {
    let dir = TempDir::new().expect("a scratch folder");
    let file = dir.path().join("t.json").display().to_string();
    let said = orbitflow(
        "run",
        &["--policy", "resident", "--perfetto", &file, "--perfetto-steps", "1000000..2000000"],
    );
    assert!(said.contains("--perfetto-steps: resident: none is shown: it has "), "{said}");
    let trace = reader::read(&std::fs::read_to_string(&file).expect("a trace"));
    assert!(trace.slices.is_empty() && trace.instants.is_empty() && trace.counters.is_empty());
}
