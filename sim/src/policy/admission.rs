//! Admission in order of arrival, making room among the running ones where the server allows it (design §3.5.2).
//!
//! Preempted requests stand before all waiting ones and block admission behind them. A newcomer is admitted if it
//! fits at its densest candidate; until the policy is next asked it gets the least-offloading one that fits.
//!
//! The rule, for a pool of `P` layer-blocks, running requests that hold `h_r` now and `h_r(a)` at their densest, and a
//! newcomer that needs `ceil(prompt/16)·a` and its charged staging: it is let in if that is at most `P − Σ h_r` with
//! `admission = "free"`, at most `P − Σ min(h_r, h_r(a))` with `"reclaimable"`.
//!
//! Worked (4 layers, `a = 2`, P = 20): one request of 3 blocks, resident, holds 12, and 6 at its densest; the newcomer of 5
//! blocks needs 10. Free: 20 − 12 = 8, it waits for the other to end, at 64 ms. Reclaimable: 20 − 6 = 14, it comes in
//! at 36 ms, after the step in which it arrived.
//! Test: `reclaimable_admission_takes_room_from_the_last_admitted_and_free_admission_does_not`.

use super::{Admit, Decision, View};
use crate::ids::RequestId;
use crate::model::Placement;
use crate::server::{Admission, Prefill};
use crate::units::{Bytes, blocks_for_tokens};

/// A newcomer that has been let in, with the blocks per layer it must have room for.
struct Newcomer {
    request: RequestId,
    /// Blocks per resident layer, spare included.
    resident_blocks: u64,
    /// Blocks per staging slot.
    staging_blocks: u64,
}

impl Newcomer {
    fn need(&self, view: &View<'_>, placement: Placement, slots: u32) -> u64 {
        u64::from(placement.resident(view.layers)) * self.resident_blocks
            + view.staging(placement, self.staging_blocks, slots)
    }
}

/// What a newcomer finds when its turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Layer-blocks that it may take: those behind it have theirs at their densest.
    pub free: u64,
    /// Blocks per layer that it has when it comes in.
    pub blocks: u64,
}

/// Admits in order of arrival whoever fits. `candidates` are the placements the method may use, least offloading
/// first; the last one is the densest, where `a` layers stay (design §3.5.2).
pub fn first_come_first_served(view: &View<'_>, candidates: &[Placement], slots: u32) -> Decision {
    let lightest = candidates[0];
    serve(view, candidates, slots, |_| lightest)
}

/// [`first_come_first_served`] for a method that has a `wish` for each newcomer: where that does not fit, the newcomer
/// gets the least-offloading of the candidates behind it that does.
pub fn serve(
    view: &View<'_>,
    candidates: &[Placement],
    slots: u32,
    wish: impl Fn(Seat) -> Placement,
) -> Decision {
    let densest = *candidates.last().expect("Invariant: a method has at least one placement");
    let free_slots = view.server.batch_size as usize - view.live.len();
    let used: u64 = view.running().map(|r| view.gpu_need(r.placement, r.held_blocks(), slots)).sum();
    let free = view.server.gpu_blocks.saturating_sub(used);
    let reclaimable: u64 = match view.server.switches.admission {
        Admission::Free => 0,
        Admission::Reclaimable => view
            .running()
            .map(|r| {
                let now = view.gpu_need(r.placement, r.held_blocks(), slots);
                now.saturating_sub(view.gpu_need(densest, r.held_blocks(), slots))
            })
            .sum(),
    };
    let newcomers = choose(view, densest, slots, free_slots, free + reclaimable);
    if newcomers.is_empty() {
        return Decision::default();
    }
    let mut decision = Decision::default();
    let mut reserved: u64 = newcomers.iter().map(|n| n.need(view, densest, slots)).sum();
    let mut free = free + make_room(view, candidates, slots, reserved.saturating_sub(free), &mut decision);
    for newcomer in &newcomers {
        reserved -= newcomer.need(view, densest, slots);
        let wished = wish(Seat { free: free - reserved, blocks: newcomer.staging_blocks });
        let denser =
            candidates.iter().copied().filter(|other| other.offloaded.len() > wished.offloaded.len());
        let placement = std::iter::once(wished)
            .chain(denser)
            .find(|candidate| newcomer.need(view, *candidate, slots) + reserved <= free)
            .unwrap_or(densest);
        free -= newcomer.need(view, placement, slots);
        decision.admit.push(Admit { request: newcomer.request, placement });
    }
    decision
}

/// Who gets in, first preempted, then waiting, while slots, GPU budget, host memory and the prefill step last.
fn choose(view: &View<'_>, densest: Placement, slots: u32, free_slots: usize, budget: u64) -> Vec<Newcomer> {
    let mut left = budget;
    let mut newcomers: Vec<Newcomer> = Vec::new();
    let mut take = |newcomer: Newcomer, newcomers: &mut Vec<Newcomer>| {
        let need = newcomer.need(view, densest, slots);
        let fits = newcomers.len() < free_slots && need <= left;
        if fits {
            left -= need;
            newcomers.push(newcomer);
        }
        fits
    };
    let idle = view.running().next().is_none();
    let mut host = view.host_used;
    for request in view.preempted {
        // The row it will write must find host memory, or it gives up its turn again at once.
        let growth = request.blocks() - request.held_blocks();
        host += view.block_bytes * (growth * u64::from(view.layers));
        let waits = !idle && view.server.host_kv.is_some_and(|most| host > most);
        // One spare block, or it is preempted again at once; with nothing running it is not asked for.
        let spare = if idle && newcomers.is_empty() { 0 } else { 16 };
        let newcomer = Newcomer {
            request: request.id,
            resident_blocks: blocks_for_tokens(request.context() + spare),
            staging_blocks: request.blocks(),
        };
        if waits || !take(newcomer, &mut newcomers) {
            return newcomers;
        }
    }
    if !view.server.switches.admit_past_paused && view.paused().next().is_some() {
        return newcomers;
    }
    // Newcomers that share a prefill step share its tokens; a chunk takes what its step has left.
    let most_in_step = view.server.max_context.filter(|_| view.server.switches.prefill == Prefill::Separate);
    let mut prefill_tokens = 0;
    for request in view.waiting {
        let blocks = blocks_for_tokens(request.prompt_tokens);
        prefill_tokens += request.prompt_tokens;
        host += view.block_bytes * (blocks * u64::from(view.layers));
        let fits_elsewhere = most_in_step.is_none_or(|most| prefill_tokens <= most)
            && view.server.host_kv.is_none_or(|most: Bytes| host <= most);
        let newcomer = Newcomer { request: request.id, resident_blocks: blocks, staging_blocks: blocks };
        if !fits_elsewhere || !take(newcomer, &mut newcomers) {
            break;
        }
    }
    newcomers
}

/// Takes at least `missing` layer-blocks from the running requests: the last admitted one goes candidate by candidate
/// to the densest, then the one before it. Returns what was taken.
fn make_room(
    view: &View<'_>,
    candidates: &[Placement],
    slots: u32,
    missing: u64,
    decision: &mut Decision,
) -> u64 {
    let mut taken = 0;
    for request in view.running().rev() {
        if taken >= missing {
            break;
        }
        let before = view.gpu_need(request.placement, request.held_blocks(), slots);
        let mut after = (before, request.placement);
        for candidate in candidates {
            let need = view.gpu_need(*candidate, request.held_blocks(), slots);
            if taken + (before - after.0) >= missing {
                break;
            }
            if need < after.0 {
                after = (need, *candidate);
            }
        }
        if after.1 != request.placement {
            taken += before - after.0;
            decision.placements.push((request.id, after.1));
        }
    }
    taken
}
