//! Who was held up: per request, the time after its first token in which it made none.
//!
//! That time is (mean gap TBT − mean step TBT) · (delivered tokens − 1) of `requests.csv`: the gaps less the steps
//! that made the tokens. It holds pauses, preemptions and the prefills of others, so that a method without pauses is
//! seen as well. A request that was still paused at the end counts its pause.

use serde_json::json;

use super::chart::{Chart, Stops, place};
use super::markup::{Table, grouped, head, text};
use super::{Shown, name_of};
use crate::plot::canvas::Point;
use crate::plot::panel::Axis;
use crate::plot::words;
use crate::report::rows::RequestRow;

const SIZE: (f64, f64) = (860.0, 340.0);
/// Requests of a policy that are drawn at most, those held up longest.
pub const MOST_DRAWN: usize = 200;
/// Requests of a policy in the table.
const MOST_LISTED: usize = 3;

/// Seconds.
fn held_up(request: &RequestRow) -> f64 {
    let between = match (request.tpot_gap_s, request.tpot_step_s) {
        (Some(gap), Some(step)) => (gap - step) * request.delivered_tokens.saturating_sub(1) as f64,
        _ => 0.0,
    };
    between.max(request.paused_s)
}

/// The requests of a policy, those held up longest first; equal ones in the order of the trace.
fn ranked<'a>(requests: &'a [RequestRow], shown: &Shown<'_>) -> Vec<(f64, &'a RequestRow)> {
    let own = requests.iter().filter(|request| request.policy == shown.result.key);
    let mut ranked: Vec<(f64, &RequestRow)> = own.map(|request| (held_up(request), request)).collect();
    ranked.sort_by(|one, other| other.0.total_cmp(&one.0));
    ranked
}

/// The section.
pub fn section(requests: &[RequestRow], policies: &[Shown<'_>]) -> String {
    let all: Vec<Vec<(f64, &RequestRow)>> = policies.iter().map(|shown| ranked(requests, shown)).collect();
    let most = all.iter().map(Vec::len).max().unwrap_or(0);
    let thinned = if most > MOST_DRAWN {
        format!(
            " Of the {} requests of each policy the {MOST_DRAWN} held up longest are drawn; the table counts all.",
            grouped(most as u64)
        )
    } else {
        String::new()
    };
    format!(
        "<p>Each mark is a request: how long it made no token after its first one, because it was paused or preempted, \
         or others' prompts were processed. Long prompts are to the right: marks high on the right are long requests \
         that starved.{thinned}</p>\n{}<h3>All requests</h3>\n{}<h3>Those held up longest</h3>\n{}",
        draw(&all, policies),
        counts(&all, policies),
        longest(&all, policies)
    )
}

fn draw(all: &[Vec<(f64, &RequestRow)>], policies: &[Shown<'_>]) -> String {
    let drawn: Vec<_> = all.iter().map(|ranked| &ranked[..ranked.len().min(MOST_DRAWN)]).collect();
    let points = || drawn.iter().flat_map(|ranked| ranked.iter());
    let most_tokens = points().map(|(_, request)| request.prompt_tokens).max().unwrap_or(0);
    let x = Axis::from_zero(most_tokens as f64);
    let y = Axis::from_zero(points().map(|point| point.0).fold(0.0, f64::max));
    let mut chart = Chart::new(SIZE, x, y, 0);
    chart.x_axis(&x.ticks(words::number), "prompt tokens of the request");
    chart.y_axis(&y.ticks(words::number), "seconds without a token");
    chart.frame();
    if points().next().is_none() {
        chart.message("no request arrived");
    }
    let mut stops = Stops {
        along: "xy",
        at: Vec::new(),
        heads: Vec::new(),
        series: Vec::new(),
        values: vec![Vec::new()],
    };
    // The prominent policy is drawn last, above the others.
    let mut order: Vec<_> = policies.iter().zip(&drawn).collect();
    order.sort_by_key(|(shown, _)| shown.style.is_prominent());
    for (shown, ranked) in order {
        let places: Vec<Point> = ranked
            .iter()
            .map(|(held, request)| chart.panel.at(request.prompt_tokens as f64, *held))
            .collect();
        chart.series(shown, &[], &places);
        for ((held, request), at) in ranked.iter().zip(&places) {
            stops.at.push(json!([place(at.0), place(at.1)]));
            stops.heads.push(format!("{}: request {}", shown.name, request.id));
            stops.series.push(json!(shown.index));
            stops.values[0].push(Some(format!(
                "{} without a token; paused {} in {} pauses; {} preemptions; {} prompt tokens; {}",
                words::seconds(*held),
                words::seconds(request.paused_s),
                request.pauses,
                request.preemptions,
                grouped(request.prompt_tokens),
                request.state
            )));
        }
    }
    let described: Vec<String> = (policies.iter().zip(all))
        .filter_map(|(shown, ranked)| Some(format!("{} {}", shown.name, words::seconds(ranked.first()?.0))))
        .collect();
    let description = format!(
        "Per request against its prompt tokens; the longest of each policy: {}",
        described.join(", ")
    );
    chart.finish(
        "Time without a token after the first",
        "per request, against the length of its prompt",
        &description,
        &stops,
    )
}

fn counts(all: &[Vec<(f64, &RequestRow)>], policies: &[Shown<'_>]) -> String {
    let mut table = Table::new(
        "How many requests each policy held up",
        "class=\"sortable\"",
        &[
            head("Policy", ""),
            head("Paused", "requests"),
            head("Pauses", ""),
            head("Longest pause", ""),
            head("Preempted", "requests"),
            head("Preemptions", ""),
            head("Held up over 60 s", "requests"),
            head("Longest", "in one request"),
            head("Without a first token", "requests"),
        ],
    );
    for (shown, ranked) in policies.iter().zip(all) {
        let count = |is: &dyn Fn(f64, &RequestRow) -> bool| {
            Some(ranked.iter().filter(|(held, request)| is(*held, request)).count() as u64)
        };
        table
            .row(&shown.attribute(), &name_of(shown))
            .count(count(&|_, request| request.pauses > 0))
            .count(Some(shown.result.pauses.count))
            .number(Some(shown.result.pauses.longest_s), words::seconds)
            .count(count(&|_, request| request.preemptions > 0))
            .count(Some(shown.result.preemptions))
            .count(count(&|held, _| held > 60.0))
            .number(ranked.first().map(|(held, _)| *held), words::seconds)
            .count(Some(shown.without_first_token));
    }
    table.finish()
}

fn longest(all: &[Vec<(f64, &RequestRow)>], policies: &[Shown<'_>]) -> String {
    let mut table = Table::new(
        "The requests that each policy held up longest",
        "class=\"sortable\"",
        &[
            head("Policy", ""),
            head("Request", ""),
            head("Prompt", "tokens"),
            head("Output", "tokens"),
            head("Without a token", "after the first"),
            head("Paused", ""),
            head("Pauses", ""),
            head("Preemptions", ""),
            head("TTFT", ""),
            head("State", ""),
        ],
    );
    let mut any = false;
    for (shown, ranked) in policies.iter().zip(all) {
        for (held, request) in ranked.iter().take(MOST_LISTED).filter(|(held, _)| *held > 0.0) {
            any = true;
            table
                .row(&shown.attribute(), &name_of(shown))
                .html(&format!("<code>{}</code>", text(&request.id)))
                .count(Some(request.prompt_tokens))
                .count(Some(request.output_tokens))
                .number(Some(*held), words::seconds)
                .number(Some(request.paused_s), words::seconds)
                .count(Some(request.pauses))
                .count(Some(request.preemptions))
                .number(request.ttft_s, words::seconds)
                .words(&request.state);
        }
    }
    if any { table.finish() } else { "<p>No request was held up.</p>\n".to_owned() }
}
