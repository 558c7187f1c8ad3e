//! Whether the slices of a piece of work are as long as its shape says. A wrong size is a bug of the caller: it panics
//! where the work is submitted, on every backend that asks here, and not in a worker or on a GPU.

use super::{AttentionShape, AttentionWork, DeviceSlice, GemmWork, KvRow, KvTable, NormWork, RopeWork, Work};

/// Bytes of a checksum, and of the data it is of.
const CHECKSUM_BYTES: u64 = 8;
const CHECKSUM_OF: u64 = 4096;

/// Panics unless every slice of `work` holds what its shape needs. `rows` are those of its table, if it has one.
pub(super) fn assert_sizes(work: &Work, rows: &[KvRow]) {
    match work {
        Work::Empty => {}
        Work::Spin { seconds } => {
            let plausible = (0.0..=60.0).contains(seconds);
            assert!(plausible, "Invariant: a spin lasts 0 to 60 s, not {seconds} s");
        }
        Work::Fill { to, .. } => {
            assert!(
                to.bytes().is_multiple_of(4),
                "Invariant: a fill is of whole words, not {} bytes",
                to.bytes()
            );
        }
        Work::Checksum { of, into } => {
            assert!(of.bytes().is_multiple_of(CHECKSUM_OF), "Invariant: checksums are of whole 4 KiB");
            holds("checksums", *into, of.bytes() / CHECKSUM_OF * CHECKSUM_BYTES);
        }
        Work::ReadOnly { of, into } => {
            assert!(of.bytes().is_multiple_of(16), "Invariant: a read is of whole 16-byte words");
            holds("the result of a read", *into, 8);
        }
        Work::DeviceCopy { from, to } => {
            assert!(to.bytes() == from.bytes(), "Invariant: a copy's two sides are as long as each other");
        }
        Work::Gemm(gemm) => assert_gemm(gemm),
        Work::Norm(norm) => assert_norm(norm),
        Work::Rope(rope) | Work::KvAppend(rope) => assert_rope(rope, rows),
        Work::Attention(attention) => assert_attention(attention, rows),
        Work::SiluMul { rows, width, gate_up, output } => {
            let elements = u64::from(*rows) * u64::from(*width);
            holds("gate and up", *gate_up, 4 * elements);
            holds("the activation", *output, 2 * elements);
        }
    }
}

/// The table that a piece of work uses.
pub(super) fn table_of(work: &Work) -> Option<KvTable> {
    match work {
        Work::Rope(rope) | Work::KvAppend(rope) => Some(rope.table),
        Work::Attention(attention) => Some(attention.table),
        _ => None,
    }
}

/// Panics unless each request has a token and whole blocks for all of them: what every backend asks of a table.
pub(super) fn assert_rows(rows: &[KvRow]) {
    for KvRow { kv, tokens } in rows {
        assert!(*tokens > 0, "Invariant: a request has at least one context token");
        assert!(kv.bytes() > 0, "Invariant: a request's KV has a place");
    }
}

fn holds(what: &str, slice: DeviceSlice, bytes: u64) {
    assert!(slice.bytes() >= bytes, "Invariant: {what} takes {bytes} bytes, not {}", slice.bytes());
}

fn assert_gemm(gemm: &GemmWork) {
    let (rows, out, inner) = (u64::from(gemm.rows), u64::from(gemm.out), u64::from(gemm.inner));
    holds("the weights of a product", gemm.weights, 2 * out * inner);
    holds("the input of a product", gemm.input, 2 * rows * inner);
    holds("the output of a product", gemm.output, 2 * rows * out);
}

fn assert_norm(norm: &NormWork) {
    let row = 2 * u64::from(norm.width);
    let all = u64::from(norm.rows) * row;
    holds("the residual", norm.residual, all);
    holds("the norm's weights", norm.weights, row);
    holds("the norm's output", norm.output, all);
    if let Some(delta) = norm.delta {
        holds("what is added to the residual", delta, all);
    }
}

fn assert_rope(rope: &RopeWork, rows: &[KvRow]) {
    assert_table(rope.shape, rope.batch, rope.qkv, rows);
}

fn assert_attention(attention: &AttentionWork, rows: &[KvRow]) {
    let AttentionWork { shape, batch, splits, .. } = *attention;
    assert_table(shape, batch, attention.qkv, rows);
    assert!(splits > 0, "Invariant: attention has at least one split");
    let partial = AttentionWork::workspace_bytes(shape, batch, splits);
    holds("attention's workspace", attention.workspace, partial);
    holds("attention's output", attention.output, 2 * u64::from(batch * shape.heads * shape.head_dim));
    let total: u64 = rows.iter().map(|row| u64::from(row.tokens)).sum();
    assert!(total == attention.total_tokens, "Invariant: the table has {total} tokens");
    let most = rows.iter().map(|row| row.tokens).max().unwrap_or(0);
    assert!(most <= attention.most_tokens, "Invariant: a request of the table has {most} tokens");
}

fn assert_table(shape: AttentionShape, batch: u32, qkv: DeviceSlice, rows: &[KvRow]) {
    assert!(rows.len() == batch as usize, "Invariant: the table has a row for each of {batch} requests");
    assert!(
        shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads),
        "Invariant: heads share KV heads"
    );
    holds("q, k and v", qkv, 2 * u64::from(batch) * u64::from(shape.qkv_width()));
    for row in rows {
        let needed = u64::from(row.tokens.div_ceil(16)) * shape.block_bytes();
        let have = row.kv.bytes();
        assert!(have >= needed, "Invariant: KV of {} tokens takes {needed} bytes, not {have}", row.tokens);
    }
}
