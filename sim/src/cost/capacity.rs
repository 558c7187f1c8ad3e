//! How much KV a GPU holds beside the weights.

use super::{CostError, HardwareProfile};
use crate::model::ModelSpec;

/// Share of GPU memory that is kept for activations, workspaces and the driver: 10 %, the share that vLLM leaves
/// free by default (`gpu_memory_utilization = 0.9`).
pub const MEMORY_RESERVE: f64 = 0.10;

/// Layer-blocks that fit beside the weights: `floor((memory − 10 % − weights) / block)`, memory and weights of
/// all the profile's GPUs together.
///
/// # Errors
/// The profile does not say how much memory there is, or the weights leave no room for a block.
pub fn kv_capacity_layer_blocks(profile: &HardwareProfile, model: &ModelSpec) -> Result<u64, CostError> {
    let refused = |problem: String, hint: &str| CostError::NoCapacity {
        device: profile.device.name.clone(),
        model: model.name.clone(),
        problem,
        hint: Some(hint.to_owned()),
    };
    let datasheet = profile.compute.datasheet.as_ref().map(|datasheet| datasheet.memory_bytes);
    let Some(memory) = profile.device.mem_bytes.or(datasheet).map(|bytes| bytes.get()) else {
        return Err(refused(
            "neither `device.mem_bytes` nor `compute.datasheet.memory_bytes` is known".to_owned(),
            "say `gpu_kv` or `gpu_kv_blocks` in the scenario",
        ));
    };
    let usable = memory - (memory as f64 * MEMORY_RESERVE) as u64;
    let weights = model.weight_bytes().get();
    match usable.checked_sub(weights).map(|room| room / model.block_bytes().get()) {
        None | Some(0) => Err(refused(
            format!(
                "weights take {weights} B of {usable} B usable ({memory} B less {:.0} %)",
                MEMORY_RESERVE * 100.0
            ),
            "take a smaller model, a larger GPU, or say `gpu_kv` in the scenario",
        )),
        Some(blocks) => Ok(blocks),
    }
}
