//! Write-through: the new KV of each layer on its way to the host, carried from step to step (design §3.3).
//!
//! Behind the compute of each layer, one write of the step's new KV of that layer goes to the device→host
//! engine, which runs writes one after the other. It delays a step only if the previous step's write
//! of the same layer has not finished when this step's is due, at the end of the layer's compute: then layer
//! `j+1`, or the step's end after layer L, waits for it. How long a write takes is given.
//!
//! The rule, with `c_j` the end of layer j, `w` a write and `f_j` the end of layer j's write, `f'_j` in the step before (facts A.3):
//! `f_j = max(c_j, f_{j−1}) + w`, and what follows layer j waits for `f'_j`. Worked (2 layers of 10 ps, w = 30): the
//! first step takes 20 and leaves writes until 40 and 70; the next, from 20, waits until 40 behind layer 1 and until 70
//! behind layer 2: 50. Tests: `a_slow_write_back_stalls_the_next_step_by_its_backlog`,
//! `writes_run_one_after_the_other_and_answer_when_their_predecessor_ends`.

use super::LayerTimes;
use crate::ids::Layer;
use crate::units::{SimDuration, SimTime};

/// When the writes of each layer finish. One per server and run; steps must come in the order of time and
/// never overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBack {
    /// End of the last write of each layer. That of layer L is exact, and is when the engine has nothing left
    /// to do. Those below it may be older than the truth, but only where the truth lies before the end of
    /// the last step and can delay nothing.
    finish: Vec<SimTime>,
}

impl WriteBack {
    /// An idle engine for a model of `layers` layers (at least 1).
    pub fn new(layers: u32) -> Self {
        assert!(layers >= 1, "Invariant: a model has at least one layer");
        WriteBack { finish: vec![SimTime::ZERO; layers as usize] }
    }

    /// When the device→host engine has finished every write so far.
    pub fn drained(&self) -> SimTime {
        self.finish[self.finish.len() - 1]
    }

    /// When the newest write of `layer` ends.
    pub(super) fn finish_of(&self, layer: Layer) -> SimTime {
        self.finish[layer.index()]
    }

    /// The model's layers.
    pub(super) fn layers(&self) -> u32 {
        self.finish.len() as u32
    }

    /// Queues the write of `layer`, due at `due`, and answers when its predecessor, the write of the same layer
    /// in the previous step, ends: compute waits until then. Call for layers 1 to L in order.
    pub(super) fn write(&mut self, layer: Layer, due: SimTime, write: SimDuration) -> SimTime {
        let before = layer.index().checked_sub(1).unwrap_or(self.finish.len() - 1);
        let idle = self.finish[before];
        let predecessor = self.finish[layer.index()];
        self.finish[layer.index()] = due.max(idle) + write;
        predecessor
    }

    /// Whether every write of a step that begins at `start` starts when it is due, and delays nothing.
    ///
    /// Let `c_j` be the end of layer `j`. Then `c_1 ≥ start + tc_1 ≥ drained`, so no predecessor ends after
    /// its successor is due and the first write starts at `c_1`; and `c_j ≥ c_{j−1} + tc_j ≥ c_{j−1} + write`,
    /// so each write ends before the next is due. Copies that slow compute only make layers longer.
    pub(super) fn keeps_up(&self, compute: LayerTimes<'_>, start: SimTime, write: SimDuration) -> bool {
        write <= compute.shortest(self.layers()) && self.drained() <= start + compute.of(Layer(1))
    }

    /// Closes a step in which the writes kept up: the write of layer L began at `end`. Those of lower layers
    /// ended before, so their times need not be kept.
    pub(super) fn kept_up(&mut self, end: SimTime, write: SimDuration) {
        let last = self.finish.len() - 1;
        self.finish[last] = end + write;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(picos: u64) -> SimTime {
        SimTime::from_picos(picos)
    }

    #[test]
    fn writes_run_one_after_the_other_and_answer_when_their_predecessor_ends() {
        let (mut state, write) = (WriteBack::new(2), SimDuration::from_picos(30));
        // Layers end at 10 and 20: writes 10–40 and 40–70.
        assert_eq!(state.write(Layer(1), at(10), write), at(0));
        assert_eq!(state.write(Layer(2), at(20), write), at(0));
        assert_eq!(state.drained(), at(70));
        // Next step: layer 1 ends at 30, its predecessor ends at 40, its own write runs 70–100.
        assert_eq!(state.write(Layer(1), at(30), write), at(40));
        assert_eq!(state.write(Layer(2), at(50), write), at(70));
        assert_eq!(state.drained(), at(130));
    }

    #[test]
    fn writes_keep_up_when_shorter_than_a_layer_and_nothing_is_left_over() {
        let (mut state, tc) = (WriteBack::new(3), SimDuration::from_picos(10));
        let same = LayerTimes::Same(tc);
        assert!(state.keeps_up(same, at(0), tc));
        assert!(!state.keeps_up(same, at(0), SimDuration::from_picos(11)));
        state.kept_up(at(30), tc); // the last write runs 30–40
        assert!(state.keeps_up(same, at(30), tc)); // layer 1 ends at 40
        assert!(!state.keeps_up(same, at(29), tc));
        let uneven = [10, 9, 10].map(SimDuration::from_picos);
        assert!(!state.keeps_up(LayerTimes::PerLayer(&uneven), at(30), tc));
    }
}
