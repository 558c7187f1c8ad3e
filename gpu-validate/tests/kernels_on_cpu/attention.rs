//! Attention against fp64: every kernel, ragged and short contexts, more splits than tokens, and a broken mask.

use gpu_validate::kernels::attention::{Attention, Heads, Splits, VARIANTS};
use gpu_validate::kernels::layer::kv_row_offsets;
use gpu_validate::kernels::reference::{self, from_bf16, random_bf16, relative_error};

use crate::shim::{Program, Shim};

/// The bound of `gpu-measurement.md` §4.3 for fp32 output.
const BOUND: f64 = 2e-3;
/// What fp32 accumulation should reach ("expected 1e-6 to 1e-5", same place).
const EXPECTED: f64 = 1e-5;

fn random(seed: u64, count: usize) -> Vec<u16> {
    (0..count as u64).map(|i| random_bf16(seed, i, 3.0)).collect()
}

/// One request's KV in whole blocks; rows past its tokens are NaN, so reading one shows.
fn kv_buffer(heads: Heads, tokens: u32, seed: u64) -> Vec<u8> {
    let row = heads.token_bytes() as usize / 4;
    let blocks = tokens.div_ceil(16) as usize;
    let mut kv: Vec<u8> =
        [0xc0, 0x7f].into_iter().cycle().take(blocks * 16 * heads.token_bytes() as usize).collect();
    for token in 0..tokens {
        let (key, value) = kv_row_offsets(heads, token);
        let elements = random(seed + u64::from(token), 2 * row);
        for (offset, row) in [(key, &elements[..row]), (value, &elements[row..])] {
            for (i, element) in row.iter().enumerate() {
                let at = offset as usize + 2 * i;
                kv[at..at + 2].copy_from_slice(&element.to_le_bytes());
            }
        }
    }
    kv
}

/// The worst relative error of any request's (fp32, bf16) output.
fn worst_errors(shim: &Shim, heads: Heads, tokens: &[u32], splits: Splits) -> (f64, f64) {
    let batch = tokens.len() as u32;
    let row = (heads.heads() * heads.variant.head_dim) as usize;
    // Rows are longer than q, as in a qkv row.
    let stride = heads.qkv_width() as usize;
    let qkv = random(1, stride * tokens.len());
    let buffers: Vec<Vec<u8>> = tokens
        .iter()
        .enumerate()
        .map(|(i, &count)| kv_buffer(heads, count, 1_000_000 * (i as u64 + 1)))
        .collect();

    let mut program = Program::default();
    let bases: Vec<_> = buffers.iter().map(|buffer| program.bytes(buffer.clone())).collect();
    let attention = Attention {
        heads,
        batch,
        splits,
        q: program.bf16(&qkv),
        row_stride: stride as u32,
        kv_bases: program.addresses(&bases),
        token_counts: program.words(tokens),
        partial_values: program.poison(Attention::values_bytes(heads, batch, splits.splits)),
        partial_stats: program.poison(Attention::stats_bytes(heads, batch, splits.splits)),
    };
    let fp32 = program.poison(4 * row as u64 * u64::from(batch));
    let bf16 = program.poison(2 * row as u64 * u64::from(batch));
    program.launch(attention.launch());
    program.launch(attention.combine_fp32(fp32));
    program.launch(attention.combine_bf16(bf16));
    let results = program.run(shim);
    let got = results.fp32(fp32);
    let rounded: Vec<f64> = results.bf16(bf16).into_iter().map(|bits| f64::from(from_bf16(bits))).collect();

    let mut worst = (0.0, 0.0);
    for (i, &count) in tokens.iter().enumerate() {
        let expected = reference::attention(heads, &qkv[i * stride..i * stride + row], &buffers[i], count);
        let rows = i * row..(i + 1) * row;
        // A NaN becomes infinite, so that the larger of two errors is never the finite one.
        let error = |got: &[f64]| {
            Some(relative_error(got, &expected)).filter(|e| !e.is_nan()).unwrap_or(f64::INFINITY)
        };
        worst = (f64::max(worst.0, error(&got[rows.clone()])), f64::max(worst.1, error(&rounded[rows])));
    }
    worst
}

fn assert_right(shim: &Shim, heads: Heads, tokens: &[u32], splits: Splits) {
    let (fp32, bf16) = worst_errors(shim, heads, tokens, splits);
    println!("{} tokens {tokens:?} {splits:?}: fp32 {fp32:.1e}, bf16 {bf16:.1e}", heads.variant.kernel);
    assert!(
        fp32 <= EXPECTED,
        "{} {tokens:?} {splits:?}: {fp32:e}, at most {EXPECTED:e}",
        heads.variant.kernel
    );
    assert!(bf16 <= 1e-2, "{} {tokens:?} {splits:?}: {bf16:e}, at most 1e-2", heads.variant.kernel);
}

#[test]
fn every_attention_kernel_is_right_on_a_ragged_batch_of_short_contexts() {
    let Some(shim) = Shim::get() else { return };
    for variant in VARIANTS {
        let heads = Heads { kv_heads: 2, variant };
        assert_right(shim, heads, &[1, 15, 16, 17, 0, 33, 300], Splits { splits: 3, least_tokens: 0 });
    }
}

#[test]
fn every_128_wide_kernel_is_right_on_long_contexts() {
    let Some(shim) = Shim::get() else { return };
    for variant in VARIANTS.into_iter().filter(|variant| variant.head_dim == 128 && variant.group <= 8) {
        let heads = Heads { kv_heads: 1, variant };
        assert_right(shim, heads, &[8193, 4095, 17], Splits { splits: 5, least_tokens: 512 });
    }
}

#[test]
fn any_number_of_splits_gives_the_same_attention_even_more_than_there_are_tokens() {
    let Some(shim) = Shim::get() else { return };
    let heads = Heads::new(8, 2, 128).expect("four query heads per KV head have a kernel");
    for splits in [1, 2, 7, 64] {
        for least_tokens in [0, 32, 4096] {
            assert_right(shim, heads, &[40, 1, 257], Splits { splits, least_tokens });
        }
    }
}

#[test]
fn where_the_kv_lies_does_not_change_a_bit_of_the_output() {
    let Some(shim) = Shim::get() else { return };
    let heads = Heads::new(8, 2, 128).expect("four query heads per KV head have a kernel");
    let splits = Splits { splits: 2, least_tokens: 64 };
    let kv = kv_buffer(heads, 150, 9);
    let stride = heads.qkv_width() as usize;
    let row = random(4, stride);
    let mut program = Program::default();
    let bases = [program.bytes(kv.clone()), program.bytes(kv)];
    let output = program.poison(2 * 2 * u64::from(heads.heads() * 128));
    let attention = Attention {
        heads,
        batch: 2,
        splits,
        q: program.bf16(&[row.clone(), row].concat()),
        row_stride: stride as u32,
        kv_bases: program.addresses(&bases),
        token_counts: program.words(&[150, 150]),
        partial_values: program.poison(Attention::values_bytes(heads, 2, 2)),
        partial_stats: program.poison(Attention::stats_bytes(heads, 2, 2)),
    };
    program.launch(attention.launch());
    program.launch(attention.combine_bf16(output));
    let results = program.run(shim);
    let (resident, staged) = results.bytes(output).split_at(2 * 8 * 128);
    assert_eq!(resident, staged);
}

#[test]
fn a_broken_tail_mask_is_caught() {
    let Some(shim) = Shim::build("", &["-DGPU_VALIDATE_BREAK_TAIL_MASK"]) else { return };
    let heads = Heads::new(4, 1, 128).expect("four query heads per KV head have a kernel");
    let splits = Splits { splits: 1, least_tokens: 0 };
    // 32 tokens fill a round and have no tail, so only 17 tokens show the fault.
    assert!(worst_errors(&shim, heads, &[32], splits).0 <= EXPECTED);
    assert!(worst_errors(&shim, heads, &[17], splits).0 > BOUND);
}

#[test]
fn a_read_past_a_requests_kv_is_caught() {
    let Some(shim) = Shim::get() else { return };
    let heads = Heads::new(4, 1, 128).expect("four query heads per KV head have a kernel");
    let mut program = Program::default();
    let base = program.bytes(kv_buffer(heads, 16, 1));
    let attention = Attention {
        heads,
        batch: 1,
        splits: Splits { splits: 1, least_tokens: 0 },
        q: program.bf16(&random(1, heads.qkv_width() as usize)),
        row_stride: heads.qkv_width(),
        kv_bases: program.addresses(&[base]),
        token_counts: program.words(&[64]),
        partial_values: program.poison(Attention::values_bytes(heads, 1, 1)),
        partial_stats: program.poison(Attention::stats_bytes(heads, 1, 1)),
    };
    program.launch(attention.launch());
    assert!(program.try_run(shim).is_err(), "64 tokens were read from a buffer of 16");
}
