//! The planner: how far its forecast was from the step, and what made it plan.

use std::collections::BTreeSet;

use super::markup::{Table, head, text};
use super::{Shown, name_of};
use crate::plot::words;

/// Triggers in the order of design §4.1, with what they mean; others keep their name.
const TRIGGERS: [(&str, &str); 7] = [
    ("live_set", "the live set changed: a prefill ended, a request finished, was preempted or came back"),
    ("window", "the plan's window was over"),
    ("misfit", "the layout would not have fitted the next step"),
    ("feedback", "measured rates were off the believed ones"),
    ("max_pause", "a paused request was overdue"),
    ("idle", "nothing else could run"),
    ("fallback", "the heuristic had placed its share of steps"),
];

/// The section on the forecast error.
pub fn forecast(policies: &[Shown<'_>]) -> String {
    let with: Vec<&Shown<'_>> =
        policies.iter().filter(|shown| shown.result.forecast_error_pct.median.is_some()).collect();
    if with.is_empty() {
        return "<p>No policy here makes forecasts.</p>\n".to_owned();
    }
    let largest = with.iter().filter_map(|shown| shown.result.forecast_error_pct.p95).fold(0.0, f64::max);
    let mut table = Table::new(
        "Forecast error of each policy that plans",
        "class=\"sortable bars\"",
        &[
            head("Policy", ""),
            head("P95", "to the largest"),
            head("Median", "% of the step"),
            head("P95", "% of the step"),
        ],
    );
    for shown in &with {
        let error = shown.result.forecast_error_pct;
        let width =
            error.p95.filter(|_| largest > 0.0).map_or(0.0, |p95| (p95 / largest * 1e3).round() / 10.0);
        let bar = format!(
            "<div class=\"bar\" aria-hidden=\"true\"><span style=\"width:{width}%;background:var(--p{})\"></span></div>",
            shown.index
        );
        table
            .row(&shown.attribute(), &name_of(shown))
            .html(&bar)
            .number(error.median, small_percent)
            .number(error.p95, small_percent);
    }
    format!(
        "<p>|step − forecast| / step over decode steps that have a forecast, taken at the contexts of that step; none in \
         the fallback, without a planner, or on steps with restores.</p>\n{}",
        table.finish()
    )
}

/// Errors of a billionth of a step are rounding, and read so.
fn small_percent(percent: f64) -> String {
    match percent {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.001 => "under 0.001 %".to_owned(),
        percent => format!("{} %", words::number(percent)),
    }
}

/// The section on what made the policies plan.
pub fn plans(policies: &[Shown<'_>]) -> String {
    let with: Vec<&Shown<'_>> =
        policies.iter().filter(|shown| !shown.result.plans.by_trigger.is_empty()).collect();
    if with.is_empty() {
        return "<p>No policy here has a planner.</p>\n".to_owned();
    }
    let fired: BTreeSet<&str> =
        with.iter().flat_map(|shown| shown.result.plans.by_trigger.keys().map(String::as_str)).collect();
    let known = TRIGGERS.iter().filter(|(name, _)| fired.contains(name)).copied();
    let unknown = fired.iter().filter(|name| TRIGGERS.iter().all(|(known, _)| known != *name));
    let triggers: Vec<(&str, &str)> = known.chain(unknown.map(|name| (*name, ""))).collect();
    let all = |shown: &Shown<'_>| shown.result.plans.by_trigger.values().sum::<u64>();
    let most = with.iter().map(|shown| all(shown)).max().unwrap_or(0);
    let mut table = Table::new(
        "Plans of each policy by what triggered them",
        "class=\"sortable bars\"",
        &[
            head("Policy", ""),
            head("Plans by trigger", "all bars on one scale"),
            head("Plans", ""),
            head("By trigger", ""),
            head("No placement within the SLO", ""),
            head("No placement fits memory", ""),
            head("Search cut off", ""),
        ],
    );
    for shown in with {
        let plans = &shown.result.plans;
        let (mut spans, mut counts) = (String::new(), Vec::new());
        for (place, (name, _)) in triggers.iter().enumerate() {
            let count = plans.by_trigger.get(*name).copied().unwrap_or(0);
            if count > 0 && most > 0 {
                let width = (count as f64 / most as f64 * 1e5).round() / 1e3;
                let words = format!("{name} {count}");
                let title = text(&words);
                spans += &format!(
                    "<span class=\"{}\" style=\"width:{width}%\" title=\"{title}\"></span>",
                    color(place)
                );
                counts.push(words);
            }
        }
        table
            .row(&shown.attribute(), &name_of(shown))
            .html(&format!("<div class=\"bar\" aria-hidden=\"true\">{spans}</div>"))
            .count(Some(all(shown)))
            .words(&counts.join(", "))
            .count(Some(plans.infeasible_slo))
            .count(Some(plans.infeasible_memory))
            .count(Some(plans.node_cap_hits));
    }
    let key: String = (triggers.iter().enumerate())
        .map(|(place, (name, meaning))| {
            let colon = if meaning.is_empty() { "" } else { ": " };
            format!("<li><span class=\"box {}\"></span>{}{colon}{meaning}</li>", color(place), text(name))
        })
        .collect();
    format!("<ul class=\"key\">{key}</ul>\n{}", table.finish())
}

fn color(place: usize) -> String {
    format!("t{}", place % 8)
}
