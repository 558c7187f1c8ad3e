//! Tensor parallelism: one model split over the GPUs of one server (design §3.6).
//!
//! Attention is split by heads and the MLP by columns, so each of n GPUs has 1/n of every layer's weights and of every
//! request's KV, and all GPUs do the same work in step. Llama-3-8B with its 8 KV heads on 2 GPUs: 4 KV heads each,
//! a layer-block of 65,536 B is 32,768 B on each. Sizes elsewhere stay those of all GPUs together. Knows nothing about
//! time: [`crate::cost`] makes costs of it.

use super::ModelSpec;

/// How many GPUs serve one replica, and how they reach host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorParallel {
    /// GPUs n, 1 to [`Self::MOST`].
    pub gpus: u32,
    /// Whether all of them copy over one host link instead of one each.
    pub shared_link: bool,
}

/// A model that cannot be split over so many GPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{gpus} GPUs cannot split {model}: expected a number that divides its {heads} heads and {kv_heads} KV heads: \
     {known}"
)]
pub struct BadSplit {
    /// GPUs that were asked for.
    pub gpus: u32,
    /// The model.
    pub model: String,
    /// Its query heads.
    pub heads: u32,
    /// Its key and value heads.
    pub kv_heads: u32,
    /// Every number of GPUs that does.
    pub known: String,
}

impl Default for TensorParallel {
    fn default() -> Self {
        TensorParallel::NONE
    }
}

impl TensorParallel {
    /// One GPU.
    pub const NONE: TensorParallel = TensorParallel { gpus: 1, shared_link: false };
    /// Most GPUs of one replica.
    pub const MOST: u32 = 128;

    /// Whether there is one GPU only, with whatever link.
    pub const fn is_none(self) -> bool {
        self.gpus == 1
    }

    /// Host links that carry one copy at once.
    pub const fn links(self) -> u32 {
        if self.shared_link { 1 } else { self.gpus }
    }

    /// One GPU's share of something that splits evenly.
    pub fn share(self, whole: f64) -> f64 {
        whole / f64::from(self.gpus)
    }

    /// Rate of all links together, each of `rate`.
    pub fn over_links(self, rate: f64) -> f64 {
        rate * f64::from(self.links())
    }

    /// Numbers of GPUs that can split `model`, ascending.
    pub fn choices(model: &ModelSpec) -> impl Iterator<Item = u32> {
        let (heads, kv_heads) = (model.heads, model.kv_heads);
        (1..=kv_heads.min(Self::MOST))
            .filter(move |gpus| heads.is_multiple_of(*gpus) && kv_heads.is_multiple_of(*gpus))
    }

    /// Whether every GPU gets whole heads of `model`, as many as every other.
    ///
    /// # Errors
    /// It does not.
    pub fn check(self, model: &ModelSpec) -> Result<(), BadSplit> {
        if Self::choices(model).any(|gpus| gpus == self.gpus) {
            return Ok(());
        }
        let known: Vec<String> = Self::choices(model).map(|gpus| gpus.to_string()).collect();
        Err(BadSplit {
            gpus: self.gpus,
            model: model.name.clone(),
            heads: model.heads,
            kv_heads: model.kv_heads,
            known: known.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::preset;

    #[test]
    fn gpus_must_divide_heads_and_kv_heads() {
        let split = |gpus, model| {
            let parallel = TensorParallel { gpus, shared_link: false };
            parallel.check(&preset(model).unwrap()).map_err(|error| error.to_string())
        };
        // 32 heads, 8 KV heads
        for gpus in [1, 2, 4, 8] {
            assert_eq!(split(gpus, "llama-3-8b"), Ok(()));
        }
        let error = split(16, "llama-3-8b").unwrap_err();
        assert!(error.ends_with("divides its 32 heads and 8 KV heads: 1, 2, 4, 8"), "{error}");
        // 40 heads, 10 KV heads: 1, 2, 5, 10
        assert_eq!(split(5, "phi-3-medium"), Ok(()));
        assert!(split(4, "phi-3-medium").is_err() && split(0, "phi-3-medium").is_err());
    }

    #[test]
    fn a_shared_link_is_one_and_own_links_are_as_many_as_gpus() {
        assert_eq!(TensorParallel { gpus: 4, shared_link: false }.links(), 4);
        assert_eq!(TensorParallel { gpus: 4, shared_link: true }.links(), 1);
        assert!(
            TensorParallel { gpus: 1, shared_link: true }.is_none() && TensorParallel::default().is_none()
        );
    }
}
