//! Where each policy's time went: compute, stall, prefill, restore, planning, idle.

use std::fmt::Write as _;

use super::markup::{Table, head, text};
use super::{Shown, name_of};
use crate::plot::words;
use crate::report::rows::Busy;

/// Name, class, what it is, and the part.
type Part = (&'static str, &'static str, &'static str, fn(&Busy) -> f64);

const PARTS: [Part; 6] = [
    ("compute", "b-compute", "decode steps computing", |busy| busy.compute),
    ("stall", "b-stall", "computing waits for copies over the link", |busy| busy.stall),
    ("prefill", "b-prefill", "prompts", |busy| busy.prefill),
    ("restore", "b-restore", "blocking copies of layers that become resident", |busy| busy.restore),
    ("planning", "b-planning", "solver time that delayed a step", |busy| busy.planning),
    ("idle", "b-idle", "nothing to do", |busy| busy.idle),
];

/// The section.
pub fn section(policies: &[Shown<'_>]) -> String {
    let longest = policies.iter().map(|shown| total(&shown.result.busy_s)).fold(0.0, f64::max);
    let mut table = Table::new(
        "Where each policy's time went, in seconds",
        "class=\"sortable bars\"",
        &[
            head("Policy", ""),
            head("First arrival to last token", "all bars on one scale"),
            head("Makespan", ""),
            head("Compute", ""),
            head("Stall", ""),
            head("Prefill", ""),
            head("Restore", ""),
            head("Planning", ""),
            head("Idle", ""),
        ],
    );
    for shown in policies {
        let busy = &shown.result.busy_s;
        table.row(&shown.attribute(), &name_of(shown)).html(&bar(busy, longest));
        table.number(Some(shown.result.makespan_s), words::seconds);
        for (_, _, _, part) in PARTS {
            let share = words::percent(share(part(busy), total(busy)));
            table.number_with(part(busy), words::seconds, &share);
        }
    }
    let key: String = (PARTS.iter())
        .map(|(name, class, what, _)| format!("<li><span class=\"box {class}\"></span>{name}: {what}</li>"))
        .collect();
    format!("<ul class=\"key\">{key}</ul>\n{}", table.finish())
}

fn total(busy: &Busy) -> f64 {
    PARTS.iter().map(|(_, _, _, part)| part(busy)).sum()
}

/// Percent.
fn share(seconds: f64, total: f64) -> f64 {
    if total > 0.0 { seconds / total * 100.0 } else { 0.0 }
}

fn bar(busy: &Busy, longest: f64) -> String {
    let mut spans = String::new();
    for (name, class, _, part) in PARTS {
        let seconds = part(busy);
        if seconds > 0.0 && longest > 0.0 {
            let width = (seconds / longest * 1e5).round() / 1e3;
            let share = words::percent(share(seconds, total(busy)));
            let title = text(&format!("{name}: {} ({share})", words::seconds(seconds)));
            let _ =
                write!(spans, "<span class=\"{class}\" style=\"width:{width}%\" title=\"{title}\"></span>");
        }
    }
    // The numbers stand in the same row.
    format!("<div class=\"bar\" aria-hidden=\"true\">{spans}</div>")
}
