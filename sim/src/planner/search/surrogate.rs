//! One inequality made of all limits: what a placement frees, copies, delays and changes, each at a price.
//!
//! Any prices ≥ 0 give a **surrogate**: a placement within every limit has
//! `Σ_r cost_r ≤ allowance`, with `cost = Σ_j λ_j·copies by row j + κ·blocks copied + η·layers changed − μ·freed` and
//! `allowance` the same prices times the limits. The cost is a sum over requests, so the cheapest candidate of
//! every undecided request bounds a node in one addition. Good prices are the shadow prices of a linear program
//! (most freed within the limits, all requests mixed alike), then `μ` and `η` one at a time.

use super::super::problem::Problem;
use super::linear::shadow_prices;
use super::order::Order;
use super::tree::Limits;

/// Room for rounding: costs are of order 1.
const SLACK: f64 = 1e-11;
/// Steps of a one-dimensional search for the best price.
const PRICE_STEPS: usize = 20;

/// One surrogate of the limits.
pub(super) struct Surrogate {
    prices: Prices,
    /// `costs[position · candidates + candidate]`.
    pub costs: Vec<f64>,
    /// Least cost of the requests from a depth on.
    pub rest: Vec<f64>,
    /// Most that a placement within the limits costs.
    pub allowance: f64,
}

#[derive(Clone)]
struct Prices {
    rows: Vec<f64>,
    freed: f64,
    copied: f64,
    changed: f64,
}

impl Surrogate {
    /// The strongest surrogate that is easily found, without a price on changes.
    pub fn new(problem: &Problem<'_>, order: &Order, limits: &Limits) -> Self {
        let mut prices = shadow(problem, order, limits);
        let most = 4.0 * prices.freed;
        prices.freed = best_price(most, |freed| {
            Surrogate::at(problem, order, limits, Prices { freed, ..prices.clone() }).strength()
        });
        Surrogate::at(problem, order, limits, prices)
    }

    /// This surrogate with a price on changes too.
    pub fn with_changes(&self, problem: &Problem<'_>, order: &Order, limits: &Limits) -> Self {
        let mut prices = self.prices.clone();
        let largest = order.blocks.iter().max().copied().unwrap_or(0);
        let most = 4.0 * prices.freed * largest as f64;
        prices.changed = best_price(most, |changed| {
            Surrogate::at(problem, order, limits, Prices { changed, ..prices.clone() }).strength()
        });
        Surrogate::at(problem, order, limits, prices)
    }

    /// Measures the allowance again, after limits have tightened.
    pub fn tighten(&mut self, problem: &Problem<'_>, limits: &Limits) {
        self.allowance = allowance(problem, limits, &self.prices);
    }

    /// The cheapest candidate of every request, by request.
    pub fn cheapest(&self, problem: &Problem<'_>, order: &Order) -> Vec<usize> {
        let candidates = problem.shape.candidates();
        let mut choice = vec![0; order.requests.len()];
        for (&request, costs) in order.requests.iter().zip(self.costs.chunks_exact(candidates)) {
            let mut least = 0;
            for candidate in 1..candidates {
                if costs[candidate] < costs[least] {
                    least = candidate;
                }
            }
            choice[request] = least;
        }
        choice
    }

    /// How much the cheapest placement of all costs beyond the allowance: above 0 there is none within the limits.
    fn strength(&self) -> f64 {
        self.rest[0] - self.allowance
    }

    fn at(problem: &Problem<'_>, order: &Order, limits: &Limits, prices: Prices) -> Self {
        let shape = problem.shape;
        let candidates = shape.candidates();
        let rows: Vec<f64> = (0..candidates)
            .map(|candidate| {
                shape.copied(candidate).iter().zip(&prices.rows).map(|(f, price)| f * price).sum()
            })
            .collect();
        let mut costs = Vec::with_capacity(order.requests.len() * candidates);
        for (position, &request) in order.requests.iter().enumerate() {
            let copied = prices.copied * order.blocks[position] as f64;
            for (candidate, row_cost) in rows.iter().enumerate() {
                let changed = problem.changes[request * candidates + candidate] as f64;
                costs.push(
                    order.copy_ns[position] * row_cost
                        + copied * shape.counts[candidate] as f64
                        + prices.changed * changed
                        - prices.freed * problem.freed(request, candidate) as f64,
                );
            }
        }
        let mut rest = vec![0.0; order.requests.len() + 1];
        for (position, costs) in costs.chunks_exact(candidates).enumerate().rev() {
            rest[position] = rest[position + 1] + costs.iter().copied().fold(f64::INFINITY, f64::min);
        }
        let allowance = allowance(problem, limits, &prices);
        Surrogate { prices, costs, rest, allowance }
    }
}

fn allowance(problem: &Problem<'_>, limits: &Limits, prices: &Prices) -> f64 {
    let rows: f64 = prices.rows.iter().zip(limits.rows_ns()).map(|(price, limit)| price * limit).sum();
    let copied = prices.copied * limits.copied as f64;
    let changed = prices.changed * limits.changes as f64;
    rows + copied + changed - prices.freed * problem.need as f64 + SLACK * (1.0 + rows + copied + changed)
}

/// Prices per unit of each limit, from the program of the module's head: the value of all that is needed is 1.
fn shadow(problem: &Problem<'_>, order: &Order, limits: &Limits) -> Prices {
    let shape = problem.shape;
    let need = problem.need as f64;
    let offloading = 1..shape.candidates();
    let copy_ns: f64 = order.copy_ns.iter().sum();
    let blocks: u64 = order.blocks.iter().sum();
    let gain: Vec<f64> = offloading
        .clone()
        .map(|candidate| {
            let freed: i64 = (0..problem.requests()).map(|request| problem.freed(request, candidate)).sum();
            freed as f64 / need
        })
        .collect();
    // limits of 0 are given a little room: any prices will do, and infinite ones will not
    let step_ns = limits.step_ns();
    let rooms: Vec<f64> = limits.rows_ns().iter().map(|&room| room.max(1e-6 * step_ns)).collect();
    let copied_room = limits.copied.max(1) as f64;
    let mut table = Vec::with_capacity((rooms.len() + 2) * gain.len());
    for (row, room) in rooms.iter().enumerate() {
        table.extend(offloading.clone().map(|candidate| copy_ns * shape.copied(candidate)[row] / room));
    }
    let all_copied = blocks as f64 / copied_room;
    table.extend(offloading.clone().map(|candidate| all_copied * shape.counts[candidate] as f64));
    table.extend(offloading.map(|_| 1.0));
    let shadow = shadow_prices(&gain, table);
    Prices {
        rows: rooms.iter().zip(&shadow).map(|(room, price)| price / room).collect(),
        freed: 1.0 / need,
        copied: shadow[rooms.len()] / copied_room,
        changed: 0.0,
    }
}

/// Where a concave function of a price in `0 … most` is largest, nearly, by golden-section search.
pub(super) fn best_price(most: f64, strength: impl Fn(f64) -> f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    let (mut low, mut high) = (0.0, most);
    let (mut left, mut right) = (high - GOLDEN * high, GOLDEN * high);
    let (mut at_left, mut at_right) = (strength(left), strength(right));
    for _ in 0..PRICE_STEPS {
        if at_left >= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - GOLDEN * (high - low);
            at_left = strength(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + GOLDEN * (high - low);
            at_right = strength(right);
        }
    }
    0.5 * (low + high)
}
