//! Memory on both sides: what is written is what is read, fills and checksums are their references, nothing leaks.

use gpu_validate::device::{Device, DeviceError, FillWith, HostMemory, POISON, Work};
use gpu_validate::kernels::reference::checksums;

use super::child::{open, scenario};
use super::data::{holding, long_words, noise, poisoned, random_bytes, random_with};

const KINDS: [HostMemory; 4] = [
    HostMemory::Pinned,
    HostMemory::PinnedWriteCombined,
    HostMemory::Pageable,
    HostMemory::RegisteredHugePages,
];

#[test]
fn what_is_written_is_read_back_whatever_its_size_and_place() {
    scenario("sizes").succeeds(|device| {
        for bytes in [1, 255, 256, 4097, 100_000] {
            let data = noise(bytes, bytes);
            let buffer = holding(device, &data);
            assert_eq!(device.read(buffer.all()).expect("read"), data);
            let middle = buffer.slice(bytes / 3, bytes / 3);
            device.write(middle, &noise(bytes / 3, 7)).expect("written");
            let (start, length) = ((bytes / 3) as usize, (bytes / 3) as usize);
            let now = device.read(buffer.all()).expect("read");
            assert_eq!(now[..start], data[..start]);
            assert_eq!(now[start..start + length], noise(bytes / 3, 7));
            assert_eq!(now[start + length..], data[start + length..]);
        }
    });
}

#[test]
fn fills_are_the_same_bits_on_both_sides_and_stop_at_their_end() {
    scenario("fills").succeeds(|device| {
        let stream = device.stream().expect("a stream");
        for bytes in [4, 20, 4096, 40_004] {
            let buffer = poisoned(device, stream, bytes + 64);
            let expected = random_bytes(9, bytes / 2, 0.5);
            device
                .submit(stream, &Work::Fill { to: buffer.slice(32, bytes), with: random_with(9) })
                .expect("submitted");
            let all = device.read(buffer.all()).expect("read");
            let (inside, after) = all[32..].split_at(bytes as usize);
            assert_eq!(inside, expected);
            assert_eq!((&all[..32], after), (&[0xc0, 0x7f].repeat(16)[..], &[0xc0, 0x7f].repeat(16)[..]));
            for kind in KINDS {
                let host = device.alloc_host(bytes, kind).expect("host memory");
                device.fill_host(host.all(), random_with(9)).expect("filled");
                assert_eq!(device.read_host(host.all()).expect("read"), expected, "{kind:?}");
            }
            let word = buffer.slice(36, bytes - bytes % 8);
            device
                .submit(stream, &Work::Fill { to: word, with: FillWith::Word(0x0403_0201) })
                .expect("submitted");
            let read = device.read(word).expect("read");
            assert!(read.as_chunks::<4>().0.iter().all(|four| *four == [1, 2, 3, 4]));
        }
    });
}

#[test]
fn checksums_and_reads_are_their_references() {
    scenario("checksums").succeeds(|device| {
        let stream = device.stream().expect("a stream");
        for chunks in [1, 3, 130] {
            let data = noise(4096 * chunks, chunks);
            let of = holding(device, &data);
            let into = poisoned(device, stream, 8 * chunks);
            device.submit(stream, &Work::Checksum { of: of.all(), into: into.all() }).expect("submitted");
            assert_eq!(long_words(&device.read(into.all()).expect("read")), checksums(&data));
            let folded = data.as_chunks::<4>().0.iter().fold(0, |sum, four| sum ^ u32::from_le_bytes(*four));
            let sink = holding(device, &[0; 8]);
            device.submit(stream, &Work::ReadOnly { of: of.all(), into: sink.all() }).expect("submitted");
            assert_eq!(long_words(&device.read(sink.all()).expect("read")), [u64::from(folded)]);
        }
    });
}

#[test]
fn memory_that_is_given_back_can_be_had_again() {
    // 1 GiB: twenty rounds of 600 MB fit only if each is given back.
    let ended = scenario("rounds").set("FAKE_CUDA_MEMORY", 1 << 30).succeeds(|device| {
        for round in 0..20 {
            let buffer = device.alloc(600_000_000).expect("given back");
            assert!(matches!(device.alloc(600_000_000), Err(DeviceError::OutOfMemory { .. })));
            let host = device.alloc_host(1 << 20, KINDS[round % 4]).expect("host memory");
            device.write_host(host.slice(5, 7), b"1234567").expect("written");
            let (stream, latch) = (device.stream().expect("a stream"), device.latch().expect("a latch"));
            let event = device.event().expect("an event");
            device.hold(stream, latch).expect("held");
            device
                .submit(stream, &Work::Fill { to: buffer.slice(0, 4096), with: POISON })
                .expect("submitted");
            device.record(stream, event).expect("recorded");
            device.release(latch).expect("in time");
            device.free_all().expect("given back");
        }
    });
    if let Some(ended) = ended {
        // Allocations of the device itself end with its context: not more of them after twenty rounds than after one.
        assert!(ended.left["device"] <= 8, "{:?}", ended.left);
        assert_eq!(ended.counts["kernel hold"], 20);
    }
}

#[test]
fn a_device_that_was_closed_can_be_opened_again() {
    let steps = || {
        for round in 0..3 {
            let mut device = open();
            let buffer = holding(&mut device, &noise(4096, round));
            assert_eq!(device.read(buffer.all()).expect("read"), noise(4096, round));
        }
    };
    let name = std::any::type_name_of_val(&steps);
    if let Some(ended) = scenario("again").run_without_device(steps, name) {
        assert!(ended.succeeded, "{}", ended.said);
        assert_eq!(ended.said.matches("left at the end").count(), 3);
    }
}
