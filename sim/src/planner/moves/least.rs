//! The proof that no placement makes a shorter step: from how many layers of whom must go, never from which.
//!
//! With `n_r` offloaded layers of request `r`, each copied in `c_r`, and `tc` a layer, whichever layers they are: of
//! those `n_r` at most `m` are among the last `m`, so `n_r − m` or more are below them and must have landed before the
//! layer `L − m` is computed, behind which `m` more come. For every `m` from 0 to `L − 1`
//!
//! `t ≥ (m + 1)·tc + Σ_r max(0, n_r − m)·c_r`
//!
//! on one link, in any order, with any number of slots. `m = 0` is copies and the layer fetched last, `m = L − 1` with
//! `n_r < L` is compute. With **one slot** the copies of a request and the layers they are for take turns:
//! `t ≥ n_r·(c_r + tc)`. Contention and writes only make steps longer.
//!
//! Design §5 says "by meeting max(compute, copies)". No step that copies meets its copies, for the layer fetched last is
//! still to be computed; and the copies of the step itself prove nothing, for another placement may copy less. So the
//! bound here has that layer, and is over **every** `n` that memory allows.
//!
//! Worked (L = 4, tc = 10 ms, one request, c = 25 ms, two slots, two layers must go): m = 0: 2·25 + 10 = 60 ms;
//! m = 1: 20 + 25; m = 3: 40. Layers 3 and 4 take 60 ms: copies end at 25 and 50, layer 4 ends at 60. With one slot the
//! second copy waits for layer 3, 35 ms, and 2·(25 + 10) = 70 ms is the least.
//!
//! Which `n` is best is a knapsack problem; asked is only whether any is better than what was found, which
//! is a depth-first search cut by both limits, memory and time.

use super::Room;
use crate::units::SimDuration;

/// What layers and copies take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Compute of one layer.
    pub layer: SimDuration,
    /// Copy of one layer of each request.
    pub copies: Vec<SimDuration>,
    /// Staging slots per request.
    pub slots: u32,
}

impl Costs {
    /// Whether the bound leaves it open that a step with so many offloaded layers of each request, of `layers` layers, is
    /// shorter than `than`.
    pub fn may_be_shorter(&self, layers: u32, counts: &[u32], than: SimDuration) -> bool {
        let (layer, than) = (self.layer.as_picos(), than.as_picos());
        let of = |request: usize| self.copies[request].as_picos();
        let turns = |(request, count): (usize, &u32)| u64::from(*count) * (of(request) + layer) < than;
        (self.slots > 1 || counts.iter().enumerate().all(turns))
            && (0..layers).all(|last| {
                let below =
                    |(request, count): (usize, &u32)| u64::from(count.saturating_sub(last)) * of(request);
                u64::from(last + 1) * layer + counts.iter().enumerate().map(below).sum::<u64>() < than
            })
    }
}

/// Whether a step time is the least there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Every placement takes at least as long.
    Least,
    /// These numbers of offloaded layers fit, and nothing says that they take as long.
    Unknown(Vec<u32>),
    /// The question took too many nodes.
    NodeCap,
}

/// Whether no placement that fits makes the step shorter than `than`. Looks at no more than `node_cap` numbers of layers.
pub fn least(room: &Room, costs: &Costs, than: SimDuration, node_cap: u64) -> Proof {
    let than = than.as_picos();
    let mut search = Search::new(room, costs, than, node_cap);
    let mut counts = vec![0; room.blocks.len()];
    let below = vec![0; room.layers as usize];
    match search.descend(0, search.must_free, &below, &mut counts) {
        Outcome::Witness => Proof::Unknown(counts),
        Outcome::None => Proof::Least,
        Outcome::Capped => Proof::NodeCap,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Witness,
    None,
    Capped,
}

/// Times in picoseconds.
struct Search<'a> {
    room: &'a Room,
    costs: &'a Costs,
    /// Only what is shorter is looked for.
    than: u64,
    /// Requests, those first that free most per picosecond of copying.
    order: Vec<usize>,
    /// Layer-blocks that placements must free against being resident.
    must_free: i128,
    nodes: u64,
}

impl<'a> Search<'a> {
    fn new(room: &'a Room, costs: &'a Costs, than: u64, nodes: u64) -> Self {
        let resident: u128 =
            room.blocks.iter().map(|blocks| u128::from(room.layers) * u128::from(*blocks)).sum();
        let copy = |request: usize| u128::from(costs.copies[request].as_picos());
        let mut order: Vec<usize> = (0..room.blocks.len()).collect();
        // b/c descending, compared crosswise; the sort keeps equals in batch order
        order.sort_by(|&a, &b| {
            let one = u128::from(room.blocks[b]) * copy(a);
            one.cmp(&(u128::from(room.blocks[a]) * copy(b)))
        });
        let must_free = resident as i128 - i128::from(room.capacity);
        Search { room, costs, than, order, must_free, nodes }
    }

    fn copy(&self, request: usize) -> u64 {
        self.costs.copies[request].as_picos()
    }

    /// Whether the bound with `below[m] = Σ_r max(0, n_r − m)·c_r` is shorter than `than`.
    fn shorter(&self, below: &[u64]) -> bool {
        let layer = self.costs.layer.as_picos();
        below.iter().zip(1..).all(|(copies, layers)| layers * layer + copies < self.than)
    }

    /// Whether request number `request` alone allows `count` layers: with one slot its copies and layers take turns.
    fn alone(&self, request: usize, count: u32) -> bool {
        let turn = self.copy(request) + self.costs.layer.as_picos();
        self.costs.slots > 1 || u64::from(count) * turn < self.than
    }

    /// Chooses the number of layers of the requests from place `depth` of the order on, with `missing` layer-blocks still
    /// to be freed and `below` what the ones before copy.
    fn descend(&mut self, depth: usize, missing: i128, below: &[u64], counts: &mut [u32]) -> Outcome {
        if self.nodes == 0 {
            return Outcome::Capped;
        }
        self.nodes -= 1;
        if !self.shorter(below) {
            return Outcome::None;
        }
        let Some(&request) = self.order.get(depth) else {
            return if missing <= 0 { Outcome::Witness } else { Outcome::None };
        };
        if !self.enough_time(depth, missing, below[0]) {
            return Outcome::None;
        }
        let mut mine = below.to_vec();
        let mut capped = false;
        for count in 0..=self.room.layers {
            if count > 0 {
                // one more layer: one more copy below the last m for every m < count
                for copies in &mut mine[..count as usize] {
                    *copies += self.copy(request);
                }
                if !self.shorter(&mine) || !self.alone(request, count) {
                    break;
                }
            }
            counts[request] = count;
            let resident = i128::from(self.room.need(request, 0));
            let freed = resident - i128::from(self.room.need(request, count));
            match self.descend(depth + 1, missing - freed, &mine, counts) {
                Outcome::Witness => return Outcome::Witness,
                Outcome::Capped => capped = true,
                Outcome::None => {}
            }
            if self.nodes == 0 {
                return Outcome::Capped;
            }
        }
        counts[request] = 0;
        if capped { Outcome::Capped } else { Outcome::None }
    }

    /// Whether the requests from `depth` on could free `missing` within the time, if layers could be cut and staging took
    /// no room.
    fn enough_time(&self, depth: usize, missing: i128, copied: u64) -> bool {
        let mut missing = missing;
        let Some(mut left) = self.than.checked_sub(1 + self.costs.layer.as_picos() + copied) else {
            return missing <= 0;
        };
        for &request in &self.order[depth..] {
            if missing <= 0 {
                return true;
            }
            let (copy, blocks) = (self.copy(request), self.room.blocks[request]);
            let whole = copy * u64::from(self.room.layers);
            if whole <= left {
                missing -= i128::from(blocks) * i128::from(self.room.layers);
                left -= whole;
            } else {
                // floor(left/copy · blocks) layer-blocks, a part of a layer included
                let freed = u128::from(left) * u128::from(blocks) / u128::from(copy);
                return missing <= freed as i128;
            }
        }
        missing <= 0
    }
}
