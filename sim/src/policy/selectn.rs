//! `selectn` "SLO-aware offloading": one distance for all, as many layers offloaded as can be copied within compute
//! plus the slack of the promise, at the lengths the requests will have (facts E.2; design §5).
//!
//! With `m` the mean of prompt + output tokens over the trace, `T = Σ_r max(c_r, m)`, `b̂_r` the blocks of
//! `max(c_r, m)` tokens and SLO the least of the batch: the largest `n` of the candidate distances with
//! `n · Σ_r (l0 + b̂_r/BW) ≤ max(compute(T), SLO)`, as its planner's profile has `l0`, BW and compute. Memory does not
//! enter: layers are offloaded that would fit, and where `n` does not fit, the next denser candidate is taken.
//! Asked when the live set changes.
//!
//! Worked (A6000, 106,952 layer-blocks/s): four requests that end at 3,200 tokens, T = 12,800, Σ b̂ = 800: compute is
//! 49.2 ms, a layer's copies 7.48 ms. At an SLO of 69.97 ms n ≤ 9.35: the candidate is n = 8, d = 3; at 46.65 ms
//! compute is the longer, n ≤ 6.58: n = 6, d = 4. Test: `selectn_offloads_what_compute_and_the_slo_hide`.
//!
//! **As coded** (`as_coded = true`) the SLO is not used: with `Comm(T)` the published fit of a step that copies every
//! layer, `k = floor(compute(T)/Comm(T))`; `d = 1` if `k = 0`, else `d = max(1, floor(L/k))`, used as it is even where
//! a wider one offloads as many layers, `d ≥ L` being resident. Here
//! `Comm(T) = L·Σ_r (l0 + T_r/16/BW) + intercept + compute(0)/L`: the published one with `link_intercept = "per-step"`,
//! and less than it with `"drop"`. Worked (A6000, per step: Comm = 1.87e-5·T + 0.0106): T = 1,664 gives k = 1,
//! resident; any longer batch k = 0, d = 1.
//! Test: `selectn_as_coded_is_resident_for_short_batches_and_distance_one_for_the_rest`.
//!
//! An **oracle**: no server knows `m` before its requests have ended.

use std::cell::OnceCell;

use super::{Decision, LiveRequest, Policy, Stage, View, admission, heuristic, uniform};
use crate::cost::CostModel;
use crate::model::{Distance, Placement};
use crate::units::{TOKENS_PER_BLOCK, blocks_for_tokens};

/// SLO-aware offloading.
pub struct SelectN {
    belief: CostModel,
    mean_final_tokens: u64,
    as_coded: bool,
    /// The rule's answer at the last change of the live set.
    distance: Option<Distance>,
    /// Asked for in every step in which someone waits.
    placements: OnceCell<Vec<Placement>>,
}

impl SelectN {
    /// For a trace whose requests end with `mean_final_tokens` tokens in the mean, rounded up, on hardware that costs
    /// what `belief` says. `as_coded`: the released rule instead of the published idea.
    pub const fn new(belief: CostModel, mean_final_tokens: u64, as_coded: bool) -> Self {
        SelectN { belief, mean_final_tokens, as_coded, distance: None, placements: OnceCell::new() }
    }

    fn final_tokens(&self, request: &LiveRequest) -> u64 {
        request.context().max(self.mean_final_tokens)
    }

    /// Believed compute of a step at the final lengths, in seconds.
    fn compute_s(&self, view: &View<'_>) -> f64 {
        let tokens = view.running().map(|request| self.final_tokens(request)).sum();
        self.belief.compute_s(tokens, view.running().count() as u32)
    }

    /// The published idea.
    fn within_slack(&self, view: &View<'_>) -> Distance {
        let (block_s, latency_s) = self.belief.h2d.planner_line(view.block_bytes);
        let copy_s = |request| latency_s + blocks_for_tokens(self.final_tokens(request)) as f64 * block_s;
        let layer_s: f64 = view.running().map(copy_s).sum();
        let slo_s = view.running().map(|request| request.slo).min().map_or(0.0, |slo| slo.as_secs_f64());
        let most_s = self.compute_s(view).max(slo_s);
        let hidden = |distance: &Distance| f64::from(distance.offloaded(view.layers)) * layer_s <= most_s;
        Distance::candidates(view.layers).into_iter().rfind(hidden).unwrap_or(Distance::Resident)
    }

    /// The released rule.
    fn released(&self, view: &View<'_>) -> Distance {
        let (block_s, latency_s) = self.belief.h2d.planner_line(view.block_bytes);
        let requests = view.running().count() as u32;
        let tokens: u64 = view.running().map(|request| self.final_tokens(request)).sum();
        let layers = f64::from(view.layers);
        let copies_s = f64::from(requests) * latency_s + tokens as f64 / TOKENS_PER_BLOCK as f64 * block_s;
        let comm_s = layers * copies_s
            + self.belief.link_intercept.as_secs_f64()
            + self.belief.compute_s(0, requests) / layers;
        // `as` saturates: copies that take no time are hidden by more steps than any model has layers.
        match (self.compute_s(view) / comm_s) as u32 {
            0 => Distance::At(1),
            steps => match (view.layers / steps).max(1) {
                distance if distance >= view.layers => Distance::Resident,
                distance => Distance::At(distance),
            },
        }
    }
}

impl Policy for SelectN {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        let slots = view.server.switches.slots;
        match view.stage {
            Stage::Admit => {
                let placements = self.placements.get_or_init(|| heuristic::placements(view.layers));
                admission::first_come_first_served(view, placements, slots)
            }
            Stage::Decode => {
                let distance = match self.distance.filter(|_| !view.live_set_changed) {
                    Some(distance) => distance,
                    None if self.as_coded => self.released(view),
                    None => self.within_slack(view),
                };
                self.distance = Some(distance);
                uniform::place(view, distance, Distance::candidates, slots)
            }
        }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers - layers / 2
    }

    fn looks_at_slo(&self) -> bool {
        !self.as_coded
    }
}
