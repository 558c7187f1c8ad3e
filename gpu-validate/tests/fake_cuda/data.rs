//! Bytes in and out of buffers, and numbers in and out of bytes.

use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::device::{Device, DeviceBuffer, FillWith, POISON, Stream, Work};
use gpu_validate::kernels::reference::{from_bf16, mix, random_bf16};

/// Bytes that look like noise and depend on the seed.
pub fn noise(bytes: u64, seed: u64) -> Vec<u8> {
    (0..bytes).map(|at| mix(seed.wrapping_mul(1_000_003).wrapping_add(at)) as u8).collect()
}

/// What a random fill writes, as bytes.
pub fn random_bytes(seed: u64, elements: u64, scale: f32) -> Vec<u8> {
    (0..elements).flat_map(|index| random_bf16(seed, index, scale).to_le_bytes()).collect()
}

/// bf16 as bits.
pub fn elements(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
}

/// bf16 as numbers.
pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    elements(bytes).into_iter().map(|bits| f64::from(from_bf16(bits))).collect()
}

/// 64-bit words.
pub fn long_words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight)).collect()
}

/// A buffer that holds these bytes.
pub fn holding(device: &mut CudaDevice, bytes: &[u8]) -> DeviceBuffer {
    let buffer = device.alloc(bytes.len() as u64).expect("memory");
    device.write(buffer.all(), bytes).expect("written");
    buffer
}

/// A buffer of poison.
pub fn poisoned(device: &mut CudaDevice, stream: Stream, bytes: u64) -> DeviceBuffer {
    let buffer = device.alloc(bytes).expect("memory");
    device.submit(stream, &Work::Fill { to: buffer.all(), with: POISON }).expect("submitted");
    buffer
}

/// A buffer of random bf16, and the same as bits.
pub fn random(device: &mut CudaDevice, count: u64, seed: u64, scale: f32) -> (DeviceBuffer, Vec<u16>) {
    let bytes = random_bytes(seed, count, scale);
    (holding(device, &bytes), elements(&bytes))
}

/// A random fill.
pub const fn random_with(seed: u64) -> FillWith {
    FillWith::Random { seed, scale: 0.5 }
}
