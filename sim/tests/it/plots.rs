//! The figures: what they show, that they repeat byte for byte, and what they say to input that shows nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use orbitflow_sim::plot::{PlotError, draw_all};
use orbitflow_sim::report::rows::{
    AboveBound, Attainment, Busy, Distribution, ForecastError, PauseCounts, PlanCounts, PolicyResult,
    QuantileRow, RequestCounts, Results, SCHEMA_VERSION, ScaleResult, StepCounts, TimelineRow, TokenCounts,
    TraceSummary, Traffic,
};
use tempfile::TempDir;

/// Key, label, and how slow the method is: its median step in units of the SLO at scale 1.
pub const POLICIES: [(&str, &str, f64); 7] = [
    ("orbitflow", "OrbitFlow", 0.8),
    ("static-1", "FlexGen", 1.5),
    ("static-2", "Static, distance 2", 1.15),
    ("static-4", "Static, distance 4", 0.95),
    ("heuristic", "Dynamic heuristic", 1.05),
    ("next-layer", "DeepSpeed", 2.1),
    ("resident", "No offload", 0.6),
];
pub const SCALES: [f64; 3] = [1.5, 1.0, 2.5];
const BASE_SLO_S: f64 = 0.0703;
const POOL: u64 = 17_952;

/// Results as `compare` would write them; the numbers are made up, their ranges are real.
pub fn results(policies: &[(&str, &str, f64)], scales: &[f64]) -> Results {
    Results {
        schema_version: SCHEMA_VERSION,
        tool_version: "0.1.0".to_owned(),
        scenario: "32k_lambda2.0x_cv1".to_owned(),
        scenario_digest: "3f2a9c51d07be8846622".to_owned(),
        seed: 42,
        switches: BTreeMap::from([("engine.admission".to_owned(), "strict".to_owned())]),
        notes: vec![
            "Hardware engine-fit:a6000: coefficients fitted by the OrbitFlow authors to their engine, not measured by us."
                .to_owned(),
            "Arrivals are in engine steps, so the offered load per second depends on the policy.".to_owned(),
        ],
        overrides: Vec::new(),
        trace: TraceSummary {
            requests: 200,
            prompt_tokens: 3_211_904,
            output_tokens: 81_220,
            last_arrival_s: None,
            last_arrival_step: Some(14_210),
        },
        slo_s: BASE_SLO_S * scales.first().copied().unwrap_or(1.0),
        gpu_pool_blocks: Some(POOL),
        policies: policies.iter().map(|policy| policy_result(policy, scales)).collect(),
    }
}

pub fn policy_result(&(key, label, slowness): &(&str, &str, f64), scales: &[f64]) -> PolicyResult {
    let by_slo_scale: Vec<ScaleResult> = scales
        .iter()
        .map(|&scale| {
            // The share of a spread-out distribution below `scale`.
            let on_time = |shift: f64| 100.0 / (1.0 + (slowness * shift / scale).powi(6));
            ScaleResult {
                scale,
                slo_s: BASE_SLO_S * scale,
                rerun: key == "orbitflow",
                attainment_pct: Attainment {
                    tbt_step: on_time(1.05),
                    tbt_gap: on_time(1.25),
                    tbt_step_deposit: on_time(0.95),
                    tbt_gap_deposit: on_time(1.15),
                    tpot_step: on_time(1.1),
                    tpot_gap: on_time(1.3),
                    ttft: on_time(1.8),
                    e2e: on_time(2.0),
                },
                playback_stall_pct: Some(100.0 - on_time(1.2)),
                goodput_requests_per_s: on_time(1.3) / 2000.0,
                ttft_p50_s: Some(slowness),
                throughput_tokens_per_s: 100.0 / slowness,
            }
        })
        .collect();
    let planned = by_slo_scale.first();
    let spread = |median: f64| Distribution {
        mean: Some(median * 1.2),
        p50: Some(median),
        p90: Some(median * 2.0),
        p95: Some(median * 3.0),
        p99: Some(median * 5.0),
        max: Some(median * 9.0),
    };
    PolicyResult {
        key: key.to_owned(),
        label: label.to_owned(),
        requests: RequestCounts { arrived: 200, finished: 197, rejected: 1, unfinished: 2, capped: 2 },
        tokens: TokenCounts { due: 81_020, delivered: 79_400 },
        attainment_pct: planned.map_or_else(Attainment::default, |scored| scored.attainment_pct),
        playback_stall_pct: planned.and_then(|scored| scored.playback_stall_pct),
        by_slo_scale,
        tbt_step_s: spread(slowness * BASE_SLO_S),
        tbt_gap_s: spread(slowness * BASE_SLO_S * 1.2),
        tpot_step_s: spread(slowness * BASE_SLO_S),
        tpot_gap_s: spread(slowness * BASE_SLO_S * 1.2),
        ttft_s: spread(3.0 * slowness * slowness),
        e2e_s: spread(60.0 * slowness),
        makespan_s: 1200.0 * slowness,
        throughput_tokens_per_s: 66.0 / slowness,
        requests_per_min: Some(10.0 / slowness),
        goodput_requests_per_s: 0.1,
        busy_s: Busy::default(),
        bytes: Traffic::default(),
        steps: StepCounts { decode: 3_826, prefill: 174 },
        plans: PlanCounts::default(),
        forecast_error_pct: ForecastError::default(),
        above_bound_pct: AboveBound::default(),
        pauses: PauseCounts { count: if key == "orbitflow" { 14 } else { 0 }, longest_s: 31.0 },
        preemptions: if key == "resident" { 23 } else { 0 },
        refused_placements: 0,
        peak_gpu_blocks: POOL - 40,
        peak_host_bytes: 40_000_000_000,
        event_digest: String::new(),
    }
}

/// 1,001 quantiles per policy and metric of a logistic distribution on a logarithmic axis; gaps have a heavier tail.
pub fn quantiles(policies: &[(&str, &str, f64)]) -> Vec<QuantileRow> {
    let mut rows = Vec::new();
    for &(key, _, slowness) in policies {
        for (metric, tail) in [("tbt_step", 0.0), ("tbt_gap", 4.0)] {
            for index in 0..=1000_u32 {
                let p = f64::from(index) / 1000.0;
                let odds = (p.max(0.0005) / (1.0 - p).max(0.0005)).powf(1.0 / 9.0);
                let pause = 10_f64.powf(tail * (p - 0.93).max(0.0) / 0.07);
                let seconds = BASE_SLO_S * slowness * odds * pause;
                rows.push(QuantileRow { policy: key.to_owned(), metric: metric.to_owned(), p, seconds });
            }
        }
    }
    rows
}

/// 4,000 steps per policy: waves of load, a prefill every 23 steps, pauses where the pool is full.
pub fn timeline(policies: &[(&str, &str, f64)]) -> Vec<TimelineRow> {
    let mut rows = Vec::new();
    for &(key, _, slowness) in policies {
        let mut t_s = 0.0;
        for step in 0..4000_u32 {
            let load = 4.0 + 3.6 * (f64::from(step) / 310.0).sin() * (f64::from(step) / 97.0).cos();
            let live = (load.round() as u32).min(4);
            let paused = u32::from(live == 4 && key == "orbitflow" && (step / 60) % 3 == 0);
            let is_prefill = step % 23 == 0;
            let wave = 1.0 + 0.2 * (f64::from(step) / 41.0).sin();
            let decode_s = BASE_SLO_S * slowness * wave * f64::from(live - paused + 2) / 6.0;
            let step_s = if is_prefill { 2.4 + wave } else { decode_s };
            let held = f64::from(live - paused) / 4.0 * (0.8 + 0.2 * f64::from(step % 500) / 500.0);
            rows.push(TimelineRow {
                policy: key.to_owned(),
                t_s,
                running: live - paused,
                paused,
                waiting: (load.round() as u32) - live,
                gpu_blocks: ((POOL as f64 * held) as u64).min(POOL),
                step_s,
                stall_s: if is_prefill { 0.0 } else { decode_s * 0.35 },
                steps: 1,
                from_s: t_s,
                to_s: t_s + step_s,
                h2d_bytes: if is_prefill { 0 } else { 100_000_000 },
                d2h_bytes: 1_000_000,
            });
            t_s += step_s;
        }
    }
    rows
}

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
    fs::write(dir.join("states.csv"), "policy,id,state,start_s,end_s\n").expect("states.csv");
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
