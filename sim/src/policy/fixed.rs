//! Methods with one distance for everybody, always.
//!
//! * `resident` "No offload": nothing is offloaded; preempts when full (vLLM-like).
//! * `next-layer` "DeepSpeed": `d = 0`, two slots: the next layer is fetched while this one computes.
//! * `static-k` "FlexGen" (k = 1): distance `k`, whatever is free (facts E; design §5).
//!
//! The rule: `d_r = k` for every request in every step, so `n = floor(L/(k+1))` layers are offloaded. Worked (L = 32):
//! static-1, 2, 4 and 8 offload 16, 10, 6 and 3 layers of each request, next-layer 32, resident none.
//! Test: `fixed_methods_offload_the_same_layers_of_every_request_from_the_start`.

use super::{Decision, Policy, Stage, View, admission};
use crate::model::{Distance, Placement};

/// One distance for all, always.
pub struct Fixed {
    distance: Distance,
    slots: Option<u32>,
}

impl Fixed {
    /// The same `distance` for every request.
    pub const fn new(distance: Distance) -> Self {
        Fixed { distance, slots: None }
    }

    /// Every layer of every request comes over the link in every step, double buffered.
    pub const fn next_layer() -> Self {
        Fixed { distance: Distance::At(0), slots: Some(2) }
    }
}

impl Policy for Fixed {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        match view.stage {
            Stage::Admit => {
                let placement = Placement::at(self.distance, view.layers);
                let slots = self.slots.unwrap_or(view.server.switches.slots);
                admission::first_come_first_served(view, &[placement], slots)
            }
            // Newcomers were placed when they were admitted, and nothing ever changes.
            Stage::Decode => Decision::default(),
        }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers - self.distance.offloaded(layers)
    }

    fn slots(&self) -> Option<u32> {
        self.slots
    }
}
