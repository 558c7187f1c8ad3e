//! What the kernels must compute: exact twins of the fill and the checksum, and fp64 mathematics for the rest.
//!
//! Slow and obvious on purpose; it shares no code with the kernels. Inputs are bf16 as bits; results are fp64 before any
//! rounding, so a caller compares with the tolerance of the output's type.

use super::attention::Heads;
use super::layer::kv_row_offsets;

/// The fp32 a bf16 stands for.
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bf16, ties to even; a NaN stays a NaN.
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let half = 0x7fff + ((bits >> 16) & 1);
    (bits.wrapping_add(half) >> 16) as u16
}

/// Stafford's mix 13 (the finaliser of SplitMix64, Steele et al. 2014).
pub fn mix(counter: u64) -> u64 {
    let z = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Element `index` of the random fill: about uniform in [−scale, scale], never zero and never NaN. Four neighbouring
/// elements share one 64-bit draw, 16 bits each.
pub fn random_bf16(seed: u64, index: u64, scale: f32) -> u16 {
    let word = mix(seed.wrapping_add((index / 4 + 1).wrapping_mul(GOLDEN)));
    let draw = (word >> (16 * (index % 4))) as u16 as i16;
    let odd = 2 * i32::from(draw) + 1;
    to_bf16(odd as f32 * (scale * (1.0 / 65_536.0)))
}

/// One sum per 4 KiB: `Σ mix(word_i + (i + 1) · golden)` over the chunk's little-endian 8-byte words, modulo 2⁶⁴. A last
/// chunk may be shorter; bytes that are no whole word are not allowed.
pub fn checksums(data: &[u8]) -> Vec<u64> {
    assert!(data.len().is_multiple_of(8), "Invariant: {} bytes are whole 8-byte words", data.len());
    data.chunks(4096)
        .map(|chunk| {
            let (words, _) = chunk.as_chunks::<8>();
            words.iter().enumerate().fold(0, |sum: u64, (i, &word)| {
                let place = (i as u64 + 1).wrapping_mul(GOLDEN);
                sum.wrapping_add(mix(u64::from_le_bytes(word).wrapping_add(place)))
            })
        })
        .collect()
}

/// Decode attention of one request in fp64: `softmax(q · Kᵀ / √head_dim) · V` for every query head, `[heads][head_dim]`.
/// `q` is `[heads][head_dim]`; `kv` is the request's buffer in bytes. No tokens give zeros.
pub fn attention(heads: Heads, q: &[u16], kv: &[u8], tokens: u32) -> Vec<f64> {
    let dim = heads.variant.head_dim as usize;
    let element = |offset: u64, i: usize| {
        let at = offset as usize + 2 * i;
        f64::from(from_bf16(u16::from_le_bytes([kv[at], kv[at + 1]])))
    };
    let mut output = Vec::with_capacity(q.len());
    for (head, query) in q.chunks_exact(dim).enumerate() {
        let column = head / heads.variant.group as usize * dim;
        let scores: Vec<f64> = (0..tokens)
            .map(|token| {
                let (key, _) = kv_row_offsets(heads, token);
                let dot: f64 =
                    (0..dim).map(|i| f64::from(from_bf16(query[i])) * element(key, column + i)).sum();
                dot / (dim as f64).sqrt()
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        let mut values = vec![0.0; dim];
        for (token, score) in scores.iter().enumerate() {
            let weight = (score - largest).exp();
            total += weight;
            let (_, value) = kv_row_offsets(heads, token as u32);
            for (i, sum) in values.iter_mut().enumerate() {
                *sum += weight * element(value, column + i);
            }
        }
        output.extend(values.iter().map(|value| if tokens == 0 { 0.0 } else { value / total }));
    }
    output
}

/// The residual after `residual += delta`, rounded to bf16, and its norm times `weight`, not rounded: one row.
pub fn rms_norm(
    residual: &[u16],
    delta: Option<&[u16]>,
    weight: &[u16],
    epsilon: f64,
) -> (Vec<u16>, Vec<f64>) {
    let sums: Vec<u16> = match delta {
        None => residual.to_vec(),
        Some(delta) => {
            residual.iter().zip(delta).map(|(&a, &b)| to_bf16(from_bf16(a) + from_bf16(b))).collect()
        }
    };
    let squares: f64 = sums.iter().map(|&value| f64::from(from_bf16(value)).powi(2)).sum();
    let rms = (squares / sums.len() as f64 + epsilon).sqrt();
    let norm =
        sums.iter().zip(weight).map(|(&v, &w)| f64::from(from_bf16(v)) / rms * f64::from(from_bf16(w)));
    let norm = norm.collect();
    (sums, norm)
}

/// One head rotated to `position`: pairs (i, i + head_dim / 2) by `position · θ^(−2i/head_dim)` radians.
pub fn rope(head: &[u16], position: u32, theta: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let mut rotated = vec![0.0; head.len()];
    for i in 0..half {
        let angle = f64::from(position) * theta.powf(-2.0 * i as f64 / head.len() as f64);
        let (a, b) = (f64::from(from_bf16(head[i])), f64::from(from_bf16(head[i + half])));
        rotated[i] = a * angle.cos() - b * angle.sin();
        rotated[i + half] = b * angle.cos() + a * angle.sin();
    }
    rotated
}

/// `gate / (1 + e^−gate) · up`.
pub fn silu_mul(gate: u16, up: u16) -> f64 {
    let gate = f64::from(from_bf16(gate));
    gate / (1.0 + (-gate).exp()) * f64::from(from_bf16(up))
}

/// `‖got − expected‖ / ‖expected‖`; NaN when anything is NaN, so that no comparison with a bound passes.
pub fn relative_error(got: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(expected).map(|(a, b)| a - b));
    let length = norm(&mut expected.iter().copied());
    if difference == 0.0 { 0.0 } else { difference / length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_nearest_even_and_keeps_nan() {
        // 1 + 2^-8 is halfway between 1 and 1 + 2^-7: even is 1. 1 + 3 · 2^-8 is halfway: even is 1 + 2^-6.
        assert_eq!(to_bf16(1.0 + 1.0 / 256.0), 0x3f80);
        assert_eq!(to_bf16(1.0 + 3.0 / 256.0), 0x3f82);
        assert_eq!(to_bf16(f32::MAX), 0x7f80);
        assert!(from_bf16(to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
        assert_eq!(from_bf16(to_bf16(-2.5)), -2.5);
    }

    #[test]
    fn the_random_fill_is_bounded_centred_and_never_zero() {
        let values: Vec<f32> = (0..10_000).map(|i| from_bf16(random_bf16(7, i, 0.5))).collect();
        assert!(values.iter().all(|v| v.abs() <= 0.5 && *v != 0.0));
        // A uniform mean over 10,000 draws has a standard deviation of 0.5 / √3 / 100 = 0.0029.
        let mean = values.iter().sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.015, "{mean}");
        assert_ne!(random_bf16(7, 0, 0.5), random_bf16(8, 0, 0.5));
    }

    #[test]
    fn swapped_words_change_a_checksum() {
        let mut data: Vec<u8> = (0..8192u32).map(|i| mix(u64::from(i)) as u8).collect();
        let before = checksums(&data);
        assert_eq!(before.len(), 2);
        let (first, rest) = data.split_at_mut(8);
        first.swap_with_slice(&mut rest[..8]);
        let after = checksums(&data);
        assert_ne!(before[0], after[0]);
        assert_eq!(before[1], after[1]);
    }

    #[test]
    fn attention_over_one_token_is_its_value() {
        let heads = Heads::new(4, 1, 64).expect("a kernel exists");
        let mut kv = vec![0u8; 16 * heads.token_bytes() as usize];
        let (_, value) = kv_row_offsets(heads, 0);
        kv[value as usize..value as usize + 2].copy_from_slice(&to_bf16(3.0).to_le_bytes());
        let output = attention(heads, &[to_bf16(1.0); 256], &kv, 1);
        assert_eq!(output[0], 3.0);
        assert_eq!(output[64], 3.0);
        assert_eq!(output[1], 0.0);
    }

    #[test]
    fn a_norm_of_equal_values_is_its_weight() {
        // All 2: rms 2, so 2 / 2 · 3 = 3.
        let (residual, norm) =
            rms_norm(&[to_bf16(1.5); 8], Some(&[to_bf16(0.5); 8]), &[to_bf16(3.0); 8], 0.0);
        assert_eq!(residual, [to_bf16(2.0); 8]);
        assert_eq!(norm, [3.0; 8]);
    }

    #[test]
    fn rope_keeps_lengths_and_does_nothing_at_position_zero() {
        let head: Vec<u16> = (0..64).map(|i| random_bf16(1, i, 1.0)).collect();
        let plain: Vec<f64> = head.iter().map(|&v| f64::from(from_bf16(v))).collect();
        assert_eq!(rope(&head, 0, 10_000.0), plain);
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
        assert!((length(&rope(&head, 12_345, 10_000.0)) / length(&plain) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_nan_fails_every_bound() {
        assert!(relative_error(&[f64::NAN], &[1.0]).is_nan());
        assert_eq!(relative_error(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
    }
}
