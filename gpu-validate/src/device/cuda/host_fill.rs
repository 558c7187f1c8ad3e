//! Fills host memory with what `kernels/memory.cu` writes on the GPU, bit for bit, on all CPUs.

use crate::device::FillWith;
use crate::kernels::reference::{mix, to_bf16};

/// 2⁶⁴ over the golden ratio: the increment of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes that one thread fills at a time; below this a second thread is not worth its start.
const AT_ONCE: usize = 4 << 20;

/// Fills `bytes`; the first of them has index 0 of the generator.
pub(super) fn fill(bytes: &mut [u8], with: FillWith) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = bytes.len().div_ceil(threads).next_multiple_of(8).max(AT_ONCE);
    if bytes.len() <= share {
        return fill_part(bytes, 0, with);
    }
    std::thread::scope(|scope| {
        for (index, part) in bytes.chunks_mut(share).enumerate() {
            scope.spawn(move || fill_part(part, (index * share / 8) as u64, with));
        }
    });
}

fn fill_part(bytes: &mut [u8], first_word: u64, with: FillWith) {
    for (eight, word) in bytes.chunks_mut(8).zip(first_word..) {
        let value = match with {
            FillWith::Word(value) => u64::from(value) << 32 | u64::from(value),
            FillWith::Random { seed, scale } => four_random(seed, word, scale),
        };
        eight.copy_from_slice(&value.to_le_bytes()[..eight.len()]);
    }
}

/// Four bf16: the odd integers of (−2¹⁶, 2¹⁶) from 16 random bits each, times `scale`·2⁻¹⁶.
fn four_random(seed: u64, word: u64, scale: f32) -> u64 {
    let bits = mix(seed.wrapping_add(word.wrapping_add(1).wrapping_mul(GOLDEN)));
    let step = scale * (1.0 / 65_536.0);
    let value = |i: u32| {
        let odd = 2 * i32::from((bits >> (16 * i)) as u16 as i16) + 1;
        u64::from(to_bf16(odd as f32 * step)) << (16 * i)
    };
    value(0) | value(1) | value(2) | value(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::random_bf16;

    #[test]
    fn every_element_is_that_of_the_kernels_reference() {
        let mut bytes = vec![0; 2 * 1001]; // the last word is cut
        fill(&mut bytes, FillWith::Random { seed: 11, scale: 0.25 });
        let values = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
        assert!(values.eq((0..1001).map(|index| random_bf16(11, index, 0.25))));
    }

    #[test]
    fn many_threads_fill_as_one_does() {
        let mut many = vec![0; 3 * AT_ONCE + 4];
        let mut one = many.clone();
        fill(&mut many, FillWith::Random { seed: 7, scale: 0.5 });
        fill_part(&mut one, 0, FillWith::Random { seed: 7, scale: 0.5 });
        assert!(many == one);
    }
}
