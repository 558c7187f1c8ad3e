//! What a `config.json` may hold that [`ModelSpec`](crate::model::ModelSpec) cannot express, key by key.
//!
//! A model whose layers differ, or whose KV is not `2 · kv_heads · head_dim` per token, would be simulated wrong without
//! a word. So each of these keys is a refusal, before the model's family is even looked at: a Mixtral is refused for its
//! `num_local_experts`, not for a `model_type` nobody knows.

use serde_json::{Map, Value};

const EXPERTS: &str = "a mixture of experts: only dense models are simulated";
const LATENT: &str = "latent attention keeps a compressed KV: only full K and V are simulated";
const HYBRID: &str =
    "layers of several kinds (linear attention, state space, skipped): every layer must have full attention";
const SPARSE: &str = "block-sparse attention: every layer must have full attention";
const QUANTIZED: &str = "quantized weights: take the config.json of the 16-bit model";
const MULTIMODAL: &str = "a multimodal model: save the object `text_config` as a config.json of its own";
const TWO_STACKS: &str = "an encoder-decoder model: only decoders are simulated";

/// Key, and why whatever has it is refused. `null`, `false`, 0 and empty lists and objects count as not there.
const REFUSED: [(&str, &str); 33] = [
    ("text_config", MULTIMODAL),
    ("vision_config", MULTIMODAL),
    ("audio_config", MULTIMODAL),
    ("cross_attention_layers", MULTIMODAL),
    ("is_encoder_decoder", TWO_STACKS),
    ("encoder_layers", TWO_STACKS),
    ("num_local_experts", EXPERTS),
    ("num_experts", EXPERTS),
    ("n_routed_experts", EXPERTS),
    ("num_experts_per_tok", EXPERTS),
    ("moe_intermediate_size", EXPERTS),
    ("kv_lora_rank", LATENT),
    ("q_lora_rank", LATENT),
    ("full_attention_interval", HYBRID),
    ("sliding_window_pattern", HYBRID),
    ("linear_num_value_heads", HYBRID),
    ("linear_num_key_heads", HYBRID),
    ("layers_block_type", HYBRID),
    ("hybrid_override_pattern", HYBRID),
    ("attn_layer_period", HYBRID),
    ("attn_layer_indices", HYBRID),
    ("mamba_d_state", HYBRID),
    ("mamba_d_ssm", HYBRID),
    ("ssm_state_size", HYBRID),
    ("block_configs", HYBRID),
    ("num_key_value_heads_per_layer", HYBRID),
    ("no_rope_layers", HYBRID),
    ("attention_chunk_size", HYBRID),
    ("num_kv_shared_layers", "layers that share their KV: every layer must have KV of its own"),
    ("blocksparse_block_size", SPARSE),
    ("blocksparse_num_local_blocks", SPARSE),
    ("dense_attention_every_n_layers", SPARSE),
    ("quantization_config", QUANTIZED),
];

/// The first key that makes the model one that is not simulated: its path, its value, and why.
pub(super) fn find(object: &Map<String, Value>) -> Option<(String, &Value, &'static str)> {
    let present = |key: &str| object.get(key).filter(|value| !is_off(value));
    let refused = REFUSED.iter().find_map(|(key, why)| Some(((*key).to_owned(), present(key)?, *why)));
    refused.or_else(|| odd_layer(object))
}

/// The first entry of `layer_types` that is not full attention.
fn odd_layer(object: &Map<String, Value>) -> Option<(String, &Value, &'static str)> {
    let layers = object.get("layer_types").filter(|value| !is_off(value))?;
    let Value::Array(kinds) = layers else { return Some(("layer_types".to_owned(), layers, HYBRID)) };
    let odd = kinds.iter().enumerate().find(|(_, kind)| kind.as_str() != Some("full_attention"));
    odd.map(|(index, kind)| (format!("layer_types[{index}]"), kind, HYBRID))
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}
