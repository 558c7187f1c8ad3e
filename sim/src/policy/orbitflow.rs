//! `orbitflow` "OrbitFlow": a distance per request from the planner, kept for a window, with token deposit and
//! pause-resume (design §4); its ablations; and the same solver with one common distance: `uniform`, with deposit
//! (`uniform-td`), and with pause-resume too (`uniform-td-pr`).
//!
//! The rule, with the distances `d_r` of the requests that run: `min t` where `t` is the forecast of a step, subject to
//! memory, `Σ_r (L − n(d_r))·(b_r + g_r) + staging ≤ capacity`, and the SLO budget,
//! `Σ_r max(0, 1 − SLO_r/t − deposit_r/W) ≤ F` (design §4.2; facts B.4, D, E). `uniform*` add `d_r = d` for all;
//! without deposit `deposit_r = 0`; without pause-resume an infeasible batch has no one to leave out.
//!
//! `forecast` says by which model (the published prefix forecast, or the simulated step with the believed rates and
//! the server's slots, without writes and contention), `placement_space` whether a request takes a distance or any layers.
//! In the space `layers` a modelled solver time (`solver_time = "table"`) is that of `floor(L/2) + 1` candidates, the
//! counts that the prefix forecast chooses from; a descent by the simulated step is charged no more.
//!
//! Worked (A6000, 561 blocks per layer, published semantics): requests of 600 and 200 blocks. `orbitflow` gives them
//! d = 2 and 1 and forecasts 88.765 ms; with one common distance only d = 1 fits their growth: 121.219 ms. With
//! F = 0.5 and an SLO of 69.97 ms t may be at most 93.3 ms: `uniform` has no plan; `uniform-td` has one once both are
//! 64 tokens ahead (279.9 ms); `uniform-td-pr` pauses the longer one before that. Tests:
//! `uniform_pays_for_one_common_distance_what_orbitflow_saves`, `deposit_and_then_pausing_are_what_uniform_td_and_td_pr_add`.
//!
//! With `objective = "goodput"` it also chooses whom to run: after a plan is found, victims are left out one at a time while
//! `Σ_r min(1, SLO_r/t + deposit_r/W) / t` grows, and at the end of a window a paused request comes back only if it
//! grows by that. The batch above makes 17.8 tokens on time per second together and 23.4 without its longer request, which
//! is paused. Test: `the_goodput_objective_leaves_out_whoever_costs_more_tokens_on_time_than_it_makes`.
//!
//! Asked before every decode step, it keeps its plan until a trigger of §4.1 fires. Then it solves for the candidates
//! of that trigger; while there is no feasible plan it pauses one victim and solves again; with no one left to
//! pause the dynamic heuristic places the steps until the live set changes or 32 steps are over.

use std::cell::OnceCell;

use super::{Decision, LiveRequest, PlanReport, Policy, RunState, Stage, View, admission, heuristic, victim};
use crate::cost::CostModel;
use crate::ids::RequestId;
use crate::model::{Distance, LayerSet, Placement};
use crate::pipeline::prefix_forecast;
use crate::planner::{
    self, Infeasible, Instance, Objective, PipelineForecast, PlacementSpace, PlanRequest, PlannerSwitches,
    StepModel,
};
use crate::record::Trigger;
use crate::units::{SimDuration, SimTime};

mod belief;

use belief::Belief;

/// Steps that the heuristic places before the planner is asked again, and tokens a request brought back by
/// `max_pause` makes before it may be paused again (design §4.3).
const GRACE: u64 = 32;

/// Share of `t_max` below which a paused request comes back at the end of a window (design §4.3).
const RESUME_BELOW: f64 = 0.9;

/// OrbitFlow and its variants; which one is said by its [`PlannerSwitches`].
pub struct OrbitFlow {
    switches: PlannerSwitches,
    belief: Belief,
    scratch: planner::Scratch,
    plan: Plan,
    /// Requests that `max_pause` brought back, and the number of tokens from which they may be paused again.
    immune: Vec<(RequestId, u64)>,
    /// What newcomers may get, asked for in every step in which someone waits.
    placements: OnceCell<Vec<Placement>>,
}

/// What the last call of the planner left behind.
enum Plan {
    /// Never asked.
    None,
    /// A feasible plan, made for the steps before `until`.
    Window { until: u64 },
    /// No feasible plan and no one to pause: the heuristic places the steps before `until`.
    Heuristic { until: u64 },
}

/// A feasible answer for a set of requests.
struct Solution {
    candidates: Vec<usize>,
    placements: Vec<Placement>,
    window: u64,
    forecast_s: f64,
    t_max_s: Option<f64>,
    /// Tokens on time per second at the forecast.
    goodput: f64,
}

impl OrbitFlow {
    /// A planner that believes in `belief` and follows `switches`.
    pub fn new(switches: PlannerSwitches, belief: CostModel) -> Self {
        OrbitFlow {
            belief: Belief::new(belief, &switches),
            switches,
            scratch: planner::Scratch::default(),
            plan: Plan::None,
            immune: Vec::new(),
            placements: OnceCell::new(),
        }
    }

    /// The link rate it believes in over the true one it was given at first, for tests of feedback.
    pub fn copy_correction(&self) -> f64 {
        self.belief.copy_factor()
    }

    /// The compute time it believes in over the one it was given at first.
    pub fn compute_correction(&self) -> f64 {
        self.belief.compute_factor()
    }

    fn trigger(&self, view: &View<'_>, learned: bool) -> Option<Trigger> {
        if view.live_set_changed || matches!(self.plan, Plan::None) {
            return Some(Trigger::LiveSet);
        }
        if view.running().next().is_none() {
            return Some(Trigger::Idle);
        }
        if view.paused().any(|request| self.overdue(request, view.now)) {
            return Some(Trigger::MaxPause);
        }
        match self.plan {
            Plan::None => None,
            Plan::Heuristic { until } => (view.step >= until).then_some(Trigger::Fallback),
            Plan::Window { until } if view.step >= until && self.switches.replan_at_window_end => {
                Some(Trigger::Window)
            }
            Plan::Window { .. } if !fits_with_a_spare_block(view) => Some(Trigger::Misfit),
            Plan::Window { .. } => learned.then_some(Trigger::Feedback),
        }
    }

    fn overdue(&self, request: &LiveRequest, now: SimTime) -> bool {
        match (request.state, self.switches.max_pause) {
            (RunState::Paused { since }, Some(limit)) => now.since(since) >= limit,
            _ => false,
        }
    }

    /// Solves for the candidates of `trigger` and pauses victims until there is a plan.
    fn replan(&mut self, view: &View<'_>, trigger: Trigger) -> Decision {
        let mut report = PlanReport {
            trigger,
            solves: Vec::new(),
            infeasible_memory: 0,
            infeasible_slo: 0,
            node_cap_hit: false,
        };
        self.immune.retain(|(id, until)| {
            let mut present = view.live.iter().chain(view.preempted);
            present.any(|request| request.id == *id && request.generated < *until)
        });
        let mut candidates = self.candidates(view, trigger);
        let mut first = true;
        let solution = loop {
            match self.solve(view, &candidates, &mut report) {
                Ok(solution) => break Some(solution),
                Err(reason) => {
                    match reason {
                        Infeasible::Memory => report.infeasible_memory += 1,
                        Infeasible::Slo => report.infeasible_slo += 1,
                    }
                    let Some(victim) = self.victim(view, &candidates) else { break None };
                    candidates.retain(|index| *index != victim);
                    first = false;
                }
            }
        };
        let mut decision = match solution {
            Some(mut solution) => {
                if self.switches.objective == Objective::Goodput {
                    let everyone = solution.candidates.len();
                    solution = self.leave_out(view, solution, &mut report);
                    first &= solution.candidates.len() == everyone;
                }
                let at_window_end = matches!(trigger, Trigger::Window | Trigger::Fallback);
                if at_window_end && first && self.switches.resume_at_window_end {
                    solution = self.bring_back(view, solution, &mut report);
                }
                self.plan = Plan::Window { until: view.step + solution.window };
                self.adopt(view, &solution)
            }
            None => {
                self.plan = Plan::Heuristic { until: view.step + GRACE };
                self.place_by_heuristic(view, &candidates)
            }
        };
        decision.plan = Some(report);
        decision
    }

    /// Places in `view.live` of the requests that are solved for first (design §4.3).
    fn candidates(&mut self, view: &View<'_>, trigger: Trigger) -> Vec<usize> {
        let everyone = matches!(trigger, Trigger::LiveSet | Trigger::Idle);
        let mut candidates = Vec::with_capacity(view.live.len());
        for (index, request) in view.live.iter().enumerate() {
            let overdue = self.overdue(request, view.now);
            if everyone || request.is_running() || overdue {
                candidates.push(index);
            }
            if overdue {
                // Also when a change of the live set brings it back: where every step changes it, `max_pause` would
                // never have its own turn, and the longest would be the victim each time.
                self.immune.push((request.id, request.generated + GRACE));
            }
        }
        candidates
    }

    /// The candidate that the switches' rule pauses; none if no one may be paused or it would be the last one.
    fn victim(&self, view: &View<'_>, candidates: &[usize]) -> Option<usize> {
        if !self.switches.pause || candidates.len() < 2 {
            return None;
        }
        let may_pause = |index: &usize| !self.immune.iter().any(|(id, _)| *id == view.live[*index].id);
        victim::choose(view, self.switches.victim, candidates.iter().copied().filter(may_pause))
    }

    /// At the window's end: the paused one at a time, longest paused first, each only with room to spare. These trials
    /// are charged, but one that finds no plan is not counted as an infeasible one: no one is paused for it.
    fn bring_back(&mut self, view: &View<'_>, mut best: Solution, report: &mut PlanReport) -> Solution {
        let mut paused: Vec<(SimTime, usize)> = view
            .live
            .iter()
            .enumerate()
            .filter_map(|(index, request)| match request.state {
                RunState::Paused { since } => Some((since, index)),
                RunState::Running => None,
            })
            .collect();
        paused.sort_unstable();
        for (_, index) in paused {
            let mut candidates = best.candidates.clone();
            candidates.push(index);
            candidates.sort_unstable();
            if let Ok(solution) = self.solve(view, &candidates, report)
                && solution.t_max_s.is_none_or(|t_max| solution.forecast_s <= RESUME_BELOW * t_max)
                && (self.switches.objective == Objective::StepTime || solution.goodput > best.goodput)
            {
                best = solution;
            }
        }
        best
    }

    /// `objective = "goodput"`: the victims that the rule names are left out one at a time while the tokens on time per
    /// second grow ([`planner::goodput`]); the first that does not make them grow stays, and so do all behind it.
    fn leave_out(&mut self, view: &View<'_>, mut best: Solution, report: &mut PlanReport) -> Solution {
        while let Some(victim) = self.victim(view, &best.candidates) {
            let mut candidates = best.candidates.clone();
            candidates.retain(|index| *index != victim);
            match self.solve(view, &candidates, report) {
                Ok(solution) if solution.goodput > best.goodput => best = solution,
                _ => break,
            }
        }
        best
    }

    fn solve(
        &mut self,
        view: &View<'_>,
        candidates: &[usize],
        report: &mut PlanReport,
    ) -> Result<Solution, Infeasible> {
        let instance = self.instance(view, candidates)?;
        let options = match self.switches.placement_space {
            PlacementSpace::Distance => Distance::candidates(view.layers).len() as u32,
            // layers are searched by how many of the last ones: none to half of them
            PlacementSpace::Layers => view.layers / 2 + 1,
        };
        // A common distance is found by walking the candidates, as for a single request.
        let searched = if self.switches.uniform { 1 } else { candidates.len() as u32 };
        report.solves.push((searched, options));
        let plan = planner::search(&instance, &mut self.scratch).map_err(|none| {
            report.node_cap_hit |= none.node_cap_hit;
            none.reason
        })?;
        report.node_cap_hit |= !plan.optimal;
        let promises = instance.requests.iter().map(|request| (request.slo_s, request.deposit));
        Ok(Solution {
            goodput: planner::goodput(promises, instance.window, plan.forecast_s),
            candidates: candidates.to_vec(),
            placements: plan.placements,
            window: instance.window,
            forecast_s: plan.forecast_s,
            t_max_s: plan.t_max_s,
        })
    }

    /// The problem of §4.2 for these requests, at the contexts of the step it serves.
    fn instance(&self, view: &View<'_>, candidates: &[usize]) -> Result<Instance, Infeasible> {
        let requests = || candidates.iter().map(|index| &view.live[*index]);
        let contexts: Vec<u64> = requests().map(LiveRequest::context).collect();
        let staging_slots =
            if view.server.switches.charge_staging { u64::from(view.server.switches.slots) } else { 0 };
        let capacity =
            planner::placement_capacity(view.server.gpu_blocks, candidates.len() as u64, view.layers);
        let window = planner::widest_window(&contexts, view.layers, capacity, staging_slots)
            .ok_or(Infeasible::Memory)?;
        let rates = self.belief.rates(contexts.iter().sum(), contexts.len() as u32, view.block_bytes);
        Ok(Instance {
            layers: view.layers,
            layer_compute_s: rates.layer_compute_s,
            block_copy_s: rates.block_copy_s,
            copy_latency_s: rates.copy_latency_s,
            intercept_s: rates.intercept_s,
            tail_s: rates.tail_s,
            capacity,
            failure_budget: self.switches.failure_budget,
            window,
            space: self.switches.placement_space,
            model: self.step_model(view),
            uniform: self.switches.uniform,
            staging_slots,
            node_cap: self.switches.node_cap,
            requests: requests()
                .map(|request| PlanRequest {
                    id: request.id.to_string(),
                    blocks: request.blocks(),
                    growth_blocks: planner::growth_blocks(request.context(), window),
                    slo_s: request.slo.as_secs_f64(),
                    deposit: if self.switches.deposit {
                        request.playback.deposit(view.now, request.slo)
                    } else {
                        0
                    },
                    resident_layers: Some(on_gpu(request, view.layers)),
                })
                .collect(),
        })
    }

    fn adopt(&self, view: &View<'_>, solution: &Solution) -> Decision {
        let mut decision = Decision::default();
        let mut run = Vec::with_capacity(solution.candidates.len());
        let mut copies = Vec::new();
        for (index, &placement) in solution.candidates.iter().zip(&solution.placements) {
            let request = &view.live[*index];
            run.push(request.id);
            if placement != request.placement {
                decision.placements.push((request.id, placement));
            }
            copies.push((request, placement.offloaded));
        }
        decision.forecast = Some(self.forecast(view, &copies));
        decision.run = Some(run);
        decision
    }

    fn place_by_heuristic(&self, view: &View<'_>, candidates: &[usize]) -> Decision {
        let mut live = view.live.to_vec();
        for (index, request) in live.iter_mut().enumerate() {
            match (candidates.contains(&index), request.state) {
                (true, _) => request.state = RunState::Running,
                (false, RunState::Running) => request.state = RunState::Paused { since: view.now },
                (false, RunState::Paused { .. }) => {}
            }
        }
        let mut decision = heuristic::place(&View { live: &live, ..*view });
        decision.run = Some(candidates.iter().map(|index| view.live[*index].id).collect());
        decision
    }

    /// The model it forecasts steps by, on the server of `view`.
    fn step_model(&self, view: &View<'_>) -> StepModel {
        let server = &view.server.switches;
        StepModel::of(self.switches.forecast, server.slots, server.copy_order)
    }

    /// The forecast of the next step for requests that fetch these layers, at their contexts now.
    fn forecast(&self, view: &View<'_>, copies: &[(&LiveRequest, LayerSet)]) -> SimDuration {
        let context = copies.iter().map(|(request, _)| request.context()).sum();
        let rates = self.belief.rates(context, copies.len() as u32, view.block_bytes);
        let times: Vec<(LayerSet, f64)> = copies
            .iter()
            .map(|(request, fetched)| {
                (*fetched, rates.copy_latency_s + request.blocks() as f64 * rates.block_copy_s)
            })
            .collect();
        if let StepModel::Pipeline { slots, order } = self.step_model(view) {
            let fixed_s = (rates.tail_s, rates.intercept_s);
            let copies_s = times.iter().map(|(_, copy_s)| *copy_s);
            let sets: Vec<LayerSet> = times.iter().map(|(fetched, _)| *fetched).collect();
            return PipelineForecast::new(
                view.layers,
                rates.layer_compute_s,
                fixed_s,
                slots,
                order,
                copies_s,
            )
            .step(&sets);
        }
        let anything = times.iter().any(|(fetched, _)| !fetched.is_empty());
        let fixed = rates.tail_s + if anything { rates.intercept_s } else { 0.0 };
        SimDuration::from_secs_f64(prefix_forecast(view.layers, rates.layer_compute_s, &times) + fixed)
    }
}

impl Policy for OrbitFlow {
    fn decide(&mut self, view: &View<'_>) -> Decision {
        match view.stage {
            Stage::Admit => admission::first_come_first_served(
                view,
                self.placements.get_or_init(|| heuristic::placements(view.layers)),
                view.server.switches.slots,
            ),
            Stage::Decode => {
                let learned = self.belief.learn(view.measured);
                match self.trigger(view, learned) {
                    Some(trigger) => self.replan(view, trigger),
                    None if matches!(self.plan, Plan::Heuristic { .. }) => heuristic::place(view),
                    None => {
                        let copies: Vec<_> = view.running().map(|r| (r, r.placement.offloaded)).collect();
                        Decision { forecast: Some(self.forecast(view, &copies)), ..Decision::default() }
                    }
                }
            }
        }
    }

    fn fewest_resident(&self, layers: u32) -> u32 {
        layers - layers / 2
    }

    fn looks_at_slo(&self) -> bool {
        true
    }
}

/// Whether the layout holds the next step with one spare block per resident layer per request (trigger (c)).
fn fits_with_a_spare_block(view: &View<'_>) -> bool {
    let need: u64 = view
        .running()
        .map(|request| {
            let spare = u64::from(request.placement.resident(view.layers));
            view.gpu_need(request.placement, request.blocks(), view.server.switches.slots) + spare
        })
        .sum();
    need <= view.server.gpu_blocks
}

/// Layers whose KV is on the GPU now.
fn on_gpu(request: &LiveRequest, layers: u32) -> LayerSet {
    match request.state {
        RunState::Running => {
            LayerSet::all(layers).difference(request.placement.offloaded).difference(request.missing)
        }
        RunState::Paused { .. } => LayerSet::EMPTY,
    }
}
