//! A decode layer on the pretended GPU against the host backend: the same work, the same data, the same results up to
//! rounding. Finds swapped arguments, wrong strides and a product that is transposed the wrong way.

use gpu_validate::device::host::{HostDevice, HostOptions};
use gpu_validate::device::{
    AttentionShape, AttentionWork, Device, DeviceBuffer, FillWith, GemmWork, KvRow, NormWork, RopeWork, Work,
};
use gpu_validate::kernels::reference::{from_bf16, relative_error};

use crate::fake::{on_fake_driver, open};

/// Llama's group of 4 and a ragged batch whose contexts end inside, at, and after a block.
const SHAPE: AttentionShape = AttentionShape { heads: 8, kv_heads: 2, head_dim: 128 };
const TOKENS: [u32; 3] = [17, 32, 49];
const BATCH: u32 = 3;
const WIDTH: u32 = 264; // of the residual: no power of two, so strides cannot be taken for each other
const SPLITS: u32 = 2;

fn filled(device: &mut dyn Device, elements: u32, seed: u64) -> DeviceBuffer {
    let buffer = device.alloc(2 * u64::from(elements)).unwrap();
    let stream = device.stream().unwrap();
    let with = FillWith::Random { seed, scale: 0.5 };
    device.submit(stream, &Work::Fill { to: buffer.all(), with }).unwrap();
    device.synchronize().unwrap();
    buffer
}

/// One layer's kernels in their order; what each wrote.
fn run(device: &mut dyn Device) -> Vec<(&'static str, Vec<f64>)> {
    let qkv_width = SHAPE.qkv_width();
    let residual = filled(device, BATCH * WIDTH, 1);
    let delta = filled(device, BATCH * WIDTH, 2);
    let gains = filled(device, WIDTH, 3);
    let normed = filled(device, BATCH * WIDTH, 4);
    let weights = filled(device, qkv_width * WIDTH, 5);
    let qkv = filled(device, BATCH * qkv_width, 6);
    let output = filled(device, BATCH * SHAPE.heads * SHAPE.head_dim, 7);
    let gate_up = filled(device, BATCH * 2 * WIDTH, 8);
    let activated = filled(device, BATCH * WIDTH, 9);
    let workspace = device.alloc(AttentionWork::workspace_bytes(SHAPE, BATCH, SPLITS)).unwrap();
    let kv_blocks = TOKENS.map(|tokens| u64::from(tokens.div_ceil(16)) * SHAPE.block_bytes());
    let kv = filled(device, (kv_blocks.iter().sum::<u64>() / 2) as u32, 10);
    let mut offset = 0;
    let mut rows = Vec::new();
    for (tokens, bytes) in TOKENS.into_iter().zip(kv_blocks) {
        rows.push(KvRow { kv: kv.slice(offset, bytes), tokens });
        offset += bytes;
    }
    let table = device.kv_table(&rows).unwrap();
    let (weights, input) = (weights.all(), normed.all());
    let rope = RopeWork { shape: SHAPE, batch: BATCH, qkv: qkv.all(), table };
    let steps = [
        Work::Norm(NormWork {
            rows: BATCH,
            width: WIDTH,
            residual: residual.all(),
            delta: Some(delta.all()),
            weights: gains.all(),
            output: normed.all(),
        }),
        Work::Gemm(GemmWork { rows: BATCH, out: qkv_width, inner: WIDTH, weights, input, output: qkv.all() }),
        Work::Rope(rope),
        Work::KvAppend(rope),
        Work::Attention(AttentionWork {
            shape: SHAPE,
            batch: BATCH,
            most_tokens: 49,
            total_tokens: 98, // 17 + 32 + 49
            qkv: qkv.all(),
            table,
            splits: SPLITS,
            workspace: workspace.all(),
            output: output.all(),
        }),
        Work::SiluMul { rows: BATCH, width: WIDTH, gate_up: gate_up.all(), output: activated.all() },
    ];
    let stream = device.stream().unwrap();
    let written = [
        ("residual", residual),
        ("normed", normed),
        ("qkv", qkv),
        ("KV", kv),
        ("attention", output),
        ("activation", activated),
    ];
    for step in &steps {
        device.submit(stream, step).unwrap();
    }
    written.map(|(name, buffer)| (name, numbers(device, buffer))).into()
}

fn numbers(device: &mut dyn Device, buffer: DeviceBuffer) -> Vec<f64> {
    let bytes = device.read(buffer.all()).unwrap();
    let values = bytes.as_chunks::<2>().0.iter().map(|pair| from_bf16(u16::from_le_bytes(*pair)));
    values.map(f64::from).collect()
}

#[test]
fn a_layer_gives_what_the_host_backend_gives() {
    on_fake_driver("layer::a_layer_gives_what_the_host_backend_gives", &[], || {
        let got = run(&mut open());
        let expected = run(&mut HostDevice::new(HostOptions::default()).unwrap());
        for ((name, got), (_, expected)) in got.iter().zip(&expected) {
            // bf16 has steps of 2^-8 of a value; results may differ by a rounding here and there
            let error = relative_error(got, expected);
            assert!(error < 4e-3, "{name}: {error}");
        }
    });
}

#[test]
fn products_of_two_streams_do_not_share_a_workspace_and_come_out_alike() {
    on_fake_driver("layer::products_of_two_streams_do_not_share_a_workspace_and_come_out_alike", &[], || {
        let mut device = open();
        let device: &mut dyn Device = &mut device;
        let (weights, input) = (filled(device, 40 * 24, 1), filled(device, 3 * 24, 2));
        let outputs = [filled(device, 3 * 40, 3), filled(device, 3 * 40, 4)];
        for output in outputs {
            let stream = device.stream().unwrap();
            let (weights, input) = (weights.all(), input.all());
            let work = GemmWork { rows: 3, out: 40, inner: 24, weights, input, output: output.all() };
            device.submit(stream, &Work::Gemm(work)).unwrap();
        }
        let [first, second] = outputs.map(|output| numbers(device, output));
        assert!(first == second && first.iter().any(|value| *value != 0.0));
    });
}

#[test]
fn heads_without_a_kernel_are_waived() {
    on_fake_driver("layer::heads_without_a_kernel_are_waived", &[], || {
        let mut device = open();
        let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 128 }; // three query heads per KV head
        let (qkv, kv) = (device.alloc(2 * 1280).unwrap(), device.alloc(shape.block_bytes()).unwrap());
        let table = device.kv_table(&[KvRow { kv: kv.all(), tokens: 1 }]).unwrap();
        let stream = device.stream().unwrap();
        let rope = RopeWork { shape, batch: 1, qkv: qkv.all(), table };
        assert!(device.submit(stream, &Work::KvAppend(rope)).expect_err("no kernel").is_waived());
    });
}
