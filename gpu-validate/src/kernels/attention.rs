//! Launches of decode attention: which kernel fits a model, into how many splits a context is cut, what is moved.
//!
//! The kernel: one block per (KV head and head pass, split, request); `kernels/attention.cu` says how. It knows no
//! device but the number of SMs. Sizing follows Little's law (`gpu-measurement.md` §5): a block of four-head attention
//! keeps 128 threads · 8 loads · 16 B = 16 KiB in flight, four blocks of an SM 64 KiB.

use super::launch::{Address, Argument, Launch, Traffic};

/// Tokens a block takes per round; splits are whole rounds.
pub const ROUND_TOKENS: u32 = 32;

/// The least tokens worth a split of their own.
pub const LEAST_SPLIT_TOKENS: u32 = 64;

/// The most splits that are ever chosen: the combining kernel reads them one after another.
pub const MOST_SPLITS: u32 = 128;

/// One attention kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub kernel: &'static str,
    /// Elements per head.
    pub head_dim: u32,
    /// Query heads per KV head.
    pub group: u32,
    /// Query heads a block does; the rest of the group are further passes over the same KV.
    pub heads_per_pass: u32,
}

impl Variant {
    /// Blocks per (KV head, split, request).
    pub const fn passes(self) -> u32 {
        self.group.div_ceil(self.heads_per_pass)
    }

    /// Blocks that its registers allow on one SM of that compute capability (its `__launch_bounds__`).
    pub const fn blocks_per_sm(self, arch: (u32, u32)) -> u32 {
        match self.heads_per_pass {
            1 => 6,
            4 if arch.0 < 10 => 4,
            _ => 3,
        }
    }
}

const fn variant(kernel: &'static str, head_dim: u32, group: u32, heads_per_pass: u32) -> Variant {
    Variant { kernel, head_dim, group, heads_per_pass }
}

/// Every attention kernel.
pub const VARIANTS: [Variant; 9] = [
    variant("attention_d128_g1", 128, 1, 1),
    variant("attention_d128_g4", 128, 4, 4),
    variant("attention_d128_g5", 128, 5, 5),
    variant("attention_d128_g7", 128, 7, 4),
    variant("attention_d128_g8", 128, 8, 4),
    variant("attention_d128_g16", 128, 16, 4),
    variant("attention_d96_g1", 96, 1, 1),
    variant("attention_d64_g1", 64, 1, 1),
    variant("attention_d64_g4", 64, 4, 4),
];

/// The kernel for heads of that size and that many query heads per KV head; `None` when there is none.
pub fn variant_for(head_dim: u32, group: u32) -> Option<Variant> {
    VARIANTS.into_iter().find(|variant| variant.head_dim == head_dim && variant.group == group)
}

/// The heads of a layer, with the kernel that does them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Key and value heads.
    pub kv_heads: u32,
    /// The kernel, which fixes the head size and the group.
    pub variant: Variant,
}

impl Heads {
    /// The heads of a layer; `None` when no kernel does them.
    pub fn new(heads: u32, kv_heads: u32, head_dim: u32) -> Option<Heads> {
        let whole = kv_heads > 0 && heads.is_multiple_of(kv_heads);
        let variant = variant_for(head_dim, heads.checked_div(kv_heads)?)?;
        whole.then_some(Heads { kv_heads, variant })
    }

    /// Query heads.
    pub const fn heads(self) -> u32 {
        self.kv_heads * self.variant.group
    }

    /// Elements of a qkv row: q, then k, then v.
    pub const fn qkv_width(self) -> u32 {
        (self.heads() + 2 * self.kv_heads) * self.variant.head_dim
    }

    /// K and V of one token, bytes.
    pub const fn token_bytes(self) -> u64 {
        4 * self.kv_heads as u64 * self.variant.head_dim as u64
    }
}

/// How contexts are cut: `splits` blocks per request, each at least `least_tokens` long. A request whose share of the
/// tokens is longer than that gets equal shares, so every token is covered whatever its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splits {
    /// Blocks along the context, at least 1.
    pub splits: u32,
    /// Least tokens of a block; 0 asks for equal shares of every request.
    pub least_tokens: u32,
}

impl Splits {
    /// Tokens per split of a request: its share, at least `least_tokens`, in whole rounds of 32.
    pub const fn length(self, tokens: u32) -> u32 {
        let share = tokens.div_ceil(self.splits);
        let length = if share > self.least_tokens { share } else { self.least_tokens };
        length.div_ceil(ROUND_TOKENS) * ROUND_TOKENS
    }

    /// Splits of a request that have tokens.
    pub const fn used(self, tokens: u32) -> u32 {
        if tokens == 0 { 0 } else { tokens.div_ceil(self.length(tokens)) }
    }
}

/// The cut for a batch: the blocks that fit the device at once share all tokens equally, so a single long request among
/// short ones is cut finer than a batch of equals. A function of its arguments alone.
///
/// `tokens_per_slot = Σ tokens · kv_heads · passes / (SMs · blocks per SM)`, at least [`LEAST_SPLIT_TOKENS`];
/// `splits = ⌈longest / tokens_per_slot⌉`, at most [`MOST_SPLITS`]; then the longest request is cut evenly.
pub fn choose_splits(heads: Heads, tokens: &[u32], sm_count: u32, arch: (u32, u32)) -> Splits {
    let total: u64 = tokens.iter().map(|&tokens| u64::from(tokens)).sum();
    let longest = tokens.iter().copied().max().unwrap_or(0).max(1);
    let slots = u64::from(sm_count.max(1) * heads.variant.blocks_per_sm(arch));
    let blocks = u64::from(heads.kv_heads * heads.variant.passes());
    let share = (total * blocks).div_ceil(slots).max(u64::from(LEAST_SPLIT_TOKENS));
    let splits = u64::from(longest).div_ceil(share).min(u64::from(MOST_SPLITS));
    let splits = u32::try_from(splits).expect("Invariant: at most 128 splits");
    Splits { splits, least_tokens: longest.div_ceil(splits).div_ceil(ROUND_TOKENS) * ROUND_TOKENS }
}

/// One attention launch: every request of a batch in one layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// The layer's heads.
    pub heads: Heads,
    /// Requests.
    pub batch: u32,
    /// How contexts are cut.
    pub splits: Splits,
    /// bf16 `[batch][row_stride]`: q of each request at the start of its row.
    pub q: Address,
    /// Elements from one row to the next, a multiple of 8.
    pub row_stride: u32,
    /// `u64[batch]`: where each request's KV begins; 16-byte aligned, resident or staged.
    pub kv_bases: Address,
    /// `u32[batch]`: tokens of each request, the newest included. 0 gives an output of zeros.
    pub token_counts: Address,
    /// fp32 `[batch][heads][splits][head_dim]`: [`Attention::values_bytes`].
    pub partial_values: Address,
    /// fp32 `[batch][heads][splits][2]`: [`Attention::stats_bytes`].
    pub partial_stats: Address,
}

impl Attention {
    /// Bytes of the partial values.
    pub const fn values_bytes(heads: Heads, batch: u32, splits: u32) -> u64 {
        4 * batch as u64 * heads.heads() as u64 * splits as u64 * heads.variant.head_dim as u64
    }

    /// Bytes of the partial stats.
    pub const fn stats_bytes(heads: Heads, batch: u32, splits: u32) -> u64 {
        8 * batch as u64 * heads.heads() as u64 * splits as u64
    }

    /// The splits' kernel. One split may hold less than 4 GiB of KV (offsets within it are 32 bits).
    pub fn launch(&self) -> Launch {
        Launch {
            kernel: self.heads.variant.kernel,
            grid: [self.heads.kv_heads * self.heads.variant.passes(), self.splits.splits, self.batch],
            block: 128,
            arguments: vec![
                Argument::Pointer(self.q),
                Argument::U32(self.row_stride),
                Argument::Pointer(self.kv_bases),
                Argument::Pointer(self.token_counts),
                Argument::U32(self.splits.least_tokens),
                Argument::Pointer(self.partial_values),
                Argument::Pointer(self.partial_stats),
            ],
        }
    }

    /// The combining kernel, with `[batch][heads][head_dim]` bf16 at `output`.
    pub fn combine_bf16(&self, output: Address) -> Launch {
        self.combine("attention_combine_bf16", output)
    }

    /// The combining kernel, with `[batch][heads][head_dim]` fp32 at `output`.
    pub fn combine_fp32(&self, output: Address) -> Launch {
        self.combine("attention_combine_fp32", output)
    }

    fn combine(&self, kernel: &'static str, output: Address) -> Launch {
        Launch {
            kernel,
            grid: [self.heads.heads(), self.batch, 1],
            block: self.heads.variant.head_dim,
            arguments: vec![
                Argument::Pointer(self.partial_values),
                Argument::Pointer(self.partial_stats),
                Argument::Pointer(self.token_counts),
                Argument::Pointer(output),
                Argument::U32(self.splits.splits),
                Argument::U32(self.splits.least_tokens),
            ],
        }
    }

    /// What both kernels together move, for a bf16 output: q, K, V and the output once each (FlashInfer's convention),
    /// partial results apart; four operations per (query element, token), the exponentials not counted.
    pub fn traffic(heads: Heads, tokens: &[u32], splits: Splits) -> Traffic {
        let total: u64 = tokens.iter().map(|&tokens| u64::from(tokens)).sum();
        let used: u64 = tokens.iter().map(|&tokens| u64::from(splits.used(tokens))).sum();
        let row = u64::from(heads.heads() * heads.variant.head_dim);
        let rows = 2 * row * tokens.len() as u64;
        Traffic {
            read_bytes: rows + total * heads.token_bytes(),
            written_bytes: rows,
            workspace_bytes: 2 * used * (4 * row + 8 * u64::from(heads.heads())),
            flops: 4 * total * row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> Heads {
        Heads::new(32, 8, 128).expect("Llama-3-8B has a kernel")
    }

    #[test]
    fn every_preset_of_the_simulator_has_a_kernel() {
        for preset in orbitflow_sim::model::PRESETS {
            let model = orbitflow_sim::model::preset(preset.name).expect("listed presets exist");
            assert!(Heads::new(model.heads, model.kv_heads, model.head_dim).is_some(), "{}", model.name);
        }
    }

    #[test]
    fn heads_that_do_not_divide_or_have_no_kernel_are_refused() {
        assert_eq!(Heads::new(33, 8, 128), None);
        assert_eq!(Heads::new(32, 0, 128), None);
        assert_eq!(Heads::new(24, 8, 128), None);
    }

    #[test]
    fn a_batch_of_equals_fills_the_device_once() {
        // 16 · 8192 tokens · 8 KV heads over 132 · 4 = 528 slots: 1,986 tokens each; ⌈8192 / 1986⌉ = 5 splits of
        // ⌈8192 / 5⌉ = 1,639 → 1,664 tokens.
        let splits = choose_splits(llama(), &[8192; 16], 132, (9, 0));
        assert_eq!(splits, Splits { splits: 5, least_tokens: 1664 });
    }

    #[test]
    fn one_long_request_among_short_ones_is_cut_finer() {
        let mut tokens = [512; 16];
        tokens[3] = 100_000;
        // (100,000 + 15 · 512) · 8 / 528 = 1,632 tokens per slot: ⌈100,000 / 1,632⌉ = 62 splits.
        let splits = choose_splits(llama(), &tokens, 132, (9, 0));
        assert_eq!(splits.splits, 62);
        assert_eq!(splits.used(512), 1);
    }

    #[test]
    fn splits_cover_every_token_of_every_length() {
        for splits in 1..=9 {
            for least_tokens in [0, 1, 64, 4096] {
                let cut = Splits { splits, least_tokens };
                for tokens in 1..400 {
                    assert!(cut.used(tokens) <= splits, "{cut:?} {tokens}");
                    assert!(cut.length(tokens) * cut.used(tokens) >= tokens, "{cut:?} {tokens}");
                }
            }
        }
    }

    #[test]
    fn attention_bytes_are_kv_and_two_rows() {
        // Two requests of 100 and 28 tokens: 128 · 4096 B of KV; q and the output 32 · 128 · 2 B each per request.
        let cut = Splits { splits: 1, least_tokens: 0 };
        let traffic = Attention::traffic(llama(), &[100, 28], cut);
        assert_eq!(traffic.read_bytes, 128 * 4096 + 2 * 8192);
        assert_eq!(traffic.written_bytes, 2 * 8192);
        assert_eq!(traffic.flops, 4 * 128 * 4096);
        assert_eq!(traffic.workspace_bytes, 2 * 2 * 32 * (128 * 4 + 8));
    }
}
