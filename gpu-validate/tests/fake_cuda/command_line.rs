//! The whole program on the fake driver, from `preflight` to the report: `run_with_fake_cuda`.
//!
//! By hand: `LD_LIBRARY_PATH=$(ls -d target/tmp/fake-cuda-????????????????) FAKE_CUDA_SEED=1 GPU_VALIDATE_FAKE_CUDA=1
//! gpu-validate run --quick --out DIR`, once this test built the libraries.

use std::path::Path;
use std::process::{Command, Output};

use super::libraries;

/// The program with the fake driver as the only one. Seed 1 runs work as soon as it may, as a GPU does.
fn run_with_fake_cuda(libraries: &Path, arguments: &[&str], accepted: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-validate"));
    command.args(arguments).env("LD_LIBRARY_PATH", libraries).env("FAKE_CUDA_SEED", "1");
    command.env_remove("GPU_VALIDATE_FAKE_CUDA").env("FAKE_CUDA_PROTECT", "0");
    if accepted {
        command.env("GPU_VALIDATE_FAKE_CUDA", "1");
    }
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_fake_gpu_is_shown_as_one_and_not_measured_on() {
    let Some(libraries) = libraries::folder() else { return };
    let shown = run_with_fake_cuda(libraries, &["preflight"], false);
    assert!(text(&shown.stdout).contains("FAKE CUDA (test driver, no GPU)"), "{}", text(&shown.stdout));
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let refused = run_with_fake_cuda(libraries, &["run", "--quick", "--out", &out.to_string_lossy()], false);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("is a driver of tests"), "{}", text(&refused.stderr));
    assert!(!out.exists());
}

#[test]
fn a_run_on_a_fake_gpu_checks_everything_and_is_called_host_emulation() {
    let Some(libraries) = libraries::folder() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let arguments = ["--quiet", "run", "--quick", "--deadline", "60", "--out", &out.to_string_lossy()];
    let ran = run_with_fake_cuda(libraries, &arguments, true);
    let said = text(&ran.stdout) + &text(&ran.stderr);
    // 6: the deadline left points out, always those of E8, whose copies and kernels this driver never runs at once. 4 would be a check of bytes that failed.
    assert!(matches!(ran.status.code(), Some(0 | 6)), "{:?}\n{said}", ran.status);
    assert!(said.contains("host emulation: says nothing about any GPU"), "{said}");
    let profile = std::fs::read_to_string(out.join("profile.json")).expect("a profile");
    let profile: serde_json::Value = serde_json::from_str(&profile).expect("JSON");
    assert_eq!(profile["kind"], "host-emulation");
    assert_eq!(profile["device"]["name"], "FAKE CUDA (test driver, no GPU)");
}
