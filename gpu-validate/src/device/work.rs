//! What a device can be asked to run, as data. bf16 everywhere unless a line says otherwise; rows are contiguous.
//!
//! The KV of one request in one layer is one contiguous buffer of blocks of 16 tokens; a block is K as
//! `[16][kv_heads][head_dim]`, then V likewise: 64 KiB for Llama-3-8B (design §3.1).

use super::{DeviceBuffer, DeviceSlice, HostBuffer, KvTable};

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Host to device.
    H2d,
    /// Device to host.
    D2h,
}

impl Direction {
    /// The word used in files.
    pub const fn key(self) -> &'static str {
        match self {
            Direction::H2d => "h2d",
            Direction::D2h => "d2h",
        }
    }
}

/// How copies are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyApi {
    /// One asynchronous copy call per piece.
    Async,
    /// One batch call for up to 4,096 pieces (`cuMemcpyBatchAsync`).
    Batch,
    /// The same with the driver's hint to overlap with compute.
    BatchOverlap,
    /// A kernel of `blocks` thread blocks that reads or writes host memory.
    SmGather {
        /// Thread blocks.
        blocks: u32,
    },
}

impl CopyApi {
    /// The word used in files.
    pub fn key(self) -> String {
        match self {
            CopyApi::Async => "async".to_owned(),
            CopyApi::Batch => "batch".to_owned(),
            CopyApi::BatchOverlap => "batch+overlap".to_owned(),
            CopyApi::SmGather { blocks } => format!("sm_gather:{blocks}"),
        }
    }
}

/// One piece of a copy; offsets in bytes within the two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyPiece {
    /// In the host buffer.
    pub host_offset: u64,
    /// In the device buffer.
    pub device_offset: u64,
    /// Size, above 0.
    pub bytes: u64,
}

/// Copies between a host and a device buffer.
#[derive(Clone, Copy, Debug)]
pub struct CopyWork<'a> {
    /// Which way.
    pub direction: Direction,
    /// How they are submitted.
    pub api: CopyApi,
    /// The host side.
    pub host: HostBuffer,
    /// The device side.
    pub device: DeviceBuffer,
    /// At least one piece; each lies within both buffers.
    pub pieces: &'a [CopyPiece],
}

impl CopyWork<'_> {
    /// Bytes of all pieces.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Panics unless every piece lies within both buffers: backends call it before they touch memory.
    pub fn assert_inside(&self) {
        assert!(!self.pieces.is_empty(), "Invariant: a copy has at least one piece");
        for piece in self.pieces {
            let _ = self.host.slice(piece.host_offset, piece.bytes);
            let _ = self.device.slice(piece.device_offset, piece.bytes);
        }
    }
}

/// What a fill writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FillWith {
    /// bf16 values, about uniform in ±`scale`, from a counter-based generator: a function of (seed, index) alone, the
    /// same on every backend.
    Random {
        /// Of the generator.
        seed: u64,
        /// Largest magnitude.
        scale: f32,
    },
    /// A word again and again, for example the poison `0x7fc0_7fc0` (two bf16 NaNs).
    Word(u32),
}

/// Poison for outputs and slots: every bf16 and every fp32 of it is NaN.
pub const POISON: FillWith = FillWith::Word(0x7fc0_7fc0);

/// Heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements per head.
    pub head_dim: u32,
}

impl AttentionShape {
    /// Query heads per KV head.
    pub const fn group(self) -> u32 {
        self.heads / self.kv_heads
    }

    /// Elements of one row of q, k and v together.
    pub const fn qkv_width(self) -> u32 {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// K and V of one token.
    pub const fn kv_bytes_per_token(self) -> u64 {
        4 * self.kv_heads as u64 * self.head_dim as u64
    }

    /// K and V of one block of 16 tokens.
    pub const fn block_bytes(self) -> u64 {
        16 * self.kv_bytes_per_token()
    }
}

/// Where one request's KV of one layer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvRow {
    /// Whole blocks, at least `tokens` tokens.
    pub kv: DeviceSlice,
    /// Context tokens, the one being written included; at least 1.
    pub tokens: u32,
}

/// Decode attention of one layer: one query row per request over that request's KV.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionWork {
    /// Heads.
    pub shape: AttentionShape,
    /// Requests: rows of `qkv`, of `output` and of the table.
    pub batch: u32,
    /// The most tokens of any request in the table.
    pub most_tokens: u32,
    /// Σ tokens of all requests in the table.
    pub total_tokens: u64,
    /// Rows of [`AttentionShape::qkv_width`] elements: q, then k, then v.
    pub qkv: DeviceSlice,
    /// KV of each request.
    pub table: KvTable,
    /// Into how many parts each request's context is cut, at least 1. Equal splits give bit-equal results.
    pub splits: u32,
    /// Partial results: [`AttentionWork::workspace_bytes`].
    pub workspace: DeviceSlice,
    /// Rows of `heads · head_dim` elements.
    pub output: DeviceSlice,
}

impl AttentionWork {
    /// Partial results, fp32: per request, head and split `head_dim` sums, a maximum and a total.
    pub const fn workspace_bytes(shape: AttentionShape, batch: u32, splits: u32) -> u64 {
        4 * batch as u64 * shape.heads as u64 * splits as u64 * (shape.head_dim as u64 + 2)
    }
}

/// `output[rows][out] = input[rows][inner] · weights[out][inner]ᵀ`, fp32 accumulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GemmWork {
    /// Rows: requests, or prompt tokens.
    pub rows: u32,
    /// Columns of the output.
    pub out: u32,
    /// Columns of the input.
    pub inner: u32,
    /// `out · inner` elements.
    pub weights: DeviceSlice,
    /// `rows · inner` elements.
    pub input: DeviceSlice,
    /// `rows · out` elements.
    pub output: DeviceSlice,
}

/// `residual += delta` (where there is one), then `output = residual / rms(residual) · weights`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormWork {
    /// Rows.
    pub rows: u32,
    /// Elements of a row.
    pub width: u32,
    /// `rows · width` elements, updated.
    pub residual: DeviceSlice,
    /// `rows · width` elements.
    pub delta: Option<DeviceSlice>,
    /// `width` elements.
    pub weights: DeviceSlice,
    /// `rows · width` elements.
    pub output: DeviceSlice,
}

/// Rotary embedding of q and k in place, at position `tokens − 1` of each request of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeWork {
    /// Heads.
    pub shape: AttentionShape,
    /// Requests.
    pub batch: u32,
    /// Rows of q, k and v.
    pub qkv: DeviceSlice,
    /// Positions.
    pub table: KvTable,
}

/// A kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Does nothing.
    Empty,
    /// Is busy for `seconds`.
    Spin {
        /// How long.
        seconds: f64,
    },
    /// Writes all of `to`.
    Fill {
        /// Where; a multiple of 4 bytes.
        to: DeviceSlice,
        /// What.
        with: FillWith,
    },
    /// One `u64` per 4 KiB of `of` into `into`; sensitive to position.
    Checksum {
        /// A multiple of 4 KiB.
        of: DeviceSlice,
        /// 8 bytes per 4 KiB.
        into: DeviceSlice,
    },
    /// Reads all of `of` and writes almost nothing.
    ReadOnly {
        /// What is read.
        of: DeviceSlice,
        /// 8 bytes.
        into: DeviceSlice,
    },
    /// Copies within the device, at full width.
    DeviceCopy {
        /// From.
        from: DeviceSlice,
        /// To, as long.
        to: DeviceSlice,
    },
    /// A matrix product.
    Gemm(GemmWork),
    /// Residual and norm.
    Norm(NormWork),
    /// Rotary embedding.
    Rope(RopeWork),
    /// Writes k and v of each row of `qkv` to place `tokens − 1` of each request's KV.
    KvAppend(RopeWork),
    /// Attention: the split pass and the combining one.
    Attention(AttentionWork),
    /// `output = silu(gate) · up` over rows of `[gate | up]`.
    SiluMul {
        /// Rows.
        rows: u32,
        /// Elements of gate, of up, and of an output row.
        width: u32,
        /// `rows · 2 · width` elements.
        gate_up: DeviceSlice,
        /// `rows · width` elements.
        output: DeviceSlice,
    },
}
