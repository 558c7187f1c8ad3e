//! `orbitflow capacity`: how much load a policy can promise an attainment at, or how little memory or link it needs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use rayon::prelude::*;

use super::progress::Progress;
use super::scenario_args::ScenarioArgs;
use super::table::{Cell, Table};
use super::{Format, OrInput};
use crate::capacity::{self, Answer, Found, METRICS, Metric, Quantity, Trial, Variation};
use crate::plot;
use crate::report::rows::PolicyResult;
use crate::runner::RunError;
use crate::scenario::did_you_mean;

/// For each policy, the largest load at which it still meets the attainment with every seed, or the smallest GPU pool or
/// link. Tried are 2^-6 to 2^6 times the scenario's own; the answer is within 2 %.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Attainment to meet, in percent
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    attain: f64,
    /// Which: any field of `attainment_pct`
    #[arg(long, default_value = "e2e")]
    metric: String,
    /// Of what
    #[arg(long, value_enum, default_value_t)]
    of: Of,
    /// Write the figure and its numbers here: capacity.svg, capacity.csv
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How to print the table
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    /// Load factor, the largest
    #[default]
    Load,
    /// GPU KV pool in layer-blocks, the smallest, at the scenario's load
    GpuKv,
    /// Link rate in bytes per second, the smallest, at the scenario's load
    Link,
}

impl Of {
    const fn quantity(self) -> Quantity {
        match self {
            Of::Load => Quantity::Load,
            Of::GpuKv => Quantity::GpuKv,
            Of::Link => Quantity::Link,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Of::Load => "load factor",
            Of::GpuKv => "GPU KV pool (layer-blocks)",
            Of::Link => "link rate (GB/s)",
        }
    }

    /// In the head of a table.
    const fn column(self) -> &'static str {
        match self {
            Of::Load => "load",
            Of::GpuKv => "gpu_kv_layer_blocks",
            Of::Link => "link_gb_per_s",
        }
    }

    /// In the unit of the title. A pool is whole layer-blocks, as it was tried.
    fn shown(self, value: f64) -> f64 {
        match self {
            Of::Load => value,
            Of::GpuKv => value.floor(),
            Of::Link => value / 1e9,
        }
    }

    /// Digits behind the point by which people can tell a value from the next one tried, 2 % away: four that count.
    fn digits(self, value: f64) -> usize {
        match self {
            Of::GpuKv => 0,
            Of::Load | Of::Link if value > 0.0 => (3.0 - value.log10().floor()).clamp(0.0, 12.0) as usize,
            Of::Load | Of::Link => 3,
        }
    }
}

/// What one seed's search found, in the unit of the title.
struct SeedFound {
    seed: u64,
    found: Found,
    value: Option<f64>,
    missed: Option<f64>,
    met_again: Vec<f64>,
    untried: Vec<f64>,
}

/// One policy's answer.
struct Row {
    key: String,
    label: String,
    /// Each seed's search.
    seeds: Vec<SeedFound>,
    /// Of all seeds: the value, the first that misses, and what else must be said.
    value: Option<f64>,
    missed: Option<f64>,
    attained_pct: Option<f64>,
    note: String,
}

/// Runs the command. A target that is not reached is an answer.
///
/// # Errors
/// Wrong input; a grid over anything but seeds; a folder that cannot be written.
pub fn run(args: Args, quiet: bool) -> anyhow::Result<ExitCode> {
    if !(0.0..=100.0).contains(&args.attain) {
        return Err(anyhow::anyhow!("--attain: {}: expected a percentage from 0 to 100", args.attain))
            .or_input();
    }
    let metric = metric(&args.metric).or_input()?;
    let grid = args.scenario.load_grid()?;
    if let Some(axis) = grid.varied().find(|axis| *axis != "seed") {
        let problem = "expected no axis but `seed`, whose values must all meet the target";
        return Err(anyhow::anyhow!(
            "{}: axes.{axis}: {problem}\nhint: `--set {axis}=…` takes one value",
            grid.name
        ))
        .or_input();
    }
    let variations: Vec<(u64, Variation)> = grid
        .points()
        .map(|point| Ok((point.scenario.seed, Variation::new(&point.scenario, args.of.quantity())?)))
        .collect::<Result<_, RunError>>()
        .or_input()?;
    let policies = grid.point(0).scenario.policies.len();
    let bar = Progress::new("searching", "searches", (policies * variations.len()) as u64, quiet);
    let rows: Vec<Row> = (0..policies)
        .into_par_iter()
        .map(|policy| row(&args, metric, &variations, policy, &bar))
        .collect::<Result<_, Trial>>()
        .or_input()?;
    bar.finish();
    let mut answer = table(&args, &rows).render(args.format)?;
    if matches!(args.format, Format::Table) {
        answer.extend(assumptions(args.of, &variations).map(|note| format!("note: {note}\n")));
    }
    std::io::stdout().write_all(answer.as_bytes())?;
    if let Some(dir) = &args.out {
        write_figure(&args, &rows, &grid.name, dir)?;
        if !quiet {
            eprintln!("wrote {}", dir.join("capacity.svg").display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the answers rest on.
fn assumptions(of: Of, variations: &[(u64, Variation)]) -> impl Iterator<Item = String> {
    let slos = variations.iter().map(|(_, variation)| variation.slo().as_secs_f64() * 1e3);
    let (least, most) =
        slos.fold((f64::INFINITY, 0.0_f64), |(least, most), slo| (least.min(slo), most.max(slo)));
    let slo =
        if least == most { format!("{least:.2} ms") } else { format!("{least:.2} to {most:.2} ms by seed") };
    let kept = format!("TBT SLO {slo} per token: the scenario's, kept while the {} varies", of.title());
    let load = (of == Of::Load)
        .then(|| "load: a value of `trace.load`, which multiplies the trace's own rate".to_owned());
    std::iter::once(kept).chain(load).chain(variations[0].1.notes().to_vec())
}

fn metric(name: &str) -> anyhow::Result<Metric> {
    let known = METRICS.iter().map(|(name, _)| *name);
    METRICS.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric).ok_or_else(|| {
        let hint =
            did_you_mean(name, known.clone()).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        anyhow::anyhow!("--metric: {name:?}: expected one of {}{hint}", known.collect::<Vec<_>>().join(", "))
    })
}

fn row(
    args: &Args,
    metric: Metric,
    seeds: &[(u64, Variation)],
    policy: usize,
    bar: &Progress,
) -> Result<Row, Trial> {
    let of = args.of;
    let harder = of.quantity().more_is_harder();
    let attained = |variation: &Variation, factor| {
        let tried = variation.try_at(factor, policy);
        // A pool too small for one block per layer serves no one.
        match tried {
            Err(Trial::Run(RunError::Scenario(_))) if of == Of::GpuKv => Ok(Some(0.0)),
            Err(error) if error.is_out_of_range() => Ok(None),
            tried => tried.map(|result: PolicyResult| Some(metric(&result.attainment_pct))),
        }
    };
    let seeds_found: Vec<SeedFound> = seeds
        .par_iter()
        .map(|(seed, variation)| {
            let found = capacity::search(harder, args.attain, |factor| attained(variation, factor))?;
            bar.add(1);
            // Each seed's own: pools that are derived from drawn traces differ.
            let value = |factor: f64| of.shown(variation.value(factor));
            Ok(SeedFound {
                seed: *seed,
                value: found.answer.factor().map(value),
                missed: match found.answer {
                    Answer::Between { missed, .. } => Some(value(missed)),
                    Answer::Everywhere { .. } | Answer::NotReached => None,
                },
                met_again: found.met_again.iter().copied().map(value).collect(),
                untried: found.untried.iter().copied().map(value).collect(),
                found,
            })
        })
        .collect::<Result<_, Trial>>()?;
    let values: Vec<Option<f64>> = seeds_found.iter().map(|seed| seed.value).collect();
    let worst = capacity::of_every_seed(&values, harder).expect("Invariant: a grid has a point");
    let worst = &seeds_found[worst];
    let (key, label) = seeds[0].1.name(policy).clone();
    Ok(Row {
        key,
        label,
        value: worst.value,
        missed: worst.missed,
        attained_pct: worst.found.attained_pct,
        note: note(of, worst, &seeds_found),
        seeds: seeds_found,
    })
}

/// What must be said beside the number.
fn note(of: Of, worst: &SeedFound, seeds: &[SeedFound]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let unreached = seeds.iter().filter(|seed| seed.value.is_none()).count();
    match worst.found.answer {
        Answer::Between { .. } => {}
        Answer::Everywhere { .. } => parts.push("met everywhere that was tried".to_owned()),
        Answer::NotReached if unreached == seeds.len() => parts.push("not reached".to_owned()),
        Answer::NotReached => parts.push(format!("not reached with {unreached} of {} seeds", seeds.len())),
    }
    for seed in seeds {
        let of_seed = if seeds.len() > 1 { format!("seed {}: ", seed.seed) } else { String::new() };
        let at = |values: &[f64]| {
            let shown = values.iter().map(|value| format!("{value:.*}", of.digits(*value)));
            shown.collect::<Vec<_>>().join(", ")
        };
        if !seed.met_again.is_empty() {
            parts.push(format!("{of_seed}met again at {} (not monotone)", at(&seed.met_again)));
        }
        if !seed.untried.is_empty() {
            parts.push(format!("{of_seed}not tried at {}: beyond what can be simulated", at(&seed.untried)));
        }
    }
    parts.join("; ")
}

fn table(args: &Args, rows: &[Row]) -> Table {
    let unit = args.of.column();
    let attained = format!("{}_pct", args.metric);
    let mut table = Table::new(["policy", unit, "missed_at", &attained, "seeds", "note"]);
    for row in rows {
        table.push([
            row.key.as_str().into(),
            row.value.map_or(Cell::Empty, |value| Cell::Number(value, args.of.digits(value))),
            row.missed.map_or(Cell::Empty, |value| Cell::Number(value, args.of.digits(value))),
            row.attained_pct.map_or(Cell::Empty, |value| Cell::Number(value, 1)),
            (row.seeds.len() as u64).into(),
            row.note.as_str().into(),
        ]);
    }
    table
}

/// The figure and the rows that it was drawn from: one per policy and seed.
fn write_figure(args: &Args, rows: &[Row], scenario: &str, dir: &std::path::Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let unit = args.of.column();
    let missed = format!("missed_at_{unit}");
    let mut csv = csv::Writer::from_path(dir.join("capacity.csv"))?;
    csv.write_record(["policy", "label", "seed", unit, &missed, "attained_pct", "answer", "met_again_at"])?;
    for row in rows {
        for SeedFound { seed, found, value, missed, met_again, .. } in &row.seeds {
            let number = |value: &Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
            let again: Vec<String> = met_again.iter().map(f64::to_string).collect();
            csv.write_record([
                &row.key,
                &row.label,
                &seed.to_string(),
                &number(value),
                &number(missed),
                &number(&found.attained_pct),
                found.answer.name(),
                &again.join(" "),
            ])?;
        }
    }
    csv.flush()?;
    let bars: Vec<plot::CapacityBar> = rows
        .iter()
        .map(|row| plot::CapacityBar {
            key: row.key.clone(),
            label: row.label.clone(),
            value: row.value,
            seeds: row.seeds.iter().map(|seed| seed.value).collect(),
            has_bounds: row.seeds.iter().any(|seed| matches!(seed.found.answer, Answer::Everywhere { .. })),
            note: row.note.clone(),
        })
        .collect();
    let (most, better) =
        if args.of.quantity().more_is_harder() { ("Largest", "higher") } else { ("Smallest", "lower") };
    let title = format!("{most} {} with {} % {} attainment", args.of.title(), args.attain, args.metric);
    let setting = format!("{scenario}: {better} is better");
    plot::draw_capacity(&title, &setting, &bars, &dir.join("capacity.svg"))?;
    Ok(())
}
