//! `orbitflow trace stats`.

use std::io::Write as _;

use super::ReadArgs;
use crate::cli::Format;
use crate::trace::stats::{ArrivalUnit, Pressure, PressureServer, Quantiles, TraceStats, stats};

/// Counts, quantiles, rate, burstiness and KV pressure of a trace.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    read: ReadArgs,
    /// Most live requests, for the pressure; the trace's own hint if absent
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Blocks per layer of a fully resident pool, for the pressure; the trace's own hint if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    gpu_kv_blocks: Option<u64>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command. Arrivals are described in the unit of the file; `--step-time-s` serves the pressure only.
pub fn run(args: Args) -> anyhow::Result<()> {
    let trace = args.read.read_with(None)?;
    let server = PressureServer {
        batch_size: args.batch_size,
        gpu_kv_blocks: args.gpu_kv_blocks,
        step_time: args.read.step_time_s,
    };
    let stats = stats(&trace, server);
    let text = match args.format {
        Format::Table => table(&stats),
        Format::Json => serde_json::to_string_pretty(&stats)? + "\n",
        Format::Csv => csv(&stats),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Names, values and units, in the order of the page. CSV has the names as the first column.
fn rows(stats: &TraceStats) -> Vec<(String, String)> {
    let unit = match stats.arrival_unit {
        ArrivalUnit::Second => "s",
        ArrivalUnit::Step => "step",
    };
    let mut rows = vec![
        ("requests".to_owned(), stats.requests.to_string()),
        ("sessions".to_owned(), stats.sessions.to_string()),
        ("later_turns".to_owned(), stats.later_turns.to_string()),
    ];
    let lengths = [
        ("prompt_tokens", &stats.prompt_tokens),
        ("output_tokens", &stats.output_tokens),
        ("total_tokens", &stats.total_tokens),
    ];
    for (name, quantiles) in lengths {
        rows.extend(named(quantiles).map(|(quantile, value)| (format!("{name}_{quantile}"), value)));
    }
    rows.push(("prompt_tokens_sum".into(), stats.prompt_tokens_sum.to_string()));
    rows.push(("output_tokens_sum".into(), stats.output_tokens_sum.to_string()));
    rows.push((format!("last_arrival_{unit}"), stats.last_arrival.to_string()));
    rows.push((format!("rate_per_{unit}"), optional(stats.rate, 6)));
    rows.push(("gap_cv".into(), optional(stats.gap_cv, 4)));
    if let Some(pressure) = &stats.pressure {
        rows.extend(pressure_rows(pressure));
    }
    rows
}

fn pressure_rows(pressure: &Pressure) -> Vec<(String, String)> {
    vec![
        ("batch_size".into(), pressure.batch_size.to_string()),
        ("gpu_kv_blocks".into(), pressure.gpu_kv_blocks.map_or_else(String::new, |n| n.to_string())),
        ("busy_steps".into(), pressure.steps.to_string()),
        ("mean_batch".into(), format!("{:.4}", pressure.mean_batch)),
        ("mean_live_blocks".into(), format!("{:.2}", pressure.mean_live_blocks)),
        ("peak_live_blocks".into(), pressure.peak_live_blocks.to_string()),
        ("mean_live_over_n".into(), optional(pressure.mean_live_over_n, 4)),
        ("peak_live_over_n".into(), optional(pressure.peak_live_over_n, 4)),
        ("above_n_pct".into(), optional(pressure.above_n_pct, 3)),
        ("above_2n_pct".into(), optional(pressure.above_2n_pct, 3)),
    ]
}

fn named(quantiles: &Quantiles) -> [(&'static str, String); 7] {
    [
        ("mean", format!("{:.2}", quantiles.mean)),
        ("min", quantiles.min.to_string()),
        ("p50", quantiles.p50.to_string()),
        ("p90", quantiles.p90.to_string()),
        ("p95", quantiles.p95.to_string()),
        ("p99", quantiles.p99.to_string()),
        ("max", quantiles.max.to_string()),
    ]
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

fn csv(stats: &TraceStats) -> String {
    let mut text = String::from("name,value\n");
    for (name, value) in rows(stats) {
        text.push_str(&format!("{name},{value}\n"));
    }
    text
}

fn table(stats: &TraceStats) -> String {
    let (unit, units) = match stats.arrival_unit {
        ArrivalUnit::Second => ("s", "seconds"),
        ArrivalUnit::Step => ("step", "steps"),
    };
    let mut text = format!("requests        {}", stats.requests);
    if stats.sessions > 0 {
        text += &format!(" in {} sessions ({} later turns)", stats.sessions, stats.later_turns);
    }
    text += &format!("\narrivals        in {units}, the last at {}\n", stats.last_arrival);
    text += &match (stats.rate, stats.gap_cv) {
        (Some(rate), Some(cv)) => format!("rate            {rate:.6} per {unit}, cv of the gaps {cv:.3}\n"),
        _ => "rate            all at once\n".to_owned(),
    };
    let header = ["tokens", "mean", "min", "p50", "p90", "p95", "p99", "max"];
    text += &format!("\n{}\n", line(header.map(str::to_owned)));
    for (name, quantiles) in
        [("prompt", &stats.prompt_tokens), ("output", &stats.output_tokens), ("both", &stats.total_tokens)]
    {
        let [mean, min, p50, p90, p95, p99, max] = named(quantiles).map(|(_, value)| value);
        text += &format!("{}\n", line([name.to_owned(), mean, min, p50, p90, p95, p99, max]));
    }
    text += &format!("sum: prompt {}, output {}\n\n", stats.prompt_tokens_sum, stats.output_tokens_sum);
    text += &match &stats.pressure {
        Some(pressure) => pressure_text(pressure),
        None => {
            "KV pressure: give --batch-size (and --step-time-s for times in seconds) to see it\n".to_owned()
        }
    };
    for note in &stats.notes {
        text += &format!("note: {note}\n");
    }
    text
}

fn line(cells: [String; 8]) -> String {
    let [name, values @ ..] = cells;
    format!("{name:<8}") + &values.map(|value| format!("{value:>11}")).concat()
}

fn pressure_text(pressure: &Pressure) -> String {
    let mut text = format!(
        "KV pressure with at most {} live requests, no memory limit, one token per step:\n  \
         {} busy steps, mean batch {:.2}\n  live blocks per layer: mean {:.1}, peak {}\n",
        pressure.batch_size,
        pressure.steps,
        pressure.mean_batch,
        pressure.mean_live_blocks,
        pressure.peak_live_blocks
    );
    if let (Some(pool), Some(mean), Some(peak), Some(above), Some(above_twice)) = (
        pressure.gpu_kv_blocks,
        pressure.mean_live_over_n,
        pressure.peak_live_over_n,
        pressure.above_n_pct,
        pressure.above_2n_pct,
    ) {
        text += &format!(
            "  over the pool of {pool}: mean {mean:.2}, peak {peak:.2}; steps above it {above:.1} %, above twice \
             {above_twice:.1} %\n"
        );
    }
    text
}
