//! The shape of the tree: who may use whom (design §11), which crate is named where, and what no file may hold.
//!
//! The checker reads text, not syntax trees: comments and `#[cfg(test)]` modules are cut away, then every path that
//! starts at the crate's root (`crate::…`, or as many `super::` as it takes) is an edge between two top-level
//! modules. It is itself tested on planted violations at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Design §11 as a table, in the order of `lib.rs`: a module, and the modules it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("random", &[]),
    ("statistics", &[]),
    ("units", &[]),
    ("model", &["ids", "units"]),
    ("cost", &["units", "model"]),
    ("deposit", &["units"]),
    ("memory", &["ids", "units", "model"]),
    ("record", &["ids", "units", "model"]),
    ("trace", &["ids", "random", "units"]),
    // Of `cost` the pipeline knows only `Contention`: what slows down what is the hardware's, not the step's.
    ("pipeline", &["ids", "units", "model", "cost", "record"]),
    ("server", &["units", "pipeline"]),
    ("planner", &["ids", "random", "units", "model", "pipeline"]),
    (
        "policy",
        &["ids", "random", "units", "model", "cost", "deposit", "record", "pipeline", "server", "planner"],
    ),
    (
        "engine",
        &[
            "ids", "random", "units", "model", "cost", "deposit", "memory", "record", "trace", "pipeline",
            "server", "planner", "policy",
        ],
    ),
    // The sinks: records in, numbers out; what follows the state of each request is shared.
    ("states", &["ids", "units", "record"]),
    ("digest", &["ids", "units", "record"]),
    ("laws", &["ids", "units", "record"]),
    ("metrics", &["ids", "units", "deposit", "record"]),
    ("perfetto", &["ids", "units", "record", "states"]),
    ("steps", &["record"]),
    ("timeline", &["units", "record"]),
    ("report", &["ids", "units", "record", "metrics", "states", "timeline"]),
    ("plot", &["statistics", "report"]),
    ("html", &["report", "plot"]),
    // The switches that each module owns, composed.
    ("scenario", &["units", "model", "cost", "server", "planner", "trace"]),
    (
        "runner",
        &[
            "ids", "units", "model", "cost", "record", "trace", "server", "policy", "engine", "digest",
            "laws", "metrics", "states", "perfetto", "steps", "timeline", "report", "scenario",
        ],
    ),
    ("sweep", &["report", "scenario", "runner"]),
    ("capacity", &["units", "report", "scenario", "runner"]),
    (
        "cli",
        &[
            "ids", "units", "model", "cost", "trace", "pipeline", "server", "planner", "policy", "report",
            "perfetto", "plot", "html", "scenario", "runner", "sweep", "capacity",
        ],
    ),
];

/// The "never" of design §11, so that a later edit of the table above cannot allow one of them unseen.
const NEVER: &[(&str, &[&str])] = &[
    ("policy", &["engine", "memory"]),
    ("planner", &["policy", "engine"]),
    ("engine", &["metrics", "report", "scenario", "cli"]),
    ("report", &["engine"]),
    ("plot", &["engine"]),
    ("html", &["engine"]),
];

/// Longest file, in lines.
const MOST_LINES: usize = 500;

/// Files that may be longer, each with its reason (style: a longer one is a flat list).
const LONG_FILES: &[(&str, &str)] = &[];

/// Where a crate of its own may be named: nowhere else in `sim/src`.
const CRATES_KEPT_APART: &[(&str, &str)] = &[
    ("good_lp", "sim/src/planner/milp.rs"),
    ("plotters", "sim/src/plot/"),
    ("resvg", "sim/src/plot/"),
    ("clap", "sim/src/cli/"),
    ("indicatif", "sim/src/cli/progress.rs"),
    ("ctrlc", "sim/src/cli/interrupt.rs"),
];

/// `cuda` is a word of the hardware profile's layout (`backend`, `cuda_driver_api`), and no more.
const MAY_SAY_CUDA: [&str; 2] = ["sim/src/cost/profile/", "sim/src/cost/check.rs"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every Rust file below these folders of the repository: its path from the repository's root, and its text.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    fn visit(folder: &Path, files: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.expect("a folder that can be read").path();
            if path.is_dir() {
                visit(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    folders.iter().for_each(|folder| visit(&root().join(folder), &mut files));
    files.sort();
    assert!(!files.is_empty(), "no sources below {folders:?}");
    let named = files.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("a source file is UTF-8");
        let name = path.strip_prefix(root()).expect("it is below the root").display().to_string();
        (name, text)
    });
    named.collect()
}

fn library() -> Vec<(String, String)> {
    sources(&["sim/src"])
}

/// The code of a file that is shipped: no comments, no inline `#[cfg(test)]` module.
fn shipped(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_tests = line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with('{'));
        if opens_tests {
            // rustfmt closes it where it opened it: at the start of a line.
            lines.by_ref().find(|line| *line == "}");
            continue;
        }
        code += without_comment(line);
        code.push('\n');
    }
    code
}

/// The line up to `//`, unless that stands inside a string.
fn without_comment(line: &str) -> &str {
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '/' if !in_string && line[at..].starts_with("//") => return &line[..at],
            _ => {}
        }
    }
    line
}

/// Modules declared as `#[cfg(test)] mod name;`: their files are tests. As paths below `sim/src`, without `.rs`.
fn test_modules(files: &[(String, String)]) -> Vec<String> {
    let mut modules = Vec::new();
    for (name, text) in files {
        let folder = name.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
        for (attribute, declaration) in text.lines().zip(text.lines().skip(1)) {
            if attribute == "#[cfg(test)]" && declaration.ends_with(';') {
                let module = declaration.trim_end_matches(';').rsplit(' ').next().unwrap_or_default();
                modules.push(format!("{folder}/{module}"));
            }
        }
    }
    modules
}

/// The files of the library that are shipped, each without comments and tests.
fn shipped_library() -> Vec<(String, String)> {
    let files = library();
    let tests = test_modules(&files);
    assert!(tests.contains(&"sim/src/script".to_owned()), "{tests:?}");
    shipped_of(&files)
}

/// Those of `files` that are shipped, each without comments and tests.
fn shipped_of(files: &[(String, String)]) -> Vec<(String, String)> {
    let tests = test_modules(files);
    let is_test = |name: &str| {
        let path = name.trim_end_matches(".rs");
        tests.iter().any(|test| path == test || path.starts_with(&format!("{test}/")))
    };
    files
        .iter()
        .filter(|(name, _)| !is_test(name))
        .map(|(name, text)| (name.clone(), shipped(text)))
        .collect()
}

/// The top-level module that a file of `sim/src` belongs to.
fn module_of(name: &str) -> &str {
    let below = name.trim_start_matches("sim/src/");
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

/// How many `super::` lead from a file's module to the crate's root.
fn depth_of(name: &str) -> usize {
    let parts = name.trim_start_matches("sim/src/").split('/').count();
    if name.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The top-level modules that a file's code names.
fn uses(name: &str, code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let supers = "super::".repeat(depth_of(name));
    for start in ["crate::", supers.as_str()] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == ':' {
                continue; // a longer word or path, such as `super::super::` seen from its second half
            }
            used.extend(first_names(&code[at + start.len()..]));
        }
    }
    used.remove(module_of(name));
    used
}

/// `a::b` gives a; `{a::{b, c}, d}` gives a and d.
fn first_names(path: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut names, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(word(&group[from..at]));
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Every edge that the table does not allow, as `file uses module`.
fn forbidden(files: &[(String, String)]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut found = Vec::new();
    for (name, code) in files {
        let module = module_of(name);
        if module == "lib" || module == "main" {
            continue;
        }
        for used in uses(name, code) {
            if !allowed.get(module).is_some_and(|allowed| allowed.contains(&used.as_str())) {
                found.push(format!("{name} uses `{used}`, which `{module}` may not (design §11)"));
            }
        }
    }
    found
}

/// Lines of these files that hold one of the words, as `file:line: word`.
fn lines_with(files: &[(String, String)], words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in files {
        for (number, line) in (1..).zip(text.lines()) {
            for word in words.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{name}:{number}: `{word}`"));
            }
        }
    }
    found
}

/// Names a crate as a path or an import: a word of its own.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = code[at + name.len()..].chars().next().unwrap_or(' ');
        let own_word = |c: char| !c.is_alphanumeric() && c != '_' && c != '"' && c != '-';
        own_word(before) && own_word(after)
    })
}

#[test]
fn every_edge_between_modules_is_one_that_the_design_allows() {
    assert_eq!(forbidden(&shipped_library()), Vec::<String>::new());
}

#[test]
fn the_table_holds_every_module_in_the_order_of_lib_rs_and_none_uses_a_later_one() {
    let lib = fs::read_to_string(root().join("sim/src/lib.rs")).expect("lib.rs");
    let declared: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let table: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    assert_eq!(table, declared);
    for (position, (module, used)) in MAY_USE.iter().enumerate() {
        for used in *used {
            assert!(table[..position].contains(used), "`{module}` before `{used}` in lib.rs, and uses it");
        }
    }
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for (module, never) in NEVER {
        for never in *never {
            assert!(!allowed[module].contains(never), "`{module}` → `{never}` is never (design §11)");
        }
    }
    assert_eq!(allowed["cost"], ["units", "model"], "cost → anything but units and model is never");
}

#[test]
fn solver_plotter_and_terminal_crates_are_named_only_where_they_belong() {
    let files = shipped_library();
    for (crate_name, place) in CRATES_KEPT_APART {
        let outside: Vec<&str> = (files.iter())
            .filter(|(name, code)| !name.starts_with(place) && names_crate(code, crate_name))
            // `cli` is a folder; `main.rs` and `lib.rs` name no crate of these.
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(outside, Vec::<&str>::new(), "{crate_name} outside {place}");
        let inside =
            files.iter().any(|(name, code)| name.starts_with(place) && names_crate(code, crate_name));
        assert!(
            inside || *crate_name == "resvg",
            "{crate_name} is not used in {place}: take it out of the list"
        );
    }
}

#[test]
fn the_simulator_knows_no_gpu() {
    let manifest = fs::read_to_string(root().join("sim/Cargo.toml")).expect("a manifest");
    for word in ["cuda", "gpu-validate", "gpu_validate"] {
        assert!(!manifest.contains(word), "sim/Cargo.toml names {word}");
    }
    for (name, code) in shipped_library() {
        let code = code.to_lowercase();
        assert!(!code.contains("cudarc") && !code.contains("gpu_validate"), "{name}");
        let may = MAY_SAY_CUDA.iter().any(|place| name.starts_with(place));
        assert!(may || !code.contains("cuda"), "{name} says cuda");
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_read() {
    let files = sources(&["sim", "gpu-validate"]);
    for (name, text) in &files {
        assert!(text.starts_with("//! "), "{name}: expected to open with `//! ` and what it is");
        let lines = text.lines().count();
        let may_be_long = LONG_FILES.iter().any(|(long, _)| long == name);
        assert!(
            lines <= MOST_LINES || may_be_long,
            "{name}: {lines} lines, expected at most {MOST_LINES}: split it"
        );
        assert!(lines > MOST_LINES || !may_be_long, "{name}: {lines} lines: take it out of LONG_FILES");
    }
}

#[test]
fn shipped_code_never_unwraps_and_says_which_invariant_an_expect_rests_on() {
    let mut files = shipped_library();
    files.extend(shipped_of(&sources(&["gpu-validate/src"])));
    assert_eq!(lines_with(&files, &[".unwrap()".to_owned()]), Vec::<String>::new());
    for (name, code) in &files {
        for (at, _) in code.match_indices(".expect(\"") {
            let reason = &code[at + ".expect(\"".len()..];
            let end = reason.len().min(60);
            assert!(
                reason.starts_with("Invariant: "),
                "{name}: expect(\"{}…: expected `Invariant: …`",
                &reason[..reason.floor_char_boundary(end)]
            );
        }
    }
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    // Put together here, so that this file does not hold them.
    let words = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    let ignore = format!("#[{}", "ignore");
    let words = [&words[..], &[ignore]].concat();
    assert_eq!(lines_with(&sources(&["sim", "gpu-validate"]), &words), Vec::<String>::new());
}

// The checker itself, on planted violations.

fn planted(name: &str, text: &str) -> Vec<String> {
    forbidden(&[(name.to_owned(), shipped(text))])
}

#[test]
fn a_planted_edge_is_found_however_it_is_written() {
    let planted_edges = [
        ("sim/src/policy/fixed.rs", "use crate::engine::Setup;\n"),
        ("sim/src/policy/mod.rs", "use crate::{ids::RequestId, memory::{Pool, X}, units::Bytes};\n"),
        ("sim/src/cost/mod.rs", "pub use crate::record;\n"),
        ("sim/src/planner/search/mod.rs", "fn f() -> crate::policy::Decision { g() }\n"),
        ("sim/src/planner/search/mod.rs", "use super::super::policy::Decision;\n"),
        ("sim/src/engine/mod.rs", "use super::metrics::Metrics;\n"),
        ("sim/src/engine/step.rs", "use super::super::metrics::Metrics;\n"),
        ("sim/src/server.rs", "    use super::cli;\n"),
        ("sim/src/plot/style.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}\nuse crate::engine;\n"),
        ("sim/src/plot/style.rs", "const A: &str = \"http://a\"; use crate::engine;\n"),
        ("sim/src/unknown.rs", "use crate::units::Bytes;\n"),
    ];
    for (name, text) in planted_edges {
        assert_eq!(planted(name, text).len(), 1, "{name}: {text}");
    }
    let told = planted("sim/src/policy/fixed.rs", "use crate::engine::Setup;\n");
    assert_eq!(told, ["sim/src/policy/fixed.rs uses `engine`, which `policy` may not (design §11)"]);
}

#[test]
fn what_is_no_edge_is_not_taken_for_one() {
    let innocent = [
        (
            "sim/src/policy/fixed.rs",
            "//! See [`crate::engine`].\n// use crate::engine;\nuse crate::units::Bytes;\n",
        ),
        ("sim/src/policy/fixed.rs", "#[cfg(test)]\nmod tests {\n    use crate::engine;\n}\n"),
        ("sim/src/policy/orbitflow/belief.rs", "use super::super::engine_like;\n"),
        ("sim/src/policy/mod.rs", "use crate::policy::view::View;\n"),
        ("sim/src/policy/fixed.rs", "use my_crate::engine;\n"),
    ];
    for (name, text) in innocent {
        assert_eq!(planted(name, text), Vec::<String>::new(), "{name}: {text}");
    }
}

#[test]
fn comments_tests_and_words_are_told_from_code() {
    assert_eq!(shipped("a // b\n\"x // y\" // z\n"), "a \n\"x // y\" \n");
    assert_eq!(shipped("a\n#[cfg(test)]\nmod tests {\n    b\n}\nc\n"), "a\nc\n");
    let files = [("sim/src/lib.rs".to_owned(), "#[cfg(test)]\nmod script;\n".to_owned())];
    assert_eq!(test_modules(&files), ["sim/src/script"]);
    let files = [("sim/src/laws/mod.rs".to_owned(), "#[cfg(test)]\nmod tests;\n".to_owned())];
    assert_eq!(test_modules(&files), ["sim/src/laws/tests"]);
    assert!(names_crate("use good_lp::Variable;", "good_lp") && names_crate("good_lp", "good_lp"));
    assert!(!names_crate("my_good_lp::x", "good_lp") && !names_crate("\"good_lp\"", "good_lp"));
    let files = [("f.rs".to_owned(), "a\nb.unwrap()\n".to_owned())];
    assert_eq!(lines_with(&files, &[".unwrap()".to_owned()]), ["f.rs:2: `.unwrap()`"]);
}
