//! The known answers for decode steps (`tests/golden/step.json`), for the fast path and the slow one.

use orbitflow_sim::pipeline::{Scratch, StepInstance, step, timeline};
use orbitflow_sim::units::SimTime;
use serde_json::Value;

const RELATIVE: f64 = 1e-9;

fn cases() -> Vec<(StepInstance, Value)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/step.json");
    let text = std::fs::read_to_string(path).expect(path);
    let cases: Vec<Value> = serde_json::from_str(&text).expect(path);
    let parse = |case: &Value| StepInstance::parse(&case["instance"].to_string()).expect(path);
    cases.iter().map(|case| (parse(case), case["expect"].clone())).collect()
}

fn assert_close(case: usize, what: &str, ours: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("case {case}: no {what}"));
    let off = (ours - expected).abs();
    assert!(off <= RELATIVE * expected.abs(), "case {case}: {what} is {ours}, expected {expected}");
}

#[test]
fn every_known_step_is_reproduced_by_both_pipelines_to_1e_9() {
    let cases = cases();
    assert_eq!(cases.len(), 12);
    let mut scratch = Scratch::default();
    for (number, (instance, expect)) in cases.iter().enumerate() {
        let (slow, spans) = instance.with_work(|work| timeline(work, SimTime::ZERO, None));
        let fast = instance.with_work(|work| step(work, SimTime::ZERO, None, &mut scratch));
        assert_eq!(fast, slow, "case {number}");
        assert_close(number, "step_s", fast.step.as_secs_f64(), &expect["step_s"]);
        let starts = expect["layer_starts_s"].as_array().expect("starts of layers");
        assert_eq!(starts.len(), spans.layers.len(), "case {number}");
        for (span, start) in spans.layers.iter().zip(starts) {
            assert_close(number, &format!("start of layer {}", span.layer), span.start.as_secs_f64(), start);
        }
        let answer = instance.answer();
        assert_close(number, "answer.step_s", answer.step_s, &expect["step_s"]);
        if !expect["prefix_forecast_s"].is_null() {
            assert_close(number, "forecast", answer.prefix_forecast_s, &expect["prefix_forecast_s"]);
        }
    }
}

#[test]
fn a_faster_link_can_worsen_a_mixed_ready_first_step_but_not_an_in_order_one() {
    // The last two known answers differ only in the link: 64,479 and 64,531 blocks/s. The copy engine cannot be
    // interrupted, so a copy that ends earlier lets a later layer's copy slip in front (design §8, law 6).
    let [.., (mut slow, _), (mut fast, _)]: [(StepInstance, Value); 12] =
        cases().try_into().expect("twelve cases");
    assert!(slow.link.blocks_per_s < fast.link.blocks_per_s);
    assert!(slow.answer().step_s < fast.answer().step_s);
    slow.copy_order = orbitflow_sim::pipeline::CopyOrder::InOrder;
    fast.copy_order = orbitflow_sim::pipeline::CopyOrder::InOrder;
    assert!(slow.answer().step_s >= fast.answer().step_s);
}
