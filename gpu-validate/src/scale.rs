//! How much a run measures: sizes, grids and repeats for a GPU and for the backends that play one.
//!
//! The GPU's are those of `gpu-measurement.md` §4.1; the emulations' are small, so that the same code runs in seconds.

use orbitflow_sim::model::{ModelSpec, preset};

use crate::device::Backend;

/// Sizes, grids and repeats of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// Whether this is the short run.
    pub quick: bool,
    /// Seconds after which no new point begins (`gpu-measurement.md` §4.1: 330 s; quick 60 s).
    pub deadline_s: f64,
    /// Model whose steps are fitted and validated.
    pub fitted: ModelSpec,
    /// Model that no fit sees; only validated.
    pub held_out: ModelSpec,
    /// More models whose matrices E5 times.
    pub gemm_models: Vec<ModelSpec>,
    /// Different layers of weights in memory: more than the level-2 cache holds; a step's layers rotate through them.
    pub weight_layers: u32,
    /// E1: bytes per copy, and copies per sample.
    pub link_bytes: u64,
    /// See `link_bytes`.
    pub link_copies: u32,
    /// E2: smallest and largest piece; sizes double, with 12, 20, 24, 28, 32, 48 KiB between.
    pub piece_bytes: (u64, u64),
    /// E2: pieces per batch call.
    pub batch_pieces: Vec<u32>,
    /// E2: thread blocks of the gather kernel.
    pub gather_blocks: Vec<u32>,
    /// E2: the most bytes of all pieces of one sample.
    pub most_copy_bytes: u64,
    /// E3: bytes of one layer's KV.
    pub layout_bytes: u64,
    /// E4: bytes touched.
    pub memory_bytes: u64,
    /// E5 and E6: requests per batch.
    pub batches: Vec<u32>,
    /// E5: rows of prefill products.
    pub prefill_rows: Vec<u32>,
    /// E6: context tokens per request.
    pub contexts: Vec<u32>,
    /// E6 and E9: the most context tokens of a batch.
    pub most_tokens: u64,
    /// E6: query heads per KV head, over the fitted model's KV heads and head size.
    pub groups: Vec<u32>,
    /// E9: (requests, context tokens each).
    pub step_grid: Vec<(u32, u32)>,
    /// E9: layer counts, the model's own last.
    pub step_layers: Vec<u32>,
    /// E10: tokens of the two long cases; 0: none.
    pub long_tokens: u32,
    /// Samples of a cheap point; dear ones take a third.
    pub samples: u32,
    /// Samples of a step in E9 and E10.
    pub step_samples: u32,
    /// The least seconds a timed interval should hold: shorter things are run several times in it.
    pub least_interval_s: f64,
}

impl Scale {
    /// What a run on `backend` measures.
    pub fn of(backend: Backend, quick: bool) -> Scale {
        match backend {
            Backend::Cuda => Scale::gpu(quick),
            Backend::Host | Backend::VirtualTime => Scale::emulation(quick),
        }
    }

    /// Takes other models: the fitted one, the one that no fit sees (if named), and more whose matrices are timed.
    ///
    /// # Errors
    /// Why these cannot be measured, in one line.
    pub fn set_models(&mut self, models: Vec<ModelSpec>) -> Result<(), String> {
        for (place, model) in models.iter().enumerate() {
            if models[..place].iter().any(|other| other.name == model.name) {
                return Err(format!("`{}` is there twice: expected every model once", model.name));
            }
            if model.kv_element_bytes != 2 || model.weight_element_bytes != 2 {
                return Err(format!(
                    "`{}`: the kernels are bf16: expected 2 bytes per weight and KV element",
                    model.name
                ));
            }
        }
        let mut models = models.into_iter();
        let Some(fitted) = models.next() else {
            return Err("none given: expected at least one model".to_owned());
        };
        // Layer counts between, to tell per-layer from per-step costs, and the model's own.
        let layers = fitted.layers;
        self.step_layers.retain(|count| *count < layers);
        self.step_layers.push(layers);
        if self.step_layers.len() == 1 && layers > 1 {
            self.step_layers.insert(0, layers / 2);
        }
        self.fitted = fitted;
        if let Some(held_out) = models.next() {
            self.held_out = held_out;
        }
        if self.held_out.name == self.fitted.name {
            return Err(format!(
                "`{}` is also the held-out model: name another one second",
                self.fitted.name
            ));
        }
        self.gemm_models = models.collect();
        Ok(())
    }

    fn gpu(quick: bool) -> Scale {
        let model = |name| preset(name).expect("Invariant: a preset of the simulator");
        Scale {
            quick,
            deadline_s: if quick { 60.0 } else { 330.0 },
            fitted: model("llama-3-8b"),
            held_out: model("qwen2.5-14b"),
            gemm_models: if quick { Vec::new() } else { vec![model("qwen2.5-14b"), model("llama-3-70b")] },
            weight_layers: 4,
            link_bytes: 256 << 20,
            // 8 copies of 256 MiB are 40 ms at 55 GB/s: long enough, and cheap enough for all samples.
            link_copies: if quick { 4 } else { 8 },
            piece_bytes: (512, 256 << 20),
            batch_pieces: if quick { vec![256] } else { vec![16, 256, 4096] },
            gather_blocks: if quick { vec![8] } else { vec![2, 8, 32] },
            most_copy_bytes: 1 << 30,
            layout_bytes: 64 << 20,
            memory_bytes: 4 << 30,
            batches: if quick { vec![1, 4, 16] } else { vec![1, 2, 4, 8, 16, 32, 64, 128] },
            prefill_rows: vec![512, 2048, 8192],
            contexts: if quick {
                vec![512, 8192, 32_768]
            } else {
                vec![512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072]
            },
            most_tokens: 1 << 20,
            groups: if quick { vec![4] } else { vec![1, 4, 8] },
            step_grid: if quick {
                vec![(1, 2048), (4, 8192), (16, 2048)]
            } else {
                vec![
                    (1, 512),
                    (1, 8192),
                    (1, 32_768),
                    (1, 131_072),
                    (2, 4096),
                    (2, 32_768),
                    (4, 512),
                    (4, 8192),
                    (4, 32_768),
                    (8, 2048),
                    (8, 16_384),
                    (16, 512),
                    (16, 4096),
                    (16, 8192),
                    (32, 512),
                    (32, 4096),
                ]
            },
            step_layers: if quick { vec![8, 32] } else { vec![8, 16, 32] },
            long_tokens: if quick { 0 } else { 131_072 },
            samples: if quick { 5 } else { 10 },
            step_samples: if quick { 10 } else { 30 },
            least_interval_s: 200e-6,
        }
    }

    fn emulation(quick: bool) -> Scale {
        Scale {
            quick,
            deadline_s: if quick { 60.0 } else { 330.0 },
            fitted: tiny("emulation-a", 8, 64, 8, 2),
            held_out: tiny("emulation-b", 12, 80, 10, 2),
            gemm_models: Vec::new(),
            weight_layers: 4,
            link_bytes: 4 << 20,
            link_copies: 4,
            piece_bytes: (512, 4 << 20),
            batch_pieces: vec![16],
            gather_blocks: vec![2],
            most_copy_bytes: 8 << 20,
            layout_bytes: 1 << 20,
            memory_bytes: 16 << 20,
            batches: vec![1, 2, 4, 8],
            prefill_rows: vec![32, 64],
            contexts: vec![64, 256, 1024, 4096],
            most_tokens: 16_384,
            groups: vec![1, 4],
            step_grid: vec![(1, 256), (1, 2048), (2, 1024), (4, 256), (4, 2048), (8, 512)],
            step_layers: vec![4, 8],
            long_tokens: 0,
            samples: 7,
            step_samples: if quick { 7 } else { 15 },
            least_interval_s: 200e-6,
        }
    }
}

impl Scale {
    /// The emulation's, with models whose heads have CUDA kernels: for the CUDA backend on a driver of tests.
    pub fn fake_gpu(quick: bool) -> Scale {
        Scale {
            fitted: tiny("fake-gpu-a", 4, 128, 2, 2),
            held_out: tiny("fake-gpu-b", 6, 256, 4, 1),
            contexts: vec![16, 64, 128],
            most_tokens: 256,
            step_grid: vec![(1, 16), (1, 64), (2, 32), (2, 64)],
            step_layers: vec![2, 4],
            batches: vec![1, 2],
            piece_bytes: (4096, 64 << 10),
            link_bytes: 1 << 20,
            most_copy_bytes: 1 << 20,
            memory_bytes: 2 << 20,
            layout_bytes: 256 << 10,
            samples: 3,
            step_samples: 3,
            ..Scale::emulation(quick)
        }
    }
}

/// A model small enough for a CPU, with the structure of a real one.
fn tiny(name: &str, layers: u32, hidden: u32, heads: u32, kv_heads: u32) -> ModelSpec {
    ModelSpec {
        name: name.to_owned(),
        layers,
        hidden,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        intermediate: 3 * hidden,
        vocab: 8 * hidden,
        tied_embedding: false,
        qkv_bias: false,
        other_layer_params: 0,
        kv_element_bytes: 2,
        weight_element_bytes: 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_models_are_fitted_held_out_and_timed_in_their_order() {
        let mut scale = Scale::of(Backend::Cuda, false);
        let models = ["qwen2.5-7b", "mistral-7b", "phi-3-medium"].map(|name| preset(name).unwrap());
        scale.set_models(models.to_vec()).unwrap();
        assert_eq!((scale.fitted.name.as_str(), scale.held_out.name.as_str()), ("qwen2.5-7b", "mistral-7b"));
        assert_eq!(scale.gemm_models.len(), 1);
        assert_eq!(scale.step_layers, [8, 16, 28]); // its own 28 layers last
    }

    #[test]
    fn a_model_twice_none_or_the_held_out_one_alone_is_refused() {
        let mut scale = Scale::of(Backend::Cuda, true);
        let llama = preset("llama-3-8b").unwrap();
        assert!(scale.set_models(vec![llama.clone(), llama]).unwrap_err().contains("there twice"));
        assert!(scale.set_models(Vec::new()).unwrap_err().contains("none given"));
        let alone = scale.set_models(vec![preset("qwen2.5-14b").unwrap()]).unwrap_err();
        assert!(alone.contains("also the held-out model"), "{alone}");
    }
}
