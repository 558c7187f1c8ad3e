//! The states of the first requests of a run: what `states.csv` and the Gantt figure are made of.
//!
//! The first [`MOST_REQUESTS`] requests of the trace are kept, each from its arrival to its end; if they have more than
//! [`MOST_ROWS`] states and ends together, the last of them are left out, whole, until they have not. So memory is
//! bounded, and what is kept of a request is all of it.

use super::{Passage, States};
use crate::ids::RequestId;
use crate::record::{Record, Sink};

/// Most requests whose states are kept: as many as a figure can show.
pub const MOST_REQUESTS: u32 = 60;

/// Most states and ends that are kept of one run.
pub const MOST_ROWS: usize = 4000;

/// A sink that keeps the states of the first requests.
#[derive(Clone, Debug)]
pub struct StateLog {
    states: States,
    /// By request.
    kept: Vec<Vec<Passage>>,
    rows: usize,
}

impl Default for StateLog {
    fn default() -> Self {
        StateLog { states: States::default(), kept: vec![Vec::new(); MOST_REQUESTS as usize], rows: 0 }
    }
}

impl StateLog {
    /// What was kept of each of the first requests, in order; a request beyond them, or one that never arrived, has
    /// nothing.
    pub fn finish(self) -> Vec<(RequestId, Vec<Passage>)> {
        let requests = (0..).map(RequestId);
        requests.zip(self.kept).filter(|(_, passages)| !passages.is_empty()).collect()
    }
}

impl Sink for StateLog {
    fn record(&mut self, record: &Record<'_>) {
        let StateLog { states, kept, rows } = self;
        states.follow(record, |request, passage| {
            let Some(passages) = kept.get_mut(request.index()) else { return };
            passages.push(passage);
            *rows += 1;
            while *rows > MOST_ROWS {
                *rows -= kept.pop().map_or(*rows, |dropped| dropped.len());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Script, ms};

    fn kept(script: &Script) -> Vec<(u32, usize)> {
        let mut log = StateLog::default();
        script.replay(&mut log);
        log.finish().iter().map(|(request, passages)| (request.0, passages.len())).collect()
    }

    #[test]
    fn the_first_sixty_requests_are_kept() {
        let mut script = Script::default();
        (0..70).for_each(|request| script.arrive(request));
        (0..70).for_each(|request| script.reject(request));
        assert_eq!(kept(&script), (0..60).map(|request| (request, 1)).collect::<Vec<_>>());
    }

    #[test]
    fn requests_that_change_too_often_are_left_out_from_the_last_on() {
        let mut script = Script::default();
        for request in 0..3 {
            script.arrive(request);
            script.admit(request);
        }
        script.prefill(ms(1), &[0, 1, 2]);
        // Each round two states of r1, and two of r2: 1,000 rounds and the prefills are more than 4,000 rows.
        for _ in 0..1000 {
            script.pause(1);
            script.pause(2);
            script.decode(ms(1), &[0]);
            script.resume(1);
            script.resume(2);
            script.decode(ms(1), &[0, 1, 2]);
        }
        (0..3).for_each(|request| script.finish(request));
        // r0: prefill, decode, end. r1: prefill, 1,000 pauses, 1,000 decodes between and after them, its end.
        assert_eq!(kept(&script), [(0, 3), (1, 2002)]);
    }
}
