//! Memory that several threads touch: bytes behind a lock, taken for one small read or write at a time.
//!
//! The lock keeps the program defined, it orders nothing: a kernel that should have waited for a copy reads what is
//! there, stale or half new, as on a GPU.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A part of a buffer.
#[derive(Clone)]
pub(super) struct Place {
    memory: Arc<RwLock<Vec<u8>>>,
    offset: usize,
    bytes: usize,
}

impl Place {
    /// A new buffer, zeroed.
    pub fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).expect("Invariant: a buffer fits the address space");
        Place { memory: Arc::new(RwLock::new(vec![0; bytes])), offset: 0, bytes }
    }

    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// `bytes` bytes from `offset` of this place.
    pub fn part(&self, offset: usize, bytes: usize) -> Place {
        assert!(offset + bytes <= self.bytes, "Invariant: a part lies within its place");
        Place { memory: Arc::clone(&self.memory), offset: self.offset + offset, bytes }
    }

    /// Its parts of at most `most` bytes, in order.
    pub fn parts(&self, most: usize) -> impl Iterator<Item = Place> {
        (0..self.bytes).step_by(most).map(move |at| self.part(at, most.min(self.bytes - at)))
    }

    pub fn read(&self) -> Vec<u8> {
        self.locked()[self.offset..self.offset + self.bytes].to_vec()
    }

    /// Writes its first bytes.
    pub fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.bytes, "Invariant: what is written fits its place");
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory[self.offset..self.offset + bytes.len()].copy_from_slice(bytes);
    }

    /// As bf16 elements.
    pub fn bf16(&self) -> Vec<f32> {
        let memory = self.locked();
        let pairs = memory[self.offset..self.offset + self.bytes].as_chunks::<2>().0;
        pairs.iter().map(|pair| float_from_bf16(u16::from_le_bytes(*pair))).collect()
    }

    /// Writes its first elements, rounded to bf16.
    pub fn set_bf16(&self, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| bf16_from_float(*value).to_le_bytes()).collect();
        self.write(&bytes);
    }

    /// As fp32 elements.
    pub fn fp32(&self) -> Vec<f32> {
        let memory = self.locked();
        let words = memory[self.offset..self.offset + self.bytes].as_chunks::<4>().0;
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    }

    /// Writes its first elements as fp32.
    pub fn set_fp32(&self, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.write(&bytes);
    }

    fn locked(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The upper half of an fp32.
pub(super) fn float_from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// To the nearest bf16, ties to the even one; NaN stays NaN.
pub(super) fn bf16_from_float(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let odd = (bits >> 16) & 1;
    ((bits + 0x7fff + odd) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_the_nearest_and_ties_to_even() {
        // 1 + 2^-8 lies between 1 (0x3f80, even) and 1 + 2^-7 (0x3f81); 1 + 3·2^-8 between 0x3f81 and 0x3f82 (even).
        for (value, bits) in [
            (1.0_f32, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 1.01 / 256.0, 0x3f81),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (-2.0, 0xc000),
            (f32::INFINITY, 0x7f80),
            (f32::MAX, 0x7f80),
        ] {
            assert_eq!(bf16_from_float(value), bits, "{value}");
        }
        assert!(float_from_bf16(bf16_from_float(f32::NAN)).is_nan());
        assert!(float_from_bf16(bf16_from_float(f32::from_bits(0x7f80_0001))).is_nan());
    }
}
