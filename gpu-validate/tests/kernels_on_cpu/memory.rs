//! Fills, checksums, reads, writes, copies and the timing kernels, exactly; and what the pretended device refuses.

use std::collections::BTreeSet;

use gpu_validate::kernels::attention::{Attention, Heads, Splits, VARIANTS};
use gpu_validate::kernels::layer::{KvAppend, RmsNorm, Rope, SiluMul};
use gpu_validate::kernels::memory::{self, GatherCopy, gather_parts};
use gpu_validate::kernels::reference::{checksums, mix, random_bf16};
use gpu_validate::kernels::{Argument, Launch};

use crate::shim::{Program, Shim};

fn noise(bytes: u64, seed: u64) -> Vec<u8> {
    (0..bytes).map(|i| mix(seed + i) as u8).collect()
}

/// One launch of every kernel; the addresses are never used.
fn all_launches() -> Vec<Launch> {
    let heads = |variant| Heads { kv_heads: 2, variant };
    let attention = |variant| Attention {
        heads: heads(variant),
        batch: 1,
        splits: Splits { splits: 1, least_tokens: 0 },
        q: 0,
        row_stride: 8,
        kv_bases: 0,
        token_counts: 0,
        partial_values: 0,
        partial_stats: 0,
    };
    let heads = heads(VARIANTS[0]);
    let (qkv, row_stride, kv_bases, token_counts) = (0, 8, 0, 0);
    let mut launches: Vec<Launch> = VARIANTS.into_iter().map(|variant| attention(variant).launch()).collect();
    launches.extend([
        attention(VARIANTS[0]).combine_bf16(0),
        attention(VARIANTS[0]).combine_fp32(0),
        RmsNorm { rows: 1, hidden: 8, residual: 0, delta: None, weight: 0, output: 0, epsilon: 0.0 }.launch(),
        Rope { heads, batch: 1, qkv, row_stride, token_counts, turns: 0 }.launch(),
        KvAppend { heads, batch: 1, qkv, row_stride, kv_bases, token_counts }.launch(),
        SiluMul { rows: 1, width: 8, gate_up: 0, output: 0 }.launch(),
        GatherCopy { sources: 0, destinations: 0, lengths: 0, pieces: 1, parts: 1, blocks: 1 }.launch(),
        memory::hold(0, 0, 1),
        memory::spin(1),
        memory::empty(),
        memory::fill_random(0, 1, 0, 1.0, 1),
        memory::fill_word(0, 1, 0, 1),
        memory::checksum(0, 16, 0, 1),
        memory::read_only(0, 16, 0, 1),
        memory::write_only(0, 16, 0, 1),
    ]);
    launches
}

#[test]
fn every_launch_has_the_arguments_its_kernel_declares() {
    let Some(shim) = Shim::get() else { return };
    let described: BTreeSet<(String, String)> = all_launches()
        .iter()
        .map(|launch| (launch.kernel.to_owned(), launch.arguments.iter().map(|a| a.kind()).collect()))
        .collect();
    assert_eq!(described, shim.signatures().into_iter().collect());
}

#[test]
fn fills_are_the_reference_element_by_element_and_stop_at_their_end() {
    let Some(shim) = Shim::get() else { return };
    for count in [1u64, 3, 4, 4099] {
        let mut program = Program::default();
        let random = program.poison(2 * (count + 5));
        let words = program.poison(4 * (count + 2));
        program.launch(memory::fill_random(random, count, 42, 0.25, 2));
        program.launch(memory::fill_word(words, count, 0x7fc0_dead, 2));
        let results = program.run(shim);
        let mut expected: Vec<u16> = (0..count).map(|i| random_bf16(42, i, 0.25)).collect();
        expected.extend([0x7fc0; 5]);
        assert_eq!(results.bf16(random), expected);
        let mut expected = vec![0x7fc0_dead; count as usize];
        expected.extend([0x7fc0_7fc0; 2]);
        assert_eq!(results.words(words), expected);
    }
}

#[test]
fn checksums_are_the_reference_whatever_the_number_of_blocks() {
    let Some(shim) = Shim::get() else { return };
    for (bytes, sm_count) in [(16, 1), (4096, 1), (4096 * 37 + 48, 1), (4096 * 37 + 48, 5)] {
        let data = noise(bytes, 11);
        let mut program = Program::default();
        let buffer = program.bytes(data.clone());
        let sums = program.poison(8 * bytes.div_ceil(4096));
        program.launch(memory::checksum(buffer, bytes, sums, sm_count));
        assert_eq!(program.run(shim).long_words(sums), checksums(&data));
    }
}

#[test]
fn a_read_touches_every_word_and_a_write_writes_every_word() {
    let Some(shim) = Shim::get() else { return };
    for bytes in [16u64, 4096 * 16, 300_000] {
        let data = noise(bytes, 12);
        let folded = data.as_chunks::<4>().0.iter().fold(0, |sum, &word| sum ^ u32::from_le_bytes(word));
        let mut program = Program::default();
        let buffer = program.bytes(data);
        let sink = program.words(&[0]);
        let written = program.poison(bytes + 16);
        program.launch(memory::read_only(buffer, bytes, sink, 1));
        program.launch(memory::write_only(written, bytes, 0x0102_0304, 1));
        let results = program.run(shim);
        assert_eq!(results.words(sink), [folded]);
        let (inside, after) = results.bytes(written).split_at(bytes as usize);
        assert!(inside.as_chunks::<4>().0.iter().all(|word| *word == [4, 3, 2, 1]));
        assert_eq!(after, [0xc0, 0x7f].repeat(8));
    }
}

#[test]
fn gathered_pieces_arrive_whole_and_nothing_between_them_is_touched() {
    let Some(shim) = Shim::get() else { return };
    let lengths = [65_536u64, 16, 5, 4096 + 7, 200_000, 0, 131_072];
    for (blocks, parts) in [(1, 1), (3, 4), (32, gather_parts(7, 200_000, 32))] {
        let mut program = Program::default();
        let (mut sources, mut destinations, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        let gap = 32;
        let total: u64 = lengths.iter().map(|bytes| bytes.next_multiple_of(16) + gap).sum();
        let target = program.poison(total);
        for (i, &bytes) in lengths.iter().enumerate() {
            let data = noise(bytes, 100 * i as u64);
            destinations.push(target + expected.len() as u64);
            expected.extend(&data);
            while !expected.len().is_multiple_of(16) {
                expected.push(if expected.len() % 2 == 0 { 0xc0 } else { 0x7f });
            }
            expected.extend([0xc0, 0x7f].repeat(gap as usize / 2));
            sources.push(program.bytes(data));
        }
        let gather = GatherCopy {
            sources: program.addresses(&sources),
            destinations: program.addresses(&destinations),
            lengths: program.long_words(&lengths),
            pieces: lengths.len() as u32,
            parts,
            blocks,
        };
        program.launch(gather.launch());
        assert!(program.run(shim).bytes(target) == expected, "{blocks} blocks, {parts} parts");
    }
}

#[test]
fn a_hold_ends_when_the_host_lets_go_or_its_limit_passes() {
    let Some(shim) = Shim::get() else { return };
    let mut program = Program::default();
    let (open, shut) = (program.words(&[1]), program.words(&[0]));
    let (first, second) = (program.words(&[0]), program.words(&[0]));
    program.launch(memory::hold(open, first, 1_000_000_000));
    program.launch(memory::hold(shut, second, 1_000_000));
    program.launch(memory::spin(1_000_000));
    program.launch(memory::empty());
    let results = program.run(shim);
    assert_eq!(results.words(first), [memory::HOLD_RELEASED]);
    assert_eq!(results.words(second), [memory::HOLD_RAN_OUT]);
}

#[test]
fn a_divergent_shuffle_and_a_barrier_that_some_never_reach_are_caught() {
    let shuffle = "extern \"C\" void planted(u32 *out) {
        if (threadIdx.x < 16) { out[threadIdx.x] = __shfl_xor_sync(ALL_LANES, threadIdx.x, 1); } }";
    let barrier = "extern \"C\" void planted(u32 *out) {
        if (threadIdx.x < 32) { __syncthreads(); } out[threadIdx.x] = 0; }";
    for (planted, said) in [(shuffle, "divergent warp"), (barrier, "divergent block")] {
        let Some(shim) = Shim::build(planted, &[]) else { return };
        let mut program = Program::default();
        let out = program.words(&[0; 64]);
        program.launch(Launch {
            kernel: "planted",
            grid: [1; 3],
            block: 64,
            arguments: vec![Argument::Pointer(out)],
        });
        let message = program.try_run(&shim).err().expect("the device must refuse");
        assert!(message.contains(said), "{message}");
    }
}
