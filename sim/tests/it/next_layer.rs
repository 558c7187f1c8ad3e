//! The published profiles, found again in the simulator: `next-layer` on one request is what the authors ran to fit
//! their Communication line (facts H), so its step time must give that line back.

use orbitflow_sim::cost::{self, CostOptions, LinkIntercept};
use orbitflow_sim::engine::{self, EngineRequest, Setup};
use orbitflow_sim::model;
use orbitflow_sim::policy::fixed::Fixed;
use orbitflow_sim::record::{Record, Sink, StepKind};
use orbitflow_sim::server::{ServerConfig, ServerSwitches};
use orbitflow_sim::trace::Arrival;
use orbitflow_sim::units::{SimDuration, SimTime};

/// Preset, model, Communication slope in seconds per token and constant in seconds (facts H).
const PUBLISHED: [(&str, &str, f64, f64); 4] = [
    ("engine-fit:a5000", "llama-3-8b", 1.72e-5, 1.39e-2),
    ("engine-fit:a6000", "llama-3-8b", 1.87e-5, 1.06e-2),
    ("engine-fit:a100", "llama-3-8b", 1.81e-5, 6.31e-2),
    ("engine-fit:4xa6000-70b", "llama-3-70b", 5.51e-5, 2.38e-2),
];

/// The first decode step.
#[derive(Default)]
struct FirstDecode(Option<SimDuration>);

impl Sink for FirstDecode {
    fn record(&mut self, record: &Record<'_>) {
        if let Record::Step { step, .. } = record
            && step.kind == StepKind::Decode
        {
            self.0.get_or_insert(step.duration);
        }
    }
}

/// Seconds of the decode step of one request with `context` tokens, all layers offloaded.
fn step_s(preset: &str, model_name: &str, intercept: LinkIntercept, context: u64) -> f64 {
    let model = model::preset(model_name).expect("a model preset");
    let profile = cost::load(preset).expect("a hardware preset");
    let options = CostOptions { link_intercept: intercept, ..CostOptions::default() };
    let (truth, _) = cost::resolve(&profile, &model, &options).expect("the fit is of this model");
    let request = EngineRequest {
        arrival: Arrival::At(SimTime::ZERO),
        prompt_tokens: context - 1,
        output_tokens: 2,
        slo: SimDuration::from_secs(1),
    };
    let server = ServerConfig {
        batch_size: 1,
        gpu_blocks: 1_000_000,
        host_kv: None,
        max_context: None,
        switches: ServerSwitches::PUBLISHED,
        seed: 0,
    };
    let mut first = FirstDecode::default();
    let setup = Setup { requests: &[request], server: &server, footprint: model.footprint(), truth: &truth };
    engine::run(setup, &mut Fixed::next_layer(), &mut first);
    first.0.expect("one decode step").as_secs_f64()
}

#[test]
fn next_layer_grows_with_context_by_the_published_communication_slope() {
    for (preset, model, slope, _) in PUBLISHED {
        let at = |context| step_s(preset, model, LinkIntercept::Drop, context);
        for (from, to) in [(4096, 16_384), (16_384, 32_768), (32_768, 49_152), (4096, 49_152)] {
            let found = (at(to) - at(from)) / (to - from) as f64;
            let off = found / slope - 1.0;
            println!(
                "{preset}: {from}–{to} tokens: {found:.4e} s/token, published {slope:.2e}, {:+.2} %",
                off * 100.0
            );
            assert!(off.abs() < 0.01, "{preset}: {found} s/token, published {slope}");
        }
    }
}

#[test]
fn with_the_intercept_per_step_next_layer_is_the_published_communication_line() {
    for (preset, model, slope, constant) in PUBLISHED {
        for context in [4096, 8192, 16_384, 32_768, 49_152] {
            let found = step_s(preset, model, LinkIntercept::PerStep, context);
            let published = slope * context as f64 + constant;
            let off = found / published - 1.0;
            println!(
                "{preset}: {context} tokens: {found:.5} s, published {published:.5} s, {:+.2} %",
                off * 100.0
            );
            assert!(off.abs() < 0.01, "{preset} at {context}: {found} s, published {published} s");
        }
    }
}
