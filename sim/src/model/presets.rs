//! Models by name: layers, hidden, heads, KV heads, head size, MLP width, vocabulary of the published
//! `config.json` (`gpu-measurement.md` §2.6), bf16 weights and KV.

use super::ModelSpec;

/// One row of the preset table.
pub struct Preset {
    /// Name used in scenarios.
    pub name: &'static str,
    sizes: [u32; 7],
    qkv_bias: bool,
}

const fn row(name: &'static str, sizes: [u32; 7], qkv_bias: bool) -> Preset {
    Preset { name, sizes, qkv_bias }
}

/// Every preset, in the order they are listed.
pub const PRESETS: &[Preset] = &[
    row("llama-3-8b", [32, 4096, 32, 8, 128, 14_336, 128_256], false),
    // 3.1 has the sizes of 3: what changed is the rotary embedding.
    row("llama-3.1-8b", [32, 4096, 32, 8, 128, 14_336, 128_256], false),
    row("llama-3-70b", [80, 8192, 64, 8, 128, 28_672, 128_256], false),
    row("llama-3.1-70b", [80, 8192, 64, 8, 128, 28_672, 128_256], false),
    row("llama-3.1-405b", [126, 16_384, 128, 8, 128, 53_248, 128_256], false),
    row("qwen2.5-7b", [28, 3584, 28, 4, 128, 18_944, 152_064], true),
    row("qwen2.5-14b", [48, 5120, 40, 8, 128, 13_824, 152_064], true),
    row("qwen2.5-32b", [64, 5120, 40, 8, 128, 27_648, 152_064], true),
    // v0.1 (its window of 4096 tokens not simulated: every layer keeps the whole context) and v0.2
    row("mistral-7b", [32, 4096, 32, 8, 128, 14_336, 32_000], false),
    row("mistral-7b-v0.3", [32, 4096, 32, 8, 128, 14_336, 32_768], false),
    row("phi-3-mini", [32, 3072, 32, 32, 96, 8192, 32_064], false),
    row("phi-3-medium", [40, 5120, 40, 10, 128, 17_920, 32_064], false),
];

/// The model of that name, bf16.
pub fn preset(name: &str) -> Option<ModelSpec> {
    let Preset { name, sizes: [layers, hidden, heads, kv_heads, head_dim, intermediate, vocab], qkv_bias } =
        *PRESETS.iter().find(|preset| preset.name == name)?;
    Some(ModelSpec {
        name: name.to_owned(),
        layers,
        hidden,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        vocab,
        tied_embedding: false,
        qkv_bias,
        other_layer_params: 0,
        kv_element_bytes: 2,
        weight_element_bytes: 2,
    })
}
