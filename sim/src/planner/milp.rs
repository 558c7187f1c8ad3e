//! The reference: the planning problem as a mixed-integer program, solved by good_lp's microlp.
//!
//! One binary per (request, candidate) (where restores count, per alternative: `alternatives`), the step time `t` in
//! units of the compute time of a step, one row per layer at which something can be copied (the others never bind), one
//! for memory, one for the SLO budget. Ties are resolved by solving again with the level before held fixed.
//!
//! The solver works in `f64` with tolerances near 1e-8, so a placement it returns is measured again by the planner's
//! own forecast, and a tie level whose answer breaks an earlier level by that measure is dropped. Slow (facts in
//! `dependencies.md`): for tests, `orbitflow plan --solver milp`, and nothing else. The only file that names good_lp.

use std::fmt;

use good_lp::{Expression, ResolutionError, Solution, SolverModel, Variable, variable};

use super::alternatives::{Alternative, alternatives};
use super::problem::{Problem, changed_layers, copied_blocks, freed_by, objective_ns, prefix_ns, whole_ns};
use super::shape::Shape;
use super::{Infeasible, Instance, NoPlan, PlacementSpace, Plan, StepModel};
use crate::model::LayerSet;

/// Why there is no answer; a feasible program is never left unsolved otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MilpError {
    /// The solver broke down.
    #[error("the MILP solver failed: {0}; hint: the exact search (`--solver search`) does not depend on it")]
    Failed(String),
    /// The forecast is the pipeline's.
    #[error(
        "`forecast`: \"pipeline\": the MILP solver expected \"prefix\", the one that is linear; hint: `--solver search` plans by both"
    )]
    NotLinear,
    /// One common set of any layers, with restores.
    #[error(
        "`uniform`: true: the MILP solver expected false, or \"placement_space\": \"distance\", where `migration_cost` counts any layers; hint: `--solver search` plans it"
    )]
    CommonLayers,
}

/// How far ties are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// Any placement with the least forecast.
    Any,
    /// The whole order of design §4.2: several programs, one after the other.
    Resolved,
}

/// A variable of a [`Model`].
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name in listings: `t`, `copies`, `REQUEST@DISTANCE`, `REQUEST@last COUNT`, or `REQUEST@layers LAYER+LAYER…`.
    pub name: String,
    /// Whether it is 0 or 1; otherwise it is any number ≥ 0.
    pub binary: bool,
}

/// How the two sides of a [`Row`] compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// `≤`
    AtMost,
    /// `≥`
    AtLeast,
    /// `=`
    Equal,
}

/// A constraint of a [`Model`]: `Σ coefficient · column`, compared with a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name in listings.
    pub name: String,
    /// `(column, coefficient)`.
    pub terms: Vec<(usize, f64)>,
    /// How the sides compare.
    pub sense: Sense,
    /// The right side.
    pub bound: f64,
}

/// The program of one instance. Prints as a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The variables; the first is `t`.
    pub columns: Vec<Column>,
    /// The constraints.
    pub rows: Vec<Row>,
    /// What is minimised: `t`, and the restores where they count.
    pub objective: Vec<(usize, f64)>,
    /// What each request may choose, one binary each.
    choices: Vec<Vec<Alternative>>,
}

impl Model {
    /// The program of `instance`.
    ///
    /// # Errors
    /// [`MilpError::NotLinear`] and [`MilpError::CommonLayers`]: what it cannot express.
    pub fn new(instance: &Instance) -> Result<Self, MilpError> {
        expressible(instance)?;
        Ok(Model::of(&Problem::new(instance, &Shape::new(instance.layers, instance.space))))
    }

    fn of(problem: &Problem<'_>) -> Self {
        let instance = problem.instance;
        let choices = alternatives(problem);
        let mut model = Model { columns: Vec::new(), rows: Vec::new(), objective: Vec::new(), choices };
        model.columns.push(Column { name: "t".to_owned(), binary: false });
        for (request, choices) in instance.requests.iter().zip(&model.choices) {
            for choice in choices {
                let name = format!("{}@{}", request.id, choice.name(instance.layers, instance.space));
                model.columns.push(Column { name, binary: true });
            }
        }
        let copies = (instance.intercept_s > 0.0).then(|| {
            model.columns.push(Column { name: "copies".to_owned(), binary: true });
            model.columns.len() - 1
        });
        model.objective = model.objective_of(problem);
        model.add_choices(instance, copies);
        model.add_memory(problem);
        model.add_step_time(problem, copies);
        if let Some(t_max_s) = problem.t_max_s {
            let bound = t_max_s * 1e9 / unit_ns(problem);
            model.add("slo budget: t ≤ t_max", vec![(0, 1.0)], Sense::AtMost, bound);
        }
        model
    }

    fn column(&self, request: usize, choice: usize) -> usize {
        1 + self.choices[..request].iter().map(Vec::len).sum::<usize>() + choice
    }

    fn add(&mut self, name: impl Into<String>, terms: Vec<(usize, f64)>, sense: Sense, bound: f64) {
        self.rows.push(Row { name: name.into(), terms, sense, bound });
    }

    /// `t`, and `R/W` where restores count.
    fn objective_of(&self, problem: &Problem<'_>) -> Vec<(usize, f64)> {
        let mut terms = vec![(0, 1.0)];
        if problem.instance.counts_restores() {
            let unit = unit_ns(problem) * problem.instance.window as f64;
            let restores =
                self.per_choice(|request, choice| problem.copy_ns(request) * choice.restored as f64 / unit);
            terms.extend(restores);
        }
        terms
    }

    fn add_choices(&mut self, instance: &Instance, copies: Option<usize>) {
        for (request, asked) in instance.requests.iter().enumerate() {
            let choices = self.choices[request].len();
            let terms = (0..choices).map(|c| (self.column(request, c), 1.0)).collect();
            self.add(format!("one distance: {}", asked.id), terms, Sense::Equal, 1.0);
            if instance.uniform && request > 0 {
                for choice in 0..choices {
                    let terms = vec![(self.column(request, choice), 1.0), (self.column(0, choice), -1.0)];
                    self.add(format!("common distance: {}", asked.id), terms, Sense::Equal, 0.0);
                }
            }
            if let Some(copies) = copies {
                let terms = vec![(self.column(request, 0), 1.0), (copies, 1.0)];
                self.add(format!("copies or resident: {}", asked.id), terms, Sense::AtLeast, 1.0);
            }
        }
    }

    /// `Σ freed ≥ need`, in units of what is needed.
    fn add_memory(&mut self, problem: &Problem<'_>) {
        let unit = problem.need.unsigned_abs().max(1) as f64;
        let terms = self.per_choice(|_, choice| choice.freed as f64 / unit);
        self.add("memory: freed ≥ needed", terms, Sense::AtLeast, problem.need as f64 / unit);
    }

    /// `t ≥ base + copies up to layer j − (j − 1)·tc` for every layer, and `t ≥ base`.
    fn add_step_time(&mut self, problem: &Problem<'_>, copies: Option<usize>) {
        let unit = unit_ns(problem);
        let intercept = (problem.base_ns(true) - problem.base_ns(false)) / unit;
        let base = problem.base_ns(false) / unit;
        let rest = |terms: &mut Vec<(usize, f64)>| {
            terms.insert(0, (0, 1.0));
            terms.extend(copies.map(|copies| (copies, -intercept)));
        };
        let mut terms = Vec::new();
        rest(&mut terms);
        self.add("step time: compute", terms, Sense::AtLeast, base);
        let sets = self.choices.iter().flatten().map(|choice| choice.offloaded);
        for layer in sets.fold(LayerSet::EMPTY, LayerSet::union).iter() {
            let copied = |request: usize, choice: &Alternative| {
                -problem.copy_ns(request) * choice.copied_by(layer) / unit
            };
            let mut terms = self.per_choice(copied);
            rest(&mut terms);
            let bound = base - problem.hidden_ns(layer) / unit;
            self.add(format!("step time: layer {layer}"), terms, Sense::AtLeast, bound);
        }
    }

    /// A term for every choice whose coefficient is not 0.
    fn per_choice(&self, coefficient: impl Fn(usize, &Alternative) -> f64) -> Vec<(usize, f64)> {
        let of_request = |(request, choices)| std::iter::repeat(request).zip(choices);
        (self.choices.iter().enumerate().flat_map(of_request).zip(1..))
            .map(|((request, choice), column)| (column, coefficient(request, choice)))
            .filter(|&(_, coefficient)| coefficient != 0.0)
            .collect()
    }

    /// The choices that minimise `objective`; `None`: infeasible.
    fn minimise(&self, objective: &[(usize, f64)]) -> Result<Option<Vec<usize>>, MilpError> {
        let mut problem = good_lp::variables!();
        let columns: Vec<Variable> = self
            .columns
            .iter()
            .map(|column| problem.add(if column.binary { variable().binary() } else { variable().min(0.0) }))
            .collect();
        let expression = |terms: &[(usize, f64)]| -> Expression {
            terms.iter().map(|&(column, coefficient)| coefficient * columns[column]).sum()
        };
        let mut program = problem.minimise(expression(objective)).using(good_lp::microlp);
        for row in &self.rows {
            let left = expression(&row.terms);
            program.add_constraint(match row.sense {
                Sense::AtMost => left.leq(row.bound),
                Sense::AtLeast => left.geq(row.bound),
                Sense::Equal => left.eq(row.bound),
            });
        }
        match program.solve() {
            Ok(solution) => Ok(Some(self.choice(|column| solution.value(columns[column])))),
            Err(ResolutionError::Infeasible) => Ok(None),
            Err(error) => Err(MilpError::Failed(error.to_string())),
        }
    }

    /// The choice with the largest value of each request.
    fn choice(&self, value: impl Fn(usize) -> f64) -> Vec<usize> {
        let of = |request: usize| {
            (0..self.choices[request].len())
                .max_by(|&a, &b| value(self.column(request, a)).total_cmp(&value(self.column(request, b))))
                .expect("Invariant: resident is always a candidate")
        };
        (0..self.choices.len()).map(of).collect()
    }

    /// The layers that these choices offload.
    fn sets(&self, choice: &[usize]) -> Vec<LayerSet> {
        choice.iter().zip(&self.choices).map(|(&place, choices)| choices[place].offloaded).collect()
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "minimise t")?;
        for &(column, coefficient) in &self.objective[1..] {
            write!(f, " + {coefficient:.6} {}", self.columns[column].name)?;
        }
        writeln!(f, "   (1 = compute, tail; {} variables, {} rows)", self.columns.len(), self.rows.len())?;
        for row in &self.rows {
            write!(f, "  {}:", row.name)?;
            for &(column, coefficient) in &row.terms {
                let sign = if coefficient < 0.0 { '-' } else { '+' };
                write!(f, " {sign} {:.6} {}", coefficient.abs(), self.columns[column].name)?;
            }
            let sense = match row.sense {
                Sense::AtMost => "≤",
                Sense::AtLeast => "≥",
                Sense::Equal => "=",
            };
            writeln!(f, " {sense} {:.6}", row.bound)?;
        }
        let names = |binary: bool| {
            let of_kind = self.columns.iter().filter(move |column| column.binary == binary);
            of_kind.map(|column| column.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        writeln!(f, "numbers ≥ 0: {}", names(false))?;
        writeln!(f, "binaries: {}", names(true))
    }
}

/// The best placement of `instance` by the mixed-integer program, its forecast measured by the planner.
///
/// # Errors
/// The outer one if the solver breaks down, the inner one if there is no plan.
pub fn solve(instance: &Instance, ties: Ties) -> Result<Result<Plan, NoPlan>, MilpError> {
    expressible(instance)?;
    let shape = Shape::new(instance.layers, instance.space);
    let problem = Problem::new(instance, &shape);
    let model = Model::of(&problem);
    let Some(mut choice) = model.minimise(&model.objective)? else {
        return Ok(Err(NoPlan::new(&problem, why_infeasible(&model)?, 0)));
    };
    let sets = |choice: &[usize]| model.sets(choice);
    if ties == Ties::Resolved {
        choice = resolve_ties(&problem, model.clone(), choice)?;
    }
    let sets = sets(&choice);
    Ok(Ok(Plan::of(&problem, &sets, prefix_ns(instance, &sets), 0)))
}

/// Whether a linear program has these placements and this forecast.
fn expressible(instance: &Instance) -> Result<(), MilpError> {
    if instance.model != StepModel::Prefix {
        return Err(MilpError::NotLinear);
    }
    if instance.counts_restores() && instance.uniform && instance.space == PlacementSpace::Layers {
        return Err(MilpError::CommonLayers);
    }
    Ok(())
}

/// Memory, if there is no placement even without the SLO budget.
fn why_infeasible(model: &Model) -> Result<Infeasible, MilpError> {
    let mut without = model.clone();
    without.rows.retain(|row| !row.name.starts_with("slo budget"));
    Ok(if without.minimise(&[(0, 1.0)])?.is_some() { Infeasible::Slo } else { Infeasible::Memory })
}

/// Solves for each further level of the order with those before it held.
fn resolve_ties(
    problem: &Problem<'_>,
    mut model: Model,
    mut choice: Vec<usize>,
) -> Result<Vec<usize>, MilpError> {
    let instance = problem.instance;
    let least = order_key(instance, problem, &model.sets(&choice)).1 as f64 + 0.5;
    model.add("least objective", model.objective.clone(), Sense::AtMost, least / unit_ns(problem));
    let mut levels = vec![
        model.per_choice(|request, one| one.count as f64 * instance.requests[request].blocks as f64),
        model.per_choice(|_, one| one.changes as f64),
    ];
    levels.extend(
        (0..problem.requests()).map(|request| {
            model.per_choice(|other, one| if other == request { one.count as f64 } else { 0.0 })
        }),
    );
    for level in levels.into_iter().filter(|level| !level.is_empty()) {
        if let Some(better) = model.minimise(&level)?
            && order_key(instance, problem, &model.sets(&better))
                <= order_key(instance, problem, &model.sets(&choice))
        {
            choice = better;
        }
        // whole numbers: half of one is room enough for tolerances
        let value: f64 = level
            .iter()
            .filter(|&&(column, _)| chosen(&model, &choice, column))
            .map(|(_, value)| value)
            .sum();
        let unit = value.max(1.0);
        let terms = level.iter().map(|&(column, value)| (column, value / unit)).collect();
        model.add("tie level", terms, Sense::AtMost, (value + 0.5) / unit);
    }
    Ok(choice)
}

fn chosen(model: &Model, choice: &[usize], column: usize) -> bool {
    choice.iter().enumerate().any(|(request, &place)| model.column(request, place) == column)
}

/// The order of design §4.2; infeasible placements come last.
fn order_key(
    instance: &Instance,
    problem: &Problem<'_>,
    sets: &[LayerSet],
) -> (bool, u64, u64, u64, Vec<u32>) {
    let forecast_ns = prefix_ns(instance, sets);
    let requests = instance.requests.iter().zip(sets);
    let freed: i64 = requests.map(|(request, &set)| freed_by(instance, request, set)).sum();
    (
        freed < problem.need || forecast_ns > problem.t_max_ns(),
        whole_ns(objective_ns(instance, forecast_ns, sets)),
        copied_blocks(instance, sets),
        changed_layers(instance, sets),
        sets.iter().map(|set| set.len()).collect(),
    )
}

/// The unit of time of a program: a step without copies, so that `t` is near 1.
fn unit_ns(problem: &Problem<'_>) -> f64 {
    problem.base_ns(false)
}
