//! Order and time: events across streams, latches, captures, and what is kept when everything is given back.

use gpu_validate::device::{
    CopyApi, CopyPiece, CopyWork, Device, DeviceBuffer, DeviceError, Direction, FillWith, HostBuffer,
    HostMemory, LATCH_LIMIT_S, Stream, Work,
};

use crate::fake::{on_fake_driver, open};

const KIB: u64 = 1 << 10;

fn word(value: u32) -> FillWith {
    FillWith::Word(value)
}

fn copy(device: &mut dyn Device, stream: Stream, host: HostBuffer, gpu: DeviceBuffer, api: CopyApi) {
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: gpu.bytes() }];
    let work = CopyWork { direction: Direction::H2d, api, host, device: gpu, pieces: &pieces };
    device.copy(stream, &work).unwrap();
}

fn words(device: &mut dyn Device, buffer: DeviceBuffer) -> Vec<u32> {
    let bytes = device.read(buffer.all()).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

#[test]
fn a_stream_waits_for_the_last_record_of_an_event() {
    on_fake_driver("order::a_stream_waits_for_the_last_record_of_an_event", &[], || {
        let mut device = open();
        let host = device.alloc_host(4 * KIB, HostMemory::Pinned).unwrap();
        let (staged, result) = (device.alloc(4 * KIB).unwrap(), device.alloc(4 * KIB).unwrap());
        let (copies, compute) = (device.stream().unwrap(), device.stream().unwrap());
        let (ready, free) = (device.event().unwrap(), device.event().unwrap());
        for round in 1..50 {
            // Each round copies another word, behind a spin so that a dropped wait would read the round before.
            device.fill_host(host.all(), word(round)).unwrap();
            device.wait(copies, free).unwrap();
            device.submit(copies, &Work::Spin { seconds: 50e-6 }).unwrap();
            copy(&mut device, copies, host, staged, CopyApi::Async);
            device.record(copies, ready).unwrap();
            device.wait(compute, ready).unwrap();
            device.submit(compute, &Work::DeviceCopy { from: staged.all(), to: result.all() }).unwrap();
            device.record(compute, free).unwrap();
            assert!(words(&mut device, result).iter().all(|got| *got == round), "round {round}");
        }
    });
}

#[test]
fn a_spin_lasts_as_long_as_it_says_between_two_events() {
    on_fake_driver("order::a_spin_lasts_as_long_as_it_says_between_two_events", &[], || {
        let mut device = open();
        let (stream, from, to) = (device.stream().unwrap(), device.event().unwrap(), device.event().unwrap());
        device.record(stream, from).unwrap();
        device.submit(stream, &Work::Spin { seconds: 3e-3 }).unwrap();
        device.record(stream, to).unwrap();
        device.synchronize().unwrap();
        assert!(device.elapsed_s(from, to).unwrap() >= 3e-3);
    });
}

#[test]
fn nothing_behind_a_latch_runs_until_it_is_let_go_and_it_closes_again() {
    on_fake_driver("order::nothing_behind_a_latch_runs_until_it_is_let_go_and_it_closes_again", &[], || {
        let mut device = open();
        let (stream, other) = (device.stream().unwrap(), device.stream().unwrap());
        let (latch, at_start, at_end) =
            (device.latch().unwrap(), device.event().unwrap(), device.event().unwrap());
        for _ in 0..3 {
            device.record(other, at_start).unwrap();
            device.hold(stream, latch).unwrap();
            device.record(stream, at_end).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(30));
            device.release(latch).unwrap();
            device.synchronize().unwrap();
            let seconds = device.elapsed_s(at_start, at_end).unwrap();
            assert!((0.025..LATCH_LIMIT_S).contains(&seconds), "{seconds}"); // slept 30 ms before letting go
        }
    });
}

#[test]
fn a_latch_that_opened_by_itself_says_so() {
    on_fake_driver("order::a_latch_that_opened_by_itself_says_so", &[], || {
        let mut device = open();
        let (stream, latch) = (device.stream().unwrap(), device.latch().unwrap());
        device.hold(stream, latch).unwrap();
        device.synchronize().unwrap(); // waits out the limit
        let error = device.release(latch).expect_err("nobody let it go in time").to_string();
        assert!(error.contains("opened by itself"), "{error}");
        device.synchronize().unwrap();
        device.hold(stream, latch).unwrap();
        device.release(latch).expect("closed again, and let go in time");
    });
}

#[test]
fn a_captured_fork_and_join_gives_the_same_bytes_at_every_launch() {
    on_fake_driver("order::a_captured_fork_and_join_gives_the_same_bytes_at_every_launch", &[], || {
        let mut device = open();
        let host = device.alloc_host(4 * KIB, HostMemory::Pinned).unwrap();
        let (staged, result) = (device.alloc(4 * KIB).unwrap(), device.alloc(4 * KIB).unwrap());
        let (compute, copies) = (device.stream().unwrap(), device.stream().unwrap());
        let (fork, ready, done) = (device.event().unwrap(), device.event().unwrap(), device.event().unwrap());
        device.begin_capture(compute).unwrap();
        device.record(compute, fork).unwrap();
        device.wait(copies, fork).unwrap();
        device.submit(compute, &Work::Fill { to: result.all(), with: word(0) }).unwrap();
        copy(&mut device, copies, host, staged, CopyApi::Async);
        device.record(copies, ready).unwrap();
        device.wait(compute, ready).unwrap();
        device.submit(compute, &Work::DeviceCopy { from: staged.all(), to: result.all() }).unwrap();
        let graph = device.end_capture(compute).unwrap();
        for round in 1..20 {
            device.fill_host(host.all(), word(round)).unwrap();
            device.launch(compute, graph).unwrap();
            device.record(compute, done).unwrap();
            assert!(words(&mut device, result).iter().all(|got| *got == round), "round {round}");
        }
    });
}

#[test]
fn a_gather_captured_before_it_ever_ran_brings_its_list_along() {
    on_fake_driver("order::a_gather_captured_before_it_ever_ran_brings_its_list_along", &[], || {
        let mut device = open();
        let host = device.alloc_host(4 * KIB, HostMemory::Pinned).unwrap();
        let (gpu, other) = (device.alloc(4 * KIB).unwrap(), device.alloc(4 * KIB).unwrap());
        let stream = device.stream().unwrap();
        let gather = CopyApi::SmGather { blocks: 2 };
        copy(&mut device, stream, host, other, gather); // makes room for lists; another list
        device.begin_capture(stream).unwrap();
        copy(&mut device, stream, host, gpu, gather);
        let graph = device.end_capture(stream).unwrap();
        // In the graph the list is only written down: work outside of it must bring its own.
        device.fill_host(host.all(), word(8)).unwrap();
        copy(&mut device, stream, host, gpu, gather);
        assert!(words(&mut device, gpu).iter().all(|got| *got == 8));
        device.fill_host(host.all(), word(9)).unwrap();
        device.launch(stream, graph).unwrap();
        assert!(words(&mut device, gpu).iter().all(|got| *got == 9));
    });
}

#[test]
fn what_a_capture_cannot_hold_is_waived_and_the_device_goes_on() {
    on_fake_driver("order::what_a_capture_cannot_hold_is_waived_and_the_device_goes_on", &[], || {
        let mut device = open();
        let host = device.alloc_host(4 * KIB, HostMemory::Pinned).unwrap();
        let gpu = device.alloc(4 * KIB).unwrap();
        let stream = device.stream().unwrap();
        let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 4 * KIB }];
        let batch =
            CopyWork { direction: Direction::H2d, api: CopyApi::Batch, host, device: gpu, pieces: &pieces };
        device.begin_capture(stream).unwrap();
        assert!(device.copy(stream, &batch).expect_err("a batch").is_waived());
        assert!(device.end_capture(stream).expect_err("it was given up").is_waived());
        device.begin_capture(stream).unwrap();
        assert!(device.alloc(16).expect_err("memory").is_waived());
        device.synchronize().expect("the capture was left");
        device.fill_host(host.all(), word(3)).unwrap();
        device.copy(stream, &batch).unwrap();
        assert!(words(&mut device, gpu).iter().all(|got| *got == 3));
    });
}

#[test]
fn a_stream_that_is_not_joined_back_fails_the_capture() {
    on_fake_driver("order::a_stream_that_is_not_joined_back_fails_the_capture", &[], || {
        let mut device = open();
        let (compute, copies, fork) =
            (device.stream().unwrap(), device.stream().unwrap(), device.event().unwrap());
        device.begin_capture(compute).unwrap();
        device.record(compute, fork).unwrap();
        device.wait(copies, fork).unwrap();
        device.submit(copies, &Work::Empty).unwrap();
        let error = device.end_capture(compute).expect_err("never joined");
        assert!(matches!(error, DeviceError::Failed { .. }), "{error}");
        device.submit(copies, &Work::Empty).expect("the streams can be used again");
        device.synchronize().unwrap();
    });
}

#[test]
fn everything_given_back_can_be_made_again_many_times() {
    on_fake_driver("order::everything_given_back_can_be_made_again_many_times", &[], || {
        let mut device = open();
        for round in 0..20 {
            // 20 · 256 MiB is more than the pretended GPU's 1 GiB: what is not given back is missed
            let (gpu, host) =
                (device.alloc(256 << 20).unwrap(), device.alloc_host(64 * KIB, HostMemory::Pinned).unwrap());
            let (stream, latch) = (device.stream().unwrap(), device.latch().unwrap());
            device.hold(stream, latch).unwrap();
            device.submit(stream, &Work::Fill { to: gpu.slice(0, KIB), with: word(round) }).unwrap();
            device.release(latch).unwrap();
            device.fill_host(host.all(), word(round)).unwrap();
            device.free_all().unwrap();
        }
    });
}
