//! The fast pipeline against the event-driven one, and the laws of a decode step, on random work.

use orbitflow_sim::ids::Layer;
use orbitflow_sim::model::{Distance, LayerSet, Placement};
use orbitflow_sim::pipeline::{
    Contention, CopyOrder, CopyTimes, LayerTimes, Scratch, StepRequest, StepWork, WriteBack, prefix_forecast,
    step, timeline,
};
use orbitflow_sim::record::StepTimeline;
use orbitflow_sim::units::{Bytes, BytesPerSec, SimDuration, SimTime};
use proptest::prelude::*;

mod across;
mod contention;

/// A [`StepWork`] that owns its times.
#[derive(Clone, Debug)]
struct Work {
    layers: u32,
    compute: Times,
    requests: Vec<(LayerSet, Times)>,
    slots: u32,
    order: CopyOrder,
    contention: Contention,
}

#[derive(Clone, Debug)]
enum Times {
    Same(SimDuration),
    PerLayer(Vec<SimDuration>),
}

impl Work {
    fn run<T>(&self, run: impl FnOnce(&StepWork<'_>) -> T) -> T {
        let requests: Vec<StepRequest<'_>> = (self.requests.iter())
            .map(|(fetched, copy)| StepRequest {
                fetched: *fetched,
                copy: match copy {
                    Times::Same(time) => CopyTimes::Same(*time),
                    Times::PerLayer(times) => CopyTimes::PerLayer(times),
                },
            })
            .collect();
        run(&StepWork {
            layers: self.layers,
            compute: match &self.compute {
                Times::Same(time) => LayerTimes::Same(*time),
                Times::PerLayer(times) => LayerTimes::PerLayer(times),
            },
            requests: &requests,
            slots: self.slots,
            order: self.order,
            contention: self.contention,
        })
    }

    fn copies(&self) -> u64 {
        self.requests.iter().map(|(fetched, _)| u64::from(fetched.len())).sum()
    }
}

fn picos(picos: u64) -> SimDuration {
    SimDuration::from_picos(picos)
}

/// Small numbers make many events coincide, large ones few; both matter.
fn time() -> impl Strategy<Value = SimDuration> {
    prop_oneof![0..6_u64, 0..5_000_000_000_u64].prop_map(picos)
}

fn times(layers: u32) -> impl Strategy<Value = Times> {
    prop_oneof![
        time().prop_map(Times::Same),
        prop::collection::vec(time(), layers as usize).prop_map(Times::PerLayer),
    ]
}

fn order() -> impl Strategy<Value = CopyOrder> {
    prop_oneof![Just(CopyOrder::ReadyFirst), Just(CopyOrder::InOrder)]
}

fn layer_set(layers: u32) -> impl Strategy<Value = LayerSet> {
    let at = move |distance| Placement::at(distance, layers).offloaded;
    prop_oneof![
        1 => Just(LayerSet::EMPTY),
        3 => (0..layers).prop_map(move |d| at(Distance::At(d))),
        2 => (0..layers.min(4)).prop_map(move |d| at(Distance::At(d))),
        2 => prop::collection::vec(1..=layers, 0..12).prop_map(|all| all.into_iter().map(Layer).collect()),
    ]
}

fn layers() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 1..=12_u32, 2 => 1..=128_u32]
}

fn mixed_work_of(layers: u32) -> impl Strategy<Value = Work> {
    let requests = prop::collection::vec((layer_set(layers), times(layers)), 1..=12_usize);
    (times(layers), requests, 1..=4_u32, order()).prop_map(move |(compute, requests, slots, order)| Work {
        layers,
        compute,
        requests,
        slots,
        order,
        contention: Contention::NONE,
    })
}

fn mixed_work() -> impl Strategy<Value = Work> {
    layers().prop_flat_map(mixed_work_of)
}

/// Steps of one model, each with the time of a write and an idle time before the next step.
fn mixed_run() -> impl Strategy<Value = Vec<(Work, SimDuration, SimDuration)>> {
    let idle = prop_oneof![3 => Just(SimDuration::ZERO), 1 => time()];
    (layers(), Just(idle))
        .prop_flat_map(|(layers, idle)| prop::collection::vec((mixed_work_of(layers), time(), idle), 1..6))
}

/// Everyone who fetches, fetches the same layers.
fn common_set_work() -> impl Strategy<Value = Work> {
    (mixed_work(), any::<prop::sample::Index>()).prop_map(|(mut work, index)| {
        let common = index.get(&work.requests).0;
        for (fetched, _) in work.requests.iter_mut().filter(|(fetched, _)| !fetched.is_empty()) {
            *fetched = common;
        }
        work
    })
}

/// What the planner's forecast describes: every layer computes alike, every copy of a request is alike.
fn uniform_work() -> impl Strategy<Value = Work> {
    (mixed_work(), time(), prop::collection::vec(time(), 12)).prop_map(|(mut work, compute, copies)| {
        work.compute = Times::Same(compute);
        for ((_, copy), time) in work.requests.iter_mut().zip(copies) {
            *copy = Times::Same(time);
        }
        work
    })
}

fn assert_fast_is_slow(work: &Work, scratch: &mut Scratch) {
    let (slow, _) = work.run(|work| timeline(work, SimTime::ZERO, None));
    let fast = work.run(|work| step(work, SimTime::ZERO, None, scratch));
    assert_eq!(fast, slow);
}

fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(settings(1500))]

    #[test]
    fn the_fast_step_equals_the_event_driven_one_for_any_work(
        works in prop::collection::vec(mixed_work(), 1..3),
    ) {
        // One scratch for all: what one step leaves behind must not change the next.
        let mut scratch = Scratch::default();
        for work in &works {
            assert_fast_is_slow(work, &mut scratch);
        }
    }

    #[test]
    fn the_fast_step_equals_the_event_driven_one_for_a_common_set(work in common_set_work()) {
        assert_fast_is_slow(&work, &mut Scratch::default());
    }

    #[test]
    fn write_back_delays_the_fast_step_as_it_delays_the_event_driven_one(run in mixed_run()) {
        let layers = run[0].0.layers;
        let (mut slow_state, mut fast_state) = (WriteBack::new(layers), WriteBack::new(layers));
        let (mut scratch, mut start) = (Scratch::default(), SimTime::ZERO);
        for (work, write, idle) in &run {
            let write = *write;
            let (slow, _) = work.run(|work| timeline(work, start, Some((&mut slow_state, write))));
            let fast = work.run(|work| step(work, start, Some((&mut fast_state, write)), &mut scratch));
            prop_assert_eq!(fast, slow);
            prop_assert_eq!(fast_state.drained(), slow_state.drained());
            start = start + fast.step + *idle;
        }
    }

    #[test]
    fn write_back_equals_the_event_driven_one_over_many_steps_of_one_model(
        compute in time(), steps in prop::collection::vec((0..3_u64, time(), time()), 1..12), layers in 1..9_u32,
    ) {
        // Writes of none, one or two times a layer's compute, so that backlogs build up and drain.
        let (mut slow_state, mut fast_state) = (WriteBack::new(layers), WriteBack::new(layers));
        let (mut scratch, mut start) = (Scratch::default(), SimTime::ZERO);
        for (multiple, rest, gap) in steps {
            let requests = vec![(Placement::at(Distance::At(1), layers).offloaded, Times::Same(rest))];
            let (write, compute) = (compute * multiple, Times::Same(compute));
            let order = CopyOrder::ReadyFirst;
            let work = Work { layers, compute, requests, slots: 1, order, contention: Contention::NONE };
            let (slow, _) = work.run(|work| timeline(work, start, Some((&mut slow_state, write))));
            let fast = work.run(|work| step(work, start, Some((&mut fast_state, write)), &mut scratch));
            prop_assert_eq!(fast, slow);
            prop_assert_eq!(fast_state.drained(), slow_state.drained());
            start = start + fast.step + if multiple == 0 { gap } else { SimDuration::ZERO };
        }
    }

    #[test]
    fn copies_never_overlap_layers_wait_for_them_and_slots_are_respected(work in mixed_work()) {
        let (timing, spans) = work.run(|work| timeline(work, SimTime::ZERO, None));
        assert_lawful(&work, &spans);
        prop_assert_eq!(spans.layers.last().expect("a layer").end, timing.step);
        prop_assert_eq!(spans.layers.iter().map(|layer| layer.stall).sum::<SimDuration>(), timing.stall());
    }

    #[test]
    fn a_step_lies_between_its_longer_part_and_its_sum_and_above_the_forecast(work in uniform_work()) {
        // Law 5. Rounding: 1 ps per layer and copy.
        let timing = work.run(|work| step(work, SimTime::ZERO, None, &mut Scratch::default()));
        prop_assert!(timing.step >= timing.compute.max(timing.copy));
        prop_assert!(timing.step <= timing.compute + timing.copy);
        let seconds = |times: &Times| match times {
            Times::Same(time) => time.as_secs_f64(),
            Times::PerLayer(_) => unreachable!("uniform work"),
        };
        let copies: Vec<_> = work.requests.iter().map(|(set, copy)| (*set, seconds(copy))).collect();
        let forecast = prefix_forecast(work.layers, seconds(&work.compute), &copies);
        let tolerance = picos(u64::from(work.layers) + work.copies()).as_secs_f64();
        prop_assert!(forecast <= timing.step.as_secs_f64() + tolerance);
    }

    #[test]
    fn more_bandwidth_never_worsens_one_request_a_common_distance_or_any_batch_in_order(
        mixed in mixed_work(), compute in time(), distance in 0..128_u32, case in 0..3,
        blocks in prop::collection::vec(1..100_000_u64, 12), rate in 1..1_000_000_u64, more in 1..1_000_000_u64,
    ) {
        // Law 6.
        let mut work = mixed;
        work.compute = Times::Same(compute);
        match case {
            0 => work.requests.truncate(1),
            1 => {
                let common = Placement::at(Distance::At(distance % work.layers), work.layers).offloaded;
                work.requests.iter_mut().for_each(|(fetched, _)| *fetched = common);
            }
            _ => work.order = CopyOrder::InOrder,
        }
        let mut at_rate = |rate: u64| {
            let rate = BytesPerSec::try_from(rate * 65_536).expect("a rate");
            for ((_, copy), blocks) in work.requests.iter_mut().zip(&blocks) {
                *copy = Times::Same(rate.transfer_time(Bytes::new(blocks * 65_536)));
            }
            work.run(|work| step(work, SimTime::ZERO, None, &mut Scratch::default())).step
        };
        let (slow_link, fast_link) = (at_rate(rate), at_rate(rate + more));
        prop_assert!(fast_link <= slow_link);
    }
}

/// One engine, one stream, whole copies, and no copy before its slot is free.
fn assert_lawful(work: &Work, spans: &StepTimeline) {
    assert!(spans.copies.windows(2).all(|pair| pair[0].end <= pair[1].start), "copies overlap");
    assert!(spans.layers.windows(2).all(|pair| pair[0].end <= pair[1].start), "layers overlap");
    assert_eq!(spans.copies.len() as u64, work.copies());
    for copy in &spans.copies {
        assert!(spans.layers[copy.layer.index()].start >= copy.end, "layer {} too early", copy.layer);
    }
    for (request, (fetched, _)) in work.requests.iter().enumerate() {
        let own: Vec<_> = spans.copies.iter().filter(|copy| copy.request == request).collect();
        assert!(own.iter().map(|copy| copy.layer).eq(fetched.iter()), "copies out of layer order");
        for pair in own.windows(work.slots as usize + 1) {
            let previous = &spans.layers[pair[0].layer.index()];
            assert!(pair[work.slots as usize].start >= previous.end, "slot taken too early");
        }
    }
    if work.order == CopyOrder::InOrder {
        assert!(spans.copies.is_sorted_by_key(|copy| (copy.layer, copy.request)));
    }
}

#[test]
fn a_large_batch_of_mixed_distances_is_equal_too() {
    // 200 requests: four words of 64 per row of the ready-first boards, then one word again.
    let mut scratch = Scratch::default();
    for batch in [200_u64, 3, 65, 200] {
        let requests = (0..batch)
            .map(|r| {
                let distance = Distance::At((r * 7 % 11) as u32);
                (Placement::at(distance, 32).offloaded, Times::Same(picos(1_000 + r * 37 % 501)))
            })
            .collect();
        let mut work = Work {
            layers: 32,
            compute: Times::Same(picos(40_000)),
            requests,
            slots: 2,
            order: CopyOrder::ReadyFirst,
            contention: Contention::NONE,
        };
        assert_fast_is_slow(&work, &mut scratch);
        work.order = CopyOrder::InOrder;
        assert_fast_is_slow(&work, &mut scratch);
    }
}

#[test]
fn a_slow_write_back_stalls_the_next_step_by_its_backlog() {
    // L = 2, tc = 10, write = 30, nothing fetched.
    // Step 1: layers end at 10 and 20; writes 10–40 and 40–70; nothing to wait for: 20.
    // Step 2 from 20: layer 1 ends at 30, its predecessor at 40 (write 70–100); layer 2 runs 40–50, its
    // predecessor ends at 70, and so does the step: 50.
    let work = Work {
        layers: 2,
        compute: Times::Same(picos(10)),
        requests: Vec::new(),
        slots: 1,
        order: CopyOrder::ReadyFirst,
        contention: Contention::NONE,
    };
    let (mut state, mut scratch, write) = (WriteBack::new(2), Scratch::default(), picos(30));
    let mut at = |start| {
        let start = SimTime::from_picos(start);
        work.run(|work| step(work, start, Some((&mut state, write)), &mut scratch)).step.as_picos()
    };
    assert_eq!(at(0), 20);
    assert_eq!(at(20), 50);
    // Long after, nothing is left to wait for.
    assert_eq!(at(10_000), 20);
}
