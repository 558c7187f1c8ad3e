//! Sets of layers, the best of all or the best that single changes lead to, whatever "best" is.
//!
//! What fits and what is better are closures: nothing here knows of plans, step times or memory. The least key wins. Which
//! changes there are, and in which order they are tried, is said in [`super`].

use crate::ids::Layer;
use crate::model::LayerSet;

/// What is chosen from: for each of so many, any layers up to a number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// How many sets are chosen.
    pub sets: usize,
    /// Layers L.
    pub layers: u32,
    /// Most layers of a set.
    pub most: u32,
}

impl Choices {
    /// How many there are: `(Σ_{n ≤ most} C(L, n))^sets`, `u64::MAX` if more.
    pub fn count(&self) -> u64 {
        let (mut of_size, mut of_one) = (1u128, 0u128);
        for size in 0..=self.most.min(self.layers) {
            of_one = of_one.saturating_add(of_size);
            let left = u128::from(self.layers - size);
            of_size = of_size.saturating_mul(left) / u128::from(size + 1);
        }
        let all = (0..self.sets).fold(1u128, |all, _| all.saturating_mul(of_one));
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// All sets that one may be.
    fn of_one(&self) -> Vec<LayerSet> {
        let mut all = vec![LayerSet::EMPTY];
        for layer in Layer::all(self.layers) {
            for index in 0..all.len() {
                let mut more = all[index];
                if more.len() < self.most {
                    more.insert(layer);
                    all.push(more);
                }
            }
        }
        all
    }
}

/// Layer sets that a search ended with.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<K> {
    /// The sets.
    pub sets: Vec<LayerSet>,
    /// Their key.
    pub key: K,
    /// Keys made.
    pub nodes: u64,
}

/// The fitting sets with the least key, of all; none if nothing fits. Of equal keys the first looked at stays, so a key
/// that tells all sets apart makes the answer unique.
pub fn exhaust<K: Ord>(
    choices: Choices,
    fits: impl Fn(&[LayerSet]) -> bool,
    mut key: impl FnMut(&[LayerSet]) -> K,
) -> Option<Found<K>> {
    let of_one = choices.of_one();
    let mut best: Option<(K, Vec<LayerSet>)> = None;
    let mut nodes = 0;
    let mut places = vec![0; choices.sets];
    loop {
        let sets: Vec<LayerSet> = places.iter().map(|&place| of_one[place]).collect();
        if fits(&sets) {
            nodes += 1;
            let key = key(&sets);
            if best.as_ref().is_none_or(|(least, _)| key < *least) {
                best = Some((key, sets));
            }
        }
        let Some(last) = places.iter().rposition(|&place| place + 1 < of_one.len()) else { break };
        places[last] += 1;
        places[last + 1..].fill(0);
    }
    best.map(|(key, sets)| Found { sets, key, nodes })
}

/// Sets that no single change makes better, reached from the best of `starts` and then from each other one; the least key
/// of all that were looked at. At most `node_cap` keys are made beside those of the starts. None without a start.
///
/// The starts must fit.
pub fn descend<K: Ord + Clone>(
    choices: Choices,
    starts: &[Vec<LayerSet>],
    fits: impl Fn(&[LayerSet]) -> bool,
    key: impl FnMut(&[LayerSet]) -> K,
    node_cap: u64,
) -> Option<Found<K>> {
    let mut descent = Descent { choices, fits, key, node_cap, nodes: 0 };
    let mut starts: Vec<Found<K>> = starts.iter().map(|sets| descent.start(sets)).collect();
    starts.sort_by(|a, b| a.key.cmp(&b.key));
    starts.dedup_by(|a, b| a.sets == b.sets);
    let mut best: Option<Found<K>> = None;
    for mut found in starts {
        while descent.sweep(&mut found) {}
        if best.as_ref().is_none_or(|best| found.key < best.key) {
            best = Some(found);
        }
    }
    best.map(|best| Found { nodes: descent.nodes, ..best })
}

struct Descent<F, M> {
    choices: Choices,
    fits: F,
    key: M,
    node_cap: u64,
    nodes: u64,
}

impl<K: Ord, F: Fn(&[LayerSet]) -> bool, M: FnMut(&[LayerSet]) -> K> Descent<F, M> {
    fn start(&mut self, sets: &[LayerSet]) -> Found<K> {
        Found { key: (self.key)(sets), sets: sets.to_vec(), nodes: 0 }
    }

    /// Tries every change once, on the sets as they are by then. Whether any was taken.
    fn sweep(&mut self, found: &mut Found<K>) -> bool {
        let mut better = false;
        for set in 0..self.choices.sets {
            for layer in Layer::all(self.choices.layers) {
                let flipped = LayerSet::from_iter([layer]).symmetric_difference(found.sets[set]);
                better |= self.try_sets(found, &[(set, flipped)]);
                for other in Layer::all(self.choices.layers) {
                    for receiver in 0..self.choices.sets {
                        better |= self.hand_over(found, (set, layer), (receiver, other));
                    }
                }
            }
        }
        better
    }

    /// One set drops a layer, another one (or itself) adds one.
    fn hand_over(&mut self, found: &mut Found<K>, from: (usize, Layer), to: (usize, Layer)) -> bool {
        if !found.sets[from.0].contains(from.1) || found.sets[to.0].contains(to.1) {
            return false;
        }
        let mut giver = found.sets[from.0];
        giver.remove(from.1);
        let mut receiver = if from.0 == to.0 { giver } else { found.sets[to.0] };
        receiver.insert(to.1);
        self.try_sets(found, &[(from.0, giver), (to.0, receiver)])
    }

    /// Takes the sets with these changes, if they are choices, fit and are better.
    fn try_sets(&mut self, found: &mut Found<K>, changes: &[(usize, LayerSet)]) -> bool {
        if self.nodes >= self.node_cap || changes.iter().any(|(_, set)| set.len() > self.choices.most) {
            return false;
        }
        let before: Vec<(usize, LayerSet)> = changes.iter().map(|&(set, _)| (set, found.sets[set])).collect();
        changes.iter().for_each(|&(set, layers)| found.sets[set] = layers);
        if (self.fits)(&found.sets) {
            self.nodes += 1;
            let key = (self.key)(&found.sets);
            if key < found.key {
                found.key = key;
                return true;
            }
        }
        before.iter().for_each(|&(set, layers)| found.sets[set] = layers);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::CopyOrder;
    use crate::planner::PipelineForecast;

    #[test]
    fn choices_are_counted_as_they_are_listed() {
        // 1 + 4 + 6
        assert_eq!(Choices { sets: 2, layers: 4, most: 2 }.count(), 121);
        for (layers, most) in [(1, 0), (4, 2), (7, 3), (7, 7), (10, 5)] {
            let one = Choices { sets: 1, layers, most };
            assert_eq!(one.count(), one.of_one().len() as u64);
        }
        assert_eq!(Choices { sets: 9, layers: 128, most: 64 }.count(), u64::MAX);
    }

    #[test]
    fn a_descent_finds_the_exhaustive_answer_on_most_small_instances() {
        let (mut same, mut all) = (0, 0);
        for seed in 0..30 {
            let choices = Choices { sets: 2, layers: 6, most: 3 };
            // sizes 3 and 5 on 6 layers of 2 ms; 3 ms and 5 ms per copy; at least 18 layer-blocks off the GPU
            let seconds = [0.003 + seed as f64 * 1e-4, 0.005];
            let mut batch = PipelineForecast::new(6, 2e-3, (0.0, 0.0), 1, CopyOrder::ReadyFirst, seconds);
            let fits = |sets: &[LayerSet]| 3 * sets[0].len() + 5 * sets[1].len() >= 18;
            let mut key = |sets: &[LayerSet]| (batch.step(sets), sets.to_vec());
            let least = exhaust(choices, fits, &mut key).expect("two of each free 24");
            let last = LayerSet::all(6).difference(LayerSet::all(3));
            let found = descend(choices, &[vec![last, last]], fits, &mut key, 10_000).expect("a start");
            assert!(found.key >= least.key);
            all += 1;
            same += u32::from(found.key.0 == least.key.0);
        }
        assert!(same * 10 >= all * 8, "{same} of {all}");
    }
}
