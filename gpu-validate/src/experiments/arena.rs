//! Device memory full of random data, and how runs rotate through it so that none finds its input in the level-2 cache.

use std::cell::Cell;

use crate::device::{Device, DeviceBuffer, DeviceError, DeviceSlice, FillWith, Stream, Work};

/// How many times the level-2 cache buffers rotate through (`gpu-measurement.md` §1.3).
const CACHES: u64 = 5;

/// The most different inputs of one point: more would only take time to prepare. On a GPU the cache is passed earlier.
const MOST_INPUTS: u64 = 256;

/// Places of a buffer start at multiples of this: what every kernel may assume.
const ALIGNMENT: u64 = 256;

/// Random data everywhere, in ±`scale`; waits.
pub fn random(
    device: &mut dyn Device,
    bytes: u64,
    seed: u64,
    scale: f32,
) -> Result<DeviceBuffer, DeviceError> {
    let buffer = device.alloc(aligned(bytes))?;
    let stream = device.stream()?;
    fill(device, stream, buffer.all(), seed, scale)?;
    device.synchronize()?;
    Ok(buffer)
}

fn fill(
    device: &mut dyn Device,
    stream: Stream,
    to: DeviceSlice,
    seed: u64,
    scale: f32,
) -> Result<(), DeviceError> {
    device.submit(stream, &Work::Fill { to, with: FillWith::Random { seed, scale } })
}

/// `bytes` rounded up so that another slice may follow.
pub const fn aligned(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT) * ALIGNMENT
}

/// How many inputs of `bytes` bytes pass the level-2 cache five times: at least 2, so that none is read twice running.
pub fn inputs(l2_bytes: u64, bytes: u64) -> u64 {
    (CACHES * l2_bytes).div_ceil(bytes.max(1)).clamp(2, MOST_INPUTS)
}

/// Bytes that [`inputs`] inputs of `bytes` bytes take.
pub fn bytes_of_inputs(l2_bytes: u64, bytes: u64) -> u64 {
    inputs(l2_bytes, bytes) * aligned(bytes)
}

/// As many slices of `bytes` bytes as [`inputs`] says, or as fit in `arena`; at least one must.
pub fn slices(arena: DeviceBuffer, l2_bytes: u64, bytes: u64) -> Vec<DeviceSlice> {
    let fit = arena.bytes() / aligned(bytes);
    assert!(fit > 0, "Invariant: an arena of {} bytes holds an input of {bytes}", arena.bytes());
    (0..inputs(l2_bytes, bytes).min(fit)).map(|place| arena.slice(place * aligned(bytes), bytes)).collect()
}

/// Hands out its items one after the other, again and again.
pub struct Rotation<T> {
    items: Vec<T>,
    next: Cell<usize>,
}

impl<T> Rotation<T> {
    /// Of at least one item.
    pub fn new(items: Vec<T>) -> Self {
        assert!(!items.is_empty(), "Invariant: a rotation has something to hand out");
        Rotation { items, next: Cell::new(0) }
    }

    /// The next one.
    pub fn next(&self) -> &T {
        let place = self.next.get();
        self.next.set((place + 1) % self.items.len());
        &self.items[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_pass_the_cache_five_times_but_never_fewer_than_two() {
        assert_eq!(inputs(50 << 20, 100 << 20), 3); // 250 MiB in pieces of 100
        assert_eq!(inputs(50 << 20, 1 << 30), 2);
        assert_eq!(inputs(50 << 20, 4096), MOST_INPUTS);
    }

    #[test]
    fn a_rotation_comes_back_to_its_first_item_after_its_last() {
        let rotation = Rotation::new(vec![1, 2]);
        assert_eq!([*rotation.next(), *rotation.next(), *rotation.next()], [1, 2, 1]);
    }
}
