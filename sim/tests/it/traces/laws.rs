//! Filters, load and order: examples, and what must hold of any trace.

use std::collections::BTreeSet;

use orbitflow_sim::trace::{Arrival, ReadOptions, Trace, jsonl};
use orbitflow_sim::units::{SimDuration, SimTime};
use proptest::prelude::*;

use super::{AUTHORS, arrivals, ids, read, read_with, seconds};

#[test]
fn the_load_factor_divides_starts_and_leaves_think_times() {
    let load = |text: &str, load| {
        arrivals(&read_with(text, &ReadOptions { load, ..ReadOptions::default() }).unwrap())
    };
    let sessions = "{\"arrival_s\":3,\"session\":1,\"prompt_tokens\":1,\"output_tokens\":1}\n\
                    {\"think_s\":5,\"session\":1,\"prompt_tokens\":1,\"output_tokens\":1}\n";
    let doubled = load(sessions, 2.0);
    assert_eq!(doubled[0], seconds(1.5));
    assert!(matches!(doubled[1], Arrival::AfterTurn { think, .. } if think == SimDuration::from_secs(5)));
    // floor(5 / 2) = 2
    assert_eq!(load(AUTHORS, 2.0), [0, 2, 2].map(Arrival::Step));
    assert_eq!(load(AUTHORS, 0.5), [0, 10, 10].map(Arrival::Step));
    let options = ReadOptions {
        load: 2.0,
        step_time: Some(SimDuration::from_secs_f64(0.05)),
        ..ReadOptions::default()
    };
    // 5 steps of 50 ms are 0.25 s, at load 2 0.125 s
    assert_eq!(arrivals(&read_with(AUTHORS, &options).unwrap()), [0.0, 0.125, 0.125].map(seconds));
}

#[test]
fn the_first_so_many_long_prompts_can_be_asked_for() {
    let text: String = (0..100)
        .map(|i| {
            format!("{{\"arrival_s\":{},\"prompt_tokens\":{},\"output_tokens\":1}}\n", 100 - i, 1 + i % 10)
        })
        .collect();
    let options = ReadOptions { min_prompt_tokens: 8, limit: Some(5), ..ReadOptions::default() };
    let trace = read_with(&text, &options).unwrap();
    // Row i arrives at 100 − i: the earliest rows with i mod 10 in 7..=9 are 99, 98, 97, 89, 88.
    assert_eq!(ids(&trace), ["99", "98", "97", "89", "88"]);
    assert!(trace.notes.iter().any(|note| note == "left out 70 of 100 rows: prompt below 8 tokens"));
    assert!(trace.notes.iter().any(|note| note == "kept the first 5 of 30 requests"));
}

#[test]
fn a_session_whose_first_turn_is_left_out_starts_a_think_time_later() {
    let text = "{\"arrival_s\":3,\"session\":1,\"prompt_tokens\":1,\"output_tokens\":1}\n\
                {\"think_s\":5,\"session\":1,\"prompt_tokens\":9,\"output_tokens\":1}\n\
                {\"think_s\":7,\"session\":1,\"prompt_tokens\":9,\"output_tokens\":1}\n";
    let options = ReadOptions { min_prompt_tokens: 2, ..ReadOptions::default() };
    let trace = read_with(text, &options).unwrap();
    assert_eq!(trace.requests[0].arrival, seconds(8.0));
    assert!(matches!(trace.requests[1].arrival, Arrival::AfterTurn { previous, .. } if previous.0 == 0));
}

/// One line of a random trace: seconds of arrival or think time, session (0 to 3, or none from 4), prompt.
fn random_lines() -> impl Strategy<Value = Vec<(u32, u32, u64)>> {
    proptest::collection::vec((0..50_u32, 0..8_u32, 1..20_u64), 1..60)
}

fn as_jsonl(lines: &[(u32, u32, u64)]) -> String {
    let mut started = BTreeSet::new();
    let mut text = String::new();
    for &(time, session, prompt) in lines {
        let (key, session) = match session {
            0..4 if started.insert(session) => ("arrival_s", format!(",\"session\":{session}")),
            0..4 => ("think_s", format!(",\"session\":{session}")),
            _ => ("arrival_s", String::new()),
        };
        text += &format!(
            "{{\"{key}\":{time}.123456789012,\"prompt_tokens\":{prompt},\"output_tokens\":2{session}}}\n"
        );
    }
    text
}

/// The earliest moment at which each request can arrive.
fn earliest(trace: &Trace) -> Vec<SimTime> {
    let mut earliest: Vec<SimTime> = Vec::new();
    for request in &trace.requests {
        earliest.push(match request.arrival {
            Arrival::At(at) => at,
            Arrival::Step(step) => SimTime::from_picos(step),
            Arrival::AfterTurn { previous, think } => earliest[previous.index()] + think,
        });
    }
    earliest
}

proptest! {
    #[test]
    fn whatever_is_filtered_the_trace_stays_sorted_and_its_sessions_whole(
        lines in random_lines(), least in 0..15_u64, limit in 1..60_usize, load in 0.1..10.0_f64,
    ) {
        let text = as_jsonl(&lines);
        let options = ReadOptions { min_prompt_tokens: least, limit: Some(limit), load, ..ReadOptions::default() };
        let kept = lines.iter().filter(|(_, _, prompt)| *prompt >= least).count();
        let Ok(trace) = read_with(&text, &options) else {
            prop_assert_eq!(kept, 0);
            return Ok(());
        };
        prop_assert_eq!(trace.requests.len(), kept.min(limit));
        // `earliest` reads previous turns first: a turn before its previous one would be out of bounds.
        prop_assert!(earliest(&trace).is_sorted());
        let names: BTreeSet<&str> = ids(&trace).into_iter().collect();
        prop_assert_eq!(names.len(), trace.requests.len());
        let mut heads = BTreeSet::new();
        for request in &trace.requests {
            prop_assert!(request.prompt_tokens >= least);
            match request.arrival {
                Arrival::AfterTurn { previous, .. } => {
                    prop_assert_eq!(trace.requests[previous.index()].session, request.session);
                }
                _ => prop_assert!(request.session.is_none_or(|session| heads.insert(session))),
            }
        }
    }

    #[test]
    fn what_is_written_in_our_own_format_is_read_back_as_it_was(lines in random_lines(), load in 0.1..10.0_f64) {
        let options = ReadOptions { load, ..ReadOptions::default() };
        let trace = read_with(&as_jsonl(&lines), &options).unwrap();
        let again = read(&jsonl::write(&trace));
        prop_assert_eq!(again.requests, trace.requests);
    }
}
