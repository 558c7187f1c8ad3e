//! What a CPU says the answer is: bf16 in, sums in fp64, and the checksum of a page.
//!
//! Outputs are bf16, and rounding to bf16 alone is an error of 1.5e-3 in the norm. So a reference is rounded to bf16 before
//! it is compared: what is left is where fp32 sums fell on the other side of a rounding boundary, and every real mistake.

use crate::device::AttentionShape;

/// What checksums are of, in bytes.
pub(super) const PAGE: usize = 4096;

/// The error that is given where an output is no number: larger than every bound, and writable as JSON.
pub(super) const NOT_A_NUMBER: f64 = f64::MAX;

/// bf16 values of little-endian bytes.
pub(super) fn values(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<2>().0.iter().map(|pair| value(u16::from_le_bytes(*pair))).collect()
}

fn value(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// To the nearest bf16, ties to even.
pub(super) fn rounded(value: f64) -> f64 {
    let bits = (value as f32).to_bits();
    let up = 0x7fff + (bits >> 16 & 1);
    f64::from(f32::from_bits(bits.wrapping_add(up) & 0xffff_0000))
}

/// `‖out − rounded(reference)‖ / ‖rounded(reference)‖`; [`NOT_A_NUMBER`] if any output is none.
pub(super) fn relative_error(out: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(out.len(), reference.len(), "Invariant: as many outputs as references");
    let (mut apart, mut norm) = (0.0, 0.0);
    for (out, reference) in out.iter().zip(reference) {
        let reference = rounded(*reference);
        apart += (out - reference).powi(2);
        norm += reference.powi(2);
    }
    let error = (apart / norm).sqrt();
    if error.is_finite() { error } else { NOT_A_NUMBER }
}

/// Attention of one request: `query` holds all heads, `kv` blocks of 16 tokens, K before V in each.
pub(super) fn attention(shape: AttentionShape, query: &[f64], kv: &[f64], tokens: usize) -> Vec<f64> {
    let (dim, kv_heads) = (shape.head_dim as usize, shape.kv_heads as usize);
    let row = |token: usize, kv_head: usize, value: usize| {
        let start = ((token / 16 * 2 + value) * 16 + token % 16) * kv_heads * dim + kv_head * dim;
        &kv[start..start + dim]
    };
    let mut output = Vec::new();
    for (head, query) in query.chunks_exact(dim).enumerate() {
        let kv_head = head / shape.group() as usize;
        let scores: Vec<f64> =
            (0..tokens).map(|token| dot(query, row(token, kv_head, 0)) / (dim as f64).sqrt()).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let mut sums = vec![0.0; dim];
        for (token, weight) in weights.iter().enumerate() {
            sums.iter_mut().zip(row(token, kv_head, 1)).for_each(|(sum, value)| *sum += weight * value);
        }
        let total: f64 = weights.iter().sum();
        output.extend(sums.iter().map(|sum| sum / total));
    }
    output
}

/// Σ of products.
pub(super) fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// The checksum that a device takes of a page: `Σ mix(word_i + (i + 1) · G)`, `mix` the finaliser of SplitMix64 (Steele,
/// Lea and Flood 2014), `G` its increment.
pub(super) fn checksum(page: &[u8]) -> u64 {
    const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = page.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    words
        .zip(1_u64..)
        .fold(0, |sum, (word, place)| sum.wrapping_add(mix(word.wrapping_add(INCREMENT.wrapping_mul(place)))))
}

const fn mix(word: u64) -> u64 {
    let bits = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use orbitflow_sim::random::{Stream, sequence, uniform};

    use super::*;

    #[test]
    fn rounding_to_bf16_takes_the_nearest_and_the_even_of_two() {
        // bf16 has 7 fraction bits: neighbours of 1 are 1 + 1/128 and 1 + 2/128
        assert_eq!(rounded(1.0 + 0.6 / 128.0), 1.0 + 1.0 / 128.0);
        assert_eq!(rounded(1.0 + 0.5 / 128.0), 1.0); // a tie: the even one
        assert_eq!(rounded(1.0 + 1.5 / 128.0), 1.0 + 2.0 / 128.0);
        assert_eq!(values(&[0x80, 0x3f, 0x00, 0xc0]), [1.0, -2.0]);
    }

    #[test]
    fn attention_weighs_values_by_the_softmax_of_scores() {
        // One head of one element; keys 0 and ln 3 with query 1 weigh 1 : 3, values 4 and 8: (4 + 24) / 4 = 7
        let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 1 };
        let mut kv = vec![f64::NAN; 32];
        (kv[0], kv[1], kv[16], kv[17]) = (0.0, 3.0_f64.ln(), 4.0, 8.0);
        assert!((attention(shape, &[1.0], &kv, 2)[0] - 7.0).abs() < 1e-12);
    }

    #[test]
    fn a_token_left_out_or_taken_twice_is_far_beyond_the_bound() {
        // Queries in ±4 and KV in ±1, as the check has them. The mean of n tokens is about 1/√n of one, so one token more or
        // less moves it by about 1/√n of itself: 1.6 % for 4,095.
        let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 8 };
        let mut random = sequence(5, Stream::Noise);
        let mut within = |scale: f64, count: usize| {
            (0..count).map(|_| scale * (2.0 * uniform(&mut random) - 1.0)).collect::<Vec<f64>>()
        };
        let (query, kv) = (within(4.0, 32), within(1.0, 256 * 16 * 32));
        let all = attention(shape, &query, &kv, 4095);
        assert_eq!(relative_error(&all.iter().map(|out| rounded(*out)).collect::<Vec<_>>(), &all), 0.0);
        for tokens in [4094, 4096] {
            assert!(relative_error(&attention(shape, &query, &kv, tokens), &all) > 2e-3, "{tokens}");
        }
    }

    #[test]
    fn an_output_that_is_no_number_is_the_worst_error() {
        assert_eq!(relative_error(&[1.0, f64::NAN], &[1.0, 1.0]), NOT_A_NUMBER);
        assert_eq!(relative_error(&[3.0, 0.0], &[3.0, 4.0]), 0.8); // 4 / 5
    }
}
