//! Which kernels a piece of work is, with which threads and arguments. The order of the arguments is that of the sources
//! in `kernels/`; the driver compares their number and sizes with the kernel's own at the first launch of each.
//!
//! Plain data, no call of the driver. Addresses are the GPU's; sizes were checked by `device::sizes`.

use super::driver::{Argument, Shape};
use super::sources::AttentionKernel;
use crate::device::{AttentionWork, DeviceSlice, FillWith, LATCH_LIMIT_S, NormWork, RopeWork};

use Argument::{Address, F32, U32, U64};

/// Added to the mean square: Llama-3's.
const NORM_EPSILON: f32 = 1e-5;
/// Base of the rotary embedding: Llama-3's.
const ROPE_BASE: f64 = 500_000.0;
/// Blocks per multiprocessor of kernels that go through memory: 8 of 256 threads fill one.
const BLOCKS_PER_MULTIPROCESSOR: u32 = 8;
/// Threads of a block of those kernels, and of the gather.
const THREADS: u32 = 256;
const GATHER_THREADS: u32 = 512;
/// Threads of attention's blocks.
const ATTENTION_THREADS: u32 = 128;

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Launch {
    pub(super) kernel: String,
    pub(super) shape: Shape,
    pub(super) arguments: Vec<Argument>,
}

fn launch(kernel: &str, grid: [u32; 3], threads: u32, arguments: Vec<Argument>) -> Launch {
    let shape = Shape { grid, block: [threads, 1, 1], shared_bytes: 0 };
    Launch { kernel: kernel.to_owned(), shape, arguments }
}

/// Blocks of a kernel that goes through `items` items, one per thread.
fn blocks(items: u64, sm_count: u32) -> u32 {
    let most = u64::from(BLOCKS_PER_MULTIPROCESSOR * sm_count);
    items.div_ceil(u64::from(THREADS)).clamp(1, most) as u32
}

/// Bytes of scratch that [`read_only`] needs: a word per warp.
pub(super) const fn read_only_scratch_bytes(sm_count: u32) -> u64 {
    (BLOCKS_PER_MULTIPROCESSOR * sm_count * THREADS / 32 * 4) as u64
}

pub(super) fn empty() -> Launch {
    launch("empty", [1, 1, 1], 32, Vec::new())
}

pub(super) fn spin(seconds: f64) -> Launch {
    launch("spin", [1, 1, 1], 32, vec![U64((seconds * 1e9).round() as u64)])
}

pub(super) fn hold(gate: u64, outcome: u64) -> Launch {
    let limit_ns = (LATCH_LIMIT_S * 1e9) as u64;
    launch("hold", [1, 1, 1], 32, vec![Address(gate), Address(outcome), U64(limit_ns)])
}

/// Words of 16 bytes where the place allows it, so that a fill runs at the memory's full rate.
pub(super) fn fill(address: u64, bytes: u64, with: FillWith, sm_count: u32) -> Launch {
    match with {
        FillWith::Random { seed, scale } => {
            assert!(address.is_multiple_of(8), "Invariant: a random fill begins at a multiple of 8 bytes");
            let arguments = vec![Address(address), U64(bytes / 2), U64(seed), F32(scale)];
            launch("fill_random", [blocks(bytes / 8, sm_count), 1, 1], THREADS, arguments)
        }
        FillWith::Word(word) if address.is_multiple_of(16) && bytes.is_multiple_of(16) => {
            let arguments = vec![Address(address), U64(bytes / 16), U32(word)];
            launch("write_only", [blocks(bytes / 16, sm_count), 1, 1], THREADS, arguments)
        }
        FillWith::Word(word) => {
            assert!(address.is_multiple_of(4), "Invariant: a fill begins at a multiple of 4 bytes");
            let arguments = vec![Address(address), U64(bytes / 4), U32(word)];
            launch("fill_word", [blocks(bytes / 4, sm_count), 1, 1], THREADS, arguments)
        }
    }
}

/// One warp per 4 KiB.
pub(super) fn checksum(of: u64, bytes: u64, into: u64, sm_count: u32) -> Launch {
    assert_words(of);
    let arguments = vec![Address(of), U64(bytes / 16), Address(into)];
    launch("checksum", [blocks(bytes / 4096 * 32, sm_count), 1, 1], THREADS, arguments)
}

/// Reads everything into a word per warp of `scratch`, then folds those into the first word of `into`.
pub(super) fn read_only(of: u64, bytes: u64, scratch: u64, into: u64, sm_count: u32) -> [Launch; 2] {
    assert_words(of);
    let grid = BLOCKS_PER_MULTIPROCESSOR * sm_count;
    let arguments = vec![Address(of), U64(bytes / 16), Address(scratch)];
    let fold = vec![Address(scratch), U64(read_only_scratch_bytes(sm_count) / 16), Address(into)];
    [launch("read_only", [grid, 1, 1], THREADS, arguments), launch("read_only", [1, 1, 1], 32, fold)]
}

/// `list` holds sources, then destinations, then lengths, `pieces` of each.
pub(super) fn gather(list: u64, pieces: u32, thread_blocks: u32) -> Launch {
    let column = 8 * u64::from(pieces);
    let parts = thread_blocks.div_ceil(pieces);
    let arguments =
        vec![Address(list), Address(list + column), Address(list + 2 * column), U32(pieces), U32(parts)];
    launch("gather_copy", [thread_blocks, 1, 1], GATHER_THREADS, arguments)
}

/// Addresses of a norm's slices.
pub(super) struct NormAddresses {
    pub(super) residual: u64,
    pub(super) delta: u64,
    pub(super) weights: u64,
    pub(super) output: u64,
}

pub(super) fn norm(work: &NormWork, at: &NormAddresses) -> Launch {
    assert!(work.width.is_multiple_of(8), "Invariant: a normed row is of whole 16-byte words");
    [at.residual, at.delta, at.weights, at.output].map(assert_words);
    let arguments = vec![
        Address(at.residual),
        Address(at.delta),
        Address(at.weights),
        Address(at.output),
        U32(work.width),
        F32(NORM_EPSILON),
    ];
    launch("rms_norm", [work.rows, 1, 1], 256, arguments)
}

/// A table of KV on the GPU: addresses, then token counts.
#[derive(Clone, Copy)]
pub(super) struct TableAddresses {
    pub(super) bases: u64,
    pub(super) tokens: u64,
}

/// `turns`: of [`rope_turns`], on the GPU.
pub(super) fn rope(work: &RopeWork, qkv: u64, table: TableAddresses, turns: u64) -> Launch {
    let arguments = vec![
        Address(qkv),
        U32(work.shape.qkv_width()),
        Address(table.tokens),
        Address(turns),
        U32(work.shape.head_dim),
    ];
    launch("rope", [work.shape.heads + work.shape.kv_heads, work.batch, 1], 64, arguments)
}

/// Rotation of each pair of elements per position, in units of 2⁻⁶⁴ of a full turn: `base^(−2i / head_dim) / 2π`.
pub(super) fn rope_turns(head_dim: u32) -> Vec<u64> {
    let turn = |i: u32| ROPE_BASE.powf(-2.0 * f64::from(i) / f64::from(head_dim)) / std::f64::consts::TAU;
    (0..head_dim / 2).map(|i| (turn(i) * 2.0_f64.powi(64)).round() as u64).collect()
}

pub(super) fn kv_append(work: &RopeWork, qkv: u64, table: TableAddresses) -> Launch {
    assert_words(qkv);
    let words = |elements: u32| {
        assert!(elements.is_multiple_of(8), "Invariant: a row of KV is of whole 16-byte words");
        elements / 8
    };
    let shape = work.shape;
    let arguments = vec![
        Address(qkv),
        U32(words(shape.qkv_width())),
        U32(words(shape.heads * shape.head_dim)),
        Address(table.bases),
        Address(table.tokens),
        U32(words(shape.kv_heads * shape.head_dim)),
    ];
    launch("kv_append", [work.batch, 1, 1], 256, arguments)
}

pub(super) fn silu_mul(rows: u32, width: u32, gate_up: u64, output: u64) -> Launch {
    assert!(width.is_multiple_of(8), "Invariant: a row of gate and up is of whole 16-byte words");
    [gate_up, output].map(assert_words);
    let words = width / 8;
    let arguments = vec![Address(gate_up), Address(output), U32(words)];
    launch("silu_mul", [words.div_ceil(256), rows, 1], 256, arguments)
}

/// Addresses of attention's slices.
pub(super) struct AttentionAddresses {
    pub(super) qkv: u64,
    pub(super) workspace: u64,
    pub(super) output: u64,
}

/// The split pass and the one that combines. The workspace holds `head_dim` sums per (request, head, split), then
/// largest score and total of each.
pub(super) fn attention(
    kernel: &AttentionKernel,
    work: &AttentionWork,
    at: &AttentionAddresses,
    table: TableAddresses,
) -> [Launch; 2] {
    [at.qkv, at.workspace].map(assert_words);
    let AttentionShape { heads, kv_heads, head_dim } = work.shape;
    let slots = u64::from(work.batch) * u64::from(heads) * u64::from(work.splits);
    let stats = at.workspace + 4 * slots * u64::from(head_dim);
    let least_split = 0; // equal shares, in whole rounds of 32 tokens: what the other backends do
    let split = vec![
        Address(at.qkv),
        U32(work.shape.qkv_width()),
        Address(table.bases),
        Address(table.tokens),
        U32(least_split),
        Address(at.workspace),
        Address(stats),
    ];
    let combine = vec![
        Address(at.workspace),
        Address(stats),
        Address(table.tokens),
        Address(at.output),
        U32(work.splits),
        U32(least_split),
    ];
    [
        launch(&kernel.name, [kv_heads * kernel.passes, work.splits, work.batch], ATTENTION_THREADS, split),
        launch("attention_combine_bf16", [heads, work.batch, 1], head_dim, combine),
    ]
}

use crate::device::AttentionShape;

fn assert_words(address: u64) {
    assert!(address.is_multiple_of(16), "Invariant: kernels read 16-byte words from multiples of 16 bytes");
}

/// Panics unless every piece can be moved in words of 16 bytes.
pub(super) fn assert_gatherable(host: u64, device: u64) {
    [host, device].map(assert_words);
}

/// Whether a slice begins where kernels can read words of 16 bytes, given where its buffer begins.
pub(super) fn address(base: u64, slice: DeviceSlice) -> u64 {
    base + slice.offset()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_of_the_first_pair_is_one_radian() {
        let turns = rope_turns(128);
        assert_eq!(turns.len(), 64);
        let radians = turns[0] as f64 / 2.0_f64.powi(64) * std::f64::consts::TAU;
        assert!((radians - 1.0).abs() < 1e-15, "{radians}"); // base^0
        let last = turns[63] as f64 / 2.0_f64.powi(64) * std::f64::consts::TAU;
        let expected = 500_000.0_f64.powf(-126.0 / 128.0);
        assert!((last / expected - 1.0).abs() < 1e-12, "{last} {expected}");
    }

    #[test]
    fn one_large_piece_is_cut_for_all_blocks_and_many_small_ones_are_not() {
        let cut = |pieces, thread_blocks| gather(0, pieces, thread_blocks).arguments[4];
        assert_eq!(cut(1, 32), U32(32));
        assert_eq!(cut(10, 32), U32(4)); // 10 · 4 runs for 32 blocks
        assert_eq!(cut(4096, 8), U32(1));
    }

    #[test]
    fn a_fill_of_whole_words_takes_the_wide_kernel() {
        assert_eq!(fill(256, 64, FillWith::Word(1), 2).kernel, "write_only");
        assert_eq!(fill(256, 68, FillWith::Word(1), 2).kernel, "fill_word");
        assert_eq!(fill(256, 1 << 30, FillWith::Word(1), 2).shape.grid, [16, 1, 1]); // 8 · 2
    }
}
