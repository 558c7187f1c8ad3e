//! A run as a trace that `ui.perfetto.dev` and `chrome://tracing` show: Chrome's trace event JSON (`--perfetto FILE`).
//!
//! Source of the format: "Trace Event Format", Google, 2016, the JSON object form with complete (`X`), instant (`i`),
//! counter (`C`) and metadata (`M`) events. Written as the run goes: memory does not grow with it.
//!
//! **Time.** The format's unit is the microsecond as a number. Simulated time is an integer of picoseconds, so every
//! `ts` and `dur` is an exact decimal of six digits: 1.5 ms are `1500.000000`, and nothing is lost in the file. Viewers
//! read it as nanoseconds, rounded down.
//!
//! **Processes**: each policy is two, `KEY: server` and `KEY: requests`. Slices of one track never overlap nor nest.
//!
//! | track | a slice is | category |
//! |---|---|---|
//! | steps | one engine step, with everything that its record holds | `step` |
//! | compute | a part of a step, in the order in which the engine charges them: planning, waiting for blocking restores, then layers and the stalls between them, the tail, the link intercept; or the prompts | `planning`, `restore_wait`, `layer`, `stall`, `tail`, `intercept`, `prefill` |
//! | host → GPU | one copy, with its request, layer and bytes | `prefetch`, `prefetch_next` (for the next step), `restore` |
//! | GPU → host | the write-through of one step, from its first layer to its last, where `write_back = "link"`; `busy_us` of it the engine works | `write` |
//! | GPU → host, prompts | the write of a prefill step's prompts, likewise | `prompt_write` |
//! | planning | no slice: an instant for each planner call and each refused placement | `plan` |
//! | one per request | where it is ([`crate::states`]); instants for new placements and for its end | `state` |
//!
//! Counters, sampled when a step starts: layer-blocks of the GPU pool, host bytes, requests running, paused, waiting.
//!
//! **A stall names what it waits for**: the copy (`waits_for_request`, `layer`), one slice for each copy of the layer that
//! had not landed when the layer was due; or the write of the same layer in the step before (design §3.3).
//!
//! **What it shows is what was charged.** Layers and copies are those of the event-driven pipeline
//! ([`Snapshot`](crate::record::Snapshot)), which the laws hold equal to the step time in use. The slices of the compute
//! track fill their step from its start to its end, and sum, by category, to the parts of its record: `planning`,
//! `restore_wait` = restore, `stall` + `intercept` = stall, and `layer` + `tail` + `prefill` = compute + prefill (where
//! prompt tokens join a decode step, layers hold their share). Worked: two layers of 4 ms, a copy of 9 ms for the second that
//! begins with the step: `layer 1` 0–4 ms, `stall` 4–9 ms, `layer 2` 9–13 ms, and the copy 0–9 ms (a test in `tracks`).
//!
//! **Reading it right.** A step in which nothing is copied and nothing waits shows its layers as one slice. Under
//! contention copies and layers are as long as they took. With `cross_step_prefetch` a copy may run across steps: it is one slice;
//! one that turned out to be of no use is shown like the others. A prefill step's prompts go to the host while it
//! computes, beside writes of the decode step before that may still run, so they have a track of their own.
//! With `write_back = "free"` writes are inside the compute time and no track shows them.
//!
//! Knows nothing about policies and scenarios; it is handed names.

mod events;
mod file;
mod step;
mod tracks;

pub use events::Events;
pub use file::{Part, PerfettoError, TraceFile, Written, assemble};
pub use tracks::{Perfetto, Subject, Window};
