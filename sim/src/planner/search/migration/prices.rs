//! Bounds by prices: one row of the step time, the restores and memory as one sum over requests.
//!
//! For any layer `j` (or none, for computing alone) and any `μ ≥ 0`,
//! `t + R/W ≥ base − hidden_j + Σ_r copies_r by j + R/W + μ·(need − Σ_r freed_r)`, as a placement frees what is needed: the
//! Lagrangian relaxation of memory. Each request's part is least at one of its alternatives, so a node is bounded in one
//! addition. Any price is valid; the best one of a row is found by a search over a concave function.

use super::super::super::alternatives::Alternative;
use super::super::super::problem::Problem;
use super::super::order::{Order, SLACK};
use super::super::surrogate::best_price;
use crate::ids::Layer;

/// Rows of the step time whose prices are kept.
const MOST_PRICED: usize = 4;

/// One row of the step time and memory, at prices: what each alternative costs, and what all have together at least.
pub(super) struct Prices {
    /// By position and place.
    pub costs: Vec<Vec<f64>>,
    /// Least cost of the requests from a depth on.
    rest: Vec<f64>,
    /// `base − hidden_j + μ·need`.
    constant: f64,
    /// The largest amount in the sums, for rounding.
    largest: f64,
}

impl Prices {
    /// The rows whose bound on the whole batch is highest, the highest first.
    pub fn strongest(
        problem: &Problem<'_>,
        order: &Order,
        alternatives: &[&[Alternative]],
        restore_ns: &[Vec<f64>],
    ) -> Vec<Self> {
        let per_block = order.copy_ns.iter().zip(&order.blocks).map(|(copy, blocks)| copy / *blocks as f64);
        let most = if problem.need > 0 { 8.0 * per_block.fold(0.0, f64::max) } else { 0.0 };
        let row_of = |layer: Option<Layer>| {
            let at = |freed| Prices::at(problem, order, alternatives, restore_ns, layer, freed);
            let freed = if most > 0.0 { best_price(most, |freed| at(freed).bound(0.0, 0)) } else { 0.0 };
            at(freed)
        };
        let rows = problem.shape.rows.iter().copied().map(Some);
        let mut all: Vec<Prices> = rows.chain([None]).map(row_of).collect();
        all.sort_by(|a, b| b.bound(0.0, 0).total_cmp(&a.bound(0.0, 0)));
        all.truncate(MOST_PRICED);
        all
    }

    /// With the row of `layer`, or of computing alone, and `freed` per layer-block freed.
    fn at(
        problem: &Problem<'_>,
        order: &Order,
        alternatives: &[&[Alternative]],
        restore_ns: &[Vec<f64>],
        layer: Option<Layer>,
        freed: f64,
    ) -> Self {
        let cost = |position: usize, place: usize| {
            let one: &Alternative = &alternatives[position][place];
            let copied = layer.map_or(0.0, |layer| one.copied_by(layer));
            order.copy_ns[position] * copied + restore_ns[position][place] - freed * one.freed as f64
        };
        let costs: Vec<Vec<f64>> = (0..alternatives.len())
            .map(|position| (0..alternatives[position].len()).map(|place| cost(position, place)).collect())
            .collect();
        let mut rest = vec![0.0; costs.len() + 1];
        for (position, costs) in costs.iter().enumerate().rev() {
            rest[position] = rest[position + 1] + costs.iter().copied().fold(f64::INFINITY, f64::min);
        }
        let hidden = layer.map_or(0.0, |layer| problem.hidden_ns(layer));
        let needed = freed * problem.need as f64;
        let base = problem.base_ns(true);
        Prices {
            costs,
            constant: base - hidden + needed,
            largest: base + hidden + needed - rest[0].min(0.0),
            rest,
        }
    }

    /// No placement that spent so much on its first `depth` requests has a lower objective.
    pub fn bound(&self, spent: f64, depth: usize) -> f64 {
        self.constant + spent + self.rest[depth] - 4.0 * SLACK * self.largest
    }
}
