//! The first incumbent: a common distance that fits, then single moves while they help.
//!
//! Only a starting point: nothing that the search proves depends on it.

use super::super::problem::Problem;
use super::order::Order;

/// Sweeps over the batch at most; each applies the best move of every request in turn.
const MOST_SWEEPS: usize = 8;

/// A placement that fits memory, good by forecast and then by copied blocks. Panics if none fits.
pub(super) fn heuristic(problem: &Problem<'_>, order: &Order) -> Vec<usize> {
    let mut sweep = Sweep::new(problem, common_distance(problem, order));
    for _ in 0..MOST_SWEEPS {
        let mut moved = false;
        for position in 0..problem.requests() {
            moved |= sweep.best_move(order.requests[position], order.copy_ns[position]);
        }
        if !moved {
            break;
        }
    }
    sweep.choice
}

/// The least offloading common distance that fits; if staging keeps every one from fitting, what frees most.
fn common_distance(problem: &Problem<'_>, order: &Order) -> Vec<usize> {
    let requests = 0..problem.requests();
    let densest = problem.shape.candidates() - 1;
    let fits = |&candidate: &usize| {
        requests.clone().map(|request| problem.freed(request, candidate)).sum::<i64>() >= problem.need
    };
    match (0..=densest).find(fits) {
        Some(candidate) => vec![candidate; problem.requests()],
        None => {
            assert!(order.most_freed(0) >= problem.need, "Invariant: some placement fits memory");
            requests.map(|request| if problem.freed(request, densest) > 0 { densest } else { 0 }).collect()
        }
    }
}

struct Sweep<'p> {
    problem: &'p Problem<'p>,
    choice: Vec<usize>,
    freed: i64,
    /// Copy time up to each row less what the layers before it hide, nanoseconds.
    late_ns: Vec<f64>,
}

impl<'p> Sweep<'p> {
    fn new(problem: &'p Problem<'p>, choice: Vec<usize>) -> Self {
        let mut late_ns: Vec<f64> =
            problem.shape.rows.iter().map(|&row| -problem.hidden_ns(row)).collect();
        for (request, &candidate) in choice.iter().enumerate() {
            let copy_ns = problem.copy_ns(request);
            for (late, copied) in late_ns.iter_mut().zip(problem.shape.copied(candidate)) {
                *late += copy_ns * copied;
            }
        }
        let freed = problem.freed_blocks(&choice);
        Sweep { problem, choice, freed, late_ns }
    }

    /// Moves `request` to its best candidate, the others fixed. Whether that is another one.
    fn best_move(&mut self, request: usize, copy_ns: f64) -> bool {
        let shape = self.problem.shape;
        let now = self.choice[request];
        let freed_without = self.freed - self.problem.freed(request, now);
        let mut best: Option<(u64, usize)> = None;
        // ascending copies: the first of equally long steps copies least
        for candidate in 0..shape.candidates() {
            if freed_without + self.problem.freed(request, candidate) < self.problem.need {
                continue;
            }
            let rows = self.late_ns.iter().zip(shape.copied(now).iter().zip(shape.copied(candidate)));
            let stall = rows.fold(0.0, |stall: f64, (late, (before, after))| {
                stall.max(late + copy_ns * (after - before))
            });
            let stall = stall.round() as u64;
            if best.is_none_or(|(least, _)| stall < least) {
                best = Some((stall, candidate));
            }
        }
        let (_, candidate) = best.expect("Invariant: the candidate it has fits");
        self.freed = freed_without + self.problem.freed(request, candidate);
        for (row, late) in self.late_ns.iter_mut().enumerate() {
            *late += copy_ns * (shape.copied(candidate)[row] - shape.copied(now)[row]);
        }
        self.choice[request] = candidate;
        candidate != now
    }
}
