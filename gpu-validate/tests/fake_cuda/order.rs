//! Streams run when they like: what orders them is events, and what holds them is latches.

use std::time::{Duration, Instant};

use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::device::{
    CopyApi, CopyPiece, CopyWork, Device, DeviceBuffer, DeviceError, Direction, FillWith, HostBuffer,
    HostMemory, LATCH_LIMIT_S, MOST_BEHIND_A_LATCH, Work,
};

use super::child::scenario;
use super::data::{holding, poisoned};
use super::libraries;

const SEEDS: [u64; 6] = [0, 1, 2, 3, 4, 5];
const SLOT: u64 = 4096;
const LAYERS: u64 = 12;

/// Which of the two waits of a slot's two users are left out.
#[derive(Clone, Copy, PartialEq)]
enum Dropped {
    None,
    Ready,
    Free,
}

/// Layers of host memory, each full of its own number, pass through two slots: copied by one stream, copied on into
/// the result by the other. Answers the results.
fn through_slots(device: &mut CudaDevice, dropped: Dropped) -> Vec<u8> {
    let (copies, compute) = (device.stream().expect("a stream"), device.stream().expect("a stream"));
    let host = device.alloc_host(SLOT * LAYERS, HostMemory::Pinned).expect("host memory");
    for layer in 0..LAYERS {
        device.write_host(host.slice(layer * SLOT, SLOT), &[layer as u8; SLOT as usize]).expect("written");
    }
    let slots = [poisoned(device, copies, SLOT), poisoned(device, copies, SLOT)];
    let result = poisoned(device, compute, SLOT * LAYERS);
    device.synchronize().expect("ran");
    let [ready, free] = [(); 2].map(|()| [(); 2].map(|()| device.event().expect("an event")));
    for layer in 0..LAYERS {
        let at = layer as usize % 2;
        if dropped != Dropped::Free {
            device.wait(copies, free[at]).expect("submitted");
        }
        copy_layer(device, copies, host, slots[at], layer);
        device.record(copies, ready[at]).expect("submitted");
        if dropped != Dropped::Ready {
            device.wait(compute, ready[at]).expect("submitted");
        }
        let to = result.slice(layer * SLOT, SLOT);
        device.submit(compute, &Work::DeviceCopy { from: slots[at].all(), to }).expect("submitted");
        device.record(compute, free[at]).expect("submitted");
    }
    device.read(result.all()).expect("read")
}

fn copy_layer(
    device: &mut CudaDevice,
    stream: gpu_validate::device::Stream,
    host: HostBuffer,
    slot: DeviceBuffer,
    layer: u64,
) {
    let pieces = [CopyPiece { host_offset: layer * SLOT, device_offset: 0, bytes: SLOT }];
    let api = if layer.is_multiple_of(2) { CopyApi::Async } else { CopyApi::Batch };
    let work = CopyWork { direction: Direction::H2d, api, host, device: slot, pieces: &pieces };
    device.copy(stream, &work).expect("submitted");
}

fn layers() -> Vec<u8> {
    (0..LAYERS).flat_map(|layer| [layer as u8; SLOT as usize]).collect()
}

#[test]
fn two_slots_carry_every_layer_whatever_the_order() {
    for seed in SEEDS {
        scenario("slots").seed(seed).succeeds(|device| {
            assert!(through_slots(device, Dropped::None) == layers());
        });
    }
}

#[test]
fn a_dropped_ready_wait_shows_poison_and_a_dropped_free_wait_another_layer() {
    let mut wrong = [0; 2];
    for seed in SEEDS {
        for (place, dropped) in [Dropped::Ready, Dropped::Free].into_iter().enumerate() {
            let ended = scenario(&format!("dropped {place}")).seed(seed).succeeds(move |device| {
                let got = through_slots(device, dropped);
                let poison = got.as_chunks::<2>().0.contains(&[0xc0, 0x7f]);
                println!("WRONG={} POISON={poison}", got != layers());
            });
            let Some(ended) = ended else { continue };
            wrong[place] += u32::from(ended.said.contains("WRONG=true"));
            // Without its ready-wait the first layer may be read before anything was copied; without the free-wait
            // slots are always copied into before they are read.
            assert!(dropped == Dropped::Ready || ended.said.contains("POISON=false"));
        }
    }
    if libraries::folder().is_none() {
        return;
    }
    assert!(wrong[0] >= 2 && wrong[1] >= 2, "of {} orders, {wrong:?} showed it", SEEDS.len());
}

#[test]
fn a_wait_is_for_the_last_record_before_it_and_none_is_no_wait() {
    for seed in SEEDS {
        scenario("records").seed(seed).succeeds(|device| {
            let (first, second) = (device.stream().expect("a stream"), device.stream().expect("a stream"));
            let event = device.event().expect("an event");
            let word = |value| FillWith::Word(value);
            let (from, to) = (poisoned(device, first, 64), poisoned(device, first, 64));
            device.synchronize().expect("ran");
            device.wait(second, event).expect("no record: no wait");
            device.submit(first, &Work::Fill { to: from.all(), with: word(1) }).expect("submitted");
            device.record(first, event).expect("submitted");
            device.wait(second, event).expect("submitted");
            device.submit(second, &Work::DeviceCopy { from: from.all(), to: to.all() }).expect("submitted");
            device.record(second, event).expect("recorded again, in another stream");
            device.wait(first, event).expect("submitted");
            device.submit(first, &Work::Fill { to: from.all(), with: word(2) }).expect("submitted");
            assert_eq!(device.read(to.all()).expect("read"), [1, 0, 0, 0].repeat(16));
            assert_eq!(device.read(from.all()).expect("read"), [2, 0, 0, 0].repeat(16));
        });
    }
}

#[test]
fn a_spin_takes_its_time_between_two_events() {
    scenario("spin").succeeds(|device| {
        let stream = device.stream().expect("a stream");
        let (from, to) = (device.event().expect("an event"), device.event().expect("an event"));
        device.record(stream, from).expect("submitted");
        device.submit(stream, &Work::Spin { seconds: 0.005 }).expect("submitted");
        device.submit(stream, &Work::Empty).expect("submitted");
        device.record(stream, to).expect("submitted");
        let early = device.elapsed_s(from, to);
        assert!(matches!(early, Err(DeviceError::Failed { .. })), "not waited for: {early:?}");
        device.synchronize().expect("ran");
        let seconds = device.elapsed_s(from, to).expect("both ran");
        assert!((0.005..1.0).contains(&seconds), "{seconds}");
        let never = device.event().expect("an event");
        assert!(device.elapsed_s(from, never).is_err());
    });
}

#[test]
fn a_latch_holds_what_stands_behind_it_and_closes_again() {
    for seed in SEEDS {
        scenario("latch").seed(seed).succeeds(|device| {
            let (held, other) = (device.stream().expect("a stream"), device.stream().expect("a stream"));
            let latch = device.latch().expect("a latch");
            let buffer = holding(device, &[0; 64]);
            for round in 1..=3 {
                device.hold(held, latch).expect("held");
                for _ in 0..MOST_BEHIND_A_LATCH - 1 {
                    device.submit(held, &Work::Empty).expect("submitted");
                }
                let with = FillWith::Word(round);
                device.submit(held, &Work::Fill { to: buffer.all(), with }).expect("submitted");
                device.submit(other, &Work::Empty).expect("another stream goes on");
                device.release(latch).expect("in time");
                device.synchronize().expect("ran");
                assert_eq!(device.read(buffer.all()).expect("read"), [round as u8, 0, 0, 0].repeat(16));
            }
        });
    }
}

#[test]
fn a_latch_that_is_forgotten_opens_by_itself_and_says_so() {
    for seed in [0, 1] {
        scenario("forgotten").seed(seed).succeeds(|device| {
            let stream = device.stream().expect("a stream");
            let latch = device.latch().expect("a latch");
            let began = Instant::now();
            device.hold(stream, latch).expect("held");
            device.submit(stream, &Work::Empty).expect("submitted");
            std::thread::sleep(Duration::from_secs_f64(LATCH_LIMIT_S + 0.1));
            let error = device.release(latch).expect_err("it had opened by itself");
            assert!(error.to_string().contains("opened by itself"), "{error}");
            device.synchronize().expect("the device goes on");
            assert!(began.elapsed().as_secs_f64() < LATCH_LIMIT_S + 2.0);
            // The same latch works again.
            device.hold(stream, latch).expect("held");
            device.release(latch).expect("in time");
            device.synchronize().expect("ran");
        });
    }
}

#[test]
fn waiting_for_a_held_stream_ends_at_the_limit() {
    scenario("held").succeeds(|device| {
        let (stream, latch) = (device.stream().expect("a stream"), device.latch().expect("a latch"));
        device.hold(stream, latch).expect("held");
        let began = Instant::now();
        device.synchronize().expect("ends by the limit");
        assert!(began.elapsed().as_secs_f64() > 0.9 * LATCH_LIMIT_S);
    });
}
