//! Whom to pause while a batch is infeasible (design §4.3; facts D.2).
//!
//! Among the candidates that may be paused, with `c_r` the context in the next step and `SLO_r` the time per token
//! promised:
//!
//! * `longest`: `max c_r`; `shortest`: `min c_r`;
//! * `tightest-slo`: `min SLO_r`; `loosest-slo`: `max SLO_r` (the released code has the two names the other way round);
//! * `random`: `min u_r`, `u_r` a 64-bit draw from (seed, victims, step, request): whoever else is a candidate, and
//!   whatever was drawn before, a request's draw in a step is the same.
//!
//! Equals go to the **last admitted**, for every rule; where all have one SLO both SLO rules are last admitted first
//! (the released code breaks these ties by length). Worked: contexts 500, 700, 700 and 300 in admission order with
//! SLOs of 50, 70, 50 and 70 ms: longest the 3rd, shortest the 4th, tightest the 3rd, loosest the 4th
//! (`a_victim_is_what_its_rule_names_and_equals_go_to_the_last_admitted` in `tests/it/methods.rs`).
//!
//! Knows nothing about why a batch is infeasible, nor how long anyone has been paused.

use rand_chacha::rand_core::Rng;

use super::View;
use crate::planner::Victim;
use crate::random::{self, Stream};

/// The place in `view.live` of the one to pause among `candidates` (places in `view.live`, in its order); none if
/// there are none.
pub fn choose(view: &View<'_>, rule: Victim, candidates: impl Iterator<Item = usize>) -> Option<usize> {
    // `max_by_key` keeps the last of equals, and `view.live` is in admission order.
    candidates.max_by_key(|index| {
        let request = &view.live[*index];
        match rule {
            Victim::Longest => request.context(),
            Victim::Shortest => u64::MAX - request.context(),
            Victim::TightestSlo => u64::MAX - request.slo.as_picos(),
            Victim::LoosestSlo => request.slo.as_picos(),
            Victim::Random => {
                let thing = [view.step, u64::from(request.id.0)];
                u64::MAX - random::keyed(view.server.seed, Stream::Victims, &thing).next_u64()
            }
        }
    })
}
