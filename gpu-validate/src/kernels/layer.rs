//! Launches of a decode layer's small kernels: norm, rotary embedding, KV append and activation. Shapes in, launches
//! and traffic out; it knows no model.

use super::attention::Heads;
use super::launch::{Address, Argument, Launch, Traffic};

/// Tokens of a KV block.
pub const TOKENS_PER_BLOCK: u32 = 16;

/// Where, in the buffer of one (request, layer), the K row and the V row of a token begin, in bytes. Each is
/// `kv_heads · head_dim · 2` bytes long: the two pieces of a new token's write-back.
pub const fn kv_row_offsets(heads: Heads, token: u32) -> (u64, u64) {
    let row = heads.token_bytes() / 2;
    let (block, slot) = (token / TOKENS_PER_BLOCK, token % TOKENS_PER_BLOCK);
    let key = (block as u64 * 2 * TOKENS_PER_BLOCK as u64 + slot as u64) * row;
    (key, key + TOKENS_PER_BLOCK as u64 * row)
}

/// `residual += delta` where there is one, `output = residual / rms(residual) · weight`; one block per row.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// Rows.
    pub rows: u32,
    /// Elements of a row, a multiple of 8.
    pub hidden: u32,
    /// bf16 `[rows][hidden]`, updated in place when there is a delta.
    pub residual: Address,
    /// bf16 `[rows][hidden]`.
    pub delta: Option<Address>,
    /// bf16 `[hidden]`.
    pub weight: Address,
    /// bf16 `[rows][hidden]`.
    pub output: Address,
    /// Added to the mean square.
    pub epsilon: f32,
}

impl RmsNorm {
    /// The launch.
    pub fn launch(&self) -> Launch {
        assert!(
            self.hidden.is_multiple_of(8),
            "Invariant: a row of {} elements is whole 16-byte words",
            self.hidden
        );
        Launch {
            kernel: "rms_norm",
            grid: [self.rows, 1, 1],
            block: 256,
            arguments: vec![
                Argument::Pointer(self.residual),
                Argument::Pointer(self.delta.unwrap_or(0)),
                Argument::Pointer(self.weight),
                Argument::Pointer(self.output),
                Argument::U32(self.hidden),
                Argument::F32(self.epsilon),
            ],
        }
    }

    /// What it moves: residual, delta and weight in; output and, with a delta, residual out.
    pub fn traffic(&self) -> Traffic {
        let matrix = 2 * u64::from(self.rows) * u64::from(self.hidden);
        let matrices = if self.delta.is_some() { 2 } else { 1 };
        Traffic {
            read_bytes: matrices * matrix + 2 * u64::from(self.hidden),
            written_bytes: matrices * matrix,
            workspace_bytes: 0,
            flops: matrix / 2 * (3 + matrices),
        }
    }
}

/// The rotation of each pair (i, i + head_dim / 2) per position, in 2⁻⁶⁴ of a full turn: `θ^(−2i/head_dim) / 2π`.
/// Positions multiply it modulo 2⁶⁴, so only the fraction of a turn is kept and long contexts lose no precision.
pub fn rope_turns(head_dim: u32, theta: f64) -> Vec<u64> {
    let turn = 18_446_744_073_709_551_616.0 / std::f64::consts::TAU;
    (0..head_dim / 2)
        .map(|i| {
            let exponent = -2.0 * f64::from(i) / f64::from(head_dim);
            (theta.powf(exponent) * turn) as u64
        })
        .collect()
}

/// Rotary embedding of q and k of qkv rows, in place, at position tokens − 1.
#[derive(Clone, Copy, Debug)]
pub struct Rope {
    /// The layer's heads.
    pub heads: Heads,
    /// Requests.
    pub batch: u32,
    /// bf16 `[batch][row_stride]`: q, then k, then v.
    pub qkv: Address,
    /// Elements from one row to the next.
    pub row_stride: u32,
    /// `u32[batch]`.
    pub token_counts: Address,
    /// `u64[head_dim / 2]`: [`rope_turns`].
    pub turns: Address,
}

impl Rope {
    /// The launch.
    pub fn launch(&self) -> Launch {
        Launch {
            kernel: "rope",
            grid: [self.heads.heads() + self.heads.kv_heads, self.batch, 1],
            block: 64,
            arguments: vec![
                Argument::Pointer(self.qkv),
                Argument::U32(self.row_stride),
                Argument::Pointer(self.token_counts),
                Argument::Pointer(self.turns),
                Argument::U32(self.heads.variant.head_dim),
            ],
        }
    }

    /// What it moves: q and k in and out, six operations per pair.
    pub fn traffic(&self) -> Traffic {
        let heads = u64::from(self.heads.heads() + self.heads.kv_heads);
        let elements = u64::from(self.batch) * heads * u64::from(self.heads.variant.head_dim);
        Traffic {
            read_bytes: 2 * elements,
            written_bytes: 2 * elements,
            workspace_bytes: 0,
            flops: 3 * elements,
        }
    }
}

/// Writes the newest token's K and V from qkv rows to token tokens − 1 of each request's KV.
#[derive(Clone, Copy, Debug)]
pub struct KvAppend {
    /// The layer's heads.
    pub heads: Heads,
    /// Requests.
    pub batch: u32,
    /// bf16 `[batch][row_stride]`: q, then k, then v.
    pub qkv: Address,
    /// Elements from one row to the next, a multiple of 8.
    pub row_stride: u32,
    /// `u64[batch]`.
    pub kv_bases: Address,
    /// `u32[batch]`.
    pub token_counts: Address,
}

impl KvAppend {
    /// The launch.
    pub fn launch(&self) -> Launch {
        assert!(
            self.row_stride.is_multiple_of(8),
            "Invariant: a stride of {} is whole words",
            self.row_stride
        );
        let words = self.heads.variant.head_dim / 8;
        Launch {
            kernel: "kv_append",
            grid: [self.batch, 1, 1],
            block: 256,
            arguments: vec![
                Argument::Pointer(self.qkv),
                Argument::U32(self.row_stride / 8),
                Argument::U32(self.heads.heads() * words),
                Argument::Pointer(self.kv_bases),
                Argument::Pointer(self.token_counts),
                Argument::U32(self.heads.kv_heads * words),
            ],
        }
    }

    /// What it moves: one token's K and V per request, in and out.
    pub fn traffic(&self) -> Traffic {
        let bytes = u64::from(self.batch) * self.heads.token_bytes();
        Traffic { read_bytes: bytes, written_bytes: bytes, ..Traffic::default() }
    }
}

/// `output = silu(gate) · up` over rows of `[gate | up]`.
#[derive(Clone, Copy, Debug)]
pub struct SiluMul {
    /// Rows.
    pub rows: u32,
    /// Elements of gate, of up and of an output row, a multiple of 8.
    pub width: u32,
    /// bf16 `[rows][2 · width]`.
    pub gate_up: Address,
    /// bf16 `[rows][width]`.
    pub output: Address,
}

impl SiluMul {
    /// The launch.
    pub fn launch(&self) -> Launch {
        assert!(
            self.width.is_multiple_of(8),
            "Invariant: a row of {} elements is whole 16-byte words",
            self.width
        );
        let words = self.width / 8;
        Launch {
            kernel: "silu_mul",
            grid: [words.div_ceil(256), self.rows, 1],
            block: 256,
            arguments: vec![
                Argument::Pointer(self.gate_up),
                Argument::Pointer(self.output),
                Argument::U32(words),
            ],
        }
    }

    /// What it moves: two rows in, one out; an exponential, a division and two more operations per element.
    pub fn traffic(&self) -> Traffic {
        let elements = u64::from(self.rows) * u64::from(self.width);
        Traffic {
            read_bytes: 4 * elements,
            written_bytes: 2 * elements,
            workspace_bytes: 0,
            flops: 4 * elements,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_rows_lie_half_a_block_apart() {
        // Llama-3-8B: rows of 2,048 B, blocks of 64 KiB. Token 17 is slot 1 of block 1.
        let heads = Heads::new(32, 8, 128).expect("Llama-3-8B has a kernel");
        assert_eq!(kv_row_offsets(heads, 17), (65_536 + 2048, 65_536 + 32_768 + 2048));
    }

    #[test]
    fn the_first_pair_turns_by_one_radian_per_position() {
        let turns = rope_turns(128, 500_000.0);
        // 2^64 / 2π = 2.9359e18.
        assert!((turns[0] as f64 / 2.935_890e18 - 1.0).abs() < 1e-5);
        assert_eq!(turns.len(), 64);
        assert!(turns.is_sorted_by(|a, b| a > b));
    }
}
