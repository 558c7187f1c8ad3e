//! Norm, rotary embedding, KV append and activation against fp64, within the rounding of a bf16 result.

use gpu_validate::kernels::attention::Heads;
use gpu_validate::kernels::layer::{KvAppend, RmsNorm, Rope, SiluMul, kv_row_offsets, rope_turns};
use gpu_validate::kernels::reference::{self, from_bf16, random_bf16};

use crate::shim::{Program, Shim};

fn random(seed: u64, count: usize, scale: f32) -> Vec<u16> {
    (0..count as u64).map(|i| random_bf16(seed, i, scale)).collect()
}

/// Every element within half a step of bf16 (at most 2⁻⁸ of it) and 1e-5 of what fp32 may lose before it.
fn assert_rounded(got: &[u16], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (i, (&bits, &expected)) in got.iter().zip(expected).enumerate() {
        let got = f64::from(from_bf16(bits));
        let error = (got - expected).abs();
        assert!(error <= expected.abs() / 256.0 + 1e-5, "element {i}: {got}, expected {expected}");
    }
}

#[test]
fn rms_norm_adds_the_delta_to_the_residual_and_norms_the_sum() {
    let Some(shim) = Shim::get() else { return };
    for (hidden, with_delta) in [(4096, true), (5120, true), (72, false)] {
        let (rows, width) = (3, hidden as usize);
        let residual = random(1, rows * width, 2.0);
        let delta = random(2, rows * width, 1.0);
        let weight = random(3, width, 1.5);
        let mut program = Program::default();
        let norm = RmsNorm {
            rows: rows as u32,
            hidden,
            residual: program.bf16(&residual),
            delta: with_delta.then(|| program.bf16(&delta)),
            weight: program.bf16(&weight),
            output: program.poison(2 * (rows * width) as u64),
            epsilon: 1e-5,
        };
        program.launch(norm.launch());
        let results = program.run(shim);
        for row in 0..rows {
            let at = row * width..(row + 1) * width;
            let delta = with_delta.then_some(&delta[at.clone()]);
            let (sums, expected) = reference::rms_norm(&residual[at.clone()], delta, &weight, 1e-5);
            assert_eq!(results.bf16(norm.residual)[at.clone()], sums);
            assert_rounded(&results.bf16(norm.output)[at], &expected);
        }
    }
}

#[test]
fn rope_turns_q_and_k_by_their_position_and_leaves_v_alone() {
    let Some(shim) = Shim::get() else { return };
    for (heads, kv_heads, dim) in [(8, 2, 128), (3, 3, 96)] {
        let heads = Heads::new(heads, kv_heads, dim).expect("a kernel exists");
        let tokens = [1, 2, 4096, 131_072];
        let stride = heads.qkv_width() as usize;
        let qkv = random(5, stride * tokens.len(), 1.0);
        let mut program = Program::default();
        let rope = Rope {
            heads,
            batch: tokens.len() as u32,
            qkv: program.bf16(&qkv),
            row_stride: stride as u32,
            token_counts: program.words(&tokens),
            turns: program.long_words(&rope_turns(dim, 500_000.0)),
        };
        program.launch(rope.launch());
        let got = program.run(shim).bf16(rope.qkv);
        let rotated = ((heads.heads() + heads.kv_heads) * dim) as usize;
        for (request, &count) in tokens.iter().enumerate() {
            let row = &qkv[request * stride..(request + 1) * stride];
            let got = &got[request * stride..(request + 1) * stride];
            let expected: Vec<f64> = row[..rotated]
                .chunks_exact(dim as usize)
                .flat_map(|head| reference::rope(head, count - 1, 500_000.0))
                .collect();
            assert_rounded(&got[..rotated], &expected);
            assert_eq!(got[rotated..], row[rotated..], "v does not turn");
        }
    }
}

#[test]
fn kv_append_writes_two_rows_of_each_request_and_nothing_else() {
    let Some(shim) = Shim::get() else { return };
    let heads = Heads::new(32, 8, 128).expect("Llama-3-8B has a kernel");
    let tokens = [1, 16, 17, 0, 31];
    let stride = heads.qkv_width() as usize;
    let qkv = random(6, stride * tokens.len(), 1.0);
    let mut program = Program::default();
    let bases: Vec<_> = tokens.iter().map(|_| program.poison(2 * 65_536)).collect();
    let append = KvAppend {
        heads,
        batch: tokens.len() as u32,
        qkv: program.bf16(&qkv),
        row_stride: stride as u32,
        kv_bases: program.addresses(&bases),
        token_counts: program.words(&tokens),
    };
    program.launch(append.launch());
    let results = program.run(shim);
    for (request, &count) in tokens.iter().enumerate() {
        let mut expected = vec![0x7fc0u16; 65_536];
        if count > 0 {
            let key = &qkv[request * stride + 4096..][..1024];
            let value = &qkv[request * stride + 5120..][..1024];
            let (key_at, value_at) = kv_row_offsets(heads, count - 1);
            expected[key_at as usize / 2..][..1024].copy_from_slice(key);
            expected[value_at as usize / 2..][..1024].copy_from_slice(value);
        }
        assert!(results.bf16(bases[request]) == expected, "request of {count} tokens");
    }
}

#[test]
fn silu_mul_is_right_from_tiny_to_huge_gates() {
    let Some(shim) = Shim::get() else { return };
    let (rows, width) = (2, 2056);
    let mut gate_up = random(7, rows * 2 * width, 8.0);
    for (i, gate) in [-1e30, -200.0, -88.0, 88.0, 1e4].into_iter().enumerate() {
        gate_up[i] = reference::to_bf16(gate);
    }
    let mut program = Program::default();
    let silu = SiluMul {
        rows: rows as u32,
        width: width as u32,
        gate_up: program.bf16(&gate_up),
        output: program.poison(2 * (rows * width) as u64),
    };
    program.launch(silu.launch());
    let expected: Vec<f64> = gate_up
        .chunks_exact(2 * width)
        .flat_map(|row| (0..width).map(|i| reference::silu_mul(row[i], row[width + i])))
        .collect();
    assert_rounded(&program.run(shim).bf16(silu.output), &expected);
}
