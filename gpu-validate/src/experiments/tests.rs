//! The experiments on virtual time: what they measure is the truth it was given.

use orbitflow_sim::units::SimDuration;

use super::*;
use crate::device::host::{HostDevice, HostOptions};
use crate::device::virtual_time::{VirtualContention, VirtualTimeDevice, VirtualTruth};
use crate::device::{Backend, CopyApi, CopyPiece, Direction, HostMemory};
use crate::measure::{Importance, Point, Runs};
use crate::results::Gap;
use crate::results::{LaunchKind, MemoryUse, Traffic};
use crate::scale::Scale;
use crate::session::{Deadline, Session, Silent};

fn truth() -> VirtualTruth {
    VirtualTruth { submit: SimDuration::from_picos(700_000), ..VirtualTruth::small() }
}

/// A session in virtual time at the emulation's scale, where every submission takes 0.7 µs of the CPU's time.
fn with_session<T>(truth: VirtualTruth, run: impl FnOnce(&mut Session<'_>) -> T) -> T {
    let mut device = VirtualTimeDevice::new(truth);
    let scale = Scale::of(Backend::VirtualTime, false);
    let mut silent = Silent;
    let mut session = Session::new(&mut device, &scale, Deadline::never(), 42, &mut silent);
    let answer = run(&mut session);
    assert!(session.dropped.is_empty(), "{:?}", session.dropped);
    answer
}

fn assert_near(measured_s: f64, exact: SimDuration, what: &impl std::fmt::Debug) {
    let exact_s = exact.as_secs_f64();
    assert!(
        (measured_s - exact_s).abs() <= 1e-12 + 1e-12 * exact_s,
        "{measured_s} is not {exact_s}: {what:?}"
    );
}

fn pieces(count: u32, bytes: u64) -> Vec<CopyPiece> {
    vec![CopyPiece { host_offset: 0, device_offset: 0, bytes }; count as usize]
}

#[test]
fn e1_finds_the_rate_of_the_link_for_every_kind_of_memory_and_a_busy_other_side_changes_nothing_here() {
    let points = with_session(truth(), |session| link_peak(session).unwrap());
    assert_eq!(points.len(), 4 * 2 * 2);
    for point in points {
        // 4 copies of 4 MiB, one for pageable memory
        let copies = if point.memory == HostMemory::Pageable { 1 } else { 4 };
        assert_eq!(point.bytes, copies * (4 << 20));
        let copy = truth().copy_time(point.direction, CopyApi::Async, &pieces(1, 4 << 20));
        if point.memory != HostMemory::Pageable {
            assert_near(point.timing.median_s, copy * copies, &point);
        }
    }
}

#[test]
fn e2_finds_the_time_of_every_copy_and_the_cost_of_submitting_it() {
    let points = with_session(truth(), |session| size_curve(session).unwrap());
    assert!(points.len() > 80, "{}", points.len());
    for point in points {
        let exact = truth().copy_time(point.direction, point.api, &pieces(point.pieces, point.piece_bytes));
        assert_near(point.timing.median_s, exact, &point);
        let calls = if point.api == CopyApi::Async { point.pieces } else { 1 };
        match point.submit_s {
            None => assert!(matches!(point.api, CopyApi::SmGather { .. })),
            Some(submit_s) => assert_near(
                submit_s * f64::from(point.pieces),
                SimDuration::from_picos(700_000) * u64::from(calls),
                &point,
            ),
        }
    }
}

#[test]
fn e3_finds_the_time_of_every_cut() {
    let points = with_session(truth(), |session| kv_layouts(session).unwrap());
    assert!(points.len() >= 40, "{}", points.len());
    for point in points {
        assert_eq!(point.bytes, 1 << 20);
        let cut = pieces(point.pieces, point.bytes / u64::from(point.pieces));
        assert_near(point.timing.median_s, truth().copy_time(Direction::H2d, point.api, &cut), &point);
    }
}

#[test]
fn e4_counts_bytes_read_and_written() {
    let points = with_session(truth(), |session| memory_rates(session).unwrap());
    assert_eq!(
        points.iter().map(|p| p.usage).collect::<Vec<_>>(),
        [MemoryUse::Copy, MemoryUse::Read, MemoryUse::Write]
    );
    for point in points {
        // all at 4 GB/s: 16 MiB in 4.194304 ms
        assert_near(point.timing.median_s, SimDuration::from_picos(4_194_304_000), &point);
    }
}

#[test]
fn e5_finds_the_time_of_every_product() {
    let points = with_session(truth(), |session| matrix_products(session).unwrap());
    // 2 models: 5 matrices x 4 batches, and 4 matrices x 2 prompts
    assert_eq!(points.len(), 2 * (5 * 4 + 4 * 2));
    for point in points {
        assert_near(point.timing.median_s, truth().gemm_time(point.rows, point.out, point.inner), &point);
    }
}

#[test]
fn e6_finds_the_time_of_every_batch_and_never_the_held_out_group() {
    let points = with_session(truth(), |session| attention(session).unwrap());
    assert!(points.iter().any(|point| point.ragged()));
    for point in points {
        assert_ne!(point.group(), 5);
        let shape = crate::device::AttentionShape {
            heads: point.heads,
            kv_heads: point.kv_heads,
            head_dim: point.head_dim,
        };
        assert_eq!(point.kv_bytes, point.tokens() * shape.kv_bytes_per_token());
        assert_near(point.timing.median_s, truth().attention_time(shape, point.tokens()), &point);
    }
}

#[test]
fn e7_finds_what_the_cpu_and_what_the_device_pays() {
    let points = with_session(truth(), |session| launches(session).unwrap());
    for point in &points {
        let exact = match point.kind {
            LaunchKind::StreamSubmit | LaunchKind::GraphSubmit => truth().submit,
            LaunchKind::StreamGap | LaunchKind::GraphNode => truth().empty_kernel,
            LaunchKind::EventWait => SimDuration::ZERO,
        };
        assert_near(point.timing.median_s, exact, point);
    }
    assert_eq!(points.len(), 2 * 3 + 2 * 4 + 1);
}

#[test]
fn e8_finds_how_much_copies_and_kernels_slow_each_other() {
    let contention_ppm = VirtualContention { copy_ppm: 1_200_000, compute_ppm: 1_050_000 };
    let truth = VirtualTruth { contention: Some(contention_ppm), ..truth() };
    let points = with_session(truth, |session| contention(session).unwrap());
    assert_eq!(points.len(), 16);
    for point in points.iter().filter(|point| point.traffic == Traffic::H2d) {
        assert!((point.compute_slowdown() - 1.05).abs() < 1e-3, "{point:?}");
        assert!((point.copy_slowdown() - 1.2).abs() < 1e-3, "{point:?}");
    }
}

#[test]
fn e12_compares_each_anchor_with_itself_and_takes_more_of_them() {
    let points = with_session(truth(), |session| {
        let step = || {
            let name = "step".to_owned();
            Point::new("step", Importance::Essential, name, |_| {
                Ok(Runs::of(|queue| queue.submit(&crate::device::Work::Spin { seconds: 1e-3 })))
            })
        };
        let first = anchors(session, "E12 first", vec![step()]).unwrap();
        let last = anchors(session, "E12 last", vec![step()]).unwrap();
        drift(&first, &last)
    });
    let names: Vec<&str> = points.iter().map(|point| point.anchor.as_str()).collect();
    assert_eq!(names, ["h2d", "d2h", "hbm_copy", "step"]);
    assert!(points.iter().all(|point| point.relative().abs() < 1e-9));
}

#[test]
fn with_real_data_every_copy_is_compared_and_kernels_take_the_shapes() {
    let mut device = HostDevice::new(HostOptions::default()).unwrap();
    let mut scale = Scale::of(Backend::Host, true);
    (scale.piece_bytes, scale.most_copy_bytes, scale.layout_bytes) = ((4096, 65_536), 1 << 20, 256 << 10);
    (scale.link_bytes, scale.samples, scale.most_tokens) = (1 << 20, 3, 1024);
    (scale.contexts, scale.prefill_rows, scale.batches) = (vec![64, 256], vec![16], vec![1, 4]);
    let mut silent = Silent;
    let mut session = Session::new(&mut device, &scale, Deadline::never(), 42, &mut silent);
    // an opposite direction that ends early on a busy machine may cost a point; one that is idle may not
    let link = link_peak(&mut session).unwrap();
    assert_eq!(link.iter().filter(|point| !point.opposite_busy).count(), 3 * 2);
    let waived: Vec<&str> =
        session.dropped.iter().filter(|d| d.gap == Gap::NotPossible).map(|d| d.what.as_str()).collect();
    assert_eq!(waived, ["host memory registered-huge-pages"]);
    // 10 sizes, 5 ways, 2 directions; 16 pieces of the largest are 1 MiB
    assert_eq!(size_curve(&mut session).unwrap().len(), 100);
    assert!(!kv_layouts(&mut session).unwrap().is_empty());
    // 2 models: 5 matrices x 2 batches, and 4 at 16 rows
    assert_eq!(matrix_products(&mut session).unwrap().len(), 2 * (5 * 2 + 4));
    assert!(attention(&mut session).unwrap().iter().any(|point| point.ragged()));
}
