//! Two sentences that the numbers write themselves.
//!
//! The first is about requests that were served in time end to end (e2e), at the SLO scale that was planned for; the
//! second about the time between tokens, which cannot see a request that is not running, so e2e, playback stall, the
//! median TTFT and throughput stand beside it (design §6). Shares that read the same are level: no one leads by
//! what is not shown.

use super::Shown;
use crate::plot::words;
use crate::report::rows::{PolicyResult, Results};

/// The policy that the others are compared with, where it takes part.
const SUBJECT: &str = "orbitflow";

/// The verdict.
pub fn sentences(results: &Results, policies: &[Shown<'_>]) -> [String; 2] {
    let scale = policies.first().and_then(|shown| shown.result.by_slo_scale.first());
    let at = scale.map_or(String::new(), |scale| {
        format!("At SLO scale {} ({} per token) ", words::factor(scale.scale), words::seconds(results.slo_s))
    });
    match policies {
        [] => [format!("{at}nothing was run."), "There is nothing to compare.".to_owned()],
        [only] => [
            format!("{at}{} served {} of requests in time end to end (e2e).", only.name, e2e(only.result)),
            format!(
                "Of the tokens due {} came in time (TBT, step, with deposit), with {}; nothing was compared with it.",
                tbt(only.result),
                price(only.result)
            ),
        ],
        _ => [end_to_end(&at, policies), between_tokens(policies)],
    }
}

fn e2e(result: &PolicyResult) -> String {
    words::percent(result.attainment_pct.e2e)
}

fn tbt(result: &PolicyResult) -> String {
    words::percent(result.attainment_pct.tbt_step_deposit)
}

/// What a TBT score must not be read without.
fn price(result: &PolicyResult) -> String {
    format!(
        "e2e {}, playback stall {}, median TTFT {} and {} tokens/s",
        e2e(result),
        result.playback_stall_pct.map_or("–".to_owned(), words::percent),
        result.ttft_s.p50.map_or("never".to_owned(), words::seconds),
        words::number(result.throughput_tokens_per_s)
    )
}

/// What several pay: each from the least to the most.
fn prices(shown: &[&Shown<'_>]) -> String {
    let range = |value: &dyn Fn(&PolicyResult) -> Option<f64>, write: fn(f64) -> String, none: &str| {
        let mut values: Vec<f64> = shown.iter().filter_map(|shown| value(shown.result)).collect();
        values.sort_by(f64::total_cmp);
        let ends = (values.first().copied().map(write), values.last().copied().map(write));
        match ends {
            (Some(least), Some(most)) if least == most => least,
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => none.to_owned(),
        }
    };
    format!(
        "e2e {}, playback stall {}, median TTFT {} and {} tokens/s",
        range(&|result| Some(result.attainment_pct.e2e), words::percent, "–"),
        range(&|result| result.playback_stall_pct, words::percent, "–"),
        range(&|result| result.ttft_s.p50, words::seconds, "never"),
        range(&|result| Some(result.throughput_tokens_per_s), words::number, "–")
    )
}

/// Those whose share reads the same as the best one's, the others from the best down.
fn ranked<'a, 'b>(
    policies: &'a [Shown<'b>],
    share: fn(&PolicyResult) -> f64,
) -> (Vec<&'a Shown<'b>>, Vec<&'a Shown<'b>>) {
    let mut all: Vec<&Shown<'_>> = policies.iter().collect();
    // Stable: equal shares stay in the order of the results.
    all.sort_by(|one, other| share(other.result).total_cmp(&share(one.result)));
    let best = words::percent(share(all[0].result));
    all.into_iter().partition(|shown| words::percent(share(shown.result)) == best)
}

fn names(shown: &[&Shown<'_>]) -> String {
    let names: Vec<&str> = shown.iter().map(|shown| shown.name.as_str()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn end_to_end(at: &str, policies: &[Shown<'_>]) -> String {
    let (leaders, others) = ranked(policies, |result| result.attainment_pct.e2e);
    let best = e2e(leaders[0].result);
    let Some(next) = others.first() else {
        return format!(
            "{at}no policy is ahead: all {} served {best} of requests in time end to end (e2e).",
            policies.len()
        );
    };
    let level: Vec<&Shown<'_>> =
        others.iter().copied().take_while(|shown| e2e(shown.result) == e2e(next.result)).collect();
    let subject = others
        .iter()
        .skip(level.len())
        .find(|shown| shown.result.key == SUBJECT)
        .map_or(String::new(), |shown| format!("; {} served {}", shown.name, e2e(shown.result)));
    let next_best = match level.len() {
        1 => format!("the next best, {}, served {}", next.name, e2e(next.result)),
        all if all == others.len() => format!("the others served {} each", e2e(next.result)),
        _ => format!("the next best, {}, served {} each", names(&level), e2e(next.result)),
    };
    match leaders[..] {
        [leader] => format!(
            "{at}{} served the most requests in time end to end (e2e): {best}; {next_best}{subject}.",
            leader.name
        ),
        _ => format!(
            "{at}{} are level: each served {best} of requests in time end to end (e2e); {next_best}{subject}.",
            names(&leaders)
        ),
    }
}

fn between_tokens(policies: &[Shown<'_>]) -> String {
    let (leaders, others) = ranked(policies, |result| result.attainment_pct.tbt_step_deposit);
    let (first, _) = ranked(policies, |result| result.attainment_pct.e2e);
    let best = tbt(leaders[0].result);
    let Some(next) = others.first() else {
        return format!(
            "By the time between tokens (TBT, step, with deposit) they are level as well, each with {best} of due tokens \
             in time, with {}.",
            prices(&leaders)
        );
    };
    if let ([leader], [first]) = (&leaders[..], &first[..])
        && leader.index == first.index
    {
        return format!(
            "It also leads by the time between tokens (TBT, step, with deposit: {best} of due tokens in time, with {}; \
             {} has {}, with {}).",
            price(leader.result),
            next.name,
            tbt(next.result),
            price(next.result)
        );
    }
    let lead = if leaders.len() == 1 { "leads" } else { "are level" };
    let of_leaders = match leaders.len() {
        1 | 2 => leaders.iter().map(|shown| format!("{} has {}", shown.name, price(shown.result))).collect(),
        _ => vec![format!("they have {}", prices(&leaders))],
    };
    let compared: Vec<String> = of_leaders
        .into_iter()
        .chain((first.iter().filter(|first| leaders.iter().all(|leader| leader.index != first.index))).map(
            |first| format!("{} has TBT {}, with {}", first.name, tbt(first.result), price(first.result)),
        ))
        .collect();
    format!(
        "By the time between tokens (TBT, step, with deposit), which cannot see a request that waits or is paused, {} {lead} \
         with {best} of due tokens in time, but it must be read with its price: {}.",
        names(&leaders),
        compared.join("; ")
    )
}
