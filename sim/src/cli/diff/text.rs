//! The difference of two results for people: what was run differently, then the main numbers of each policy.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Number;

use super::super::Format;
use super::super::table::{Cell, Table};
use crate::report::diff::{Diff, PolicyDiff, Row, Setting, Side, Verdict};
use crate::report::rows::Results;

/// What is shown of the first SLO scale in any case, and of the others where it differs. Beside TBT scores stand end to
/// end attainment, stall, TTFT and throughput (design §6).
pub const SCORES: [&str; 9] = [
    "attainment_pct.tbt_step",
    "attainment_pct.tbt_step_deposit",
    "attainment_pct.tbt_gap",
    "attainment_pct.tbt_gap_deposit",
    "attainment_pct.e2e",
    "playback_stall_pct",
    "ttft_p50_s",
    "throughput_tokens_per_s",
    "goodput_requests_per_s",
];

/// What is shown of the whole run where it differs.
const RUN: [&str; 12] = [
    "tbt_step_s.p95",
    "tbt_gap_s.p95",
    "makespan_s",
    "requests.finished",
    "requests.rejected",
    "requests.unfinished",
    "busy_s.stall",
    "bytes.h2d_prefetch",
    "pauses.count",
    "pauses.longest_s",
    "preemptions",
    "forecast_error_pct.median",
];

/// Which folder is A and which is B.
pub fn sides(a: &Path, of_a: Option<&Results>, b: &Path, of_b: Option<&Results>) -> String {
    let line = |side: &str, dir: &Path, results: Option<&Results>| {
        let about = results.map_or_else(String::new, |results| {
            let Results { scenario, seed, tool_version, .. } = results;
            format!("  {scenario}, seed {seed}, orbitflow {tool_version}")
        });
        format!("{side}  {}{about}\n", dir.display())
    };
    line("A", a, of_a) + &line("B", b, of_b)
}

/// One comparison beside another.
///
/// # Errors
/// None in practice: writing to memory.
pub fn comparison(diff: &Diff, all: bool) -> anyhow::Result<String> {
    if diff.identical {
        let numbers: usize = diff.policies.iter().map(|policy| policy.rows.len()).sum();
        return Ok(format!(
            "\nidentical: every setting, {numbers} numbers, and the digest over every event of every policy ({})\n",
            diff.policies.len()
        ));
    }
    let mut text = settings(&diff.settings);
    for caution in &diff.cautions {
        writeln!(text, "caution: {caution}")?;
    }
    let mut scales: Vec<Option<f64>> = Vec::new();
    for row in diff.policies.iter().flat_map(|policy| &policy.rows) {
        if !scales.contains(&row.slo_scale) {
            scales.push(row.slo_scale);
        }
    }
    // The whole run after the scales, also after those that only a later policy has.
    scales.sort_by_key(Option::is_none);
    let mut table = Table::new(["policy", "slo_scale", "number", "A", "B", "B − A", ""]);
    let mut left_out = 0;
    for policy in diff.policies.iter().filter(|policy| all || !policy.is_identical()) {
        let of_both = policy.side == Side::Both;
        let mut rows: Vec<&Row> = policy.rows.iter().collect();
        // Scale by scale, the whole run last, and within each in the order of the lists above.
        rows.sort_by_key(|row| {
            let place =
                |list: &[&str]| list.iter().position(|main| *main == row.metric).unwrap_or(list.len());
            let scale = scales.iter().position(|scale| *scale == row.slo_scale);
            (scale, if row.slo_scale.is_some() { place(&SCORES) } else { place(&RUN) })
        });
        for row in rows {
            let listed = if row.slo_scale.is_some() { &SCORES[..] } else { &RUN[..] };
            let first = row.slo_scale.is_some() && Some(&row.slo_scale) == scales.first();
            let main = listed.contains(&row.metric.as_str()) && (first || of_both && !row.is_equal());
            if all || main {
                table.push(cells(policy, row));
            } else if of_both {
                left_out += usize::from(!row.is_equal());
            }
        }
    }
    if !table.is_empty() {
        writeln!(
            text,
            "\n{}\n  better, worse: B beside A, where a direction is known",
            table.render(Format::Table)?
        )?;
    }
    if left_out > 0 {
        writeln!(text, "  {left_out} more numbers differ: `--all` shows them")?;
    }
    text.push('\n');
    for policy in &diff.policies {
        text.push_str(&about(policy));
    }
    Ok(text)
}

/// What was run differently, a key and then the two sides.
pub fn settings(settings: &[Setting]) -> String {
    if settings.is_empty() {
        return "\nrun alike: scenario, trace, hardware, switches, seed, version and notes are equal\n"
            .to_owned();
    }
    let mut text = "\nrun differently:\n".to_owned();
    for Setting { name, a, b } in settings {
        let absent = if name.starts_with("switches.") { "as the semantics set it" } else { "–" };
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| absent.to_owned());
        text += &format!("  {name}\n    A  {}\n    B  {}\n", shown(a), shown(b));
    }
    text
}

/// One line on who has a policy, and whether it did the same.
fn about(policy: &PolicyDiff) -> String {
    let PolicyDiff { key, rows, .. } = policy;
    let mut line = match policy.side {
        Side::OnlyA => format!("{key}: only in A"),
        Side::OnlyB => format!("{key}: only in B"),
        Side::Both if policy.is_identical() => {
            format!("{key}: identical, all {} numbers and the digest over every event", rows.len())
        }
        Side::Both => {
            let equal = rows.iter().filter(|row| row.is_equal()).count();
            let events = if policy.same_events == Some(true) { "the same" } else { "other" };
            format!("{key}: {events} events, {equal} of {} numbers are equal", rows.len())
        }
    };
    for Setting { name, a, b } in policy.texts.iter().filter(|text| text.name != "event_digest") {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
        line += &format!("; {name}: A {}, B {}", shown(a), shown(b));
    }
    line + "\n"
}

fn cells(policy: &PolicyDiff, row: &Row) -> [Cell; 7] {
    let largest = [&row.a, &row.b].into_iter().flatten().filter_map(Number::as_f64).fold(0.0, f64::max);
    let digits = digits(largest);
    let side = |value: &Option<Number>| match value {
        None => Cell::Empty,
        Some(number) => match number.as_u64() {
            Some(count) => Cell::Count(count),
            None => number.as_f64().map_or(Cell::Empty, |number| Cell::Number(number, digits)),
        },
    };
    let change = row.difference.as_ref().and_then(|difference| {
        let change = difference.as_f64()?;
        // A small difference is shown with two digits of its own.
        let own = (0..9).find(|digits| change.abs() * 10_f64.powi(*digits) >= 10.0).unwrap_or(9) as usize;
        let digits = if change == 0.0 || !difference.is_f64() { 0 } else { digits.max(own) };
        Some(Cell::Change(change, digits))
    });
    let verdict = match row.verdict {
        Some(Verdict::Better) => "better",
        Some(Verdict::Worse) => "worse",
        None if row.is_equal() => "=",
        None => "",
    };
    [
        policy.key.as_str().into(),
        row.slo_scale.map_or_else(|| "run".to_owned(), |scale| scale.to_string()).into(),
        row.metric.as_str().into(),
        side(&row.a),
        side(&row.b),
        change.unwrap_or(Cell::Empty),
        verdict.into(),
    ]
}

/// Digits behind the point for four that say something, at most six.
pub fn digits(largest: f64) -> usize {
    if largest == 0.0 {
        return 0;
    }
    (0..6).find(|digits| largest * 10_f64.powi(*digits) >= 1000.0).unwrap_or(6) as usize
}
