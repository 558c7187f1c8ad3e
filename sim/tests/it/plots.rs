//! The figures: what they show, that they repeat byte for byte, and what they say to input that shows nothing.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use orbitflow_sim::plot::{PlotError, draw_all};
use orbitflow_sim::report::rows::{QuantileRow, Results, TimelineRow};
use tempfile::TempDir;

use super::made_up::{POLICIES, SCALES, quantiles, results, timeline};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of a figure, one a line.
pub fn texts(svg: &str) -> Vec<&str> {
    svg.split("<text").skip(1).filter_map(|rest| rest.split_once(">\n")?.1.split('\n').next()).collect()
}

fn draw(results: &Results, quantiles: &[QuantileRow], timeline: &[TimelineRow]) -> (TempDir, Vec<PathBuf>) {
    let dir = TempDir::new().expect("a scratch folder");
    let files = draw_all(results, quantiles, timeline, &[], dir.path(), false).expect("figures");
    (dir, svgs(files))
}

/// The figures among the files; beside each stands its CSV.
fn svgs(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.retain(|file| file.extension().is_some_and(|extension| extension == "svg"));
    files
}

#[test]
fn every_figure_is_drawn_and_repeats_byte_for_byte() {
    let (results, quantiles, timeline) =
        (results(&POLICIES, &SCALES), quantiles(&POLICIES), timeline(&POLICIES));
    // Kept under target/tmp, to be looked at.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plots");
    let first = svgs(draw_all(&results, &quantiles, &timeline, &[], &kept, false).expect("figures"));
    let (_dir, second) = draw(&results, &quantiles, &timeline);

    let names: Vec<_> = first.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names[..3], ["attainment.svg", "tbt_cdf.svg", "timeline-orbitflow.svg"]);
    // Two figures of all policies, one timeline of each.
    assert_eq!(names.len(), 2 + POLICIES.len());
    for (one, other) in first.iter().zip(&second) {
        assert_eq!(read(one), read(other), "{}", one.display());
    }
}

#[test]
fn wherever_a_tbt_score_is_shown_its_price_stands_beside_it() {
    let (dir, files) = draw(&results(&POLICIES, &SCALES), &quantiles(&POLICIES), &timeline(&POLICIES));
    for file in ["attainment.svg", "tbt_cdf.svg"] {
        let svg = read(&dir.path().join(file));
        let texts = texts(&svg).join("\n");
        for price in ["e2e", "Playback stall", "TTFT, median", "Throughput (tokens/s)"] {
            assert!(texts.contains(price), "{file} lacks `{price}`");
        }
        for (_, label, _) in POLICIES {
            assert!(texts.contains(label), "{file} lacks policy `{label}`");
        }
    }
    for file in &files[2..] {
        let svg = read(file);
        let texts = texts(&svg).join("\n");
        for price in ["e2e", "playback stall", "median TTFT", "tokens/s"] {
            assert!(texts.contains(price), "{} lacks `{price}`", file.display());
        }
    }
}

#[test]
fn a_figure_names_scenario_trace_slo_and_notes() {
    let (_dir, files) = draw(&results(&POLICIES, &SCALES), &quantiles(&POLICIES), &timeline(&POLICIES));
    for file in &files {
        let svg = read(file);
        // 1.5 · 70.3 ms = 105.45 ms; 3,211,904 tokens are 3.21 M.
        for fact in ["32k_lambda2.0x_cv1", "200 requests", "3.21 M prompt", "105 ms", "engine-fit:a6000"] {
            assert!(svg.contains(fact), "{} lacks `{fact}`", file.display());
        }
    }
}

#[test]
fn slos_are_marked_with_their_length() {
    let (dir, _) = draw(&results(&POLICIES, &SCALES), &quantiles(&POLICIES), &timeline(&POLICIES));
    let svg = read(&dir.path().join("tbt_cdf.svg"));
    let texts = texts(&svg);
    // 70.3 ms times 1, 1.5 and 2.5, in both panels.
    for label in ["SLO 1× = 70.3 ms", "SLO 1.5× = 105 ms", "SLO 2.5× = 176 ms"] {
        assert_eq!(texts.iter().filter(|text| **text == label).count(), 2, "{label}");
    }
}

#[test]
fn the_pool_is_marked_if_known_and_the_peak_if_not() {
    let mut results = results(&POLICIES[..1], &SCALES);
    let rows = timeline(&POLICIES[..1]);
    let svg_of = |results: &Results| read(&draw(results, &[], &rows).0.path().join("timeline-orbitflow.svg"));
    assert!(svg_of(&results).contains("pool: 17,952 layer-blocks"));
    results.gpu_pool_blocks = None;
    // The peak of the made-up results is 40 blocks below the pool.
    assert!(svg_of(&results).contains("peak: 17,912 layer-blocks"));
}

#[test]
fn steps_beyond_the_axis_are_counted_in_the_title() {
    let (_dir, files) = draw(&results(&POLICIES[..1], &SCALES), &[], &timeline(&POLICIES[..1]));
    // Every 23rd of 4,000 steps is a prefill: 174, counting the first; 3.6 s at the crest of the wave.
    let expected = "174 of 4,000 steps shown go beyond the axis, up to 3.6 s";
    assert!(read(&files[2]).contains(expected));
}

#[test]
fn degenerate_results_give_figures_that_say_so() {
    let one = [POLICIES[0]];
    let nothing_done = TimelineRow {
        running: 0,
        paused: 0,
        waiting: 0,
        gpu_blocks: 0,
        step_s: 0.0,
        stall_s: 0.0,
        ..timeline(&one)[0].clone()
    };
    let zeros: Vec<QuantileRow> = ["tbt_step", "tbt_gap"]
        .map(|metric| QuantileRow {
            policy: "orbitflow".to_owned(),
            metric: metric.to_owned(),
            p: 0.5,
            seconds: 0.0,
        })
        .into();
    let mut unscored = results(&one, &[]);
    unscored.slo_s = f64::NAN;
    unscored.gpu_pool_blocks = Some(u64::MAX);
    unscored.policies[0].throughput_tokens_per_s = f64::INFINITY;

    let (_dir, files) = draw(&results(&one, &[1.0]), &zeros, &[nothing_done]);
    assert_eq!(files.len(), 3);
    let (_dir, files) = draw(&unscored, &[], &[]);
    assert!(read(&files[0]).contains("no SLO scale was scored"));
    assert!(read(&files[1]).contains("no token after a first one was delivered"));
    assert!(read(&files[2]).contains("no step was made"));
}

/// Every text, estimated at 0.53 em per character (what running text takes in DejaVu Sans, a wide face), lies between the sides of the page.
pub fn assert_texts_lie_within_the_page(svg: &str, file: &Path) {
    let number = |tag: &str, name: &str| -> f64 {
        let value = tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.and_then(|(value, _)| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {tag}"))
    };
    // Four drawing units per pixel, 1280 pixels wide.
    let page = 0.0..=4.0 * 1280.0;
    for tag in svg.split("<text").skip(1).filter(|tag| !tag.contains("rotate")) {
        let text = tag.split_once(">\n").expect("a text").1.split('\n').next().expect("a line");
        let text =
            text.replace("&apos;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let width = text.chars().count() as f64 * 0.53 * number(tag, "font-size");
        let (x, before) = match tag {
            tag if tag.contains("\"end\"") => (number(tag, "x"), 1.0),
            tag if tag.contains("\"middle\"") => (number(tag, "x"), 0.5),
            tag => (number(tag, "x"), 0.0),
        };
        let (left, right) = (x - before * width, x + (1.0 - before) * width);
        assert!(
            page.contains(&left) && page.contains(&right),
            "{}: {text}: {left} to {right}",
            file.display()
        );
    }
}

#[test]
fn many_policies_scales_and_long_names_stay_within_the_page() {
    let names: Vec<String> =
        (0..14).map(|index| format!("mine-{index} with a label that goes on & on <and on>")).collect();
    let policies: Vec<(&str, &str, f64)> = names
        .iter()
        .enumerate()
        .map(|(index, name)| (name.as_str(), name.as_str(), 0.6 + 0.1 * index as f64))
        .collect();
    let scales: Vec<f64> = (1..=12).map(|step| f64::from(step) * 0.25).collect();
    let mut many = results(&policies, &scales);
    many.notes = (0..30).map(|index| format!("Note {index}: {}", "a long sentence ".repeat(20))).collect();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plots-many");
    let files = svgs(draw_all(&many, &quantiles(&policies), &[], &[], &kept, false).expect("figures"));

    for file in &files {
        assert_texts_lie_within_the_page(&read(file), file);
    }
    let svg = read(&files[0]);
    assert!(svg.contains("more notes: see `notes` in results.json"));
    assert!(svg.contains("…"), "long labels are cut");
    assert!(files[2].ends_with("timeline-mine-0_with_a_label_that_goes_on___on__and_on_.svg"));
}

#[test]
fn keys_that_differ_only_in_capitals_get_files_of_their_own() {
    let (_dir, files) = draw(&results(&[("A/b", "one", 1.0), ("a b", "two", 1.0)], &SCALES), &[], &[]);
    assert!(files[2].ends_with("timeline-A_b.svg") && files[3].ends_with("timeline-a_b~2.svg"), "{files:?}");
}

#[test]
fn input_that_shows_nothing_is_one_clear_error_and_writes_nothing() {
    let good = results(&POLICIES, &SCALES);
    let mut twice = good.clone();
    twice.policies.push(good.policies[0].clone());
    let mut alien = quantiles(&POLICIES[..1]);
    alien[7].policy = "static-3".to_owned();
    let mut infinite = quantiles(&POLICIES[..1]);
    infinite[2].seconds = f64::INFINITY;
    let mut negative = timeline(&POLICIES[..1]);
    negative[3].stall_s = -1.0;

    let dir = TempDir::new().expect("a scratch folder");
    let out = dir.path().join("plots");
    let refusal = |results: &Results, quantiles: &[QuantileRow], timeline: &[TimelineRow]| -> String {
        draw_all(results, quantiles, timeline, &[], &out, false).expect_err("refused").to_string()
    };
    let said = [
        refusal(&results(&[], &SCALES), &[], &[]),
        refusal(&twice, &[], &[]),
        refusal(&good, &alien, &[]),
        refusal(&good, &infinite, &[]),
        refusal(&good, &[], &negative),
    ];
    let expected = [
        "results.json: `policies` is empty: expected at least one policy",
        "results.json: `policies`: key `orbitflow` occurs twice",
        "quantiles.csv: row 8: policy `static-3` is not in results.json: expected one of `orbitflow`, `static-1`",
        "quantiles.csv: row 3: `seconds` is inf: expected a finite number of seconds ≥ 0",
        "timeline.csv: row 4: `stall_s` is -1: expected a finite number of seconds ≥ 0",
    ];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}");
    }
    assert!(!out.exists(), "nothing is written");
}

#[test]
fn png_copies_are_pictures_or_a_clear_refusal() {
    let (results, quantiles, timeline) =
        (results(&POLICIES, &SCALES), quantiles(&POLICIES), timeline(&POLICIES));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plots-png");
    let drawn = draw_all(&results, &quantiles, &timeline, &[], &kept, true);
    if !cfg!(feature = "png") {
        assert!(matches!(drawn, Err(PlotError::NoPng)), "{drawn:?}");
        return;
    }
    let files = drawn.expect("figures");
    assert_eq!(files.len(), 3 * (2 + POLICIES.len()));
    let png = fs::read(&files[1]).expect("attainment.png");
    assert!(png.starts_with(b"\x89PNG"));
    // Width in bytes 16 to 19: twice the 1280 pixels of the SVG.
    assert_eq!(png[16..20], 2560_u32.to_be_bytes());
}

/// Saves `results`, `quantiles` and `timeline` as `compare` would, and a row for each request that arrived.
fn save(dir: &Path) {
    let json = serde_json::to_string_pretty(&results(&POLICIES, &SCALES)).expect("JSON");
    fs::write(dir.join("results.json"), json).expect("results.json");
    let mut requests =
        "policy,id,state,arrival_s,admitted_s,first_token_s,finish_s,prompt_tokens,output_tokens,\
                        delivered_tokens,slo_s,ttft_s,tpot_step_s,tpot_gap_s,late_step,late_gap,\
                        late_step_deposit,late_gap_deposit,paused_s,pauses,preemptions\n"
            .to_owned();
    for policy in &results(&POLICIES, &SCALES).policies {
        for id in 0..policy.requests.arrived {
            requests += &format!("{},{id},finished,0,0,1,1,1,1,1,0.05,1,,,0,0,0,0,0,0,0\n", policy.key);
        }
    }
    fs::write(dir.join("requests.csv"), requests).expect("requests.csv");
    fs::write(dir.join("states.csv"), "policy,id,state,start_s,end_s\norbitflow,0,decode,0,1\n")
        .expect("states.csv");
    let mut writer = csv::Writer::from_path(dir.join("quantiles.csv")).expect("quantiles.csv");
    quantiles(&POLICIES).iter().for_each(|row| writer.serialize(row).expect("a row"));
    writer.flush().expect("quantiles.csv");
    let mut writer = csv::Writer::from_path(dir.join("timeline.csv")).expect("timeline.csv");
    timeline(&POLICIES).iter().for_each(|row| writer.serialize(row).expect("a row"));
    writer.flush().expect("timeline.csv");
}

fn orbitflow_plot(dir: &Path) -> assert_cmd::assert::Assert {
    Command::cargo_bin("orbitflow").expect("the binary").current_dir(dir).args(["plot", "."]).assert()
}

#[test]
fn plot_redraws_from_saved_files_alone_what_was_drawn_from_memory() {
    let dir = TempDir::new().expect("a scratch folder");
    save(dir.path());
    let said = orbitflow_plot(dir.path()).success();
    let stdout = String::from_utf8(said.get_output().stdout.clone()).expect("UTF-8");
    assert!(stdout.starts_with("./plots/attainment.svg\n./plots/attainment.csv\n./plots/tbt_cdf.svg\n"));

    let (_dir, files) = draw(&results(&POLICIES, &SCALES), &quantiles(&POLICIES), &timeline(&POLICIES));
    for file in files {
        let redrawn = dir.path().join("plots").join(file.file_name().expect("a name"));
        assert_eq!(read(&file), read(&redrawn), "{}", redrawn.display());
    }
}

#[test]
fn plot_names_the_file_and_the_place_of_bad_input() {
    let dir = TempDir::new().expect("a scratch folder");
    let stderr = |dir: &Path| {
        let said = orbitflow_plot(dir).code(2).stdout("");
        String::from_utf8(said.get_output().stderr.clone()).expect("UTF-8")
    };
    assert!(stderr(dir.path()).contains("error: .: no `results.json`, expected a directory"));

    save(dir.path());
    let saved = read(&dir.path().join("results.json"));
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write("results.json", &saved[..saved.len() / 2]);
    assert!(stderr(dir.path()).contains("./results.json: EOF while parsing"));
    write("results.json", &saved.replacen("\"schema_version\": 1", "\"schema_version\": 9", 1));
    assert!(stderr(dir.path()).contains("./results.json: schema_version 9, expected 1"));
    write("results.json", &saved.replacen("\"label\": \"FlexGen\"", "\"label\": 3", 1));
    assert!(
        stderr(dir.path())
            .contains("./results.json: `policies[1].label`: invalid type: integer `3`, expected a string")
    );

    write("results.json", &saved);
    let timeline = read(&dir.path().join("timeline.csv"));
    let first = timeline.lines().nth(1).expect("a row");
    let with_first = |row: &str| timeline.replacen(first, row, 1);
    write("timeline.csv", &with_first("orbitflow,0,1,0,x,0,0,0,1,0,0,0,0"));
    let said = stderr(dir.path());
    assert!(
        said.contains("./timeline.csv") && said.contains("line: 2") && said.contains("invalid digit"),
        "{said}"
    );
    write("timeline.csv", &with_first("orbitflow,0,1,0,0,0,NaN,0,1,0,0,0,0"));
    let said = stderr(dir.path());
    assert!(said.contains("timeline.csv: row 1: `step_s` is NaN: expected a finite number"), "{said}");
}
