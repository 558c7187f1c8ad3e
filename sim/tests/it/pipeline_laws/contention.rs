//! Copies and compute that slow each other: the engines' sweep against the event-driven truth, both against a twin
//! that lets time pass one picosecond after the other, numbers worked by hand, and what is left of law 5.

use super::*;

/// Factors of every kind: none on one side, hardly any, a third of a picosecond, brutal.
fn contention() -> impl Strategy<Value = Contention> {
    let factor = || prop_oneof![Just(1.0), Just(1.000001), Just(1.1), Just(1.5), Just(2.0), 1.0..20.0_f64];
    (factor(), factor()).prop_map(|(copy, compute)| factors(copy, compute))
}

fn factors(copy: f64, compute: f64) -> Contention {
    Contention::of_factors(copy, compute).expect("two slowdowns")
}

/// A layer or a copy in the twin: what it takes alone, and how much of that is done.
struct Running {
    alone: f64,
    done: f64,
}

impl Running {
    fn new(time: SimDuration) -> Self {
        Running { alone: time.as_picos() as f64, done: 0.0 }
    }

    /// Thousands of additions of 1/factor err by far less than the millionth of a picosecond that can be left.
    fn is_done(&self) -> bool {
        self.done > self.alone - 1e-7
    }
}

/// The step as its definition reads, one picosecond at a time: in each, what runs alone comes 1 ps closer to its end,
/// what runs beside the other kind `1/factor`; what happens, happens between picoseconds. No write-back.
fn picosecond_by_picosecond(work: &Work) -> u64 {
    let time_of = |times: &Times, layer: Layer| match times {
        Times::Same(time) => *time,
        Times::PerLayer(times) => times[layer.index()],
    };
    let fetched: Vec<Vec<Layer>> = work.requests.iter().map(|(set, _)| set.iter().collect()).collect();
    let mut begun = vec![0; fetched.len()];
    let mut landed: Vec<Layer> = Vec::new();
    let (mut computed, mut now) = (0, 0);
    let mut layer: Option<Running> = None;
    let mut copy: Option<(Layer, Running)> = None;
    while computed < work.layers {
        if let Some((landing, _)) = copy.take_if(|(_, running)| running.is_done()) {
            landed.push(landing);
        } else if layer.take_if(|running| running.is_done()).is_some() {
            computed += 1;
        } else if let Some(next) = (layer.is_none()).then_some(Layer(computed + 1)).filter(|next| {
            let due = fetched.iter().flatten().filter(|layer| *layer == next).count();
            landed.iter().filter(|layer| *layer == next).count() == due
        }) {
            layer = Some(Running::new(time_of(&work.compute, next)));
        } else if let Some((next, request)) = (copy.is_none())
            .then(|| {
                let free = |request: usize| {
                    let held = begun[request] as i64 - i64::from(work.slots);
                    held < 0 || fetched[request][held as usize].0 <= computed
                };
                let left = (0..fetched.len()).filter(|request| begun[*request] < fetched[*request].len());
                let all = left.map(|request| (fetched[request][begun[request]], request));
                match work.order {
                    CopyOrder::ReadyFirst => all.filter(|(_, request)| free(*request)).min(),
                    CopyOrder::InOrder => all.min().filter(|(_, request)| free(*request)),
                }
            })
            .flatten()
        {
            begun[request] += 1;
            copy = Some((next, Running::new(time_of(&work.requests[request].1, next))));
        } else {
            let both = layer.is_some() && copy.is_some();
            let speed = |factor: f64| if both { 1.0 / factor } else { 1.0 };
            layer.iter_mut().for_each(|layer| layer.done += speed(work.contention.compute_factor()));
            copy.iter_mut().for_each(|(_, copy)| copy.done += speed(work.contention.copy_factor()));
            now += 1;
        }
    }
    now
}

/// At most a few hundred picoseconds long.
fn short_work() -> impl Strategy<Value = Work> {
    let short = |times: Times| match times {
        Times::Same(time) => Times::Same(picos(time.as_picos() % 30)),
        Times::PerLayer(times) => {
            Times::PerLayer(times.into_iter().map(|time| picos(time.as_picos() % 30)).collect())
        }
    };
    (1..=6_u32).prop_flat_map(mixed_work_of).prop_map(move |work| Work {
        compute: short(work.compute),
        requests: work.requests.into_iter().take(4).map(|(set, copy)| (set, short(copy))).collect(),
        ..work
    })
}

proptest! {
    #![proptest_config(settings(1500))]

    #[test]
    fn the_sweep_equals_the_event_driven_step_under_any_contention(
        works in prop::collection::vec((mixed_work(), contention()), 1..4),
    ) {
        // One scratch for all, contended steps or not: what one leaves behind must not change the next.
        let mut scratch = Scratch::default();
        for (work, contention) in works {
            assert_fast_is_slow(&Work { contention, ..work.clone() }, &mut scratch);
            assert_fast_is_slow(&work, &mut scratch);
        }
    }

    #[test]
    fn write_back_delays_the_sweep_as_it_delays_the_event_driven_step(
        run in mixed_run(), contention in contention(),
    ) {
        let layers = run[0].0.layers;
        let (mut slow_state, mut fast_state) = (WriteBack::new(layers), WriteBack::new(layers));
        let (mut scratch, mut start) = (Scratch::default(), SimTime::ZERO);
        for (work, write, idle) in run {
            let work = Work { contention, ..work };
            let (slow, _) = work.run(|work| timeline(work, start, Some((&mut slow_state, write))));
            let fast = work.run(|work| step(work, start, Some((&mut fast_state, write)), &mut scratch));
            prop_assert_eq!(fast, slow);
            prop_assert_eq!(fast_state.drained(), slow_state.drained());
            start = start + fast.step + idle;
        }
    }

    #[test]
    fn both_equal_a_twin_that_passes_picosecond_by_picosecond(work in short_work(), contention in contention()) {
        let work = Work { contention, ..work };
        assert_fast_is_slow(&work, &mut Scratch::default());
        let timing = work.run(|work| step(work, SimTime::ZERO, None, &mut Scratch::default()));
        prop_assert_eq!(timing.step.as_picos(), picosecond_by_picosecond(&work));
    }

    #[test]
    fn contended_copies_and_layers_are_lawful_and_never_shorter_than_alone(
        work in mixed_work(), contention in contention(),
    ) {
        let work = Work { contention, ..work };
        let (timing, spans) = work.run(|work| timeline(work, SimTime::ZERO, None));
        assert_lawful(&work, &spans);
        prop_assert_eq!(spans.layers.iter().map(|layer| layer.stall).sum::<SimDuration>(), timing.stall());
        work.run(|work| {
            for span in &spans.layers {
                let slowest = work.compute.of(span.layer).scale(contention.compute_factor());
                let took = span.end - span.start;
                assert!(took >= work.compute.of(span.layer) && took <= slowest + picos(1), "{span:?}");
            }
            for span in &spans.copies {
                let alone = work.requests[span.request].copy.of(span.layer);
                let took = span.end - span.start;
                assert!(took >= alone && took <= alone.scale(contention.copy_factor()) + picos(1), "{span:?}");
            }
        });
    }

    #[test]
    fn a_contended_step_keeps_what_is_left_of_law_5(work in uniform_work(), contention in contention()) {
        let work = Work { contention, ..work };
        let timing = work.run(|work| step(work, SimTime::ZERO, None, &mut Scratch::default()));
        let rounding = picos(u64::from(work.layers) + work.copies());
        // As slowed: the law itself.
        prop_assert!(timing.step >= timing.compute.max(timing.copy));
        prop_assert!(timing.step <= timing.compute + timing.copy);
        // As alone: the weaker bounds, never looser than each part slowed as much as can be.
        let (least, most) = work.run(|work| work.bounds());
        prop_assert!(least <= timing.step && timing.step <= most + rounding);
        let alone = work.run(|work| {
            let copies = work.requests.iter().map(|request| request.copy.total(request.fetched)).sum::<SimDuration>();
            (work.compute.total(work.layers), copies)
        });
        let slowed = alone.0.scale(contention.compute_factor()) + alone.1.scale(contention.copy_factor());
        prop_assert!(most <= slowed + rounding);
        let forecast = work.run(|work| {
            let copies: Vec<_> = work.requests.iter().map(|r| (r.fetched, r.copy.of(Layer(1)).as_secs_f64())).collect();
            prefix_forecast(work.layers, work.compute.of(Layer(1)).as_secs_f64(), &copies)
        });
        prop_assert!(forecast <= (timing.step + rounding).as_secs_f64());
    }
}

/// One request that fetches layer 2 of 2.
fn one_copy(layer: u64, copy: u64, contention: Contention) -> Work {
    Work {
        layers: 2,
        compute: Times::Same(picos(layer)),
        requests: vec![(Placement::at(Distance::At(1), 2).offloaded, Times::Same(picos(copy)))],
        slots: 1,
        order: CopyOrder::ReadyFirst,
        contention,
    }
}

/// `(step, compute, copy)` in picoseconds.
fn parts(work: &Work) -> (u64, u64, u64) {
    assert_fast_is_slow(work, &mut Scratch::default());
    let timing = work.run(|work| step(work, SimTime::ZERO, None, &mut Scratch::default()));
    (timing.step.as_picos(), timing.compute.as_picos(), timing.copy.as_picos())
}

#[test]
fn only_the_overlap_of_a_copy_and_a_layer_is_slowed() {
    // Copies take 1.5 times as long beside compute, layers 1.25 times as long beside a copy; layers take 1000 ps.
    let both = factors(1.5, 1.25);
    // A copy of 2000. Layer 1 is beside it throughout: 1250. By then 1250/1.5 = 833.3 of the copy are done; the other
    // 1166.7 run alone until 2416.7, rounded up. Layer 2, alone: 2417 to 3417.
    assert_eq!(parts(&one_copy(1000, 2000, both)), (3417, 1250 + 1000, 2417));
    // A copy of 300 is beside layer 1 throughout: 450. By then 450/1.25 = 360 of the layer are done; the other 640 run
    // alone until 1090. Layer 2: 1090 to 2090.
    assert_eq!(parts(&one_copy(1000, 300, both)), (2090, 1090 + 1000, 450));
    // Without contention the copy of 300 hides behind layer 1, and the one of 2000 ends 1000 after it.
    assert_eq!(parts(&one_copy(1000, 300, Contention::NONE)), (2000, 2000, 300));
    assert_eq!(parts(&one_copy(1000, 2000, Contention::NONE)), (3000, 2000, 2000));
    // One factor alone: the layer is not slowed, so 1000 of the copy's time overlap and do 666.7: 1000 + 1333.3.
    assert_eq!(parts(&one_copy(1000, 2000, factors(1.5, 1.0))), (3334, 2000, 2334));
    // The copy is not slowed: it ends at 2000, layer 1 at 1250.
    assert_eq!(parts(&one_copy(1000, 2000, factors(1.0, 1.25))), (3000, 2250, 2000));
}

#[test]
fn slots_decide_what_overlaps_and_so_what_is_slowed() {
    // L = 4, layers of 100, copies of 100 for layers 2 and 4, both factors 2.
    // One slot. Layer 1 and copy 2 slow each other until both end at 200. Layer 2 runs alone until 300 and frees the slot.
    // Layer 3 and copy 4 slow each other until 500. Layer 4: 500 to 600.
    let two = Placement::at(Distance::At(1), 4).offloaded;
    let mut work = Work {
        layers: 4,
        compute: Times::Same(picos(100)),
        requests: vec![(two, Times::Same(picos(100)))],
        slots: 1,
        order: CopyOrder::InOrder,
        contention: factors(2.0, 2.0),
    };
    assert_eq!(parts(&work), (600, 600, 400));
    // Two slots. Copy 4 follows copy 2 at once, beside layer 2: both end at 400. Layers 3 and 4 run alone until 600.
    work.slots = 2;
    assert_eq!(parts(&work), (600, 600, 400));
    // With 50 for layer 3. Two slots: copy 4 is done at 400 as before, layer 3 at 450, layer 4 at 550. One slot: layer 2
    // ends at 300, layer 3 at 400, beside half of copy 4, whose other half runs alone until 450. Layer 4: 450 to 550.
    work.compute = Times::PerLayer([100, 100, 50, 100].map(picos).to_vec());
    assert_eq!(parts(&work), (550, 550, 400));
    work.slots = 1;
    assert_eq!(parts(&work), (550, 500, 350));
}

#[test]
fn a_step_that_fetches_nothing_has_nothing_to_contend_with() {
    let mut work = one_copy(1000, 2000, factors(9.0, 9.0));
    work.requests.clear();
    assert_eq!(parts(&work), (2000, 2000, 0));
}
