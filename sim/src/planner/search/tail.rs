//! All placements of the last few requests of an order, sorted by the blocks they copy.
//!
//! Once everything but the tail is decided, the rest must copy a number of blocks in a known, often very narrow
//! window; looking the window up replaces the lowest, widest levels of the tree.

use super::super::problem::Problem;
use super::order::Order;

/// Requests of a tail at most: their candidates are packed into a `u32`, a byte each.
const MOST_REQUESTS: usize = 4;
/// Placements of a tail at most.
const MOST_ENTRIES: usize = 1_000;

/// One placement of the tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Blocks copied.
    pub copied: u64,
    /// Layer-blocks freed.
    pub freed: i64,
    /// Layers changed.
    pub changes: u64,
    /// The candidates, first request in the highest byte, so that numbers compare as the vectors do.
    pub packed: u32,
}

/// The placements of the requests from `start` on.
pub(super) struct Tail {
    entries: Vec<Entry>,
    /// Most that any entry frees beyond what it copies.
    most_gained: i64,
}

impl Tail {
    /// Where the tail of `order` would start: at its end if a table is not worth its making.
    pub fn start_of(problem: &Problem<'_>) -> usize {
        let requests = problem.requests();
        let candidates = problem.shape.candidates();
        let longest = if requests <= 2 { 0 } else { MOST_REQUESTS.min(requests - 2) };
        let length =
            (0..=longest).rev().find(|&length| candidates.pow(length as u32) <= MOST_ENTRIES).unwrap_or(0);
        requests - if length < 2 { 0 } else { length }
    }

    /// Lists and sorts all placements of the requests from `start` on.
    pub fn new(problem: &Problem<'_>, order: &Order, start: usize) -> Self {
        let shape = problem.shape;
        let mut entries = vec![Entry { copied: 0, freed: 0, changes: 0, packed: 0 }];
        for position in start..problem.requests() {
            let request = order.requests[position];
            let twin = order.twin_before[position].filter(|&twin| twin >= start);
            let mut longer = Vec::with_capacity(entries.len() * shape.candidates());
            for entry in &entries {
                let from = twin.map_or(0, |twin| unpack(entry.packed, position - 1 - twin));
                for candidate in from..shape.candidates() {
                    longer.push(Entry {
                        copied: entry.copied + shape.counts[candidate] * order.blocks[position],
                        freed: entry.freed + problem.freed(request, candidate),
                        changes: entry.changes + problem.changes[request * shape.candidates() + candidate],
                        packed: entry.packed << 8 | candidate as u32,
                    });
                }
            }
            entries = longer;
        }
        entries.sort_unstable_by_key(|entry| (entry.copied, entry.packed));
        let gained = entries.iter().map(|entry| entry.freed - entry.copied as i64);
        let most_gained = gained.max().expect("Invariant: a tail has placements");
        Tail { entries, most_gained }
    }

    /// The placements that copy at most `copied` blocks and may free `need`, fewest copied first.
    pub fn window(&self, need: i64, copied: u64) -> &[Entry] {
        let least = need - self.most_gained;
        let from = self.entries.partition_point(|entry| (entry.copied as i64) < least);
        let to = self.entries.partition_point(|entry| entry.copied <= copied);
        &self.entries[from.min(to)..to]
    }
}

/// The candidate `back` places before the last one of a packed placement.
pub(super) fn unpack(packed: u32, back: usize) -> usize {
    (packed >> (8 * back) & 0xff) as usize
}
