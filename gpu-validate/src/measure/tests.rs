//! The runner: order, latches, backgrounds, deadlines, and what it leaves out.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use orbitflow_sim::units::SimDuration;

use super::*;
use crate::device::virtual_time::{VirtualTimeDevice, VirtualTruth};
use crate::device::{Backend, CopyApi, CopyPiece, CopyWork, Direction, HostMemory, Work};
use crate::results::Gap;
use crate::scale::Scale;
use crate::session::{Deadline, Silent};

/// A run of the session on virtual time; every submission takes `submit_ns` of the CPU's time.
fn with_session<T>(
    submit_ns: u64,
    deadline: Deadline,
    seed: u64,
    run: impl FnOnce(&mut Session<'_>) -> T,
) -> T {
    let submit = SimDuration::from_picos(1000 * submit_ns);
    let mut device = VirtualTimeDevice::new(VirtualTruth { submit, ..VirtualTruth::default() });
    let scale = Scale::of(Backend::VirtualTime, true);
    let mut silent = Silent;
    run(&mut Session::new(&mut device, &scale, deadline, seed, &mut silent))
}

fn group(samples: u32) -> Group<'static> {
    Group { experiment: "E0", samples, least_interval_s: 200e-6 }
}

fn spin<'p>(name: &str, importance: Importance, micros: u32) -> Point<'p, u32> {
    let work = Work::Spin { seconds: f64::from(micros) * 1e-6 };
    Point::new(name, importance, micros, move |_| Ok(Runs::of(move |queue| queue.submit(&work))))
}

fn spins<'p>(micros: &[u32]) -> Vec<Point<'p, u32>> {
    micros.iter().map(|micros| spin(&format!("{micros}"), Importance::Useful, *micros)).collect()
}

/// Within a picosecond.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn a_median_equals_the_truth_however_short_the_run_and_dear_the_submission() {
    // a submission takes 20 µs: a 1 µs kernel that was not held would seem to take 20
    with_session(20_000, Deadline::never(), 1, |session| {
        let measured = measure(session, group(7), spins(&[1, 3, 50, 1000, 60_000])).unwrap();
        for point in &measured {
            assert!(near(point.timing.median_s, f64::from(point.row) * 1e-6), "{point:?}");
            assert!(near(point.timing.iqr_s, 0.0), "{point:?}");
        }
        // 200 µs / 1 µs = 200, / 3 = 66.7, / 50 = 4; longer ones run once
        let runs: Vec<u32> = measured.iter().map(|point| point.runs).collect();
        assert_eq!(runs, [200, 67, 4, 1, 1]);
        // a run of 60 ms is dear: a third of 7 samples, at least 3
        let samples: Vec<u32> = measured.iter().map(|point| point.timing.n).collect();
        assert_eq!(samples, [7, 7, 7, 7, 3]);
        assert_eq!(session.samples.len(), 7 * 4 + 3);
        assert!(!session.states.is_empty() && session.dropped.is_empty());
    });
}

/// `pieces` copies of 100 bytes, 1 µs apart on the device where submission does not slow them down.
fn copies<'p>(pieces: usize) -> Point<'p, usize> {
    Point::new(format!("{pieces} copies"), Importance::Useful, pieces, move |device| {
        let (host, on_device) = (device.alloc_host(1 << 20, HostMemory::Pinned)?, device.alloc(1 << 20)?);
        let list = vec![CopyPiece { host_offset: 0, device_offset: 0, bytes: 100 }; pieces];
        Ok(Runs::of(move |queue| {
            let (direction, api) = (Direction::H2d, CopyApi::Async);
            queue.copy(&CopyWork { direction, api, host, device: on_device, pieces: &list })
        })
        .timing_submission(true))
    })
}

#[test]
fn what_does_not_fit_behind_a_latch_gets_a_head_start_and_is_exact_too() {
    with_session(5_000, Deadline::never(), 1, |session| {
        let measured = measure(session, group(3), vec![copies(16), copies(510), copies(2000)]).unwrap();
        assert_eq!(measured.len(), 3);
        for point in measured {
            // the default link: 4 µs, then 1.5 µs a piece, which is more than 100 bytes take
            let truth_s = 4e-6 + 1.5e-6 * point.row as f64;
            assert!(near(point.timing.median_s, truth_s), "{} {}", point.row, point.timing.median_s);
            // a call per piece of 5 µs
            let submission = point.submission.unwrap();
            assert!(near(submission.median_s, 5e-6 * point.row as f64), "{submission:?}");
        }
    });
}

#[test]
fn never_more_than_the_limit_stands_behind_a_latch() {
    // The device refuses the 513th operation. 100 kernels of 1 µs: two runs fill the window, with one before them; 170 of
    // them leave room for 2 and the lead-in, and 171 for none: 2 · 171 + 3 marks = 345, 3 · 171 + 3 = 516.
    with_session(100, Deadline::never(), 1, |session| {
        let point = |kernels: u32| {
            Point::new(format!("{kernels}"), Importance::Useful, kernels, move |_| {
                Ok(Runs::of(move |queue| (0..kernels).try_for_each(|_| queue.submit(&Work::Empty))))
            })
        };
        let points = [1, 100, 169, 170, 254, 255, 508, 509, 510].map(point).into();
        let measured = measure(session, Group { least_interval_s: 1.0, ..group(3) }, points).unwrap();
        assert_eq!(measured.len(), 9);
        for point in measured {
            assert!(near(point.timing.median_s, f64::from(point.row) * 1e-6), "{point:?}");
            let behind = (point.runs + 1) * point.row + 3;
            assert!(behind <= 512 || 2 * point.row + 3 > 512, "{point:?}");
        }
    });
}

/// Which points ran in which order, first to last; only the first run of consecutive ones.
fn order_of_samples(seed: u64) -> Vec<u32> {
    let order = Rc::new(RefCell::new(Vec::new()));
    with_session(100, Deadline::never(), seed, |session| {
        let points = (0..12)
            .map(|name| {
                let order = Rc::clone(&order);
                Point::new(format!("{name}"), Importance::Useful, name, move |_| {
                    Ok(Runs::of(move |queue| {
                        order.borrow_mut().push(name);
                        queue.submit(&Work::Spin { seconds: 1e-3 })
                    }))
                })
            })
            .collect();
        measure(session, group(4), points).unwrap();
    });
    let mut order = order.take();
    order.dedup();
    order
}

#[test]
fn the_order_of_samples_is_shuffled_and_a_function_of_the_seed() {
    let order = order_of_samples(7);
    assert_eq!(order, order_of_samples(7));
    assert_ne!(order, order_of_samples(8));
    // 12 points prepared in their order, then 4 passes; two neighbours of different passes may be the same point
    let (prepared, sampled) = order.split_at(12);
    assert_eq!(prepared, (0..12).collect::<Vec<u32>>());
    assert!((45..=48).contains(&sampled.len()), "{}", sampled.len());
    assert!(sampled[..12] != prepared[..] && sampled[..12] != sampled[12..24]);
}

#[test]
fn a_deadline_that_has_passed_leaves_everything_out_and_names_the_least_important_first() {
    with_session(100, Deadline::after_s(0.0), 1, |session| {
        let points = vec![
            spin("a detail", Importance::Detail, 5),
            spin("the point", Importance::Essential, 5),
            spin("a help", Importance::Useful, 5),
        ];
        assert!(measure(session, group(5), points).unwrap().is_empty());
        let named: Vec<&str> = session.dropped.iter().map(|dropped| dropped.what.as_str()).collect();
        assert_eq!(named, ["a detail", "a help", "the point"]);
        assert!(
            session
                .dropped
                .iter()
                .all(|dropped| dropped.gap == Gap::OutOfTime && dropped.reason == "out of time")
        );
    });
}

#[test]
fn a_group_that_does_not_fit_the_time_left_loses_its_least_important_points_only() {
    // 60 ms of wall time a run: prepared in 5 runs (0.3 s), 30 samples would take 1.8 s of the 0.7 s left
    with_session(100, Deadline::after_s(1.0), 1, |session| {
        let slow = Point::new("slow", Importance::Useful, 0, |_| {
            Ok(Runs::of(|queue| {
                std::thread::sleep(Duration::from_millis(60));
                queue.submit(&Work::Spin { seconds: 1e-3 })
            }))
        });
        let points =
            vec![spin("detail", Importance::Detail, 5), slow, spin("essential", Importance::Essential, 5)];
        let measured = measure(session, group(30), points).unwrap();
        assert_eq!(measured.iter().map(|point| point.row).collect::<Vec<_>>(), [5]);
        let named: Vec<&str> = session.dropped.iter().map(|dropped| dropped.what.as_str()).collect();
        assert_eq!(named, ["detail", "slow"]);
    });
}

#[test]
fn what_is_not_possible_here_is_waived_and_the_rest_is_measured() {
    with_session(100, Deadline::never(), 1, |session| {
        let mut points = spins(&[5]);
        points.push(Point::new("no such thing", Importance::Essential, 0, |_| {
            Err(DeviceError::Unsupported { what: "this".to_owned(), reason: "a test".to_owned() })
        }));
        let measured = measure(session, group(3), points).unwrap();
        assert_eq!(measured.iter().map(|point| point.row).collect::<Vec<_>>(), [5]);
        let [dropped] = &session.dropped[..] else { panic!("one point is waived") };
        assert!(
            dropped.gap == Gap::NotPossible
                && dropped.what == "no such thing"
                && dropped.reason.contains("a test")
        );
    });
}

#[test]
fn a_failed_point_is_left_out_and_named_while_the_device_still_answers() {
    with_session(100, Deadline::never(), 1, |session| {
        let broken = Point::new("broken", Importance::Useful, 0, |_| {
            Ok(Runs::of(|_| Err(DeviceError::Failed { what: "it".to_owned(), message: "broke".to_owned() })))
        });
        assert_eq!(measure(session, group(3), vec![broken]).unwrap().len(), 0);
        let [dropped] = &session.dropped[..] else { panic!("one point is left out") };
        assert_eq!((dropped.gap, dropped.what.as_str()), (Gap::NotUsable, "broken"));
        assert!(session.failures[0].contains("broken: it: broke"), "{:?}", session.failures);
    });
}

#[test]
fn a_background_that_ends_too_early_spoils_its_point_and_is_named() {
    with_session(100, Deadline::never(), 1, |session| {
        let nothing = Point::new("beside nothing", Importance::Useful, 0, |_| {
            let spin = |queue: &mut Queue<'_>| queue.submit(&Work::Spin { seconds: 1e-3 });
            Ok(Runs::of(spin).with_background(Box::new(|_| Ok(()))))
        });
        assert!(measure(session, group(4), vec![nothing]).unwrap().is_empty());
        let [dropped] = &session.dropped[..] else { panic!("one point is dropped") };
        assert_eq!(dropped.reason, "its background ended before it did in 4 of 4 samples");
    });
}

#[test]
fn a_background_runs_before_during_and_after_what_is_measured() {
    // Kernels of 30 µs beside copies of 10 µs and the other way round: neither slows the other, both are exact.
    with_session(1000, Deadline::never(), 1, |session| {
        let point = |name: &str, compute: bool| {
            Point::new(name, Importance::Useful, compute, move |device| {
                let (host, to) = (device.alloc_host(1 << 20, HostMemory::Pinned)?, device.alloc(1 << 20)?);
                let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 330_000 }];
                let copy: Run<'_> = Box::new(move |queue: &mut Queue<'_>| {
                    let (direction, api) = (Direction::H2d, CopyApi::Async);
                    queue.copy(&CopyWork { direction, api, host, device: to, pieces: &pieces })
                });
                let kernel: Run<'_> =
                    Box::new(|queue: &mut Queue<'_>| queue.submit(&Work::Spin { seconds: 30e-6 }));
                let (run, beside) = if compute { (kernel, copy) } else { (copy, kernel) };
                Ok(Runs::of(run).with_background(beside))
            })
        };
        let points = vec![point("kernels", true), point("copies", false)];
        let measured = measure(session, group(5), points).unwrap();
        // 4 µs + 330,000 B / 55 GB/s = 10 µs
        let medians: Vec<f64> = measured.iter().map(|point| point.timing.median_s).collect();
        assert!(near(medians[0], 30e-6) && near(medians[1], 10e-6), "{medians:?}");
    });
}
