//! Launches of the kernels that time, fill, read, check and copy memory. It knows bytes, not tensors.

use super::launch::{Address, Argument, Launch, Traffic, grid_stride};

/// Bytes one checksum stands for.
pub const CHECKSUM_CHUNK_BYTES: u64 = 4096;

/// What [`hold`] writes when the host let go.
pub const HOLD_RELEASED: u32 = 1;

/// What [`hold`] writes when its limit passed first.
pub const HOLD_RAN_OUT: u32 = 2;

/// Waits until the 32-bit word at `gate` (mapped host memory) is not zero, at most `limit_ns`; then writes
/// [`HOLD_RELEASED`] or [`HOLD_RAN_OUT`] to the 32-bit word at `outcome`.
pub fn hold(gate: Address, outcome: Address, limit_ns: u64) -> Launch {
    let arguments = vec![Argument::Pointer(gate), Argument::Pointer(outcome), Argument::U64(limit_ns)];
    Launch { kernel: "hold", grid: [1; 3], block: 32, arguments }
}

/// Is busy for `duration_ns` of the global timer, whose step is 32 ns to about 1 µs.
pub fn spin(duration_ns: u64) -> Launch {
    Launch { kernel: "spin", grid: [1; 3], block: 32, arguments: vec![Argument::U64(duration_ns)] }
}

/// Does nothing.
pub fn empty() -> Launch {
    Launch { kernel: "empty", grid: [1; 3], block: 32, arguments: Vec::new() }
}

/// Writes `count` bf16 of [`super::reference::random_bf16`] to `out` (8-byte aligned).
pub fn fill_random(out: Address, count: u64, seed: u64, scale: f32, sm_count: u32) -> Launch {
    let arguments =
        vec![Argument::Pointer(out), Argument::U64(count), Argument::U64(seed), Argument::F32(scale)];
    let blocks = grid_stride(count.div_ceil(4), 256, sm_count, 8);
    Launch { kernel: "fill_random", grid: [blocks, 1, 1], block: 256, arguments }
}

/// Writes `count` copies of a 32-bit word to `out`.
pub fn fill_word(out: Address, count: u64, word: u32, sm_count: u32) -> Launch {
    let arguments = vec![Argument::Pointer(out), Argument::U64(count), Argument::U32(word)];
    Launch { kernel: "fill_word", grid: [grid_stride(count, 256, sm_count, 8), 1, 1], block: 256, arguments }
}

/// Writes one `u64` of [`super::reference::checksums`] per 4 KiB of `data` to `sums`. `bytes` is a multiple of 16.
pub fn checksum(data: Address, bytes: u64, sums: Address, sm_count: u32) -> Launch {
    assert!(bytes.is_multiple_of(16), "Invariant: {bytes} bytes are whole 16-byte words");
    let warps = bytes.div_ceil(CHECKSUM_CHUNK_BYTES);
    let arguments = vec![Argument::Pointer(data), Argument::U64(bytes / 16), Argument::Pointer(sums)];
    Launch {
        kernel: "checksum",
        grid: [grid_stride(warps * 32, 256, sm_count, 4), 1, 1],
        block: 256,
        arguments,
    }
}

/// Reads `bytes` (a multiple of 16) at `data` and folds the xor of their 32-bit words into the word at `sink`.
pub fn read_only(data: Address, bytes: u64, sink: Address, sm_count: u32) -> Launch {
    assert!(bytes.is_multiple_of(16), "Invariant: {bytes} bytes are whole 16-byte words");
    let arguments = vec![Argument::Pointer(data), Argument::U64(bytes / 16), Argument::Pointer(sink)];
    Launch {
        kernel: "read_only",
        grid: [grid_stride(bytes / 16, 256, sm_count, 8), 1, 1],
        block: 256,
        arguments,
    }
}

/// Writes `bytes` (a multiple of 16) at `out`, all the same 32-bit word.
pub fn write_only(out: Address, bytes: u64, word: u32, sm_count: u32) -> Launch {
    assert!(bytes.is_multiple_of(16), "Invariant: {bytes} bytes are whole 16-byte words");
    let arguments = vec![Argument::Pointer(out), Argument::U64(bytes / 16), Argument::U32(word)];
    Launch {
        kernel: "write_only",
        grid: [grid_stride(bytes / 16, 256, sm_count, 8), 1, 1],
        block: 256,
        arguments,
    }
}

/// Copies pieces through registers, between device and mapped host memory in either direction.
#[derive(Clone, Copy, Debug)]
pub struct GatherCopy {
    /// `u64[pieces]`: where each piece comes from, 16-byte aligned.
    pub sources: Address,
    /// `u64[pieces]`: where it goes, 16-byte aligned.
    pub destinations: Address,
    /// `u64[pieces]`: its bytes.
    pub lengths: Address,
    /// Pieces.
    pub pieces: u32,
    /// Runs each piece is cut into: [`gather_parts`].
    pub parts: u32,
    /// Thread blocks that copy, of 512 threads with 64 KiB in flight each.
    pub blocks: u32,
}

impl GatherCopy {
    /// The launch.
    pub fn launch(&self) -> Launch {
        Launch {
            kernel: "gather_copy",
            grid: [self.blocks.max(1), 1, 1],
            block: 512,
            arguments: vec![
                Argument::Pointer(self.sources),
                Argument::Pointer(self.destinations),
                Argument::Pointer(self.lengths),
                Argument::U32(self.pieces),
                Argument::U32(self.parts.max(1)),
            ],
        }
    }
}

/// Into how many runs to cut pieces of about `piece_bytes`: one when there are four pieces or more per block, otherwise
/// enough that there are four runs per block, but no run under 64 KiB (what a block keeps in flight).
pub fn gather_parts(pieces: u32, piece_bytes: u64, blocks: u32) -> u32 {
    let even = (4 * u64::from(blocks.max(1))).div_ceil(u64::from(pieces.max(1)));
    u32::try_from(even.min((piece_bytes / 65_536).max(1))).unwrap_or(u32::MAX)
}

/// What a fill moves: `bytes` written.
pub const fn write_traffic(bytes: u64) -> Traffic {
    Traffic { read_bytes: 0, written_bytes: bytes, workspace_bytes: 0, flops: 0 }
}

/// What a read or a checksum moves: `bytes` read; the few bytes of result are not counted.
pub const fn read_traffic(bytes: u64) -> Traffic {
    Traffic { read_bytes: bytes, written_bytes: 0, workspace_bytes: 0, flops: 0 }
}

/// What a copy moves: `bytes` read and `bytes` written. A link's rate is made from `written_bytes` alone.
pub const fn copy_traffic(bytes: u64) -> Traffic {
    Traffic { read_bytes: bytes, written_bytes: bytes, workspace_bytes: 0, flops: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_large_piece_is_cut_for_all_blocks_and_many_small_ones_are_not() {
        assert_eq!(gather_parts(1, 8 << 20, 32), 128);
        assert_eq!(gather_parts(256, 32 << 10, 32), 1);
        assert_eq!(gather_parts(16, 64 << 10, 32), 1);
        // 16 pieces of 1 MiB over 32 blocks: 8 runs each give 128 runs, four per block.
        assert_eq!(gather_parts(16, 1 << 20, 32), 8);
    }
}
