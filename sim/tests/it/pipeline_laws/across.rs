//! Cross-step prefetch against a slow twin: one clock over all steps, one picosecond at a time.
//!
//! The twin knows nothing of head starts or of what a step leaves behind. It keeps one link, one compute stream and for each
//! request the staging slots that its copies hold: a slot is taken when a copy begins and given back when its layer has been
//! computed. What a request's next layer needs is looked up in what has landed. Batches change between steps: requests
//! come, leave, pause and come back, take other layouts, or are given their own layout anew; contexts grow, so a copy takes
//! another time in the next step; something may lie between two steps.

use std::collections::BTreeMap;

use orbitflow_sim::ids::Layer;
use orbitflow_sim::model::LayerSet;
use orbitflow_sim::pipeline::{
    Contention, CopyOrder, CopyTimes, CrossStep, HeadStart, InFlight, LayerTimes, NextCopy, StepRequest,
    StepWork, cross_step, steady,
};
use orbitflow_sim::units::{SimDuration, SimTime};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A request in one step.
#[derive(Clone, Debug)]
struct Member {
    id: u32,
    fetched: LayerSet,
    /// Of each of its copies in this step.
    copy: u64,
    /// Its first layer of the next step, if its layout stays, and what that copy takes.
    next: Option<(Layer, u64)>,
    /// Whether nothing that was copied for it in the step before is of use.
    anew: bool,
}

#[derive(Clone, Debug)]
struct Step {
    /// Between the end of the step before and the start of this one.
    gap: u64,
    layer: u64,
    tail: u64,
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Run {
    layers: u32,
    slots: u32,
    order: CopyOrder,
    contention: Contention,
    steps: Vec<Step>,
}

/// What both say of a step, in picoseconds from its start.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// End of layer L.
    end: u64,
    layers: Vec<(u64, u64)>,
    /// Own copies: place of the request, layer, start, end.
    copies: Vec<(usize, Layer, u64, u64)>,
    /// Copies for the next step: place of the request, layer, start.
    ahead: Vec<(usize, Layer, u64)>,
}

/// A copy or a layer that runs: millionths of a picosecond of work left, and how many are done in a picosecond alone.
#[derive(Clone, Copy)]
struct Job {
    left: i128,
    alone: i128,
}

impl Job {
    fn new(time: u64, alone: u32) -> Self {
        Job { left: i128::from(time) * i128::from(alone), alone: alone.into() }
    }

    fn tick(&mut self, beside: bool) {
        self.left -= if beside { 1_000_000 } else { self.alone };
    }

    fn is_over(self) -> bool {
        self.left <= 0
    }
}

/// What runs on the link: for whom, if it is still of use, and where it stands in the step's list of copies.
struct Copying {
    job: Job,
    wanted: Option<(u32, Layer)>,
    own: Option<usize>,
}

struct Twin<'a> {
    run: &'a Run,
    now: u64,
    link: Option<Copying>,
    /// Per request, the layers whose copies have begun and that are not computed yet: one slot each.
    held: BTreeMap<u32, Vec<Layer>>,
    /// Of those, what has landed.
    landed: Vec<(u32, Layer)>,
}

impl<'a> Twin<'a> {
    fn run(run: &'a Run) -> Vec<Seen> {
        let mut twin = Twin { run, now: 0, link: None, held: BTreeMap::new(), landed: Vec::new() };
        run.steps.iter().map(|step| twin.step(step)).collect()
    }

    fn copy_job(&self, time: u64) -> Job {
        Job::new(time, self.run.contention.copy_ppm())
    }

    /// A copy that is over makes way.
    fn land(&mut self, seen: Option<&mut Seen>, start: u64) -> bool {
        let Some(copying) = self.link.take_if(|copying| copying.job.is_over()) else { return false };
        self.landed.extend(copying.wanted);
        if let (Some(seen), Some(own)) = (seen, copying.own) {
            seen.copies[own].3 = self.now - start;
        }
        true
    }

    fn forget(&mut self, id: u32) {
        self.held.remove(&id);
        self.landed.retain(|(other, _)| *other != id);
        if let Some(copying) = &mut self.link {
            copying.wanted.take_if(|(other, _)| *other == id);
        }
    }

    fn step(&mut self, step: &Step) -> Seen {
        for _ in 0..step.gap {
            self.land(None, 0);
            if let Some(copying) = &mut self.link {
                copying.job.tick(false);
            }
            self.now += 1;
        }
        self.land(None, 0);
        let gone: Vec<u32> = (self.held.keys().copied())
            .filter(|id| !step.members.iter().any(|member| member.id == *id && !member.anew))
            .collect();
        gone.into_iter().for_each(|id| self.forget(id));

        let start = self.now;
        let mut seen = Seen::default();
        let mut layer: Option<Job> = None;
        let mut computed = 0;
        // what each request has begun of this step, and whether of the next
        let mut begun: Vec<Vec<Layer>> = step
            .members
            .iter()
            .map(|member| self.held.get(&member.id).cloned().unwrap_or_default())
            .collect();
        let mut ahead = vec![false; step.members.len()];
        loop {
            if self.land(Some(&mut seen), start) {
                continue;
            }
            if layer.take_if(|job| job.is_over()).is_some() {
                computed += 1;
                let end = self.now - start;
                seen.layers.last_mut().expect("it began").1 = end;
                seen.end = end;
                self.held.values_mut().for_each(|held| held.retain(|held| held.0 != computed));
                self.landed.retain(|(_, landed)| landed.0 != computed);
                continue;
            }
            if computed == self.run.layers && self.now >= start + seen.end + step.tail {
                return seen;
            }
            let next = Layer(computed + 1);
            let has_landed =
                |member: &Member| !member.fetched.contains(next) || self.landed.contains(&(member.id, next));
            if layer.is_none() && computed < self.run.layers && step.members.iter().all(has_landed) {
                layer = Some(Job::new(step.layer, self.run.contention.compute_ppm()));
                seen.layers.push((self.now - start, 0));
                continue;
            }
            if self.link.is_none() && self.begin(step, computed, &mut begun, &mut ahead, &mut seen, start) {
                continue;
            }
            let beside = self.link.is_some() && layer.is_some();
            if let Some(copying) = &mut self.link {
                copying.job.tick(beside);
            }
            if let Some(job) = &mut layer {
                job.tick(beside);
            }
            self.now += 1;
        }
    }

    /// The idle link takes a copy of this step, or, when all of them have begun, one for the next.
    fn begin(
        &mut self,
        step: &Step,
        computed: u32,
        begun: &mut [Vec<Layer>],
        ahead: &mut [bool],
        seen: &mut Seen,
        start: u64,
    ) -> bool {
        let mut own: Vec<(Layer, usize)> = Vec::new();
        let mut next: Vec<(Layer, usize)> = Vec::new();
        for (place, member) in step.members.iter().enumerate() {
            own.extend(member.fetched.iter().find(|layer| !begun[place].contains(layer)).map(|l| (l, place)));
            next.extend(member.next.filter(|_| !ahead[place]).map(|(layer, _)| (layer, place)));
        }
        let of_this_step = !own.is_empty();
        let mut queue = if of_this_step { own } else { next };
        queue.sort_unstable();
        if self.run.order == CopyOrder::InOrder {
            queue.truncate(1);
        }
        let free = |place: usize| {
            let member = &step.members[place];
            if of_this_step {
                self.held.get(&member.id).map_or(0, Vec::len) < self.run.slots as usize
            } else {
                member.fetched.iter().all(|layer| layer.0 <= computed)
            }
        };
        let Some((layer, place)) = queue.into_iter().find(|(_, place)| free(*place)) else { return false };
        let member = &step.members[place];
        let time = if of_this_step { member.copy } else { member.next.expect("it is in the queue").1 };
        let own = of_this_step.then_some(seen.copies.len());
        let at = self.now - start;
        if of_this_step {
            begun[place].push(layer);
            seen.copies.push((place, layer, at, 0));
        } else {
            ahead[place] = true;
            seen.ahead.push((place, layer, at));
        }
        self.held.entry(member.id).or_default().push(layer);
        self.link = Some(Copying { job: self.copy_job(time), wanted: Some((member.id, layer)), own });
        true
    }
}

fn picos(picos: u64) -> SimDuration {
    SimDuration::from_picos(picos)
}

/// The same by [`cross_step`], told between the steps who still has what.
fn fast(run: &Run) -> Vec<Seen> {
    let mut heads: BTreeMap<u32, HeadStart> = BTreeMap::new();
    let mut in_flight: Option<InFlight> = None;
    let of = |step: &Step| {
        if let Some(copy) = &mut in_flight
            && !copy.runs_on_after(picos(step.gap))
        {
            in_flight = None;
            heads.values_mut().filter(|head| **head == HeadStart::InFlight).for_each(|head| {
                *head = HeadStart::Landed;
            });
        }
        let requests: Vec<StepRequest<'_>> = (step.members.iter())
            .map(|member| StepRequest { fetched: member.fetched, copy: CopyTimes::Same(picos(member.copy)) })
            .collect();
        let work = StepWork {
            layers: run.layers,
            compute: LayerTimes::Same(picos(step.layer)),
            requests: &requests,
            slots: run.slots,
            order: run.order,
            contention: run.contention,
        };
        let head_starts: Vec<HeadStart> = (step.members.iter())
            .map(|member| heads.get(&member.id).copied().filter(|_| !member.anew).unwrap_or_default())
            .collect();
        let next: Vec<Option<NextCopy>> = (step.members.iter())
            .map(|member| member.next.map(|(layer, time)| NextCopy { layer, time: picos(time) }))
            .collect();
        let cross = CrossStep { head_starts: &head_starts, in_flight, next: &next, tail: picos(step.tail) };
        let (timing, timeline, onward) = cross_step(&work, SimTime::ZERO, None, cross);
        heads = step.members.iter().map(|member| member.id).zip(onward.head_starts).collect();
        in_flight = onward.in_flight;
        let at = SimDuration::as_picos;
        Seen {
            end: at(timing.step),
            layers: timeline.layers.iter().map(|span| (at(span.start), at(span.end))).collect(),
            copies: (timeline.copies.iter())
                .map(|copy| (copy.request, copy.layer, at(copy.start), at(copy.end)))
                .collect(),
            ahead: timeline.ahead.iter().map(|copy| (copy.request, copy.layer, at(copy.start))).collect(),
        }
    };
    run.steps.iter().map(of).collect()
}

fn one_of<T: Copy>(random: &mut ChaCha8Rng, values: &[T]) -> T {
    values[random.random_range(0..values.len())]
}

fn some_layers(random: &mut ChaCha8Rng, layers: u32) -> LayerSet {
    let share = one_of(random, &[0.0, 0.3, 0.6]);
    Layer::all(layers).filter(|_| random.random_bool(share)).collect()
}

fn drawn(seed: u64) -> Run {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let layers = random.random_range(1..9);
    // everyone there is: layout, and what a copy takes
    let mut everyone: Vec<(LayerSet, u64)> = (0..random.random_range(1..5))
        .map(|_| (some_layers(random, layers), random.random_range(0..20)))
        .collect();
    let (layer, tail) = (random.random_range(1..8), one_of(random, &[0, 0, 1, 5]));
    let steps = (0..random.random_range(2..9))
        .map(|_| {
            let mut members = Vec::new();
            for (id, (layout, copy)) in (0..).zip(&mut everyone) {
                let mut restored = LayerSet::EMPTY;
                let mut anew = random.random_bool(0.1);
                if random.random_bool(0.2) {
                    *layout = some_layers(random, layers);
                    // some of what it keeps comes back in this step
                    restored = some_layers(random, layers);
                    anew = true;
                }
                let here = random.random_bool(0.85);
                let now = *copy;
                // one more block now and then
                *copy += u64::from(random.random_bool(0.3));
                if here {
                    let next = layout.first().map(|first| (first, *copy));
                    members.push(Member { id, fetched: layout.union(restored), copy: now, next, anew });
                }
            }
            let gap = one_of(random, &[0, 0, 0, 1, 4, 30]);
            Step { gap, layer, tail, members }
        })
        .collect();
    let (copy, compute) = one_of(random, &[(1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.5, 1.25)]);
    Run {
        layers,
        slots: random.random_range(1..5),
        order: one_of(random, &[CopyOrder::ReadyFirst, CopyOrder::InOrder]),
        contention: Contention::of_factors(copy, compute).expect("two slowdowns"),
        steps,
    }
}

#[test]
fn steps_that_copy_ahead_are_those_of_one_clock_over_all_of_them() {
    let (mut steps, mut ahead, mut helped, mut dropped, mut between) = (0, 0, 0, 0, 0);
    for seed in 0..3_000 {
        let run = drawn(seed);
        let (twin, fast) = (Twin::run(&run), fast(&run));
        for (place, (twin, fast)) in twin.iter().zip(&fast).enumerate() {
            assert_eq!(twin, fast, "seed {seed}, step {place}: {run:#?}");
        }
        steps += run.steps.len();
        for (pair, seen) in run.steps.windows(2).zip(fast.windows(2)) {
            ahead += seen[0].ahead.len();
            for (place, ..) in &seen[0].ahead {
                let id = pair[0].members[*place].id;
                let there = pair[1].members.iter().position(|member| member.id == id && !member.anew);
                match there {
                    Some(_) => helped += 1,
                    None => dropped += 1,
                }
            }
            between += u32::from(pair[1].gap > 0 && !seen[0].ahead.is_empty());
        }
    }
    assert!(steps > 10_000 && ahead > 5_000, "{steps} steps, {ahead} copies ahead");
    assert!(helped > 3_000 && dropped > 500 && between > 500, "{helped} {dropped} {between}");
}

#[test]
fn a_steady_step_is_the_one_that_a_long_row_of_like_steps_ends_with() {
    let (mut settled, mut carried) = (0, 0);
    for seed in 0..400 {
        let mut run = drawn(seed);
        let Step { layer, tail, members, .. } = run.steps[0].clone();
        let like = |member: Member| {
            let next = member.fetched.first().map(|first| (first, member.copy));
            Member { next, anew: false, ..member }
        };
        let members: Vec<Member> = members.into_iter().map(like).collect();
        run.steps = vec![Step { gap: 0, layer, tail, members: members.clone() }; 60];
        let requests: Vec<StepRequest<'_>> = (members.iter())
            .map(|member| StepRequest { fetched: member.fetched, copy: CopyTimes::Same(picos(member.copy)) })
            .collect();
        let work = StepWork {
            layers: run.layers,
            compute: LayerTimes::Same(picos(layer)),
            requests: &requests,
            slots: run.slots,
            order: run.order,
            contention: run.contention,
        };
        let steady = steady(&work, picos(tail));
        let twin = Twin::run(&run);
        assert_eq!(steady.timing.step.as_picos(), twin[steady.steps_before].end, "seed {seed}");
        if steady.period == Some(1) {
            settled += 1;
            assert!(twin[steady.steps_before..].iter().all(|step| *step == twin[59]), "seed {seed}");
        }
        carried += steady.carried.len();
        assert_eq!(steady.carried.len(), twin[steady.steps_before - 1].ahead.len(), "seed {seed}");
    }
    assert!(settled > 390 && carried > 200, "{settled} {carried}");
}
