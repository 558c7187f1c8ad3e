//! Results as `compare` would write them, for tests of what is drawn: the numbers are made up, their ranges are real.

use std::collections::BTreeMap;

use orbitflow_sim::report::rows::{
    AboveBound, Attainment, Busy, Distribution, ForecastError, PauseCounts, PlanCounts, PolicyResult,
    QuantileRow, RequestCounts, Results, SCHEMA_VERSION, ScaleResult, StepCounts, TimelineRow, TokenCounts,
    TraceSummary, Traffic,
};

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
