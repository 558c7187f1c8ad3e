//! Contexts that make one placement reach a given ρ, the copy time of a step over its compute time, both alone.
//!
//! `gpu-measurement.md` §0.1: a link that is tens of times slower than GPU memory makes "realistic" contexts all stall,
//! so contexts are solved for ρ from the cost model. Contexts are whole multiples of 16 tokens times a weight per request,
//! so a target is met as nearly as blocks allow; what was reached is in the prediction. Knows no devices.

use orbitflow_sim::cost::CostModel;
use orbitflow_sim::model::{LayerSet, ModelSpec};
use orbitflow_sim::units::{SimDuration, TOKENS_PER_BLOCK};

use super::placements::{Rule, kv_bytes, total_tokens};
use crate::device::Facts;
use crate::scale::Scale;

/// Share of the memory a device says it has that a case may fill.
const FILL: f64 = 0.8;

/// Copies of all requests and compute of all layers of one step, each alone.
pub(super) fn alone(
    model: &ModelSpec,
    layers: u32,
    contexts: &[u32],
    offloaded: &[LayerSet],
    dilation_s: f64,
    cost: &CostModel,
) -> (SimDuration, SimDuration) {
    let copies = (contexts.iter().zip(offloaded))
        .map(|(&tokens, set)| cost.h2d.copy_time(kv_bytes(model, tokens)) * u64::from(set.len()))
        .sum();
    let layer = cost.layer_compute(total_tokens(contexts), contexts.len() as u32)
        + SimDuration::from_secs_f64(dilation_s);
    (copies, layer * u64::from(layers))
}

/// How much fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// GPU memory for weights and KV, bytes.
    device: f64,
    /// Host memory for KV, bytes.
    host: f64,
    most_tokens: u64,
    most_context: u32,
    weight_layers: u64,
}

impl Room {
    pub fn of(scale: &Scale, facts: &Facts) -> Room {
        let longest = scale.contexts.iter().copied().max().unwrap_or(1);
        Room {
            device: facts.memory_bytes as f64 * FILL,
            host: facts.host_memory_bytes as f64 * FILL,
            most_tokens: scale.most_tokens,
            most_context: longest.max(scale.long_tokens),
            weight_layers: u64::from(scale.weight_layers),
        }
    }

    /// Whether a batch fits in whatever placement: everything resident with `slots` slots on the GPU, everything
    /// offloaded on the host.
    fn holds(self, model: &ModelSpec, layers: u32, contexts: &[u32], slots: u32) -> bool {
        let head = u64::from(model.vocab) * u64::from(model.hidden) * u64::from(model.weight_element_bytes);
        let weights = model.layer_weight_bytes().get() * self.weight_layers + head;
        let layer_kv: u64 = contexts.iter().map(|&tokens| kv_bytes(model, tokens).get()).sum();
        let resident = weights + layer_kv * u64::from(layers + slots);
        (resident as f64) <= self.device
            && (layer_kv * u64::from(layers)) as f64 <= self.host
            && total_tokens(contexts) <= self.most_tokens
            && contexts.iter().all(|&tokens| tokens <= self.most_context)
    }

    /// The most layers, up to the model's, of which that batch fits; `None`: not even one.
    pub fn layers(self, model: &ModelSpec, contexts: &[u32], slots: u32) -> Option<u32> {
        (1..=model.layers).rev().find(|&layers| self.holds(model, layers, contexts, slots))
    }
}

/// Requests whose contexts are to be solved.
pub(super) struct Sought<'a> {
    pub model: &'a ModelSpec,
    pub layers: u32,
    /// Context of each request in units of 16·k tokens.
    pub weights: &'a [u32],
    /// Tokens short of whole blocks, so that last blocks are part-filled; below 16.
    pub short: u32,
    /// The placement that is to have the ratio.
    pub anchor: Rule,
    pub dilation_s: f64,
    pub slots: u32,
}

impl Sought<'_> {
    fn contexts(&self, k: u32) -> Vec<u32> {
        let tokens = |weight: &u32| weight * k * TOKENS_PER_BLOCK as u32 - self.short;
        self.weights.iter().map(tokens).collect()
    }

    fn rho(&self, contexts: &[u32], cost: &CostModel) -> Option<f64> {
        let sets = self.anchor.apply(self.model, self.layers, contexts, self.slots, cost)?;
        let (copies, compute) = alone(self.model, self.layers, contexts, &sets, self.dilation_s, cost);
        Some(copies.as_secs_f64() / compute.as_secs_f64())
    }

    /// The contexts that fit and come nearest to `target` on a scale of ratios; shorter ones on a tie. `None`: not even
    /// the shortest fit. Every length is tried: with a latency per copy the ratio need not grow with the context.
    pub fn nearest(&self, target: f64, room: Room, cost: &CostModel) -> Option<Vec<u32>> {
        let mut best: Option<(f64, Vec<u32>)> = None;
        for k in 1.. {
            let contexts = self.contexts(k);
            if !room.holds(self.model, self.layers, &contexts, self.slots) {
                break;
            }
            let Some(rho) = self.rho(&contexts, cost) else { continue };
            let off = (rho / target).ln().abs();
            if best.as_ref().is_none_or(|(least, _)| off < *least) {
                best = Some((off, contexts));
            }
        }
        best.map(|(_, contexts)| contexts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;
    use crate::validation::testing;

    fn sought<'a>(model: &'a ModelSpec, weights: &'a [u32], anchor: Rule) -> Sought<'a> {
        Sought { model, layers: model.layers, weights, short: 0, anchor, dilation_s: 0.0, slots: 2 }
    }

    #[test]
    fn targets_are_met_within_a_block_on_a_gpu_like_the_one_of_section_2_8() {
        // H200 figures of gpu-measurement §2.8: 436.2 MB at 4.3 TB/s = 101 µs per layer; 55 GB/s link, 10 µs latency.
        let (model, cost) = testing::h200();
        let scale = Scale::of(Backend::Cuda, false);
        let room = Room::of(&scale, &testing::facts(&scale));
        for target in [0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 5.0] {
            let sought = sought(&model, &[1; 4], Rule::Every(4));
            let contexts = sought.nearest(target, room, &cost).unwrap();
            let reached = sought.rho(&contexts, &cost).unwrap();
            // One block more or less of 4 requests is 4·64 KiB/55 GB/s = 4.8 µs per offloaded layer of 4·101 µs: 1.2 %.
            assert!((reached - target).abs() <= 0.0125, "{target}: {reached} with {contexts:?}");
        }
    }

    #[test]
    fn a_ratio_out_of_reach_gives_the_nearest_that_fits() {
        let (model, cost) = testing::h200();
        let scale = Scale::of(Backend::Cuda, false);
        let room = Room::of(&scale, &testing::facts(&scale));
        // A copy is 78 times as slow as attention, so one layer in 16 can reach 78/16 at the very most.
        let contexts = sought(&model, &[1], Rule::Every(16)).nearest(50.0, room, &cost).unwrap();
        assert_eq!(contexts, [131_072]);
    }

    #[test]
    fn ragged_batches_keep_their_weights_and_their_part_filled_blocks() {
        let (model, cost) = testing::h200();
        let scale = Scale::of(Backend::Cuda, false);
        let room = Room::of(&scale, &testing::facts(&scale));
        let weights = [8, 1, 1];
        let ragged = Sought { short: 3, ..sought(&model, &weights, Rule::Every(4)) };
        let contexts = ragged.nearest(1.0, room, &cost).unwrap();
        assert_eq!(contexts[0] + 3, 8 * (contexts[1] + 3));
        assert!(contexts.iter().all(|tokens| tokens % 16 == 13));
    }

    #[test]
    fn a_model_that_does_not_fit_runs_with_fewer_layers() {
        let (model, _) = testing::h200();
        let scale = Scale::of(Backend::Cuda, false);
        let facts = Facts { memory_bytes: 6 << 30, ..testing::facts(&scale) };
        // 0.8·6 GiB = 5.15 GB; weights 4·436.2 MB + 1050.7 MB = 2.80 GB; a layer of 16·1,024 tokens is 67.1 MB:
        // (5.154 − 2.796) GB / 67.1 MB = 35.1 less 2 slots.
        let room = Room::of(&scale, &facts);
        assert_eq!(room.layers(&model, &[1024; 16], 2), Some(32));
        assert_eq!(room.layers(&model, &[1024; 32], 2), Some(15));
        assert_eq!(room.layers(&model, &[131_072; 8], 2), None);
    }
}
