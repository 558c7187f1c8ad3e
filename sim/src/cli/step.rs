//! `orbitflow step`: one decode step, every copy and every layer of it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::split::Split;
use super::{Format, OrInput};
use crate::pipeline::{StepAnswer, StepInstance, StepNeighbours};

/// Columns of the time axis of the table.
const AXIS: usize = 60;

/// One decode step: the timeline of every copy and every layer.
///
/// INSTANCE is JSON: `layers`, `layer_compute_s`, `link {blocks_per_s, latency_s}`, `requests [{id, blocks,
/// distance or offloaded_layers}]` (neither: resident), and optionally `slots` (1), `tail_s` (0), `copy_order`
/// ("ready-first" or "in-order"), `cross_step_prefetch` (false), `contention {copy, compute}` (1 and 1: how many times as
/// long a copy takes while a layer computes, and a layer while a copy runs), `prefill_s` (0: compute of prompt tokens
/// beside the decodes, an even share in every layer; taken as it is on however many GPUs), `tensor_parallel` (1),
/// `shared_link` (false) and `all_reduce_s` (0, per layer): with several GPUs `layer_compute_s` and `link` are those of one
/// of them.
///
/// With `cross_step_prefetch` the step is one among steps like it: the same step is repeated until it begins as an earlier
/// one did, and that one is shown, with the copies that the step before began for it and those that it begins for the
/// next. The prefix forecast is of a step alone.
///
/// The link's latency counts once per copy, in the step and in the prefix forecast. `tail_s` is part of the
/// step time and of the forecast, so that the two can be compared; it is neither compute nor stall.
#[derive(clap::Args)]
pub struct Args {
    /// The instance; `-` is stdin.
    instance: PathBuf,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// An instance that cannot be read or is wrong; a closed stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let instance = read(&args.instance).or_input()?;
    let answer = instance.answer();
    let mut out = io::stdout().lock();
    match args.format {
        Format::Table => out.write_all(table(&instance, &answer).as_bytes())?,
        Format::Json => {
            serde_json::to_writer_pretty(
                &mut out,
                &Shown { answer: &answer, tensor_parallel: split(&instance) },
            )?;
            writeln!(out)?;
        }
        Format::Csv => write_csv(&answer, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The answer as JSON, and with several GPUs what they make together.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    answer: &'a StepAnswer,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor_parallel: Option<Split>,
}

fn split(instance: &StepInstance) -> Option<Split> {
    Split::of(instance.parallel(), instance.layer_s(), instance.blocks_per_s())
}

fn read(path: &Path) -> anyhow::Result<StepInstance> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("stdin")?;
        return StepInstance::parse(&text).context("stdin");
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    StepInstance::parse(&text).with_context(|| path.display().to_string())
}

/// One row per layer and per copy; the totals are in the other formats.
fn write_csv(answer: &StepAnswer, out: impl Write) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["kind", "request", "layer", "start_s", "end_s", "stall_s"])?;
    for layer in &answer.layers {
        csv.serialize(("layer", "", layer.layer, layer.start_s, layer.end_s, layer.stall_s))?;
    }
    let copies = answer.copies.iter().map(|copy| ("copy", copy));
    let across = answer.cross_step.iter().flat_map(|across| {
        let carried = across.carried.iter().map(|copy| ("carried", copy));
        carried.chain(across.ahead.iter().map(|copy| ("ahead", copy)))
    });
    for (kind, copy) in copies.chain(across) {
        csv.serialize((kind, &copy.request, copy.layer, copy.start_s, copy.end_s, ""))?;
    }
    csv.flush()?;
    Ok(())
}

/// The totals, the requests, and one line per layer with a bar over the time of the step.
fn table(instance: &StepInstance, answer: &StepAnswer) -> String {
    let unit = TimeUnit::for_span(answer.step_s);
    let show = |seconds: f64| format!("{} {}", unit.show(seconds), unit.name);
    let error_pct = (answer.step_s - answer.prefix_forecast_s).abs() / answer.step_s * 100.0;
    let mut lines = vec![
        format!(
            "step {} = compute {}{} + stall {} + tail {}",
            show(answer.step_s),
            show(answer.compute_s),
            if answer.prefill_s > 0.0 {
                format!(" + prefill {}", show(answer.prefill_s))
            } else {
                String::new()
            },
            show(answer.stall_s),
            show(instance.tail_s),
        ),
        format!(
            "copies {}, prefix forecast {} ({error_pct:.2} % off the step)",
            show(answer.copy_s),
            show(answer.prefix_forecast_s),
        ),
    ];
    lines.extend(split(instance).map(|split| split.line()));
    for request in &instance.requests {
        let layers = request.fetched(instance.layers).len();
        let each = each_copy(answer, &request.id, show);
        let (id, blocks) = (&request.id, request.blocks);
        lines.push(format!("{id}: blocks per layer {blocks}, layers fetched {layers}{each}"));
    }
    if let Some(across) = &answer.cross_step {
        lines.extend(neighbours(across, show));
    }
    lines.push(String::new());
    let axis = format!("0{:>width$}", show(answer.step_s), width = AXIS - 1);
    lines.push(format!("layer {:>9} {:>9} {:>9}  |{axis}|", "start", "end", "stall"));
    for layer in &answer.layers {
        let bar = bar(answer, layer.layer);
        let times = [layer.start_s, layer.end_s, layer.stall_s].map(|seconds| unit.show(seconds));
        let [start, end, stall] = times;
        lines.push(format!("{:>5} {start:>9} {end:>9} {stall:>9}  |{bar}|", layer.layer));
    }
    let across = if answer.cross_step.is_some() { ", < carried in, > ahead for the next step" } else { "" };
    lines.push(format!("times in {}; - copies of the layer{across}, # its compute", unit.name));
    lines.join("\n") + "\n"
}

/// Among which steps this one is, and what crosses its ends.
fn neighbours(across: &StepNeighbours, show: impl Fn(f64) -> String) -> Vec<String> {
    let before = across.steps_before;
    let among = match (across.period, across.mean_step_s) {
        (Some(1), _) => format!("cross-step prefetch: after {before} steps like it every step is this one"),
        (Some(period), Some(mean)) => format!(
            "cross-step prefetch: after {before} steps like it; every {period} steps the same comes again, {} in the mean",
            show(mean)
        ),
        _ => format!(
            "cross-step prefetch: after {before} steps like it, among which none began as another did"
        ),
    };
    let carried = across.carried.iter().map(|copy| {
        let (request, layer, began) = (&copy.request, copy.layer, show(-copy.start_s));
        let landed = if copy.end_s > 0.0 {
            format!("landed {} into it", show(copy.end_s))
        } else {
            format!("landed {} before it", show(-copy.end_s))
        };
        format!("carried in: {request} layer {layer}, begun {began} before the step, {landed}")
    });
    let ahead = across.ahead.iter().map(|copy| {
        let (start, end) = (show(copy.start_s), show(copy.end_s));
        format!("ahead: {} layer {} of the next step, {start} to {end}", copy.request, copy.layer)
    });
    std::iter::once(among).chain(carried).chain(ahead).collect()
}

/// How long each copy of a request took: one time, or the shortest and the longest where contention makes them differ.
fn each_copy(answer: &StepAnswer, request: &str, show: impl Fn(f64) -> String) -> String {
    let carried = answer.cross_step.iter().flat_map(|across| &across.carried);
    let own = answer.copies.iter().chain(carried).filter(|copy| copy.request == request);
    let times = own.map(|copy| copy.end_s - copy.start_s);
    let (shortest, longest) =
        times.fold((f64::INFINITY, 0.0), |(low, high), time| (f64::min(low, time), f64::max(high, time)));
    match (show(shortest), show(longest)) {
        _ if shortest > longest => String::new(),
        (low, high) if low == high => format!(", {low} each"),
        (low, high) => format!(", {low} to {high} each"),
    }
}

/// What happens to one layer over the time of the step: `-` where a copy for it runs, `#` where it computes; `<` and `>`
/// where a copy that the step before began, or one for the next step, does.
fn bar(answer: &StepAnswer, layer: u32) -> String {
    let mut bar = [b' '; AXIS];
    let mut draw = |start_s: f64, end_s: f64, mark: u8| {
        let column = |seconds: f64| (seconds / answer.step_s * AXIS as f64).round() as usize;
        let first = column(start_s).min(AXIS - 1);
        let last = column(end_s).clamp(first + 1, AXIS);
        bar[first..last].fill(mark);
    };
    if let Some(across) = &answer.cross_step {
        for copy in across.ahead.iter().filter(|copy| copy.layer == layer) {
            draw(copy.start_s, copy.end_s, b'>');
        }
        for copy in across.carried.iter().filter(|copy| copy.layer == layer && copy.end_s > 0.0) {
            draw(0.0, copy.end_s, b'<');
        }
    }
    for copy in answer.copies.iter().filter(|copy| copy.layer == layer) {
        draw(copy.start_s, copy.end_s, b'-');
    }
    for span in answer.layers.iter().filter(|span| span.layer == layer) {
        draw(span.start_s, span.end_s, b'#');
    }
    bar.iter().map(|byte| char::from(*byte)).collect()
}

/// The unit in which a step has one to four digits before the point.
struct TimeUnit {
    name: &'static str,
    per_second: f64,
}

impl TimeUnit {
    fn for_span(seconds: f64) -> Self {
        let (name, per_second) = match seconds {
            s if s >= 10.0 => ("s", 1.0),
            s if s >= 0.01 => ("ms", 1e3),
            s if s >= 1e-5 => ("us", 1e6),
            _ => ("ns", 1e9),
        };
        TimeUnit { name, per_second }
    }

    fn show(&self, seconds: f64) -> String {
        format!("{:.3}", seconds * self.per_second)
    }
}
