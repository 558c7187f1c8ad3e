//! `orbitflow plan`: reads one placement problem, solves it, prints the answer.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::split::Split;
use super::{Format, OrInput, json_input};
use crate::ids::Layer;
use crate::model::{Distance, LayerSet, Placement};
use crate::pipeline::CopyOrder;
use crate::planner::instance::InstanceFile;
use crate::planner::milp::{self, Model, Ties};
use crate::planner::{
    Forecast, Infeasible, Instance, NoPlan, PlacementSpace, Plan, PlanRequest, Scratch, StepModel,
    binding_layer, forecast, search,
};

/// One placement decision: distances (or layers), forecast, every constraint's use, the gap.
///
/// INSTANCE is JSON: `layers`, `layer_compute_s`, `link {blocks_per_s, latency_s}` (latency per copy), `capacity_layer_blocks`
/// (what placements may use, headroom already off), `failure_budget`, `window` in tokens, and `requests [{id, blocks, slo_s,
/// deposit}]` in admission order: blocks per layer, seconds promised per token, tokens made ahead; `resident_layers`
/// lists the layers that are on the GPU now, so that changes can be counted.
///
/// Optional: `uniform` (false: one common distance), `placement_space` ("distance" or "layers"), `forecast` ("prefix" or
/// "pipeline"; for the latter `slots` (1) and `copy_order` ("ready-first" or "in-order")), `growth_blocks` (0, per resident
/// layer and request), `staging_slots` (0, charged per request that offloads), `migration_cost` (false; true: the copies that
/// bring layers back, which needs `resident_layers`, are spread over the window and minimised too), `tensor_parallel` (1),
/// `shared_link` (false) and `all_reduce_s` (0, per layer): with several GPUs `layer_compute_s` and `link` are those of one.
///
/// No placement being feasible is an answer too: exit code 0.
#[derive(clap::Args)]
pub struct Args {
    /// The placement problem, JSON; `-` for stdin.
    instance: PathBuf,
    /// What solves it.
    #[arg(long, value_enum, default_value_t = Solver::Search)]
    solver: Solver,
    /// Print the mixed-integer program, its variables and rows, before the answer.
    #[arg(long)]
    show_model: bool,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Solver {
    /// Our own exact search, which the engine uses.
    Search,
    /// The reference: a mixed-integer program in microlp. Slow from about 8 requests on.
    Milp,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage or input; the MILP solver broke down.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.show_model && (args.solver != Solver::Milp || args.format != Format::Table) {
        anyhow::bail!(super::InputError(anyhow::anyhow!(
            "`--show-model` lists the mixed-integer program as text\nhint: add `--solver milp`, without `--format`"
        )));
    }
    let file: InstanceFile = json_input::read(&args.instance).or_input()?;
    let instance = Instance::try_from(&file)
        .map_err(|bad| anyhow::anyhow!("{}: {bad}", json_input::name(&args.instance)))
        .or_input()?;
    let model = match Model::new(&instance) {
        Ok(model) => Some(model),
        Err(error) if args.solver == Solver::Milp => {
            anyhow::bail!(super::InputError(anyhow::Error::new(error)))
        }
        Err(_) => None,
    };
    let answer = match args.solver {
        Solver::Search => search(&instance, &mut Scratch::default()),
        Solver::Milp => milp::solve(&instance, Ties::Resolved)?,
    };
    let mut report = Report::new(&instance, &answer, args.solver, model.as_ref());
    report.tensor_parallel = Split::of(file.parallel(), file.layer_s(), file.blocks_per_s());
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
        Format::Csv => {
            report.write_csv(&mut out)?;
            if let Err(none) = &answer {
                eprintln!("infeasible: {}", why(none));
            }
        }
        Format::Table => {
            if let Some(model) = model.filter(|_| args.show_model) {
                writeln!(out, "{model}")?;
            }
            report.write_table(&mut out, &instance, &answer)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The answer as `--format json` prints it (design §2.3).
#[derive(Serialize)]
struct Report {
    feasible: bool,
    reason: Option<Infeasible>,
    forecast_s: Option<f64>,
    /// Which model of a step the forecast is by; absent: the prefix forecast.
    #[serde(skip_serializing_if = "is_default")]
    forecast: Forecast,
    /// The prefix forecast of the same placement, where the forecast is the pipeline's.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_forecast_s: Option<f64>,
    /// What the restores cost; absent: they do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    migration: Option<Migration>,
    /// What was chosen per request; absent: a distance.
    #[serde(skip_serializing_if = "is_default")]
    placement_space: PlacementSpace,
    t_max_s: Option<f64>,
    placements: Vec<PlacementRow>,
    memory: Memory,
    slo_load: SloLoad,
    solver: SolverReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor_parallel: Option<Split>,
}

#[derive(Serialize)]
struct PlacementRow {
    request: String,
    /// `null`: resident, or no distance has these layers.
    distance: Option<u32>,
    offloaded_layers: Vec<u32>,
    /// Layers that are copied back; absent: restores do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_layers: Option<Vec<u32>>,
}

/// `migration_cost`: `objective_s = forecast_s + restore_s / window`. `null` without a plan.
#[derive(Serialize)]
struct Migration {
    objective_s: Option<f64>,
    restore_s: Option<f64>,
    window: u64,
}

#[derive(Serialize)]
struct Memory {
    used: Option<u64>,
    capacity: u64,
}

#[derive(Serialize)]
struct SloLoad {
    used: Option<f64>,
    budget: f64,
}

#[derive(Serialize)]
struct SolverReport {
    name: &'static str,
    optimal: bool,
    gap: Option<f64>,
    /// `null`: the solver does not say.
    nodes: Option<u64>,
    /// Of the mixed-integer program; `null`: the problem is none.
    variables: Option<usize>,
    constraints: Option<usize>,
}

impl Report {
    fn new(
        instance: &Instance,
        answer: &Result<Plan, NoPlan>,
        solver: Solver,
        model: Option<&Model>,
    ) -> Self {
        let plan = answer.as_ref().ok();
        let none = answer.as_ref().err();
        let nodes = plan.map_or_else(|| none.map(|none| none.nodes), |plan| Some(plan.nodes));
        let placements = plan.map_or_else(Vec::new, |plan| {
            let requests = instance.requests.iter().zip(&plan.placements);
            requests.map(|(asked, &at)| PlacementRow::new(instance, asked, at)).collect()
        });
        Report {
            feasible: plan.is_some(),
            reason: none.map(|none| none.reason),
            forecast_s: plan.map(|plan| plan.forecast_s),
            forecast: forecast_of(instance),
            prefix_forecast_s: plan.and_then(|plan| prefix_beside(instance, plan)),
            migration: instance.migration_cost.then(|| Migration {
                objective_s: plan.map(|plan| plan.objective_s),
                restore_s: plan.map(|plan| plan.restore_s),
                window: instance.window,
            }),
            placement_space: instance.space,
            t_max_s: plan.map_or_else(|| none.and_then(|none| none.t_max_s), |plan| plan.t_max_s),
            placements,
            memory: Memory { used: plan.map(|plan| plan.memory_used), capacity: instance.capacity },
            slo_load: SloLoad { used: plan.map(|plan| plan.slo_load), budget: instance.failure_budget },
            solver: SolverReport {
                name: match solver {
                    Solver::Search => "search",
                    Solver::Milp => "milp",
                },
                optimal: plan.map_or(none.is_some_and(|none| !none.node_cap_hit), |plan| plan.optimal),
                gap: plan.map(|plan| plan.gap),
                nodes: nodes.filter(|_| solver == Solver::Search),
                variables: model.map(|model| model.columns.len()),
                constraints: model.map(|model| model.rows.len()),
            },
            tensor_parallel: None,
        }
    }

    fn write_csv(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["request", "distance", "offloaded_layers", "forecast_s"])?;
        for row in &self.placements {
            let forecast = self.forecast_s.map_or(String::new(), |seconds| seconds.to_string());
            csv.write_record([&row.request, &row.distance(), &row.layers(), &forecast])?;
        }
        csv.flush()?;
        Ok(())
    }

    fn write_table(
        &self,
        out: &mut impl Write,
        instance: &Instance,
        answer: &Result<Plan, NoPlan>,
    ) -> std::io::Result<()> {
        match answer {
            Ok(plan) => self.write_placements(out, instance, plan)?,
            Err(none) => writeln!(out, "infeasible: {}\n", why(none))?,
        }
        if let Some(split) = &self.tensor_parallel {
            writeln!(out, "{}", split.line())?;
        }
        let t_max = match self.t_max_s {
            Some(seconds) => format!("at most {}", milliseconds(seconds)),
            None => "unbounded".to_owned(),
        };
        writeln!(out, "{:<12}{:>22}  of {}", "memory", or_dash(self.memory.used), blocks(instance.capacity))?;
        let load = self.slo_load.used.map(|load| format!("{load:.6}"));
        writeln!(
            out,
            "{:<12}{:>22}  of {}  (step time {t_max})",
            "slo budget",
            or_dash(load),
            self.slo_load.budget
        )?;
        if let Ok(plan) = answer {
            let binding = match (binding_layer(instance, &plan.placements), &instance.model) {
                (_, StepModel::Pipeline { slots, order }) => simulated(instance, plan, *slots, *order),
                (Some(Layer(layer)), _) => {
                    format!("waiting for the copies of layers 1 to {layer} decides it")
                }
                (None, _) => "computing decides it, every copy is hidden".to_owned(),
            };
            writeln!(out, "{:<12}{:>22}  {binding}", "step time", milliseconds(plan.forecast_s))?;
            if self.migration.is_some() {
                let sum = format!(
                    "the step, and {} of copies that bring layers back over {} steps",
                    milliseconds(plan.restore_s),
                    instance.window
                );
                writeln!(out, "{:<12}{:>22}  {sum}", "objective", milliseconds(plan.objective_s))?;
            }
        }
        let solver = &self.solver;
        let proof = match (solver.optimal, solver.gap) {
            (true, _) => "proven".to_owned(),
            (false, Some(gap)) => format!("{}, gap {:.4} %", unproven(instance), 100.0 * gap),
            (false, None) => unproven(instance).to_owned(),
        };
        let nodes = solver.nodes.map_or(String::new(), |nodes| format!(", {nodes} nodes"));
        let size = solver.variables.zip(solver.constraints).map_or(String::new(), |(variables, rows)| {
            format!("; as a mixed-integer program {variables} variables, {rows} rows")
        });
        writeln!(out, "{:<12}{:>22}  {proof}{nodes}{size}", "solver", solver.name)
    }

    fn write_placements(
        &self,
        out: &mut impl Write,
        instance: &Instance,
        plan: &Plan,
    ) -> std::io::Result<()> {
        let compute = f64::from(instance.layers) * instance.layer_compute_s;
        writeln!(
            out,
            "forecast {}, of it {} computing; {} blocks copied per step, {} layers changed\n",
            milliseconds(plan.forecast_s),
            milliseconds(compute),
            plan.copied_blocks,
            plan.changed_layers
        )?;
        let width = self.placements.iter().map(|row| row.request.chars().count()).max().unwrap_or(0).max(7);
        writeln!(out, "{:<width$}  {:>8}  {:>8}  offloaded layers", "request", "blocks", "distance")?;
        for (row, request) in self.placements.iter().zip(&instance.requests) {
            let line = format!(
                "{:<width$}  {:>8}  {:>8}  {}{}",
                row.request,
                request.blocks,
                row.distance(),
                row.layers(),
                row.restored()
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out)
    }
}

impl PlacementRow {
    fn new(instance: &Instance, request: &PlanRequest, placement: Placement) -> Self {
        let numbers = |layers: LayerSet| layers.iter().map(|layer| layer.0).collect();
        let resident = LayerSet::all(instance.layers).difference(placement.offloaded);
        let restored = request.resident_layers.map_or(LayerSet::EMPTY, |now| resident.difference(now));
        PlacementRow {
            request: request.id.clone(),
            distance: match placement.distance(instance.layers) {
                Some(Distance::At(distance)) => Some(distance),
                Some(Distance::Resident) | None => None,
            },
            offloaded_layers: numbers(placement.offloaded),
            restored_layers: instance.migration_cost.then(|| numbers(restored)),
        }
    }

    fn distance(&self) -> String {
        match self.distance {
            Some(distance) => distance.to_string(),
            None if self.offloaded_layers.is_empty() => "resident".to_owned(),
            None => "none".to_owned(),
        }
    }

    fn layers(&self) -> String {
        spaced(&self.offloaded_layers)
    }

    /// Where restores count and there is one, which layers come back.
    fn restored(&self) -> String {
        match &self.restored_layers {
            Some(layers) if !layers.is_empty() => format!("; restored {}", spaced(layers)),
            _ => String::new(),
        }
    }
}

fn spaced(layers: &[u32]) -> String {
    layers.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn forecast_of(instance: &Instance) -> Forecast {
    match instance.model {
        StepModel::Prefix => Forecast::Prefix,
        StepModel::Pipeline { .. } => Forecast::Pipeline,
    }
}

/// The prefix forecast of `plan`, if its own is another one.
fn prefix_beside(instance: &Instance, plan: &Plan) -> Option<f64> {
    let prefix = || Instance { model: StepModel::Prefix, ..instance.clone() };
    (instance.model != StepModel::Prefix).then(|| forecast(&prefix(), &plan.placements))
}

/// What the step time of a simulated step is from.
fn simulated(instance: &Instance, plan: &Plan, slots: u32, order: CopyOrder) -> String {
    let order = match order {
        CopyOrder::ReadyFirst => "ready-first",
        CopyOrder::InOrder => "in-order",
    };
    let prefix = prefix_beside(instance, plan).map_or(String::new(), milliseconds);
    format!("simulated (slots {slots}, copies {order}); the prefix forecast is {prefix}")
}

/// Why a plan is not proven to be the best.
fn unproven(instance: &Instance) -> &'static str {
    match (instance.space, instance.model) {
        (PlacementSpace::Layers, StepModel::Pipeline { .. }) => "best found by local search",
        (PlacementSpace::Layers, _) if instance.migration_cost && instance.uniform => {
            "best found by local search"
        }
        _ => "node cap hit",
    }
}

fn why(none: &NoPlan) -> &'static str {
    match (none.reason, none.node_cap_hit) {
        (Infeasible::Memory, _) => "no placement fits memory",
        (Infeasible::Slo, false) => "no placement that fits memory meets the SLO budget",
        (Infeasible::Slo, true) => "none was found that meets the SLO budget before the node cap",
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.6} ms", seconds * 1e3)
}

fn blocks(blocks: u64) -> String {
    format!("{blocks} layer-blocks")
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}
