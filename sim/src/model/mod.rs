//! The language model: its layers, heads and sizes, what its KV cache weighs, and where a request's layers live.
//!
//! Sizes are those of the published `config.json` files; the parameter counts they give reproduce the
//! published totals (`gpu-measurement.md` §2.6). Knows nothing about time.

mod config;
mod placement;
mod presets;

use serde::{Deserialize, Serialize};

pub use config::{ConfigError, read_config};
pub use placement::{Distance, LayerSet, Placement};
pub use presets::{PRESETS, preset};

use crate::ids::Layer;
use crate::units::{Bytes, TOKENS_PER_BLOCK, blocks_for_tokens};

/// The shape of a decoder-only transformer with grouped-query attention and a gated MLP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Bytes of one element of the KV cache.
    pub kv_element_bytes: u32,
    /// Bytes of one weight.
    pub weight_element_bytes: u32,
}

impl ModelSpec {
    /// Parameters of one layer: q, k, v, o, the three MLP matrices and two norms.
    pub fn layer_params(&self) -> u64 {
        let (hidden, q, kv) = (
            u64::from(self.hidden),
            u64::from(self.heads) * u64::from(self.head_dim),
            u64::from(self.kv_heads) * u64::from(self.head_dim),
        );
        let bias = if self.qkv_bias { q + 2 * kv } else { 0 };
        hidden * (2 * q + 2 * kv) + bias + 3 * hidden * u64::from(self.intermediate) + 2 * hidden
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

    #[test]
    fn sizes_are_those_of_the_table_in_gpu_measurement_2_6() {
        // model, params in 10^9, weights per layer in 10^6 B, KV bytes per token and layer
        let table = [
            ("llama-3-8b", 8.03, 436.2, 4096),
            ("llama-3-70b", 70.55, 1711.3, 4096),
            ("llama-3.1-405b", 405.85, 6375.4, 4096),
            ("qwen2.5-7b", 7.62, 466.1, 2048),
            ("qwen2.5-14b", 14.77, 550.5, 4096),
            ("qwen2.5-32b", 32.76, 975.2, 4096),
            ("mistral-7b", 7.24, 436.2, 4096),
            ("phi-3-mini", 3.82, 226.5, 12288),
            ("phi-3-medium", 13.96, 681.6, 5120),
        ];
        for (name, params, layer_mb, kv) in table {
            let model = preset(name).unwrap();
            let billions = model.params() as f64 / 1e9;
            assert!((billions - params).abs() < 0.006, "{name}: {billions} B parameters");
            let megabytes = model.layer_weight_bytes().get() as f64 / 1e6;
            assert!((megabytes - layer_mb).abs() / layer_mb < 1e-3, "{name}: {megabytes} MB per layer");
            assert_eq!(model.kv_bytes_per_token_layer().get(), kv, "{name}");
        }
        // 64 KiB for Llama-3-8B fp16 (design §3.1)
        assert_eq!(preset("llama-3-8b").unwrap().block_bytes().get(), 65_536);
    }
}
