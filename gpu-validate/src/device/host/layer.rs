//! The kernels of a decode layer but attention: products, norm, rotary embedding, KV append, activation.
//!
//! Sums are fp32 in a fixed order, so the same inputs give the same bits, whatever the number of rows. Outputs are
//! written when they are complete; inputs are read a little at a time, so copies into the same buffer go on meanwhile.

use super::store::Place;
use crate::device::AttentionShape;

/// Rows of weights read under one lock.
const WEIGHT_ROWS: usize = 32;
/// Added to the mean square: Llama-3's.
const NORM_EPSILON: f32 = 1e-5;
/// Base of the rotary embedding: Llama-3's.
const ROPE_BASE: f64 = 500_000.0;
/// Tokens of a KV block.
pub(super) const BLOCK_TOKENS: usize = 16;

/// `output[rows][out] = input[rows][inner] · weights[out][inner]ᵀ`.
pub(super) fn gemm([rows, out, inner]: [usize; 3], weights: &Place, input: &Place, output: &Place) {
    let input = input.part(0, 2 * rows * inner).bf16();
    let mut products = vec![0.0; rows * out];
    for first in (0..out).step_by(WEIGHT_ROWS) {
        let columns = WEIGHT_ROWS.min(out - first);
        let weights = weights.part(2 * first * inner, 2 * columns * inner).bf16();
        for (row, products) in input.chunks_exact(inner).zip(products.chunks_exact_mut(out)) {
            for (product, weights) in products[first..].iter_mut().zip(weights.chunks_exact(inner)) {
                *product = dot(row, weights);
            }
        }
    }
    output.set_bf16(&products);
}

/// Eight partial sums, so that a compiler can keep them side by side.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (left, right) in left.iter().zip(right) {
        for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum += left * right;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

/// `residual += delta`, then `output = residual / rms(residual) · weights`; the norm is of the rounded residual.
pub(super) fn norm(
    [rows, width]: [usize; 2],
    residual: &Place,
    delta: Option<&Place>,
    weights: &Place,
    output: &Place,
) {
    let weights = weights.bf16();
    for row in 0..rows {
        let of_row = |place: &Place| place.part(2 * row * width, 2 * width);
        if let Some(delta) = delta {
            let added = of_row(residual)
                .bf16()
                .iter()
                .zip(of_row(delta).bf16())
                .map(|(a, b)| a + b)
                .collect::<Vec<_>>();
            of_row(residual).set_bf16(&added);
        }
        let values = of_row(residual).bf16();
        let scale = 1.0 / (dot(&values, &values) / width as f32 + NORM_EPSILON).sqrt();
        let normed: Vec<f32> =
            values.iter().zip(&weights).map(|(value, gain)| value * scale * gain).collect();
        of_row(output).set_bf16(&normed);
    }
}

/// One request of a table: its KV and its context tokens.
#[derive(Clone)]
pub(super) struct Row {
    pub kv: Place,
    pub tokens: usize,
}

/// Rotates q and k of each row at its newest position; element i pairs with `i + head_dim / 2`.
pub(super) fn rope(shape: AttentionShape, rows: &[Row], qkv: &Place) {
    let (head_dim, width) = (shape.head_dim as usize, shape.qkv_width() as usize);
    let half = head_dim / 2;
    let frequencies: Vec<f64> =
        (0..half).map(|i| ROPE_BASE.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    let rotated = (shape.heads + shape.kv_heads) as usize * head_dim;
    for (request, Row { tokens, .. }) in rows.iter().enumerate() {
        let place = qkv.part(2 * request * width, 2 * rotated);
        let mut values = place.bf16();
        for head in values.chunks_exact_mut(head_dim) {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = ((tokens - 1) as f64 * frequency).sin_cos();
                let (sin, cos) = (sin as f32, cos as f32);
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cos - b * sin;
                head[i + half] = b * cos + a * sin;
            }
        }
        place.set_bf16(&values);
    }
}

/// Writes k and v of each row to the newest token's place.
pub(super) fn kv_append(shape: AttentionShape, rows: &[Row], qkv: &Place) {
    let row_bytes = 2 * shape.qkv_width() as usize;
    let q_bytes = 2 * (shape.heads * shape.head_dim) as usize;
    let token_bytes = 2 * (shape.kv_heads * shape.head_dim) as usize;
    for (request, Row { kv, tokens }) in rows.iter().enumerate() {
        let (block, token) = ((tokens - 1) / BLOCK_TOKENS, (tokens - 1) % BLOCK_TOKENS);
        let key_at = (block * 2 * BLOCK_TOKENS + token) * token_bytes;
        let value_at = key_at + BLOCK_TOKENS * token_bytes;
        let from = request * row_bytes + q_bytes;
        kv.part(key_at, token_bytes).write(&qkv.part(from, token_bytes).read());
        kv.part(value_at, token_bytes).write(&qkv.part(from + token_bytes, token_bytes).read());
    }
}

/// `output = silu(gate) · up`.
pub(super) fn silu_mul([rows, width]: [usize; 2], gate_up: &Place, output: &Place) {
    for row in 0..rows {
        let both = gate_up.part(4 * row * width, 4 * width).bf16();
        let (gate, up) = both.split_at(width);
        let values: Vec<f32> =
            gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
        output.part(2 * row * width, 2 * width).set_bf16(&values);
    }
}
