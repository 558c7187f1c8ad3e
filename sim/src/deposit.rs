//! Token deposit: tokens are shown to the user at a steady 1/SLO; early ones wait (design §4.4; facts C.3).
//!
//! With `G_i` the generation time of token `i` and `D_0 = G_0`: `due_i = D_{i−1} + SLO`, `D_i = max(due_i, G_i)`,
//! late iff `G_i > due_i`. After a late token the playback clock restarts at it.

use crate::units::{SimDuration, SimTime};

/// The playback of one request under one SLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Playback {
    shown: SimTime,
}

impl Playback {
    /// Starts with token 0, generated and shown at `first_token`.
    pub const fn start(first_token: SimTime) -> Self {
        Playback { shown: first_token }
    }

    /// Takes the next token, generated at `generated`, and returns how late it is: zero if it is on time.
    pub fn deliver(&mut self, generated: SimTime, slo: SimDuration) -> SimDuration {
        let due = self.shown + slo;
        self.shown = due.max(generated);
        generated.saturating_since(due)
    }

    /// When the newest token is shown, `D_last`.
    pub const fn shown(&self) -> SimTime {
        self.shown
    }

    /// Tokens made but not yet shown at `now`: `ceil((D_last − now)/SLO)`, never below 0. An SLO of zero leaves none.
    pub fn deposit(&self, now: SimTime, slo: SimDuration) -> u64 {
        if slo == SimDuration::ZERO { 0 } else { self.shown.saturating_since(now).div_ceil(slo) }
    }
}
