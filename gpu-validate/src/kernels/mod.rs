//! The device's kernels, described: their CUDA C++ sources, how they are compiled, how each is launched, what each moves
//! and what each must compute.
//!
//! ```text
//! kernels/*.cu ──► source (texts, names, options) ──► NVRTC (device::cuda, `kernels --check`)
//! shapes ──► attention | layer | memory ──► Launch { kernel, grid, block, arguments } ──► the driver
//!                                      └──► Traffic { bytes, flops }                  ──► achieved rates
//! reference ──► what the results must be, in fp64 or exactly
//! ```
//!
//! Pure description: it knows no driver, holds no memory and launches nothing; an address is a number that its caller
//! vouches for. The order of every kernel's arguments is written once on this side, in the function that builds its
//! [`Launch`]; `tests/kernels_on_cpu` holds it against the sources by running them on a CPU.
//!
//! KV of one (request, layer): blocks of 16 tokens, each K `[16][kv_heads][head_dim]`, then V likewise, bf16.
//!
//! Byte convention of every [`Traffic`]: each input is read once and each output written once, whatever caches or a
//! second pass do; partial results between two kernels of one operation are counted apart. Decimal units.

pub mod attention;
pub mod launch;
pub mod layer;
pub mod memory;
pub mod reference;
pub mod source;

pub use launch::{Address, Argument, Launch, Traffic};
