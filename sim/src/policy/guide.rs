//! How to add a policy: your own, from your own crate, without a change here; and one for the registry. Documentation
//! only; the example is a file that is compiled, run and checked by the tests (`tests/it/own_policy.rs`).
//!
//! # The whole example
//!
//! `sim/examples/own_policy.rs`; `cargo run --release --package orbitflow-sim --example own_policy` prints the table.
//!
//! ```text
#![doc = include_str!("../../examples/own_policy.rs")]
//! ```
//!
//! # Step by step
//!
//! 1. **A type that answers [`Policy::decide`](super::Policy::decide).** The engine asks at step boundaries and hands over a
//!    [`View`](super::View): plain data, and no way back into the engine. What the policy remembers between steps it keeps
//!    in itself. The answer is a [`Decision`](super::Decision); its default changes nothing.
//! 2. **Stage `Admit`**: someone waits and a slot is free. [`admission::first_come_first_served`](super::admission) does what
//!    the published methods do: it needs the placements the policy may use, least offloading first, the densest last. Its
//!    memory is counted at the densest, so list no placement that `decide` would not give.
//! 3. **Stage `Decode`**: the next step, for everyone in [`View::running`](super::View::running). A
//!    [`Placement`](crate::model::Placement) is the set of layers that are *not* on the GPU: at a distance
//!    ([`Placement::at`](crate::model::Placement::at)) or any other. A request of `b` blocks takes
//!    `(L − n)·b + slots·b` layer-blocks if `n > 0` layers are offloaded and staging is charged;
//!    [`View::gpu_need`](super::View::gpu_need) is that formula and
//!    [`LiveRequest::blocks`](super::LiveRequest::blocks) the `b` of the next step. The example makes everyone resident and
//!    then, longest context first, offloads every second layer until the sum is at most `server.gpu_blocks`.
//! 4. **What fits is the policy's business.** If a decision does not fit, the engine counts a refusal, preempts whom
//!    [`Policy::preempt`](super::Policy::preempt) names (the last admitted) and asks again. Layers that become resident are
//!    copied back, at a price (`restore`): a layout that flips every step pays for it every step.
//! 5. **[`Policy::fewest_resident`](super::Policy::fewest_resident)** is `a`, the fewest layers that any request of the policy
//!    keeps. The engine rejects prompts that do not fit an empty pool at `a`. `slots`, `looks_at_slo` and `preempt` have
//!    answers that most policies keep; one that reads `LiveRequest::slo` says so, and is then run once per SLO scale.
//! 6. **Pausing**: put into `run` whoever decodes; live requests left out are paused. [`victim`](super::victim) has the rules.
//! 7. **A [`Contender`](crate::runner::Contender)** gives it a key and a label, and makes a fresh one for each run.
//!    [`runner::compare`](crate::runner::compare) runs it beside the scenario's policies on the same trace and seeds. With
//!    `laws: true` every step is checked against laws 1 to 5: `Comparison::broken` must be empty.
//! 8. **Read the table across**: a policy can win TBT by running fewer. `e2e`, stall, TTFT and throughput stand beside it.
//!
//! # Into the registry
//!
//! One file `policy/NAME.rs`, one variant of [`registry::Method`](super::registry::Method) with its entry in
//! [`registry::METHODS`](super::registry::METHODS), one arm in `build` (and in `read_of`, which says which planner switches it
//! reads), one test. The page at the top of the file has the rule as a formula, its source, a worked number, and the name
//! of the test that computes it: `tests/it/pages.rs` looks for them.
