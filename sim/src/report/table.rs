//! The comparison: one row per policy and SLO scale, for people, programs and spreadsheets.
//!
//! Wherever a TBT score is shown, `e2e`, playback stall, the median TTFT and throughput stand beside it: TBT scores
//! are shares of tokens and cannot see a request that is not running (design §6).

use serde::Serialize;

use super::rows::{PolicyResult, Results, ScaleResult};

/// One policy at one SLO scale. The fields from `tbt_step_p95_s` on are those of the first scale's run, and null
/// where another run was made for this scale.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableRow {
    /// Policy key.
    pub policy: String,
    /// Times the base SLO.
    pub slo_scale: f64,
    /// Seconds per token.
    pub slo_s: f64,
    /// Whether another run was made for this scale.
    pub rerun: bool,
    /// Due tokens whose step TBT is within the SLO, percent.
    pub tbt_step_pct: f64,
    /// The same with deposit playback.
    pub tbt_step_deposit_pct: f64,
    /// Due tokens whose gap TBT is within the SLO, percent.
    pub tbt_gap_pct: f64,
    /// The same with deposit playback.
    pub tbt_gap_deposit_pct: f64,
    /// Requests whose mean step TBT is within the SLO, percent.
    pub tpot_step_pct: f64,
    /// Requests whose mean gap TBT is within the SLO, percent.
    pub tpot_gap_pct: f64,
    /// Requests whose first token came in time, percent.
    pub ttft_pct: f64,
    /// Median time to first token.
    pub ttft_p50_s: Option<f64>,
    /// Requests whose last token came in time, percent.
    pub e2e_pct: f64,
    /// Share of a client's playing time with no token to show, percent; null if nothing was played.
    pub playback_stall_pct: Option<f64>,
    /// Tokens per second.
    pub throughput_tokens_per_s: f64,
    /// Good requests per second.
    pub goodput_requests_per_s: f64,
    /// 95th percentile of step TBT.
    pub tbt_step_p95_s: Option<f64>,
    /// 95th percentile of gap TBT.
    pub tbt_gap_p95_s: Option<f64>,
    /// Times a request was held back.
    pub pauses: Option<u64>,
    /// Times a request lost its slot.
    pub preemptions: Option<u64>,
    /// Requests that arrived.
    pub arrived: Option<u64>,
    /// Requests that finished.
    pub finished: Option<u64>,
}

/// Every policy at every scale, scale by scale, in the order of the results.
pub fn rows(results: &Results) -> Vec<TableRow> {
    let scales = results.policies.iter().map(|policy| policy.by_slo_scale.len()).max().unwrap_or(0);
    (0..scales)
        .flat_map(|scale| {
            let at = move |policy: &PolicyResult| Some(row(policy, policy.by_slo_scale.get(scale)?));
            results.policies.iter().filter_map(at)
        })
        .collect()
}

fn row(policy: &PolicyResult, at: &ScaleResult) -> TableRow {
    let score = at.attainment_pct;
    let same_run = !at.rerun;
    TableRow {
        policy: policy.key.clone(),
        slo_scale: at.scale,
        slo_s: at.slo_s,
        rerun: at.rerun,
        tbt_step_pct: score.tbt_step,
        tbt_step_deposit_pct: score.tbt_step_deposit,
        tbt_gap_pct: score.tbt_gap,
        tbt_gap_deposit_pct: score.tbt_gap_deposit,
        tpot_step_pct: score.tpot_step,
        tpot_gap_pct: score.tpot_gap,
        ttft_pct: score.ttft,
        ttft_p50_s: at.ttft_p50_s,
        e2e_pct: score.e2e,
        playback_stall_pct: at.playback_stall_pct,
        throughput_tokens_per_s: at.throughput_tokens_per_s,
        goodput_requests_per_s: at.goodput_requests_per_s,
        tbt_step_p95_s: policy.tbt_step_s.p95.filter(|_| same_run),
        tbt_gap_p95_s: policy.tbt_gap_s.p95.filter(|_| same_run),
        pauses: same_run.then_some(policy.pauses.count),
        preemptions: same_run.then_some(policy.preemptions),
        arrived: same_run.then_some(policy.requests.arrived),
        finished: same_run.then_some(policy.requests.finished),
    }
}

/// The rows as a JSON array.
pub fn json(results: &Results) -> String {
    let mut text = serde_json::to_string_pretty(&rows(results)).expect("Invariant: rows are plain data");
    text.push('\n');
    text
}

/// The rows as CSV with a header.
pub fn csv(results: &Results) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows(results) {
        writer.serialize(row).expect("Invariant: rows are plain data, and memory takes all writes");
    }
    let bytes = writer.into_inner().expect("Invariant: memory takes all writes");
    String::from_utf8(bytes).expect("Invariant: CSV of UTF-8 fields is UTF-8")
}

/// The main table at the first scale, one table for each other scale, how to read them, and the notes.
pub fn text(results: &Results) -> String {
    let all = rows(results);
    let mut text = String::new();
    for (place, at) in all.chunk_by(|one, next| one.slo_scale == next.slo_scale).enumerate() {
        let columns = [SCORES, if place == 0 { RUN } else { MORE_SCORES }].concat();
        text += &format!(
            "{}TBT SLO {} ms per token (scale {}), scored by step and by gap; `+dep`: with deposit playback\n\n",
            if place == 0 { "" } else { "\n" },
            number(at[0].slo_s * 1000.0, 2),
            at[0].slo_scale
        );
        text += &grid(&columns, at);
    }
    if !all.is_empty() {
        text += LEGEND;
    }
    if all.iter().any(|row| row.rerun) {
        text += "  * run again for this SLO: the method looks at it\n";
    }
    for note in &results.notes {
        text += &format!("note: {note}\n");
    }
    text
}

const LEGEND: &str = "
  step: duration of the step that made the token; gap: time since the request's previous token
  TBT: share of due tokens in time; TPOT, TTFT, e2e: share of arrived requests; TBT cannot see who is not running:
  e2e, playback stall (a client's playing time with no token to show), TTFT and tokens/s do
";

/// A column: two lines of heading, and what stands in it.
#[derive(Clone, Copy)]
struct Column {
    head: [&'static str; 2],
    cell: fn(&TableRow) -> String,
}

const fn column(top: &'static str, bottom: &'static str, cell: fn(&TableRow) -> String) -> Column {
    Column { head: [top, bottom], cell }
}

/// What is known at every scale.
const SCORES: &[Column] = &[
    column("policy", "", |row| format!("{}{}", row.policy, if row.rerun { " *" } else { "" })),
    column("TBT %", "step", |row| number(row.tbt_step_pct, 1)),
    column("TBT %", "+dep", |row| number(row.tbt_step_deposit_pct, 1)),
    column("TBT %", "gap", |row| number(row.tbt_gap_pct, 1)),
    column("TBT %", "+dep", |row| number(row.tbt_gap_deposit_pct, 1)),
    column("e2e", "%", |row| number(row.e2e_pct, 1)),
    column("stall", "%", |row| row.playback_stall_pct.map_or_else(none, |stall| number(stall, 1))),
    column("TTFT", "P50 s", |row| row.ttft_p50_s.map_or_else(none, |seconds| short(seconds, 2))),
    column("tokens", "/s", |row| short(row.throughput_tokens_per_s, 1)),
    column("TPOT %", "step", |row| number(row.tpot_step_pct, 1)),
    column("TPOT %", "gap", |row| number(row.tpot_gap_pct, 1)),
];

/// Beside them at the other scales.
const MORE_SCORES: &[Column] = &[
    column("TTFT", "%", |row| number(row.ttft_pct, 1)),
    column("good", "req/s", |row| number(row.goodput_requests_per_s, 3)),
];

/// Beside them at the first scale, of whose run it is known.
const RUN: &[Column] = &[
    column("P95 TBT", "step ms", |row| milliseconds(row.tbt_step_p95_s)),
    column("P95 TBT", "gap ms", |row| milliseconds(row.tbt_gap_p95_s)),
    column("", "pauses", |row| count(row.pauses)),
    column("pre-", "empted", |row| count(row.preemptions)),
    column("finish-", "ed", |row| count(row.finished)),
];

fn none() -> String {
    "-".to_owned()
}

fn count(value: Option<u64>) -> String {
    value.map_or_else(none, |value| value.to_string())
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(none, |seconds| short(seconds * 1000.0, 1))
}

/// Fewer decimals from 1,000 on, where they say nothing.
fn short(value: f64, decimals: usize) -> String {
    number(value, if value < 1000.0 { decimals } else { 0 })
}

fn number(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

/// The first column to the left, the others to the right, each as wide as its widest cell.
fn grid(columns: &[Column], rows: &[TableRow]) -> String {
    let heads = [0, 1].map(|line| columns.iter().map(|column| column.head[line].to_owned()).collect());
    let lines: Vec<Vec<String>> = (heads.into_iter())
        .chain(rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect()))
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|place| lines.iter().map(|cells| cells[place].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for cells in lines {
        let mut line = format!("{:<width$}", cells[0], width = widths[0]);
        for (cell, width) in cells.iter().zip(&widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
