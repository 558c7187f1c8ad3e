//! What a user is told who gives the program something wrong: the command, the exit code and both streams, word for
//! word. One clear line, a `hint:` where there is a remedy, exit code 2, nothing on stdout.
//!
//! The finer cases of each reader stand in `scenario_errors`, `traces::bad_input`, `profiles::refusals` and
//! `cli_step`; here is how they arrive at the terminal, through every command.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

/// A scratch folder with a scenario that runs, its trace, and files with something wrong.
struct Desk {
    folder: TempDir,
    told: String,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().expect("a scratch folder");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let demo = fs::read_to_string(repository.join("scenarios/demo.toml")).expect("the demo");
        let desk = Desk { folder, told: String::new() };
        desk.put("demo.toml", &demo.replace("../traces/demo.json", "demo.json"));
        fs::copy(repository.join("traces/demo.json"), desk.path("demo.json")).expect("the demo's trace");
        desk.put("small.jsonl", "{\"arrival_s\": 0, \"prompt_tokens\": 100, \"output_tokens\": 2}\n");
        desk.put("empty", "");
        fs::create_dir(desk.path("folder")).expect("a folder");
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a scratch file");
    }

    fn orbitflow(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("orbitflow").expect("the binary is built");
        let output = command.current_dir(self.folder.path()).args(args).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    /// Runs a command that must be refused, and keeps what it said.
    fn refused(&mut self, args: &[&str]) {
        let (code, stdout, stderr) = self.orbitflow(args);
        let shown: Vec<String> = (args.iter())
            .map(|arg| {
                if arg.contains(['[', ' ', '"']) || arg.is_empty() {
                    format!("'{arg}'")
                } else {
                    (*arg).to_owned()
                }
            })
            .collect();
        self.told += &format!("$ orbitflow {}\n{stderr}", shown.join(" "));
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
        // Nothing is said twice, and no error is wrapped in its own words.
        assert_eq!(stderr.matches("(os error").count().max(1), 1, "{stderr}");
        assert_eq!(stderr.matches("hint: ").count().max(1), 1, "{stderr}");
    }

    fn compare(&mut self, overrides: &[&str]) {
        let mut args = vec!["compare", "demo.toml"];
        overrides.iter().for_each(|text| args.extend(["--set", *text]));
        self.refused(&args);
    }
}

/// Every command that reads a file, with the file's place as `FILE`.
const READERS: [&[&str]; 12] = [
    &["run", "FILE", "--policy", "static-1"],
    &["compare", "FILE"],
    &["check", "FILE"],
    &["compare", "demo.toml", "--set", "trace.file=FILE"],
    &["compare", "demo.toml", "--set", "hardware=./FILE"],
    &["compare", "demo.toml", "--set", "model=./FILE"],
    &["plan", "FILE"],
    &["step", "FILE"],
    &["profile", "show", "./FILE"],
    &["profile", "check", "./FILE"],
    &["trace", "stats", "FILE"],
    &["trace", "convert", "FILE", "--to", "jsonl"],
];

fn every_reader(desk: &mut Desk, file: &str) {
    for reader in READERS {
        let args: Vec<String> = reader.iter().map(|arg| arg.replace("FILE", file)).collect();
        desk.refused(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }
    desk.refused(&["plot", file]);
}

#[test]
fn a_missing_file_is_named_by_every_command() {
    let mut desk = Desk::new();
    every_reader(&mut desk, "missing.json");
    insta::assert_snapshot!(desk.told);
}

#[test]
fn a_folder_is_no_file() {
    let mut desk = Desk::new();
    every_reader(&mut desk, "folder");
    insta::assert_snapshot!(desk.told);
}

#[test]
fn an_empty_file_is_said_to_be_empty_or_to_miss_its_keys() {
    let mut desk = Desk::new();
    every_reader(&mut desk, "empty");
    insta::assert_snapshot!(desk.told);
}

#[test]
fn a_truncated_file_is_said_to_end_too_early() {
    let mut desk = Desk::new();
    let cut = |text: &str| text[..text.len() / 2].to_owned();
    let (_, profile, _) = desk.orbitflow(&["profile", "show", "engine-fit:a6000", "--format", "json"]);
    let instance = "{\"layers\": 2, \"layer_compute_s\": 0.01, \"link\": {\"blocks_per_s\": 5000";
    desk.put("scenario.toml", "seed = 42\npolicies = [\"orbit");
    desk.put("trace.json", "{\n  \"batch_size\": 4,\n  \"requests\": {\n    \"request_0\": {\"input_len");
    desk.put("trace.jsonl", "{\"arrival_s\": 0, \"prompt_tokens\": 100, \"outp");
    desk.put("profile.json", &cut(&profile));
    desk.put("config.json", "{\"hidden_size\": 4096, \"num_hid");
    desk.put("instance.json", instance);
    desk.refused(&["compare", "scenario.toml"]);
    desk.compare(&["trace.file=trace.json"]);
    desk.compare(&["trace.file=trace.jsonl"]);
    desk.compare(&["hardware=./profile.json"]);
    desk.compare(&["model=./config.json"]);
    desk.refused(&["plan", "instance.json"]);
    desk.refused(&["step", "instance.json"]);
    desk.refused(&["profile", "show", "./profile.json"]);
    desk.refused(&["trace", "stats", "trace.jsonl"]);
    let run =
        ["run", "demo.toml", "--policy", "static-1", "--set", "trace.limit=2", "--quiet", "--out", "out"];
    assert_eq!(desk.orbitflow(&run).0, 0);
    let results = fs::read_to_string(desk.path("out/results.json")).expect("results");
    desk.put("out/results.json", &results[..60]);
    desk.refused(&["plot", "out"]);
    desk.refused(&run);
    insta::assert_snapshot!(desk.told);
}

#[test]
fn zero_negative_infinite_huge_and_unitless_values_are_refused_with_what_was_expected() {
    let mut desk = Desk::new();
    for value in ["0 s", "-1 s", "nan s", "inf s", "1e30 s", "70 GiB", "70", "70 msec"] {
        desk.compare(&[&format!("slo.tbt={value}")]);
    }
    for value in ["0", "-4", "4.5", "nan", "99999999999999999999", "\"4\""] {
        desk.compare(&[&format!("batch_size={value}")]);
    }
    for value in ["[0]", "[-1]", "[nan]", "[inf]", "[1e300]", "[]", "1.5 s"] {
        desk.compare(&[&format!("slo.scale={value}")]);
    }
    for value in ["0 GiB", "-1 GiB", "28", "28 GiB/s", "1e9 TiB"] {
        desk.compare(&[&format!("gpu_kv={value}")]);
    }
    desk.compare(&["trace.load=0"]);
    for value in ["chunked:0", "chunked:-1", "chunked:x", "chunked:", "chunked:1e99"] {
        desk.compare(&[&format!("engine.prefill={value}")]);
    }
    desk.refused(&["compare", "demo.toml", "--warmup", "-1"]);
    insta::assert_snapshot!(desk.told);
}

#[test]
fn wrong_numbers_in_a_trace_name_file_line_and_key() {
    let mut desk = Desk::new();
    for value in ["0", "-1", "1.5", "NaN", "1e999", "1e30", "\"100\""] {
        let line = format!("{{\"arrival_s\": 0, \"prompt_tokens\": {value}, \"output_tokens\": 2}}\n");
        desk.put("bad.jsonl", &line);
        desk.refused(&["trace", "stats", "bad.jsonl"]);
    }
    desk.put("bad.jsonl", "{\"arrival_s\": 0, \"promt_tokens\": 1, \"output_tokens\": 2}\n");
    desk.compare(&["trace.file=bad.jsonl"]);
    for rate in ["0", "-1", "nan", "inf", "1e300"] {
        let arrivals = format!("poisson:{rate}");
        let flags =
            ["--requests", "2", "--prompt", "fixed:1", "--output", "fixed:1", "--arrivals", &arrivals];
        desk.refused(&[&["trace", "generate"], &flags[..]].concat());
    }
    desk.refused(&["trace", "stats", "small.jsonl", "--load", "0"]);
    desk.refused(&["trace", "stats", "small.jsonl", "--step-time-s", "inf"]);
    insta::assert_snapshot!(desk.told);
}

#[test]
fn wrong_values_in_an_instance_name_file_and_key() {
    let mut desk = Desk::new();
    let plan = |compute: &str| {
        format!(
            "{{\"layers\": 2, \"layer_compute_s\": {compute}, \
             \"link\": {{\"blocks_per_s\": 5000, \"latency_s\": 0}}, \
             \"capacity_layer_blocks\": 100, \"failure_budget\": 2, \"window\": 32, \
             \"requests\": [{{\"id\": \"a\", \"blocks\": 10, \"slo_s\": 0.1, \"deposit\": 0}}]}}"
        )
    };
    for value in ["0", "-1", "NaN", "1e999", "100000", "\"10 ms\""] {
        desk.put("plan.json", &plan(value));
        desk.refused(&["plan", "plan.json"]);
    }
    desk.put("plan.json", &plan("0.01").replace("slo_s", "slo"));
    desk.refused(&["plan", "plan.json"]);
    desk.put("plan.json", &plan("0.01"));
    desk.refused(&["plan", "plan.json", "--show-model"]);
    insta::assert_snapshot!(desk.told);
}

#[test]
fn an_unknown_name_is_answered_with_its_nearest_neighbour() {
    let mut desk = Desk::new();
    desk.compare(&["batchsize=4"]);
    desk.compare(&["engine.slotz=1"]);
    desk.compare(&["planner.slots=1"]);
    desk.compare(&["policies=[\"orbitflo\"]"]);
    desk.compare(&["policies=[\"something-else-entirely\"]"]);
    desk.refused(&["run", "demo.toml", "--policy", "orbitflo"]);
    desk.refused(&["run", "demo.toml", "--policy", ""]);
    desk.refused(&["run", "demo.toml", "--policy", "a\"b"]);
    desk.compare(&["model=llama3-8b"]);
    desk.compare(&["hardware=roofline:h10"]);
    desk.compare(&["hardware=nonsense"]);
    desk.compare(&["planner_profile=engine-fit:a600"]);
    desk.compare(&["trace.format=orbitflo"]);
    desk.compare(&["engine.restore=lasy"]);
    desk.refused(&["profile", "show", "roofline:h10"]);
    desk.refused(&["profile", "show", "engine-fit:a6000", "--model", "llama"]);
    desk.refused(&["trace", "stats", "demo.json", "--from", "orbitflo"]);
    desk.refused(&[
        "trace",
        "generate",
        "--requests",
        "2",
        "--prompt",
        "fixed:1",
        "--output",
        "fixed:1",
        "--arrivals",
        "poison:1",
    ]);
    desk.refused(&["list", "model"]);
    desk.refused(&["schema", "scenarios"]);
    desk.refused(&["completions", "tcsh"]);
    desk.refused(&["comparee", "demo.toml"]);
    desk.refused(&["compare", "demo.toml", "--outt", "x"]);
    desk.refused(&["compare", "demo.toml", "--format", "jsn"]);
    insta::assert_snapshot!(desk.told);
}

#[test]
fn what_does_not_fit_together_is_said_before_anything_runs() {
    let mut desk = Desk::new();
    // Our own format says nothing of the server.
    desk.compare(&["trace.file=small.jsonl"]);
    // 70 G parameters of 2 bytes into 48 GB.
    desk.compare(&[
        "trace.file=small.jsonl",
        "batch_size=4",
        "model=llama-3-70b",
        "hardware=roofline:rtx-a6000",
    ]);
    desk.compare(&["model=llama-3-70b"]);
    desk.compare(&["gpu_kv=1 MiB"]);
    desk.compare(&["trace.limit=2", "trace.min_prompt_tokens=1000000"]);
    desk.refused(&["compare", "demo.toml", "--steps"]);
    desk.refused(&["compare", "demo.toml", "--jobs", "0"]);
    desk.refused(&["run", "demo.toml"]);
    desk.refused(&["init", ""]);
    insta::assert_snapshot!(desk.told);
}

#[test]
fn results_of_another_scenario_are_replaced_only_by_force() {
    let mut desk = Desk::new();
    let run = |seed: &'static str| {
        let flags = ["run", "demo.toml", "--policy", "static-1", "--set", "trace.limit=2", "--out", "out"];
        [&flags[..], &["--quiet", "--set", seed]].concat()
    };
    assert_eq!(desk.orbitflow(&run("seed=1")), (0, desk.orbitflow(&run("seed=1")).1, String::new()));
    let before = fs::read_to_string(desk.path("out/results.json")).expect("results");
    let (code, stdout, stderr) = desk.orbitflow(&run("seed=2"));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.starts_with("error: out: holds the results of another scenario (digest "), "{stderr}");
    assert!(stderr.ends_with("\nhint: choose another `--out`, or replace them with `--force`\n"), "{stderr}");
    assert_eq!(fs::read_to_string(desk.path("out/results.json")).expect("results"), before);
    let forced = [&run("seed=2")[..], &["--force"]].concat();
    assert_eq!(desk.orbitflow(&forced).0, 0);
    assert_ne!(fs::read_to_string(desk.path("out/results.json")).expect("results"), before);
    desk.refused(&["compare", "demo.toml", "--out", "empty"]);
    insta::assert_snapshot!(desk.told);
}

#[test]
fn a_simulation_beyond_213_days_is_an_error_and_leaves_nothing_behind() {
    let desk = Desk::new();
    let line = r#"{"arrival_s":0,"prompt_tokens":64,"output_tokens":3,"slo_s":1e7}"#;
    desk.put("slow.jsonl", &format!("{line}\n"));
    // The promise alone, times a scale, is no error: it is as long as time goes.
    let trace = ["--set", "trace.file=slow.jsonl", "--set", "batch_size=1", "--set", "gpu_kv_blocks=100"];
    let compare = |more: &[&str]| desk.orbitflow(&[&["compare", "demo.toml"], &trace[..], more].concat());
    assert_eq!(compare(&["--set", "slo.scale=[2.5]"]).0, 0);
    let solver = ["--set", "engine.solver_time=\"1000000 s\"", "--set", "engine.planning=synchronous"];
    let many = ["--set", "planner.max_pause=\"5 s\"", "--out", "never"];
    let (code, stdout, stderr) = compare(&[&["--set", "link=\"1 B/s\""], &solver[..], &many[..]].concat());
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    // Of the demo's policies those whose copies take that long are named, and the one that copies nothing is not.
    let named = stderr
        .strip_prefix("error: ")
        .and_then(|said| said.split_once(": simulated time is limited to 213 days"));
    let named: Vec<&str> = named.unwrap_or_else(|| panic!("{stderr}")).0.split(", ").collect();
    assert!(named.contains(&"static-1") && !named.contains(&"resident"), "{stderr}");
    assert!(stderr.contains("leave what stands before the colon out of `policies`"), "{stderr}");
    assert!(!stderr.contains("panicked") && !desk.path("never").exists(), "{stderr}");
}

#[test]
fn a_warmup_that_leaves_nothing_to_score_is_refused() {
    let desk = Desk::new();
    let (code, stdout, stderr) = desk.orbitflow(&["compare", "demo.toml", "--warmup", "1e6"]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("every request arrives before it"), "{stderr}");
}
