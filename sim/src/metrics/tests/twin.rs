//! The slow twin: every token is kept, every score computed from the list at the end, in the words of design §6.

use proptest::prelude::*;

use super::score;
use crate::ids::RequestId;
use crate::metrics::{LateTokens, Outcome, RequestEnd, RequestFacts, ScaleSlo, Scoring};
use crate::record::Record;
use crate::script::{Event, Script, ms};
use crate::units::{SimDuration, SimTime};

/// What happens next in a random run.
#[derive(Clone, Copy, Debug)]
enum Move {
    Idle(u64),
    Arrive,
    RejectNewest,
    AdmitAll(u64),
    Decode(u64),
    Pause(usize),
    ResumeAll,
    Cap(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => (0u64..500).prop_map(Move::Idle),
        4 => Just(Move::Arrive),
        1 => Just(Move::RejectNewest),
        3 => (1u64..300).prop_map(Move::AdmitAll),
        12 => (1u64..90).prop_map(Move::Decode),
        2 => (0usize..8).prop_map(Move::Pause),
        2 => Just(Move::ResumeAll),
        1 => (0usize..8).prop_map(Move::Cap),
    ];
    prop::collection::vec(one, 0..150)
}

/// Plays the moves that are possible; requests finish with their last token.
fn play(moves: &[Move], facts: &[RequestFacts<'_>]) -> Script {
    let mut script = Script::default();
    let mut made = vec![0; facts.len()];
    let (mut next, mut waiting, mut running, mut paused) = (0, Vec::new(), Vec::<u32>::new(), Vec::new());
    for &step in moves {
        let mut batch = Vec::new();
        match step {
            Move::Idle(span) => script.idle(ms(span)),
            Move::Arrive if (next as usize) < facts.len() => {
                script.arrive(next);
                waiting.push(next);
                next += 1;
            }
            Move::RejectNewest => waiting.pop().into_iter().for_each(|request| script.reject(request)),
            Move::AdmitAll(span) if !waiting.is_empty() => {
                waiting.iter().for_each(|&request| script.admit(request));
                batch.append(&mut waiting);
                script.prefill(ms(span), &batch);
                running.extend(&batch);
            }
            Move::Decode(span) if !running.is_empty() => {
                batch.clone_from(&running);
                script.decode(ms(span), &batch);
            }
            Move::Pause(place) if place < running.len() => {
                let request = running.remove(place);
                script.pause(request);
                paused.push(request);
            }
            Move::ResumeAll => {
                paused.iter().for_each(|&request| script.resume(request));
                running.append(&mut paused);
            }
            Move::Cap(place) if place < running.len() => script.cap(running.remove(place)),
            _ => {}
        }
        for request in batch {
            made[request as usize] += 1;
            if made[request as usize] == facts[request as usize].output_tokens {
                running.retain(|other| *other != request);
                script.finish(request);
            }
        }
    }
    script
}

/// One request, every token with its time and the duration of its step.
#[derive(Default)]
struct Life {
    arrived: Option<SimTime>,
    tokens: Vec<(SimTime, SimDuration)>,
    end: Option<RequestEnd>,
}

fn lives(script: &Script, count: usize) -> Vec<Life> {
    let mut lives: Vec<Life> = (0..count).map(|_| Life::default()).collect();
    for event in &script.events {
        match event {
            Event::Plain(Record::Arrived { at, request }) => lives[request.index()].arrived = Some(*at),
            Event::Plain(Record::Rejected { request, .. }) => {
                lives[request.index()].end = Some(RequestEnd::Rejected);
            }
            Event::Plain(Record::Capped { request, .. }) => {
                lives[request.index()].end = Some(RequestEnd::Capped);
            }
            Event::Plain(Record::Finished { request, .. }) => {
                lives[request.index()].end = Some(RequestEnd::Finished);
            }
            Event::Plain(_) => {}
            Event::Step(step, delivered, _) => {
                for RequestId(request) in delivered {
                    lives[*request as usize].tokens.push((step.start + step.duration, step.duration));
                }
            }
        }
    }
    lives
}

/// How late each token is under deposit playback, and when the last one is shown.
fn playback(made: &[u64], slo: u64) -> (Vec<u64>, u64) {
    let mut shown = made[0];
    let late = made[1..].iter().map(|&made| {
        let due = shown + slo;
        shown = due.max(made);
        made.saturating_sub(due)
    });
    (late.collect(), shown)
}

#[derive(Debug, Default, PartialEq)]
struct Scores {
    arrived: u64,
    due: u64,
    late: LateTokens,
    met: [u64; 5],
    stall: u128,
    playing: u128,
}

fn slow_scores(lives: &[Life], facts: &[RequestFacts<'_>], scoring: &Scoring, at: ScaleSlo) -> Scores {
    let mut scores = Scores::default();
    let warmup = scoring.warmup.as_picos();
    for (life, facts) in lives.iter().zip(facts) {
        let Some(arrived) = life.arrived.map(SimTime::as_picos).filter(|arrived| *arrived >= warmup) else {
            continue;
        };
        let slo = facts.slo.map_or(at.slo, |slo| slo.scale(at.scale)).as_picos();
        let gaps: Vec<u64> =
            life.tokens.windows(2).map(|pair| pair[1].0.since(pair[0].0).as_picos()).collect();
        let steps: Vec<u64> = life.tokens.iter().skip(1).map(|token| token.1.as_picos()).collect();
        let missing = facts.output_tokens - 1 - steps.len() as u64;
        let above = |values: &[u64], limit: u64| values.iter().filter(|value| **value > limit).count() as u64;
        scores.arrived += 1;
        scores.due += facts.output_tokens - 1;
        let mut late = LateTokens { step: above(&steps, slo), gap: above(&gaps, slo), ..Default::default() };
        if let Some((first, _)) = life.tokens.first() {
            let made: Vec<u64> = life.tokens.iter().map(|token| token.0.as_picos()).collect();
            let (stalls, shown) = playback(&made, slo);
            late.gap_deposit = above(&stalls, 0);
            scores.stall += stalls.iter().map(|stall| u128::from(*stall)).sum::<u128>();
            scores.playing += u128::from(shown - first.as_picos());
            let mut clock = vec![0];
            steps.iter().for_each(|step| clock.push(clock.last().unwrap() + step));
            late.step_deposit = above(&playback(&clock, slo).0, 0);
        }
        late.add_all(missing);
        scores.late.add(late);
        let ttft = life.tokens.first().map(|token| token.0.as_picos() - arrived);
        let ttft_slo = facts.ttft_slo.or(scoring.ttft_slo).map(SimDuration::as_picos);
        let in_time = |promise: u64| ttft.is_some_and(|ttft| ttft <= promise);
        let ttft_or_5_s = ttft_slo.unwrap_or(5_000_000_000_000);
        let finished = life.end == Some(RequestEnd::Finished);
        let tpot = |values: &[u64]| finished && values.iter().sum::<u64>() <= slo * values.len() as u64;
        let e2e = finished
            && life.tokens.last().unwrap().0.as_picos() <= arrived + ttft_or_5_s + facts.output_tokens * slo;
        let good = tpot(&gaps) && ttft_slo.is_none_or(in_time);
        for (count, met) in
            scores.met.iter_mut().zip([tpot(&steps), tpot(&gaps), in_time(ttft_or_5_s), e2e, good])
        {
            *count += u64::from(met);
        }
    }
    scores
}

fn fast_scores(outcome: &Outcome<'_>, scale: usize) -> Scores {
    let scores = outcome.scales[scale];
    Scores {
        arrived: scores.arrived,
        due: scores.due,
        late: scores.late,
        met: [scores.tpot_step_met, scores.tpot_gap_met, scores.ttft_met, scores.e2e_met, scores.good],
        stall: scores.stall,
        playing: scores.playing,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_streaming_sink_says_what_the_list_of_all_tokens_says(
        moves in moves(),
        asked in prop::collection::vec((1u64..30, prop::option::of(1u64..60), prop::option::of(0u64..900)), 1..12),
        slos in prop::collection::vec(1u64..90, 1..4),
        ttft in prop::option::of(1u64..900),
        warmup in prop_oneof![Just(0u64), 0u64..2000],
    ) {
        let facts: Vec<RequestFacts<'_>> = asked.iter().map(|&(output_tokens, slo, ttft)| RequestFacts {
            id: "r",
            prompt_tokens: 1,
            output_tokens,
            slo: slo.filter(|slo| slo % 2 == 0).map(ms),
            ttft_slo: ttft.map(ms),
        }).collect();
        let scales: Vec<ScaleSlo> = slos.iter().enumerate()
            .map(|(place, &slo)| ScaleSlo { scale: 1.0 + place as f64, slo: ms(slo) }).collect();
        let scoring = Scoring { scales, ttft_slo: ttft.map(ms), warmup: ms(warmup) };
        let script = play(&moves, &facts);
        let lives = lives(&script, facts.len());
        let outcome = score(&script, facts.clone(), scoring.clone());

        for (scale, &at) in scoring.scales.iter().enumerate() {
            prop_assert_eq!(fast_scores(&outcome, scale), slow_scores(&lives, &facts, &scoring, at));
        }
        let scored = || lives.iter().filter(|life| life.arrived.is_some_and(|at| at.as_picos() >= ms(warmup).as_picos()));
        let mut gaps: Vec<u64> = scored()
            .flat_map(|life| life.tokens.windows(2).map(|pair| pair[1].0.since(pair[0].0).as_picos())).collect();
        let mut steps: Vec<u64> = scored()
            .flat_map(|life| life.tokens.iter().skip(1).map(|token| token.1.as_picos())).collect();
        gaps.sort_unstable();
        steps.sort_unstable();
        for per_mille in [0u32, 1, 500, 900, 950, 990, 1000] {
            let rank = |values: &[u64]| {
                let rank = (values.len() * per_mille as usize).div_ceil(1000).max(1);
                values.get(rank - 1).copied()
            };
            prop_assert_eq!(outcome.tbt_gap.quantile(per_mille), rank(&gaps));
            prop_assert_eq!(outcome.tbt_step.quantile(per_mille), rank(&steps));
        }
        prop_assert_eq!(outcome.busy.sum() + outcome.idle, outcome.makespan);
        let made = lives.iter().map(|life| life.tokens.len() as u64).sum::<u64>();
        prop_assert_eq!(outcome.delivered_tokens, made);
    }
}
