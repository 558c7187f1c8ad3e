//! One common distance for the whole batch: what fits, and what is taken when it does not (design §5).

use super::{Decision, View};
use crate::model::{Distance, Placement};

/// Layer-blocks that the running requests take in the next step with `placement` for all of them.
pub fn need(view: &View<'_>, placement: Placement, slots: u32) -> u64 {
    view.running().map(|request| view.gpu_need(placement, request.blocks(), slots)).sum()
}

/// Gives every running request `distance`, or, if that does not fit, the next denser of `candidates` that does
/// (least offloading first, by number of layers), counted as a refusal. If none fits the densest is given: the engine then preempts
/// and asks again.
pub fn place(
    view: &View<'_>,
    distance: Distance,
    candidates: impl FnOnce(u32) -> Vec<Distance>,
    slots: u32,
) -> Decision {
    let wanted = Placement::at(distance, view.layers);
    let fits = |placement| need(view, placement, slots) <= view.server.gpu_blocks;
    let mut refused = false;
    let placement = if fits(wanted) {
        wanted
    } else {
        let denser = candidates(view.layers)
            .into_iter()
            .filter(|other| other.offloaded(view.layers) > distance.offloaded(view.layers));
        let mut densest = wanted;
        let fitting = denser.map(|other| Placement::at(other, view.layers)).find(|other| {
            densest = *other;
            fits(*other)
        });
        refused = fitting.is_some();
        fitting.unwrap_or(densest)
    };
    let placements = view
        .running()
        .filter(|request| request.placement != placement)
        .map(|request| (request.id, placement))
        .collect();
    Decision { placements, refused, ..Decision::default() }
}

/// The released rule of `heuristic` and `flexgen` (facts E.1, E.3), with L where it writes 32: the fewest offloaded
/// layers, coarsely rounded, with which `held` blocks per resident layer fit `budget` layer-blocks.
///
/// `G = min(L, floor(budget/held))` layers stay, `off = L − G`; `off = 0` is resident, otherwise
/// `d = max(1, floor(L/off) − 1)`. As soon as anything is offloaded, the budget is the one less `staging`.
pub fn fewest_offloads(layers: u32, budget: u64, held: u64, staging: u64) -> Distance {
    let layers = u64::from(layers);
    if layers * held <= budget {
        return Distance::Resident;
    }
    let stay = (budget.saturating_sub(staging) / held).min(layers - 1);
    let distance = (layers / (layers - stay)).saturating_sub(1).max(1);
    Distance::At(u32::try_from(distance).expect("Invariant: a distance is at most the number of layers"))
}
