//! The language model: its layers, heads and sizes, what its KV cache weighs, and where a request's layers live.
//!
//! Sizes are those of the published `config.json` files; the parameter counts they give reproduce the
//! published totals (`gpu-measurement.md` §2.6). Knows nothing about time.
//!
//! **KV element size** (`kv_cache_dtype`; design §3.1): a layer-block is `2 · kv_heads · head_dim · 16 · element_bytes`; weights
//! keep their own size. Worked: Llama-3-8B, 2 · 8 · 128 · 16 = 32,768 elements: 65,536 B in bf16, 32,768 in fp8, 131,072 in
//! fp32. What was fitted with one size is refused for another. Tests:
//! `kv_elements_are_the_models_unless_the_scenario_says_otherwise`, `sizes_are_those_of_the_table_in_gpu_measurement_2_6`.

mod config;
mod parallel;
mod placement;
mod presets;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use config::{ConfigError, Imported, read_config};
pub use parallel::{BadSplit, TensorParallel};
pub use placement::{Distance, LayerSet, Placement};
pub use presets::{PRESETS, preset};

use crate::ids::Layer;
use crate::units::{Bytes, TOKENS_PER_BLOCK, blocks_for_tokens};

/// The shape of a decoder-only transformer with grouped-query attention and a gated MLP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Name in tables and files, for example `llama-3-8b`.
    pub name: String,
    /// Transformer layers L (1 … 128).
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements per head.
    pub head_dim: u32,
    /// Width of the gated MLP.
    pub intermediate: u32,
    /// Rows of the embedding and of the output head.
    pub vocab: u32,
    /// Whether the output head shares the embedding's weights.
    pub tied_embedding: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Parameters of one layer that are in no matrix, no bias of q, k and v and neither of the two norms: norms of q and
    /// k, other biases.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_layer_params: u32,
    /// Bytes of one element of the KV cache.
    pub kv_element_bytes: u32,
    /// Bytes of one weight.
    pub weight_element_bytes: u32,
}

/// Every field, [`ModelSpec::other_layer_params`] only where there are any: digests are made of this text, and those of
/// models from before that field stay as they were.
impl fmt::Debug for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("ModelSpec");
        fields.field("name", &self.name).field("layers", &self.layers).field("hidden", &self.hidden);
        fields
            .field("heads", &self.heads)
            .field("kv_heads", &self.kv_heads)
            .field("head_dim", &self.head_dim);
        fields.field("intermediate", &self.intermediate).field("vocab", &self.vocab);
        fields.field("tied_embedding", &self.tied_embedding).field("qkv_bias", &self.qkv_bias);
        if !is_zero(&self.other_layer_params) {
            fields.field("other_layer_params", &self.other_layer_params);
        }
        fields.field("kv_element_bytes", &self.kv_element_bytes);
        fields.field("weight_element_bytes", &self.weight_element_bytes).finish()
    }
}

fn is_zero(params: &u32) -> bool {
    *params == 0
}

impl ModelSpec {
    /// Parameters of one layer: q, k, v, o, the three MLP matrices, two norms and what else there is.
    pub fn layer_params(&self) -> u64 {
        let (hidden, q, kv) = (
            u64::from(self.hidden),
            u64::from(self.heads) * u64::from(self.head_dim),
            u64::from(self.kv_heads) * u64::from(self.head_dim),
        );
        let bias = if self.qkv_bias { q + 2 * kv } else { 0 };
        let others = bias + u64::from(self.other_layer_params);
        hidden * (2 * q + 2 * kv) + 3 * hidden * u64::from(self.intermediate) + 2 * hidden + others
    }

    /// Parameters of the whole model: layers, embedding, output head, final norm.
    pub fn params(&self) -> u64 {
        let table = u64::from(self.vocab) * u64::from(self.hidden);
        let tables = if self.tied_embedding { 1 } else { 2 };
        u64::from(self.layers) * self.layer_params() + tables * table + u64::from(self.hidden)
    }

    /// Weights of one layer.
    pub fn layer_weight_bytes(&self) -> Bytes {
        Bytes::new(self.layer_params() * u64::from(self.weight_element_bytes))
    }

    /// All weights in GPU memory.
    pub fn weight_bytes(&self) -> Bytes {
        Bytes::new(self.params() * u64::from(self.weight_element_bytes))
    }

    /// Weights read in one decode step: every layer and the output head; the embedding is a lookup.
    pub fn streamed_weight_bytes(&self) -> Bytes {
        let head = u64::from(self.vocab) * u64::from(self.hidden) * u64::from(self.weight_element_bytes);
        self.layer_weight_bytes() * u64::from(self.layers) + Bytes::new(head)
    }

    /// K and V of one token in one layer: `2 · kv_heads · head_dim · element_bytes`.
    pub fn kv_bytes_per_token_layer(&self) -> Bytes {
        let elements = 2 * u64::from(self.kv_heads) * u64::from(self.head_dim);
        Bytes::new(elements * u64::from(self.kv_element_bytes))
    }

    /// K and V of one token in all layers.
    pub fn kv_bytes_per_token(&self) -> Bytes {
        self.kv_bytes_per_token_layer() * u64::from(self.layers)
    }

    /// One layer-block: K and V of 16 tokens of one layer (design §3.1).
    pub fn block_bytes(&self) -> Bytes {
        self.kv_bytes_per_token_layer() * TOKENS_PER_BLOCK
    }

    /// The footprint of a plain, uncompressed KV cache of this model.
    pub fn footprint(&self) -> UniformFootprint {
        UniformFootprint { layers: self.layers, block_bytes: self.block_bytes() }
    }
}

/// What the KV cache of one request weighs, layer by layer, as a function of its context.
///
/// Compressed, evicted and hybrid caches are other implementations (design §12); the pipeline and the planner
/// only ever ask this.
pub trait Footprint {
    /// Layers of the model.
    fn layers(&self) -> u32;
    /// GPU memory that `layer` takes while resident, with `tokens` tokens of context.
    fn resident_bytes(&self, layer: Layer, tokens: u64) -> Bytes;
    /// Bytes that one host→device copy of `layer` moves, with `tokens` tokens of context.
    fn copy_bytes(&self, layer: Layer, tokens: u64) -> Bytes;
    /// Whether `layer` may live in host memory only.
    fn offloadable(&self, layer: Layer) -> bool;
}

/// The plain KV cache: every layer the same, whole blocks of 16 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniformFootprint {
    /// Layers of the model.
    pub layers: u32,
    /// Bytes of one layer-block.
    pub block_bytes: Bytes,
}

impl Footprint for UniformFootprint {
    fn layers(&self) -> u32 {
        self.layers
    }

    fn resident_bytes(&self, _layer: Layer, tokens: u64) -> Bytes {
        self.block_bytes * blocks_for_tokens(tokens)
    }

    fn copy_bytes(&self, _layer: Layer, tokens: u64) -> Bytes {
        self.block_bytes * blocks_for_tokens(tokens)
    }

    fn offloadable(&self, _layer: Layer) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gpu-measurement.md` §2.6: layers, hidden, heads, KV heads, head_dim, MLP width, vocabulary; parameters in 10^9,
    /// weights of a layer and of the head in 10^6 B; KV bytes per token and layer, and per token.
    type Row = ([u32; 7], [f64; 3], [u64; 2]);

    const TABLE: &[(&[&str], Row)] = &[
        (
            &["llama-3-8b", "llama-3.1-8b"],
            ([32, 4096, 32, 8, 128, 14_336, 128_256], [8.03, 436.2, 1051.0], [4096, 131_072]),
        ),
        (
            &["llama-3-70b", "llama-3.1-70b"],
            ([80, 8192, 64, 8, 128, 28_672, 128_256], [70.55, 1711.3, 2101.0], [4096, 327_680]),
        ),
        (
            &["llama-3.1-405b"],
            ([126, 16_384, 128, 8, 128, 53_248, 128_256], [405.85, 6375.4, 4203.0], [4096, 516_096]),
        ),
        (&["qwen2.5-7b"], ([28, 3584, 28, 4, 128, 18_944, 152_064], [7.62, 466.1, 1090.0], [2048, 57_344])),
        (
            &["qwen2.5-14b"],
            ([48, 5120, 40, 8, 128, 13_824, 152_064], [14.77, 550.5, 1557.0], [4096, 196_608]),
        ),
        (
            &["qwen2.5-32b"],
            ([64, 5120, 40, 8, 128, 27_648, 152_064], [32.76, 975.2, 1557.0], [4096, 262_144]),
        ),
        (&["mistral-7b"], ([32, 4096, 32, 8, 128, 14_336, 32_000], [7.24, 436.2, 262.0], [4096, 131_072])),
        // The table's row with the vocabulary of v0.3: 2 · 4096 · 768 parameters more, a head of 268.4 MB
        (
            &["mistral-7b-v0.3"],
            ([32, 4096, 32, 8, 128, 14_336, 32_768], [7.25, 436.2, 268.4], [4096, 131_072]),
        ),
        (&["phi-3-mini"], ([32, 3072, 32, 32, 96, 8192, 32_064], [3.82, 226.5, 197.0], [12_288, 393_216])),
        (
            &["phi-3-medium"],
            ([40, 5120, 40, 10, 128, 17_920, 32_064], [13.96, 681.6, 328.0], [5120, 204_800]),
        ),
    ];

    #[test]
    fn sizes_are_those_of_the_table_in_gpu_measurement_2_6() {
        for (names, (sizes, [params, layer_mb, head_mb], [kv_layer, kv])) in TABLE {
            for name in *names {
                let model = preset(name).unwrap_or_else(|| panic!("{name} is in the table"));
                let ModelSpec { layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, .. } = model;
                assert_eq!(
                    [layers, hidden, heads, kv_heads, head_dim, intermediate, vocab],
                    *sizes,
                    "{name}"
                );
                let billions = model.params() as f64 / 1e9;
                assert!((billions - params).abs() < 0.006, "{name}: {billions} B parameters");
                let megabytes = model.layer_weight_bytes().get() as f64 / 1e6;
                assert!((megabytes - layer_mb).abs() / layer_mb < 1e-3, "{name}: {megabytes} MB per layer");
                let head = model.streamed_weight_bytes().get()
                    - model.layer_weight_bytes().get() * u64::from(model.layers);
                assert!((head as f64 / 1e6 - head_mb).abs() / head_mb < 2e-3, "{name}: {head} B of head");
                assert_eq!(model.kv_bytes_per_token_layer().get(), *kv_layer, "{name}");
                assert_eq!(model.kv_bytes_per_token().get(), *kv, "{name}");
            }
        }
        let tabled: usize = TABLE.iter().map(|(names, _)| names.len()).sum();
        assert_eq!(PRESETS.len(), tabled, "every preset is in the table");
        // 64 KiB for Llama-3-8B fp16 (design §3.1)
        assert_eq!(preset("llama-3-8b").unwrap().block_bytes().get(), 65_536);
    }

    #[test]
    fn a_model_without_further_parameters_prints_as_before_there_were_any() {
        let plain = preset("mistral-7b").unwrap();
        let text = "ModelSpec { name: \"mistral-7b\", layers: 32, hidden: 4096, heads: 32, kv_heads: 8, head_dim: 128, \
                    intermediate: 14336, vocab: 32000, tied_embedding: false, qkv_bias: false, kv_element_bytes: 2, \
                    weight_element_bytes: 2 }";
        assert_eq!(format!("{plain:?}"), text);
        let normed = ModelSpec { other_layer_params: 256, ..plain };
        assert!(format!("{normed:?}").contains("qkv_bias: false, other_layer_params: 256,"));
    }
}
