//! Which layers of a request live only in host memory.
//!
//! A request at **distance** `d` has layer `j` offloaded iff `j mod (d+1) = 0`, layers numbered from 1, so
//! `n(d) = floor(L/(d+1))` layers are offloaded (design §3.2; facts A.2). Several `d` give the same `n`; only
//! the widest is a candidate: the same memory, more time to prefetch. A [`Placement`] is more general: any
//! set of layers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Layer;

/// A set of layers out of 1 … 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerSet(u128);

impl LayerSet {
    /// No layer.
    pub const EMPTY: LayerSet = LayerSet(0);

    /// Layers 1 to `layers`.
    pub fn all(layers: u32) -> Self {
        assert!(layers <= Layer::MAX, "Invariant: at most {} layers", Layer::MAX);
        LayerSet(if layers == 128 { u128::MAX } else { (1 << layers) - 1 })
    }

    /// Whether `layer` is in the set.
    pub const fn contains(self, layer: Layer) -> bool {
        self.0 >> (layer.0 - 1) & 1 == 1
    }

    /// Adds `layer`.
    pub fn insert(&mut self, layer: Layer) {
        self.0 |= 1 << (layer.0 - 1);
    }

    /// Takes `layer` out.
    pub fn remove(&mut self, layer: Layer) {
        self.0 &= !(1 << (layer.0 - 1));
    }

    /// How many layers.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest layer of the set.
    pub const fn first(self) -> Option<Layer> {
        if self.0 == 0 { None } else { Some(Layer(self.0.trailing_zeros() + 1)) }
    }

    /// Layers in both.
    pub const fn intersection(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 & other.0)
    }

    /// Layers in either.
    pub const fn union(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 | other.0)
    }

    /// Layers in `self` that are not in `other`.
    pub const fn difference(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 & !other.0)
    }

    /// Layers in exactly one of the two: the moves from one layout to another.
    pub const fn symmetric_difference(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 ^ other.0)
    }

    /// The layers, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Layer> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let layer = LayerSet(rest).first()?;
            rest &= rest - 1;
            Some(layer)
        })
    }
}

impl FromIterator<Layer> for LayerSet {
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        let mut set = LayerSet::EMPTY;
        for layer in layers {
            set.insert(layer);
        }
        set
    }
}

/// How far apart the offloaded layers of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Distance {
    /// Nothing is offloaded.
    Resident,
    /// Every `(d+1)`-th layer is offloaded; `At(0)` is all of them.
    At(u32),
}

impl Distance {
    /// Layers offloaded: `n(d) = floor(L/(d+1))`, 0 for resident.
    pub fn offloaded(self, layers: u32) -> u32 {
        match self {
            Distance::Resident => 0,
            Distance::At(d) => layers / (d + 1),
        }
    }

    /// The candidates of a planner, least offloading first: resident, then the widest `d ≥ 1` of each
    /// offload count. L = 32: resident, 31, 15, 9, 7, 5, 4, 3, 2, 1.
    pub fn candidates(layers: u32) -> Vec<Distance> {
        let mut candidates = vec![Distance::Resident];
        let mut last = 0;
        for d in (1..layers).rev() {
            let count = layers / (d + 1);
            if count > last {
                candidates.push(Distance::At(d));
                last = count;
            }
        }
        candidates
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distance::Resident => f.write_str("resident"),
            Distance::At(d) => write!(f, "{d}"),
        }
    }
}

/// Where the layers of one request live: those in `offloaded` only in host memory, the others on the GPU too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Layers whose KV is only in host memory.
    pub offloaded: LayerSet,
}

impl Placement {
    /// Every layer on the GPU.
    pub const RESIDENT: Placement = Placement { offloaded: LayerSet::EMPTY };

    /// The placement of a distance in a model of `layers` layers.
    pub fn at(distance: Distance, layers: u32) -> Self {
        let offloaded = match distance {
            Distance::Resident => LayerSet::EMPTY,
            Distance::At(d) => (1..=distance.offloaded(layers)).map(|count| Layer(count * (d + 1))).collect(),
        };
        Placement { offloaded }
    }

    /// How many of `layers` layers stay on the GPU.
    pub fn resident(self, layers: u32) -> u32 {
        layers - self.offloaded.len()
    }

    /// The widest distance that has this placement, if there is one.
    pub fn distance(self, layers: u32) -> Option<Distance> {
        match self.offloaded.first() {
            None => Some(Distance::Resident),
            Some(first) => {
                let distance = Distance::At(first.0 - 1);
                (Placement::at(distance, layers) == self).then_some(distance)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidates_of_32_layers_are_those_of_the_paper() {
        let counts: Vec<_> =
            Distance::candidates(32).iter().map(|d| (d.to_string(), d.offloaded(32))).collect();
        let expected = [
            ("resident", 0),
            ("31", 1),
            ("15", 2),
            ("9", 3),
            ("7", 4),
            ("5", 5),
            ("4", 6),
            ("3", 8),
            ("2", 10),
            ("1", 16),
        ];
        assert_eq!(counts, expected.map(|(d, n)| (d.to_owned(), n)));
    }

    #[test]
    fn a_distance_offloads_every_so_many_layers_and_is_found_again() {
        for layers in [1, 2, 28, 32, 80, 126, 128] {
            for distance in Distance::candidates(layers).into_iter().chain([Distance::At(0)]) {
                let placement = Placement::at(distance, layers);
                assert_eq!(placement.offloaded.len(), distance.offloaded(layers));
                assert_eq!(placement.distance(layers), Some(distance), "{layers} layers");
            }
        }
        let odd = Placement { offloaded: [Layer(3), Layer(4)].into_iter().collect() };
        assert_eq!(odd.distance(32), None);
        assert_eq!(odd.offloaded.iter().map(|l| l.0).collect::<Vec<_>>(), [3, 4]);
    }
}
