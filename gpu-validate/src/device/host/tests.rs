use super::*;
use crate::device::{AttentionShape, CopyApi, CopyPiece, Direction, LATCH_LIMIT_S, POISON, RopeWork};

fn device(link_bytes_per_s: Option<f64>) -> HostDevice {
    HostDevice::new(HostOptions { link_bytes_per_s, memory_bytes: Some(64 << 20) }).unwrap()
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

fn whole_copy<'a>(
    host: HostBuffer,
    device: DeviceBuffer,
    direction: Direction,
    pieces: &'a [CopyPiece],
) -> CopyWork<'a> {
    CopyWork { direction, api: CopyApi::Async, host, device, pieces }
}

/// A slot is poisoned, a copy into it takes 50 ms, and a reader on another stream waits for it, or not.
fn read_slot(with_wait: bool) -> (Vec<u8>, Vec<u8>) {
    let bytes = 64 << 10;
    let mut device = device(Some(bytes as f64 / 0.05));
    let host = device.alloc_host(bytes, HostMemory::Pinned).unwrap();
    device.fill_host(host.all(), FillWith::Random { seed: 3, scale: 1.0 }).unwrap();
    let (slot, seen) = (device.alloc(bytes).unwrap(), device.alloc(bytes).unwrap());
    let (copies, compute) = (device.stream().unwrap(), device.stream().unwrap());
    let ready = device.event().unwrap();
    device.submit(compute, &Work::Fill { to: slot.all(), with: POISON }).unwrap();
    device.synchronize().unwrap();
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes }];
    device.copy(copies, &whole_copy(host, slot, Direction::H2d, &pieces)).unwrap();
    device.record(copies, ready).unwrap();
    if with_wait {
        device.wait(compute, ready).unwrap();
    }
    device.submit(compute, &Work::DeviceCopy { from: slot.all(), to: seen.all() }).unwrap();
    device.synchronize().unwrap();
    (device.read(seen.all()).unwrap(), device.read_host(host.all()).unwrap())
}

#[test]
fn a_dropped_wait_between_a_copy_and_its_reader_shows_poison() {
    let (seen, _) = read_slot(false);
    assert!(seen.as_chunks::<2>().0.iter().all(|pair| *pair == [0xc0, 0x7f]));
    let (seen, sent) = read_slot(true);
    assert_eq!(seen, sent);
}

#[test]
fn copies_in_pieces_land_where_they_say_and_come_back() {
    let mut device = device(None);
    let host = device.alloc_host(4096, HostMemory::Pinned).unwrap();
    device.fill_host(host.all(), FillWith::Random { seed: 5, scale: 1.0 }).unwrap();
    let sent = device.read_host(host.all()).unwrap();
    let memory = device.alloc(4096).unwrap();
    let stream = device.stream().unwrap();
    // Four pieces of 1,000 bytes go in backwards, and one read brings all back.
    let piece = |i: u64| CopyPiece { host_offset: 1000 * i, device_offset: 3000 - 1000 * i, bytes: 1000 };
    let pieces: Vec<CopyPiece> = (0..4).map(piece).collect();
    for api in [CopyApi::Async, CopyApi::Batch, CopyApi::BatchOverlap, CopyApi::SmGather { blocks: 2 }] {
        device.submit(stream, &Work::Fill { to: memory.all(), with: POISON }).unwrap();
        let work = whole_copy(host, memory, Direction::H2d, &pieces);
        device.copy(stream, &CopyWork { api, ..work }).unwrap();
        let back = device.alloc_host(4096, HostMemory::Pageable).unwrap();
        let all = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 4096 }];
        device.copy(stream, &whole_copy(back, memory, Direction::D2h, &all)).unwrap();
        device.synchronize().unwrap();
        let got = device.read_host(back.all()).unwrap();
        for i in 0..4 {
            assert_eq!(got[3000 - 1000 * i..][..1000], sent[1000 * i..][..1000], "{api:?}, piece {i}");
        }
        assert_eq!(got[4000..4004], [0xc0, 0x7f, 0xc0, 0x7f], "{api:?}");
    }
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
        let mut device = device(None);
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
    let mut device = device(None);
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
    let mut device = device(None);
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

#[test]
fn a_panic_in_a_worker_is_an_error_of_the_next_synchronize_and_ends_nothing() {
    let mut device = device(None);
    let stream = device.stream().unwrap();
    device.enqueue(stream, "broken kernel", (Engines::COMPUTE, 1), || panic!("index 7 out of 3")).unwrap();
    let after = device.alloc(64).unwrap().all();
    device.submit(stream, &Work::Fill { to: after, with: FillWith::Word(0x0102_0304) }).unwrap();
    let error = device.synchronize().unwrap_err();
    assert_eq!(error.to_string(), "broken kernel: index 7 out of 3");
    device.synchronize().unwrap();
    assert_eq!(device.read(after).unwrap()[..4], [4, 3, 2, 1]);
}

#[test]
fn copies_of_one_direction_share_the_link_and_a_kernel_runs_beside_them() {
    let mut device = device(Some(1e6));
    let host = device.alloc_host(20_000, HostMemory::Pinned).unwrap();
    let memory = device.alloc(20_000).unwrap();
    let streams: Vec<Stream> = (0..3).map(|_| device.stream().unwrap()).collect();
    let events: Vec<Event> = (0..4).map(|_| device.event().unwrap()).collect();
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 20_000 }];
    device.record(streams[0], events[3]).unwrap();
    for i in 0..2 {
        device.copy(streams[i], &whole_copy(host, memory, Direction::H2d, &pieces)).unwrap();
        device.record(streams[i], events[i]).unwrap();
    }
    device.submit(streams[2], &Work::Spin { seconds: 0.001 }).unwrap();
    device.record(streams[2], events[2]).unwrap();
    device.synchronize().unwrap();
    let ends: Vec<f64> = (0..3).map(|i| device.elapsed_s(events[3], events[i]).unwrap()).collect();
    // 20,000 B at 1 MB/s take 20 ms, the second copy waits for the first; the kernel waits for neither.
    assert!(ends[0] >= 0.02 && ends[1] >= 0.04, "{ends:?}");
    assert!(ends[2] >= 0.001 && ends[2] < ends[1], "{ends:?}");
}

#[test]
fn a_latch_holds_its_stream_until_it_is_let_go() {
    let mut device = device(None);
    let stream = device.stream().unwrap();
    let (latch, began, passed) = (device.latch().unwrap(), device.event().unwrap(), device.event().unwrap());
    for _ in 0..2 {
        device.record(stream, began).unwrap();
        device.hold(stream, latch).unwrap();
        device.record(stream, passed).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        device.release(latch).unwrap();
        device.synchronize().unwrap();
        let held_s = device.elapsed_s(began, passed).unwrap();
        assert!((0.0..LATCH_LIMIT_S).contains(&held_s), "{held_s}");
    }
}

#[test]
fn a_latch_that_nobody_lets_go_opens_by_itself_and_says_so() {
    let mut device = device(None);
    let stream = device.stream().unwrap();
    let (latch, passed) = (device.latch().unwrap(), device.event().unwrap());
    let began_s = device.now_s();
    device.hold(stream, latch).unwrap();
    device.record(stream, passed).unwrap();
    device.synchronize().unwrap();
    assert!(device.now_s() - began_s >= LATCH_LIMIT_S);
    assert!(device.release(latch).unwrap_err().to_string().contains("opened by itself"));
}

#[test]
fn a_device_that_goes_away_waits_for_no_latch_and_no_spin() {
    let mut device = device(None);
    let (held, busy) = (device.stream().unwrap(), device.stream().unwrap());
    let latch = device.latch().unwrap();
    device.hold(held, latch).unwrap();
    device.submit(busy, &Work::Spin { seconds: 30.0 }).unwrap();
    let began = Instant::now();
    drop(device);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_graph_runs_its_work_again_at_each_launch() {
    let mut device = device(None);
    let (compute, copies) = (device.stream().unwrap(), device.stream().unwrap());
    let (fork, join) = (device.event().unwrap(), device.event().unwrap());
    let host = device.alloc_host(4096, HostMemory::Pinned).unwrap();
    let (slot, seen) = (device.alloc(4096).unwrap(), device.alloc(4096).unwrap());
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 4096 }];
    device.begin_capture(compute).unwrap();
    device.submit(compute, &Work::Fill { to: slot.all(), with: POISON }).unwrap();
    device.record(compute, fork).unwrap();
    device.wait(copies, fork).unwrap();
    device.copy(copies, &whole_copy(host, slot, Direction::H2d, &pieces)).unwrap();
    device.record(copies, join).unwrap();
    device.wait(compute, join).unwrap();
    device.submit(compute, &Work::DeviceCopy { from: slot.all(), to: seen.all() }).unwrap();
    let graph = device.end_capture(compute).unwrap();
    for seed in [1, 2] {
        device.fill_host(host.all(), FillWith::Random { seed, scale: 1.0 }).unwrap();
        device.launch(compute, graph).unwrap();
        device.synchronize().unwrap();
        assert_eq!(device.read(seen.all()).unwrap(), device.read_host(host.all()).unwrap());
    }
}

#[test]
fn what_a_cpu_cannot_do_is_waived_and_what_does_not_fit_is_said() {
    let mut device = device(None);
    assert!(device.alloc_host(4096, HostMemory::RegisteredHugePages).unwrap_err().is_waived());
    let error = device.alloc(65 << 20).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { free: 67_108_864, .. }), "{error}");
    let old = device.alloc(64 << 20).unwrap();
    device.free_all().unwrap();
    assert!(device.read(old.slice(0, 1)).is_err());
    device.alloc(64 << 20).unwrap();
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = HostOptions { link_bytes_per_s: Some(rate), memory_bytes: None };
        assert!(HostDevice::new(options).is_err(), "{rate}");
    }
}
