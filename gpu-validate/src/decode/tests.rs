//! The pipeline on a device with a clock of its own: exact times, worked out by hand or by the simulator.

use orbitflow_sim::cost::Contention;
use orbitflow_sim::ids::Layer;
use orbitflow_sim::model::ModelSpec;
use orbitflow_sim::pipeline::{CopyOrder, CopyTimes, LayerTimes, StepRequest, StepWork, timeline};
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration, SimTime};

use super::{Rig, RigOptions};
use crate::case::{Case, CopyStreams, Granularity};
use crate::device::virtual_time::{VirtualTimeDevice, VirtualTruth};
use crate::results::Submission;

/// A small model: K and V of a token take 4 · 2 · 8 = 64 bytes, a block 1,024.
pub(crate) fn case(layers: u32, contexts: &[u32], offloaded: &[&[u32]], slots: u32) -> Case {
    let model = ModelSpec {
        name: "small".to_owned(),
        layers,
        hidden: 64,
        heads: 8,
        kv_heads: 2,
        head_dim: 8,
        intermediate: 192,
        vocab: 512,
        tied_embedding: false,
        qkv_bias: false,
        other_layer_params: 0,
        kv_element_bytes: 2,
        weight_element_bytes: 2,
    };
    Case {
        id: "case".to_owned(),
        workload: "case".to_owned(),
        model,
        layers,
        contexts: contexts.to_vec(),
        offloaded: offloaded
            .iter()
            .map(|layers| layers.iter().map(|layer| Layer(*layer)).collect())
            .collect(),
        placement: "test".to_owned(),
        slots,
        granularity: Granularity::Layer,
        streams: CopyStreams::One,
        dilation_s: 0.0,
        held_out: false,
    }
}

/// Every kernel of a layer takes 1 µs, so a layer takes 10 µs and the tail 2 µs; a copy takes 1 µs and 1 µs per KiB.
fn round_truth() -> VirtualTruth {
    let micro = SimDuration::from_picos(1_000_000);
    let fast = BytesPerSec::try_from(1 << 60).unwrap();
    let mut truth = VirtualTruth {
        empty_kernel: micro,
        small_kernel: micro,
        gemm_floor: micro,
        weights_rate: fast,
        flops_per_s: fast,
        attention_floor: micro,
        attention_constant: SimDuration::ZERO,
        attention_rate: fast,
        memory_rate: fast,
        ..VirtualTruth::small()
    };
    for links in [&mut truth.h2d, &mut truth.d2h] {
        for link in [&mut links.by_call, &mut links.batch] {
            link.latency = micro;
            link.rate = BytesPerSec::try_from(1_024_000_000).unwrap();
            link.knee = Bytes::ZERO;
            link.small_rate = link.rate;
            (link.submit, link.engine) = (SimDuration::ZERO, SimDuration::ZERO);
        }
    }
    truth
}

fn steps(truth: &VirtualTruth, case: &Case, options: RigOptions) -> Vec<u64> {
    let mut device = VirtualTimeDevice::new(truth.clone());
    let mut rig = Rig::new(&mut device, case, options).unwrap();
    let seconds = rig.time_steps(2, 3).unwrap();
    seconds.iter().map(|seconds| SimDuration::from_secs_f64(*seconds).as_picos()).collect()
}

fn micros(case: &Case) -> f64 {
    let times = steps(&round_truth(), case, RigOptions::timing(1, 2));
    assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
    times[0] as f64 / 1e6
}

#[test]
fn a_resident_step_is_its_layers_and_the_output_head() {
    // 3 layers of 10 kernels and a tail of 2, 1 µs each
    assert_eq!(micros(&case(3, &[16, 32], &[&[], &[]], 1)), 32.0);
}

#[test]
fn a_copy_that_takes_longer_than_the_layers_before_it_delays_the_step() {
    // 29 blocks of 1 KiB: 30 µs. Layer 2 could start at 10, its copy lands at 30: 30 + 10 + 2
    assert_eq!(micros(&case(2, &[29 * 16], &[&[2]], 1)), 42.0);
    // 5 blocks: 6 µs, hidden behind layer 1: 10 + 10 + 2
    assert_eq!(micros(&case(2, &[5 * 16], &[&[2]], 1)), 22.0);
}

#[test]
fn one_slot_serialises_copies_and_layers_and_two_do_not() {
    // 14 blocks: 15 µs per copy, layers 1 to 4 all offloaded. One slot: each layer is copy, then compute, as the next
    // copy waits for the layer's end: 4 · (15 + 10) + 2
    let mut case = case(4, &[14 * 16], &[&[1, 2, 3, 4]], 1);
    assert_eq!(micros(&case), 102.0);
    // Two: copies end at 15, 30; the third waits for layer 1 (25), so 45, the fourth 60; layer 4 to 70; tail 2
    case.slots = 2;
    assert_eq!(micros(&case), 72.0);
}

#[test]
fn in_one_stream_a_copy_behind_a_taken_slot_waits_and_in_its_own_it_does_not() {
    // Copies take 10 µs (9 blocks). Request 0 fetches layers 1 to 3 through one slot, request 1 layer 3.
    // One stream: 0–10, layer 1 10–20, copy 20–30, layer 2 30–40, copies for layer 3 40–50 and 50–60, layer 3 to 70, + 2
    let mut case = case(3, &[9 * 16, 9 * 16], &[&[1, 2, 3], &[3]], 1);
    assert_eq!(micros(&case), 72.0);
    // Own streams: request 1's copy runs 10–20, while request 0's waits for its slot: layer 3 50–60, + 2
    case.streams = CopyStreams::PerRequest;
    assert_eq!(micros(&case), 62.0);
}

#[test]
fn dilation_lengthens_every_layer() {
    let case = Case { dilation_s: 5e-6, ..case(3, &[16], &[&[]], 1) };
    assert_eq!(micros(&case), 47.0); // 3 · (10 + 5) + 2
}

/// The simulator's answer for `case`, in picoseconds, the tail included.
fn predicted(truth: &VirtualTruth, case: &Case) -> u64 {
    let cost = truth.cost_model(&case.model, case.granularity);
    let block = case.attention().block_bytes();
    let copy = |tokens: &u32| {
        CopyTimes::Same(cost.h2d.copy_time(Bytes::new(u64::from(tokens.div_ceil(16)) * block)))
    };
    let requests: Vec<StepRequest<'_>> = case
        .contexts
        .iter()
        .zip(&case.offloaded)
        .map(|(tokens, fetched)| StepRequest { fetched: *fetched, copy: copy(tokens) })
        .collect();
    let work = StepWork {
        layers: case.layers,
        compute: LayerTimes::Same(cost.layer_compute(case.tokens(), case.batch())),
        requests: &requests,
        slots: case.slots,
        order: CopyOrder::InOrder,
        contention: Contention::NONE,
    };
    let (timing, _) = timeline(&work, SimTime::ZERO, None);
    (timing.step + cost.tail(case.batch())).as_picos()
}

fn varied() -> Vec<Case> {
    let placements: [&[&[u32]]; 4] = [
        &[&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 6]],
        &[&[2, 4, 6], &[]],
        &[&[1, 5], &[2, 3, 4, 6]],
        &[&[6], &[3, 6]],
    ];
    let mut cases = Vec::new();
    for (place, offloaded) in placements.iter().enumerate() {
        for slots in 1..=3 {
            let granularity = Granularity::ALL[(place + slots as usize) % 3];
            cases.push(Case { granularity, ..case(6, &[300, 1100], offloaded, slots) });
        }
    }
    cases
}

#[test]
fn a_step_takes_what_the_simulator_says_to_the_picosecond() {
    let truth = VirtualTruth::small();
    for case in varied() {
        let expected = predicted(&truth, &case);
        let times = steps(&truth, &case, RigOptions::timing(1, 2));
        let what = format!("{:?} slots {} {:?}", case.offloaded, case.slots, case.granularity);
        assert!(times.iter().all(|time| time.abs_diff(expected) <= 1), "{what}: {times:?} {expected}");
    }
}

#[test]
fn a_graph_takes_as_long_as_a_stream() {
    let truth = VirtualTruth::small();
    for case in varied() {
        let graph = RigOptions { submission: Submission::Graph, ..RigOptions::timing(1, 2) };
        let (graph, stream) = (steps(&truth, &case, graph), steps(&truth, &case, RigOptions::timing(1, 2)));
        // The graph also joins the last layer's write-back, which hides behind the output head here.
        assert!(graph.iter().zip(&stream).all(|(graph, stream)| graph.abs_diff(*stream) <= 1));
    }
}

#[test]
fn an_instrumented_step_says_when_layers_and_copies_ran() {
    let case = case(2, &[29 * 16], &[&[2]], 1);
    let mut device = VirtualTimeDevice::new(round_truth());
    let found = Rig::new(&mut device, &case, RigOptions::timing(1, 2)).unwrap().instrumented_step().unwrap();
    let rounded = |seconds: f64| (seconds * 1e6 * 1e6).round() / 1e6;
    let layers: Vec<_> = found.layers_s.iter().map(|(start, end)| (rounded(*start), rounded(*end))).collect();
    assert_eq!(layers, [(0.0, 10.0), (30.0, 40.0)]);
    let (layer, start, end) = found.copies_s[0];
    assert_eq!((layer, rounded(start), rounded(end)), (2, 0.0, 30.0));
    assert_eq!((found.copies_s.len(), found.overhead.abs() < 1e-9), (1, true));
}

#[test]
fn more_samples_than_the_queue_holds_are_all_taken() {
    let mut device = VirtualTimeDevice::new(round_truth());
    let mut rig = Rig::new(&mut device, &case(1, &[16], &[&[]], 1), RigOptions::timing(1, 1)).unwrap();
    let seconds = rig.time_steps(20, 40).unwrap();
    assert_eq!(seconds.len(), 40);
    assert!(seconds.iter().all(|seconds| (seconds - 12e-6).abs() < 1e-15), "{seconds:?}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let truth = VirtualTruth { memory_bytes: 1 << 20, ..round_truth() };
    let mut device = VirtualTimeDevice::new(truth);
    let refused = Rig::new(&mut device, &case(2, &[1 << 20], &[&[]], 1), RigOptions::timing(1, 1)).err();
    assert!(matches!(refused, Some(crate::device::DeviceError::OutOfMemory { .. })), "{refused:?}");
}
