//! The claim that everything else rests on: on a clock of its own, a step of the rig takes what the simulator predicts,
//! to the picosecond (issue 3, point 6). What is left of an error on a GPU is then the fit's or the hardware's.

use proptest::prelude::*;

use orbitflow_sim::cost::Contention;
use orbitflow_sim::ids::Layer;
use orbitflow_sim::model::LayerSet;

use super::cases::cases;
use super::costs::CostSource;
use super::placements::Rule;
use super::predict::predict;
use super::run::WARM_UPS;
use super::testing::{self, TruthCosts};
use crate::case::{Case, CopyStreams, Granularity};
use crate::decode::{Rig, RigOptions};
use crate::device::virtual_time::{VirtualContention, VirtualTimeDevice, VirtualTruth};
use crate::device::{Backend, Device};
use crate::scale::Scale;

const PICOSECOND: f64 = 1e-12;

/// Measured and predicted seconds of a step.
fn both(case: &Case, truth: &VirtualTruth) -> (f64, f64) {
    let cost = TruthCosts(truth).step_cost(&case.model, case.granularity).unwrap();
    let predicted = predict(case, &cost).step_s.full.get();
    let mut device = VirtualTimeDevice::new(truth.clone());
    let mut rig = Rig::new(&mut device, case, RigOptions::timing(1, 2)).unwrap();
    let steps = rig.time_steps(WARM_UPS, 3).unwrap();
    assert!(steps.iter().all(|step| (step - steps[0]).abs() < PICOSECOND), "{}: {steps:?}", case.id);
    (steps[0], predicted)
}

fn assert_exact(case: &Case, truth: &VirtualTruth) {
    let (measured, predicted) = both(case, truth);
    let off = (measured - predicted).abs();
    // Seconds are f64 of whole picoseconds: half a picosecond of slack for the two conversions.
    assert!(off <= 1.5 * PICOSECOND, "{}: {measured} s measured, {predicted} s predicted", case.id);
}

#[test]
fn every_case_of_the_emulations_is_predicted_to_the_picosecond() {
    let truth = VirtualTruth::small();
    for quick in [false, true] {
        let scale = Scale::of(Backend::VirtualTime, quick);
        let facts = VirtualTimeDevice::new(truth.clone()).facts().clone();
        let (cases, left_out) = cases(&scale, &facts, &TruthCosts(&truth));
        assert_eq!(left_out, []);
        assert!(cases.iter().any(|case| case.held_out));
        for case in cases.iter().filter(|case| case.streams == CopyStreams::One) {
            assert_exact(case, &truth);
        }
    }
}

#[test]
fn a_gpu_sized_step_is_predicted_to_the_picosecond() {
    let truth = VirtualTruth::default();
    let scale = Scale::of(Backend::Cuda, true);
    let facts = VirtualTimeDevice::new(truth.clone()).facts().clone();
    let (cases, _) = cases(&scale, &facts, &TruthCosts(&truth));
    assert_eq!(cases.len(), 10);
    for case in cases.iter().filter(|case| case.streams == CopyStreams::One).take(4) {
        assert_exact(case, &truth);
    }
}

#[test]
fn contention_is_predicted_to_the_roundings_of_the_kernels() {
    let contention = VirtualContention { copy_ppm: 1_300_000, compute_ppm: 1_080_000 };
    let truth = VirtualTruth { contention: Some(contention), ..VirtualTruth::small() };
    let model = testing::model();
    for rule in [Rule::Every(2), Rule::All, Rule::Mixed] {
        let case = testing::case(&model, &[1600, 800, 160, 800], rule, 2);
        let cost = TruthCosts(&truth).step_cost(&model, case.granularity).unwrap();
        assert_eq!(cost.full.contention, Contention::of_factors(1.3, 1.08).unwrap());
        let prediction = predict(&case, &cost);
        let (measured, _) = both(&case, &truth);
        assert!(Some(prediction.step_s.full) > prediction.step_s.no_contention, "nothing was slowed");
        // The device rounds each of a layer's ten kernels up to the picosecond, the simulator the layer: 80 ps in all.
        let off = (measured - prediction.step_s.full.get()).abs();
        assert!(off <= 81.0 * PICOSECOND, "{rule:?}: {measured} against {}", prediction.step_s.full);
    }
}

#[test]
fn one_stream_per_request_takes_what_an_order_of_copies_allows() {
    // Engines serve streams in the order of submission among those ready: neither order exactly, both bounds hold.
    let truth = VirtualTruth::small();
    let model = testing::model();
    let mut case = testing::case(&model, &[1600, 800, 160, 800], Rule::Mixed, 1);
    case.streams = CopyStreams::PerRequest;
    let cost = TruthCosts(&truth).step_cost(&model, case.granularity).unwrap();
    let parts = predict(&case, &cost).parts;
    let (measured, _) = both(&case, &truth);
    assert!(parts.least_s - PICOSECOND <= measured && measured <= parts.most_s + PICOSECOND);
}

/// Any batch of up to four requests with any layers offloaded.
fn any_case() -> impl Strategy<Value = Case> {
    let request = (1_u32..1200, 0_u32..256);
    let shape = (prop::collection::vec(request, 1..5), 1_u32..4, 0_usize..3, prop::option::of(1_u32..90_000));
    shape.prop_map(|(requests, slots, granularity, dilation_ns)| {
        let model = testing::model();
        let layers = |bits: u32| -> LayerSet {
            (1..=8).filter(|layer| bits >> (layer - 1) & 1 == 1).map(Layer).collect()
        };
        Case {
            id: format!("{requests:?} slots {slots} granularity {granularity} dilation {dilation_ns:?}"),
            workload: "random".to_owned(),
            layers: model.layers,
            contexts: requests.iter().map(|(tokens, _)| *tokens).collect(),
            offloaded: requests.iter().map(|(_, bits)| layers(*bits)).collect(),
            placement: "random".to_owned(),
            slots,
            granularity: Granularity::ALL[granularity],
            streams: CopyStreams::One,
            dilation_s: f64::from(dilation_ns.unwrap_or(0)) * 1e-9,
            held_out: false,
            model,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_placement_is_predicted_to_the_picosecond(case in any_case()) {
        assert_exact(&case, &VirtualTruth::small());
    }
}
