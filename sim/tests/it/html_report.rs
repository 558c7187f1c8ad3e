//! `orbitflow report`: what stands on the page, that it is the results', that nothing from a file becomes markup, that
//! the page loads nothing, and what is said to files that are not whole. How it behaves in a browser is
//! `make browser-test`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use assert_cmd::Command;
use orbitflow_sim::html;
use orbitflow_sim::report::rows::Results;
use orbitflow_sim::report::{SavedResults, load};
use serde_json::Value;
use tempfile::TempDir;

/// Code, stdout, stderr.
fn orbitflow(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("orbitflow").expect("the binary");
    let output = command.args(args).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

/// A comparison of three policies on the demo's first 12 requests, some of them longer than 4,000 steps.
static COMPARED: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = TempDir::new().expect("a scratch folder");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let (demo, out) = (demo.display().to_string(), dir.path().display().to_string());
    let policies = "policies=[\"orbitflow\", \"static-1\", \"resident\"]";
    let args = ["compare", &demo, "--set", "trace.limit=12", "--set", policies, "--quiet", "--out", &out];
    assert_eq!(orbitflow(&args).0, 0);
    dir
});

fn saved() -> SavedResults {
    load(COMPARED.path()).expect("results")
}

fn page(saved: &SavedResults) -> String {
    html::page(saved).expect("a page")
}

/// The folder of [`COMPARED`], to be changed.
fn copy() -> TempDir {
    let dir = TempDir::new().expect("a scratch folder");
    for name in ["results.json", "requests.csv", "quantiles.csv", "timeline.csv", "states.csv"] {
        fs::copy(COMPARED.path().join(name), dir.path().join(name)).expect("a copy");
    }
    dir
}

/// What stands between each `open` and the next `close`.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).map(|rest| rest.split(close).next().unwrap_or_default()).collect()
}

/// The two sentences.
fn verdict(saved: &SavedResults) -> String {
    let page = page(saved);
    between(&page, "<section id=\"verdict\"", "</section>")[0].to_owned()
}

#[test]
fn the_same_files_give_the_same_bytes_wherever_they_lie() {
    let dir = copy();
    let (at, out) = (dir.path().display().to_string(), dir.path().join("other.html"));
    let (code, printed, _) = orbitflow(&["report", &at]);
    assert_eq!((code, printed), (0, format!("{at}/report.html\n")));
    let written = fs::read_to_string(dir.path().join("report.html")).expect("the page");
    assert_eq!(orbitflow(&["report", &at, "--out", &out.display().to_string()]).0, 0);
    assert_eq!(fs::read_to_string(out).expect("the page"), written);
    let original = COMPARED.path().display().to_string();
    let (code, printed, _) = orbitflow(&["report", &original, "--out", "-"]);
    assert_eq!(code, 0);
    assert!(printed == written, "the page on stdout differs");
    assert!(!written.contains(&at) && !written.contains(&original));
    assert!(!COMPARED.path().join("report.html").exists());
}

#[test]
fn every_section_and_figure_is_there() {
    let page = page(&saved());
    let sections = between(&page, "<section id=\"", "\"");
    assert_eq!(
        sections,
        [
            "verdict", "scores", "slo", "spread", "time", "usage", "held-up", "forecast", "plans",
            "compared", "commands"
        ]
    );
    assert_eq!(
        between(&page, "<h4>", "</h4>"),
        [
            "e2e",
            "TBT, step, with deposit",
            "TBT, gap, no deposit",
            "TPOT, gap",
            "Playback stall",
            "TTFT, median",
            "Throughput",
            "Goodput",
            "TBT, step",
            "TBT, gap",
            "TTFT",
            "TPOT, step",
            "TPOT, gap",
            "End to end",
            "OrbitFlow",
            "FlexGen",
            "No offload",
            "Time without a token after the first"
        ]
    );
    // Each drawing says in words what it shows, each table has a caption, each section a heading of its own.
    let drawings = page.matches("<svg viewBox=\"0 0 ").count();
    assert_eq!(drawings, between(&page, "role=\"img\" aria-label=\"", "\"").len());
    assert!(between(&page, "role=\"img\" aria-label=\"", "\"").iter().all(|label| label.len() > 20));
    assert_eq!(page.matches("<table").count(), page.matches("<caption").count());
    for section in sections {
        assert!(page.contains(&format!("aria-labelledby=\"{section}-h\"><h2 id=\"{section}-h\">")));
    }
}

#[test]
fn the_numbers_of_the_table_are_those_of_results_json() {
    let saved = saved();
    let page = page(&saved);
    let table = between(&page, "id=\"all-scores\">", "</table>")[0];
    let rows = between(table, "<tr data-p=", "</tr>");
    let scales = saved.results.policies[0].by_slo_scale.len();
    assert_eq!(rows.len(), scales * saved.results.policies.len());
    for (place, row) in rows.into_iter().enumerate() {
        let policy = &saved.results.policies[place % saved.results.policies.len()];
        let at = &policy.by_slo_scale[place / saved.results.policies.len()];
        let shown: Vec<f64> =
            between(row, "data-v=\"", "\"").into_iter().map(|value| value.parse().expect(value)).collect();
        let score = at.attainment_pct;
        let mut expected = vec![
            at.scale,
            score.e2e,
            score.tbt_step,
            score.tbt_step_deposit,
            score.tbt_gap,
            score.tbt_gap_deposit,
            at.playback_stall_pct.expect("tokens"),
            at.ttft_p50_s.expect("a first token"),
            at.throughput_tokens_per_s,
            score.tpot_step,
            score.tpot_gap,
            score.ttft,
            at.goodput_requests_per_s,
        ];
        if !at.rerun {
            expected.extend([policy.tbt_step_s.p95.expect("steps"), policy.tbt_gap_s.p95.expect("steps")]);
            let counts =
                [policy.pauses.count, policy.preemptions, policy.requests.finished, policy.requests.arrived];
            expected.extend(counts.map(|count| count as f64));
        }
        assert_eq!(shown, expected, "{} at {}", policy.key, at.scale);
    }
}

#[test]
fn the_bytes_of_the_timeline_are_those_of_the_run() {
    let saved = saved();
    let longest = saved.results.policies.iter().map(|policy| policy.steps.decode).max();
    assert!(longest > Some(4000), "no run is thinned: {longest:?}");
    for policy in &saved.results.policies {
        let own = || saved.timeline.iter().filter(|row| row.policy == policy.key);
        assert!(own().count() <= 4000);
        let sum = |of: fn(&orbitflow_sim::report::rows::TimelineRow) -> u64| own().map(of).sum::<u64>();
        let bytes = policy.bytes;
        assert_eq!(sum(|row| row.h2d_bytes), bytes.h2d_prefetch + bytes.h2d_restore, "{}", policy.key);
        assert_eq!(sum(|row| row.d2h_bytes), bytes.d2h, "{}", policy.key);
        assert_eq!(sum(|row| row.steps), policy.steps.decode + policy.steps.prefill, "{}", policy.key);
    }
    assert!(page(&saved).contains("of every 2^k consecutive steps"));
}

#[test]
fn the_page_loads_nothing() {
    let page = page(&saved());
    for load in [
        " src=",
        "url(",
        "@import",
        "<link rel=\"stylesheet",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "import(",
    ] {
        assert!(!page.contains(load), "{load}");
    }
    let links = between(&page, "href=\"", "\"");
    assert!(links.iter().all(|link| link.starts_with('#') || *link == "data:,"), "{links:?}");
    // The namespace of SVG is a name, not a place.
    let places = page.replace("\"http://www.w3.org/2000/svg\"", "");
    assert!(!places.contains("http:") && !places.contains("https:"));
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn nothing_from_a_file_becomes_markup() {
    const HOSTILE: &str = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;";
    let plain = page(&saved());
    let mut saved = saved();
    let results = &mut saved.results;
    results.scenario = HOSTILE.to_owned();
    results.tool_version = HOSTILE.to_owned();
    results.scenario_digest = HOSTILE.to_owned();
    results.notes.extend([
        HOSTILE.to_owned(),
        format!("semantics: {HOSTILE}"),
        format!("hardware: {HOSTILE}"),
    ]);
    results.switches.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
    results.overrides.push(HOSTILE.to_owned());
    results.policies[0].label = HOSTILE.to_owned();
    results.policies[0].plans.by_trigger.insert(HOSTILE.to_owned(), 3);
    let key = results.policies[1].key.clone();
    results.policies[1].key = HOSTILE.to_owned();
    let renamed = |policy: &mut String| {
        if *policy == key {
            *policy = HOSTILE.to_owned();
        }
    };
    saved.requests.iter_mut().for_each(|row| renamed(&mut row.policy));
    saved.quantiles.iter_mut().for_each(|row| renamed(&mut row.policy));
    saved.timeline.iter_mut().for_each(|row| renamed(&mut row.policy));
    saved.requests.iter_mut().for_each(|row| {
        row.id = HOSTILE.to_owned();
        row.state = HOSTILE.to_owned();
    });
    let page = page(&saved);
    assert!(!page.contains("<img") && !page.contains("<script>alert"));
    for tag in ["<script", "</script"] {
        assert_eq!(page.matches(tag).count(), plain.matches(tag).count(), "{tag}");
    }
    // It is there as text, and as data that reads as it was written.
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;&lt;img"));
    for json in between(&page, "<script type=\"application/json\">", "</script>") {
        serde_json::from_str::<Value>(json).expect("JSON");
    }
    let names = between(&page, "id=\"names\">", "</script>")[0];
    assert_eq!(serde_json::from_str::<Vec<String>>(names).expect("JSON")[0], HOSTILE);
}

#[test]
fn tbt_is_never_said_without_its_price() {
    let mut saved = saved();
    // The best TBT and the worst e2e.
    let policy = &mut saved.results.policies[1];
    policy.attainment_pct.tbt_step_deposit = 99.94;
    policy.attainment_pct.e2e = 1.0;
    policy.playback_stall_pct = Some(44.4);
    policy.ttft_s.p50 = Some(321.0);
    policy.throughput_tokens_per_s = 12.5;
    saved.results.policies[0].attainment_pct.e2e = 80.0;
    saved.results.policies[2].attainment_pct.e2e = 70.0;
    let said = verdict(&saved);
    assert!(said.contains("OrbitFlow served the most requests in time end to end (e2e): 80.0 %"), "{said}");
    assert!(said.contains("the next best, No offload, served 70.0 %."), "{said}");
    assert!(said.contains("FlexGen leads with 99.9 %"), "{said}");
    assert!(
        said.contains("FlexGen has e2e 1.0 %, playback stall 44.4 %, median TTFT 321 s and 12.5 tokens/s"),
        "{said}"
    );
    // Without a first token there is no median.
    saved.results.policies[1].ttft_s.p50 = None;
    assert!(verdict(&saved).contains("median TTFT never"));
}

#[test]
fn shares_that_read_the_same_have_no_leader() {
    let mut saved = saved();
    // 70.01 % and 69.99 % both read 70.0 %.
    for (policy, e2e) in saved.results.policies.iter_mut().zip([70.01, 69.99, 40.0]) {
        policy.attainment_pct.e2e = e2e;
    }
    let said = verdict(&saved);
    assert!(said.contains("OrbitFlow and FlexGen are level: each served 70.0 % of requests"), "{said}");
    for policy in &mut saved.results.policies {
        policy.attainment_pct.e2e = 0.0;
        policy.attainment_pct.tbt_step_deposit = 0.0;
    }
    let said = verdict(&saved);
    assert!(said.contains("no policy is ahead: all 3 served 0.0 % of requests"), "{said}");
    assert!(said.contains("they are level as well, each with 0.0 % of due tokens"), "{said}");
    assert!(!said.contains("leads"), "{said}");
}

#[test]
fn orbitflow_is_named_where_it_is_not_ahead() {
    let mut saved = saved();
    for (policy, e2e) in saved.results.policies.iter_mut().zip([10.0, 30.0, 20.0]) {
        policy.attainment_pct.e2e = e2e;
    }
    let said = verdict(&saved);
    assert!(said.contains("FlexGen served the most requests in time end to end (e2e): 30.0 %"), "{said}");
    assert!(said.contains("; OrbitFlow served 10.0 %."), "{said}");
}

/// The results of one policy alone.
fn alone(mut saved: SavedResults) -> SavedResults {
    let key = saved.results.policies[0].key.clone();
    saved.results.policies.truncate(1);
    saved.requests.retain(|row| row.policy == key);
    saved.quantiles.retain(|row| row.policy == key);
    saved.timeline.retain(|row| row.policy == key);
    saved
}

#[test]
fn one_policy_alone_is_compared_with_nothing() {
    let saved = alone(saved());
    assert!(verdict(&saved).contains("nothing was compared with it"));
    assert!(page(&saved).contains("orbitflow run --policy orbitflow --set trace.limit=12"));
}

#[test]
fn results_without_steps_tokens_or_scales_give_a_page_that_says_so() {
    let mut saved = alone(saved());
    saved.quantiles.clear();
    saved.timeline.clear();
    saved.requests.clear();
    let policy = &mut saved.results.policies[0];
    policy.by_slo_scale.clear();
    policy.busy_s = Default::default();
    policy.tbt_step_s = Default::default();
    policy.forecast_error_pct = Default::default();
    policy.plans.by_trigger.clear();
    saved.results.slo_s = f64::NAN;
    saved.results.gpu_pool_blocks = Some(0);
    let page = page(&saved);
    for said in [
        "no SLO scale was scored",
        "no token after a first one was made",
        "no step was made",
        "no request arrived",
        "No request was held up.",
        "No policy here makes forecasts.",
        "No policy here has a planner.",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf%"));
    saved.results.policies.clear();
    assert!(html::page(&saved).unwrap_err().to_string().contains("`policies` is empty"));
}

#[test]
fn a_hundred_thousand_requests_give_a_page_of_a_sensible_size() {
    let mut saved = saved();
    let small = page(&saved).len();
    let one = saved.requests[0].clone();
    saved.requests = (saved.results.policies.iter())
        .flat_map(|policy| {
            let one = &one;
            (0..100_000_u32).map(move |index| {
                let mut row = one.clone();
                row.policy.clone_from(&policy.key);
                row.id = format!("r{index}");
                row.paused_s = f64::from(index);
                row
            })
        })
        .collect();
    let page = page(&saved);
    assert!(page.contains("Of the 100,000 requests of each policy the 200 held up longest are drawn"));
    // The longest is drawn, the 201st is not: pauses of 99,999 s and 99,799 s.
    assert!(page.contains("request r99999") && !page.contains("request r99799"));
    assert!(page.len() < small + 400_000, "{} after {small}", page.len());
}

#[test]
fn the_commands_name_scenario_overrides_and_digest() {
    let saved = saved();
    let page = page(&saved);
    let commands = between(&page, "<pre tabindex=\"0\"><code>", "</code>")[0];
    let quoted =
        "--set &#39;policies=[&quot;orbitflow&quot;, &quot;static-1&quot;, &quot;resident&quot;]&#39;";
    assert!(
        commands.starts_with(&format!("orbitflow compare --set trace.limit=12 {quoted} --out DIR ")),
        "{commands}"
    );
    assert!(commands.contains("scenarios/demo.toml  # simulates every policy\n"), "{commands}");
    assert!(commands.contains("orbitflow report DIR"));
    assert!(page.contains(&saved.results.scenario_digest));
    for note in saved.results.notes.iter().filter(|note| !note.contains(['<', '>', '&', '"', '\''])) {
        let said = note.strip_prefix("semantics: ").unwrap_or(note);
        assert!(page.contains(said), "{note}");
    }
}

/// What `report` says of a folder after `change`; it must be refused and leave no page.
fn refusal(change: impl FnOnce(&Path)) -> String {
    let dir = copy();
    change(dir.path());
    let (code, stdout, stderr) = orbitflow(&["report", &dir.path().display().to_string()]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(!dir.path().join("report.html").exists());
    let said = stderr.replace(&dir.path().display().to_string(), "DIR");
    assert!(said.starts_with("error: DIR"), "{said}");
    assert!(said.lines().count() <= 2, "one line and a hint: {said}");
    said
}

fn edit(path: PathBuf, change: impl FnOnce(&str) -> String) {
    let text = fs::read_to_string(&path).expect("a file");
    fs::write(path, change(&text)).expect("a file");
}

#[test]
fn files_that_are_missing_cut_short_or_of_another_kind_are_named() {
    let cut = |name: &'static str, rows: usize, bytes: usize| {
        refusal(move |dir| {
            edit(dir.join(name), |text| {
                let whole: Vec<&str> = text.split_inclusive('\n').collect();
                let kept = whole[..whole.len() - rows].concat();
                kept[..kept.len() - bytes].to_owned()
            });
        })
    };
    assert!(cut("timeline.csv", 1, 0).contains("DIR/timeline.csv: rows for "));
    assert!(cut("timeline.csv", 0, 1).contains("DIR/timeline.csv: the last line has no end: cut short?"));
    assert!(
        cut("quantiles.csv", 1, 0).contains("1000 rows of `resident` and `e2e`, expected 1001: cut short?")
    );
    assert!(cut("quantiles.csv", 0, 3).contains("DIR/quantiles.csv: the last line has no end"));
    assert!(cut("requests.csv", 1, 0).contains("DIR/requests.csv: 35 rows, expected 36"));

    let missing = refusal(|dir| fs::remove_file(dir.join("quantiles.csv")).expect("it was there"));
    assert!(missing.contains("DIR/quantiles.csv: cannot read: "), "{missing}");
    let none = refusal(|dir| fs::remove_file(dir.join("results.json")).expect("it was there"));
    assert!(
        none.contains("DIR: no `results.json`, expected a directory written by `orbitflow compare --out`")
    );
    let old = refusal(|dir| {
        edit(dir.join("timeline.csv"), |text| {
            let columns = |line: &str| line.split(',').take(8).collect::<Vec<_>>().join(",") + "\n";
            text.lines().map(columns).collect()
        });
    });
    assert!(old.contains("DIR/timeline.csv: ") && old.contains("missing field `steps`"), "{old}");
    let other = refusal(|dir| {
        edit(dir.join("results.json"), |text| {
            text.replacen("\"schema_version\": 1", "\"schema_version\": 9", 1)
        });
    });
    assert!(other.contains("DIR/results.json: schema_version 9, expected 1"), "{other}");
    let negative = refusal(|dir| {
        edit(dir.join("results.json"), |text| {
            let mut results: Results = serde_json::from_str(text).expect("results");
            results.policies[2].key = "static-9".to_owned();
            serde_json::to_string(&results).expect("JSON")
        });
    });
    assert!(negative.contains("expected "), "{negative}");
    let sweep = refusal(|dir| {
        fs::remove_file(dir.join("results.json")).expect("it was there");
        fs::write(dir.join("sweep.csv"), "").expect("a file");
    });
    assert!(
        sweep
            .contains("DIR: holds a sweep, expected the results of one comparison\nhint: `orbitflow compare")
    );
}

#[test]
fn numbers_that_no_run_can_have_produced_are_refused() {
    let paused = refusal(|dir| {
        edit(dir.join("requests.csv"), |text| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let mut cells: Vec<&str> = lines[1].split(',').collect();
            cells[18] = "-1";
            lines[1] = cells.join(",");
            lines.join("\n") + "\n"
        });
    });
    assert!(paused.contains("requests.csv: row 1: `paused_s` is -1: expected a finite number"), "{paused}");
    for number in ["NaN", "inf", "-2"] {
        let said = refusal(|dir| {
            edit(dir.join("timeline.csv"), |text| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                let mut cells: Vec<&str> = lines[2].split(',').collect();
                cells[10] = number;
                lines[2] = cells.join(",");
                lines.join("\n") + "\n"
            });
        });
        assert!(said.contains("timeline.csv: row 2: `to_s` is "), "{said}");
    }
}
