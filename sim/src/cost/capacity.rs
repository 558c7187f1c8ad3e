//! How much KV a GPU holds beside the weights (design §2.2: `gpu_kv` absent; `gpu-measurement.md` §2.6 and §2.7).
//!
//! The rule: `blocks = floor((n·(memory − 10 %) − weights) / block)` layer-blocks for n GPUs, the tenth being for activations,
//! workspaces and the driver. Worked: Llama-3-8B on an A6000 of 48 GiB, 46,385,646,797 B usable less 16,060,522,496 B of
//! weights: 30,325,124,301 B, 462,724 layer-blocks of 65,536 B; with 8-bit KV 925,449 of 32,768 B; on two GPUs 1,170,513.
//! Tests: `capacity_by_hand_for_16_and_8_bit_kv_and_for_several_gpus`,
//! `weights_that_do_not_fit_are_said_with_the_number_of_gpus_that_hold_them`.

use super::{CostError, HardwareProfile};
use crate::model::{ModelSpec, TensorParallel};

/// Share of GPU memory that is kept for activations, workspaces and the driver: 10 %, the share that vLLM leaves
/// free by default (`gpu_memory_utilization = 0.9`).
pub const MEMORY_RESERVE: f64 = 0.10;

/// Layer-blocks that fit beside the weights: `floor((n·(memory − 10 %) − weights) / block)`, n GPUs with the profile's
/// memory each, and a block of all of them together.
///
/// # Errors
/// The profile does not say how much memory there is, or the weights leave no room for a block.
pub fn kv_capacity_layer_blocks(
    profile: &HardwareProfile,
    model: &ModelSpec,
    parallel: TensorParallel,
) -> Result<u64, CostError> {
    let refused = |problem: String, hint: String| CostError::NoCapacity {
        device: profile.device.name.clone(),
        model: model.name.clone(),
        problem,
        hint: Some(hint),
    };
    let datasheet = profile.compute.datasheet.as_ref().map(|datasheet| datasheet.memory_bytes);
    let Some(memory) = profile.device.mem_bytes.or(datasheet).map(|bytes| bytes.get()) else {
        return Err(refused(
            "neither `device.mem_bytes` nor `compute.datasheet.memory_bytes` is known".to_owned(),
            "say `gpu_kv` or `gpu_kv_blocks` in the scenario".to_owned(),
        ));
    };
    let usable_each = memory - (memory as f64 * MEMORY_RESERVE) as u64;
    let (weights, gpus) = (model.weight_bytes().get(), u64::from(parallel.gpus));
    let blocks = |gpus: u64| {
        let usable = usable_each.saturating_mul(gpus);
        usable.checked_sub(weights).map(|room| room / model.block_bytes().get()).filter(|blocks| *blocks > 0)
    };
    blocks(gpus).ok_or_else(|| {
        let each = if gpus == 1 { String::new() } else { format!("{gpus} GPUs of ") };
        refused(
            format!(
                "weights take {weights} B of {} B usable ({each}{memory} B less {:.0} %)",
                usable_each.saturating_mul(gpus),
                MEMORY_RESERVE * 100.0
            ),
            match TensorParallel::choices(model).find(|gpus| blocks(u64::from(*gpus)).is_some()) {
                Some(enough) => format!(
                    "`engine.tensor_parallel = {enough}` GPUs hold it; or take a smaller model, a larger GPU, or say \
                     `gpu_kv` in the scenario"
                ),
                None => "take a smaller model, a larger GPU, or say `gpu_kv` in the scenario".to_owned(),
            },
        )
    })
}
