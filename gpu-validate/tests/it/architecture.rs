//! The shape of the crate: where `unsafe` and CUDA may stand, and what predictions and fits must not see.
//!
//! Reads text, not syntax trees; comments and string literals of the searched words do not occur in these files.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(String, String)> {
    fn visit(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder that can be read") {
            let path = entry.expect("an entry that can be read").path();
            if path.is_dir() {
                visit(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut files = Vec::new();
    visit(root, &mut files);
    files.sort();
    let named = files.into_iter().map(|path| {
        let name = path.strip_prefix(root).expect("it is below src").display().to_string();
        (name, fs::read_to_string(&path).expect("a source file is UTF-8"))
    });
    named.collect()
}

/// Lines of code of `text` that hold `word` as a whole word, comments cut away.
fn lines_with<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    let whole = |line: &str| {
        line.match_indices(word).any(|(place, _)| {
            let letter = |c: char| c.is_alphanumeric() || c == '_';
            !line[..place].ends_with(letter) && !line[place + word.len()..].starts_with(letter)
        })
    };
    text.lines().filter(|line| whole(line.split("//").next().unwrap_or_default())).collect()
}

fn assert_only_in(word: &str, allowed: &[&str]) {
    for (name, text) in sources() {
        if !allowed.iter().any(|place| name.starts_with(place)) {
            assert_eq!(lines_with(&text, word), Vec::<&str>::new(), "`{word}` in src/{name}");
        }
    }
    let (name, text) = (sources().into_iter())
        .find(|(name, _)| allowed.iter().any(|place| name.starts_with(place)))
        .unwrap_or_else(|| panic!("nothing in {allowed:?}: the rule tests nothing"));
    assert!(!text.is_empty(), "src/{name} is empty");
}

#[test]
fn unsafe_is_in_the_cuda_device_alone() {
    assert_only_in("unsafe", &["device/cuda/"]);
}

#[test]
fn cudarc_and_nvml_are_in_the_cuda_device_alone() {
    assert_only_in("cudarc", &["device/cuda/"]);
    assert_only_in("nvml_wrapper", &["device/cuda/"]);
}

#[test]
fn predictions_see_neither_devices_nor_the_rig_that_measures() {
    let (_, text) = (sources().into_iter())
        .find(|(name, _)| name == "validation/predict.rs")
        .expect("predictions are made in validation/predict.rs");
    for hidden in ["crate::decode", "device::Device", "CaseResult", "Session"] {
        assert_eq!(lines_with(&text, hidden), Vec::<&str>::new(), "`{hidden}`");
    }
}

#[test]
fn a_fit_sees_no_device() {
    let fits: Vec<_> = sources().into_iter().filter(|(name, _)| name.starts_with("fit/")).collect();
    assert!(!fits.is_empty(), "the fits are in src/fit/");
    for (name, text) in fits {
        assert_eq!(lines_with(&text, "crate::device"), Vec::<&str>::new(), "src/{name}");
    }
}

#[test]
fn a_planted_violation_is_found() {
    assert_eq!(lines_with("let a = unsafe { b };\n// unsafe\nlet unsafely = 1;\n", "unsafe").len(), 1);
}
