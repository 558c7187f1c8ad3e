//! Depth-first branch and bound for one criterion under limits on the others.
//!
//! A node decides the request at its depth. It is cut when the undecided rest can no longer free enough memory, or
//! when the bounds of [`Order`] say that some limit must break: copied blocks, changed layers, or any row of the
//! step time. The rows are kept as copy times in nanoseconds, good to [`SLACK`]; what passes is measured exactly
//! at the leaf.

use std::ops::ControlFlow;

use super::super::problem::{Problem, longest_rounding_to, whole_ns};
use super::order::{Order, SLACK};
use super::surrogate::Surrogate;
use super::tail::{Entry, Tail, unpack};

/// What a tree looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The least forecast.
    Step,
    /// The fewest copied blocks.
    Copied,
    /// The fewest changed layers.
    Changes,
    /// The first placement in lexicographic order of the offload counts.
    First,
}

/// Why a tree was left before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing better is possible.
    Reached,
    /// The node cap.
    NodeCap,
}

/// What a placement must keep to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    step_ns: f64,
    /// Most copy time up to each row, nanoseconds, with room for rounding.
    rows_ns: Vec<f64>,
    /// Most copied blocks.
    pub copied: u64,
    /// Most changed layers.
    pub changes: u64,
}

impl Limits {
    /// What every placement keeps.
    pub fn none(problem: &Problem<'_>) -> Self {
        let densest = problem.shape.candidates() - 1;
        let all_offloaded = vec![densest; problem.requests()];
        let layers = u64::from(problem.shape.layers);
        Limits {
            step_ns: f64::INFINITY,
            rows_ns: vec![f64::INFINITY; problem.shape.rows.len()],
            copied: problem.copied_blocks(&all_offloaded),
            changes: layers * problem.requests() as u64,
        }
    }

    /// The longest step allowed, nanoseconds.
    pub fn step_ns(&self) -> f64 {
        self.step_ns
    }

    /// Most copy time up to each row, nanoseconds.
    pub fn rows_ns(&self) -> &[f64] {
        &self.rows_ns
    }

    /// Allows steps of at most `step_ns` nanoseconds.
    pub fn set_step(&mut self, problem: &Problem<'_>, step_ns: f64) {
        self.step_ns = step_ns;
        let stall_ns = step_ns - problem.base_ns(true);
        for (limit, &row) in self.rows_ns.iter_mut().zip(&problem.shape.rows) {
            let hidden = problem.hidden_ns(row);
            *limit = stall_ns + hidden + SLACK * (step_ns + hidden);
        }
    }
}

/// A window of the tail wider than this is branched on instead of looked through.
const WIDE_WINDOW: usize = 48;

/// Nodes after which a tree makes its surrogates: small trees end before they would pay. They are made again, for
/// the limits of then, after each [`PRICING_GROWTH`] times as many.
const FIRST_PRICING: u64 = 128;
const PRICING_GROWTH: u64 = 16;

/// One tree.
pub(super) struct Tree<'p> {
    problem: &'p Problem<'p>,
    order: &'p Order,
    goal: Goal,
    /// A value of the criterion that no placement beats.
    floor: u64,
    limits: Limits,
    tail_start: usize,
    tail: Option<Tail>,
    /// Candidates in the order they are tried: `values[position · candidates + i]`.
    values: Vec<usize>,
    /// Candidate per position, valid up to the depth.
    choice: Vec<usize>,
    /// Copy time up to each row of what is decided, nanoseconds: `copied_ns[depth · rows + row]`.
    copied_ns: Vec<f64>,
    surrogates: Vec<Surrogate>,
    /// Cost of what is decided: `spent[surrogate][depth]`.
    spent: Vec<Vec<f64>>,
    next_pricing: u64,
    cap: u64,
    /// Nodes visited: rows of the step time looked at.
    pub nodes: u64,
    /// The best placement found, by request.
    pub best: Option<Vec<usize>>,
}

impl<'p> Tree<'p> {
    /// A tree of at most `cap` nodes that tries the candidates of `incumbent` first.
    pub fn new(
        problem: &'p Problem<'p>,
        order: &'p Order,
        goal: Goal,
        floor: u64,
        limits: Limits,
        incumbent: Option<&[usize]>,
        cap: u64,
    ) -> Self {
        let requests = problem.requests();
        Tree {
            problem,
            order,
            goal,
            floor,
            limits,
            tail_start: Tail::start_of(problem),
            tail: None,
            values: values(problem, order, goal, incumbent),
            choice: vec![0; requests],
            copied_ns: vec![0.0; (requests + 1) * problem.shape.rows.len()],
            surrogates: Vec::new(),
            spent: Vec::new(),
            next_pricing: FIRST_PRICING,
            cap,
            nodes: 0,
            best: None,
        }
    }

    /// Looks through the tree; [`Tree::best`] is the answer, exact unless stopped by the node cap.
    pub fn descend(&mut self) -> ControlFlow<Stop> {
        self.visit(0, self.problem.need, 0, 0)
    }

    /// Visits the node that has `depth` requests decided; they left `need` to free, and copy and change so much.
    fn visit(&mut self, depth: usize, need: i64, copied: u64, changes: u64) -> ControlFlow<Stop> {
        if depth == self.problem.requests() {
            return self.leaf(copied, changes);
        }
        if depth == self.tail_start && self.look_up(need, copied, changes)? {
            return ControlFlow::Continue(());
        }
        let candidates = self.problem.shape.candidates();
        let request = self.order.requests[depth];
        let least = self.order.twin_before[depth].map_or(0, |twin| self.choice[twin]);
        for i in 0..candidates {
            let candidate = self.values[depth * candidates + i];
            if candidate < least {
                continue;
            }
            let need = need - self.problem.freed(request, candidate);
            let copied = copied + self.problem.shape.counts[candidate] * self.order.blocks[depth];
            let changes = changes + self.problem.changes[request * candidates + candidate];
            let Some(rest_copied) = self.bounded(depth + 1, need, copied, changes) else { continue };
            if self.nodes >= self.next_pricing {
                self.price(depth);
            }
            if !self.affordable(depth, candidate) {
                continue;
            }
            self.count_node()?;
            if self.rows_fit(depth, candidate, need, rest_copied) {
                self.choice[depth] = candidate;
                self.visit(depth + 1, need, copied, changes)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The fewest blocks that the rest from `depth` on copies, if memory, copied blocks and changes can be kept.
    fn bounded(&self, depth: usize, need: i64, copied: u64, changes: u64) -> Option<u64> {
        if need > self.order.most_freed(depth) || copied > self.limits.copied {
            return None;
        }
        let rest_copied = self.order.fewest_copied(depth, need);
        let copied_left = self.limits.copied - copied;
        if rest_copied > copied_left {
            return None;
        }
        let rest_changes = self.order.fewest_changes(depth, need, copied_left);
        (changes + rest_changes <= self.limits.changes).then_some(rest_copied)
    }

    /// Whether the surrogates allow the request at `depth` to take `candidate`.
    fn affordable(&mut self, depth: usize, candidate: usize) -> bool {
        let candidates = self.problem.shape.candidates();
        let mut affordable = true;
        for (surrogate, spent) in self.surrogates.iter().zip(&mut self.spent) {
            let cost = spent[depth] + surrogate.costs[depth * candidates + candidate];
            spent[depth + 1] = cost;
            affordable &= cost + surrogate.rest[depth + 1] <= surrogate.allowance;
        }
        affordable
    }

    /// Makes the surrogates for the limits of now, with the first `depth` requests decided.
    fn price(&mut self, depth: usize) {
        self.next_pricing *= PRICING_GROWTH;
        let (problem, order) = (self.problem, self.order);
        let first = Surrogate::new(problem, order, &self.limits);
        let second = matches!(self.goal, Goal::Changes | Goal::First)
            .then(|| first.with_changes(problem, order, &self.limits));
        self.surrogates = [first].into_iter().chain(second).collect();
        let candidates = problem.shape.candidates();
        self.spent = vec![vec![0.0; problem.requests() + 1]; self.surrogates.len()];
        for (surrogate, spent) in self.surrogates.iter().zip(&mut self.spent) {
            for position in 0..depth {
                let cost = surrogate.costs[position * candidates + self.choice[position]];
                spent[position + 1] = spent[position] + cost;
            }
        }
    }

    /// Adds the copies of the request at `depth` to the rows, and says whether the rest can keep their limits.
    fn rows_fit(&mut self, depth: usize, candidate: usize, need: i64, rest_copied: u64) -> bool {
        let rows = self.problem.shape.rows.len();
        let copy_ns = self.order.copy_ns[depth];
        let (least, all) = self.order.least_copy_ns(depth + 1, need, rest_copied);
        let (start, slope) = self.problem.shape.hull_lines(if all > 0.0 { least / all } else { 0.0 });
        let (decided, next) = self.copied_ns.split_at_mut((depth + 1) * rows);
        let decided = &decided[depth * rows..];
        let next = &mut next[..rows];
        let copied = self.problem.shape.copied(candidate);
        let limits = &self.limits.rows_ns[..rows];
        let (start, slope) = (&start[..rows], &slope[..rows]);
        let mut over = false;
        for row in 0..rows {
            let copied = decided[row] + copy_ns * copied[row];
            next[row] = copied;
            over |= copied + (all * start[row] + slope[row] * least) > limits[row];
        }
        !over
    }

    /// Looks the tail up, if the window is narrow enough. Whether it was.
    fn look_up(&mut self, need: i64, copied: u64, changes: u64) -> ControlFlow<Stop, bool> {
        let tail = self.tail.take().unwrap_or_else(|| Tail::new(self.problem, self.order, self.tail_start));
        let window = tail.window(need, self.limits.copied - copied);
        let narrow = window.len() <= WIDE_WINDOW;
        let flow = if !narrow {
            ControlFlow::Continue(())
        } else if self.goal == Goal::First {
            self.first_of(window, need, changes)
        } else {
            self.best_of(window, need, copied, changes)
        };
        self.tail = Some(tail);
        flow.map_continue(|()| narrow)
    }

    fn best_of(&mut self, window: &[Entry], need: i64, copied: u64, changes: u64) -> ControlFlow<Stop> {
        for entry in window {
            self.count_node()?;
            // the limits tighten as placements are found
            let (copied, changes) = (copied + entry.copied, changes + entry.changes);
            let kept = copied <= self.limits.copied && changes <= self.limits.changes;
            if kept && entry.freed >= need && self.tail_rows_fit(entry) {
                self.unpack_tail(entry);
                self.leaf(copied, changes)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The lexicographically first entry of `window` that keeps every limit.
    fn first_of(&mut self, window: &[Entry], need: i64, changes: u64) -> ControlFlow<Stop> {
        let mut kept: Vec<&Entry> = window
            .iter()
            .filter(|entry| entry.freed >= need && changes + entry.changes <= self.limits.changes)
            .collect();
        kept.sort_unstable_by_key(|entry| entry.packed);
        for entry in kept {
            self.count_node()?;
            if self.tail_rows_fit(entry) {
                self.unpack_tail(entry);
                self.leaf(entry.copied, entry.changes)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn tail_rows_fit(&self, entry: &Entry) -> bool {
        let shape = self.problem.shape;
        let rows = shape.rows.len();
        let requests = self.problem.requests();
        let decided = &self.copied_ns[self.tail_start * rows..][..rows];
        let parts = (self.tail_start..requests).map(|position| {
            (self.order.copy_ns[position], shape.copied(unpack(entry.packed, requests - 1 - position)))
        });
        let limits = &self.limits.rows_ns;
        // the last row copies everything and breaks most often
        (0..rows).rev().all(|row| {
            let copied =
                parts.clone().fold(decided[row], |sum, (copy_ns, copied)| sum + copy_ns * copied[row]);
            copied <= limits[row]
        })
    }

    fn unpack_tail(&mut self, entry: &Entry) {
        let requests = self.problem.requests();
        for position in self.tail_start..requests {
            self.choice[position] = unpack(entry.packed, requests - 1 - position);
        }
    }

    /// Measures the placement exactly and keeps it if it is within the limits, which then ask for a better one.
    fn leaf(&mut self, copied: u64, changes: u64) -> ControlFlow<Stop> {
        let mut choice = vec![0; self.choice.len()];
        for (&request, &candidate) in self.order.requests.iter().zip(&self.choice) {
            choice[request] = candidate;
        }
        let step_ns = self.problem.forecast_ns(&choice);
        if step_ns > self.limits.step_ns {
            return ControlFlow::Continue(());
        }
        self.best = Some(choice);
        let found = match self.goal {
            Goal::Step => whole_ns(step_ns),
            Goal::Copied => copied,
            Goal::Changes => changes,
            Goal::First => return ControlFlow::Break(Stop::Reached),
        };
        if found <= self.floor {
            return ControlFlow::Break(Stop::Reached);
        }
        match self.goal {
            Goal::Step => {
                let better = longest_rounding_to(found - 1).min(self.limits.step_ns);
                self.limits.set_step(self.problem, better);
            }
            Goal::Copied => self.limits.copied = found - 1,
            Goal::Changes => self.limits.changes = found - 1,
            Goal::First => {}
        }
        for surrogate in &mut self.surrogates {
            surrogate.tighten(self.problem, &self.limits);
        }
        ControlFlow::Continue(())
    }

    fn count_node(&mut self) -> ControlFlow<Stop> {
        self.nodes += 1;
        if self.nodes > self.cap { ControlFlow::Break(Stop::NodeCap) } else { ControlFlow::Continue(()) }
    }
}

/// The candidates of every position in the order they are tried.
fn values(problem: &Problem<'_>, order: &Order, goal: Goal, incumbent: Option<&[usize]>) -> Vec<usize> {
    let candidates = problem.shape.candidates();
    let mut values = Vec::with_capacity(order.requests.len() * candidates);
    for &request in &order.requests {
        let from = values.len();
        values.extend(0..candidates);
        let these = &mut values[from..];
        match (goal, incumbent) {
            (Goal::Step | Goal::Copied, Some(incumbent)) => {
                these.sort_by_key(|&candidate| candidate.abs_diff(incumbent[request]));
            }
            (Goal::Changes, _) => {
                these.sort_by_key(|&candidate| problem.changes[request * candidates + candidate]);
            }
            _ => {}
        }
    }
    values
}
