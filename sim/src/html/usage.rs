//! Memory and link use over time: one drawing per policy on common axes, and the totals of the whole runs.
//!
//! Rows of `timeline.csv` are put into columns of equal time. A row holds from the start of the first to the end of
//! the last step that it stands for; its bytes are spread evenly over that time, so that no byte is lost.

use serde_json::json;

use super::chart::{Chart, Stops, place};
use super::markup::{Table, bytes, grouped, head};
use super::{Shown, name_of};
use crate::plot::panel::{Axis, Panel, Tick};
use crate::plot::words;
use crate::report::TIMELINE_CHOICE;
use crate::report::rows::{Results, TimelineRow};

const SIZE: (f64, f64) = (560.0, 356.0);
const PANEL_HEIGHT: f64 = 86.0;
const PANEL_GAP: f64 = 20.0;
const FIRST_TOP: f64 = 8.0;
/// Columns of time in a drawing.
const COLUMNS: usize = 240;

/// What one policy did in each column of time.
struct Columns {
    running: Vec<u32>,
    paused: Vec<u32>,
    waiting: Vec<u32>,
    blocks: Vec<u64>,
    /// Bytes per second.
    h2d: Vec<f64>,
    /// Bytes per second.
    d2h: Vec<f64>,
    /// End of the last step, seconds; 0 if there was none.
    end: f64,
}

impl Columns {
    fn of(rows: &[&TimelineRow]) -> Columns {
        let end = rows.iter().map(|row| row.to_s).fold(0.0, f64::max);
        let mut columns = Columns {
            running: vec![0; COLUMNS],
            paused: vec![0; COLUMNS],
            waiting: vec![0; COLUMNS],
            blocks: vec![0; COLUMNS],
            h2d: vec![0.0; COLUMNS],
            d2h: vec![0.0; COLUMNS],
            end,
        };
        if end > 0.0 {
            rows.iter().for_each(|row| columns.add(row));
        }
        columns
    }

    fn add(&mut self, row: &TimelineRow) {
        let width = self.end / COLUMNS as f64;
        let column = |seconds: f64| ((seconds / width) as usize).min(COLUMNS - 1);
        let (first, last) = (column(row.from_s), column(row.to_s.max(row.from_s)));
        let span = row.to_s - row.from_s;
        for at in first..=last {
            let (left, right) = (width * at as f64, width * (at + 1) as f64);
            let overlap = (row.to_s.min(right) - row.from_s.max(left)).max(0.0);
            if overlap == 0.0 && at > first {
                continue; // It ends where this column begins.
            }
            let share = if span > 0.0 { overlap / span } else { 1.0 };
            self.h2d[at] += row.h2d_bytes as f64 * share / width;
            self.d2h[at] += row.d2h_bytes as f64 * share / width;
            self.blocks[at] = self.blocks[at].max(row.gpu_blocks);
            let all = |running: u32, paused: u32, waiting: u32| {
                (u64::from(running) + u64::from(paused) + u64::from(waiting), paused)
            };
            if all(row.running, row.paused, row.waiting)
                > all(self.running[at], self.paused[at], self.waiting[at])
            {
                (self.running[at], self.paused[at], self.waiting[at]) =
                    (row.running, row.paused, row.waiting);
            }
        }
    }

    fn live(&self, at: usize) -> f64 {
        f64::from(self.running[at]) + f64::from(self.paused[at])
    }

    fn all(&self, at: usize) -> f64 {
        self.live(at) + f64::from(self.waiting[at])
    }
}

/// What the axes that all policies share end at.
struct Axes {
    requests: f64,
    blocks: u64,
    link: f64,
}

/// The section.
pub fn section(results: &Results, timeline: &[TimelineRow], policies: &[Shown<'_>]) -> String {
    let columns: Vec<Columns> = policies
        .iter()
        .map(|shown| {
            let rows: Vec<&TimelineRow> =
                timeline.iter().filter(|row| row.policy == shown.result.key).collect();
            Columns::of(&rows)
        })
        .collect();
    let highest = |of: &dyn Fn(&Columns, usize) -> f64| {
        columns.iter().flat_map(|columns| (0..COLUMNS).map(move |at| of(columns, at))).fold(0.0, f64::max)
    };
    let peak = policies.iter().map(|shown| shown.result.peak_gpu_blocks).max().unwrap_or(0);
    let axes = Axes {
        requests: highest(&|columns, at| columns.all(at)),
        blocks: results.gpu_pool_blocks.unwrap_or(peak),
        link: highest(&|columns, at| columns.h2d[at].max(columns.d2h[at])),
    };
    let charts: String = (policies.iter().zip(&columns))
        .map(|(shown, columns)| {
            let chart = draw(results, shown, columns, &axes);
            format!("<div {}>{chart}</div>", shown.attribute())
        })
        .collect();
    let thinned = if timeline.iter().any(|row| row.steps > 1) {
        format!(
            " Where a run has more steps than its file keeps, a peak of memory or requests between those may be missing, \
             but no byte is; the true peaks stand in the table. ({TIMELINE_CHOICE}.)"
        )
    } else {
        String::new()
    };
    format!(
        "<ul class=\"key\"><li><span class=\"box\" style=\"background:var(--run)\"></span>running</li>\
         <li><span class=\"box\" style=\"background:var(--pause)\"></span>paused</li>\
         <li><span class=\"box\" style=\"background:var(--wait)\"></span>waiting or preempted</li>\
         <li><span class=\"box\" style=\"background:var(--blocks)\"></span>GPU memory for KV in use</li>\
         <li><span class=\"box\" style=\"background:var(--h2d)\"></span>host→device (offloaded layers and restores)</li>\
         <li><span class=\"box\" style=\"background:var(--d2h)\"></span>device→host (new KV written through)</li></ul>\n\
         <p>Each run fills its drawing from side to side, however long it took; heights are on the same axes. A drawing has \
         {COLUMNS} columns of time: memory and requests are the most in a column, link rates the mean over it.{thinned}</p>\n<div class=\"charts wide\">{charts}</div>\n{}",
        totals(results, policies)
    )
}

fn draw(results: &Results, shown: &Shown<'_>, columns: &Columns, axes: &Axes) -> String {
    let (left, right) = Chart::sides(SIZE.0);
    // The run fills the drawing: no round end.
    let (end, any) = (columns.end, columns.end > 0.0);
    let time = if any { Axis::Linear { from: 0.0, to: end } } else { Axis::from_zero(0.0) };
    let panel = |place: usize, y: Axis| {
        let top = FIRST_TOP + (PANEL_HEIGHT + PANEL_GAP) * place as f64;
        Panel { left, top, right, bottom: top + PANEL_HEIGHT, x: time, y }
    };
    let requests = Axis::from_zero(axes.requests);
    let mut chart = Chart::with_panel(SIZE, panel(0, requests));
    let values = |of: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..COLUMNS).map(of).collect() };
    chart.y_axis(&fewer(requests.ticks(words::number)), "requests");
    if any {
        chart.area("wait", &values(&|at| columns.all(at)));
        chart.area("pause", &values(&|at| columns.live(at)));
        chart.area("run", &values(&|at| f64::from(columns.running[at])));
    } else {
        chart.message("no step was made");
    }
    chart.frame();

    let share = |blocks: u64| blocks as f64 / axes.blocks.max(1) as f64 * 100.0;
    let memory = Axis::Linear { from: 0.0, to: 104.0 };
    chart.next_panel(panel(1, memory));
    let tick = |value: f64| Tick { value, label: vec![words::number(value)] };
    let pool = if results.gpu_pool_blocks.is_some() { "% of GPU pool" } else { "% of the peak" };
    chart.y_axis(&[tick(0.0), tick(50.0), tick(100.0)], pool);
    chart.area("blocks", &values(&|at| share(columns.blocks[at])));
    chart.limit("y", 100.0, "");
    chart.frame();

    let link = Axis::from_zero(axes.link / 1e9);
    chart.next_panel(panel(2, link));
    chart.y_axis(&fewer(link.ticks(words::number)), "link (GB/s)");
    let mut ticks = Axis::from_zero(end).ticks(words::number);
    ticks.retain(|tick| tick.value <= end || !any);
    chart.x_axis(&ticks, "simulated time (s)");
    chart.area("h2d", &values(&|at| columns.h2d[at] / 1e9));
    chart.area("d2h", &values(&|at| columns.d2h[at] / 1e9));
    chart.frame();

    let middle = |at: usize| left + (right - left) * (at as f64 + 0.5) / COLUMNS as f64;
    let from = |at: usize| words::seconds(end * at as f64 / COLUMNS as f64);
    let read = |of: &dyn Fn(usize) -> String| -> Vec<Option<String>> {
        (0..COLUMNS).map(|at| Some(of(at))).collect()
    };
    let stops = Stops {
        along: "x",
        at: if any { (0..COLUMNS).map(|at| place(middle(at))).collect() } else { Vec::new() },
        heads: if any { (0..COLUMNS).map(|at| format!("from {}", from(at))).collect() } else { Vec::new() },
        series: vec![
            json!(["run", "running"]),
            json!(["pause", "paused"]),
            json!(["wait", "waiting"]),
            json!(["blocks", "GPU memory"]),
            json!(["h2d", "host→device"]),
            json!(["d2h", "device→host"]),
        ],
        values: vec![
            read(&|at| columns.running[at].to_string()),
            read(&|at| columns.paused[at].to_string()),
            read(&|at| columns.waiting[at].to_string()),
            read(&|at| words::percent(share(columns.blocks[at]))),
            read(&|at| format!("{}/s", bytes(columns.h2d[at]))),
            read(&|at| format!("{}/s", bytes(columns.d2h[at]))),
        ],
    };
    let result = shown.result;
    let moved = result.bytes.h2d_prefetch as f64 + result.bytes.h2d_restore as f64;
    let subtitle = format!(
        "peak {} layer-blocks; {} to the device, {} back, in {}",
        grouped(result.peak_gpu_blocks),
        bytes(moved),
        bytes(result.bytes.d2h as f64),
        words::seconds(result.makespan_s)
    );
    chart.finish(&shown.name, &subtitle, "Requests, GPU memory and link rates over simulated time", &stops)
}

/// Every second tick of many: these panels are low.
fn fewer(ticks: Vec<Tick>) -> Vec<Tick> {
    if ticks.len() < 5 { ticks } else { ticks.into_iter().step_by(2).collect() }
}

fn totals(results: &Results, policies: &[Shown<'_>]) -> String {
    let mut table = Table::new(
        "Memory and link over the whole run",
        "class=\"sortable\"",
        &[
            head("Policy", ""),
            head("Peak GPU memory", "layer-blocks"),
            head("Peak GPU memory", "% of the pool"),
            head("Peak host memory", ""),
            head("Prefetched", "host→device"),
            head("Restored", "host→device"),
            head("Written through", "device→host"),
            head("Host→device", "mean per second"),
            head("Placements refused", ""),
        ],
    );
    for shown in policies {
        let result = shown.result;
        let moved = result.bytes.h2d_prefetch as f64 + result.bytes.h2d_restore as f64;
        let pool = results.gpu_pool_blocks.filter(|pool| *pool > 0);
        table
            .row(&shown.attribute(), &name_of(shown))
            .count(Some(result.peak_gpu_blocks))
            .number(pool.map(|pool| result.peak_gpu_blocks as f64 / pool as f64 * 100.0), words::percent)
            .number(Some(result.peak_host_bytes as f64), bytes)
            .number(Some(result.bytes.h2d_prefetch as f64), bytes)
            .number(Some(result.bytes.h2d_restore as f64), bytes)
            .number(Some(result.bytes.d2h as f64), bytes)
            .number((result.makespan_s > 0.0).then(|| moved / result.makespan_s), |rate| {
                format!("{}/s", bytes(rate))
            })
            .count(Some(result.refused_placements));
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_lost_between_columns() {
        let row = |from_s: f64, to_s: f64, bytes: u64| TimelineRow {
            policy: "p".to_owned(),
            t_s: from_s,
            running: 2,
            paused: 1,
            waiting: 0,
            gpu_blocks: 7,
            step_s: to_s - from_s,
            stall_s: 0.0,
            steps: 1,
            from_s,
            to_s,
            h2d_bytes: bytes,
            d2h_bytes: 1,
        };
        // 24 s in 240 columns of 0.1 s: one row within a column, one over many, one of no length, one up to the end.
        let rows = [row(0.01, 0.05, 100), row(0.05, 10.0, 5000), row(12.0, 12.0, 300), row(23.95, 24.0, 40)];
        let columns = Columns::of(&rows.iter().collect::<Vec<_>>());
        let moved: f64 = columns.h2d.iter().map(|rate| rate * 0.1).sum();
        assert!((moved - 5440.0).abs() < 1e-6, "{moved}");
        // Columns 101 to 119, between 10.1 s and 12 s, are idle.
        assert!((101..120).all(|at| columns.blocks[at] == 0 && columns.h2d[at] == 0.0));
        assert_eq!((columns.blocks[50], columns.running[50], columns.all(50)), (7, 2, 3.0));
    }
}
