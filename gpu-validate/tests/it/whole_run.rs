//! Whole runs from the first experiment to the report, on the backends that need no GPU.

use std::path::Path;
use std::process::{Command, Output};

use orbitflow_sim::cost::{CostOptions, HardwareProfile, Verdict, check, read, resolve};
use sha2::{Digest, Sha256};

fn run(dir: &Path, backend: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-validate"));
    command.current_dir(dir).args(["run", "--backend", backend, "--out", "out"]).args(more);
    command.output().expect("it runs")
}

fn profile(dir: &Path) -> HardwareProfile {
    read(dir.join("out/profile.json").to_str().unwrap()).expect("a profile")
}

fn file(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join("out").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn on_exact_times_every_fit_finds_the_truth_and_every_step_is_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "virtual-time", &["--enforce"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let profile = profile(dir.path());
    let validation = profile.validation.as_ref().expect("validated");
    let summary = validation.summary.as_ref().expect("judged");
    // The fits see times with neither noise nor rounding to speak of: what is left is the fits' own arithmetic.
    assert!(summary.p95_abs.unwrap() < 1e-6, "{summary:?}");
    assert_eq!(summary.regret, Some(0.0));
    assert!(summary.heldout.as_ref().unwrap().p95_abs.unwrap() < 1e-6);
    // 5 of the 9 fitted cases copy; max(compute, copies) misses those that wait for slots.
    assert!(
        validation.cases.iter().any(|case| case.pred_s.bound.unwrap().get() < 0.9 * case.meas_s.median.get())
    );
    assert!(!profile.is_measured(), "nothing but a GPU measures");

    let report = file(dir.path(), "report.md");
    assert!(report.contains("**Virtual time: says nothing about any GPU.**"));
    assert!(report.contains("What the profile may be used for"));
    for figure in ["size_curves", "attention", "predicted", "error_by_rho"] {
        assert!(report.contains(&format!("plots/{figure}.svg")));
        assert!(file(dir.path(), &format!("plots/{figure}.svg")).contains("says nothing about any GPU"));
    }
    for group in ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "E12"] {
        assert!(file(dir.path(), &format!("groups/{group}.json")).len() > 50, "{group}");
    }
    assert!(file(dir.path(), "samples.csv").lines().count() > 1000);
}

#[test]
fn the_predictions_hash_is_that_of_the_file_and_stands_in_the_profile() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "virtual-time", &["--quick"]);
    let digest = Sha256::digest(file(dir.path(), "predictions.json").as_bytes());
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(file(dir.path(), "predictions.sha256"), format!("{hash}  predictions.json\n"));
    assert_eq!(profile(dir.path()).validation.unwrap().predictions_sha256, Some(hash));
}

#[test]
fn the_simulator_takes_the_profile_and_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "virtual-time", &["--quick"]);
    let profile = profile(dir.path());
    let failures: Vec<_> =
        check(&profile).into_iter().filter(|found| found.verdict == Verdict::Failure).collect();
    assert!(failures.is_empty(), "{failures:?}");
    let model = gpu_validate::scale::Scale::of(gpu_validate::device::Backend::VirtualTime, true).fitted;
    let (cost, notes) = resolve(&profile, &model, &CostOptions::default()).expect("it resolves");
    assert!(cost.layer_compute_s(1000, 4) > 0.0);
    assert!(
        notes.iter().any(|note| note.contains("host emulation (says nothing about any GPU)")),
        "{notes:?}"
    );
}

#[test]
fn a_profile_can_be_validated_later_and_the_same_run_predicts_the_same() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "virtual-time", &["--quick"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-validate"));
    command.current_dir(dir.path()).args(["validate", "--backend", "virtual-time", "--quick"]);
    command.args(["--profile", "out/profile.json", "--out", "again", "--enforce"]);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let again = std::fs::read_to_string(dir.path().join("again/predictions.json")).unwrap();
    assert!(again == file(dir.path(), "predictions.json"), "the two predictions.json differ");
}

#[test]
fn a_folder_in_use_is_refused_without_force() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), "virtual-time", &["--quick"]).status.code(), Some(0));
    let refused = run(dir.path(), "virtual-time", &["--quick"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("of an earlier run\nhint: choose another `--out`")
    );
    assert_eq!(run(dir.path(), "virtual-time", &["--quick", "--force"]).status.code(), Some(0));
}

#[test]
fn on_cpu_threads_everything_runs_and_every_check_of_bytes_passes() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "host", &["--quick"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // 6: a machine too busy for the deadline; what was measured is kept and checked all the same.
    assert!(matches!(output.status.code(), Some(0 | 6)), "{:?}: {stderr}", output.status);
    let profile = profile(dir.path());
    assert!(!profile.is_measured());
    assert_eq!(profile.standing(), "host emulation (says nothing about any GPU)");
    let checked: Vec<&str> =
        profile.checks.iter().filter(|check| !check.waived).map(|check| check.name.as_str()).collect();
    assert!(profile.checks.iter().all(|check| check.waived || check.pass), "{:?}", profile.checks);
    assert!(checked.contains(&"pipeline_bit_equality_1"), "{checked:?}");
    assert!(checked.contains(&"pipeline_dropped_wait_is_caught"), "{checked:?}");
}

#[test]
fn a_deadline_that_is_over_at_once_keeps_what_there_is_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "virtual-time", &["--quick", "--deadline", "0.02"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // Too short even for the link: either nothing can be said at all (1), or some points are left out (6).
    assert!(matches!(output.status.code(), Some(1 | 6)), "{:?}: {stderr}", output.status);
    assert!(dir.path().join("out/groups/E1.json").exists(), "groups are on disk as they end");
}
