//! `orbitflow plan`: reads one placement problem, solves it, prints the answer.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::split::Split;
use super::{Format, OrInput, json_input};
use crate::ids::Layer;
use crate::model::{Distance, Placement};
use crate::planner::instance::InstanceFile;
use crate::planner::milp::{self, Model, Ties};
use crate::planner::{Infeasible, Instance, NoPlan, Plan, Scratch, binding_layer, search};

/// One placement decision: distances, forecast, every constraint's use, the gap.
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
    let model = Model::new(&instance);
    let answer = match args.solver {
        Solver::Search => search(&instance, &mut Scratch::default()),
        Solver::Milp => milp::solve(&instance, Ties::Resolved)?,
    };
    let mut report = Report::new(&instance, &answer, args.solver, &model);
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
            if args.show_model {
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
    /// `null`: resident.
    distance: Option<u32>,
    offloaded_layers: Vec<u32>,
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
    variables: usize,
    constraints: usize,
}

impl Report {
    fn new(instance: &Instance, answer: &Result<Plan, NoPlan>, solver: Solver, model: &Model) -> Self {
        let plan = answer.as_ref().ok();
        let none = answer.as_ref().err();
        let nodes = plan.map_or_else(|| none.map(|none| none.nodes), |plan| Some(plan.nodes));
        let placements = plan.map_or_else(Vec::new, |plan| {
            let requests = instance.requests.iter().zip(&plan.distances);
            requests.map(|(asked, &distance)| placement(&asked.id, distance, instance.layers)).collect()
        });
        Report {
            feasible: plan.is_some(),
            reason: none.map(|none| none.reason),
            forecast_s: plan.map(|plan| plan.forecast_s),
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
                variables: model.columns.len(),
                constraints: model.rows.len(),
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
            let binding = match binding_layer(instance, &plan.distances) {
                Some(Layer(layer)) => format!("waiting for the copies of layers 1 to {layer} decides it"),
                None => "computing decides it, every copy is hidden".to_owned(),
            };
            writeln!(out, "{:<12}{:>22}  {binding}", "step time", milliseconds(plan.forecast_s))?;
        }
        let solver = &self.solver;
        let proof = match (solver.optimal, solver.gap) {
            (true, _) => "proven".to_owned(),
            (false, Some(gap)) => format!("node cap hit, gap {:.4} %", 100.0 * gap),
            (false, None) => "node cap hit".to_owned(),
        };
        let nodes = solver.nodes.map_or(String::new(), |nodes| format!(", {nodes} nodes"));
        let size = format!("{} variables, {} rows", solver.variables, solver.constraints);
        writeln!(
            out,
            "{:<12}{:>22}  {proof}{nodes}; as a mixed-integer program {size}",
            "solver", solver.name
        )
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
                "{:<width$}  {:>8}  {:>8}  {}",
                row.request,
                request.blocks,
                row.distance(),
                row.layers()
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out)
    }
}

impl PlacementRow {
    fn distance(&self) -> String {
        self.distance.map_or("resident".to_owned(), |distance| distance.to_string())
    }

    fn layers(&self) -> String {
        self.offloaded_layers.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    }
}

fn placement(request: &str, distance: Distance, layers: u32) -> PlacementRow {
    PlacementRow {
        request: request.to_owned(),
        distance: match distance {
            Distance::Resident => None,
            Distance::At(distance) => Some(distance),
        },
        offloaded_layers: Placement::at(distance, layers).offloaded.iter().map(|layer| layer.0).collect(),
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
