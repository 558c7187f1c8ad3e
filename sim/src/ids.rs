//! Names for things that are counted: which request, which layer.
//!
//! Requests are numbered from 0 in the order of the sorted trace; layers from 1 to L, as in design §3.2.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A request: its place in the trace sorted by arrival, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u32);

impl RequestId {
    /// The place in a per-request array.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A transformer layer, numbered from 1 to L (at most [`Layer::MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Layer(pub u32);

impl Layer {
    /// The most layers a model may have: a set of layers is one 128-bit word.
    pub const MAX: u32 = 128;

    /// Layers 1 to `layers`, in order.
    pub fn all(layers: u32) -> impl DoubleEndedIterator<Item = Layer> {
        (1..=layers).map(Layer)
    }

    /// The place in a per-layer array, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
