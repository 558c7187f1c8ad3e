//! Decode attention for grouped-query heads, split over the context as the GPU's kernel splits it (`kernels/attention.cu`):
//! equal shares in whole rounds of 32 tokens, partial results in fp32, then one pass that combines them.
//!
//! A block of KV is read when it is worked on: attention that did not wait for a copy sees what is there.

use super::layer::{BLOCK_TOKENS, Row, dot};
use super::store::Place;
use crate::device::AttentionShape;

/// Shares of a context are whole multiples of this.
const ROUND_TOKENS: usize = 32;
/// Below every real score, and finite, so that differences are never NaN of themselves.
const LOWEST_SCORE: f32 = -1.0e30;

/// Tokens per split; splits past the last token stay empty.
fn split_length(tokens: usize, splits: usize) -> usize {
    tokens.div_ceil(splits).next_multiple_of(ROUND_TOKENS)
}

/// Both passes. The workspace holds `head_dim` sums per (request, head, split), then largest score and total of each.
pub(super) fn attention(
    shape: AttentionShape,
    rows: &[Row],
    splits: usize,
    qkv: &Place,
    workspace: &Place,
    output: &Place,
) {
    let (heads, head_dim) = (shape.heads as usize, shape.head_dim as usize);
    let slots = rows.len() * heads * splits;
    let sums = workspace.part(0, 4 * slots * head_dim);
    let stats = workspace.part(4 * slots * head_dim, 8 * slots);
    for (request, row) in rows.iter().enumerate() {
        let width = shape.qkv_width() as usize;
        let query = qkv.part(2 * request * width, 2 * heads * head_dim).bf16();
        let length = split_length(row.tokens, splits);
        for split in 0..row.tokens.div_ceil(length) {
            let tokens = split * length..row.tokens.min((split + 1) * length);
            let running = attend(shape, &query, &row.kv, tokens);
            for (head, running) in running.into_iter().enumerate() {
                let slot = (request * heads + head) * splits + split;
                sums.part(4 * slot * head_dim, 4 * head_dim).set_fp32(&running.values);
                stats.part(8 * slot, 8).set_fp32(&[running.largest, running.total]);
            }
        }
    }
    combine(shape, rows, splits, &sums, &stats, output);
}

/// An online softmax of one head.
struct Running {
    largest: f32,
    total: f32,
    values: Vec<f32>,
}

impl Running {
    fn take(&mut self, score: f32, value: &[f32]) {
        if score > self.largest {
            let correction = (self.largest - score).exp();
            self.total *= correction;
            self.values.iter_mut().for_each(|value| *value *= correction);
            self.largest = score;
        }
        let weight = (score - self.largest).exp();
        self.total += weight;
        for (sum, value) in self.values.iter_mut().zip(value) {
            *sum += weight * value;
        }
    }
}

/// All heads over the tokens of one split, which begins with a block.
fn attend(shape: AttentionShape, query: &[f32], kv: &Place, tokens: std::ops::Range<usize>) -> Vec<Running> {
    let (head_dim, group) = (shape.head_dim as usize, shape.group() as usize);
    let token_elements = shape.kv_heads as usize * head_dim;
    let block_bytes = 4 * BLOCK_TOKENS * token_elements;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let new = |_| Running { largest: LOWEST_SCORE, total: 0.0, values: vec![0.0; head_dim] };
    let mut heads: Vec<Running> = (0..shape.heads).map(new).collect();
    for first in tokens.clone().step_by(BLOCK_TOKENS) {
        let block = kv.part(first / BLOCK_TOKENS * block_bytes, block_bytes).bf16();
        let (keys, values) = block.split_at(BLOCK_TOKENS * token_elements);
        let here = BLOCK_TOKENS.min(tokens.end - first);
        for (key, value) in
            keys.chunks_exact(token_elements).zip(values.chunks_exact(token_elements)).take(here)
        {
            for (head, (running, query)) in heads.iter_mut().zip(query.chunks_exact(head_dim)).enumerate() {
                let at = head / group * head_dim;
                let score = dot(query, &key[at..at + head_dim]) * scale;
                running.take(score, &value[at..at + head_dim]);
            }
        }
    }
    heads
}

/// The splits' values, each with its share of the softmax.
fn combine(shape: AttentionShape, rows: &[Row], splits: usize, sums: &Place, stats: &Place, output: &Place) {
    let (heads, head_dim) = (shape.heads as usize, shape.head_dim as usize);
    for (slot, row) in rows
        .iter()
        .enumerate()
        .flat_map(|(request, row)| (0..heads).map(move |head| (request * heads + head, row)))
    {
        let used = row.tokens.div_ceil(split_length(row.tokens, splits));
        let sums = sums.part(4 * slot * splits * head_dim, 4 * used * head_dim).fp32();
        let stats = stats.part(8 * slot * splits, 8 * used).fp32();
        let largest = stats.chunks_exact(2).map(|stat| stat[0]).fold(LOWEST_SCORE, f32::max);
        let mut total = 0.0;
        let mut values = vec![0.0; head_dim];
        for (stat, sums) in stats.chunks_exact(2).zip(sums.chunks_exact(head_dim)) {
            let correction = (stat[0] - largest).exp();
            total += stat[1] * correction;
            values.iter_mut().zip(sums).for_each(|(value, sum)| *value += sum * correction);
        }
        values.iter_mut().for_each(|value| *value /= total);
        output.part(2 * slot * head_dim, 2 * head_dim).set_bf16(&values);
    }
}
