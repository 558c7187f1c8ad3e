//! The host device's kernels against references in fp64 and by hand.

use super::*;
use crate::device::{AttentionShape, POISON, RopeWork};

fn device() -> HostDevice {
    HostDevice::new(HostOptions { link_bytes_per_s: None, memory_bytes: Some(64 << 20) }).unwrap()
}

fn filled(device: &mut HostDevice, bytes: u64, seed: u64) -> DeviceSlice {
    let slice = device.alloc(bytes).unwrap().all();
    let stream = device.stream().unwrap();
    device.submit(stream, &Work::Fill { to: slice, with: FillWith::Random { seed, scale: 1.0 } }).unwrap();
    device.synchronize().unwrap();
    slice
}

fn floats(device: &mut HostDevice, slice: DeviceSlice) -> Vec<f64> {
    let bytes = device.read(slice).unwrap();
    let pairs = bytes.as_chunks::<2>().0.iter();
    pairs.map(|pair| f64::from(store::float_from_bf16(u16::from_le_bytes(*pair)))).collect()
}

const SHAPE: AttentionShape = AttentionShape { heads: 8, kv_heads: 2, head_dim: 16 };

struct Batch {
    device: HostDevice,
    stream: Stream,
    contexts: Vec<u32>,
    rows: Vec<KvRow>,
    table: KvTable,
    qkv: DeviceSlice,
}

impl Batch {
    fn of(contexts: &[u32]) -> Batch {
        let mut device = device();
        let stream = device.stream().unwrap();
        let mut seed = 100;
        let rows: Vec<KvRow> = contexts
            .iter()
            .map(|&tokens| {
                seed += 1;
                let bytes = u64::from(tokens.div_ceil(16)) * SHAPE.block_bytes();
                KvRow { kv: filled(&mut device, bytes, seed), tokens }
            })
            .collect();
        let table = device.kv_table(&rows).unwrap();
        let qkv = filled(&mut device, contexts.len() as u64 * 2 * u64::from(SHAPE.qkv_width()), 9);
        Batch { device, stream, contexts: contexts.to_vec(), rows, table, qkv }
    }

    fn attend(&mut self, splits: u32) -> DeviceSlice {
        let batch = self.contexts.len() as u32;
        let workspace = AttentionWork::workspace_bytes(SHAPE, batch, splits);
        let workspace = self.device.alloc(workspace).unwrap().all();
        let output = u64::from(2 * batch * SHAPE.heads * SHAPE.head_dim);
        let output = self.device.alloc(output).unwrap().all();
        for place in [workspace, output] {
            self.device.submit(self.stream, &Work::Fill { to: place, with: POISON }).unwrap();
        }
        let work = AttentionWork {
            shape: SHAPE,
            batch,
            most_tokens: *self.contexts.iter().max().unwrap(),
            total_tokens: self.contexts.iter().map(|tokens| u64::from(*tokens)).sum(),
            qkv: self.qkv,
            table: self.table,
            splits,
            workspace,
            output,
        };
        self.device.submit(self.stream, &Work::Attention(work)).unwrap();
        self.device.synchronize().unwrap();
        output
    }

    /// Softmax attention as it is defined, in fp64, on the same bf16 inputs.
    fn reference(&mut self) -> Vec<f64> {
        let qkv = floats(&mut self.device, self.qkv);
        let (head_dim, width) = (SHAPE.head_dim as usize, SHAPE.qkv_width() as usize);
        let mut outputs = Vec::new();
        for (request, row) in self.rows.clone().into_iter().enumerate() {
            let kv = floats(&mut self.device, row.kv);
            // Element of K (0) or V (1) of a token: blocks of K [16][kv_heads][head_dim], then V.
            let element = |which: usize, token: usize, head: usize, i: usize| {
                let block = token / 16 * 2 + which;
                kv[((block * 16 + token % 16) * SHAPE.kv_heads as usize + head) * head_dim + i]
            };
            for head in 0..SHAPE.heads as usize {
                let query = &qkv[request * width + head * head_dim..][..head_dim];
                let kv_head = head / SHAPE.group() as usize;
                let tokens = 0..row.tokens as usize;
                let score = |token| {
                    let dot: f64 =
                        query.iter().enumerate().map(|(i, q)| q * element(0, token, kv_head, i)).sum();
                    dot / (head_dim as f64).sqrt()
                };
                let weights: Vec<f64> = tokens.clone().map(|token| f64::exp(score(token))).collect();
                let total: f64 = weights.iter().sum();
                outputs.extend((0..head_dim).map(|i| {
                    let weighted = weights
                        .iter()
                        .zip(tokens.clone())
                        .map(|(w, token)| w * element(1, token, kv_head, i));
                    weighted.sum::<f64>() / total
                }));
            }
        }
        outputs
    }
}

fn relative_error(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let distance: f64 = got.iter().zip(expected).map(|(got, expected)| (got - expected).powi(2)).sum();
    let norm: f64 = expected.iter().map(|expected| expected.powi(2)).sum();
    (distance / norm).sqrt()
}

#[test]
fn attention_agrees_with_fp64_for_ragged_contexts_and_more_splits_than_tokens() {
    let mut batch = Batch::of(&[1, 15, 17, 300, 32, 33]);
    let expected = batch.reference();
    for splits in [1, 2, 7, 400] {
        let output = batch.attend(splits);
        let got = floats(&mut batch.device, output);
        // Rounding to bf16 alone is 2^-9 of a value at most, 1e-3 of the norm.
        let error = relative_error(&got, &expected);
        assert!(error <= 2e-3, "{splits} splits: {error}");
    }
}

#[test]
fn equal_splits_give_equal_bits() {
    let mut batch = Batch::of(&[300, 17]);
    for splits in [1, 5] {
        let (first, second) = (batch.attend(splits), batch.attend(splits));
        assert_eq!(batch.device.read(first).unwrap(), batch.device.read(second).unwrap());
    }
}

#[test]
fn one_poisoned_token_poisons_the_heads_that_read_it() {
    let mut batch = Batch::of(&[40, 20]);
    // V of token 0 of request 1, KV head 0: it follows the K of 16 tokens.
    let row = batch.rows[1];
    let value_at = 16 * 2 * u64::from(SHAPE.kv_heads * SHAPE.head_dim);
    let poison = vec![0xff; 2 * SHAPE.head_dim as usize];
    batch.device.write(row.kv.slice(value_at, poison.len() as u64), &poison).unwrap();
    let output = batch.attend(2);
    let got = floats(&mut batch.device, output);
    let (head_dim, heads) = (SHAPE.head_dim as usize, SHAPE.heads as usize);
    for (head, values) in got.chunks(head_dim).enumerate() {
        let reads_it = head >= heads && (head - heads) / SHAPE.group() as usize == 0;
        assert!(values.iter().all(|value| value.is_nan() == reads_it), "head {head}");
    }
}

#[test]
fn appended_kv_is_where_attention_reads_it() {
    let mut batch = Batch::of(&[17, 1]);
    let append = RopeWork { shape: SHAPE, batch: 2, qkv: batch.qkv, table: batch.table };
    batch.device.submit(batch.stream, &Work::KvAppend(append)).unwrap();
    let qkv = floats(&mut batch.device, batch.qkv);
    let row_elements = (SHAPE.kv_heads * SHAPE.head_dim) as usize;
    let (width, q) = (SHAPE.qkv_width() as usize, (SHAPE.heads * SHAPE.head_dim) as usize);
    for (request, (row, place)) in batch.rows.clone().into_iter().zip([16, 0]).enumerate() {
        let kv = floats(&mut batch.device, row.kv);
        let key_at = (place / 16 * 2 * 16 + place % 16) * row_elements;
        let key = &qkv[request * width + q..][..row_elements];
        let value = &qkv[request * width + q + row_elements..][..row_elements];
        assert_eq!(&kv[key_at..key_at + row_elements], key);
        assert_eq!(&kv[key_at + 16 * row_elements..][..row_elements], value);
    }
}

#[test]
fn rope_turns_each_pair_by_the_newest_position() {
    let mut batch = Batch::of(&[1, 40]);
    let before = floats(&mut batch.device, batch.qkv);
    let rope = RopeWork { shape: SHAPE, batch: 2, qkv: batch.qkv, table: batch.table };
    batch.device.submit(batch.stream, &Work::Rope(rope)).unwrap();
    let after = floats(&mut batch.device, batch.qkv);
    let width = SHAPE.qkv_width() as usize;
    // Position 0 turns nothing; v is never turned; pair 0 of q turns by 39 radians; lengths stay.
    assert_eq!(before[..width], after[..width]);
    let v_at = width + ((SHAPE.heads + SHAPE.kv_heads) * SHAPE.head_dim) as usize;
    assert_eq!(before[v_at..], after[v_at..]);
    let (a, b) = (before[width], before[width + 8]);
    assert!((after[width] - (a * 39_f64.cos() - b * 39_f64.sin())).abs() < 0.01);
    assert!((after[width + 8] - (b * 39_f64.cos() + a * 39_f64.sin())).abs() < 0.01);
}

#[test]
fn a_product_agrees_with_fp64_and_does_not_depend_on_the_other_rows() {
    let mut device = device();
    let stream = device.stream().unwrap();
    let (out, inner) = (70_u32, 37_u32); // neither a multiple of a block
    let weights = filled(&mut device, u64::from(2 * out * inner), 1);
    let inputs = filled(&mut device, u64::from(2 * 4 * inner), 2);
    let (w, x) = (floats(&mut device, weights), floats(&mut device, inputs));
    let mut product = |rows: u32| {
        let output = device.alloc(u64::from(2 * rows * out)).unwrap().all();
        let input = inputs.slice(0, u64::from(2 * rows * inner));
        device.submit(stream, &Work::Gemm(GemmWork { rows, out, inner, weights, input, output })).unwrap();
        floats(&mut device, output)
    };
    let (four, one) = (product(4), product(1));
    assert_eq!(four[..out as usize], one[..]);
    let expected: Vec<f64> = x
        .chunks(inner as usize)
        .flat_map(|row| {
            w.chunks(inner as usize)
                .map(|w| row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>())
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(relative_error(&four, &expected) < 3e-3);
}

#[test]
fn norm_adds_to_the_residual_first_and_activation_multiplies() {
    let mut device = device();
    let stream = device.stream().unwrap();
    let (rows, width) = (2_u32, 24_u32);
    let bytes = u64::from(2 * rows * width);
    let (residual, delta) = (filled(&mut device, bytes, 1), filled(&mut device, bytes, 2));
    let (weights, both) = (filled(&mut device, u64::from(2 * width), 3), filled(&mut device, 2 * bytes, 4));
    let (output, activated) = (device.alloc(bytes).unwrap().all(), device.alloc(bytes).unwrap().all());
    let (old, added) = (floats(&mut device, residual), floats(&mut device, delta));
    let norm = NormWork { rows, width, residual, delta: Some(delta), weights, output };
    device.submit(stream, &Work::Norm(norm)).unwrap();
    device.submit(stream, &Work::SiluMul { rows, width, gate_up: both, output: activated }).unwrap();
    let (new, gain, normed) =
        (floats(&mut device, residual), floats(&mut device, weights), floats(&mut device, output));
    let sums: Vec<f64> = old.iter().zip(&added).map(|(old, added)| old + added).collect();
    assert!(relative_error(&new, &sums) < 3e-3);
    let expected: Vec<f64> = new
        .chunks(width as usize)
        .flat_map(|row| {
            let mean = row.iter().map(|value| value * value).sum::<f64>() / row.len() as f64;
            row.iter().zip(&gain).map(|(value, gain)| value * gain / (mean + 1e-5).sqrt()).collect::<Vec<_>>()
        })
        .collect();
    assert!(relative_error(&normed, &expected) < 3e-3);
    let gate_up = floats(&mut device, both);
    let expected: Vec<f64> = gate_up
        .chunks(2 * width as usize)
        .flat_map(|row| {
            let (gate, up) = row.split_at(width as usize);
            gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect::<Vec<_>>()
        })
        .collect();
    let got = floats(&mut device, activated);
    assert!(relative_error(&got, &expected) < 3e-3);
}
