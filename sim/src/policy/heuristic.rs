//! `heuristic` "Dynamic heuristic": one distance for all, the fewest offloaded layers that fit the actual lengths,
//! chosen again in every step (facts E.3).
//!
//! With `S = Σ_r (ceil(c_r/16) + 2)` and the pool of `P` layer-blocks: `G = min(L, floor(P/S))` layers stay,
//! `off = L − G`; `off = 0` is resident, otherwise `d = max(1, floor(L/off) − 1)`. The pool is the one less charged
//! staging as soon as anything is offloaded. The distance is used as it is, even when it is not the widest.
//!
//! Worked (A6000, 561 blocks per layer: P = 17,952, L = 32): contexts of 3,200, 4,800 and 6,400 tokens are S = 202 +
//! 302 + 402 = 906, G = 19, off = 13: d = 1. With 1,600 tokens for the last, S = 606, G = 29, off = 3: d = 9.
//! Test: `the_heuristic_counts_two_spare_blocks_and_rounds_as_published`.

use std::cell::OnceCell;

use super::{Decision, Policy, Stage, View, admission, uniform};
use crate::model::{Distance, Placement};

/// The dynamic heuristic.
#[derive(Default)]
pub struct Heuristic {
    /// Asked for in every step in which someone waits.
    placements: OnceCell<Vec<Placement>>,
}

impl Policy for Heuristic {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        match view.stage {
            Stage::Admit => {
                let placements = self.placements.get_or_init(|| placements(view.layers));
                admission::first_come_first_served(view, placements, view.server.switches.slots)
            }
            Stage::Decode => place(view),
        }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers - layers / 2
    }
}

/// The placements of every candidate distance, least offloading first.
pub fn placements(layers: u32) -> Vec<Placement> {
    Distance::candidates(layers).into_iter().map(|distance| Placement::at(distance, layers)).collect()
}

/// Places the running requests by the rule.
pub fn place(view: &View<'_>) -> Decision {
    let slots = view.server.switches.slots;
    uniform::place(view, distance(view, slots), Distance::candidates, slots)
}

fn distance(view: &View<'_>, slots: u32) -> Distance {
    let with_spare = view.running().map(|request| request.blocks() + 2).sum();
    let staging = view.running().map(|request| view.charged_slots(request.blocks(), slots)).sum();
    uniform::fewest_offloads(view.layers, view.server.gpu_blocks, with_spare, staging)
}
