//! The virtual-time device by hand: every instant follows from the sums in the comments.

use super::*;
use crate::device::{CopyApi, CopyPiece, Direction};
use orbitflow_sim::units::{Bytes, BytesPerSec};

/// Every copy takes a microsecond per 1,000 bytes and nothing else, both ways.
fn plain_truth() -> VirtualTruth {
    let rate = BytesPerSec::try_from(1_000_000_000).unwrap();
    let zero = SimDuration::ZERO;
    let link =
        VirtualLink { latency: zero, rate, knee: Bytes::ZERO, small_rate: rate, submit: zero, engine: zero };
    let links = VirtualLinks { by_call: link, batch: link, gather: link };
    VirtualTruth { h2d: links, d2h: links, ..VirtualTruth::default() }
}

struct Bench {
    device: VirtualTimeDevice,
    host: HostBuffer,
    memory: DeviceBuffer,
    streams: Vec<Stream>,
}

impl Bench {
    fn of(truth: VirtualTruth, streams: usize) -> Bench {
        let mut device = VirtualTimeDevice::new(truth);
        let host = device.alloc_host(1 << 20, HostMemory::Pinned).unwrap();
        let memory = device.alloc(1 << 20).unwrap();
        let streams = (0..streams).map(|_| device.stream().unwrap()).collect();
        Bench { device, host, memory, streams }
    }

    fn spin(&mut self, stream: usize, micros: u32) {
        let work = Work::Spin { seconds: f64::from(micros) * 1e-6 };
        self.device.submit(self.streams[stream], &work).unwrap();
    }

    fn copy_by(&mut self, stream: usize, direction: Direction, api: CopyApi, micros: u64) {
        let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 1000 * micros }];
        let work = CopyWork { direction, api, host: self.host, device: self.memory, pieces: &pieces };
        self.device.copy(self.streams[stream], &work).unwrap();
    }

    fn copy(&mut self, stream: usize, micros: u64) {
        self.copy_by(stream, Direction::H2d, CopyApi::Async, micros);
    }

    fn mark(&mut self, stream: usize) -> Event {
        let event = self.device.event().unwrap();
        self.device.record(self.streams[stream], event).unwrap();
        event
    }

    fn wait(&mut self, stream: usize, event: Event) {
        self.device.wait(self.streams[stream], event).unwrap();
    }

    fn micros(&mut self, events: &[Event]) -> Vec<f64> {
        self.device.synchronize().unwrap();
        events.iter().map(|event| self.device.event_time(*event).unwrap().as_picos() as f64 / 1e6).collect()
    }
}

#[test]
fn copies_and_kernels_overlap_but_for_what_events_order() {
    let mut bench = Bench::of(plain_truth(), 2);
    // Stream 1 copies for layers 1 and 2 (5 and 7 µs); stream 0 computes 3 µs, then each layer (4 µs) after its copy.
    bench.spin(0, 3);
    bench.copy(1, 5);
    let first = bench.mark(1);
    bench.copy(1, 7);
    let second = bench.mark(1);
    bench.wait(0, first);
    bench.spin(0, 4);
    let layer_1 = bench.mark(0);
    bench.wait(0, second);
    bench.spin(0, 4);
    let layer_2 = bench.mark(0);
    // Copies end at 5 and 12; layer 1 runs 5–9, layer 2 12–16.
    assert_eq!(bench.micros(&[first, second, layer_1, layer_2]), [5.0, 12.0, 9.0, 16.0]);
    assert!((bench.device.elapsed_s(layer_1, layer_2).unwrap() - 7e-6).abs() < 1e-18);
    assert_eq!(bench.device.now_s(), 16e-6);
}

#[test]
fn each_engine_does_one_thing_at_a_time_whatever_the_streams() {
    let mut bench = Bench::of(plain_truth(), 4);
    bench.copy(0, 5);
    bench.copy(1, 5);
    bench.copy_by(2, Direction::D2h, CopyApi::Batch, 5);
    bench.spin(3, 5);
    bench.spin(2, 5);
    let ends: Vec<Event> = (0..4).map(|stream| bench.mark(stream)).collect();
    // Host to device 0–5 and 5–10; device to host 0–5, then its stream's kernel 5–10 behind stream 3's 0–5.
    assert_eq!(bench.micros(&ends), [5.0, 10.0, 10.0, 5.0]);
}

#[test]
fn an_engine_takes_what_was_ready_first_and_at_equal_times_what_was_submitted_first() {
    let mut bench = Bench::of(plain_truth(), 4);
    bench.copy(0, 10);
    bench.spin(1, 3);
    bench.copy(1, 1); // ready at 3
    bench.copy(2, 2); // ready at 0, submitted later
    bench.copy(3, 4); // ready at 0, submitted last
    let ends: Vec<Event> = (0..4).map(|stream| bench.mark(stream)).collect();
    // 0–10, then 2 (10–12), 3 (12–16), and last the one that was ready at 3 (16–17).
    assert_eq!(bench.micros(&ends), [10.0, 17.0, 12.0, 16.0]);
}

#[test]
fn a_gather_kernel_keeps_the_multiprocessors_and_the_link() {
    let mut bench = Bench::of(plain_truth(), 3);
    bench.spin(0, 4);
    bench.copy_by(1, Direction::H2d, CopyApi::SmGather { blocks: 8 }, 5);
    bench.copy(2, 1);
    bench.spin(0, 2);
    let ends: Vec<Event> = (0..3).map(|stream| bench.mark(stream)).collect();
    // The gather waits for the kernel (4–9) and keeps its place on the link: the copy is 9–10, the next kernel 9–11.
    assert_eq!(bench.micros(&ends), [11.0, 9.0, 10.0]);
}

#[test]
fn a_wait_is_for_the_last_record_submitted_and_none_is_no_wait() {
    let mut bench = Bench::of(plain_truth(), 2);
    let event = bench.device.event().unwrap();
    bench.wait(1, event); // never recorded
    bench.spin(0, 5);
    bench.device.record(bench.streams[0], event).unwrap();
    bench.wait(1, event);
    bench.copy(1, 1);
    let copied = bench.mark(1);
    bench.spin(0, 5);
    bench.device.record(bench.streams[0], event).unwrap();
    // The copy waits for the first record, at 5; the event's time is that of the second.
    assert_eq!(bench.micros(&[copied, event]), [6.0, 10.0]);
}

#[test]
fn a_latch_keeps_submission_out_of_the_interval() {
    let mut bench =
        Bench::of(VirtualTruth { submit: SimDuration::from_picos(1_000_000), ..plain_truth() }, 1);
    let stream = bench.streams[0];
    let latch = bench.device.latch().unwrap();
    bench.device.hold(stream, latch).unwrap();
    let from = bench.mark(0);
    for _ in 0..10 {
        bench.device.submit(stream, &Work::Spin { seconds: 1e-7 }).unwrap();
    }
    let to = bench.mark(0);
    bench.device.release(latch).unwrap();
    // Thirteen submissions of 1 µs before the latch opens; behind it ten kernels of 0.1 µs.
    assert_eq!(bench.micros(&[from, to]), [13.0, 14.0]);
    // Without a latch each kernel waits for its submission, and the last event, submitted at 26, for its own.
    let from = bench.mark(0);
    for _ in 0..10 {
        bench.device.submit(stream, &Work::Spin { seconds: 1e-7 }).unwrap();
    }
    let to = bench.mark(0);
    assert_eq!(bench.micros(&[from, to]), [15.0, 26.0]);
}

#[test]
fn a_latch_closes_again_and_one_that_opened_by_itself_says_so() {
    let mut bench = Bench::of(plain_truth(), 1);
    let latch = bench.device.latch().unwrap();
    for _ in 0..2 {
        bench.device.hold(bench.streams[0], latch).unwrap();
        let held = bench.mark(0);
        bench.device.release(latch).unwrap();
        assert_eq!(bench.micros(&[held]), [0.0]);
    }
    bench.device.hold(bench.streams[0], latch).unwrap();
    let held = bench.mark(0);
    assert_eq!(bench.micros(&[held]), [2e6]); // LATCH_LIMIT_S
    let error = bench.device.release(latch).unwrap_err();
    assert!(error.to_string().contains("opened by itself"), "{error}");
    bench.device.hold(bench.streams[0], latch).unwrap();
    bench.device.release(latch).unwrap();
}

#[test]
fn a_latch_that_submission_outlasted_is_an_error_at_once() {
    let mut bench = Bench::of(VirtualTruth { submit: SimDuration::from_secs(1), ..plain_truth() }, 1);
    let latch = bench.device.latch().unwrap();
    bench.device.hold(bench.streams[0], latch).unwrap(); // reached at 1 s
    bench.spin(0, 1);
    bench.spin(0, 1);
    bench.spin(0, 1); // submitted at 4 s, the latch opened at 3 s
    assert!(bench.device.release(latch).is_err());
}

#[test]
fn more_behind_a_latch_than_a_launch_queue_holds_is_refused() {
    let mut bench = Bench::of(plain_truth(), 1);
    let latch = bench.device.latch().unwrap();
    bench.device.hold(bench.streams[0], latch).unwrap();
    for _ in 0..crate::device::MOST_BEHIND_A_LATCH {
        bench.spin(0, 1);
    }
    let error = bench.device.submit(bench.streams[0], &Work::Empty).unwrap_err();
    assert!(error.to_string().contains("513 operations behind a closed latch"), "{error}");
}

/// A fork and a join: two layers on stream 0, the second one's copy on stream 1.
fn fork_and_join(bench: &mut Bench) {
    let begin = bench.mark(0);
    bench.wait(1, begin);
    bench.copy(1, 9);
    let copied = bench.mark(1);
    bench.spin(0, 4);
    bench.wait(0, copied);
    bench.spin(0, 3);
}

#[test]
fn a_graph_takes_what_its_work_takes_when_submitted() {
    let times = |captured: bool| {
        let mut bench = Bench::of(plain_truth(), 2);
        let graph = captured.then(|| {
            bench.device.begin_capture(bench.streams[0]).unwrap();
            fork_and_join(&mut bench);
            bench.device.end_capture(bench.streams[0]).unwrap()
        });
        let mut ends = Vec::new();
        for _ in 0..3 {
            match graph {
                Some(graph) => bench.device.launch(bench.streams[0], graph).unwrap(),
                None => fork_and_join(&mut bench),
            }
            ends.push(bench.mark(0));
        }
        bench.micros(&ends)
    };
    // Each: copy 0–9, first layer 0–4, second 9–12.
    assert_eq!(times(false), [12.0, 24.0, 36.0]);
    assert_eq!(times(true), times(false));
}

#[test]
fn captures_that_cuda_refuses_are_refused() {
    let mut bench = Bench::of(plain_truth(), 2);
    let (first, second) = (bench.streams[0], bench.streams[1]);
    let outside = bench.mark(1);
    bench.device.begin_capture(first).unwrap();
    let error = bench.device.wait(first, outside).unwrap_err();
    assert!(error.to_string().contains("outside of the capture"), "{error}");
    assert!(bench.device.synchronize().is_err());
    let fork = bench.mark(0);
    bench.wait(1, fork);
    bench.copy(1, 1); // never joined back
    let error = bench.device.end_capture(first).unwrap_err();
    assert!(error.to_string().contains("does not wait for"), "{error}");
    // The event's last record was in the capture: it orders nothing outside and has no time.
    assert!(bench.device.wait(second, fork).is_err());
    bench.device.synchronize().unwrap();
    assert!(bench.device.event_time(fork).is_err());
}

#[test]
fn only_what_overlaps_is_slowed() {
    let contention = Some(VirtualContention { copy_ppm: 2_000_000, compute_ppm: 1_250_000 });
    let mut bench = Bench::of(VirtualTruth { contention, ..plain_truth() }, 2);
    bench.spin(0, 4);
    bench.copy(1, 10);
    let (computed, copied) = (bench.mark(0), bench.mark(1));
    // Side by side until the kernel ends at 4 · 1.25 = 5; the copy has done 5 / 2 = 2.5 of its 10, and ends at 12.5.
    assert_eq!(bench.micros(&[computed, copied]), [5.0, 12.5]);
    // A copy to the host slows nothing.
    bench.spin(0, 4);
    bench.copy_by(1, Direction::D2h, CopyApi::Async, 10);
    let (computed, copied) = (bench.mark(0), bench.mark(1));
    assert_eq!(bench.micros(&[computed, copied]), [16.5, 22.5]);
}

#[test]
fn noise_is_seeded_and_stays_within_its_bound() {
    let ends = |seed| {
        let noise = Some(VirtualNoise { seed, ppm: 10_000 });
        let mut bench = Bench::of(VirtualTruth { noise, ..plain_truth() }, 2);
        let mut events = Vec::new();
        for _ in 0..50 {
            bench.spin(0, 100);
            bench.copy(1, 30);
            events.extend([bench.mark(0), bench.mark(1)]);
        }
        bench.micros(&events)
    };
    assert_eq!(ends(7), ends(7));
    assert_ne!(ends(7), ends(8));
    let kernels: Vec<f64> = ends(7).into_iter().step_by(2).collect();
    for pair in kernels.windows(2) {
        let took = pair[1] - pair[0];
        assert!((99.0 - 1e-6..=101.0 + 1e-6).contains(&took), "{took} µs");
    }
}

#[test]
fn there_is_no_data_and_memory_is_counted() {
    let mut bench = Bench::of(plain_truth(), 0);
    assert!(!bench.device.has_data());
    assert!(bench.device.read(bench.memory.slice(0, 8)).unwrap_err().is_waived());
    assert!(bench.device.read_host(bench.host.slice(0, 8)).unwrap_err().is_waived());
    bench.device.write(bench.memory.slice(0, 2), &[1, 2]).unwrap();
    let most = bench.device.truth().memory_bytes;
    let error = bench.device.alloc(most).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { free, .. } if free == most - (1 << 20)), "{error}");
    bench.device.free_all().unwrap();
    bench.device.alloc(most).unwrap();
}

#[test]
fn a_handle_that_was_given_back_is_an_error() {
    let mut bench = Bench::of(plain_truth(), 1);
    let event = bench.mark(0);
    bench.device.free_all().unwrap();
    let fresh = bench.device.stream().unwrap();
    assert!(bench.device.submit(bench.streams[0], &Work::Empty).is_err());
    assert!(bench.device.wait(fresh, event).is_err());
}
