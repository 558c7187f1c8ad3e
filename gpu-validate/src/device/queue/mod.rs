//! Streams, events, latches and graphs of the backends that are not a GPU: what may run next, and why.
//!
//! The rules of CUDA streams in one place, for a clock of its own (`virtual_time`) and for CPU threads (`host`): the two
//! differ in what time is (`T`) and in what a task does, nothing else. A stream is a FIFO; a wait is for the record of
//! its event that was last *submitted*; engines take ready tasks by (ready time, order of submission), and a task that
//! waits for one of several engines keeps the others from later tasks. Knows neither memory nor kernels.

mod capture;
mod engines;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::capture::{Capture, Captured};
pub(super) use self::engines::{Engines, Task, occupied_by};
use super::{DeviceError, Event, Graph, Latch, MOST_BEHIND_A_LATCH, Stream};

/// A task that has begun; [`Queues::finish`] wants it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    lane: u32,
}

/// One point of a stream that an event was recorded at.
type RecordId = u64;

enum Action<W> {
    Work(W),
    Record(RecordId),
    Wait(RecordId),
    Hold(Latch),
}

struct Queued<W, T> {
    order: u64,
    submitted: T,
    action: Action<W>,
}

/// A stream, or a branch of a launched graph.
struct Lane<W, T> {
    queue: VecDeque<Queued<W, T>>,
    /// Since when the task in front could run.
    ready: Option<T>,
    /// Whether the task in front has begun.
    busy: bool,
    /// A closed latch that was submitted, and the operations submitted behind it.
    held: Option<(Latch, usize)>,
    /// A branch of a launched graph goes away once it is empty.
    is_branch: bool,
}

impl<W, T> Lane<W, T> {
    fn new(is_branch: bool) -> Self {
        Lane { queue: VecDeque::new(), ready: None, busy: false, held: None, is_branch }
    }
}

/// The last record of an event that was submitted.
#[derive(Clone, Copy)]
enum Marked {
    Never,
    At(RecordId),
    /// In a capture: its time is not known, and it orders nothing outside.
    Captured,
}

struct LatchState<T> {
    released: Option<T>,
    /// When the first stream came to it.
    reached: Option<T>,
    passed: bool,
    /// Whether it opened by itself since the last release.
    overdue: bool,
}

impl<T> LatchState<T> {
    const fn closed(overdue: bool) -> Self {
        LatchState { released: None, reached: None, passed: false, overdue }
    }
}

/// Everything submitted that has not run. `W` are tasks, `T` instants.
pub(super) struct Queues<W, T> {
    lanes: BTreeMap<u32, Lane<W, T>>,
    events: BTreeMap<Event, Marked>,
    records: BTreeMap<RecordId, Option<T>>,
    latches: BTreeMap<Latch, LatchState<T>>,
    graphs: BTreeMap<Graph, Captured<W>>,
    capture: Option<Capture<W>>,
    next_handle: u32,
    next_order: u64,
    /// When a latch that was reached then opens by itself.
    opens_by_itself: fn(T) -> T,
}

impl<W: Task, T: Copy + Ord> Queues<W, T> {
    /// No streams. `opens_by_itself`: when a latch that was reached at an instant lets go without the host.
    pub fn new(opens_by_itself: fn(T) -> T) -> Self {
        Queues {
            lanes: BTreeMap::new(),
            events: BTreeMap::new(),
            records: BTreeMap::new(),
            latches: BTreeMap::new(),
            graphs: BTreeMap::new(),
            capture: None,
            next_handle: 0,
            next_order: 0,
            opens_by_itself,
        }
    }

    fn handle(&mut self) -> u32 {
        self.next_handle += 1;
        self.next_handle
    }

    pub fn stream(&mut self) -> Stream {
        let id = self.handle();
        self.lanes.insert(id, Lane::new(false));
        Stream(id)
    }

    pub fn event(&mut self) -> Event {
        let event = Event(self.handle());
        self.events.insert(event, Marked::Never);
        event
    }

    pub fn latch(&mut self) -> Latch {
        let latch = Latch(self.handle());
        self.latches.insert(latch, LatchState::closed(false));
        latch
    }

    /// Forgets every handle; numbers are never given twice, so an old handle is known for what it is.
    pub fn clear(&mut self) {
        *self = Queues {
            next_handle: self.next_handle,
            next_order: self.next_order,
            ..Queues::new(self.opens_by_itself)
        };
    }

    /// Submits a kernel or a copy.
    pub fn work(&mut self, stream: Stream, submitted: T, work: W) -> Result<(), DeviceError> {
        self.known_stream(stream)?;
        if let Some((capture, branch)) = self.capturing(stream) {
            capture.work(branch, work);
            return Ok(());
        }
        let operations = work.operations();
        self.push(stream.0, submitted, Action::Work(work), operations)
    }

    /// Marks a point of a stream.
    pub fn record(&mut self, stream: Stream, submitted: T, event: Event) -> Result<(), DeviceError> {
        self.known_stream(stream)?;
        self.marked(event)?;
        if let Some((capture, branch)) = self.capturing(stream) {
            capture.record(branch, event);
            self.events.insert(event, Marked::Captured);
            return Ok(());
        }
        let record = self.new_record();
        self.events.insert(event, Marked::At(record));
        self.push(stream.0, submitted, Action::Record(record), 1)
    }

    /// Makes a stream wait for the last record of an event.
    pub fn wait(&mut self, stream: Stream, submitted: T, event: Event) -> Result<(), DeviceError> {
        self.known_stream(stream)?;
        let marked = self.marked(event)?;
        let in_capture = self.capture.as_ref().and_then(|capture| capture.record_of(event));
        match (marked, in_capture) {
            (Marked::Never, _) => Ok(()),
            (Marked::Captured, Some(record)) => {
                if let Some(capture) = &mut self.capture {
                    capture.wait(stream, record);
                }
                Ok(())
            }
            (Marked::Captured, None) => Err(refused(
                "waiting for an event",
                "it was last recorded in a capture that has ended, which orders nothing outside",
            )),
            (Marked::At(_), _) if self.capturing(stream).is_some() => Err(refused(
                "waiting for an event in a capture",
                "it was recorded outside of the capture, which a graph cannot wait for",
            )),
            (Marked::At(record), _) => self.push(stream.0, submitted, Action::Wait(record), 1),
        }
    }

    /// Holds a stream.
    pub fn hold(&mut self, stream: Stream, submitted: T, latch: Latch) -> Result<(), DeviceError> {
        self.known_stream(stream)?;
        if self.capturing(stream).is_some() {
            return Err(refused("holding a stream", "it is being captured"));
        }
        let closed = self.known_latch(latch)?.released.is_none();
        self.push(stream.0, submitted, Action::Hold(latch), 1)?;
        if let Some(lane) = self.lanes.get_mut(&stream.0).filter(|_| closed) {
            lane.held = Some((latch, 0));
        }
        Ok(())
    }

    /// Lets go of a latch; an error if it had opened by itself.
    pub fn release(&mut self, now: T, latch: Latch) -> Result<(), DeviceError> {
        let state = self.known_latch(latch)?;
        let overdue = state.overdue;
        *state = if overdue {
            LatchState::closed(false)
        } else {
            LatchState { released: Some(now), reached: state.reached, passed: state.passed, overdue }
        };
        for lane in self.lanes.values_mut() {
            lane.held = lane.held.filter(|(held, _)| *held != latch);
        }
        if overdue {
            return Err(refused(
                "releasing a latch",
                "it had opened by itself: nothing timed behind it counts",
            ));
        }
        Ok(())
    }

    pub fn begin_capture(&mut self, stream: Stream) -> Result<(), DeviceError> {
        self.known_stream(stream)?;
        self.refuse_in_capture("beginning a capture")?;
        self.capture = Some(Capture::of(stream));
        Ok(())
    }

    pub fn end_capture(&mut self, stream: Stream) -> Result<Graph, DeviceError> {
        let Some(capture) = self.capture.take() else {
            return Err(refused("ending a capture", "none has begun"));
        };
        let captured = capture.end(stream).map_err(|message| refused("ending a capture", &message))?;
        let graph = Graph(self.handle());
        self.graphs.insert(graph, captured);
        Ok(graph)
    }

    /// Submits a graph: its first branch in `stream`, the others beside it. They are joined within the graph, so what
    /// follows in `stream` follows all of it.
    pub fn launch(&mut self, stream: Stream, submitted: T, graph: Graph) -> Result<(), DeviceError> {
        self.known_stream(stream)?;
        if self.capturing(stream).is_some() {
            return Err(refused("launching a graph", "the stream is being captured"));
        }
        let Some(captured) = self.graphs.get(&graph).cloned() else {
            return Err(unknown("graph", graph.0));
        };
        let mut lanes = vec![stream.0];
        for _ in 1..captured.branches {
            let id = self.handle();
            self.lanes.insert(id, Lane::new(true));
            lanes.push(id);
        }
        let records: Vec<RecordId> = (0..captured.records).map(|_| self.new_record()).collect();
        self.count_operation(stream.0, 1)?;
        for (branch, step) in captured.steps {
            let action = match step {
                capture::Step::Work(work) => Action::Work(work),
                capture::Step::Record(record) => Action::Record(records[record]),
                capture::Step::Wait(record) => Action::Wait(records[record]),
            };
            self.push(lanes[branch], submitted, action, 0)?;
        }
        Ok(())
    }

    /// An error while a capture is under way: `what` cannot be captured.
    pub fn refuse_in_capture(&self, what: &str) -> Result<(), DeviceError> {
        match &self.capture {
            Some(_) => Err(refused(what, "a capture is under way")),
            None => Ok(()),
        }
    }

    /// Lets every record, wait and latch that is in front of its stream happen, until only tasks are in front or
    /// nothing can go on at `now`.
    pub fn settle(&mut self, now: T) {
        let mut again = true;
        while again {
            again = false;
            for lane in self.lanes.values_mut() {
                while lane.ready.is_none()
                    && lane.queue.front().is_some_and(|front| front.submitted <= now)
                    && let Some(front) = lane.queue.front()
                {
                    match &front.action {
                        Action::Work(_) => {
                            lane.ready = Some(now);
                            break;
                        }
                        Action::Record(record) => {
                            self.records.insert(*record, Some(now));
                        }
                        Action::Wait(record) if self.records.get(record).is_some_and(Option::is_none) => {
                            break;
                        }
                        Action::Wait(_) => {}
                        Action::Hold(latch) => {
                            let Some(state) = self.latches.get_mut(latch) else { break };
                            let reached = *state.reached.get_or_insert(now);
                            let released = state.released.is_some_and(|at| at <= now);
                            let overdue = (self.opens_by_itself)(reached) <= now;
                            if !released && !overdue {
                                break;
                            }
                            state.passed = true;
                            state.overdue |= !released;
                        }
                    }
                    lane.queue.pop_front();
                    again = true;
                }
            }
        }
        self.lanes.retain(|_, lane| !(lane.is_branch && lane.queue.is_empty()));
    }

    /// The task that begins next with the engines `taken` at work: the first by (ready time, order of submission)
    /// whose engines are free, where one that must wait keeps its engines from those after it.
    pub fn begin(&mut self, mut taken: Engines) -> Option<(Begun, W)> {
        let mut ready: Vec<(T, u64, u32)> = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.busy)
            .filter_map(|(id, lane)| Some((lane.ready?, lane.queue.front()?.order, *id)))
            .collect();
        ready.sort_unstable();
        for (_, _, id) in ready {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let Some(Queued { action: Action::Work(work), .. }) = lane.queue.front() else { continue };
            if !work.engines().meets(taken) {
                lane.busy = true;
                return Some((Begun { lane: id }, work.clone()));
            }
            taken = taken.with(work.engines());
        }
        None
    }

    /// A task has ended: what stands behind it may go on.
    pub fn finish(&mut self, begun: Begun) {
        let lane = self.lanes.get_mut(&begun.lane).expect("Invariant: a stream outlives its running task");
        lane.queue.pop_front();
        lane.ready = None;
        lane.busy = false;
    }

    /// The next instant after `now` at which something can go on by itself: a submission, or a latch.
    pub fn next_change(&self, now: T) -> Option<T> {
        let changes = self.lanes.values().filter_map(|lane| {
            let front = lane.queue.front()?;
            if front.submitted > now {
                return Some(front.submitted);
            }
            let Action::Hold(latch) = &front.action else { return None };
            let state = self.latches.get(latch)?;
            let overdue = (self.opens_by_itself)(state.reached?);
            Some(state.released.map_or(overdue, |at| at.min(overdue)))
        });
        changes.filter(|at| *at > now).min()
    }

    /// Whether everything submitted has run.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.queue.is_empty())
    }

    /// After everything has run: closes the latches that were passed, forgets records that no event points to.
    pub fn after_idle(&mut self) {
        for state in self.latches.values_mut().filter(|state| state.passed) {
            *state = LatchState::closed(state.overdue);
        }
        let live: BTreeSet<RecordId> = self
            .events
            .values()
            .filter_map(|marked| if let Marked::At(record) = marked { Some(*record) } else { None })
            .collect();
        self.records.retain(|record, _| live.contains(record));
    }

    /// When the last record of an event happened.
    pub fn time_of(&self, event: Event) -> Result<T, DeviceError> {
        let time = match self.marked(event)? {
            Marked::Never => Err("it was never recorded"),
            Marked::Captured => Err("it was last recorded in a capture: graphs have no event times"),
            Marked::At(record) => {
                self.records.get(&record).copied().flatten().ok_or("nobody has waited for it")
            }
        };
        time.map_err(|message| refused("the time of an event", message))
    }

    fn push(
        &mut self,
        lane: u32,
        submitted: T,
        action: Action<W>,
        operations: usize,
    ) -> Result<(), DeviceError> {
        self.count_operation(lane, operations)?;
        let order = self.next_order;
        self.next_order += 1;
        let lane = self.lanes.get_mut(&lane).expect("Invariant: the stream was looked up");
        lane.queue.push_back(Queued { order, submitted, action });
        Ok(())
    }

    /// A GPU's launch queue is finite: too many operations behind a closed latch would block for ever there.
    fn count_operation(&mut self, lane: u32, operations: usize) -> Result<(), DeviceError> {
        let held = self.lanes.get_mut(&lane).and_then(|lane| lane.held.as_mut());
        if let Some((_, behind)) = held {
            *behind += operations;
            if *behind > MOST_BEHIND_A_LATCH {
                let message =
                    format!("{behind} operations behind a closed latch, at most {MOST_BEHIND_A_LATCH}");
                return Err(refused("submitting", &message));
            }
        }
        Ok(())
    }

    fn new_record(&mut self) -> RecordId {
        let record = self.next_order;
        self.next_order += 1;
        self.records.insert(record, None);
        record
    }

    fn capturing(&mut self, stream: Stream) -> Option<(&mut Capture<W>, usize)> {
        let capture = self.capture.as_mut()?;
        let branch = capture.branch_of(stream)?;
        Some((capture, branch))
    }

    fn known_stream(&self, stream: Stream) -> Result<(), DeviceError> {
        if self.lanes.contains_key(&stream.0) { Ok(()) } else { Err(unknown("stream", stream.0)) }
    }

    fn known_latch(&mut self, latch: Latch) -> Result<&mut LatchState<T>, DeviceError> {
        self.latches.get_mut(&latch).ok_or_else(|| unknown("latch", latch.0))
    }

    fn marked(&self, event: Event) -> Result<Marked, DeviceError> {
        self.events.get(&event).copied().ok_or_else(|| unknown("event", event.0))
    }
}

fn refused(what: &str, message: &str) -> DeviceError {
    DeviceError::Failed { what: what.to_owned(), message: message.to_owned() }
}

/// A handle that this device does not know.
pub(super) fn unknown(what: &str, number: u32) -> DeviceError {
    refused(&format!("{what} {number}"), "not known: given back, or of another device")
}
