//! Every kind of work against the references of `gpu_validate::kernels::reference`, through the whole backend.

use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::device::{
    AttentionShape, AttentionWork, Device, DeviceBuffer, GemmWork, KvRow, KvTable, NormWork, RopeWork, Work,
};
use gpu_validate::kernels::attention::{Heads, VARIANTS};
use gpu_validate::kernels::layer::kv_row_offsets;
use gpu_validate::kernels::reference::{attention, from_bf16, relative_error, rms_norm, rope, silu_mul};

use super::child::scenario;
use super::data::{elements, numbers, poisoned, random};

/// bf16 has 8 bits: rounding is off by at most 2⁻⁹ of a value.
const ROUNDING: f64 = 1.0 / 512.0;

#[test]
fn a_product_multiplies_rows_by_rows_of_weights() {
    let ended = scenario("products").seed(1).succeeds(|device| {
        let (first, second) = (device.stream().expect("a stream"), device.stream().expect("a stream"));
        for (stream, (rows, out, inner)) in
            [(first, (1, 48, 64)), (second, (5, 96, 32)), (first, (33, 8, 200))]
        {
            let (weights, w) = random(device, u64::from(out * inner), 1, 0.5);
            let (input, x) = random(device, u64::from(rows * inner), 2, 0.5);
            let output = poisoned(device, stream, 2 * u64::from(rows * out));
            let [weights, input] = [weights, input].map(DeviceBuffer::all);
            let work = GemmWork { rows, out, inner, weights, input, output: output.all() };
            device.submit(stream, &Work::Gemm(work)).expect("submitted");
            let element = |values: &[u16], at: u32| f64::from(from_bf16(values[at as usize]));
            let expected: Vec<f64> = (0..rows * out)
                .map(|at| {
                    let (row, column) = (at / out, at % out);
                    (0..inner).map(|i| element(&x, row * inner + i) * element(&w, column * inner + i)).sum()
                })
                .collect();
            let error = relative_error(&numbers(&device.read(output.all()).expect("read")), &expected);
            assert!(error < ROUNDING, "{rows} rows, {out} out, {inner} inner: {error}");
        }
    });
    if let Some(ended) = ended {
        assert_eq!(ended.counts["cublasGemmEx"], 3);
    }
}

#[test]
fn a_norm_adds_what_there_is_and_divides_by_the_root_mean_square() {
    scenario("norm").succeeds(|device| {
        let stream = device.stream().expect("a stream");
        let (rows, width) = (3_u32, 520_u32);
        let count = u64::from(rows * width);
        let (weights, w) = random(device, u64::from(width), 3, 1.0);
        for with_delta in [false, true] {
            let (residual, r) = random(device, count, 4, 1.0);
            let (delta, d) = random(device, count, 5, 1.0);
            let output = poisoned(device, stream, 2 * count);
            let work = NormWork {
                rows,
                width,
                residual: residual.all(),
                delta: with_delta.then(|| delta.all()),
                weights: weights.all(),
                output: output.all(),
            };
            device.submit(stream, &Work::Norm(work)).expect("submitted");
            let sums = elements(&device.read(residual.all()).expect("read"));
            let got = numbers(&device.read(output.all()).expect("read"));
            for row in 0..rows as usize {
                let range = row * width as usize..(row + 1) * width as usize;
                let delta = with_delta.then(|| &d[range.clone()]);
                let (expected_sums, expected) = rms_norm(&r[range.clone()], delta, &w, 1e-5);
                assert_eq!(sums[range.clone()], expected_sums);
                assert!(relative_error(&got[range], &expected) < ROUNDING);
            }
        }
    });
}

#[test]
fn an_activation_is_silu_of_the_gate_times_up() {
    scenario("activation").succeeds(|device| {
        let stream = device.stream().expect("a stream");
        let (rows, width) = (3_u32, 2104_u32); // 263 words of 16 bytes: more than one block, not a whole number
        let (gate_up, both) = random(device, u64::from(2 * rows * width), 6, 4.0);
        let output = poisoned(device, stream, 2 * u64::from(rows * width));
        let work = Work::SiluMul { rows, width, gate_up: gate_up.all(), output: output.all() };
        device.submit(stream, &work).expect("submitted");
        let width = width as usize;
        let row = |pair: &[u16]| (0..width).map(|i| silu_mul(pair[i], pair[width + i])).collect::<Vec<_>>();
        let expected: Vec<f64> = both.chunks_exact(2 * width).flat_map(row).collect();
        let error = relative_error(&numbers(&device.read(output.all()).expect("read")), &expected);
        assert!(error < ROUNDING, "{error}");
    });
}

/// A batch of requests of different lengths with random KV and rows of q, k and v.
struct Batch {
    shape: AttentionShape,
    heads: Heads,
    tokens: Vec<u32>,
    kv: Vec<DeviceBuffer>,
    qkv: DeviceBuffer,
    rows: Vec<Vec<u16>>,
    table: KvTable,
}

fn batch(device: &mut CudaDevice, shape: AttentionShape, tokens: &[u32]) -> Batch {
    let heads = Heads::new(shape.heads, shape.kv_heads, shape.head_dim).expect("a kernel");
    let blocks = |tokens: u32| u64::from(tokens.div_ceil(16)) * shape.block_bytes();
    let kv: Vec<DeviceBuffer> = (tokens.iter().zip(20..))
        .map(|(count, seed)| random(device, blocks(*count) / 2, seed, 1.0).0)
        .collect();
    let width = u64::from(shape.qkv_width());
    let (qkv, all) = random(device, width * tokens.len() as u64, 7, 1.0);
    let rows: Vec<KvRow> =
        kv.iter().zip(tokens).map(|(kv, tokens)| KvRow { kv: kv.all(), tokens: *tokens }).collect();
    let table = device.kv_table(&rows).expect("a table");
    let rows = all.chunks_exact(width as usize).map(<[u16]>::to_vec).collect();
    Batch { shape, heads, tokens: tokens.to_vec(), kv, qkv, rows, table }
}

#[test]
fn keys_and_queries_turn_and_the_newest_token_is_written_at_its_place() {
    scenario("rope").succeeds(|device| {
        let stream = device.stream().expect("a stream");
        let shape = AttentionShape { heads: 8, kv_heads: 2, head_dim: 64 };
        let Batch { heads, tokens, kv, qkv, rows, table, .. } = batch(device, shape, &[1, 16, 17, 40]);
        let before: Vec<Vec<u8>> = kv.iter().map(|kv| device.read(kv.all()).expect("read")).collect();
        let work = RopeWork { shape, batch: 4, qkv: qkv.all(), table };
        device.submit(stream, &Work::Rope(work)).expect("submitted");
        device.submit(stream, &Work::KvAppend(work)).expect("submitted");
        let turned = device.read(qkv.all()).expect("read");
        for (request, row) in turned.chunks_exact(2 * shape.qkv_width() as usize).enumerate() {
            let (q_and_k, v) = (10 * 64, 2 * 64); // 8 + 2 heads turn, 2 heads of V do not
            let got = numbers(&row[..2 * q_and_k]);
            let own = &rows[request];
            let position = tokens[request] - 1;
            let expected: Vec<f64> =
                own[..q_and_k].chunks_exact(64).flat_map(|head| rope(head, position, 500_000.0)).collect();
            assert!(relative_error(&got, &expected) < 2.0 * ROUNDING, "request {request}");
            assert_eq!(elements(&row[2 * q_and_k..]), own[q_and_k..q_and_k + v]);
            let (key, value) = kv_row_offsets(heads, position);
            let (key, value, bytes) = (key as usize, value as usize, heads.token_bytes() as usize / 2);
            let mut expected = before[request].clone();
            expected[key..key + bytes].copy_from_slice(&row[2 * 8 * 64..2 * q_and_k]);
            expected[value..value + bytes].copy_from_slice(&row[2 * q_and_k..]);
            assert!(device.read(kv[request].all()).expect("read") == expected, "request {request}");
        }
    });
}

fn check_attention(device: &mut CudaDevice, shape: AttentionShape, tokens: &[u32], splits: u32) {
    let stream = device.stream().expect("a stream");
    let batch = batch(device, shape, tokens);
    let requests = tokens.len() as u32;
    let workspace = poisoned(device, stream, AttentionWork::workspace_bytes(shape, requests, splits));
    let row = shape.heads * shape.head_dim;
    let output = poisoned(device, stream, 2 * u64::from(requests * row));
    let work = AttentionWork {
        shape: batch.shape,
        batch: requests,
        most_tokens: tokens.iter().copied().max().unwrap_or(0),
        total_tokens: tokens.iter().map(|tokens| u64::from(*tokens)).sum(),
        qkv: batch.qkv.all(),
        table: batch.table,
        splits,
        workspace: workspace.all(),
        output: output.all(),
    };
    device.submit(stream, &Work::Attention(work)).expect("submitted");
    let got = numbers(&device.read(output.all()).expect("read"));
    for (request, got) in got.chunks_exact(row as usize).enumerate() {
        let kv = device.read(batch.kv[request].all()).expect("read");
        let query = &batch.rows[request][..row as usize];
        let expected = attention(batch.heads, query, &kv, batch.tokens[request]);
        let error = relative_error(got, &expected);
        assert!(error < 2.0 * ROUNDING, "{shape:?}, {} tokens, {splits} splits: {error}", tokens[request]);
    }
}

#[test]
fn attention_of_every_variant_is_the_reference_over_ragged_contexts() {
    let ended = scenario("attention").succeeds(|device| {
        for (variant, kv_heads) in VARIANTS.into_iter().zip([1, 2, 1, 2].into_iter().cycle()) {
            let heads = kv_heads * variant.group;
            let shape = AttentionShape { heads, kv_heads, head_dim: variant.head_dim };
            check_attention(device, shape, &[1, 33, 70], 2);
            device.free_all().expect("given back");
        }
        let llama = AttentionShape { heads: 8, kv_heads: 2, head_dim: 128 };
        check_attention(device, llama, &[200], 1);
        check_attention(device, llama, &[200, 5], 7);
    });
    if let Some(ended) = ended {
        assert_eq!(ended.counts["kernel attention_d128_g4"], 3);
        assert_eq!(ended.counts["kernel attention_combine_bf16"], 11); // 9 variants and 2 more cuts
    }
}

#[test]
fn heads_without_a_kernel_are_waived() {
    scenario("no kernel").succeeds(|device| {
        let shape = AttentionShape { heads: 3, kv_heads: 1, head_dim: 128 };
        let stream = device.stream().expect("a stream");
        let kv = device.alloc(shape.block_bytes()).expect("memory");
        let table = device.kv_table(&[KvRow { kv: kv.all(), tokens: 1 }]).expect("a table");
        let qkv = device.alloc(2 * u64::from(shape.qkv_width())).expect("memory");
        let work = RopeWork { shape, batch: 1, qkv: qkv.all(), table };
        assert!(device.submit(stream, &Work::Rope(work)).expect_err("no kernel").is_waived());
    });
}
