//! The kernel sources themselves, run on a CPU by `kernels/cpu_shim.h` and compared with the Rust references.
//!
//! Needs `g++`. Without it every test prints a line that says SKIPPED, unless `GPU_VALIDATE_REQUIRE_CXX` is set. It
//! shows that the arithmetic, the addressing, the masks and the order of arguments are right; it says nothing about
//! any GPU's speed or memory ordering.

mod attention;
mod layer;
mod memory;
mod shim;
