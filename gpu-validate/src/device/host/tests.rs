//! The host device: order comes from streams and events, and a missing wait shows.

use super::*;
use crate::device::{CopyApi, CopyPiece, Direction, LATCH_LIMIT_S, POISON};

fn device(link_bytes_per_s: Option<f64>) -> HostDevice {
    HostDevice::new(HostOptions { link_bytes_per_s, memory_bytes: Some(64 << 20) }).unwrap()
}

fn whole_copy<'a>(
    host: HostBuffer,
    device: DeviceBuffer,
    direction: Direction,
    pieces: &'a [CopyPiece],
) -> CopyWork<'a> {
    CopyWork { direction, api: CopyApi::Async, host, device, pieces }
}

/// A slot is poisoned, a copy into it takes 250 ms, and a reader on another stream waits for it, or not.
fn read_slot(with_wait: bool) -> (Vec<u8>, Vec<u8>) {
    let bytes = 64 << 10;
    let mut device = device(Some(bytes as f64 / 0.25));
    let host = device.alloc_host(bytes, HostMemory::Pinned).unwrap();
    device.fill_host(host.all(), FillWith::Random { seed: 3, scale: 1.0 }).unwrap();
    let (slot, seen) = (device.alloc(bytes).unwrap(), device.alloc(bytes).unwrap());
    let (copies, compute) = (device.stream().unwrap(), device.stream().unwrap());
    let ready = device.event().unwrap();
    device.submit(compute, &Work::Fill { to: slot.all(), with: POISON }).unwrap();
    device.synchronize().unwrap();
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes }];
    device.copy(copies, &whole_copy(host, slot, Direction::H2d, &pieces)).unwrap();
    device.record(copies, ready).unwrap();
    if with_wait {
        device.wait(compute, ready).unwrap();
    }
    device.submit(compute, &Work::DeviceCopy { from: slot.all(), to: seen.all() }).unwrap();
    device.synchronize().unwrap();
    (device.read(seen.all()).unwrap(), device.read_host(host.all()).unwrap())
}

#[test]
fn a_dropped_wait_between_a_copy_and_its_reader_shows_poison() {
    let (seen, _) = read_slot(false);
    assert!(seen.as_chunks::<2>().0.iter().all(|pair| *pair == [0xc0, 0x7f]));
    let (seen, sent) = read_slot(true);
    assert_eq!(seen, sent);
}

#[test]
fn copies_in_pieces_land_where_they_say_and_come_back() {
    let mut device = device(None);
    let host = device.alloc_host(4096, HostMemory::Pinned).unwrap();
    device.fill_host(host.all(), FillWith::Random { seed: 5, scale: 1.0 }).unwrap();
    let sent = device.read_host(host.all()).unwrap();
    let memory = device.alloc(4096).unwrap();
    let stream = device.stream().unwrap();
    // Four pieces of 1,000 bytes go in backwards, and one read brings all back.
    let piece = |i: u64| CopyPiece { host_offset: 1000 * i, device_offset: 3000 - 1000 * i, bytes: 1000 };
    let pieces: Vec<CopyPiece> = (0..4).map(piece).collect();
    for api in [CopyApi::Async, CopyApi::Batch, CopyApi::BatchOverlap, CopyApi::SmGather { blocks: 2 }] {
        device.submit(stream, &Work::Fill { to: memory.all(), with: POISON }).unwrap();
        let work = whole_copy(host, memory, Direction::H2d, &pieces);
        device.copy(stream, &CopyWork { api, ..work }).unwrap();
        let back = device.alloc_host(4096, HostMemory::Pageable).unwrap();
        let all = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 4096 }];
        device.copy(stream, &whole_copy(back, memory, Direction::D2h, &all)).unwrap();
        device.synchronize().unwrap();
        let got = device.read_host(back.all()).unwrap();
        for i in 0..4 {
            assert_eq!(got[3000 - 1000 * i..][..1000], sent[1000 * i..][..1000], "{api:?}, piece {i}");
        }
        assert_eq!(got[4000..4004], [0xc0, 0x7f, 0xc0, 0x7f], "{api:?}");
    }
}

#[test]
fn a_panic_in_a_worker_is_an_error_of_the_next_synchronize_and_ends_nothing() {
    let mut device = device(None);
    let stream = device.stream().unwrap();
    device.enqueue(stream, "broken kernel", (Engines::COMPUTE, 1), || panic!("index 7 out of 3")).unwrap();
    let after = device.alloc(64).unwrap().all();
    device.submit(stream, &Work::Fill { to: after, with: FillWith::Word(0x0102_0304) }).unwrap();
    let error = device.synchronize().unwrap_err();
    assert_eq!(error.to_string(), "broken kernel: index 7 out of 3");
    device.synchronize().unwrap();
    assert_eq!(device.read(after).unwrap()[..4], [4, 3, 2, 1]);
}

#[test]
fn copies_of_one_direction_share_the_link_and_a_kernel_runs_beside_them() {
    let mut device = device(Some(2e5));
    let host = device.alloc_host(20_000, HostMemory::Pinned).unwrap();
    let memory = device.alloc(20_000).unwrap();
    let streams: Vec<Stream> = (0..3).map(|_| device.stream().unwrap()).collect();
    let events: Vec<Event> = (0..4).map(|_| device.event().unwrap()).collect();
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 20_000 }];
    device.record(streams[0], events[3]).unwrap();
    for i in 0..2 {
        device.copy(streams[i], &whole_copy(host, memory, Direction::H2d, &pieces)).unwrap();
        device.record(streams[i], events[i]).unwrap();
    }
    device.submit(streams[2], &Work::Spin { seconds: 0.001 }).unwrap();
    device.record(streams[2], events[2]).unwrap();
    device.synchronize().unwrap();
    let ends: Vec<f64> = (0..3).map(|i| device.elapsed_s(events[3], events[i]).unwrap()).collect();
    // 20,000 B at 0.2 MB/s take 100 ms, the second copy waits for the first; the kernel waits for neither.
    assert!(ends[0] >= 0.1 && ends[1] >= 0.2, "{ends:?}");
    assert!(ends[2] >= 0.001 && ends[2] < ends[1], "{ends:?}");
}

#[test]
fn a_latch_holds_its_stream_until_it_is_let_go() {
    let mut device = device(None);
    let stream = device.stream().unwrap();
    let (latch, began, passed) = (device.latch().unwrap(), device.event().unwrap(), device.event().unwrap());
    for _ in 0..2 {
        device.record(stream, began).unwrap();
        device.hold(stream, latch).unwrap();
        device.record(stream, passed).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        device.release(latch).unwrap();
        device.synchronize().unwrap();
        let held_s = device.elapsed_s(began, passed).unwrap();
        assert!((0.0..LATCH_LIMIT_S).contains(&held_s), "{held_s}");
    }
}

#[test]
fn a_latch_that_nobody_lets_go_opens_by_itself_and_says_so() {
    let mut device = device(None);
    let stream = device.stream().unwrap();
    let (latch, passed) = (device.latch().unwrap(), device.event().unwrap());
    let began_s = device.now_s();
    device.hold(stream, latch).unwrap();
    device.record(stream, passed).unwrap();
    device.synchronize().unwrap();
    assert!(device.now_s() - began_s >= LATCH_LIMIT_S);
    assert!(device.release(latch).unwrap_err().to_string().contains("opened by itself"));
}

#[test]
fn a_device_that_goes_away_waits_for_no_latch_and_no_spin() {
    let mut device = device(None);
    let (held, busy) = (device.stream().unwrap(), device.stream().unwrap());
    let latch = device.latch().unwrap();
    device.hold(held, latch).unwrap();
    device.submit(busy, &Work::Spin { seconds: 30.0 }).unwrap();
    let began = Instant::now();
    drop(device);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_graph_runs_its_work_again_at_each_launch() {
    let mut device = device(None);
    let (compute, copies) = (device.stream().unwrap(), device.stream().unwrap());
    let (fork, join) = (device.event().unwrap(), device.event().unwrap());
    let host = device.alloc_host(4096, HostMemory::Pinned).unwrap();
    let (slot, seen) = (device.alloc(4096).unwrap(), device.alloc(4096).unwrap());
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 4096 }];
    device.begin_capture(compute).unwrap();
    device.submit(compute, &Work::Fill { to: slot.all(), with: POISON }).unwrap();
    device.record(compute, fork).unwrap();
    device.wait(copies, fork).unwrap();
    device.copy(copies, &whole_copy(host, slot, Direction::H2d, &pieces)).unwrap();
    device.record(copies, join).unwrap();
    device.wait(compute, join).unwrap();
    device.submit(compute, &Work::DeviceCopy { from: slot.all(), to: seen.all() }).unwrap();
    let graph = device.end_capture(compute).unwrap();
    for seed in [1, 2] {
        device.fill_host(host.all(), FillWith::Random { seed, scale: 1.0 }).unwrap();
        device.launch(compute, graph).unwrap();
        device.synchronize().unwrap();
        assert_eq!(device.read(seen.all()).unwrap(), device.read_host(host.all()).unwrap());
    }
}

#[test]
fn what_a_cpu_cannot_do_is_waived_and_what_does_not_fit_is_said() {
    let mut device = device(None);
    assert!(device.alloc_host(4096, HostMemory::RegisteredHugePages).unwrap_err().is_waived());
    let error = device.alloc(65 << 20).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { free: 67_108_864, .. }), "{error}");
    let old = device.alloc(64 << 20).unwrap();
    device.free_all().unwrap();
    assert!(device.read(old.slice(0, 1)).is_err());
    device.alloc(64 << 20).unwrap();
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = HostOptions { link_bytes_per_s: Some(rate), memory_bytes: None };
        assert!(HostDevice::new(options).is_err(), "{rate}");
    }
}
