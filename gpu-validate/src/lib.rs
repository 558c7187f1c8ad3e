//! Measures what a GPU and its host link really do, writes the hardware profile that `orbitflow` runs on, and shows how
//! far predicted decode steps are from measured ones.
//!
//! ```text
//! kernels ──► device (cuda | host | virtual-time) ──► experiments ──► results ──► fit ──► HardwareProfile
//!                │                                                                           │ orbitflow_sim::cost
//!                └──► decode (layer by layer, slots, copies) ──► validation ◄── predictions ◄┘ orbitflow_sim::pipeline
//!                                                                     └──► report
//! ```
//!
//! Modules in reading order. Architecture invariants: `unsafe` is in `device::cuda` alone; an experiment never sees CUDA;
//! a fit never sees a device; predictions come from the simulator's own cost and pipeline code, are written and hashed
//! before the first validation step runs, and never see a measured step.
#![deny(unsafe_code)]

pub mod sample;

pub mod kernels;

pub mod device;

pub mod kernel_check;

pub mod case;
pub mod results;
pub mod scale;
pub mod session;

pub mod experiments;
pub mod measure;

pub mod checks;
pub mod decode;
pub mod full_step;

pub mod compare;
pub mod fit;
pub mod profile;

pub mod validation;

pub mod folder;
pub mod preflight;
pub mod report;
pub mod run;

pub mod cli;
