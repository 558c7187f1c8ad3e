//! Every way to copy, both directions, every kind of host memory, many pieces.

use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::device::{
    CopyApi, CopyPiece, CopyWork, Device, DeviceError, Direction, HostMemory, Stream, Work,
};
use gpu_validate::kernels::reference::checksums;

use super::child::scenario;
use super::data::{long_words, noise, poisoned};

const APIS: [CopyApi; 5] = [
    CopyApi::Async,
    CopyApi::Batch,
    CopyApi::BatchOverlap,
    CopyApi::SmGather { blocks: 2 },
    CopyApi::SmGather { blocks: 32 },
];
const PINNED: [HostMemory; 3] =
    [HostMemory::Pinned, HostMemory::PinnedWriteCombined, HostMemory::RegisteredHugePages];

/// Pieces of very different sizes, in reverse on the device, with gaps between them.
fn pieces(count: u64) -> (Vec<CopyPiece>, u64) {
    let sizes: Vec<u64> =
        (0..count).map(|i| [16, 4096, 7, 60_000, 32][i as usize % 5] + 16 * (i % 3)).collect();
    let room = |size: u64| size.next_multiple_of(16) + 32;
    let total: u64 = sizes.iter().map(|size| room(*size)).sum();
    let mut at = 0;
    let pieces = sizes.into_iter().map(|bytes| {
        let host_offset = at;
        at += room(bytes);
        CopyPiece { host_offset, device_offset: total - at, bytes }
    });
    (pieces.collect(), total)
}

fn poison(bytes: u64) -> Vec<u8> {
    [0xc0, 0x7f].into_iter().cycle().take(bytes as usize).collect()
}

/// Copies there and back into poison on both sides and compares every byte.
fn there_and_back(device: &mut CudaDevice, stream: Stream, api: CopyApi, kind: HostMemory, count: u64) {
    let (pieces, total) = pieces(count);
    let data = noise(total, count);
    let host = device.alloc_host(total, kind).expect("host memory");
    device.write_host(host.all(), &data).expect("written");
    let target = poisoned(device, stream, total);
    let work = CopyWork { direction: Direction::H2d, api, host, device: target, pieces: &pieces };
    device.copy(stream, &work).expect("submitted");
    let mut expected = poison(total);
    for piece in &pieces {
        let (from, to, bytes) =
            (piece.host_offset as usize, piece.device_offset as usize, piece.bytes as usize);
        expected[to..to + bytes].copy_from_slice(&data[from..from + bytes]);
    }
    assert!(device.read(target.all()).expect("read") == expected, "{api:?} from {kind:?}, {count} pieces");
    let back = device.alloc_host(total, kind).expect("host memory");
    device.write_host(back.all(), &poison(total)).expect("written");
    device.copy(stream, &CopyWork { direction: Direction::D2h, host: back, ..work }).expect("submitted");
    device.synchronize().expect("ran");
    let mut expected = poison(total);
    for piece in &pieces {
        let range = piece.host_offset as usize..(piece.host_offset + piece.bytes) as usize;
        expected[range.clone()].copy_from_slice(&data[range]);
    }
    assert!(device.read_host(back.all()).expect("read") == expected, "{api:?} into {kind:?}, {count} pieces");
}

#[test]
fn every_way_to_copy_moves_every_byte_and_none_between() {
    for seed in [0, 1, 5] {
        let ended = scenario("copies").seed(seed).succeeds(|device| {
            let stream = device.stream().expect("a stream");
            for (kind, count) in PINNED.into_iter().zip([1, 17, 40]) {
                for api in APIS {
                    there_and_back(device, stream, api, kind, count);
                }
            }
            there_and_back(device, stream, CopyApi::Async, HostMemory::Pageable, 9);
        });
        if let Some(ended) = ended {
            assert_eq!(ended.counts["batches"], 12); // 3 kinds, 2 interfaces, 2 directions
            assert_eq!(ended.counts["batches that prefer overlap"], 6);
            assert_eq!(ended.counts["kernel gather_copy"], 12);
        }
    }
}

#[test]
fn a_batch_of_more_pieces_than_a_call_takes_is_cut() {
    let ended = scenario("many").seed(2).succeeds(|device| {
        let stream = device.stream().expect("a stream");
        let count = 10_000;
        let host = device.alloc_host(16 * count, HostMemory::Pinned).expect("host memory");
        device.write_host(host.all(), &noise(16 * count, 3)).expect("written");
        let target = device.alloc(16 * count).expect("memory");
        let pieces: Vec<CopyPiece> =
            (0..count).map(|i| CopyPiece { host_offset: 16 * i, device_offset: 16 * i, bytes: 16 }).collect();
        let work = CopyWork {
            direction: Direction::H2d,
            api: CopyApi::Batch,
            host,
            device: target,
            pieces: &pieces,
        };
        device.copy(stream, &work).expect("submitted");
        assert!(device.read(target.all()).expect("read") == noise(16 * count, 3));
        // More single copies than a launch queue holds: submission waits and goes on.
        device
            .submit(stream, &Work::Fill { to: target.all(), with: gpu_validate::device::POISON })
            .expect("submitted");
        device.copy(stream, &CopyWork { api: CopyApi::Async, ..work }).expect("submitted");
        assert!(device.read(target.all()).expect("read") == noise(16 * count, 3));
    });
    if let Some(ended) = ended {
        assert_eq!(ended.counts["batches"], 3); // ceil(10,000 / 4,096)
    }
}

#[test]
fn copied_data_has_the_hosts_checksums() {
    scenario("checksums").seed(3).succeeds(|device| {
        let stream = device.stream().expect("a stream");
        let host = device.alloc_host(1 << 20, HostMemory::Pinned).expect("host memory");
        device.fill_host(host.all(), super::data::random_with(4)).expect("filled");
        let target = poisoned(device, stream, 1 << 20);
        let sums = poisoned(device, stream, 8 * 256);
        let pieces: Vec<CopyPiece> = (0..16)
            .map(|i| CopyPiece { host_offset: i << 16, device_offset: i << 16, bytes: 1 << 16 })
            .collect();
        for api in APIS {
            let work = CopyWork { direction: Direction::H2d, api, host, device: target, pieces: &pieces };
            device.copy(stream, &work).expect("submitted");
            device.submit(stream, &Work::Checksum { of: target.all(), into: sums.all() }).expect("submitted");
            let got = long_words(&device.read(sums.all()).expect("read"));
            assert_eq!(got, checksums(&device.read_host(host.all()).expect("read")), "{api:?}");
        }
    });
}

#[test]
fn what_kernels_cannot_reach_is_waived_and_the_device_goes_on() {
    scenario("pageable").succeeds(|device| {
        let stream = device.stream().expect("a stream");
        let host = device.alloc_host(4096, HostMemory::Pageable).expect("host memory");
        let target = device.alloc(4096).expect("memory");
        let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 4096 }];
        for direction in [Direction::H2d, Direction::D2h] {
            let work = CopyWork { direction, api: CopyApi::Async, host, device: target, pieces: &pieces };
            let gather = CopyWork { api: CopyApi::SmGather { blocks: 2 }, ..work };
            let refused = device.copy(stream, &gather).expect_err("kernels do not reach it");
            assert!(refused.is_waived(), "{refused}");
            let batch = device.copy(stream, &CopyWork { api: CopyApi::Batch, ..work });
            assert!(matches!(batch, Err(DeviceError::Unsupported { .. })), "{batch:?}");
            device.copy(stream, &work).expect("goes on");
        }
    });
}
