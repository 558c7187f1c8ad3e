//! Small runs with the arithmetic beside them.

use super::{asks, score, scoring};
use crate::metrics::{
    Busy, LateTokens, Outcome, RequestEnd, RequestFacts, ScaleSlo, Scoring, merge_scale_runs,
};
use crate::record::{StepKind, StepRecord, Trigger};
use crate::script::{Script, blank, ms};
use crate::units::{Bytes, SimDuration};

/// One request at 0 s, first token at 100 ms, then steps of 40, 40, 40 and 60 ms with a 100 ms prefill of another
/// request before the last: gaps 40, 40, 40, 160. The other (two tokens) gets its second one in the last step.
fn two_requests() -> Script {
    let mut script = Script::default();
    script.arrive(0);
    script.admit(0);
    script.prefill(ms(100), &[0]);
    for _ in 0..3 {
        script.decode(ms(40), &[0]);
    }
    script.arrive(1);
    script.admit(1);
    script.prefill(ms(100), &[1]);
    script.decode(ms(60), &[0, 1]);
    script.finish(0);
    script.finish(1);
    script
}

#[test]
fn step_and_gap_are_late_with_and_without_playback_as_computed_by_hand() {
    let outcome = score(&two_requests(), asks(&[5, 2]), scoring(&[(1.0, ms(50))]));
    // Request 0, SLO 50. Steps 40 40 40 60: one late. Gaps 40 40 40 160: one late.
    // Playback on steps: made at 40 80 120 180, due at 50 100 150 200: none late.
    // Playback on gaps: made at 40 80 120 280, due at 50 100 150 200: one late, by 80.
    // Request 1: step 60, gap 60 (its prefill ended when the step began): late by every measure, by 10.
    let scores = outcome.scales[0];
    assert_eq!(scores.late, LateTokens { step: 2, gap: 2, step_deposit: 1, gap_deposit: 2 });
    assert_eq!(outcome.requests[0].late, LateTokens { step: 1, gap: 1, step_deposit: 0, gap_deposit: 1 });
    assert_eq!((scores.due, outcome.due_tokens, outcome.delivered_due_tokens), (5, 5, 5));
    assert_eq!(scores.tokens_met_pct(scores.late.step), 60.0);
    // Playing: 280 and 60 ms; stalled 80 and 10 ms.
    assert_eq!(
        (scores.stall, scores.playing),
        (u128::from(ms(90).as_picos()), u128::from(ms(340).as_picos()))
    );
    assert_eq!(scores.playback_stall_pct(), Some(90.0 / 340.0 * 100.0));
}

#[test]
fn tpot_ttft_e2e_and_goodput_are_as_computed_by_hand() {
    let mut facts = asks(&[5, 2]);
    facts[1].ttft_slo = Some(ms(99));
    let outcome = score(&two_requests(), facts, scoring(&[(1.0, ms(45)), (1.4, ms(70)), (2.0, ms(90))]));
    // TPOT step: 180/4 = 45 and 60; TPOT gap: 280/4 = 70 and 60.
    let met = |scale: usize| (outcome.scales[scale].tpot_step_met, outcome.scales[scale].tpot_gap_met);
    assert_eq!([met(0), met(1), met(2)], [(1, 0), (2, 2), (2, 2)]);
    // TTFT 100 and 100 ms; the second one promised 99.
    assert_eq!(outcome.scales[0].ttft_met, 1);
    // End to end: 380 ms against 5 s + …; 160 ms against 99 + 2·SLO ms: 189 at 45, 239 at 70.
    assert_eq!([0, 1].map(|scale| outcome.scales[scale].e2e_met), [2, 2]);
    // Good: TPOT (gap) met, and TTFT for whoever it is promised to, over 0.38 s.
    assert_eq!([0, 1].map(|scale| outcome.scales[scale].good), [0, 1]);
    assert_eq!(outcome.scales[1].goodput_per_s(), 1.0 / 0.38);
    assert_eq!(outcome.ttft.max(), Some(ms(100).as_picos()));
    assert_eq!(outcome.e2e.quantile(500), Some(ms(160).as_picos()));
    assert_eq!(outcome.tpot_gap.mean(), Some(65e9));
}

#[test]
fn a_promise_that_is_just_kept_is_kept() {
    let mut script = Script::default();
    script.arrive(0);
    script.admit(0);
    script.prefill(ms(100), &[0]);
    script.decode(ms(50), &[0]);
    script.finish(0);
    let strict = |slo: SimDuration, ttft: SimDuration| {
        let outcome = score(&script, asks(&[2]), Scoring { ttft_slo: Some(ttft), ..scoring(&[(1.0, slo)]) });
        let scores = outcome.scales[0];
        let met = [scores.tpot_step_met, scores.tpot_gap_met, scores.ttft_met, scores.e2e_met, scores.good];
        (scores.late, met)
    };
    let all_late = LateTokens { step: 1, gap: 1, step_deposit: 1, gap_deposit: 1 };
    let tick = SimDuration::from_picos(1);
    assert_eq!(strict(ms(50), ms(100)), (LateTokens::default(), [1, 1, 1, 1, 1]));
    // e2e: 150 ms against 100 + 2·50 ms still holds with a tick less.
    assert_eq!(strict(ms(50) - tick, ms(100)), (all_late, [0, 0, 1, 1, 0]));
    assert_eq!(strict(ms(50), ms(100) - tick), (LateTokens::default(), [1, 1, 0, 1, 0]));
    // e2e: 150 ms against 100 + 2·25 ms holds, and a tick less does not.
    assert_eq!(strict(ms(25), ms(100)).1[3], 1);
    assert_eq!(strict(ms(25), ms(100) - tick).1[3], 0);
}

#[test]
fn tokens_that_are_never_made_are_late_for_rejected_capped_and_unfinished_requests() {
    let mut script = Script::default();
    for request in 0..4 {
        script.arrive(request);
    }
    script.reject(0);
    script.admit(1);
    script.admit(2);
    script.prefill(ms(100), &[1, 2]);
    script.decode(ms(10), &[1, 2]);
    script.cap(1);
    let outcome = score(&script, asks(&[10, 10, 10, 1]), scoring(&[(1.0, ms(50))]));
    // Due 9 each; 1 and 2 made one in time; request 3 owes nothing but its first token.
    assert_eq!(outcome.due_tokens, 27);
    assert_eq!(outcome.delivered_due_tokens, 2);
    assert_eq!(outcome.delivered_tokens, 4);
    let late: Vec<u64> = outcome.requests.iter().map(|request| request.late.gap_deposit).collect();
    assert_eq!(late, [9, 8, 8, 0]);
    assert_eq!(outcome.scales[0].late, LateTokens { step: 25, gap: 25, step_deposit: 25, gap_deposit: 25 });
    use RequestEnd::{Capped, Rejected, Unfinished};
    let ends: Vec<RequestEnd> = outcome.requests.iter().map(|request| request.end).collect();
    assert_eq!(ends, [Rejected, Capped, Unfinished, Unfinished]);
    assert_eq!(outcome.ended(Unfinished), 2);
    // Shares of arrived requests: two of four had their first token within 5 s, none finished.
    let scores = outcome.scales[0];
    assert_eq!(scores.requests_met_pct(scores.ttft_met), 50.0);
    assert_eq!([scores.tpot_step_met, scores.tpot_gap_met, scores.e2e_met, scores.good], [0; 4]);
    assert_eq!(outcome.tpot_step.max(), None);
    // The capped one still has a mean of what it made.
    assert_eq!(outcome.requests[1].tpot_gap(), Some(ms(10)));
    assert_eq!(outcome.requests[1].finished_at, None);
}

#[test]
fn a_finished_request_of_one_token_meets_tpot_and_owes_nothing() {
    let mut script = Script::default();
    script.arrive(0);
    script.admit(0);
    script.prefill(ms(100), &[0]);
    script.finish(0);
    let scores = score(&script, asks(&[1]), scoring(&[(1.0, ms(1))])).scales[0];
    assert_eq!([scores.tpot_step_met, scores.tpot_gap_met, scores.good, scores.due], [1, 1, 1, 0]);
    // Nothing was due: nothing was broken. Nothing was played: there is no share of it.
    assert_eq!((scores.tokens_met_pct(0), scores.playback_stall_pct()), (100.0, None));
}

#[test]
fn a_pause_is_invisible_to_step_tbt_and_counted() {
    let mut script = Script::default();
    for request in 0..2 {
        script.arrive(request);
        script.admit(request);
    }
    script.prefill(ms(100), &[0, 1]);
    script.decode(ms(40), &[0, 1]);
    script.pause(0);
    for _ in 0..5 {
        script.decode(ms(40), &[1]);
    }
    script.resume(0);
    script.decode(ms(40), &[0, 1]);
    script.finish(0);
    script.finish(1);
    let outcome = score(&script, asks(&[3, 8]), scoring(&[(1.0, ms(50))]));
    // Request 0: steps 40 40; gaps 40 and 6·40 = 240, late; playback on gaps: made at 280, due at 50 + 50.
    assert_eq!(outcome.requests[0].late, LateTokens { step: 0, gap: 1, step_deposit: 0, gap_deposit: 1 });
    assert_eq!(outcome.scales[0].stall, u128::from(ms(180).as_picos()));
    assert_eq!((outcome.requests[0].paused, outcome.requests[0].pauses), (ms(200), 1));
    assert_eq!((outcome.pauses, outcome.longest_pause), (1, ms(200)));
    assert_eq!(outcome.tbt_step.max(), Some(ms(40).as_picos()));
    assert_eq!(outcome.tbt_gap.max(), Some(ms(240).as_picos()));
    assert_eq!(outcome.tbt_gap.mean(), Some((8.0 * 40.0 + 240.0) / 9.0 * 1e9));
}

#[test]
fn a_pause_that_never_ends_lasts_to_the_end() {
    let mut script = Script::default();
    for request in 0..2 {
        script.arrive(request);
        script.admit(request);
    }
    script.prefill(ms(100), &[0, 1]);
    script.pause(0);
    script.decode(ms(40), &[1]);
    script.decode(ms(40), &[1]);
    let outcome = score(&script, asks(&[9, 9]), scoring(&[(1.0, ms(50))]));
    assert_eq!((outcome.requests[0].paused, outcome.longest_pause), (ms(80), ms(80)));
}

#[test]
fn a_first_token_may_come_from_a_decode_step() {
    // Chunked prefill: request 1's prompt ends in a decode step of request 0.
    let mut script = Script::default();
    for request in 0..2 {
        script.arrive(request);
        script.admit(request);
    }
    script.prefill(ms(100), &[0]);
    script.step(StepRecord { compute: ms(20), prefill: ms(10), ..blank(StepKind::Decode) }, &[0, 1]);
    script.decode(ms(20), &[0, 1]);
    script.finish(0);
    script.finish(1);
    let outcome = score(&script, asks(&[3, 2]), scoring(&[(1.0, ms(25))]));
    assert_eq!(outcome.requests[1].ttft(), Some(ms(130)));
    assert_eq!(outcome.requests[0].late.step, 1);
    assert_eq!(outcome.requests[1].late.step, 0);
    assert_eq!(outcome.tbt_step.quantile(1000), Some(ms(30).as_picos()));
}

#[test]
fn busy_and_idle_sum_to_the_makespan_exactly() {
    let mut script = Script::default();
    script.idle(ms(1000));
    script.arrive(0);
    script.idle(ms(7));
    script.admit(0);
    script.prefill(ms(100), &[0]);
    let parts = StepRecord {
        compute: ms(20),
        stall: ms(5),
        restore: ms(3),
        planning: ms(2),
        h2d_prefetch: Bytes::new(64),
        h2d_restore: Bytes::new(32),
        d2h: Bytes::new(16),
        ..blank(StepKind::Decode)
    };
    script.step(parts, &[0]);
    script.finish(0);
    // A step that makes no token is no part of the makespan.
    script.step(StepRecord { compute: ms(99), ..blank(StepKind::Decode) }, &[]);
    let outcome = score(&script, asks(&[2]), scoring(&[(1.0, ms(50))]));
    assert_eq!(outcome.makespan, ms(137));
    let busy = Busy { compute: ms(20), stall: ms(5), prefill: ms(100), restore: ms(3), planning: ms(2) };
    assert_eq!((outcome.busy, outcome.idle), (busy, ms(7)));
    assert_eq!(outcome.throughput_per_s, 2.0 / 0.137);
    assert_eq!(outcome.requests_per_min(), Some(60.0));
    assert_eq!((outcome.decode_steps, outcome.prefill_steps), (2, 1));
    assert_eq!(outcome.traffic.h2d_prefetch, Bytes::new(64));
    assert_eq!(outcome.traffic.h2d_restore, Bytes::new(32));
    assert_eq!(outcome.traffic.d2h, Bytes::new(16));
    assert_eq!((outcome.peak_gpu_blocks, outcome.peak_host), (10, Bytes::new(1000)));
}

#[test]
fn a_forecast_is_compared_with_compute_and_stall_and_not_on_steps_with_restores() {
    let mut script = Script::default();
    script.arrive(0);
    script.admit(0);
    script.prefill(ms(100), &[0]);
    let forecast = |compute, forecast, restore| StepRecord {
        compute: ms(compute),
        stall: ms(10),
        planning: ms(5),
        restore: ms(restore),
        forecast: Some(ms(forecast)),
        ..blank(StepKind::Decode)
    };
    // |100 − 90|/100 = 10 %; |50 − 60|/50 = 20 %; a step with a restore, one with a lazy restore, one without forecast.
    script.step(forecast(90, 90, 0), &[0]);
    script.step(forecast(40, 60, 0), &[0]);
    script.step(forecast(40, 500, 1), &[0]);
    script.step(StepRecord { h2d_restore: Bytes::new(1), ..forecast(40, 500, 0) }, &[0]);
    script.decode(ms(40), &[0]);
    let outcome = score(&script, asks(&[9]), scoring(&[(1.0, ms(50))]));
    let errors = [500, 950].map(|p| outcome.forecast_error.quantile(p).unwrap());
    assert_eq!(errors, [100_000_000_000, 200_000_000_000]);
}

#[test]
fn a_step_is_compared_with_the_bound_of_its_own_copies_and_compute() {
    let mut script = Script::default();
    script.arrive(0);
    script.admit(0);
    script.prefill(ms(100), &[0]);
    let bounded = |compute, stall, bound| StepRecord {
        compute: ms(compute),
        stall: ms(stall),
        planning: ms(5),
        restore: ms(7),
        bound: Some(ms(bound)),
        ..blank(StepKind::Decode)
    };
    // Nothing waits: 40/40 − 1 = 0. Copies of 50 beside compute of 40 take 55: 10 %. Copies of 20 beside 40 take 50: 25 %.
    // Planning and blocking restores are not part of it, nor is the step without a bound.
    script.step(bounded(40, 0, 40), &[0]);
    script.step(bounded(40, 15, 50), &[0]);
    script.step(bounded(40, 10, 40), &[0]);
    script.decode(ms(40), &[0]);
    let outcome = score(&script, asks(&[9]), scoring(&[(1.0, ms(50))]));
    let quantiles = [0, 500, 950].map(|p| outcome.above_bound.quantile(p).unwrap());
    assert_eq!(quantiles, [0, 100_000_000_000, 250_000_000_000]);
    // (0 + 10 + 25)/3 per cent.
    assert_eq!(outcome.above_bound.mean(), Some(350e9 / 3.0));
}

#[test]
fn planner_calls_refusals_and_preemptions_are_counted() {
    let mut script = Script::default();
    script.arrive(0);
    script.admit(0);
    script.plan(Trigger::LiveSet);
    script.plan(Trigger::Window);
    script.plan(Trigger::Window);
    script.preempt(0);
    script.readmit(0);
    script.plain(crate::record::Record::PlacementRefused { at: script.now });
    let outcome = score(&script, asks(&[2]), scoring(&[(1.0, ms(50))]));
    let counts: Vec<u64> = outcome.planning.by_trigger().map(|(_, count)| count).collect();
    assert_eq!(counts, [1, 2, 0, 0, 0, 0, 0]);
    assert_eq!((outcome.planning.infeasible_slo, outcome.planning.infeasible_memory), (3, 0));
    assert_eq!((outcome.preemptions, outcome.requests[0].preemptions), (1, 1));
    assert_eq!(outcome.refused_placements, 1);
}

#[test]
fn a_request_s_own_promise_times_the_scale_replaces_the_common_one() {
    let mut facts = asks(&[5, 2]);
    facts[1].slo = Some(ms(30));
    let outcome = score(&two_requests(), facts, scoring(&[(1.5, ms(500)), (2.0, ms(500))]));
    // Request 1 took 60 ms for its token: late at 1.5·30 = 45 ms, in time at 2·30 = 60 ms.
    assert_eq!([0, 1].map(|scale| outcome.scales[scale].late.step), [1, 0]);
    assert_eq!((outcome.requests[0].slo, outcome.requests[1].slo), (ms(500), ms(45)));
}

#[test]
fn requests_of_the_warmup_are_left_out_of_scores_and_stay_in_counts() {
    let whole = score(&two_requests(), asks(&[5, 2]), scoring(&[(1.0, ms(50))]));
    let warm = Scoring { warmup: ms(1), ..scoring(&[(1.0, ms(50))]) };
    let outcome = score(&two_requests(), asks(&[5, 2]), warm);
    // Only request 1 counts: one due token, late, playing for 60 ms of the 160 ms since it arrived.
    let scores = outcome.scales[0];
    assert_eq!((scores.arrived, scores.due, scores.late.gap), (1, 1, 1));
    assert_eq!(scores.playing, u128::from(ms(60).as_picos()));
    assert_eq!(scores.span, ms(160));
    assert_eq!((outcome.tbt_gap.max(), outcome.tbt_gap.mean()), (Some(ms(60).as_picos()), Some(60e9)));
    assert_eq!(outcome.e2e.quantile(0), outcome.e2e.max());
    assert_eq!((outcome.due_tokens, outcome.makespan), (whole.due_tokens, whole.makespan));
    assert_eq!(outcome.requests.len(), 2);
}

#[test]
fn a_promise_of_days_overflows_nothing() {
    let mut facts = asks(&[5, 2]);
    facts[0].slo = Some(SimDuration::from_secs(10_000_000));
    let outcome = score(&two_requests(), facts, scoring(&[(2.5, SimDuration::from_secs(10_000_000))]));
    assert_eq!((outcome.scales[0].late, outcome.scales[0].e2e_met), (LateTokens::default(), 2));
}

#[test]
fn a_run_without_a_request_scores_nothing_and_divides_by_nothing() {
    let outcome = score(&Script::default(), asks(&[5]), scoring(&[(1.0, ms(50))]));
    let scores = outcome.scales[0];
    assert_eq!((outcome.requests.len(), outcome.makespan), (0, SimDuration::ZERO));
    assert_eq!((outcome.throughput_per_s, scores.goodput_per_s()), (0.0, 0.0));
    assert_eq!(outcome.requests_per_min(), None);
}

#[test]
fn runs_for_several_scales_keep_the_first_run_and_each_run_s_own_scores() {
    let run = |slo: SimDuration, scale: f64, script: &Script| -> Outcome<'static> {
        score(script, asks(&[5, 2]), scoring(&[(scale, slo)]))
    };
    let mut slower = two_requests();
    slower.decode(ms(1), &[]);
    let merged = merge_scale_runs([run(ms(50), 1.0, &two_requests()), run(ms(75), 1.5, &slower)]).unwrap();
    assert_eq!(merged.decode_steps, 4);
    assert_eq!([0, 1].map(|place| merged.scales[place].rerun), [false, true]);
    let at = |place: usize| merged.scales[place].at;
    assert_eq!([at(0), at(1)], [(1.0, 50), (1.5, 75)].map(|(scale, slo)| ScaleSlo { scale, slo: ms(slo) }));
    assert_eq!(merge_scale_runs([]), None);
}

#[test]
fn beyond_the_exact_steps_distributions_are_coarse_and_scores_are_not() {
    let facts: Vec<RequestFacts<'_>> = asks(&[5, 2]);
    let mut metrics =
        crate::metrics::Metrics::new(facts, scoring(&[(1.0, ms(50))])).with_exact_decode_steps(3);
    two_requests().replay(&mut metrics);
    let coarse = metrics.finish();
    let exact = score(&two_requests(), asks(&[5, 2]), scoring(&[(1.0, ms(50))]));
    assert!(!coarse.exact && exact.exact);
    assert_eq!((&coarse.scales, &coarse.requests), (&exact.scales, &exact.requests));
    assert_eq!(coarse.tbt_gap.mean(), exact.tbt_gap.mean());
    let (near, truth) = (coarse.tbt_gap.quantile(500).unwrap(), exact.tbt_gap.quantile(500).unwrap());
    assert!(near.abs_diff(truth) * 1000 <= truth);
}
