//! An honest run breaks no law; every planted lie is caught by the law it breaks.

use super::*;
use crate::ids::Layer;
use crate::record::{CarriedSpan, CopySpan, Record, RejectReason, StepKind, StepRecord};
use crate::script::{Event, Script, blank, ms};
use crate::units::Bytes;

/// Everything that can happen to a request. Request 3 is turned away, 4 is capped.
fn honest() -> Script {
    let mut script = Script::default();
    for request in 0..4 {
        script.arrive(request);
    }
    script.reject(3);
    script.admit(0);
    script.admit(1);
    script.prefill(ms(100), &[0, 1]);
    script.decode(ms(10), &[0, 1]);
    script.pause(1);
    script.step(StepRecord { compute: ms(10), stall: ms(4), ..blank(StepKind::Decode) }, &[0]);
    script.preempt(0);
    script.resume(1);
    script.admit(2);
    script.prefill(ms(100), &[2]);
    script.step(StepRecord { compute: ms(10), stall: ms(6), ..blank(StepKind::Decode) }, &[1, 2]);
    script.finish(2);
    script.readmit(0);
    script.decode(ms(10), &[1, 0]);
    script.finish(1);
    script.finish(0);
    script.idle(ms(50));
    script.arrive(4);
    script.admit(4);
    script.prefill(ms(10), &[4]);
    script.cap(4);
    script
}

const TOKENS: [u64; 5] = [4, 4, 2, 9, 9];

/// 12 tokens; 2·100 + 10 + 14 + 16 + 10 + 50 + 10 ms.
const REPORTED: Totals =
    Totals { delivered_tokens: 11, makespan: ms_const(310), busy_and_idle: ms_const(310) };

const fn ms_const(count: u64) -> SimDuration {
    SimDuration::from_picos(count * 1_000_000_000)
}

fn facts() -> Vec<RequestFacts> {
    TOKENS.map(|output_tokens| RequestFacts { output_tokens, previous_turn: None }).to_vec()
}

fn judge(script: &Script, reported: Totals) -> Verdict {
    let mut laws = Laws::new(facts());
    script.replay(&mut laws);
    laws.finish(reported)
}

/// The honest run, changed, must break `law` and say `text`.
#[track_caller]
fn caught(law: u32, text: &str, change: impl FnOnce(&mut Script)) {
    let mut script = honest();
    change(&mut script);
    let verdict = judge(&script, REPORTED);
    assert!(
        verdict.violations.iter().any(|found| found.law == law && found.text.contains(text)),
        "law {law}, `{text}` is not among {:#?}",
        verdict.violations
    );
}

/// The step with that index, to be changed.
fn change_step(script: &mut Script, index: u64, change: impl FnOnce(&mut Event)) {
    let event =
        script.events.iter_mut().find(|event| matches!(event, Event::Step(step, ..) if step.index == index));
    change(event.unwrap());
}

fn remove(script: &mut Script, which: impl Fn(&Record<'static>) -> bool) {
    let place = script.events.iter().position(|event| matches!(event, Event::Plain(record) if which(record)));
    script.events.remove(place.unwrap());
}

#[test]
fn an_honest_run_breaks_no_law() {
    let verdict = judge(&honest(), REPORTED);
    assert_eq!(verdict, Verdict { violations: Vec::new(), count: 0, steps: 7 });
    assert!(verdict.holds());
}

#[test]
fn law_1_catches_a_request_that_is_lost_at_the_end() {
    caught(1, "the run ended with r4 Running", |script| {
        remove(script, |record| matches!(record, Record::Capped { .. }))
    });
}

#[test]
fn law_1_catches_a_request_that_never_arrives() {
    let mut more = facts();
    more.push(RequestFacts { output_tokens: 1, previous_turn: None });
    let mut laws = Laws::new(more.clone());
    honest().replay(&mut laws);
    assert_eq!(laws.finish(REPORTED).violations[0].text, "r5 never arrived");

    // A turn after one that finished must arrive; a turn after one that was turned away need not.
    for (previous, holds) in [(0, false), (3, true)] {
        more[5].previous_turn = Some(RequestId(previous));
        let mut laws = Laws::new(more.clone());
        honest().replay(&mut laws);
        assert_eq!(laws.finish(REPORTED).holds(), holds);
    }
}

#[test]
fn law_1_catches_moves_that_do_not_exist() {
    caught(1, "r2 became Running from Unseen", |script| {
        remove(script, |record| matches!(record, Record::Arrived { request: RequestId(2), .. }))
    });
    caught(1, "r1 became Running from Running", |script| {
        remove(script, |record| matches!(record, Record::Paused { .. }))
    });
    caught(1, "r9 is not in the trace", |script| {
        script.plain(Record::Paused { at: script.now, request: RequestId(9) })
    });
    caught(1, "r3 became Rejected from Rejected", |script| {
        script.plain(Record::Rejected {
            at: script.now,
            request: RequestId(3),
            reason: RejectReason::GpuPool,
        })
    });
}

#[test]
fn law_1_catches_counts_that_are_off() {
    let step = |change: fn(&mut StepRecord)| {
        move |script: &mut Script| {
            change_step(script, 2, |event| {
                let Event::Step(step, ..) = event else { unreachable!() };
                change(step);
            })
        }
    };
    caught(1, "says 0 paused", step(|step| step.paused = 0));
    caught(1, "and 7 waiting", step(|step| step.waiting = 7));
    caught(1, "says 3 in the step", step(|step| step.running = 3));
    caught(1, "says 0 in the step", step(|step| step.running = 0));
    caught(1, "the engine has 9 waiting", |script| script.last_step().2.waiting = 9);
    caught(1, "and 9 preempted", |script| script.last_step().2.preempted = 9);
    caught(1, "prefill step 2: 1 requests decoded, expected 0", step(|step| step.kind = StepKind::Prefill));
    caught(1, "1 requests decoded, expected 2", |script| {
        change_step(script, 4, |event| {
            let Event::Step(_, delivered, _) = event else { unreachable!() };
            delivered.pop();
        })
    });
}

#[test]
fn law_2_catches_tokens_that_do_not_add_up() {
    caught(2, "r2 finished with 1 of 2 tokens", |script| {
        change_step(script, 4, |event| {
            let Event::Step(_, delivered, _) = event else { unreachable!() };
            delivered.pop();
        })
    });
    caught(2, "r2 is in the batch twice", |script| {
        change_step(script, 4, |event| {
            let Event::Step(_, delivered, _) = event else { unreachable!() };
            delivered.push(RequestId(2));
        })
    });
    caught(2, "a token for r3, which is Rejected", |script| script.last_step().1.push(RequestId(3)));
    caught(2, "a token for r9, which is not in the trace", |script| script.last_step().1.push(RequestId(9)));
    let verdict = judge(&honest(), Totals { delivered_tokens: 12, ..REPORTED });
    assert_eq!(verdict.violations[0].text, "11 tokens in records, 12 reported");
}

#[test]
fn law_2_catches_time_that_does_not_add_up() {
    caught(2, "parts sum to", |script| script.last_step().0.planning = ms(1));
    for reported in [Totals { busy_and_idle: ms(311), ..REPORTED }, Totals { makespan: ms(309), ..REPORTED }]
    {
        let verdict = judge(&honest(), reported);
        assert_eq!((verdict.count, verdict.violations[0].law), (1, 2));
    }
}

#[test]
fn law_3_catches_memory_that_does_not_add_up() {
    caught(3, "requests hold 10 layer-blocks, the pool says 11", |script| {
        script.last_step().2.gpu_blocks = 11
    });
    caught(3, "10 layer-blocks in use of 9", |script| script.last_step().2.gpu_capacity = 9);
    caught(3, "the pool says 1001 B", |script| script.last_step().2.host_bytes = Bytes::new(1001));
    caught(3, "1000 B of host memory in use of 999 B", |script| {
        script.last_step().2.host_capacity = Some(Bytes::new(999))
    });
    caught(3, "says 12 layer-blocks", |script| script.last_step().0.gpu_blocks = 12);
    caught(3, "while it is Some(Finished)", |script| script.last_step().2.requests[0].request = RequestId(0));
    caught(3, "while it is Some(Paused)", |script| {
        change_step(script, 2, |event| {
            let Event::Step(_, _, state) = event else { unreachable!() };
            state.requests[1].gpu_blocks = 5;
        })
    });
}

#[test]
fn an_arrival_during_a_step_is_seen_at_its_end() {
    // The last step before request 4 arrived ran from 240 to 250 ms.
    let arriving = |offset| {
        let mut script = honest();
        for event in &mut script.events {
            if let Event::Plain(Record::Arrived { at, request: RequestId(4) }) = event {
                *at = SimTime::ZERO + offset;
            }
        }
        judge(&script, REPORTED).holds()
    };
    assert_eq!([239, 240, 245, 300].map(|offset| arriving(ms(offset))), [false, true, true, true]);
}

#[test]
fn law_4_catches_time_that_goes_back() {
    caught(4, "a record at", |script| script.plain(Record::PlacementRefused { at: SimTime::ZERO }));
    caught(4, "a record at", |script| script.last_step().0.start = SimTime::ZERO);
    caught(4, "without it", |script| {
        script.plain(Record::Arrived { at: SimTime::ZERO, request: RequestId(4) })
    });
    caught(4, "before its arrival", |script| {
        let late = script.now + ms(1);
        for event in &mut script.events {
            if let Event::Plain(Record::Arrived { at, request: RequestId(4) }) = event {
                *at = late;
            }
        }
    });
    caught(4, "before its admission", |script| {
        remove(script, |record| matches!(record, Record::Admitted { request: RequestId(4), .. }))
    });
    caught(4, "r4 finished at", |script| {
        change_step(script, 6, |event| {
            let Event::Step(_, delivered, _) = event else { unreachable!() };
            delivered.clear();
        });
        script.events.pop();
        script.plain(Record::Finished { at: script.now, request: RequestId(4) });
    });
}

#[test]
fn laws_4_and_5_catch_a_pipeline_that_cannot_be() {
    let timeline = |change: fn(&mut crate::script::State)| {
        move |script: &mut Script| {
            change_step(script, 2, |event| {
                let Event::Step(_, _, state) = event else { unreachable!() };
                change(state);
            })
        }
    };
    // Step 2 took 14 ms: no bound of its own may be above that.
    caught(5, "shorter than its bound", |script| {
        change_step(script, 2, |event| {
            let Event::Step(step, ..) = event else { unreachable!() };
            step.bound = Some(ms(14) + SimDuration::from_picos(1));
        })
    });
    // Step 2: layers 0–5 and 9–14 ms, one copy 0–9 ms for layer 2.
    caught(4, "layer 2 computes", timeline(|state| state.timeline.as_mut().unwrap().layers[1].start = ms(4)));
    caught(
        4,
        "before its copy ends",
        timeline(|state| state.timeline.as_mut().unwrap().copies[0].end = ms(10)),
    );
    caught(
        4,
        "overlaps",
        timeline(|state| {
            let copies = &mut state.timeline.as_mut().unwrap().copies;
            copies.push(copies[0]);
        }),
    );
    // One that runs into the step, for layer 2 or beside the copy that began with the step; one for the next step that
    // begins while layer 2 is computed, or in a step after which the next one copies before it has landed.
    caught(
        4,
        "layer 2 starts before its copy ends at 0.01 s",
        timeline(|state| {
            let timeline = state.timeline.as_mut().unwrap();
            timeline.copies.clear();
            timeline.carried = Some(CarriedSpan { layer: Some(Layer(2)), end: ms(10) });
        }),
    );
    caught(
        4,
        "overlaps",
        timeline(|state| {
            state.timeline.as_mut().unwrap().carried = Some(CarriedSpan { layer: None, end: ms(1) });
        }),
    );
    // The step is the third: it begins behind 100 ms of prefill and 10 of decode, and one of 100 ms of prefill follows it.
    fn ahead(start: u64, end: u64) -> CopySpan {
        CopySpan { request: 0, layer: Layer(2), start: ms(start), end: ms(end) }
    }
    caught(
        4,
        "before its request's last layer",
        timeline(|state| state.timeline.as_mut().unwrap().ahead = vec![ahead(13, 14)]),
    );
    caught(
        4,
        "a copy begins at 0.224 s, one of a step before ends at 1.11 s",
        timeline(|state| state.timeline.as_mut().unwrap().ahead = vec![ahead(14, 1000)]),
    );
    caught(5, "is not the event-driven", timeline(|state| state.decode = ms(13)));
    // A write that ends at 16 ms and is waited for, in a step of 14.
    caught(
        5,
        "is not the event-driven",
        timeline(|state| state.timeline.as_mut().unwrap().awaited_write = Some(ms(16))),
    );
    caught(5, "above the step time", timeline(|state| state.prefix_forecast_s = 0.015));
    caught(5, "above the step time", timeline(|state| state.prefix_forecast_s = f64::NAN));
    caught(5, "is below compute", timeline(|state| state.decode = ms(9)));
    caught(5, "is above compute", timeline(|state| state.decode = ms(20)));
    // 14 ms, where the times alone allow 15 ms at the least, or 13 ms at the most.
    caught(5, "is not within", timeline(|state| state.contended_bounds = Some((ms(15), ms(30)))));
    caught(5, "is not within", timeline(|state| state.contended_bounds = Some((ms(9), ms(13)))));
    caught(5, "shorter than its decode part", timeline(|state| state.decode = ms(20)));
}

#[test]
fn violations_are_all_counted_and_a_few_listed() {
    let mut script = honest();
    for _ in 0..100 {
        script.plain(Record::PlacementRefused { at: SimTime::ZERO });
    }
    let verdict = judge(&script, REPORTED);
    assert_eq!((verdict.count, verdict.violations.len()), (100, MOST_LISTED));
    assert!(verdict.violations[0].to_string().starts_with("law 4 at 0.31 s: a record at 0 s"));
}
