//! Bytes: fills, checksums, copies by every interface and from every kind of host memory.

use gpu_validate::device::{
    CopyApi, CopyPiece, CopyWork, Device, Direction, FillWith, HostMemory, POISON, Work,
};
use gpu_validate::kernels::reference::checksums;

use crate::fake::{on_fake_driver, open};

const RANDOM: FillWith = FillWith::Random { seed: 5, scale: 1.0 };

#[test]
fn a_fill_is_the_same_on_both_sides_and_its_checksums_are_the_references() {
    on_fake_driver(
        "copies::a_fill_is_the_same_on_both_sides_and_its_checksums_are_the_references",
        &[],
        || {
            let mut device = open();
            let bytes = 5 * 4096;
            let (buffer, sums) = (device.alloc(bytes).unwrap(), device.alloc(8 * 5).unwrap());
            let host = device.alloc_host(bytes, HostMemory::Pinned).unwrap();
            let stream = device.stream().unwrap();
            device.fill_host(host.all(), RANDOM).unwrap();
            device.submit(stream, &Work::Fill { to: buffer.all(), with: RANDOM }).unwrap();
            device.submit(stream, &Work::Checksum { of: buffer.all(), into: sums.all() }).unwrap();
            let expected = device.read_host(host.all()).unwrap();
            assert!(device.read(buffer.all()).unwrap() == expected);
            let sums = device.read(sums.all()).unwrap();
            let sums: Vec<u64> =
                sums.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
            assert_eq!(sums, checksums(&expected));
        },
    );
}

#[test]
fn words_fill_wide_and_narrow_places_and_nothing_beside_them() {
    on_fake_driver("copies::words_fill_wide_and_narrow_places_and_nothing_beside_them", &[], || {
        let mut device = open();
        let buffer = device.alloc(256).unwrap();
        let stream = device.stream().unwrap();
        device.write(buffer.all(), &[0; 256]).unwrap();
        device.submit(stream, &Work::Fill { to: buffer.slice(16, 64), with: POISON }).unwrap();
        let narrow = FillWith::Word(0x0403_0201);
        device.submit(stream, &Work::Fill { to: buffer.slice(100, 12), with: narrow }).unwrap();
        let (from, to) = (buffer.slice(16, 32), buffer.slice(160, 32));
        device.submit(stream, &Work::DeviceCopy { from, to }).unwrap();
        let mut expected = [0; 256];
        expected[16..80].copy_from_slice(&[0xc0, 0x7f].repeat(32));
        expected[100..112].copy_from_slice(&[1, 2, 3, 4].repeat(3));
        expected[160..192].copy_from_slice(&[0xc0, 0x7f].repeat(16));
        assert_eq!(device.read(buffer.all()).unwrap(), expected);
    });
}

#[test]
fn a_read_folds_every_word() {
    on_fake_driver("copies::a_read_folds_every_word", &[], || {
        let mut device = open();
        let (buffer, into) = (device.alloc(1 << 16).unwrap(), device.alloc(8).unwrap());
        let stream = device.stream().unwrap();
        device.submit(stream, &Work::Fill { to: buffer.all(), with: RANDOM }).unwrap();
        device.write(into.all(), &[0; 8]).unwrap();
        device.submit(stream, &Work::ReadOnly { of: buffer.all(), into: into.all() }).unwrap();
        let words = device.read(buffer.all()).unwrap();
        let folded = words.as_chunks::<4>().0.iter().fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
        assert_eq!(device.read(into.all()).unwrap()[..4], folded.to_le_bytes());
    });
}

/// 5,000 pieces of 48 bytes, scattered on the host side: more than one batch call takes.
fn pieces() -> Vec<CopyPiece> {
    let piece = |i: u64| CopyPiece { host_offset: (i * 7919 % 5000) * 64, device_offset: i * 48, bytes: 48 };
    (0..5000).map(piece).collect()
}

#[test]
fn every_interface_moves_every_piece_both_ways() {
    on_fake_driver("copies::every_interface_moves_every_piece_both_ways", &[], || {
        let mut device = open();
        let pieces = pieces();
        let apis = [CopyApi::Async, CopyApi::Batch, CopyApi::BatchOverlap, CopyApi::SmGather { blocks: 3 }];
        for api in apis {
            let (there, back) = (device.alloc_host(5000 * 64, HostMemory::Pinned).unwrap(), {
                device.alloc_host(5000 * 64, HostMemory::PinnedWriteCombined).unwrap()
            });
            let gpu = device.alloc(5000 * 48).unwrap();
            let stream = device.stream().unwrap();
            device.fill_host(there.all(), RANDOM).unwrap();
            device.fill_host(back.all(), FillWith::Word(0)).unwrap();
            let copy = |direction, host| CopyWork { direction, api, host, device: gpu, pieces: &pieces };
            device.copy(stream, &copy(Direction::H2d, there)).unwrap();
            device.copy(stream, &copy(Direction::D2h, back)).unwrap();
            device.synchronize().unwrap();
            let (sent, got) = (device.read_host(there.all()).unwrap(), device.read_host(back.all()).unwrap());
            for (sent, got) in sent.chunks_exact(64).zip(got.chunks_exact(64)) {
                assert!(sent[..48] == got[..48] && got[48..] == [0; 16], "{api:?}");
            }
            device.free_all().unwrap();
        }
    });
}

#[test]
fn every_kind_of_host_memory_is_copied_from_or_waived() {
    on_fake_driver("copies::every_kind_of_host_memory_is_copied_from_or_waived", &[], || {
        let mut device = open();
        let gpu = device.alloc(1 << 20).unwrap();
        let stream = device.stream().unwrap();
        let all = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 1 << 20 }];
        let kinds = [HostMemory::Pinned, HostMemory::PinnedWriteCombined, HostMemory::Pageable];
        for memory in kinds.into_iter().chain([HostMemory::RegisteredHugePages]) {
            let host = match device.alloc_host(1 << 20, memory) {
                Ok(host) => host,
                Err(error) if memory == HostMemory::RegisteredHugePages && error.is_waived() => continue,
                Err(error) => panic!("{memory:?}: {error}"),
            };
            device.fill_host(host.all(), FillWith::Word(memory as u32 + 1)).unwrap();
            let work = |api| CopyWork { direction: Direction::H2d, api, host, device: gpu, pieces: &all };
            device.copy(stream, &work(CopyApi::Async)).unwrap();
            let bytes = device.read(gpu.all()).unwrap();
            assert!(
                bytes.as_chunks::<4>().0.iter().all(|word| u32::from_le_bytes(*word) == memory as u32 + 1)
            );
            let gathered = device.copy(stream, &work(CopyApi::SmGather { blocks: 2 }));
            assert_eq!(gathered.is_err(), memory == HostMemory::Pageable, "{memory:?}");
        }
        device.free_all().unwrap();
    });
}

#[test]
fn device_memory_that_is_not_there_is_an_error_with_both_numbers() {
    on_fake_driver("copies::device_memory_that_is_not_there_is_an_error_with_both_numbers", &[], || {
        let mut device = open();
        let error = device.alloc(2 << 30).expect_err("1 GiB is all there is").to_string();
        assert!(error.starts_with("device memory: 2147483648 bytes asked, "), "{error}");
        let host = device.facts().host_memory_bytes;
        let error = device.alloc_host(host + 4096, HostMemory::Pinned).expect_err("over the limit");
        assert!(error.to_string().contains("pinned host memory"), "{error}");
    });
}
