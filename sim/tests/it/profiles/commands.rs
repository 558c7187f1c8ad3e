//! `orbitflow profile show` and `check`: exit code, stdout, stderr.

use assert_cmd::Command;
use orbitflow_sim::cost::{parse, preset};

use super::synthetic;

fn orbitflow(args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("orbitflow").unwrap().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn profile_show_tells_kind_link_times_and_gaps_and_its_json_is_a_profile() {
    let (code, out, err) = orbitflow(&["profile", "show", "engine-fit:a6000"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for part in
        ["engine-fit: published fit", "7.009 GB/s", "9.331 ms", "prefill: datasheet × 0.5", "not known"]
    {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (code, out, _) = orbitflow(&["profile", "show", "roofline:l40s", "--format", "json"]);
    assert_eq!(code, 0);
    assert_eq!(parse("stdout", &out).unwrap(), preset("roofline:l40s").unwrap());
    let (code, out, err) = orbitflow(&["profile", "show", "engine-fit:a6000", "--model", "llama-3-70b"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("hint: engine-fit:4xa6000-70b"), "{err}");
    let (code, _, err) = orbitflow(&["profile", "show", "roofline:l4", "--model", "llama-3-8"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `llama-3-8b`?"), "{err}");
}

#[test]
fn profile_check_exits_0_for_a_usable_profile_and_2_for_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.json");
    let path = file.to_str().unwrap();
    let mut profile = synthetic();
    std::fs::write(&file, serde_json::to_string(&profile).unwrap()).unwrap();
    let (code, out, _) = orbitflow(&["profile", "check", path]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("good for     numbers that may be called measured"), "{out}");

    profile.missing.clear();
    std::fs::write(&file, serde_json::to_string(&profile).unwrap()).unwrap();
    let (code, out, _) = orbitflow(&["profile", "check", path]);
    assert_eq!(code, 2);
    assert!(out.contains("FAIL  missing") && out.contains("not usable"), "{out}");

    std::fs::write(&file, "{").unwrap();
    let (code, out, err) = orbitflow(&["profile", "check", path]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("ends in the middle"), "{err}");
}

#[test]
fn profile_show_lists_every_fitted_way_of_copying_and_how_the_checks_went() {
    let (code, out, _) = orbitflow(&["profile", "show", "tests/profiles/everything.json"]);
    assert_eq!(code, 0);
    for part in [
        "fit of host to device (blocks-batch, batch) 50.000 GB/s, latency not known",
        "fit of device to host 40.000 GB/s, latency not known",
        "checks       1 passed, 0 failed, 1 waived",
        "contention: a copy takes 1.1 times as long",
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (_, out, _) = orbitflow(&["profile", "check", "tests/profiles/everything.json"]);
    assert!(out.contains("warn  own checks  checks: `nvml_clocks` was waived (no NVML here)"), "{out}");
    assert!(out.contains("good for     numbers that may be called measured"), "{out}");
}
