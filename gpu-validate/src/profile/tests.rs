//! The whole way from made-up measurements to a profile that the simulator accepts and runs on.

use orbitflow_sim::cost::profile::{Device as DeviceRecord, Host, Positive, ValidationSummary};
use orbitflow_sim::cost::{CostOptions, Verdict, check, parse, resolve};
use orbitflow_sim::model::ModelSpec;

use super::*;
use crate::device::{CopyApi, Direction, HostMemory};
use crate::results::*;
use crate::sample::Timing;

fn timing(seconds: f64) -> Timing {
    Timing::of(&[seconds; 5])
}

fn run(backend: Backend) -> RunInfo {
    RunInfo {
        backend,
        tool_version: "0.1.0".to_owned(),
        git_commit: None,
        utc: Some("2026-11-23T12:00:00Z".to_owned()),
        duration_s: 200.0,
        seed: 1,
        argv: vec!["gpu-validate".to_owned(), "run".to_owned()],
        curves: Some("curves.csv".to_owned()),
        samples: Vec::new(),
        resamples: 20,
    }
}

fn facts() -> Facts {
    let mut device = DeviceRecord::named("NVIDIA H200");
    device.mem_bytes = (141_u64 << 30).try_into().ok();
    Facts {
        device,
        host: Host::default(),
        sm_count: 132,
        l2_bytes: 50 << 20,
        memory_bytes: 140 << 30,
        host_memory_bytes: 64 << 30,
        missing: vec![
            ("device.uuid".to_owned(), "NVML is absent".to_owned()),
            // There is no null here: the reason is left out.
            ("device.mem_bytes".to_owned(), "never".to_owned()),
        ],
        warnings: Vec::new(),
    }
}

/// Products at 4 TB/s of weights or 700 TFLOP/s, whichever is slower.
fn gemm_s(out: u32, inner: u32, rows: u32) -> f64 {
    let weights = f64::from(out) * f64::from(inner);
    (2.0 * weights / 4e12).max(2.0 * weights * f64::from(rows) / 700e12)
}

fn matrices(model: &ModelSpec) -> [(Matrix, u32, u32); 5] {
    let heads = model.heads * model.head_dim;
    [
        (Matrix::Qkv, heads + 2 * model.kv_heads * model.head_dim, model.hidden),
        (Matrix::Output, model.hidden, heads),
        (Matrix::GateUp, 2 * model.intermediate, model.hidden),
        (Matrix::Down, model.hidden, model.intermediate),
        (Matrix::LmHead, model.vocab, model.hidden),
    ]
}

/// max(8 µs, 4 µs + bytes/3.6 TB/s).
fn attention_s(kv_bytes: u64) -> f64 {
    8e-6_f64.max(4e-6 + kv_bytes as f64 / 3.6e12)
}

fn step_s(model: &ModelSpec, layers: u32, contexts: &[u32]) -> f64 {
    let batch = contexts.len() as u32;
    let [head, products] = [4..5, 0..4].map(|range| {
        matrices(model)[range].iter().map(|(_, out, inner)| gemm_s(*out, *inner, batch)).sum::<f64>()
    });
    let tokens: u64 = contexts.iter().map(|tokens| u64::from(*tokens)).sum();
    let attention = attention_s(tokens * model.kv_bytes_per_token_layer().get());
    // 10 µs per layer, 30 µs per step.
    f64::from(layers) * (products + attention + 10e-6) + head + 30e-6
}

fn gemms(scale: &Scale, model: &ModelSpec) -> Vec<GemmPoint> {
    let rows = || scale.batches.iter().chain(&scale.prefill_rows);
    let point = |(matrix, out, inner), rows| GemmPoint {
        model: model.name.clone(),
        matrix,
        rows,
        out,
        inner,
        timing: timing(gemm_s(out, inner, rows)),
    };
    matrices(model).into_iter().flat_map(|matrix| rows().map(move |rows| point(matrix, *rows))).collect()
}

fn attention(scale: &Scale) -> Vec<AttentionPoint> {
    let model = &scale.fitted;
    let mut points = Vec::new();
    for group in &scale.groups {
        for batch in [1_u32, 4, 16] {
            for &context in &scale.contexts {
                let contexts = vec![context; batch as usize];
                let kv_bytes = u64::from(batch) * u64::from(context) * model.kv_bytes_per_token_layer().get();
                if u64::from(batch) * u64::from(context) <= scale.most_tokens {
                    points.push(AttentionPoint {
                        heads: group * model.kv_heads,
                        kv_heads: model.kv_heads,
                        head_dim: model.head_dim,
                        contexts,
                        splits: 4,
                        kv_bytes,
                        timing: timing(attention_s(kv_bytes)),
                    });
                }
            }
        }
    }
    points
}

/// 4 µs + bytes/rate, `rate` 55 GB/s in and 50 GB/s out.
fn copies() -> Vec<CopyPoint> {
    let mut points = Vec::new();
    for (direction, rate) in [(Direction::H2d, 55e9), (Direction::D2h, 50e9)] {
        for (api, pieces) in
            [(CopyApi::Async, 1), (CopyApi::Batch, 16), (CopyApi::SmGather { blocks: 8 }, 16)]
        {
            for power in 12..=26 {
                let bytes = f64::from(pieces) * f64::from(1_u32 << power);
                points.push(CopyPoint {
                    direction,
                    api,
                    pieces,
                    piece_bytes: 1 << power,
                    timing: timing(4e-6 + bytes / rate),
                    submit_s: (api == CopyApi::Async).then_some(2e-6),
                });
            }
        }
    }
    points
}

fn link() -> Vec<LinkPoint> {
    let point = |direction, memory, opposite_busy, rate: f64| LinkPoint {
        direction,
        memory,
        opposite_busy,
        bytes: 1 << 32,
        timing: timing((1_u64 << 32) as f64 / rate),
    };
    vec![
        point(Direction::H2d, HostMemory::Pinned, false, 55e9),
        point(Direction::H2d, HostMemory::Pinned, true, 44e9),
        point(Direction::D2h, HostMemory::Pinned, false, 50e9),
        point(Direction::H2d, HostMemory::Pageable, false, 12e9),
        point(Direction::H2d, HostMemory::PinnedWriteCombined, false, 54e9),
    ]
}

fn check_point(name: &str, pass: Option<bool>) -> CheckPoint {
    CheckPoint {
        name: name.to_owned(),
        what: "sizes".to_owned(),
        worst: pass.map(|_| 1e-5),
        bound: 2e-3,
        pass,
        note: pass.is_none().then(|| "no data here".to_owned()),
    }
}

fn measurements(scale: &Scale) -> Measurements {
    let model = &scale.fitted;
    let memory = |usage| MemoryPoint { usage, bytes: 4 << 30, timing: timing((4_u64 << 30) as f64 / 4e12) };
    let alone = timing(1e-3);
    let contention = ContentionPoint {
        background: Background::Layer,
        traffic: Traffic::H2d,
        compute_alone: alone,
        compute_together: timing(1.02e-3),
        copy_alone: alone,
        copy_together: timing(1.1e-3),
    };
    let mut steps = Vec::new();
    for &layers in &scale.step_layers {
        for &(batch, context) in &scale.step_grid {
            let contexts = vec![context; batch as usize];
            let timing = timing(step_s(model, layers, &contexts));
            let submission = Submission::Stream;
            steps.push(StepPoint { model: model.name.clone(), layers, contexts, submission, timing });
        }
    }
    let mut gemms_of_all = gemms(scale, model);
    gemms_of_all.extend(gemms(scale, &scale.held_out));
    Measurements {
        link: link(),
        copies: copies(),
        layouts: vec![LayoutPoint {
            block_tokens: 16,
            fused: true,
            run: 1,
            api: CopyApi::Batch,
            pieces: 1024,
            bytes: 64 << 20,
            timing: timing(4e-6 + (64_u64 << 20) as f64 / 55e9),
        }],
        memory: vec![memory(MemoryUse::Copy), memory(MemoryUse::Read)],
        gemms: gemms_of_all,
        attention: attention(scale),
        launches: vec![LaunchPoint { kind: LaunchKind::StreamSubmit, count: 1, timing: timing(2e-6) }],
        contention: vec![contention],
        steps,
        checks: vec![check_point("attention_fp64", Some(true)), check_point("bytes", None)],
        drift: vec![DriftPoint { anchor: "h2d".to_owned(), first: timing(1.0), last: timing(1.25) }],
        dropped: vec![Dropped {
            experiment: "E2".to_owned(),
            what: "512 B".to_owned(),
            reason: "out of time".to_owned(),
            gap: Gap::OutOfTime,
        }],
    }
}

fn made(backend: Backend) -> (HardwareProfile, FitReport, Scale) {
    let scale = Scale::of(Backend::Cuda, false);
    let (profile, report) = assemble(&measurements(&scale), &facts(), &scale, &run(backend)).unwrap();
    (profile, report, scale)
}

#[track_caller]
fn assert_accepted(profile: &HardwareProfile) {
    let failures: Vec<String> = check(profile)
        .into_iter()
        .filter(|finding| finding.verdict == Verdict::Failure)
        .map(|finding| finding.text)
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
    let text = serde_json::to_string_pretty(profile).unwrap();
    assert_eq!(&parse("profile.json", &text).unwrap(), profile);
}

#[track_caller]
fn near(value: Positive, truth: f64) {
    assert!((value.get() / truth - 1.0).abs() < 1e-6, "{value} against {truth}");
}

#[test]
fn exact_measurements_give_back_the_machine_they_are_from() {
    let (profile, report, scale) = made(Backend::Cuda);
    assert_accepted(&profile);
    assert!(profile.is_measured());
    near(profile.link.h2d.bw_inf_bytes_per_s, 55e9);
    near(profile.link.h2d.latency_s.unwrap(), 4e-6);
    near(profile.link.h2d.submit_s_per_desc.unwrap(), 2e-6);
    near(profile.link.d2h.as_ref().unwrap().bw_inf_bytes_per_s, 50e9);
    near(profile.link.pageable.as_ref().unwrap().bw_inf_bytes_per_s, 12e9);
    near(profile.link.bidir.as_ref().unwrap().h2d_factor.unwrap(), 0.8);
    let contention = profile.contention.as_ref().unwrap();
    near(contention.compute_slowdown["layer|h2d"], 1.02);
    near(contention.copy_slowdown["h2d|layer"], 1.1);
    near(contention.copy_slowdown["h2d|d2h"], 1.25);
    let shape = &profile.compute.model_shapes[0];
    assert_eq!((shape.model.as_str(), shape.attn.gqa.unwrap().get()), ("llama-3-8b", 4));
    near(shape.attn.bytes_per_s, 3.6e12);
    near(shape.attn.floor_s.unwrap(), 8e-6);
    near(shape.layer_other_s.unwrap(), 10e-6);
    near(shape.step_fixed_s.unwrap(), 30e-6);
    assert!(shape.affine.is_some());
    // The whole step through the simulator's own cost code: 8 requests of 16,384 tokens.
    let (cost, _) = resolve(&profile, &scale.fitted, &CostOptions::default()).unwrap();
    let (simulated, true_s) = (cost.compute_s(8 * 16_384, 8), step_s(&scale.fitted, 32, &[16_384; 8]));
    assert!((simulated / true_s - 1.0).abs() < 1e-6, "{simulated} against {true_s}");
    // The rate went from 1 to 1/1.25.
    assert!((profile.drift.as_ref().unwrap().h2d_rel.unwrap() + 0.2).abs() < 1e-12);
    assert!(report.warnings.iter().any(|warning| warning.contains("h2d takes +25.00 %")), "{report:#?}");
    assert_eq!(profile.provenance.dropped_groups, ["E2: 512 B"]);
}

#[test]
fn a_model_without_whole_steps_takes_the_rest_of_the_fitted_one_and_says_so() {
    let (profile, report, scale) = made(Backend::Cuda);
    let shape = &profile.compute.model_shapes[1];
    assert_eq!(shape.model, scale.held_out.name);
    near(shape.layer_other_s.unwrap(), 10e-6);
    assert_eq!(shape.affine, None);
    let reason = profile.reason_for("compute.model_shapes[1].affine").unwrap();
    assert!(reason.contains("those of llama-3-8b"), "{reason}");
    // Qwen2.5-14B has 5 query heads per KV head; 4 is nearest of 1, 4 and 8.
    assert_eq!(shape.attn.gqa.unwrap().get(), 4);
    let reason = profile.reason_for("compute.model_shapes[1].attn.fit").unwrap();
    assert!(reason.contains("5 query heads") && reason.contains("line of 4"), "{reason}");
    assert!(report.warnings.iter().any(|warning| warning.contains("stands in")), "{:?}", report.warnings);
    assert!(resolve(&profile, &scale.held_out, &CostOptions::default()).is_ok());
    // Llama-3-70B was not measured here: no shape, and a warning.
    assert_eq!(profile.compute.model_shapes.len(), 2);
    assert!(report.warnings.iter().any(|warning| warning.starts_with("llama-3-70b: no decode times")));
}

#[test]
fn no_whole_step_of_the_held_out_model_reaches_a_fit() {
    let scale = Scale::of(Backend::Cuda, false);
    let mut measured = measurements(&scale);
    let (before, _) = assemble(&measured, &facts(), &scale, &run(Backend::Cuda)).unwrap();
    measured.steps.push(StepPoint {
        model: scale.held_out.name.clone(),
        layers: scale.held_out.layers,
        contexts: vec![4096; 4],
        submission: Submission::Stream,
        timing: timing(1.0),
    });
    let (after, report) = assemble(&measured, &facts(), &scale, &run(Backend::Cuda)).unwrap();
    assert_eq!(before, after);
    let seen = report.fits.iter().find(|fit| fit.name == "step qwen2.5-14b as a stream").unwrap();
    assert!(seen.predictions.iter().all(|point| !point.used) && seen.path.is_empty());
}

#[test]
fn every_way_of_copying_is_kept_and_named_by_its_granularity() {
    let (profile, report, _) = made(Backend::Cuda);
    let named: Vec<(&str, &str, Option<u64>)> = profile
        .link
        .fits
        .iter()
        .filter(|fit| fit.direction == orbitflow_sim::cost::profile::CopyDirection::H2d)
        .map(|fit| {
            let piece = fit.line.descriptor_bytes.map(|bytes| bytes.get());
            (fit.granularity.as_str(), fit.line.api.as_deref().unwrap(), piece)
        })
        .collect();
    assert_eq!(
        named,
        [
            ("layer", "async", None),
            ("blocks-async", "async", Some(65_536)),
            ("blocks-batch", "batch", Some(65_536)),
            ("", "sm_gather:8", None),
            ("", "async", None),
            ("", "async", None),
        ]
    );
    // The layout is what the fit of E2 says: 1,024 pieces at 55 GB/s.
    let layouts = report.fits.iter().find(|fit| fit.name.starts_with("layouts")).unwrap();
    assert!(layouts.predictions[0].error().abs() < 1e-6);
}

#[test]
fn prefill_is_the_products_and_half_the_datasheets_attention() {
    let (profile, _, scale) = made(Backend::Cuda);
    let shape = &profile.prefill.as_ref().unwrap().model_shapes[0];
    assert_eq!(shape.attention.as_deref(), Some("datasheet × 0.5"));
    let model = &scale.fitted;
    let products = |rows| matrices(model)[..4].iter().map(|(_, o, i)| gemm_s(*o, *i, rows)).sum::<f64>();
    let head = gemm_s(model.vocab, model.hidden, 1);
    // 2·32·32·128 FLOP per squared token at 0.5 · 989 TFLOP/s; 16,384 tokens at the rate of 8,192 rows.
    let attention = |p: f64| 2.0 * 32.0 * 32.0 * 128.0 * p * p / 494.5e12;
    near(shape.s_by_prompt_tokens[&2048], 32.0 * products(2048) + head + attention(2048.0));
    near(shape.s_by_prompt_tokens[&16_384], 64.0 * products(8192) + head + attention(16_384.0));
    assert_eq!(shape.s_by_prompt_tokens.keys().next_back(), Some(&131_072));
}

#[test]
fn what_no_gpu_gave_is_never_called_measured() {
    for backend in [Backend::Host, Backend::VirtualTime] {
        let (profile, _, _) = made(backend);
        assert_accepted(&profile);
        assert_eq!(profile.kind, ProfileKind::HostEmulation);
        assert!(!profile.is_measured());
        assert!(profile.provenance.summary.starts_with(backend.disclaimer().unwrap()));
        // The device's name is no reason to take its datasheet.
        assert!(profile.compute.datasheet.is_none());
        let shape = &profile.prefill.as_ref().unwrap().model_shapes[0];
        assert_eq!(shape.attention.as_deref(), Some("measured products × 0.5"));
    }
}

#[test]
fn a_waived_check_is_neither_passed_nor_failed_and_a_failed_one_ends_the_claim() {
    let scale = Scale::of(Backend::Cuda, false);
    let mut measured = measurements(&scale);
    let (profile, _) = assemble(&measured, &facts(), &scale, &run(Backend::Cuda)).unwrap();
    let waived = &profile.checks[1];
    assert!(waived.waived && !waived.pass && waived.worst_rel.is_none());
    assert_eq!(profile.reason_for("checks[1].worst_rel"), Some("no data here"));
    assert!(profile.is_measured());
    measured.checks.push(check_point("gemm", Some(false)));
    let (profile, _) = assemble(&measured, &facts(), &scale, &run(Backend::Cuda)).unwrap();
    assert!(!profile.is_measured());
}

#[test]
fn whatever_is_missing_has_a_reason_and_the_rest_still_stands() {
    let scale = Scale::of(Backend::Cuda, false);
    let whole = measurements(&scale);
    type Cut = (&'static str, fn(&mut Measurements));
    let cuts: [Cut; 13] = [
        ("E1", |m| m.link.clear()),
        ("E2", |m| m.copies.clear()),
        ("E2 to one point", |m| m.copies.truncate(1)),
        ("E2 host to device only", |m| m.copies.retain(|point| point.direction == Direction::H2d)),
        ("E4", |m| m.memory.clear()),
        ("E5's head", |m| m.gemms.retain(|point| point.matrix != Matrix::LmHead)),
        ("E5's prefill", |m| m.gemms.retain(|point| point.rows < 512)),
        ("E6 to one point", |m| {
            m.attention.retain(|point| point.group() == 4);
            m.attention.truncate(1);
        }),
        ("E7", |m| m.launches.clear()),
        ("E8", |m| m.contention.clear()),
        ("E9", |m| m.steps.clear()),
        ("E9 to one point", |m| m.steps.truncate(1)),
        ("E11, E12", |m| {
            m.checks.clear();
            m.drift.clear();
        }),
    ];
    for (what, cut) in cuts {
        let mut measured = whole.clone();
        cut(&mut measured);
        let (profile, _) = assemble(&measured, &facts(), &scale, &run(Backend::Cuda)).expect(what);
        eprintln!("without {what}");
        assert_accepted(&profile);
        assert!(resolve(&profile, &scale.fitted, &CostOptions::default()).is_ok(), "without {what}");
    }
    // Without products, or without attention, there is no decode model; the profile says that and nothing else.
    for cut in [|m: &mut Measurements| m.gemms.clear(), |m: &mut Measurements| m.attention.clear()] {
        let mut measured = whole.clone();
        cut(&mut measured);
        let (profile, report) = assemble(&measured, &facts(), &scale, &run(Backend::Cuda)).unwrap();
        assert!(profile.compute.model_shapes.is_empty());
        let failures = check(&profile).into_iter().filter(|finding| finding.verdict == Verdict::Failure);
        let failures: Vec<&str> = failures.map(|finding| finding.check).collect();
        assert_eq!(failures, ["kind"]);
        assert!(report.warnings.iter().any(|warning| warning.contains("no decode times")));
    }
}

#[test]
fn without_any_copy_there_is_no_profile() {
    let scale = Scale::of(Backend::Cuda, false);
    let error = assemble(&Measurements::default(), &facts(), &scale, &run(Backend::Cuda)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no profile: E1 and E2 gave no usable host-to-device copy: E1 has no such point; E2 has no such point; expected at least one"
    );
}

#[test]
fn a_fitted_rate_off_the_peak_is_warned_of() {
    let scale = Scale::of(Backend::Cuda, false);
    let mut measured = measurements(&scale);
    // The peak of E1 is 60 GB/s; E2 says 55, 8.3 % less.
    measured.link[0].timing = timing((1_u64 << 32) as f64 / 60e9);
    let (_, report) = assemble(&measured, &facts(), &scale, &run(Backend::Cuda)).unwrap();
    assert!(
        report.warnings.iter().any(|warning| warning.contains("-8.3 % off the peak")),
        "{:?}",
        report.warnings
    );
    assert!(report.lines().iter().any(|line| line.starts_with("warning: h2d async")));
}

#[test]
fn a_validation_takes_the_place_of_its_reason() {
    let (mut profile, _, _) = made(Backend::Cuda);
    assert_eq!(profile.reason_for("validation"), Some("not validated in this run"));
    let summary = ValidationSummary { median_abs: Some(0.03), ..ValidationSummary::default() };
    let validation = Validation { summary: Some(summary), ..Validation::default() };
    let reasons = [
        ("validation.summary".to_owned(), "a test".to_owned()),
        ("validation.predictions_sha256".to_owned(), "a test".to_owned()),
        ("validation.cases".to_owned(), "no null is there".to_owned()),
    ];
    attach_validation(&mut profile, validation, &reasons);
    assert_accepted(&profile);
    assert_eq!(profile.reason_for("validation"), None);
    assert_eq!(profile.reason_for("validation.cases"), None);
}

#[test]
fn a_profile_with_another_line_for_its_link_is_still_accepted() {
    let (profile, _, scale) = made(Backend::Cuda);
    for fit in &profile.link.fits {
        let other = with_link_lines(&profile, fit.line.clone(), fit.line.clone());
        assert_accepted(&other);
        let (cost, _) = resolve(&other, &scale.fitted, &CostOptions::default()).unwrap();
        assert_eq!(cost.h2d.rate.get() as f64, fit.line.bw_inf_bytes_per_s.get().round());
    }
    assert_eq!(profile.link.fits.len(), 10);
}
