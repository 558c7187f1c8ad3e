//! `flexgen` "FlexGen+": one distance for all, the fewest offloaded layers that would fit if every request already
//! had the trace's mean final length, chosen again in every step (facts E.1; design §5).
//!
//! With `m` the mean of prompt + output tokens over the trace, `ℓ_r = max(c_r, m)` and `S = Σ_r (ceil(ℓ_r/16) + 1)`:
//! `G = min(L, floor(P/S))` layers stay, `off = L − G`; `off = 0` is resident, otherwise
//! `d = max(1, floor(L/off) − 1)`, used as it is. `P` is the pool in decode, and what is free for a newcomer, whose
//! own `S` it is then; less charged staging, at the lengths `ℓ_r`, as soon as anything is offloaded.
//!
//! Worked (A6000, 561 blocks per layer: P = 17,952, L = 32): contexts of 1,600, 3,200 and 4,800 tokens and a mean of
//! 4,000 are ℓ = 4,000, 4,000 and 4,800, S = 251 + 251 + 301 = 803, G = 22, off = 10: d = 2.
//! Test: `flexgen_makes_room_for_the_mean_final_length`.
//!
//! An **oracle**: no server knows `m` before its requests have ended. Beside the mean it knows nothing of the future,
//! and nothing of costs or promises.

use std::cell::OnceCell;

use super::{Decision, Policy, Stage, View, admission, heuristic, uniform};
use crate::model::{Distance, Placement};
use crate::units::blocks_for_tokens;

/// FlexGen+.
pub struct FlexGen {
    mean_final_tokens: u64,
    /// Asked for in every step in which someone waits.
    placements: OnceCell<Vec<Placement>>,
}

impl FlexGen {
    /// For a trace whose requests end with `mean_final_tokens` tokens in the mean, rounded up.
    pub const fn new(mean_final_tokens: u64) -> Self {
        FlexGen { mean_final_tokens, placements: OnceCell::new() }
    }

    /// Blocks per layer of a request that has `blocks` now, at the length the rule takes for it.
    fn final_blocks(&self, blocks: u64) -> u64 {
        blocks.max(blocks_for_tokens(self.mean_final_tokens))
    }

    /// The rule for requests of these blocks, now, on `budget` layer-blocks.
    fn distance(
        &self,
        view: &View<'_>,
        blocks: impl Iterator<Item = u64>,
        budget: u64,
        slots: u32,
    ) -> Distance {
        let (mut held, mut staging) = (0, 0);
        for blocks in blocks.map(|blocks| self.final_blocks(blocks)) {
            held += blocks + 1;
            staging += view.charged_slots(blocks, slots);
        }
        uniform::fewest_offloads(view.layers, budget, held, staging)
    }
}

impl Policy for FlexGen {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        let slots = view.server.switches.slots;
        match view.stage {
            Stage::Admit => {
                let placements = self.placements.get_or_init(|| heuristic::placements(view.layers));
                admission::serve(view, placements, slots, |seat| {
                    let distance = self.distance(view, std::iter::once(seat.blocks), seat.free, slots);
                    Placement::at(distance, view.layers)
                })
            }
            Stage::Decode => {
                let blocks = view.running().map(|request| request.blocks());
                let distance = self.distance(view, blocks, view.server.gpu_blocks, slots);
                uniform::place(view, distance, Distance::candidates, slots)
            }
        }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers - layers / 2
    }
}
