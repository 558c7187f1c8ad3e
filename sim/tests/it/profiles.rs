//! Hardware profiles and costs: published lines, datasheet floors, measured tables, and every way a file can be
//! wrong.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use orbitflow_sim::cost::profile::{
    Attention, Check, LinkDirection, ModelShape, Positive, Prefill, PrefillShape,
};
use orbitflow_sim::cost::{
    ComputeForm, ComputeModel, CostModel, CostOptions, HardwareProfile, LinkIntercept, LinkModel,
    PrefillLine, ProfileKind, Verdict, check, gpus, kv_capacity_layer_blocks, load, parse, preset, presets,
    resolve,
};
use orbitflow_sim::model::{self, ModelSpec, TensorParallel};
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration};
use serde_json::{Value, json};

mod commands;
mod contention;
mod datasheets;
mod refusals;

fn llama_8b() -> ModelSpec {
    model::preset("llama-3-8b").unwrap()
}

fn resolved(name: &str, model: &str, options: &CostOptions) -> (CostModel, Vec<String>) {
    resolve(&load(name).unwrap(), &model::preset(model).unwrap(), options).unwrap()
}

fn cost_of(name: &str) -> CostModel {
    resolved(name, "llama-3-8b", &CostOptions::default()).0
}

fn close(value: f64, expected: f64, relative: f64) {
    assert!((value / expected - 1.0).abs() <= relative, "{value} is not {expected}");
}

/// Facts H by preset: A, B of resident steps; A, B of steps with every layer fetched; layers; KV bytes per token.
const PUBLISHED: [(&str, &str, [f64; 4], f64, f64); 4] = [
    ("engine-fit:a5000", "llama-3-8b", [9.63e-7, 4.95e-2, 1.72e-5, 1.39e-2], 32.0, 131_072.0),
    ("engine-fit:a6000", "llama-3-8b", [6.74e-7, 4.06e-2, 1.87e-5, 1.06e-2], 32.0, 131_072.0),
    ("engine-fit:a100", "llama-3-8b", [8.89e-7, 4.83e-2, 1.81e-5, 6.31e-2], 32.0, 131_072.0),
    ("engine-fit:4xa6000-70b", "llama-3-70b", [1.16e-6, 1.32e-1, 5.51e-5, 2.38e-2], 80.0, 327_680.0),
];

#[test]
fn engine_fits_reproduce_the_published_lines() {
    for (name, model, [a, b, a_comm, _], layers, _) in PUBLISHED {
        let (cost, notes) = resolved(name, model, &CostOptions::default());
        for tokens in [0, 1000, 8976, 131_072] {
            let step_s = cost.compute_s(tokens, 4);
            close(step_s, a * tokens as f64 + b, 1e-12);
            close(cost.layer_compute(tokens, 4).as_secs_f64(), step_s / layers, 1e-9);
        }
        // Copying all layers of one token takes the Communication slope.
        let spec = model::preset(model).unwrap();
        close(cost.h2d.copy_time_s(spec.kv_bytes_per_token() * 1000), a_comm * 1000.0, 1e-9);
        assert_eq!((cost.tail(4), cost.link_intercept), (SimDuration::ZERO, SimDuration::ZERO));
        assert!(notes.iter().any(|note| note.contains("published fit")), "{notes:?}");
        assert!(notes.iter().any(|note| note == "prefill: datasheet × 0.5"), "{notes:?}");
    }
    // SLO base of the paper's A6000: 6.74e-7 · 16·561 + 4.06e-2 = 46.650 ms (facts A.9)
    let base_ms = cost_of("engine-fit:a6000").compute_s(8976, 4) * 1e3;
    assert!((base_ms - 46.650).abs() < 0.0005, "{base_ms}");
}

#[test]
fn engine_fit_links_are_the_communication_slope_and_its_constant() {
    // Layer-blocks per second (facts A.8), intercept B_comm − B_compute/L in ms.
    let expected = [(116_279, 12.353_125), (106_952, 9.331_25), (110_497, 61.590_625), (90_744, 22.15)];
    let per_step = CostOptions { link_intercept: LinkIntercept::PerStep, ..CostOptions::default() };
    for ((name, model, [_, b, a_comm, b_comm], layers, kv), (blocks_per_s, intercept_ms)) in
        PUBLISHED.into_iter().zip(expected)
    {
        let (cost, _) = resolved(name, model, &per_step);
        close(cost.h2d.rate.get() as f64, kv / a_comm, 1e-9);
        let per_s = (cost.h2d.rate.get() / 65_536) as i64;
        assert!((per_s - blocks_per_s).abs() <= 1, "{name}: {per_s} layer-blocks/s");
        let intercept = cost.link_intercept.as_secs_f64();
        close(intercept, b_comm - b / layers, 1e-9);
        close(intercept * 1e3, intercept_ms, 1e-6);
        assert_eq!(cost.h2d.latency, SimDuration::ZERO);
        assert_eq!(cost.h2d, cost.d2h);
    }
}

#[test]
fn rooflines_are_the_floors_of_the_datasheet() {
    let cost = cost_of("roofline:h200-sxm");
    // Weights: 32 layers of 436.2 MB and a head of 1051 MB over 4800 GB/s; KV: 131072 B per token.
    let params_layer = 4096.0 * (2.0 * 4096.0 + 2.0 * 1024.0) + 3.0 * 4096.0 * 14_336.0 + 2.0 * 4096.0;
    let streamed = 2.0 * (32.0 * params_layer + 128_256.0 * 4096.0);
    close(cost.compute_s(0, 1), streamed / 4800e9, 1e-12);
    close(cost.compute_s(131_072, 16), streamed / 4800e9 + 131_072.0 * 131_072.0 / 4800e9, 1e-12);
    // Above B = streamed/4800e9 · 989e12 / (2·8.03e9) ≈ 193 requests tensor work takes over.
    let params = llama_8b().params() as f64;
    close(cost.compute_s(0, 512), 512.0 * 2.0 * params / 989e12, 1e-12);
    assert_eq!(cost.compute_s(0, 190), cost.compute_s(0, 1));
    assert_eq!(cost.h2d.rate.get(), 63_000_000_000);

    // gpu-measurement.md §2.8 at 4.3 TB/s: step weights 3.49 ms for 8B, 32.3 ms for 70B.
    let mut h200 = preset("roofline:h200-sxm").unwrap();
    h200.compute.datasheet.as_mut().unwrap().hbm_bytes_per_s = Positive::literal(4.3e12);
    for (model, step_ms) in [("llama-3-8b", 3.49), ("llama-3-70b", 32.3), ("qwen2.5-14b", 6.5)] {
        let (cost, _) = resolve(&h200, &model::preset(model).unwrap(), &CostOptions::default()).unwrap();
        close(cost.compute_s(0, 1) * 1e3, step_ms, 0.01);
    }
}

#[test]
fn prefill_without_a_table_is_half_the_datasheets_tensor_rate_and_at_least_the_weights() {
    let cost = cost_of("engine-fit:a6000");
    let params = llama_8b().params() as f64;
    let work = |p: f64| 2.0 * params * p + 2.0 * 32.0 * 32.0 * 128.0 * p * p;
    let rate = 0.5 * 155e12;
    // 2·8.03e9·8192 + 2·32·4096·8192² = 1.316e14 + 1.76e13 FLOP at 77.5 TFLOP/s = 1.92 s
    close(cost.prefill([8192]).as_secs_f64(), work(8192.0) / rate, 1e-9);
    close(cost.prefill([8192]).as_secs_f64(), 1.92, 0.005);
    close(cost.prefill([8192, 100]).as_secs_f64(), (work(8192.0) + work(100.0)) / rate, 1e-9);
    // One token is bound by reading the streamed weights: 15.0 GB / 768 GB/s = 19.5 ms
    let weights_s = llama_8b().streamed_weight_bytes().get() as f64 / 768e9;
    close(cost.prefill([1]).as_secs_f64(), weights_s, 1e-9);

    // The tensor and memory rates behind the other engine fits.
    let half = [("engine-fit:a5000", 111e12), ("engine-fit:a100", 312e12)];
    for (name, flops) in half {
        close(cost_of(name).prefill([8192]).as_secs_f64(), work(8192.0) / (0.5 * flops), 1e-9);
    }
    let four = load("engine-fit:4xa6000-70b").unwrap().compute.datasheet.unwrap();
    assert_eq!((four.bf16_flops_per_s.get(), four.hbm_bytes_per_s.get()), (620e12, 3072e9));
    assert_eq!(four.memory_bytes.get(), 192 << 30);
}

#[test]
fn the_scenarios_wishes_win_over_the_profile_and_are_noted() {
    // "25.19 GiB/s", the ideal PCIe 4 option: 412,713 layer-blocks per second (facts A.1).
    let rate = BytesPerSec::try_from_f64(25.19 * f64::from(1 << 30)).unwrap();
    let options = CostOptions {
        link_rate: Some(rate),
        prefill: Some(PrefillLine { base_s: 0.5, per_token_s: 1e-4 }),
        compute: Some(ComputeForm::Roofline),
        ..CostOptions::default()
    };
    let (cost, notes) = resolved("engine-fit:a6000", "llama-3-8b", &options);
    assert_eq!((cost.h2d.rate, cost.d2h.rate), (rate, rate));
    assert!((cost.h2d.rate.get() / 65_536).abs_diff(412_713) <= 1);
    assert_eq!(cost.prefill([1000, 2000]).as_secs_f64(), 0.8); // 0.5 + 3000 · 0.1 ms
    assert!(matches!(cost.compute, ComputeModel::Roofline { .. }));
    assert!(notes.iter().filter(|note| note.contains("as the scenario says")).count() == 2, "{notes:?}");

    for (base_s, per_token_s, key) in [
        (f64::NAN, 0.0, "base"),
        (-1.0, 0.0, "base"),
        (0.0, f64::INFINITY, "per_token"),
        (0.0, 1.0, "per_token"),
    ] {
        let prefill = Some(PrefillLine { base_s, per_token_s });
        let options = CostOptions { prefill, ..CostOptions::default() };
        let error = resolve(&load("roofline:l4").unwrap(), &llama_8b(), &options).unwrap_err().to_string();
        assert!(error.contains(&format!("prefill {key} = ")), "{error}");
    }
}

#[test]
fn an_engine_fit_refuses_a_model_of_another_kv_geometry_and_says_which_preset_fits() {
    let refused = |name: &str, model: &str| {
        let model = model::preset(model).unwrap();
        resolve(&load(name).unwrap(), &model, &CostOptions::default()).unwrap_err().to_string()
    };
    let error = refused("engine-fit:a6000", "llama-3-70b");
    assert!(error.contains("fitted with llama-3-8b (32 layers, 131072 B"), "{error}");
    assert!(error.contains("hint: engine-fit:4xa6000-70b fits this model"), "{error}");
    let error = refused("engine-fit:4xa6000-70b", "phi-3-mini");
    assert!(error.contains("hint: a `roofline:` preset takes any model"), "{error}");
    // The same geometry under another name runs, with a warning.
    let (_, notes) = resolved("engine-fit:a6000", "mistral-7b", &CostOptions::default());
    let warning = "warning: mistral-7b runs on times fitted with llama-3-8b";
    assert!(notes.iter().any(|note| note == warning), "{notes:?}");
}

#[test]
fn kv_capacity_is_memory_less_a_tenth_less_weights() {
    let capacity = |name: &str, model: &str| {
        kv_capacity_layer_blocks(&load(name).unwrap(), &model::preset(model).unwrap(), TensorParallel::NONE)
    };
    // 48 GiB · 0.9 − 2·8,030,261,248 B = 30,325,124,301 B of room, in blocks of 65,536 B
    let room = (48_u64 << 30) - (48_u64 << 30) / 10 - 2 * 8_030_261_248;
    assert_eq!(capacity("engine-fit:a6000", "llama-3-8b").unwrap(), room / 65_536);
    let error = capacity("roofline:h100-sxm", "llama-3-70b").unwrap_err().to_string();
    assert!(error.contains("weights take 141"), "{error}");
    assert!(error.contains("hint: "), "{error}");
    let mut unknown = preset("roofline:l4").unwrap();
    unknown.compute.datasheet = None;
    assert!(kv_capacity_layer_blocks(&unknown, &llama_8b(), TensorParallel::NONE).is_err());
}

#[test]
fn every_preset_passes_its_checks_and_survives_a_round_trip() {
    let names: Vec<String> = presets().into_iter().map(|preset| preset.name).collect();
    assert_eq!(names.len(), 4 + gpus().len());
    for name in &names {
        let profile = load(name).unwrap();
        let text = serde_json::to_string_pretty(&profile).unwrap();
        assert_eq!(parse(name, &text).unwrap(), profile, "{name}");
        assert!(!profile.is_measured());
        let failures: Vec<_> =
            check(&profile).into_iter().filter(|finding| finding.verdict == Verdict::Failure).collect();
        assert_eq!(failures, [], "{name}");
    }
    for name in ["roofline:h100-sxm", "roofline:a100-80-sxm", "roofline:gh200-144", "roofline:b200"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}

fn table(points: &[(u32, f64)]) -> BTreeMap<u32, Positive> {
    points.iter().map(|&(key, seconds)| (key, Positive::literal(seconds))).collect()
}

/// A made-up measurement of Llama-3-8B with round numbers.
fn synthetic() -> HardwareProfile {
    let model = llama_8b();
    let positive = |value: f64| Some(Positive::literal(value));
    let mut profile =
        HardwareProfile::new(ProfileKind::Measured, "made up for tests", "Test GPU", Positive::literal(50e9));
    profile.backend = Some("cuda".to_owned());
    profile.provenance.tool_version = Some("0.0.0".to_owned());
    profile.provenance.utc = Some("2026-11-23T00:00:00Z".to_owned());
    profile.link.h2d = LinkDirection {
        api: Some("async".to_owned()),
        mem: Some("pinned".to_owned()),
        bw_small_bytes_per_s: positive(5e9),
        knee_bytes: NonZeroU64::new(28_672),
        latency_s: positive(2e-6),
        ..LinkDirection::of_rate(Positive::literal(50e9))
    };
    profile.link.d2h = Some(LinkDirection::of_rate(Positive::literal(40e9)));
    profile.compute.model_shapes = vec![ModelShape {
        model: "llama-3-8b".to_owned(),
        layers: NonZeroU32::new(model.layers).unwrap(),
        kv_bytes_per_token_layer: NonZeroU64::new(4096).unwrap(),
        weight_bytes_per_layer: NonZeroU64::new(model.layer_weight_bytes().get()).unwrap(),
        layer_weights_s_by_batch: table(&[(1, 100e-6), (8, 114e-6), (16, 130e-6)]),
        lm_head_s_by_batch: table(&[(1, 250e-6), (16, 265e-6)]),
        attn: Attention {
            floor_s: positive(10e-6),
            c_s: positive(4e-6),
            bytes_per_s: Positive::literal(4.096e12),
            gqa: NonZeroU32::new(4),
            fit: None,
        },
        layer_other_s: positive(6e-6),
        step_fixed_s: positive(50e-6),
        affine: None,
    }];
    profile.compute.tail_s = positive(1e-3);
    profile.prefill = Some(Prefill {
        model_shapes: vec![PrefillShape {
            model: "llama-3-8b".to_owned(),
            layers: NonZeroU32::new(model.layers).unwrap(),
            weight_bytes_per_layer: NonZeroU64::new(model.layer_weight_bytes().get()).unwrap(),
            s_by_prompt_tokens: table(&[(512, 0.02), (1024, 0.03), (4096, 0.12)]),
            attention: None,
        }],
    });
    profile.checks = vec![Check {
        name: "attn_fp64".to_owned(),
        worst_rel: Some(1e-6),
        bound: Some(2e-3),
        pass: true,
        ..Check::default()
    }];
    for section in ["provenance", "device", "link", "hbm", "compute", "contention", "validation", "drift"] {
        profile.say_missing(section, "made up for tests");
    }
    profile
}

#[test]
fn measured_tables_are_interpolated_with_the_attention_hinge_and_the_head_after_the_layers() {
    let (cost, notes) = resolve(&synthetic(), &llama_8b(), &CostOptions::default()).unwrap();
    // Per token 4096 B / 4.096 TB/s = 1 ns. 1000 tokens: 4 + 1 = 5 µs, below the floor of 10 µs.
    assert_eq!(cost.layer_compute(1000, 1).as_picos(), 116_000_000); // 100 + 10 + 6 µs
    // 100,000 tokens: 4 + 100 µs; B = 4: 100 + (114−100)/7·3 = 106 µs
    assert_eq!(cost.layer_compute(100_000, 4).as_picos(), 216_000_000); // 106 + 104 + 6 µs
    // B = 32, beyond the table: 130 + (130−114)/8·16 = 162 µs
    assert_eq!(cost.layer_compute(1000, 32).as_picos(), 178_000_000);
    // After the layers, B = 4: head 250 + 15/15·3 = 253 µs, fixed 50 µs, tail 1 ms.
    assert_eq!(cost.tail(4).as_picos(), 1_303_000_000);
    // The SLO's base has the head but not the tail: 32 · 216 + 303 µs
    close(cost.compute_s(100_000, 4), 32.0 * 216e-6 + 303e-6, 1e-12);
    close(cost.layer_compute_s(100_000, 4), 216e-6, 1e-12);
    // Prefill: 0.03 + (0.12−0.03)/3072·1024 = 0.06; 256 tokens take what 512 take.
    close(cost.prefill([2048]).as_secs_f64(), 0.06, 1e-9);
    close(cost.prefill([2048, 256]).as_secs_f64(), 0.08, 1e-9);
    assert!(notes.iter().any(|note| note == "hardware: Test GPU: measured"), "{notes:?}");
}

#[test]
fn the_measured_link_has_two_regimes() {
    let (cost, _) = resolve(&synthetic(), &llama_8b(), &CostOptions::default()).unwrap();
    // 16 KiB at 5 GB/s = 3.2768 µs; 64 KiB at 50 GB/s = 1.31072 µs; 2 µs before each.
    assert_eq!(cost.h2d.copy_time(Bytes::new(16_384)).as_picos(), 5_276_800);
    assert_eq!(cost.h2d.copy_time(Bytes::new(65_536)).as_picos(), 3_310_720);
    let d2h = LinkModel::line(SimDuration::ZERO, BytesPerSec::try_from(40_000_000_000).unwrap());
    assert_eq!(cost.d2h, d2h);
}

#[test]
fn a_profile_is_called_measured_only_if_its_kind_says_so_and_every_check_passed() {
    let good = synthetic();
    assert!(good.is_measured());
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(parse("good", &text).unwrap(), good);

    let note = Some("no NVML here".to_owned());
    let waived = Check { name: "nvml".to_owned(), waived: true, note, ..Check::default() };
    let mut partly = good.clone();
    partly.checks.push(waived.clone());
    assert!(partly.is_measured(), "what could not be checked did not fail");
    let failures = |profile: &HardwareProfile| {
        check(profile).into_iter().filter(|finding| finding.verdict == Verdict::Failure).count()
    };
    assert_eq!(failures(&partly), 0, "the note says why there are no numbers");
    partly.checks[1].note = None;
    assert_eq!(failures(&partly), 1, "nothing says why");

    let mut failed = good.clone();
    failed.checks[0].pass = false;
    let mut unchecked = good.clone();
    unchecked.checks.clear();
    let mut waived_only = good.clone();
    waived_only.checks = vec![Check { pass: true, ..waived.clone() }];
    let mut failed_beside = failed.clone();
    failed_beside.checks.push(waived);
    for profile in [failed, unchecked, waived_only, failed_beside] {
        assert!(!profile.is_measured());
        let (_, notes) = resolve(&profile, &llama_8b(), &CostOptions::default()).unwrap();
        assert!(notes[0].contains("unconfirmed"), "{notes:?}");
    }
    let mut emulated = good.clone();
    emulated.kind = ProfileKind::HostEmulation;
    assert!(!emulated.is_measured());
    // A kind that the backend does not bear out is refused.
    let error = resolve(&emulated, &llama_8b(), &CostOptions::default()).unwrap_err().to_string();
    assert!(error.contains("kind: \"host-emulation\": expected `backend` \"host\""), "{error}");
}

#[test]
fn a_measured_profile_refuses_a_model_it_did_not_measure() {
    let qwen = model::preset("qwen2.5-7b").unwrap();
    let error = resolve(&synthetic(), &qwen, &CostOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no measured times for qwen2.5-7b: the profile has llama-3-8b"), "{error}");
    assert!(error.contains("hint: measure this model"), "{error}");
    // Without a prefill table and a datasheet there is nothing to stand in.
    let mut profile = synthetic();
    profile.prefill = None;
    profile.say_missing("prefill", "made up for tests");
    let error = resolve(&profile, &llama_8b(), &CostOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no prefill times"), "{error}");
}

/// Every section of `gpu-measurement.md` §4.4, as `gpu-validate` will write it, with two known gaps.
const EVERYTHING: &str = include_str!("../profiles/everything.json");

#[test]
fn everything_that_the_gpu_program_measures_can_be_written_and_read() {
    let profile = parse("everything", EVERYTHING).unwrap();
    let again = serde_json::to_value(&profile).unwrap();
    assert_eq!(parse("again", &again.to_string()).unwrap(), profile);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let written: Value = serde_json::from_str(EVERYTHING).unwrap();
    assert_eq!(keys(&again), keys(&written));
    for section in ["link", "prefill", "contention", "validation", "checks"] {
        assert_eq!(again[section], written[section], "every key of `{section}` survives");
    }

    let findings = check(&profile);
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Failure), "{findings:?}");
    let warnings: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Warning)
        .map(|finding| finding.text.as_str())
        .collect();
    let p95 = "validation.summary.p95_abs: 20.0 %: expected at most 10 %";
    let waived = "checks: `nvml_clocks` was waived (no NVML here)";
    assert_eq!(warnings, [waived, "dropped for lack of time: E8", p95]);
    assert!(profile.is_measured());

    let model = ModelSpec { name: "my-llama".to_owned(), ..llama_8b() };
    let (cost, notes) = resolve(&profile, &model, &CostOptions::default()).unwrap();
    // 4 blocks in pieces of 64 KiB: 4 µs + 4 · 65,536 B / 55 GB/s
    close(cost.h2d.copy_time_s(Bytes::new(4 * 65_536)), 4e-6 + 4.0 * 65_536.0 / 55e9, 1e-12);
    for note in [
        "compute: my-llama has the shape of llama-3-8b, whose times are used",
        "prefill: table of llama-3-8b (measured, its attention datasheet × 0.5), prompts up to 1024 tokens, \
         beyond that the last slope",
        "contention: `h2d|layer` not measured, the largest of the single kernels stands in: `h2d|attn` 1.1",
        "contention: a copy takes 1.1 times as long while a layer computes, a layer 1.01 times as long while a \
         copy runs (measured); forecasts leave it out",
        "warning: the profile's `link.bidir` is not applied: copies and write-through do not slow each other",
    ] {
        assert!(notes.iter().any(|said| said == note), "{note} in {notes:?}");
    }
    // Its own line is one choice away.
    let options = CostOptions { compute: Some(ComputeForm::Affine), ..CostOptions::default() };
    let (line, _) = resolve(&profile, &model, &options).unwrap();
    close(line.compute_s(100_000, 1), 3e-8 * 1e5 + 4e-3, 1e-12);
}

#[test]
fn the_json_schema_names_every_section_and_refuses_zero() {
    let schema = serde_json::to_value(schemars::schema_for!(HardwareProfile)).unwrap();
    let profile = serde_json::to_value(synthetic()).unwrap();
    for key in profile.as_object().unwrap().keys() {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    assert!(schema.to_string().contains("\"exclusiveMinimum\":0"));
    assert_eq!(schema["additionalProperties"], json!(false));
}
