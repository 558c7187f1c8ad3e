//! Exit codes, one clear line, and nothing written when nothing was measured.

use std::path::Path;
use std::process::{Command, Output};

/// The program where no GPU, driver or library can be found, whatever this machine has.
fn gpu_validate(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-validate"));
    command.current_dir(dir).args(args).env_remove("LD_LIBRARY_PATH").output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Whether this machine has a usable GPU: then what is said without one cannot be shown here.
fn has_gpu() -> bool {
    let found = gpu_validate::preflight::probe().missing_line().is_none();
    if found {
        println!("SKIPPED: this machine has a GPU");
    }
    found
}

#[test]
fn without_a_gpu_a_run_says_what_is_missing_in_one_line_exits_3_and_writes_nothing() {
    if has_gpu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for command in ["run", "measure"] {
        let output = gpu_validate(dir.path(), &[command]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        assert!(output.stdout.is_empty());
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with("gpu-validate: no usable GPU: "), "{stderr}");
        assert!(stderr.contains("libcuda.so.1") && stderr.contains("searched"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn preflight_lists_what_is_there_and_what_is_not_and_exits_3_without_a_gpu() {
    if has_gpu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = gpu_validate(dir.path(), &["preflight"]);
    assert_eq!(output.status.code(), Some(3));
    let stdout = text(&output.stdout);
    for part in ["CUDA driver", "NVRTC", "cuBLAS", "NVML", "searched"] {
        assert!(stdout.contains(part), "{part} in:\n{stdout}");
    }
    let json = gpu_validate(dir.path(), &["preflight", "--format", "json"]);
    serde_json::from_slice::<serde_json::Value>(&json.stdout).expect("JSON");
}

#[test]
fn wrong_usage_and_wrong_input_exit_2_with_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 9] = [
        (
            &["run", "--backend", "virtual-time", "--deadline", "0"],
            "--deadline: 0: expected a number of seconds above 0",
        ),
        (&["run", "--backend", "virtual-time", "--deadline", "NaN"], "--deadline: NaN: expected"),
        (
            &["run", "--backend", "virtual-time", "--models", "lama"],
            "--models: `lama`: no such preset or file",
        ),
        (&["run", "--backend", "virtual-time", "--models", "llama-3-8b,llama-3-8b"], "is there twice"),
        (&["validate", "--backend", "virtual-time", "--profile", "none.json"], "none.json"),
        (
            &["validate", "--backend", "virtual-time", "--profile", "engine-fit:a6000"],
            "no `compute.model_shapes`",
        ),
        (&["compare", "engine-fit:a6000", "none.json"], "none.json"),
        (
            &["kernels", "--check", "--arch", "ninety"],
            "--arch: `ninety`: expected an architecture like sm_90",
        ),
        (&["frobnicate"], "unrecognized subcommand"),
    ];
    for (args, expected) in cases {
        let output = gpu_validate(dir.path(), args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written for wrong input");
}

#[test]
fn two_profiles_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let output = gpu_validate(dir.path(), &["compare", "engine-fit:a6000", "roofline:h100-sxm"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("A: engine-fit:a6000") && stdout.contains("warning: "), "{stdout}");
    let json =
        gpu_validate(dir.path(), &["compare", "engine-fit:a6000", "engine-fit:a6000", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let ratios = json["rows"].as_array().unwrap().iter().filter_map(|row| row["ratio"].as_f64());
    assert!(ratios.clone().count() > 0 && ratios.into_iter().all(|ratio| ratio == 1.0));
}
