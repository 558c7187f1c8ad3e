//! The slow twin: every placement of a small instance, compared by the order of design §4.2 as it is written.
//!
//! Shares with the other solvers only the forecast and the definition of memory. For tests.

use super::problem::{Problem, whole_ns};
use super::shape::Shape;
use super::{Infeasible, Instance, NoPlan, Plan};

/// The best placement of `instance`, by looking at all `candidates^requests` of them (or `candidates`, if uniform).
///
/// # Errors
/// As [`search`](super::search()).
pub fn solve(instance: &Instance) -> Result<Plan, NoPlan> {
    let shape = Shape::new(instance.layers);
    let problem = Problem::new(instance, &shape);
    let mut reason = Infeasible::Memory;
    let mut best: Option<((u64, u64, u64), Vec<usize>)> = None;
    let mut nodes = 0;
    // vectors ascend lexicographically, so the first of equals stays
    let mut choice = vec![0; instance.requests.len()];
    loop {
        nodes += 1;
        if problem.freed_blocks(&choice) >= problem.need {
            reason = Infeasible::Slo;
            let forecast_ns = problem.forecast_ns(&choice);
            let key =
                (whole_ns(forecast_ns), problem.copied_blocks(&choice), problem.changed_layers(&choice));
            if forecast_ns <= problem.t_max_ns() && best.as_ref().is_none_or(|(least, _)| key < *least) {
                best = Some((key, choice.clone()));
            }
        }
        if !advance(&mut choice, shape.candidates(), instance.uniform) {
            break;
        }
    }
    match best {
        Some((_, choice)) => Ok(Plan::new(&problem, &choice, nodes)),
        None => Err(NoPlan::new(&problem, reason, nodes)),
    }
}

/// The next vector in lexicographic order; false after the last one.
fn advance(choice: &mut [usize], candidates: usize, uniform: bool) -> bool {
    if uniform {
        choice.iter_mut().for_each(|candidate| *candidate += 1);
        return choice.first().is_some_and(|&candidate| candidate < candidates);
    }
    for candidate in choice.iter_mut().rev() {
        *candidate += 1;
        if *candidate < candidates {
            return true;
        }
        *candidate = 0;
    }
    false
}
