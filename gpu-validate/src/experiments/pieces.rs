//! Where the pieces of a copy lie, and whether they arrived.
//!
//! Pieces are scattered and distinct: places `stride` bytes apart, taken in steps that are coprime to their number and
//! differ between host and device. So no two pieces touch, on neither side, and a driver has nothing to merge. The step
//! is near the golden section, which spreads consecutive pieces over the whole buffer as KV blocks of a pool are spread.

use crate::device::{CopyPiece, CopyWork, Device, DeviceError, Direction, POISON, Stream, Work};

/// The most bytes between two pieces; a smaller piece is followed by as much as itself.
const MOST_GAP: u64 = 64 << 10;

/// A check looks at so many pieces of a copy, evenly chosen, …
const CHECKED_PIECES: usize = 32;

/// … and at so many bytes at both ends of each.
const CHECKED_END: u64 = 32 << 10;

/// Bytes from the start of a piece to the start of the next place.
pub const fn stride(piece_bytes: u64) -> u64 {
    piece_bytes + if piece_bytes < MOST_GAP { piece_bytes } else { MOST_GAP }
}

/// Bytes of a buffer that holds `pieces` pieces of `piece_bytes` bytes.
pub const fn span(piece_bytes: u64, pieces: u64) -> u64 {
    stride(piece_bytes) * pieces
}

/// Pieces `first … first + count − 1` of `piece_bytes` bytes each, in buffers of `capacity` bytes. Those of different
/// numbers are different places as long as there are enough of them.
pub fn scattered(capacity: u64, piece_bytes: u64, first: u64, count: u64) -> Vec<CopyPiece> {
    let places = capacity / stride(piece_bytes);
    assert!(places >= count, "Invariant: {count} pieces of {piece_bytes} bytes fit in {capacity}");
    let (host_step, device_step) = (step(places, 0.618_034), step(places, 0.754_878));
    let offset = |number: u64, step: u64| {
        let place = u128::from(number) * u128::from(step) % u128::from(places);
        u64::try_from(place).expect("Invariant: a remainder is below its divisor") * stride(piece_bytes)
    };
    (first..first + count)
        .map(|number| CopyPiece {
            host_offset: offset(number, host_step),
            device_offset: offset(number, device_step),
            bytes: piece_bytes,
        })
        .collect()
}

/// A step near `share` of `places` that visits every place.
fn step(places: u64, share: f64) -> u64 {
    let near = (places as f64 * share) as u64;
    (near.max(1)..=places.max(1)).find(|step| coprime(*step, places)).unwrap_or(1)
}

fn coprime(a: u64, b: u64) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// Copies once into poisoned places and compares both ends of up to 32 pieces with their source.
///
/// # Errors
/// The device's, and that bytes differ.
pub fn verify(device: &mut dyn Device, stream: Stream, work: &CopyWork<'_>) -> Result<(), DeviceError> {
    let every = work.pieces.len().div_ceil(CHECKED_PIECES);
    let ends: Vec<CopyPiece> = work.pieces.iter().step_by(every).flat_map(|piece| ends_of(*piece)).collect();
    for end in &ends {
        match work.direction {
            Direction::H2d => {
                let to = work.device.slice(end.device_offset, end.bytes);
                device.submit(stream, &Work::Fill { to, with: POISON })?;
            }
            Direction::D2h => device.fill_host(work.host.slice(end.host_offset, end.bytes), POISON)?,
        }
    }
    device.copy(stream, work)?;
    device.synchronize()?;
    for end in &ends {
        let on_host = device.read_host(work.host.slice(end.host_offset, end.bytes))?;
        let on_device = device.read(work.device.slice(end.device_offset, end.bytes))?;
        if on_host != on_device {
            return Err(DeviceError::Failed {
                what: format!(
                    "a copy {} of {} pieces by {}",
                    work.direction.key(),
                    work.pieces.len(),
                    work.api.key()
                ),
                message: format!(
                    "{} bytes at host offset {} did not arrive as sent",
                    end.bytes, end.host_offset
                ),
            });
        }
    }
    Ok(())
}

fn ends_of(piece: CopyPiece) -> Vec<CopyPiece> {
    if piece.bytes <= 2 * CHECKED_END {
        return vec![piece];
    }
    let part = |from: u64| CopyPiece {
        host_offset: piece.host_offset + from,
        device_offset: piece.device_offset + from,
        bytes: CHECKED_END,
    };
    vec![part(0), part(piece.bytes - CHECKED_END)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::host::{HostDevice, HostOptions};
    use crate::device::{CopyApi, FillWith, HostMemory};

    #[test]
    fn pieces_are_distinct_and_never_touch_on_either_side() {
        for (bytes, count) in [(512, 1), (512, 4096), (65_536, 256), (1 << 20, 7), (4096, 2)] {
            let capacity = span(bytes, count) + 12_345;
            let pieces = scattered(capacity, bytes, 0, count);
            for side in [|p: &CopyPiece| p.host_offset, |p: &CopyPiece| p.device_offset] {
                let mut offsets: Vec<u64> = pieces.iter().map(side).collect();
                offsets.sort_unstable();
                assert!(offsets.windows(2).all(|pair| pair[1] > pair[0] + bytes), "{bytes} {count}");
                assert!(offsets[offsets.len() - 1] + bytes <= capacity);
            }
        }
    }

    #[test]
    fn only_the_two_ends_of_a_large_piece_are_compared() {
        let piece = CopyPiece { host_offset: 1000, device_offset: 5000, bytes: 1 << 20 };
        let [first, last] = ends_of(piece)[..] else { panic!("two ends") };
        assert_eq!((first.host_offset, first.device_offset), (1000, 5000));
        assert_eq!(last.host_offset + last.bytes, 1000 + (1 << 20));
    }

    /// A copy of `list` between buffers of 1 MiB of different random data.
    fn verified(direction: Direction, list: &[CopyPiece]) -> Result<(), DeviceError> {
        let mut device = HostDevice::new(HostOptions::default()).unwrap();
        let (host, on_device) =
            (device.alloc_host(1 << 20, HostMemory::Pinned).unwrap(), device.alloc(1 << 20).unwrap());
        let stream = device.stream().unwrap();
        let with = |seed| FillWith::Random { seed, scale: 1.0 };
        device.fill_host(host.all(), with(1)).unwrap();
        device.submit(stream, &Work::Fill { to: on_device.all(), with: with(2) }).unwrap();
        let work = CopyWork { direction, api: CopyApi::Async, host, device: on_device, pieces: list };
        verify(&mut device, stream, &work)
    }

    #[test]
    fn what_arrived_passes_and_a_piece_that_another_overwrote_is_caught() {
        let piece = |host_offset, device_offset| CopyPiece { host_offset, device_offset, bytes: 4096 };
        for direction in [Direction::H2d, Direction::D2h] {
            assert!(verified(direction, &scattered(1 << 20, 4096, 0, 100)).is_ok());
        }
        // two sources, one place: the first piece is lost
        assert!(verified(Direction::H2d, &[piece(0, 0), piece(8192, 0)]).is_err());
        assert!(verified(Direction::D2h, &[piece(0, 0), piece(0, 8192)]).is_err());
    }
}
