//! Whom to pause while a batch is infeasible, and when a paused request comes back (design §4.3; facts D).
//!
//! **Victims.** Among the candidates that may be paused, with `c_r` the context in the next step and `SLO_r` the time per token
//! promised:
//!
//! * `longest`: `max c_r`; `shortest`: `min c_r`;
//! * `tightest-slo`: `min SLO_r`; `loosest-slo`: `max SLO_r` (the released code has the two names the other way round);
//! * `random`: `min u_r`, `u_r` a 64-bit draw from (seed, victims, step, request): whoever else is a candidate, and
//!   whatever was drawn before, a request's draw in a step is the same.
//!
//! Equals go to the **last admitted**, for every rule; where all have one SLO both SLO rules are last admitted first
//! (the released code breaks these ties by length). Worked: contexts 500, 700, 700 and 300 in admission order with
//! SLOs of 50, 70, 50 and 70 ms: longest the 3rd, shortest the 4th, tightest the 3rd, loosest the 4th.
//! Tests: `a_victim_is_what_its_rule_names_and_equals_go_to_the_last_admitted`,
//! `a_random_victim_depends_on_seed_and_step_and_not_on_who_else_is_a_candidate`.
//!
//! **Pause-resume**, which is [`OrbitFlow`](super::orbitflow::OrbitFlow)'s: while no placement of the candidates fits memory
//! and `t ≤ t_max`, one victim leaves them. A paused request keeps its slot and its host copy and holds no layer-block.
//! It is a candidate again when the live set changes or nothing else can run; at the end of a window, longest paused first,
//! if with it `t ≤ 0.9·t_max`; and once it has been paused for `max_pause`, after which it is no victim until it has
//! made 32 tokens. Worked (4 layers, at most 2 of them offloaded, room for 45 layer-blocks): requests that need 24, 16
//! and, from 300 ms on, 6 at their densest are 46: the longest is paused at 300 ms and resumed at 330, when the third has
//! ended. If the third makes 400 tokens it waits for more than 400 ms, with `max_pause = "200 ms"` for less than 220. Tests:
//! `an_infeasible_batch_pauses_the_longest_and_the_next_change_of_the_live_set_brings_it_back`,
//! `max_pause_brings_a_starving_request_back_and_counts_its_own_trigger`.
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
