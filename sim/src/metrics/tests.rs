//! Scores computed by hand, and the streaming sink against a slow twin that keeps every token.

mod by_hand;
mod twin;

use super::{Outcome, RequestFacts, ScaleSlo, Scoring};
use crate::metrics::Metrics;
use crate::script::Script;
use crate::units::SimDuration;

/// Requests of one prompt token, without promises of their own.
fn asks(outputs: &[u64]) -> Vec<RequestFacts<'static>> {
    let facts =
        |output_tokens| RequestFacts { id: "r", prompt_tokens: 1, output_tokens, slo: None, ttft_slo: None };
    outputs.iter().copied().map(facts).collect()
}

fn scoring(slos: &[(f64, SimDuration)]) -> Scoring {
    let scales = slos.iter().map(|&(scale, slo)| ScaleSlo { scale, slo }).collect();
    Scoring { scales, ttft_slo: None, warmup: SimDuration::ZERO }
}

fn score<'a>(script: &Script, facts: Vec<RequestFacts<'a>>, scoring: Scoring) -> Outcome<'a> {
    let mut metrics = Metrics::new(facts, scoring);
    script.replay(&mut metrics);
    metrics.finish()
}
