//! Token deposit: tokens are shown to the user at a steady 1/SLO; early ones wait (design §4.4; facts C.3).
//!
//! With `G_i` the generation time of token `i` and `D_0 = G_0`: `due_i = D_{i−1} + SLO`, `D_i = max(due_i, G_i)`,
//! late iff `G_i > due_i`. After a late token the playback clock restarts at it. A due time beyond 213 days (a promise
//! of a day for each of many tokens) stays at 213 days: no simulated token comes later.
//!
//! Worked (SLO 10 s): tokens made 1, 2 and 3 s after the first are shown at 10, 20 and 30 s. At 3 s the deposit is
//! `ceil((30 − 3)/10) = 3` tokens, at 11 s 2, at 30 s none. Tests: `the_deposit_counts_tokens_not_yet_shown`,
//! `tokens_are_late_and_shown_as_in_the_known_answers`.

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
        let due = SimTime::from_picos(self.shown.as_picos().saturating_add(slo.as_picos()));
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        step_tbt_s: Vec<f64>,
        slo_s: f64,
        expect: Expect,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Expect {
        late: u64,
        shown_at_s: Vec<f64>,
    }

    #[test]
    fn tokens_are_late_and_shown_as_in_the_known_answers() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/golden/deposit.json")).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let slo = SimDuration::from_secs_f64(case.slo_s);
            let mut playback = Playback::start(SimTime::ZERO);
            let mut generated = SimTime::ZERO;
            let mut late = 0;
            assert_eq!(case.step_tbt_s.len(), case.expect.shown_at_s.len());
            for (tbt, shown) in case.step_tbt_s.iter().zip(&case.expect.shown_at_s) {
                generated += SimDuration::from_secs_f64(*tbt);
                late += u64::from(playback.deliver(generated, slo) > SimDuration::ZERO);
                let off = (playback.shown().as_secs_f64() - shown).abs();
                assert!(off <= 1e-9 * shown, "shown at {} instead of {shown}", playback.shown());
            }
            assert_eq!(late, case.expect.late);
        }
    }

    #[test]
    fn the_deposit_counts_tokens_not_yet_shown() {
        let slo = SimDuration::from_secs(10);
        let mut playback = Playback::start(SimTime::ZERO);
        for second in 1..=3 {
            playback.deliver(SimTime::ZERO + SimDuration::from_secs(second), slo);
        }
        // Shown at 10, 20 and 30 s. At 3 s: ceil(27/10) = 3; at 10 s: 2; at 11 s: ceil(19/10) = 2; at 30 s: none.
        let at = |second| playback.deposit(SimTime::ZERO + SimDuration::from_secs(second), slo);
        assert_eq!([3, 10, 11, 30, 99].map(at), [3, 2, 2, 0, 0]);
        assert_eq!(playback.deposit(SimTime::ZERO, SimDuration::ZERO), 0);
    }

    #[test]
    fn a_promise_of_more_than_213_days_is_kept() {
        let mut playback = Playback::start(SimTime::from_picos(1));
        let on_time = playback.deliver(SimTime::from_picos(2), SimDuration::MAX);
        assert_eq!((on_time, playback.shown()), (SimDuration::ZERO, SimTime::from_picos(u64::MAX)));
    }
}
