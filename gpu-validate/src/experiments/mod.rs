//! The experiments E1–E8 and E12 of `gpu-measurement.md` §4.1: which points there are, and what one run of each enqueues.
//!
//! Every experiment is points, buffers and rows; how they are timed is [`crate::measure`]'s. Each begins by giving back
//! all of the device's handles ([`crate::device::Device::free_all`]): nothing made before it survives it. Experiments
//! know neither CUDA nor fits. E9, E10 and E11 are elsewhere: they run whole decode steps.

mod arena;
mod attention;
mod contention;
mod copies;
mod decode_layer;
mod drift;
mod gemms;
mod launches;
mod layouts;
mod link;
mod memory;
mod pieces;

#[cfg(test)]
mod tests;

pub use attention::attention;
pub use contention::contention;
pub use copies::size_curve;
pub use drift::{Anchor, anchors, drift};
pub use gemms::{matrices, matrix_products};
pub use launches::launches;
pub use layouts::kv_layouts;
pub use link::link_peak;
pub use memory::memory_rates;
