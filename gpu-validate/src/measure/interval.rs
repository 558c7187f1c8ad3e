//! One timed interval: k runs between two events, kept apart from what it costs to enqueue them, and from silence.
//!
//! ```text
//! measured    latch ── go ───────────────── wait begun ─ lead-in ─ START ─ run × k ─ END
//! background            └ wait go ─ run ─ begun ─ run ─ run ─ run ─ run ─ run ─ run ─ run ─ ended
//! ```
//!
//! The background has begun before START and must not have ended before END: [`Interval::outlasted`] says whether.
//! What does not fit behind a latch ([`MOST_BEHIND_A_LATCH`]) gets a head start instead: a spin kernel that is busy
//! while the CPU enqueues. It ends by itself, so a full launch queue can delay but never block for ever.
//! Method: `gpu-measurement.md` §1.1, §1.3.

use orbitflow_sim::cost::profile::DeviceSample;

use super::order::runs_to_fill;
use super::plan::{Hold, Need, Plan, Warm, lengthen, most_runs};
use super::point::{Run, Runs};
use super::queue::Queue;
use crate::device::{Device, DeviceError, Event, Latch, MOST_BEHIND_A_LATCH, Stream, Work};

/// Runs before anything is timed.
const WARM_UPS: u32 = 3;

/// A run this long or longer is dear: one warm-up, and a third of the samples.
pub const DEAR_S: f64 = 0.05;

/// How many times as long as the measured runs the background is meant to last.
const OUTLASTS: f64 = 2.0;

/// How often a calibration may lengthen a background or a head start.
const MOST_TRIES: u32 = 6;

/// One timed interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// From the first event to the second.
    pub seconds: f64,
    /// Whether every background was still running at the second event.
    pub outlasted: bool,
    /// Whether enqueueing took no longer than the head start.
    pub in_time: bool,
    /// The device's state while it ran, if asked for.
    pub state: Option<DeviceSample>,
}

/// Streams, events and the latch of a group of points.
pub struct Marks {
    pub(super) stream: Stream,
    latch: Latch,
    go: Event,
    start: Event,
    end: Event,
    sides: Vec<Side>,
}

/// A background's stream.
#[derive(Clone, Copy)]
struct Side {
    stream: Stream,
    begun: Event,
    ended: Event,
}

impl Marks {
    /// For points with no background; streams for those are made when one comes up.
    ///
    /// # Errors
    /// The device's.
    pub fn new(device: &mut dyn Device) -> Result<Self, DeviceError> {
        Ok(Marks {
            stream: device.stream()?,
            latch: device.latch()?,
            go: device.event()?,
            start: device.event()?,
            end: device.event()?,
            sides: Vec::new(),
        })
    }

    fn need_sides(&mut self, device: &mut dyn Device, count: usize) -> Result<(), DeviceError> {
        while self.sides.len() < count {
            let side = Side { stream: device.stream()?, begun: device.event()?, ended: device.event()? };
            self.sides.push(side);
        }
        Ok(())
    }

    /// Times one interval of a point. `watch`: also reads the device's state while it runs.
    ///
    /// # Errors
    /// The device's; the latch is open again and the device idle also then.
    pub fn time(
        &mut self,
        device: &mut dyn Device,
        runs: &mut Runs<'_>,
        plan: &Plan,
        watch: bool,
    ) -> Result<Interval, DeviceError> {
        self.need_sides(device, plan.background.len())?;
        let began_s = device.now_s();
        let enqueued = self.enqueue(device, runs, plan);
        let enqueue_s = device.now_s() - began_s;
        let released = if plan.hold == Hold::Latch { device.release(self.latch) } else { Ok(()) };
        let state = watch.then(|| device.sample_state());
        let synchronized = device.synchronize();
        enqueued.and(released).and(synchronized)?;
        let seconds = device.elapsed_s(self.start, self.end)?;
        let mut outlasted = true;
        for side in &self.sides[..plan.background.len()] {
            outlasted &= device.elapsed_s(self.start, side.ended)? >= seconds;
        }
        let in_time = !matches!(plan.hold, Hold::HeadStart(spin_s) if enqueue_s > spin_s);
        Ok(Interval { seconds, outlasted, in_time, state })
    }

    fn enqueue(&self, device: &mut dyn Device, runs: &mut Runs<'_>, plan: &Plan) -> Result<(), DeviceError> {
        match plan.hold {
            Hold::Latch => device.hold(self.stream, self.latch)?,
            Hold::HeadStart(seconds) => device.submit(self.stream, &Work::Spin { seconds })?,
            Hold::Nothing => {}
        }
        let sides = &self.sides[..plan.background.len()];
        if !sides.is_empty() {
            device.record(self.stream, self.go)?;
        }
        for ((side, run), times) in sides.iter().zip(&mut runs.background).zip(&plan.background) {
            device.wait(side.stream, self.go)?;
            enqueue_runs(device, side.stream, run, 1)?;
            device.record(side.stream, side.begun)?;
            enqueue_runs(device, side.stream, run, *times)?;
            device.record(side.stream, side.ended)?;
        }
        for side in sides {
            device.wait(self.stream, side.begun)?;
        }
        enqueue_runs(device, self.stream, &mut runs.run, plan.lead_in)?;
        device.record(self.stream, self.start)?;
        enqueue_runs(device, self.stream, &mut runs.run, plan.runs)?;
        device.record(self.stream, self.end)
    }

    /// CPU seconds to enqueue one run into an empty queue.
    ///
    /// # Errors
    /// The device's.
    pub fn time_submission(&self, device: &mut dyn Device, runs: &mut Runs<'_>) -> Result<f64, DeviceError> {
        let before = device.now_s();
        let enqueued = enqueue_runs(device, self.stream, &mut runs.run, 1);
        let seconds = device.now_s() - before;
        device.synchronize()?;
        enqueued.map(|_| seconds)
    }

    /// Warms a point up and finds how many runs make an interval of `least_s` seconds.
    ///
    /// # Errors
    /// The device's.
    pub fn calibrate(
        &mut self,
        device: &mut dyn Device,
        runs: &mut Runs<'_>,
        least_s: f64,
    ) -> Result<Plan, DeviceError> {
        let measured = self.warm_up(device, &mut runs.run)?;
        // alone, submission included where it is the slower: never taken for shorter than it is by much, and checked
        let sides: Vec<Warm> =
            runs.background.iter_mut().map(|run| self.warm_up(device, run)).collect::<Result<_, _>>()?;
        let mut plan = Plan::of_one_run(&measured, &sides);
        let alone = |runs: u32, lead_in: u32| Need::of(&measured, runs, lead_in, &[]);
        plan.hold = alone(1, 0).hold(runs.may_be_held);
        plan.run_s = self.time_in_time(device, runs, &mut plan)?;
        plan.lead_in = u32::from(plan.run_s < least_s);
        for _ in 0..2 {
            let most = most_runs(&measured, plan.lead_in, sides.len());
            plan.runs = runs_to_fill(least_s, plan.run_s, most);
            plan.hold = alone(plan.runs, plan.lead_in).hold(runs.may_be_held);
            if plan.runs == 1 {
                break; // already timed
            }
            plan.run_s = self.time_in_time(device, runs, &mut plan)? / f64::from(plan.runs);
        }
        if !sides.is_empty() {
            self.add_background(device, runs, &mut plan, &measured, &sides)?;
        }
        Ok(plan)
    }

    /// Finds how many runs of each background outlast the measured ones; as few measured runs as fit behind a latch.
    fn add_background(
        &mut self,
        device: &mut dyn Device,
        runs: &mut Runs<'_>,
        plan: &mut Plan,
        measured: &Warm,
        sides: &[Warm],
    ) -> Result<(), DeviceError> {
        let (mut outlasts, mut patience) = (OUTLASTS, 1.0);
        for _ in 0..MOST_TRIES {
            loop {
                let window_s = outlasts * plan.run_s * f64::from(plan.runs + plan.lead_in);
                let times = |side: &Warm| runs_to_fill(window_s, side.run_s, side.most());
                plan.background = sides.iter().map(times).collect();
                let need = Need::of(measured, plan.runs, plan.lead_in, sides)
                    .with(&plan.background)
                    .patient(patience);
                plan.hold = need.hold(runs.may_be_held);
                if plan.runs == 1 || need.operations <= MOST_BEHIND_A_LATCH {
                    break;
                }
                plan.runs = plan.runs.div_ceil(2);
            }
            let interval = self.time(device, runs, plan, false)?;
            if interval.outlasted && interval.in_time {
                break;
            }
            // both may be slower together than alone
            outlasts *= if interval.outlasted { 1.0 } else { 2.0 };
            patience *= if interval.in_time { 1.0 } else { 2.0 };
        }
        Ok(())
    }

    /// Times one interval, with a head start long enough for its submission where it has one.
    fn time_in_time(
        &mut self,
        device: &mut dyn Device,
        runs: &mut Runs<'_>,
        plan: &mut Plan,
    ) -> Result<f64, DeviceError> {
        let mut answer = self.time(device, runs, plan, false);
        for _ in 0..MOST_TRIES {
            if answer.as_ref().is_ok_and(|interval| interval.in_time) || !lengthen(&mut plan.hold) {
                break;
            }
            answer = self.time(device, runs, plan, false);
        }
        answer.map(|interval| interval.seconds)
    }

    fn warm_up(&self, device: &mut dyn Device, run: &mut Run<'_>) -> Result<Warm, DeviceError> {
        let mut warm = Warm { operations: 0, submit_s: 0.0, run_s: 0.0 };
        for _ in 0..WARM_UPS {
            let before = device.now_s();
            device.record(self.stream, self.start)?;
            let enqueued = enqueue_runs(device, self.stream, run, 1);
            warm.submit_s = device.now_s() - before;
            device.record(self.stream, self.end)?;
            device.synchronize()?;
            warm.operations = enqueued?;
            warm.run_s = device.elapsed_s(self.start, self.end)?;
            if warm.run_s >= DEAR_S {
                break;
            }
        }
        Ok(warm)
    }
}

fn enqueue_runs(
    device: &mut dyn Device,
    stream: Stream,
    run: &mut Run<'_>,
    times: u32,
) -> Result<usize, DeviceError> {
    let mut queue = Queue::new(device, stream);
    for _ in 0..times {
        run(&mut queue)?;
    }
    Ok(queue.operations())
}
