//! What `orbitflow step` and `orbitflow plan` say of an instance with several GPUs: the layer and the link that they
//! make together (design §3.6).
//!
//! Two GPUs, each with its own link of 5,000 blocks/s and 10 ms per layer: 5 ms per layer and 10,000 blocks/s.

use serde::Serialize;

use crate::model::TensorParallel;

/// Several GPUs as the one they are simulated as.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Split {
    gpus: u32,
    shared_link: bool,
    /// Compute and all-reduces of one layer, seconds.
    layer_s: f64,
    /// Layer-blocks per second over all links.
    blocks_per_s: f64,
}

impl Split {
    /// `None` for one GPU: what the instance says is what is simulated.
    pub fn of(parallel: TensorParallel, layer_s: f64, blocks_per_s: f64) -> Option<Self> {
        let TensorParallel { gpus, shared_link } = parallel;
        (!parallel.is_none()).then_some(Split { gpus, shared_link, layer_s, blocks_per_s })
    }

    /// One line of a table.
    pub fn line(&self) -> String {
        let links = if self.shared_link { "one shared link" } else { "a link each" };
        format!(
            "tensor parallel: {} GPUs, {links}: a layer computes {:.6} ms, copies move {} blocks/s",
            self.gpus,
            self.layer_s * 1e3,
            self.blocks_per_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gpu_says_nothing_and_two_say_what_they_make_together() {
        assert_eq!(Split::of(TensorParallel { gpus: 1, shared_link: true }, 0.01, 5000.0), None);
        let parallel = TensorParallel { gpus: 2, shared_link: false };
        let split = Split::of(parallel, parallel.share(0.01), parallel.over_links(5000.0)).unwrap();
        let line =
            "tensor parallel: 2 GPUs, a link each: a layer computes 5.000000 ms, copies move 10000 blocks/s";
        assert_eq!(split.line(), line);
    }
}
