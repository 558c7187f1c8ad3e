//! Three threads that run what the queues let begin: one task per engine at a time, each task on whichever thread is idle.
//!
//! A task that panics is an error of [`Workers::wait_for_all`] and ends nothing else. Dropping the workers ends the running tasks
//! that ask [`Stop`] and joins the threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::device::queue::{Engines, Queues, Task};
use crate::device::{DeviceError, LATCH_LIMIT_S};

/// One per engine.
const WORKERS: usize = 3;

/// A kernel or a copy that can be run again and again.
#[derive(Clone)]
pub(super) struct Job {
    pub name: &'static str,
    pub engines: Engines,
    pub operations: usize,
    pub run: Arc<dyn Fn() + Send + Sync>,
}

impl Task for Job {
    fn engines(&self) -> Engines {
        self.engines
    }

    fn operations(&self) -> usize {
        self.operations
    }
}

/// Tells tasks that take their time that the device is going away.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until `then`, or less if the device goes away: sleeping, and turning round for the last part, which a
    /// sleep would overshoot.
    pub fn wait_until(&self, then: Instant) {
        const TURNING: Duration = Duration::from_micros(100);
        const LONGEST_SLEEP: Duration = Duration::from_millis(20);
        loop {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_set() {
                return;
            }
            if left > TURNING {
                std::thread::sleep((left - TURNING).min(LONGEST_SLEEP));
            } else {
                std::thread::yield_now();
            }
        }
    }
}

struct State {
    queues: Queues<Job, Instant>,
    taken: Engines,
    failure: Option<DeviceError>,
    /// A worker ended by a bug of its own: nothing more will run.
    broken: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: Stop,
}

/// The threads and what they share.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

fn opens_by_itself(reached: Instant) -> Instant {
    reached + Duration::from_secs_f64(LATCH_LIMIT_S)
}

impl Workers {
    pub fn start() -> Result<Self, DeviceError> {
        let state = State {
            queues: Queues::new(opens_by_itself),
            taken: Engines::NONE,
            failure: None,
            broken: false,
        };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), stop: Stop::default() });
        let mut workers = Workers { shared, threads: Vec::new() };
        for _ in 0..WORKERS {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new().spawn(move || shared.work()).map_err(|error| {
                DeviceError::Failed { what: "starting a thread".to_owned(), message: error.to_string() }
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub fn stop(&self) -> &Stop {
        &self.shared.stop
    }

    /// Changes what is queued, and lets the threads see it.
    pub fn queue<R>(&self, change: impl FnOnce(&mut Queues<Job, Instant>, Instant) -> R) -> R {
        let mut state = self.shared.lock();
        let now = Instant::now();
        let result = change(&mut state.queues, now);
        self.shared.changed.notify_all();
        result
    }

    /// Waits until everything queued has run; answers the first failure since the last call.
    pub fn wait_for_all(&self) -> Result<(), DeviceError> {
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            state.queues.settle(now);
            if state.queues.is_idle() || state.broken {
                state.queues.after_idle();
                let broken = state.broken.then(|| failed("the host device", "a worker thread has ended"));
                return state.failure.take().or(broken).map_or(Ok(()), Err);
            }
            state = self.shared.wait(state, now);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        {
            let _state = self.shared.lock();
            self.shared.stop.0.store(true, Ordering::Relaxed);
        }
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most until something can go on by itself.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, now: Instant) -> MutexGuard<'a, State> {
        match state.queues.next_change(now) {
            Some(then) => {
                self.changed.wait_timeout(state, then - now).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn work(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.run_until_stopped())).is_err() {
            self.lock().broken = true;
            self.changed.notify_all();
        }
    }

    fn run_until_stopped(&self) {
        let mut state = self.lock();
        while !self.stop.is_set() {
            let now = Instant::now();
            state.queues.settle(now);
            let taken = state.taken;
            let Some((begun, job)) = state.queues.begin(taken) else {
                state = self.wait(state, now);
                continue;
            };
            state.taken = taken.with(job.engines);
            drop(state);
            self.changed.notify_all();
            let outcome = catch_unwind(AssertUnwindSafe(|| (job.run)()));
            state = self.lock();
            state.taken = state.taken.without(job.engines);
            state.queues.finish(begun);
            // What was recorded behind the task gets its time here, not when a thread next looks.
            state.queues.settle(Instant::now());
            if let Err(panic) = outcome {
                state.failure.get_or_insert_with(|| failed(job.name, &message_of(panic.as_ref())));
            }
            self.changed.notify_all();
        }
    }
}

fn failed(what: &str, message: &str) -> DeviceError {
    DeviceError::Failed { what: what.to_owned(), message: message.to_owned() }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}
