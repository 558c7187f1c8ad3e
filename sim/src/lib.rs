//! A deterministic discrete-event simulator of long-context LLM serving in which the KV cache of a *running*
//! request may live partly in host memory and is streamed to the GPU layer by layer.
//!
//! ```text
//! traces/ ──► trace ─► engine ─► record ─► sinks: metrics, steps, states, perfetto, … ─► report ─► plot ─► html
//!                       │  ▲
//!     scenarios/ ──────►│  ├─ memory    GPU pool, host pool, staging
//!                       │  ├─ pipeline  one decode step, layer by layer, one copy engine per direction
//!                       │  ├─ cost      work → time ◄── hardware profile ◄── gpu-validate
//!                       │  └─ policy    view → decision ─► planner (the ILP)
//! ```
//!
//! Modules in reading order; each may use only those before it (a test holds this).
//!
//! Architecture invariants: a policy never sees the engine; cost never sees anything but units and model; the
//! planner never sees a policy; the engine keeps no statistics and never sees a metric, a report, a scenario or
//! the command line; report, plot and html never see the engine; nothing here depends on CUDA. good_lp types appear
//! in one file. No hash map iteration, wall clock or thread timing reaches a result.
#![forbid(unsafe_code)]

pub mod ids;
pub mod random;
pub mod statistics;
pub mod units;

pub mod model;

pub mod cost;
pub mod deposit;
pub mod memory;
pub mod record;
pub mod trace;

pub mod pipeline;
pub mod server;

pub mod planner;

pub mod policy;

pub mod engine;

pub mod states;

pub mod digest;
pub mod laws;
pub mod metrics;
pub mod perfetto;
#[cfg(test)]
mod script;
pub mod steps;
pub mod timeline;

pub mod report;

pub mod plot;

pub mod html;

pub mod scenario;

pub mod runner;

pub mod sweep;

pub mod capacity;

pub mod cli;
