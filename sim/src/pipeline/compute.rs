//! The compute stream of a step for the fast paths: when each layer ends, given when its copies landed.
//!
//! Layers between two that are fetched are skipped with one multiplication when all take the same time and
//! no write can delay them. Knows nothing about copies but the instant a layer's last one landed.

use super::{LayerTimes, WriteBack};
use crate::ids::Layer;
use crate::units::{SimDuration, SimTime};

/// Writes that may delay the stream, so that every layer must be looked at.
pub(super) struct Writes<'w> {
    /// The device→host engine.
    pub state: &'w mut WriteBack,
    /// Time of one write.
    pub write: SimDuration,
    /// When the step began: the stream's times count from here.
    pub start: SimTime,
}

/// The compute stream. Times are spans from the start of the step.
pub(super) struct ComputeStream<'w, 'a> {
    times: LayerTimes<'a>,
    writes: Option<Writes<'w>>,
    /// Layers that have ended.
    done: u32,
    /// When the next layer may start, as far as compute and writes go.
    free: SimDuration,
}

impl<'w, 'a> ComputeStream<'w, 'a> {
    /// A stream at the start of its step.
    pub fn new(times: LayerTimes<'a>, writes: Option<Writes<'w>>) -> Self {
        ComputeStream { times, writes, done: 0, free: SimDuration::ZERO }
    }

    /// Computes up to and with `layer`, whose copies landed at `landed`, and answers when it ends and frees its
    /// slots. The layers in between must fetch nothing.
    pub fn run_through(&mut self, layer: Layer, landed: SimDuration) -> SimDuration {
        match (self.times, &mut self.writes) {
            (LayerTimes::Same(time), None) => {
                let skipped = u64::from(layer.0 - 1 - self.done);
                self.free = (self.free + time * skipped).max(landed) + time;
                self.done = layer.0;
                self.free
            }
            _ => {
                while self.done + 1 < layer.0 {
                    self.run_next(SimDuration::ZERO);
                }
                self.run_next(landed)
            }
        }
    }

    /// Computes what is left of `layers` layers, none of it fetched, and answers when the step ends.
    pub fn run_out(mut self, layers: u32) -> SimDuration {
        if self.done < layers {
            self.run_through(Layer(layers), SimDuration::ZERO);
        }
        self.free
    }

    /// One layer: answers when it ends. The next one may have to wait longer, for a write.
    fn run_next(&mut self, landed: SimDuration) -> SimDuration {
        self.done += 1;
        let layer = Layer(self.done);
        let end = self.free.max(landed) + self.times.of(layer);
        self.free = match &mut self.writes {
            None => end,
            Some(Writes { state, write, start }) => {
                let predecessor = state.write(layer, *start + end, *write);
                end.max(predecessor.saturating_since(*start))
            }
        };
        end
    }
}
