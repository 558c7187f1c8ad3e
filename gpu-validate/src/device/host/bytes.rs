//! Kernels and copies that know bytes, not tensors: fills, checksums, reads, copies.
//!
//! The generator and the checksum are those of `kernels/memory.cu`, bit for bit.

use std::time::{Duration, Instant};

use super::engines::Stop;
use super::store::{Place, bf16_from_float};
use crate::device::{Direction, FillWith};

/// 2^64 over the golden ratio: the increment of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// What a checksum is of.
const CHUNK: usize = 4096;
/// Bytes touched under one lock.
const AT_ONCE: usize = 64 << 10;

/// Stafford's mix 13 of a 64-bit counter (the finaliser of SplitMix64, Steele et al. 2014).
const fn mix(counter: u64) -> u64 {
    let mixed = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Fills a place; its first byte has index 0 of the generator.
pub(super) fn fill(to: &Place, with: FillWith) {
    let mut first_word = 0;
    for part in to.parts(AT_ONCE) {
        let words = first_word..first_word + part.bytes().div_ceil(8) as u64;
        first_word = words.end;
        let bytes: Vec<u8> = words.flat_map(|word| eight_bytes(with, word).to_le_bytes()).collect();
        part.write(&bytes[..part.bytes()]);
    }
}

/// Bytes `8·word` to `8·word + 7` of a filled place.
fn eight_bytes(with: FillWith, word: u64) -> u64 {
    match with {
        FillWith::Word(value) => u64::from(value) << 32 | u64::from(value),
        FillWith::Random { seed, scale } => {
            let bits = mix(seed.wrapping_add((word + 1).wrapping_mul(GOLDEN)));
            (0..4).map(|i| u64::from(random_bf16((bits >> (16 * i)) as u16, scale)) << (16 * i)).sum()
        }
    }
}

/// Of 16 random bits: the odd integers of (−2^16, 2^16) times `scale`·2^−16, rounded once in fp32 and once to bf16.
fn random_bf16(bits: u16, scale: f32) -> u16 {
    let odd = 2 * i32::from(bits as i16) + 1;
    bf16_from_float(odd as f32 * (scale * (1.0 / 65_536.0)))
}

/// One sum per 4 KiB: `Σ mix(word_i + (i + 1) · GOLDEN)` over its 8-byte words.
pub(super) fn checksum(of: &Place, into: &Place) {
    let sums: Vec<u8> = of.parts(CHUNK).flat_map(|chunk| sum(&chunk.read()).to_le_bytes()).collect();
    into.write(&sums);
}

fn sum(chunk: &[u8]) -> u64 {
    let words = chunk.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    words.zip(1..).fold(0_u64, |sum, (word, place)| {
        sum.wrapping_add(mix(word.wrapping_add(GOLDEN.wrapping_mul(place))))
    })
}

/// Reads everything and leaves the exclusive or of its 8-byte words.
pub(super) fn read_only(of: &Place, into: &Place) {
    let mut folded = 0;
    for part in of.parts(AT_ONCE) {
        let words = part.read();
        folded =
            words.as_chunks::<8>().0.iter().fold(folded, |folded, word| folded ^ u64::from_le_bytes(*word));
    }
    into.write(&folded.to_le_bytes());
}

/// Copies within the device.
pub(super) fn copy_within(from: &Place, to: &Place) {
    for (from, to) in from.parts(AT_ONCE).zip(to.parts(AT_ONCE)) {
        to.write(&from.read());
    }
}

/// Copies (host, device) pairs. With a rate, bytes land no sooner than it allows, a lock's worth at a time.
pub(super) fn copy(direction: Direction, pieces: &[(Place, Place)], bytes_per_s: Option<f64>, stop: &Stop) {
    let begun = Instant::now();
    let mut copied = 0;
    for (host, device) in pieces {
        let (from, to) = match direction {
            Direction::H2d => (host, device),
            Direction::D2h => (device, host),
        };
        for (from, to) in from.parts(AT_ONCE).zip(to.parts(AT_ONCE)) {
            copied += from.bytes();
            if let Some(rate) = bytes_per_s {
                stop.wait_until(begun + Duration::from_secs_f64(copied as f64 / rate));
            }
            to.write(&from.read());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_values_depend_on_seed_and_index_alone_and_stay_within_the_scale() {
        let filled = |bytes, seed| {
            let place = Place::new(bytes);
            fill(&place, FillWith::Random { seed, scale: 0.5 });
            place
        };
        // More than one lock's worth, and a length that is no multiple of 8: a prefix of the longer one.
        let long = filled(3 * AT_ONCE as u64, 7).read();
        assert_eq!(filled(2 * AT_ONCE as u64 + 4, 7).read()[..], long[..2 * AT_ONCE + 4]);
        assert_ne!(filled(64, 8).read()[..], long[..64]);
        let values = filled(1 << 16, 7).bf16();
        assert!(values.iter().all(|value| value.abs() <= 0.5 && *value != 0.0));
        let mean: f32 = values.iter().sum::<f32>() / values.len() as f32;
        // 32,768 values of standard deviation 0.5/√3: their mean has 0.0016
        assert!(mean.abs() < 0.01, "{mean}");
    }

    #[test]
    fn a_checksum_sees_one_bit_and_two_swapped_words() {
        let of = Place::new(2 * CHUNK as u64);
        fill(&of, FillWith::Random { seed: 1, scale: 1.0 });
        let sums = || {
            let into = Place::new(16);
            checksum(&of, &into);
            into.read()
        };
        let (before, bytes) = (sums(), of.read());
        let mut flipped = bytes.clone();
        flipped[CHUNK + 5] ^= 1;
        of.write(&flipped);
        assert_eq!(sums()[..8], before[..8]);
        assert_ne!(sums()[8..], before[8..]);
        let mut swapped = bytes;
        swapped[..16].rotate_left(8);
        of.write(&swapped);
        assert_ne!(sums()[..8], before[..8]);
    }

    #[test]
    fn the_first_random_word_is_what_its_definition_gives() {
        // SplitMix64 from state 0: its first output is e220a8397b1dcdaf, whose low 16 bits are cdaf = −12,881:
        // (2·−12,881 + 1)/65,536 = −0.39308…; bf16 has steps of 2^−9 there: −201/512 = −0.392578 (0xbec9).
        assert_eq!(mix(GOLDEN), 0xe220_a839_7b1d_cdaf);
        assert_eq!(eight_bytes(FillWith::Random { seed: 0, scale: 1.0 }, 0) & 0xffff, 0xbec9);
    }
}
