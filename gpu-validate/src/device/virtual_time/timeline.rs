//! When everything that was submitted runs: a simulation of the streams and the three engines, event by event.
//!
//! Resolved as late as possible: until the host lets go of a latch nobody knows when what stands behind it runs, and
//! what is submitted later may still go first where it is ready first. At equal times what ends frees its engine and its
//! stream before the next task is picked.

use orbitflow_sim::units::{SimDuration, SimTime};

use super::progress::{ONE_PPM, Progress};
use super::truth::VirtualContention;
use crate::device::LATCH_LIMIT_S;
use crate::device::queue::{Begun, Engines, Queues, Task};

/// A kernel or a copy: what it occupies and for how long, alone.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    pub engines: Engines,
    pub time: SimDuration,
    pub operations: usize,
}

impl Task for Timed {
    fn engines(&self) -> Engines {
        self.engines
    }

    fn operations(&self) -> usize {
        self.operations
    }
}

struct Running {
    begun: Begun,
    engines: Engines,
    progress: Progress,
}

/// The device's own time.
pub(super) struct Timeline {
    pub queues: Queues<Timed, SimTime>,
    running: Vec<Running>,
    at: SimTime,
    contention: VirtualContention,
}

fn opens_by_itself(reached: SimTime) -> SimTime {
    reached + SimDuration::from_secs_f64(LATCH_LIMIT_S)
}

impl Timeline {
    pub fn new(contention: Option<VirtualContention>) -> Self {
        let none = VirtualContention { copy_ppm: ONE_PPM, compute_ppm: ONE_PPM };
        let contention = contention.unwrap_or(none);
        let slows = contention.copy_ppm >= ONE_PPM && contention.compute_ppm >= ONE_PPM;
        assert!(slows, "Invariant: contention factors are at least 1,000,000 parts per million");
        Timeline { queues: Queues::new(opens_by_itself), running: Vec::new(), at: SimTime::ZERO, contention }
    }

    /// Runs everything; answers when the last of it ended, or `now` if that is later.
    pub fn run_all(&mut self, now: SimTime) -> SimTime {
        self.advance(None);
        assert!(
            self.queues.is_idle(),
            "Invariant: waits are for what was submitted before, so everything runs"
        );
        self.queues.after_idle();
        self.at = self.at.max(now);
        self.at
    }

    /// Runs what happens before `limit`: nothing submitted from then on can change it.
    pub fn run_before(&mut self, limit: SimTime) {
        self.advance(Some(limit));
    }

    fn advance(&mut self, limit: Option<SimTime>) {
        loop {
            // Work submitted at `limit` may go before what is ready then.
            if limit.is_some_and(|limit| self.at >= limit) {
                return;
            }
            self.settle();
            let Some(next) = self.next() else { return };
            if limit.is_some_and(|limit| next >= limit) {
                return;
            }
            let span = next.since(self.at);
            let contended = self.contended();
            for running in &mut self.running {
                running.progress.pass(span, contended);
            }
            self.at = next;
        }
    }

    /// Ends, releases and begins all that happens now.
    fn settle(&mut self) {
        loop {
            self.running.retain(|running| {
                let done = running.progress.is_done();
                if done {
                    self.queues.finish(running.begun);
                }
                !done
            });
            self.queues.settle(self.at);
            let taken = self.running.iter().fold(Engines::NONE, |taken, running| taken.with(running.engines));
            let Some((begun, Timed { engines, time, .. })) = self.queues.begin(taken) else { return };
            let factor = match engines {
                Engines::COMPUTE => self.contention.compute_ppm,
                Engines::H2D => self.contention.copy_ppm,
                _ => ONE_PPM,
            };
            self.running.push(Running { begun, engines, progress: Progress::of(time, factor) });
        }
    }

    fn next(&self) -> Option<SimTime> {
        let contended = self.contended();
        let ends = self.running.iter().map(|running| self.at + running.progress.time_left(contended));
        ends.chain(self.queues.next_change(self.at)).min()
    }

    /// Whether a kernel and a host→device copy run side by side. A kernel that copies leaves no engine for either.
    fn contended(&self) -> bool {
        let runs = |engines| self.running.iter().any(|running| running.engines == engines);
        runs(Engines::COMPUTE) && runs(Engines::H2D)
    }
}
