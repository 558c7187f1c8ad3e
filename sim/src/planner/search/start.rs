//! Incumbents: a common distance that fits, then single moves while they help; and, when a search turns out to be
//! hard, the cheapest placement of its surrogate and moves of pairs.
//!
//! Only starting points: nothing that the search proves depends on them.

use super::super::problem::Problem;
use super::order::Order;
use super::surrogate::Surrogate;

/// Sweeps over the batch at most; each applies the best move of every request in turn.
const MOST_SWEEPS: usize = 8;
/// Batches up to this size are improved by moves of pairs.
const MOST_PAIRED: usize = 24;

/// A placement that fits memory, good by forecast and then by copied blocks. Panics if none fits.
pub(super) fn heuristic(problem: &Problem<'_>, order: &Order) -> Vec<usize> {
    let mut sweep = Sweep::new(problem, common_distance(problem, order), 0.0);
    sweep.single_moves(order);
    sweep.choice
}

/// Two more placements that fit memory, good by forecast and then by copied blocks, forecasts up to `step_ns`
/// being equally good: one made from `incumbent`, one from the cheapest placement of `surrogate`.
pub(super) fn improved(
    problem: &Problem<'_>,
    order: &Order,
    surrogate: &Surrogate,
    incumbent: Vec<usize>,
    step_ns: f64,
) -> [Vec<usize>; 2] {
    let allowed_ns = (step_ns - problem.base_ns(true)).max(0.0);
    let mut cheapest = surrogate.cheapest(problem, order);
    make_room(problem, order, &mut cheapest);
    [incumbent, cheapest].map(|choice| {
        let mut sweep = Sweep::new(problem, choice, allowed_ns);
        sweep.single_moves(order);
        if problem.requests() <= MOST_PAIRED {
            while sweep.pair_moves(order) {
                sweep.single_moves(order);
            }
        }
        sweep.choice
    })
}

/// Moves requests to their densest candidates until the placement fits.
fn make_room(problem: &Problem<'_>, order: &Order, choice: &mut [usize]) {
    let densest = problem.shape.candidates() - 1;
    let mut freed = problem.freed_blocks(choice);
    for &request in order.requests.iter().rev() {
        let more = problem.freed(request, densest) - problem.freed(request, choice[request]);
        if freed < problem.need && more > 0 {
            freed += more;
            choice[request] = densest;
        }
    }
    for (request, candidate) in choice.iter_mut().enumerate() {
        if freed < problem.need && problem.freed(request, *candidate) < 0 {
            freed -= problem.freed(request, *candidate);
            *candidate = 0;
        }
    }
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
    /// Stalls up to this are equally good, nanoseconds.
    allowed_ns: f64,
}

impl<'p> Sweep<'p> {
    fn new(problem: &'p Problem<'p>, choice: Vec<usize>, allowed_ns: f64) -> Self {
        let mut late_ns: Vec<f64> = problem.shape.rows.iter().map(|&row| -problem.hidden_ns(row)).collect();
        for (request, &candidate) in choice.iter().enumerate() {
            let copy_ns = problem.copy_ns(request);
            for (late, copied) in late_ns.iter_mut().zip(problem.shape.copied(candidate)) {
                *late += copy_ns * copied;
            }
        }
        let freed = problem.freed_blocks(&choice);
        Sweep { problem, choice, freed, late_ns, allowed_ns }
    }

    fn single_moves(&mut self, order: &Order) {
        for _ in 0..MOST_SWEEPS {
            let mut moved = false;
            for &request in &order.requests {
                moved |= self.best_move(request);
            }
            if !moved {
                break;
            }
        }
    }

    /// Moves `request` to its best candidate, the others fixed. Whether that is another one.
    fn best_move(&mut self, request: usize) -> bool {
        let shape = self.problem.shape;
        let now = self.choice[request];
        let freed_without = self.freed - self.problem.freed(request, now);
        let mut best: Option<(u64, usize)> = None;
        // ascending copies: the first of equally long steps copies least
        for candidate in 0..shape.candidates() {
            if freed_without + self.problem.freed(request, candidate) < self.problem.need {
                continue;
            }
            let stall = self.stall_after_ns(request, candidate);
            if best.is_none_or(|(least, _)| stall < least) {
                best = Some((stall, candidate));
            }
        }
        let candidate = best.map_or(now, |(_, candidate)| candidate);
        self.place(request, candidate);
        candidate != now
    }

    /// For every pair of requests in turn, the best move of both, the others fixed. Whether any helped.
    fn pair_moves(&mut self, order: &Order) -> bool {
        let mut moved = false;
        for (position, &first) in order.requests.iter().enumerate() {
            for &second in &order.requests[position + 1..] {
                moved |= self.best_pair_move(first, second);
            }
        }
        moved
    }

    fn best_pair_move(&mut self, first: usize, second: usize) -> bool {
        let shape = self.problem.shape;
        let blocks = |request: usize| self.problem.instance.requests[request].blocks;
        let now = (self.choice[first], self.choice[second]);
        let copied =
            |(a, b): (usize, usize)| shape.counts[a] * blocks(first) + shape.counts[b] * blocks(second);
        let mut best = (self.stall_ns(), copied(now), now);
        for a in 0..shape.candidates() {
            self.place(first, a);
            let freed_without = self.freed - self.problem.freed(second, now.1);
            for b in 0..shape.candidates() {
                if freed_without + self.problem.freed(second, b) >= self.problem.need {
                    let stall = self.stall_after_ns(second, b);
                    let pair = (a, b);
                    if (stall, copied(pair)) < (best.0, best.1) {
                        best = (stall, copied(pair), pair);
                    }
                }
            }
        }
        self.place(first, best.2.0);
        self.place(second, best.2.1);
        best.2 != now
    }

    fn stall_ns(&self) -> u64 {
        self.late_ns.iter().fold(self.allowed_ns, |stall: f64, &late| stall.max(late)).round() as u64
    }

    /// The stall with `request` at `candidate`.
    fn stall_after_ns(&self, request: usize, candidate: usize) -> u64 {
        let shape = self.problem.shape;
        let copy_ns = self.problem.copy_ns(request);
        let moves = shape.copied(self.choice[request]).iter().zip(shape.copied(candidate));
        let rows = self.late_ns.iter().zip(moves);
        let stall = rows.fold(self.allowed_ns, |stall: f64, (late, (before, after))| {
            stall.max(late + copy_ns * (after - before))
        });
        stall.round() as u64
    }

    fn place(&mut self, request: usize, candidate: usize) {
        let shape = self.problem.shape;
        let now = self.choice[request];
        if candidate == now {
            return;
        }
        self.freed += self.problem.freed(request, candidate) - self.problem.freed(request, now);
        let copy_ns = self.problem.copy_ns(request);
        let moves = shape.copied(now).iter().zip(shape.copied(candidate));
        for (late, (before, after)) in self.late_ns.iter_mut().zip(moves) {
            *late += copy_ns * (after - before);
        }
        self.choice[request] = candidate;
    }
}
