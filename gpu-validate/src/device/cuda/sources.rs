//! The kernels' sources as they are compiled, and which attention kernels there are.
//!
//! Each file is compiled as the prelude followed by its own text, so no header and no include path is needed. Knows
//! neither devices nor launches.

use crate::device::AttentionShape;

/// One source file.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name, below `kernels/`.
    pub name: &'static str,
    own: &'static str,
}

const PRELUDE: &str = include_str!("../../../kernels/prelude.cu");

/// Every file that is compiled.
pub const SOURCES: [Source; 4] = [
    Source { name: "timing.cu", own: include_str!("../../../kernels/timing.cu") },
    Source { name: "memory.cu", own: include_str!("../../../kernels/memory.cu") },
    Source { name: "layer.cu", own: include_str!("../../../kernels/layer.cu") },
    Source { name: "attention.cu", own: include_str!("../../../kernels/attention.cu") },
];

/// Options of the compiler besides the architecture: fast mathematics, and a report of registers and spills.
pub const OPTIONS: [&str; 3] = ["--std=c++17", "--use_fast_math", "--ptxas-options=-v"];

impl Source {
    /// What the compiler is given.
    pub fn text(&self) -> String {
        [PRELUDE, self.own].concat()
    }
}

/// Kernels that are not attention's split pass, which [`attention_kernels`] lists.
pub const PLAIN_KERNELS: [&str; 14] = [
    "hold",
    "spin",
    "empty",
    "fill_random",
    "fill_word",
    "checksum",
    "read_only",
    "write_only",
    "gather_copy",
    "rms_norm",
    "rope",
    "kv_append",
    "silu_mul",
    "attention_combine_bf16",
];

/// Attention's split pass for one kind of heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionKernel {
    /// Its name.
    pub name: String,
    /// Elements per head.
    pub head_dim: u32,
    /// Query heads per KV head.
    pub group: u32,
    /// Neighbouring blocks that share a KV head, each with a part of its query heads.
    pub passes: u32,
}

impl AttentionKernel {
    /// Whether it does these heads.
    pub fn fits(&self, shape: AttentionShape) -> bool {
        self.head_dim == shape.head_dim && self.group == shape.group()
    }
}

/// Every instance in `attention.cu`: its lines `ATTENTION(head_dim, group, heads, blocks)`, with
/// `passes = ceil(group / heads)`.
pub fn attention_kernels() -> Vec<AttentionKernel> {
    let text = SOURCES[3].own;
    let instances = text.lines().filter_map(|line| line.strip_prefix("ATTENTION("));
    let numbers = instances.map(|rest| {
        let parts = rest.trim_end_matches(')').split(',').map(|part| part.trim().parse::<u32>().ok());
        parts.collect::<Vec<_>>()
    });
    let known = numbers.filter_map(|numbers| match numbers[..] {
        [Some(head_dim), Some(group), Some(heads), _] => Some(AttentionKernel {
            name: format!("attention_d{head_dim}_g{group}"),
            head_dim,
            group,
            passes: group.div_ceil(heads),
        }),
        _ => None,
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_the_models_has_a_kernel() {
        let kernels = attention_kernels();
        for group in [1, 4, 5, 7, 8] {
            let shape = AttentionShape { heads: 8 * group, kv_heads: 8, head_dim: 128 };
            assert_eq!(kernels.iter().filter(|kernel| kernel.fits(shape)).count(), 1, "group {group}");
        }
        let seven = kernels.iter().find(|kernel| kernel.group == 7).expect("asked for above");
        assert_eq!(seven.passes, 2); // ceil(7 / 4): at most five heads fit the registers of one block
    }

    #[test]
    fn every_kernel_that_is_launched_is_in_a_source() {
        let all = SOURCES.map(|source| source.text()).concat();
        for name in PLAIN_KERNELS {
            assert!(all.contains(&format!("void {name}(")), "{name}");
        }
    }
}
