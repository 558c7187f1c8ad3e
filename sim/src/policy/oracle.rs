//! `oracle` "Oracle (ceiling)": the fastest next step that a placement of this batch can have, any layers of anyone
//! (design §5). A ceiling to measure methods against, for batches up to [`MOST_REQUESTS`]; no server could run it.
//!
//! The rule: over sets `S_r ⊆ {1 … L}` of offloaded layers with `Σ_r gpu_need(S_r) ≤ P`, the least step time of
//! design §3.4 at the **true** rates: slots, copy order, contention, link intercept. It starts from the best that any other
//! method gives this batch (every common distance and resident; what OrbitFlow's planner gives, with the truth and with
//! what planners believe; the present layout), then changes single layers up to `planner.node_cap` step times
//! ([`crate::planner::moves`]); with `R·L ≤ 20` it looks at every placement. Each step says **optimal**, by looking at
//! all or by a bound that no placement can beat ([`moves::least()`]), or **best found**.
//!
//! Worked (L = 4, two slots, 10 ms a layer, 15 ms a copy, a pool of 2 layers of the one request): distance 1 offloads
//! layers 2 and 4 and takes 45 ms, for layer 2 waits 5 ms; layers 3 and 4 take 40 ms, compute alone: optimal. At 25 ms a
//! copy both take 60 ms = 2·25 + 10: optimal too, and whichever is there stays. Tests:
//! `free_layers_are_5_ms_ahead_of_the_best_distance_and_no_step_is_shorter_than_compute`,
//! `copies_and_the_layer_fetched_last_are_a_proof_and_an_equally_fast_layout_stays`; and on random batches against every other
//! method, `no_method_s_placement_makes_the_same_step_shorter`.
//!
//! A ceiling of **the step, not of time**: it looks at nothing behind this step, and pays for restores as everyone does. A
//! layout is kept while no other is faster by a picosecond; of equally fast ones that with the fewest changed layers
//! is taken. So a method that changes its layout less can be ahead of it over a run, and so can one that pauses.
//!
//! **Who runs** is the uniform methods' rule: everyone live, if all fit with `a = L − floor(L/2)` layers each, or resident;
//! otherwise the last admitted is preempted, and admission counts everyone at `a`. It would fit more, with all layers of
//! all offloaded; but a ceiling over slower batches is none (on the demo it made 18.9 tokens/s instead of 23.4, `uniform`
//! 20.1). Placements of a batch that may run are free: more than half of a request's layers may go.
//!
//! `next-layer` has two slots whatever the server has; they do not help. Distance 1 fits wherever the batch may run, and
//! with C the copies of one layer of all takes `n·(max(C, tc) + tc)` with one slot, and `tc` more if L is odd, which is
//! never longer than `next-layer`'s `max(C + L·tc, L·C + tc)`, as `L ≥ 2n`.
//!
//! What it leaves out of a step: noise (it knows the mean), and waits for the previous step's write-through, which
//! exist only where a token's writes outlast a layer's compute; and prompt tokens beside decodes
//! (`prefill = "chunked:N"`): like every policy it takes a request whose prompt is being processed for one that decodes, and
//! says nothing of such a step.

use super::orbitflow::OrbitFlow;
use super::{Admit, Decision, LiveRequest, Policy, Stage, View, admission};
use crate::cost::CostModel;
use crate::ids::{Layer, RequestId};
use crate::model::{Distance, LayerSet, Placement};
use crate::pipeline::{self, Contention, CopyOrder, CopyTimes, LayerTimes, StepRequest, StepWork};
use crate::planner::PlannerSwitches;
use crate::planner::moves::{self, Costs, Found, Proof, Room};
use crate::record::StepProof;
use crate::units::{SimDuration, SimTime, blocks_for_tokens};

/// Largest batch that a scenario may give it.
pub const MOST_REQUESTS: u32 = 8;

/// Numbers of layers that one proof may look at: more is rarely of use, for then there are many that are nearly as good.
const PROOF_NODES: u64 = 2_000;

/// The ceiling.
pub struct Oracle {
    truth: CostModel,
    node_cap: u64,
    planners: Vec<OrbitFlow>,
    /// The layout, by request and its blocks, at the end of the last local search: until blocks change, another one from
    /// there would find it again.
    searched: Vec<(RequestId, u64, LayerSet)>,
    scratch: pipeline::Scratch,
}

impl Oracle {
    /// Told what work truly costs. Beside `node_cap` it reads of `switches` what OrbitFlow's planner does; that plans
    /// with each of `beliefs`, without regard to the SLO.
    pub fn new(truth: CostModel, switches: PlannerSwitches, beliefs: Vec<CostModel>) -> Self {
        // A budget of as many late requests as there can be is none.
        let failure_budget = f64::from(MOST_REQUESTS);
        // The next step alone counts: what a plan costs to come to is not its length.
        let migration_cost = false;
        let switches =
            PlannerSwitches { failure_budget, deposit: false, pause: false, migration_cost, ..switches };
        Oracle {
            truth,
            node_cap: switches.node_cap,
            planners: beliefs.into_iter().map(|belief| OrbitFlow::new(switches, belief)).collect(),
            searched: Vec::new(),
            scratch: pipeline::Scratch::default(),
        }
    }

    /// Who comes in as if everyone were at `a`, as with the uniform methods: the layouts that are there may take less,
    /// and must not let in whom the next step has no room for.
    fn admit(&self, view: &View<'_>) -> Decision {
        let slots = view.server.switches.slots;
        let densest = densest(view.layers);
        let mut live = view.live.to_vec();
        live.iter_mut().for_each(|request| request.placement = densest);
        let at_densest = View { live: &live, ..*view };
        let mut decision = admission::first_come_first_served(&at_densest, &[densest], slots);
        if !decision.admit.is_empty() {
            decision.placements = make_room(view, &decision.admit, slots);
        }
        decision
    }

    fn decode(&mut self, view: &View<'_>) -> Decision {
        let mut batch = Batch::new(view, &self.truth, std::mem::take(&mut self.scratch));
        let decision = match self.best(view, &mut batch) {
            Some((found, _)) if view.running().any(LiveRequest::is_prefilling) => placed(view, &found.sets),
            Some((found, proof)) => Decision {
                forecast: Some(found.time + batch.tail),
                proof: Some(proof),
                ..placed(view, &found.sets)
            },
            // Resident does not fit: the engine preempts and asks again.
            None => placed(view, &vec![LayerSet::EMPTY; batch.now.len()]),
        };
        self.scratch = batch.scratch;
        decision
    }

    /// The fastest placement, if the batch may run.
    fn best(&mut self, view: &View<'_>, batch: &mut Batch) -> Option<(Found, StepProof)> {
        if !batch.may_run() {
            return None;
        }
        let present = batch.now.clone();
        let mut best = batch.found(present);
        if let Some(kept) = best.take_if(|kept| batch.prove(kept.time) == StepProof::Optimal) {
            return Some((kept, StepProof::Optimal));
        }
        for start in self.starts(view, batch) {
            if let Some(start) = batch.found(start)
                && best.as_ref().is_none_or(|best| start.better_than(best))
            {
                best = Some(start);
            }
        }
        let best = best?;
        let counts = match batch.proof(best.time) {
            Proof::Least => return Some((best, StepProof::Optimal)),
            Proof::Unknown(counts) => Some(counts),
            Proof::NodeCap => None,
        };
        let found = self.search(batch, best, counts);
        let proof = batch.prove(found.time);
        if proof == StepProof::BestFound && batch.room.cells() <= moves::EXHAUSTIVE_CELLS {
            return Some((batch.look_at_all(found), StepProof::Optimal));
        }
        Some((found, proof))
    }

    /// Changes single layers of `best`; then, with the nodes that are left, of the numbers of layers that the bound
    /// cannot rule out, evenly spread.
    fn search(&mut self, batch: &mut Batch, best: Found, counts: Option<Vec<u32>>) -> Found {
        if self.searched == batch.state(&best.sets) {
            return best;
        }
        let (room, now) = (batch.room.clone(), batch.now.clone());
        let mut nodes = self.node_cap;
        let (mut best, _) = moves::improve(&room, &now, best, &mut nodes, |sets| batch.time(sets));
        let spread = counts.map(|counts| counts.iter().map(|count| spread(*count, room.layers)).collect());
        if let Some(start) = spread.and_then(|sets: Vec<LayerSet>| batch.found(sets)) {
            let (other, _) = moves::improve(&room, &now, start, &mut nodes, |sets| batch.time(sets));
            if other.better_than(&best) {
                best = other;
            }
        }
        self.searched = batch.state(&best.sets);
        best
    }

    /// What the other methods give this batch, whether it fits or not.
    fn starts(&mut self, view: &View<'_>, batch: &Batch) -> Vec<Vec<LayerSet>> {
        let distances = (0..view.layers).map(Distance::At).chain([Distance::Resident]);
        let common = |distance| vec![Placement::at(distance, view.layers).offloaded; batch.now.len()];
        let mut starts: Vec<Vec<LayerSet>> = distances.map(common).collect();
        let view = View { live_set_changed: true, measured: None, ..*view };
        for planner in &mut self.planners {
            let decision = planner.decide(&view);
            let placed = |request: &LiveRequest| {
                let own = decision.placements.iter().find(|(id, _)| *id == request.id);
                own.map_or(request.placement, |(_, placement)| *placement).offloaded
            };
            starts.push(view.running().map(placed).collect());
        }
        starts
    }
}

impl Policy for Oracle {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        match view.stage {
            Stage::Admit => self.admit(view),
            Stage::Decode => self.decode(view),
        }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers - layers / 2
    }
}

/// The decision that gives the running requests these sets.
fn placed(view: &View<'_>, sets: &[LayerSet]) -> Decision {
    let placements = view.running().zip(sets).filter(|(request, set)| request.placement.offloaded != **set);
    let placements = placements.map(|(request, set)| (request.id, Placement { offloaded: *set }));
    Decision { placements: placements.collect(), ..Decision::default() }
}

/// The densest placement that the uniform methods have: `a` layers stay.
fn densest(layers: u32) -> Placement {
    let distance = Distance::candidates(layers).last().copied().expect("Invariant: resident is a candidate");
    Placement::at(distance, layers)
}

/// Takes from the running requests what the newcomers, at their densest, lack: of the last admitted one layer after the
/// other, the last ones first, down to `a`, then of the one before it.
fn make_room(view: &View<'_>, newcomers: &[Admit], slots: u32) -> Vec<(RequestId, Placement)> {
    let densest = densest(view.layers);
    let blocks_of = |newcomer: &Admit| {
        let back = view.preempted.iter().find(|request| request.id == newcomer.request);
        let new = || view.waiting.iter().find(|request| request.id == newcomer.request);
        back.map(LiveRequest::held_blocks)
            .or_else(|| new().map(|request| blocks_for_tokens(request.prompt_tokens)))
    };
    let wanted: u64 =
        newcomers.iter().filter_map(blocks_of).map(|blocks| view.gpu_need(densest, blocks, slots)).sum();
    let need = |request: &LiveRequest, placement| view.gpu_need(placement, request.held_blocks(), slots);
    let mut used: u64 = wanted + view.running().map(|request| need(request, request.placement)).sum::<u64>();
    let mut changed = Vec::new();
    for request in view.running().rev() {
        let mut placement = request.placement;
        let stays = LayerSet::all(view.layers).difference(placement.offloaded);
        let mut upwards: Vec<Layer> = stays.iter().collect();
        while used > view.server.gpu_blocks && placement.offloaded.len() < densest.offloaded.len() {
            let before = need(request, placement);
            placement.offloaded.insert(upwards.pop().expect("Invariant: fewer than all are offloaded"));
            used = used - before + need(request, placement);
        }
        if placement != request.placement {
            changed.push((request.id, placement));
        }
    }
    changed
}

/// `count` of `layers` layers, evenly apart, the last one among them: `L − floor(i·L/count)`.
fn spread(count: u32, layers: u32) -> LayerSet {
    (0..count).map(|place| Layer(layers - place * layers / count)).collect()
}

/// The running requests, and what a step with any placement of them takes.
struct Batch {
    ids: Vec<RequestId>,
    /// Offloaded layers in the present layout.
    now: Vec<LayerSet>,
    room: Room,
    costs: Costs,
    order: CopyOrder,
    contention: Contention,
    /// Once per step that copies.
    intercept: SimDuration,
    /// Once per step.
    tail: SimDuration,
    scratch: pipeline::Scratch,
    requests: Vec<StepRequest<'static>>,
}

impl Batch {
    fn new(view: &View<'_>, truth: &CostModel, scratch: pipeline::Scratch) -> Self {
        let blocks: Vec<u64> = view.running().map(LiveRequest::blocks).collect();
        let (tokens, requests) = (view.running().map(LiveRequest::context).sum(), blocks.len() as u32);
        let switches = &view.server.switches;
        let copies = blocks.iter().map(|blocks| truth.h2d.copy_time(view.block_bytes * *blocks)).collect();
        Batch {
            ids: view.running().map(|request| request.id).collect(),
            now: view.running().map(|request| request.placement.offloaded).collect(),
            room: Room {
                layers: view.layers,
                capacity: view.server.gpu_blocks,
                staging_slots: if switches.charge_staging { u64::from(switches.slots) } else { 0 },
                blocks,
            },
            costs: Costs { layer: truth.layer_compute(tokens, requests), copies, slots: switches.slots },
            order: switches.copy_order,
            contention: truth.contention,
            intercept: truth.link_intercept,
            tail: truth.tail(requests),
            scratch,
            requests: Vec::new(),
        }
    }

    /// The step with these sets, without tail.
    fn time(&mut self, sets: &[LayerSet]) -> SimDuration {
        self.requests.clear();
        self.requests.extend(
            sets.iter()
                .zip(&self.costs.copies)
                .filter(|(set, _)| !set.is_empty())
                .map(|(set, copy)| StepRequest { fetched: *set, copy: CopyTimes::Same(*copy) }),
        );
        let work = StepWork {
            layers: self.room.layers,
            compute: LayerTimes::Same(self.costs.layer),
            requests: &self.requests,
            slots: self.costs.slots,
            order: self.order,
            contention: self.contention,
        };
        let timing = pipeline::step(&work, SimTime::ZERO, None, &mut self.scratch);
        timing.step + if self.requests.is_empty() { SimDuration::ZERO } else { self.intercept }
    }

    /// Whether it fits with everyone at `a`, or resident: who runs is the uniform methods' rule.
    fn may_run(&self) -> bool {
        let common = |set| self.room.fits(&vec![set; self.now.len()]);
        common(densest(self.room.layers).offloaded) || common(LayerSet::EMPTY)
    }

    /// That placement and its time, if it fits.
    fn found(&mut self, sets: Vec<LayerSet>) -> Option<Found> {
        if !self.room.fits(&sets) {
            return None;
        }
        let time = self.time(&sets);
        Some(Found::new(sets, time, &self.now))
    }

    /// The best of `found` and every placement that fits.
    fn look_at_all(&mut self, found: Found) -> Found {
        let (room, costs, now) = (self.room.clone(), self.costs.clone(), self.now.clone());
        let than = self.without_intercept(found.time);
        let worth = |counts: &[u32]| costs.may_be_shorter(room.layers, counts, than);
        moves::exhaustive(&room, &now, found, worth, |sets| self.time(sets))
    }

    /// Whether any placement can be faster than `time`.
    fn proof(&self, time: SimDuration) -> Proof {
        moves::least(&self.room, &self.costs, self.without_intercept(time), PROOF_NODES)
    }

    /// `time` as the bounds have it. Where all may stay, no step is shorter than that, and it has no intercept.
    fn without_intercept(&self, time: SimDuration) -> SimDuration {
        let resident = vec![LayerSet::EMPTY; self.now.len()];
        if self.room.fits(&resident) { time } else { time.saturating_sub(self.intercept) }
    }

    fn prove(&self, time: SimDuration) -> StepProof {
        match self.proof(time) {
            Proof::Least => StepProof::Optimal,
            Proof::Unknown(_) | Proof::NodeCap => StepProof::BestFound,
        }
    }

    fn state(&self, sets: &[LayerSet]) -> Vec<(RequestId, u64, LayerSet)> {
        let batch = self.ids.iter().zip(&self.room.blocks).zip(sets);
        batch.map(|((id, blocks), set)| (*id, *blocks, *set)).collect()
    }
}
