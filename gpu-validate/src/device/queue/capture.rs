//! A capture: what is submitted to a stream, and to streams that wait for it, kept instead of run.
//!
//! CUDA's rules: a stream joins when it waits for an event recorded in the capture, and at the end the first stream must
//! have waited, directly or through others, for all work of those that joined.

use std::collections::BTreeMap;

use crate::device::{Event, Stream};

/// One thing of a graph. Records are numbered within the graph.
#[derive(Clone)]
pub(super) enum Step<W> {
    Work(W),
    Record(usize),
    Wait(usize),
}

/// A graph: its steps in the order they were submitted, each with its branch; branch 0 is the stream it began in.
#[derive(Clone)]
pub(super) struct Captured<W> {
    pub branches: usize,
    pub records: usize,
    pub steps: Vec<(usize, Step<W>)>,
}

/// How much work of each branch has ended at some point: its first so many tasks.
type Reached = Vec<u32>;

pub(super) struct Capture<W> {
    streams: Vec<Stream>,
    /// Per branch, what its end follows.
    reached: Vec<Reached>,
    records: Vec<Reached>,
    events: BTreeMap<Event, usize>,
    steps: Vec<(usize, Step<W>)>,
}

impl<W> Capture<W> {
    pub fn of(stream: Stream) -> Self {
        Capture {
            streams: vec![stream],
            reached: vec![vec![0]],
            records: Vec::new(),
            events: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    pub fn branch_of(&self, stream: Stream) -> Option<usize> {
        self.streams.iter().position(|joined| *joined == stream)
    }

    /// The last record of `event` in this capture.
    pub fn record_of(&self, event: Event) -> Option<usize> {
        self.events.get(&event).copied()
    }

    pub fn work(&mut self, branch: usize, work: W) {
        let own = &mut self.reached[branch];
        if own.len() <= branch {
            own.resize(branch + 1, 0);
        }
        own[branch] += 1;
        self.steps.push((branch, Step::Work(work)));
    }

    pub fn record(&mut self, branch: usize, event: Event) {
        let record = self.records.len();
        self.records.push(self.reached[branch].clone());
        self.events.insert(event, record);
        self.steps.push((branch, Step::Record(record)));
    }

    /// Makes `stream`, which joins if it has not, wait for a record of this capture.
    pub fn wait(&mut self, stream: Stream, record: usize) {
        let branch = self.branch_of(stream).unwrap_or_else(|| {
            self.streams.push(stream);
            self.reached.push(Vec::new());
            self.streams.len() - 1
        });
        let own = &mut self.reached[branch];
        let before = &self.records[record];
        if own.len() < before.len() {
            own.resize(before.len(), 0);
        }
        for (own, before) in own.iter_mut().zip(before) {
            *own = (*own).max(*before);
        }
        self.steps.push((branch, Step::Wait(record)));
    }

    pub fn end(self, stream: Stream) -> Result<Captured<W>, String> {
        if self.streams[0] != stream {
            return Err("it began in another stream".to_owned());
        }
        for (branch, reached) in self.reached.iter().enumerate() {
            let of_branch = |reached: &Reached| reached.get(branch).copied().unwrap_or(0);
            if of_branch(&self.reached[0]) < of_branch(reached) {
                return Err(
                    "a stream that joined has work that the first stream does not wait for".to_owned()
                );
            }
        }
        Ok(Captured { branches: self.streams.len(), records: self.records.len(), steps: self.steps })
    }
}
