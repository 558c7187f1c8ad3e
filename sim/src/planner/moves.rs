//! Local search over free layer sets: one set of offloaded layers per request, whatever a step costs.
//!
//! [`improve`] moves, trades, swaps, adds and drops single layers while that makes the step shorter;
//! [`exhaustive`] looks at every placement of a small batch, and is its slow twin; [`least()`] proves that no placement
//! can be shorter than a given time. The step time is a closure: the search knows nothing about
//! slots, links, engines or policies, only how much memory a placement takes ([`Room`]).
//!
//! The rule: over sets `S_r ⊆ {1 … L}` with `Σ_r ((L − |S_r|) + staging·[S_r ≠ ∅])·b_r ≤ capacity`, the least
//! `(t(S), changes)` in that order, `changes` the number of (request, layer) pairs in which S differs from the layout
//! that is there. `improve` is **first-improvement**: neighbours come in one fixed cyclic order, by request, by layer,
//! by kind; the first better one is taken, and the walk goes on behind it; a whole round without one is the end.
//!
//! Worked (L = 4, 10 ms a layer, 15 ms a copy, two slots, two layers must go): distance 1 is layers 2 and 4, whose
//! copies end at 15 and 30 ms: layer 2 waits 5 ms, the step takes 45 ms. Moving layer 2 to 3 makes it 40 ms: copies of
//! 3 and 4 end at 15 and 30 ms, and layers 2 and 3 at 20 and 30 ms. Compute alone takes 40: nothing can be shorter.

mod least;

pub use least::{Costs, Proof, least};

use crate::ids::Layer;
use crate::model::LayerSet;
use crate::units::SimDuration;

/// Most (request, layer) pairs that [`exhaustive`] takes on: 2^20 placements.
pub const EXHAUSTIVE_CELLS: u32 = 20;

/// What placements may take of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Layers L.
    pub layers: u32,
    /// Layer-blocks of the pool.
    pub capacity: u64,
    /// Staging slots charged to each request with an offloaded layer, each `blocks` layer-blocks; 0: not charged.
    pub staging_slots: u64,
    /// Blocks per layer of each request.
    pub blocks: Vec<u64>,
}

impl Room {
    /// Layer-blocks that request number `request` takes with `offloaded` of its layers gone.
    pub fn need(&self, request: usize, offloaded: u32) -> u64 {
        let staging = if offloaded > 0 { self.staging_slots } else { 0 };
        (u64::from(self.layers - offloaded) + staging) * self.blocks[request]
    }

    /// Layer-blocks that all take.
    pub fn used(&self, sets: &[LayerSet]) -> u64 {
        (0..self.blocks.len()).map(|request| self.need(request, sets[request].len())).sum()
    }

    /// Whether that placement fits.
    pub fn fits(&self, sets: &[LayerSet]) -> bool {
        self.used(sets) <= self.capacity
    }

    /// (Request, layer) pairs.
    pub fn cells(&self) -> u32 {
        self.layers * self.blocks.len() as u32
    }
}

/// A placement and what it is worth; less is better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Offloaded layers of each request.
    pub sets: Vec<LayerSet>,
    /// Its step time.
    pub time: SimDuration,
    /// (Request, layer) pairs that change against the present layout.
    pub changes: u32,
}

impl Found {
    /// `sets` as found, with `now` the present layout.
    pub fn new(sets: Vec<LayerSet>, time: SimDuration, now: &[LayerSet]) -> Self {
        let changes = changes(&sets, now);
        Found { sets, time, changes }
    }

    /// Whether it comes before `other`: shorter, or as short with fewer changes.
    pub fn better_than(&self, other: &Found) -> bool {
        (self.time, self.changes) < (other.time, other.changes)
    }
}

fn changes(sets: &[LayerSet], now: &[LayerSet]) -> u32 {
    sets.iter().zip(now).map(|(set, now)| set.symmetric_difference(*now).len()).sum()
}

/// How a local search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No single step of it leads to anything better.
    LocalOptimum,
    /// It had looked at as many placements as it may.
    NodeCap,
}

/// One way to change a placement. Layers given up come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// `(request, layer)` becomes resident, or offloaded.
    Toggle(usize, Layer),
    /// The request offloads the second layer instead of the first.
    Move(usize, Layer, Layer),
    /// The second request offloads its layer instead of the first request its own.
    Trade((usize, Layer), (usize, Layer)),
    /// Two requests swap layers: the first offloads the second's, the second the first's.
    Swap((usize, Layer), (usize, Layer)),
}

impl Change {
    /// Applied to `sets`; applied twice, nothing has changed.
    fn apply(self, sets: &mut [LayerSet]) {
        let mut flip = |request: usize, layer: Layer| {
            let set = &mut sets[request];
            if set.contains(layer) { set.remove(layer) } else { set.insert(layer) }
        };
        match self {
            Change::Toggle(request, layer) => flip(request, layer),
            Change::Move(request, from, to) => {
                flip(request, from);
                flip(request, to);
            }
            Change::Trade(from, to) => {
                flip(from.0, from.1);
                flip(to.0, to.1);
            }
            Change::Swap(one, other) => {
                flip(one.0, one.1);
                flip(one.0, other.1);
                flip(other.0, other.1);
                flip(other.0, one.1);
            }
        }
    }
}

/// Changes `start` one step at a time until no neighbour that fits is better. At most `*nodes` placements are timed, and
/// `*nodes` is lowered by those that were. Panics unless `start` fits.
pub fn improve(
    room: &Room,
    now: &[LayerSet],
    start: Found,
    nodes: &mut u64,
    mut time: impl FnMut(&[LayerSet]) -> SimDuration,
) -> (Found, End) {
    assert!(room.fits(&start.sets), "Invariant: a search starts from what fits");
    let cells = room.cells() as usize;
    let mut best = start;
    let mut trial = best.sets.clone();
    let mut neighbours = Vec::new();
    let (mut cell, mut without) = (0, 0);
    while without < cells {
        neighbours_of(room, &best.sets, cell, &mut neighbours);
        let mut found = false;
        for change in &neighbours {
            change.apply(&mut trial);
            if room.fits(&trial) {
                if *nodes == 0 {
                    return (best, End::NodeCap);
                }
                *nodes -= 1;
                let (took, changed) = (time(&trial), changes(&trial, now));
                if (took, changed) < (best.time, best.changes) {
                    best = Found { sets: trial.clone(), time: took, changes: changed };
                    found = true;
                    break;
                }
            }
            change.apply(&mut trial);
        }
        without = if found { 0 } else { without + 1 };
        // What was better is likely to have something better beside it: the same cell is looked at again.
        if !found {
            cell = (cell + 1) % cells;
        }
    }
    (best, End::LocalOptimum)
}

/// The changes that begin at one (request, layer) pair, in their order.
fn neighbours_of(room: &Room, sets: &[LayerSet], cell: usize, out: &mut Vec<Change>) {
    out.clear();
    let (request, index) = (cell / room.layers as usize, cell % room.layers as usize);
    let layer = Layer(index as u32 + 1);
    out.push(Change::Toggle(request, layer));
    if !sets[request].contains(layer) {
        return;
    }
    let all = LayerSet::all(room.layers);
    for to in all.difference(sets[request]).iter() {
        out.push(Change::Move(request, layer, to));
    }
    for (other, set) in sets.iter().enumerate().filter(|(other, _)| *other != request) {
        for to in all.difference(*set).iter() {
            out.push(Change::Trade((request, layer), (other, to)));
        }
        // Each pair once, from its lower request.
        if other > request && !set.contains(layer) {
            for theirs in set.difference(sets[request]).iter() {
                out.push(Change::Swap((request, layer), (other, theirs)));
            }
        }
    }
}

/// The best of `start` and every placement that fits and is shorter; the first of equals, counting sets up as binary
/// numbers, the first request the lowest digits. Numbers of layers that `worth` says no to are left out: with a bound that
/// no such placement can beat `start`, the answer is the same ([`Costs::may_be_shorter`]).
/// Panics beyond [`EXHAUSTIVE_CELLS`].
pub fn exhaustive(
    room: &Room,
    now: &[LayerSet],
    start: Found,
    worth: impl Fn(&[u32]) -> bool,
    mut time: impl FnMut(&[LayerSet]) -> SimDuration,
) -> Found {
    let cells = room.cells();
    assert!(cells <= EXHAUSTIVE_CELLS, "Invariant: every placement is looked at only where there are few");
    let wanted = wanted_counts(room, worth);
    let mut best = start;
    let mut sets = vec![LayerSet::EMPTY; room.blocks.len()];
    let one = (1 << room.layers) - 1;
    for number in 0..1u32 << cells {
        let bits = |request: usize| number >> (request as u32 * room.layers) & one;
        let place = (0..sets.len()).rev().fold(0, |place, request| {
            place * (room.layers as usize + 1) + bits(request).count_ones() as usize
        });
        if !wanted[place] {
            continue;
        }
        for (request, set) in sets.iter_mut().enumerate() {
            *set = Layer::all(room.layers).filter(|layer| bits(request) >> layer.index() & 1 == 1).collect();
        }
        let took = time(&sets);
        if took < best.time {
            best = Found::new(sets.clone(), took, now);
        }
    }
    best
}

/// Which numbers of layers fit and are worth looking at; those of `n` stand at `Σ_r n_r·(L+1)^r`.
fn wanted_counts(room: &Room, worth: impl Fn(&[u32]) -> bool) -> Vec<bool> {
    let base = room.layers as usize + 1;
    let mut counts = vec![0; room.blocks.len()];
    (0..base.pow(counts.len() as u32))
        .map(|place| {
            let mut rest = place;
            for count in &mut counts {
                *count = (rest % base) as u32;
                rest /= base;
            }
            let used: u64 =
                counts.iter().enumerate().map(|(request, count)| room.need(request, *count)).sum();
            used <= room.capacity && worth(&counts)
        })
        .collect()
}
