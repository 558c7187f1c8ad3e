//! The kernels' texts, names and compile options: what NVRTC is given, and what its report must say.
//!
//! It calls no compiler. Each text is complete (no header, no include path) and portable from sm_80 up.

use super::attention::VARIANTS;

/// One translation unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// File name in messages.
    pub name: &'static str,
    /// The whole text: the prelude, then the file.
    pub text: &'static str,
    /// The kernels it defines.
    pub kernels: &'static [&'static str],
}

/// Every translation unit; together they define every kernel of [`kernel_names`].
pub const SOURCES: [Source; 4] = [
    Source {
        name: "timing.cu",
        text: concat!(include_str!("../../kernels/prelude.cu"), include_str!("../../kernels/timing.cu")),
        kernels: &["hold", "spin", "empty"],
    },
    Source {
        name: "memory.cu",
        text: concat!(include_str!("../../kernels/prelude.cu"), include_str!("../../kernels/memory.cu")),
        kernels: &["fill_random", "fill_word", "checksum", "read_only", "write_only", "gather_copy"],
    },
    Source {
        name: "layer.cu",
        text: concat!(include_str!("../../kernels/prelude.cu"), include_str!("../../kernels/layer.cu")),
        kernels: &["rms_norm", "rope", "kv_append", "silu_mul"],
    },
    Source {
        name: "attention.cu",
        text: concat!(include_str!("../../kernels/prelude.cu"), include_str!("../../kernels/attention.cu")),
        kernels: &[
            "attention_combine_bf16",
            "attention_combine_fp32",
            "attention_d128_g1",
            "attention_d128_g4",
            "attention_d128_g5",
            "attention_d128_g7",
            "attention_d128_g8",
            "attention_d128_g16",
            "attention_d96_g1",
            "attention_d64_g1",
            "attention_d64_g4",
        ],
    },
];

/// What may never be exceeded by any kernel: `local_size_bytes` (spills and stack). The register bounds follow from
/// each kernel's `__launch_bounds__`.
pub const MOST_LOCAL_BYTES: u32 = 0;

/// The lowest compute capability the sources are written for, as (major, minor).
pub const LOWEST_ARCH: (u32, u32) = (8, 0);

/// The names of all kernels.
pub fn kernel_names() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().flat_map(|source| source.kernels.iter().copied())
}

/// NVRTC's `--gpu-architecture` for a device of that compute capability: real code, not PTX, so that an older driver
/// loads it.
pub fn arch(major: u32, minor: u32) -> String {
    format!("sm_{major}{minor}")
}

/// NVRTC's options besides the architecture. Fast math is passed as text because cudarc 0.19's `use_fast_math` field
/// emits another option (`gpu-measurement.md` §5).
pub const OPTIONS: [&str; 2] = ["--std=c++17", "--use_fast_math"];

/// The option that makes NVRTC's log tell registers, spills and local memory.
pub const VERBOSE_OPTION: &str = "--ptxas-options=-v";

/// The most registers a thread may have: 65,536 of an SM shared by the resident threads `__launch_bounds__` asks for,
/// in steps of 8, at most 255. `None` for a name that is no kernel.
pub fn most_registers(kernel: &str, arch: (u32, u32)) -> Option<u32> {
    if !kernel_names().any(|name| name == kernel) {
        return None;
    }
    let resident = match VARIANTS.iter().find(|variant| variant.kernel == kernel) {
        Some(variant) => 128 * variant.blocks_per_sm(arch),
        None if kernel == "gather_copy" => 512,
        None => 256,
    };
    Some((65_536 / resident / 8 * 8).min(255))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_kernel_stands_in_its_text_and_no_other_does() {
        for source in SOURCES {
            let plain = source.text.matches("extern \"C\" __global__").count();
            let attention = source.text.matches("\nATTENTION(").count();
            // The macro that makes the attention kernels holds one more `extern`.
            let macros = usize::from(attention > 0);
            assert_eq!(plain - macros + attention, source.kernels.len(), "{}", source.name);
            assert!(!source.text.contains("#include"), "{} must need no header", source.name);
        }
    }

    #[test]
    fn every_attention_variant_is_a_listed_kernel() {
        for variant in VARIANTS {
            assert!(kernel_names().any(|name| name == variant.kernel), "{}", variant.kernel);
        }
    }

    #[test]
    fn register_bounds_follow_the_launch_bounds() {
        // 65,536 / (4 · 128) = 128; from sm_100 three blocks: 65,536 / 384 = 170.7, in eights 168.
        assert_eq!(most_registers("attention_d128_g4", (9, 0)), Some(128));
        assert_eq!(most_registers("attention_d128_g4", (10, 0)), Some(168));
        assert_eq!(most_registers("checksum", (9, 0)), Some(255));
        assert_eq!(most_registers("no such kernel", (9, 0)), None);
    }
}
