//! How the program behaves in a shell: pipes that close, signals, quiet, no colour, `-`, completions, schemas.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

fn orbitflow() -> Command {
    Command::new(env!("CARGO_BIN_EXE_orbitflow"))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Exit code, stdout and stderr of a command with `stdin`.
fn run(args: &[&str], stdin: &str) -> (i32, String, String) {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_orbitflow"));
    let output = command.args(args).write_stdin(stdin).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let generate = ["trace", "generate", "--requests", "20000", "--arrivals", "at-once"];
    let lengths = ["--prompt", "fixed:9", "--output", "fixed:9"];
    // The second writes more than a pipe holds, so it does meet the closed end.
    for args in [&["list", "models"][..], &[&generate[..], &lengths].concat()] {
        let mut child =
            orbitflow().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a first line");
        let output = child.wait_with_output().expect("it ends");
        assert!(!line.is_empty() && output.status.success(), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A scenario of about 25 million steps, minutes of work for this build.
fn long_scenario(folder: &Path) -> PathBuf {
    let line = "{\"arrival_s\": 0, \"prompt_tokens\": 1000, \"output_tokens\": 5000}\n";
    fs::write(folder.join("long.jsonl"), line.repeat(20_000)).expect("a trace");
    let scenario = "model = \"llama-3-8b\"\nhardware = \"engine-fit:a6000\"\nbatch_size = 4\n\
                    gpu_kv_blocks = 941\npolicies = [\"orbitflow\", \"static-1\"]\ntrace.file = \"long.jsonl\"\n";
    fs::write(folder.join("long.toml"), scenario).expect("a scenario");
    folder.join("long.toml")
}

#[test]
#[cfg(unix)]
fn an_interrupt_leaves_complete_files_or_none() {
    let folder = TempDir::new().expect("a scratch folder");
    let scenario = long_scenario(folder.path());
    let out = folder.path().join("out");
    for signal in ["-INT", "-TERM"] {
        let mut child = orbitflow()
            .arg("compare")
            .arg(&scenario)
            .arg("--steps")
            .arg("--out")
            .arg(&out)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let parts = || {
            let folders = fs::read_dir(&out).into_iter().flatten().flatten();
            folders.filter(|entry| entry.file_name().to_string_lossy().starts_with(".tmp-")).count()
        };
        for _ in 0..600 {
            if parts() > 0 {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(parts(), 1, "it has begun to write");
        // Into the simulation itself: the handler is installed right behind the folder.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(child.try_wait().expect("a state"), None, "it is at work");
        let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status().expect("kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{signal}");
        assert!(output.stdout.is_empty());
        let left: Vec<_> = fs::read_dir(&out).expect("the folder").flatten().collect();
        assert!(left.is_empty(), "{signal} left {left:?}");
    }
}

#[test]
fn quiet_says_nothing_and_loud_says_it_on_stderr() {
    let out = TempDir::new().expect("a scratch folder");
    let (demo, to) =
        (repository("scenarios/demo.toml").display().to_string(), out.path().display().to_string());
    let args = ["run", &demo, "--policy", "static-1", "--set", "trace.limit=2", "--laws", "--out", &to];
    let (code, loud, said) = run(&args, "");
    assert_eq!(code, 0, "{said}");
    let hint = format!("hint: `orbitflow report {to}` makes one HTML page of it");
    assert_eq!(said, format!("wrote {to}\n{hint}\nlaws 1 to 5 hold on every step\n"));
    let (code, quiet, said) = run(&[&args[..], &["--quiet"]].concat(), "");
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(quiet, loud);
}

#[test]
fn no_color_and_pipes_get_no_escapes() {
    for args in [&["compare", "missing.toml"][..], &["comparee"], &["--help"], &["list", "policies"]] {
        let output = orbitflow().args(args).env("NO_COLOR", "1").output().expect("it runs");
        let both = [output.stdout, output.stderr].concat();
        assert!(!both.is_empty() && !both.contains(&0x1b), "{args:?}");
    }
}

#[test]
fn a_dash_is_stdin_wherever_a_file_is_read() {
    let read = |path: &str| fs::read_to_string(repository(path)).expect("a file of the repository");
    let trace = read("traces/poisson.jsonl");
    let (code, from_file, _) =
        run(&["trace", "stats", repository("traces/poisson.jsonl").to_str().expect("UTF-8")], "");
    assert_eq!(code, 0);
    assert_eq!(run(&["trace", "stats", "-"], &trace).1, from_file);
    // Written to stdout, read back from stdin, it is the same trace.
    let (code, written, _) = run(&["trace", "convert", "-", "--to", "jsonl", "--out", "-"], &trace);
    assert_eq!((code, written.as_str()), (0, trace.as_str()));
    let (code, profile, _) = run(&["profile", "show", "engine-fit:a6000", "--format", "json"], "");
    assert_eq!(code, 0);
    assert_eq!(
        run(&["profile", "show", "-", "--format", "json"], &profile),
        (0, profile.clone(), String::new())
    );
    let demo = repository("scenarios/demo.toml").display().to_string();
    let flags = ["--policy", "static-1", "--set", "trace.limit=2", "--quiet"];
    let (code, by_name, said) = run(&[&["run", &demo], &flags[..]].concat(), "");
    assert_eq!(code, 0, "{said}");
    let piped = [&["run", &demo], &flags[..], &["--set", "trace.file=-"]].concat();
    assert_eq!(run(&piped, &read("traces/demo.json")).1, by_name);
}

#[test]
fn what_init_prints_runs_as_it_is() {
    let trace = repository("traces/demo.json").display().to_string();
    let (code, scenario, said) = run(&["init", &trace], "");
    assert_eq!((code, said.as_str()), (0, ""));
    let (code, table, said) = run(&["compare", "-", "--set", "trace.limit=4", "--quiet"], &scenario);
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(table.contains("orbitflow") && table.contains("static-1"), "{table}");
}

#[test]
fn completions_and_schemas_are_what_shells_and_editors_read() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, said) = run(&["completions", shell], "");
        assert_eq!((code, said.as_str()), (0, ""), "{shell}");
        assert!(script.contains("orbitflow") && script.lines().count() > 50, "{shell}");
        // Where the shell is there, it reads the script without a complaint.
        let parsed = Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        match parsed {
            Err(_) => {
                crate::say_skipped(&format!("{shell} is not installed: its completions were not parsed"))
            }
            Ok(mut child) => {
                use std::io::Write as _;
                child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("it reads");
                let output = child.wait_with_output().expect("it ends");
                assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
            }
        }
    }
    for file in ["scenario", "trace", "profile", "results"] {
        let (code, schema, said) = run(&["schema", file], "");
        assert_eq!((code, said.as_str()), (0, ""), "{file}");
        let schema: Value = serde_json::from_str(&schema).expect("JSON");
        let names_draft = schema["$schema"].as_str().is_some_and(|draft| draft.contains("json-schema.org"));
        assert!(names_draft && schema["properties"].is_object(), "{file}");
    }
}
