//! The documentation pages of methods and mechanisms: each has a source, a worked number, and names a test that is there.
//!
//! Whether the test computes the number of the page no program can tell; that it exists and is a test, this one does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use orbitflow_sim::policy::registry::{METHODS, Method};

/// The page of each method.
const fn page_of(method: Method) -> &'static str {
    match method {
        Method::Resident | Method::NextLayer | Method::Static(_) => "policy/fixed.rs",
        Method::FlexGen => "policy/flexgen.rs",
        Method::SelectN => "policy/selectn.rs",
        Method::Heuristic => "policy/heuristic.rs",
        Method::Uniform
        | Method::UniformDeposit
        | Method::UniformDepositPause
        | Method::OrbitFlow
        | Method::OrbitFlowNoDeposit
        | Method::OrbitFlowNoPause
        | Method::OrbitFlowNoFeedback => "policy/orbitflow.rs",
        Method::Oracle => "policy/oracle.rs",
    }
}

/// What is modelled beside the methods, and where its page is.
const MECHANISMS: &[(&str, &str)] = &[
    ("victims, pause-resume", "policy/victim.rs"),
    ("admission", "policy/admission.rs"),
    ("feedback", "policy/orbitflow/belief.rs"),
    ("deposit", "deposit.rs"),
    ("restores, planning time, staging, noise, tail and intercept", "server.rs"),
    ("bounded host memory", "memory.rs"),
    ("contention", "cost/contention.rs"),
    ("tensor parallelism", "cost/parallel.rs"),
    ("capacity from memory", "cost/capacity.rs"),
    ("KV element size", "model/mod.rs"),
    ("write-through", "pipeline/write_back.rs"),
    ("copies across steps", "pipeline/cross_step.rs"),
    ("chunked prefill", "engine/chunked.rs"),
    ("prefill and the cost of a chunk", "cost/prefill.rs"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The `//!` lines at the top of a file.
fn page(file: &str) -> String {
    let text = std::fs::read_to_string(root().join("src").join(file)).unwrap_or_else(|_| panic!("{file}"));
    let lines = text.lines().take_while(|line| line.starts_with("//!"));
    lines.map(|line| line.trim_start_matches("//!").trim()).collect::<Vec<_>>().join(" ")
}

/// Names of all tests of the crate: what stands behind `fn` in the lines after `#[test]`, and in `proptest!`.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("src"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a file");
            for behind in text.split("#[test]").skip(1) {
                let name = behind.split_once("fn ").and_then(|(_, name)| name.split('(').next());
                names.extend(name.map(|name| name.trim().to_owned()));
            }
        }
    }
    names
}

/// Words in backticks that are long enough to be the name of a test and nothing else.
fn named_tests(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.matches('_').count() >= 4 && !word.contains(['(', ' ', '.'])).collect()
}

#[test]
fn every_method_and_mechanism_has_a_page_with_source_worked_number_and_a_test_that_exists() {
    let tests = tests();
    assert!(tests.len() > 300, "{} tests found", tests.len());
    let methods = METHODS.iter().map(|entry| (entry.key, page_of(entry.method)));
    for (subject, file) in methods.chain(MECHANISMS.iter().copied()) {
        let page = page(file);
        let source = ["facts ", "design §", "gpu-measurement.md"].iter().any(|from| page.contains(from));
        assert!(source, "{file} ({subject}): where is the rule from?");
        assert!(page.contains("Worked"), "{file} ({subject}): no worked number");
        let named = named_tests(&page);
        assert!(!named.is_empty(), "{file} ({subject}): names no test");
        for name in named {
            assert!(tests.contains(name), "{file} ({subject}): `{name}` is no test of this crate");
        }
        // A formula: something is equal, at most, or the least or most of something.
        assert!(
            page.contains(['=', '≤', '≥', '←']) || page.contains("max("),
            "{file} ({subject}): no formula"
        );
    }
}

#[test]
fn a_page_without_a_test_of_that_name_is_found() {
    let planted =
        "The rule (facts E): `d = k`. Worked: 3. Test: `this_is_no_test_of_ours_at_all`, `gpu_blocks`.";
    assert_eq!(named_tests(planted), ["this_is_no_test_of_ours_at_all"]);
    assert!(!tests().contains("this_is_no_test_of_ours_at_all"));
    assert!(tests().contains("a_page_without_a_test_of_that_name_is_found"));
}
