//! The CUDA backend on a driver that has no GPU (`driver/`, C++, built here with `g++`): every call of it, every kernel, every
//! way to copy, streams and events under several orders of execution, graphs, latches and errors.
//!
//! Each scenario runs in a process of its own, because a process can load only one driver. Without `g++` every test
//! prints a line that says SKIPPED, unless `GPU_VALIDATE_REQUIRE_CXX` is set. It says nothing about any GPU: not how
//! long anything takes, not what a real driver refuses beyond its documentation, not memory ordering.

mod child;
mod command_line;
mod copies;
mod data;
mod errors;
mod graphs;
mod kernels;
mod libraries;
mod memory;
mod order;
