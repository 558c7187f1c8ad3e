//! The sink: which event stands on which track.

use std::io::Write;

use super::events::{Events, Track, Value};
use super::step::{Copy, Parts, Shown};
use crate::ids::RequestId;
use crate::record::{Record, Sink, Snapshot, StepRecord};
use crate::states::{Passage, States};
use crate::units::SimTime;

/// Threads of the server's process, in the order in which they stand.
pub(super) const STEPS: u64 = 1;
pub(super) const COMPUTE: u64 = 2;
pub(super) const HOST_TO_GPU: u64 = 3;
pub(super) const GPU_TO_HOST: u64 = 4;
pub(super) const PROMPTS_TO_HOST: u64 = 5;
pub(super) const PLANNING: u64 = 6;

const THREADS: [(u64, &str); 6] = [
    (STEPS, "steps"),
    (COMPUTE, "compute"),
    (HOST_TO_GPU, "host → GPU"),
    (GPU_TO_HOST, "GPU → host"),
    (PROMPTS_TO_HOST, "GPU → host, prompts"),
    (PLANNING, "planning"),
];

/// Of whom a trace is.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Place of the policy in the file, from 0.
    pub place: u64,
    /// Its key.
    pub key: &'a str,
    /// Names of the requests, in the order of their [`RequestId`]s.
    pub requests: Vec<&'a str>,
}

impl Subject<'_> {
    /// What a request is called in the picture: its name, and that it is a request where that is a number.
    fn called(&self, request: RequestId) -> String {
        let name = self.requests[request.index()];
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            format!("request {name}")
        } else {
            name.to_owned()
        }
    }
}

/// The steps that are shown, the last one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first, counted over all steps from 0.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Window {
    /// Every step.
    pub const ALL: Window = Window { first: 0, last: u64::MAX };
}

/// A sink that writes what it sees as trace events; see the module.
#[derive(Debug)]
pub struct Perfetto<'a, W: Write> {
    events: &'a mut Events<W>,
    subject: Subject<'a>,
    window: Window,
    states: States,
    /// What the newest snapshot showed, until the step it belongs to.
    shown: Option<Shown>,
    /// The last copy on the way to the GPU: it may run on into the next step, so it is written once its end is known.
    last_copy: Option<Copy>,
    /// The step that comes next.
    next_step: u64,
    /// When the first step that is shown began.
    since: Option<SimTime>,
    /// When the newest step ended.
    now: SimTime,
    /// The newest values of each counter.
    counters: [Vec<u64>; 3],
}

impl<'a, W: Write> Perfetto<'a, W> {
    /// A sink into `events`, for one run.
    pub fn new(events: &'a mut Events<W>, subject: Subject<'a>, window: Window) -> Self {
        let (server, requests) = (2 * subject.place + 1, 2 * subject.place + 2);
        events.name_process(server, &format!("{}: server", subject.key));
        for (thread, name) in THREADS {
            events.name_thread(Track { process: server, thread }, name);
        }
        events.name_process(requests, &format!("{}: requests", subject.key));
        Perfetto {
            events,
            subject,
            window,
            states: States::default(),
            shown: None,
            last_copy: None,
            next_step: 0,
            since: (window.first == 0).then_some(SimTime::ZERO),
            now: SimTime::ZERO,
            counters: Default::default(),
        }
    }

    /// Writes what was still under way.
    pub fn finish(mut self) {
        if self.is_shown() {
            self.close();
        }
    }

    fn server(&self, thread: u64) -> Track {
        Track { process: 2 * self.subject.place + 1, thread }
    }

    fn request_track(&self, request: RequestId) -> Track {
        Track { process: 2 * self.subject.place + 2, thread: u64::from(request.0) + 1 }
    }

    fn name(&self, request: RequestId) -> &'a str {
        self.subject.requests[request.index()]
    }

    /// Whether the next step is in the window: what takes effect before it is, too.
    fn is_shown(&self) -> bool {
        (self.window.first..=self.window.last).contains(&self.next_step)
    }

    /// Whether the next step is in the window or before it.
    fn is_followed(&self) -> bool {
        self.next_step <= self.window.last
    }

    /// Ends the picture here.
    fn close(&mut self) {
        self.flush_copy();
        let open: Vec<_> = self.states.open_until(self.now).collect();
        for (request, passage) in open {
            self.pass(request, passage);
        }
        self.count(self.now, [vec![0], vec![0], vec![0, 0, 0]]);
    }

    /// A state of a request, as far as it is in the window, or its end.
    fn pass(&mut self, request: RequestId, passage: Passage) {
        let Some(since) = self.since else { return };
        let track = self.request_track(request);
        match passage {
            Passage::Was { state, start, end } => {
                self.events.slice(track, "state", state.name(), (start.max(since), end.max(since)), &[]);
            }
            Passage::Ended { end, at } => self.events.instant(track, "end", end.name(), at, &[]),
        }
    }

    fn count(&mut self, at: SimTime, values: [Vec<u64>; 3]) {
        let process = self.server(0).process;
        let names: [(&str, &[&str]); 3] = [
            ("GPU layer-blocks", &["in use"]),
            ("host bytes", &["in use"]),
            ("requests", &["running", "paused", "waiting"]),
        ];
        for ((name, keys), (values, newest)) in names.iter().zip(values.into_iter().zip(&mut self.counters)) {
            if values != *newest {
                let series: Vec<_> =
                    keys.iter().zip(&values).map(|(key, value)| (*key, Value::Count(*value))).collect();
                self.events.counter(process, name, at, &series);
                *newest = values;
            }
        }
    }

    fn step(&mut self, step: &StepRecord) {
        let shown = self.shown.take().unwrap_or_default();
        if !self.is_shown() {
            if self.is_followed() {
                // Who knows what the copy is that runs on into the window?
                let parts = self.parts(step, &shown);
                self.last_copy = parts.copies.last().copied().or(self.last_copy);
            }
            return;
        }
        let since = *self.since.get_or_insert(step.start);
        if self.now < step.start && since < step.start {
            // Nothing was there between the two steps, or a step would have been made.
            self.count(self.now, [vec![0], vec![0], vec![0, 0, 0]]);
        }
        let (running, paused, waiting) =
            (u64::from(step.running), u64::from(step.paused), u64::from(step.waiting));
        let requests = vec![running, paused, waiting];
        self.count(step.start, [vec![step.gpu_blocks], vec![step.host_bytes.get()], requests]);
        self.whole_step(step);
        let parts = self.parts(step, &shown);
        self.write(step, &parts);
    }

    fn whole_step(&mut self, step: &StepRecord) {
        let mut args = vec![
            ("step", Value::Count(step.index)),
            ("running", Value::Count(step.running.into())),
            ("paused", Value::Count(step.paused.into())),
            ("waiting", Value::Count(step.waiting.into())),
            ("compute_us", Value::Span(step.compute)),
            ("stall_us", Value::Span(step.stall)),
            ("prefill_us", Value::Span(step.prefill)),
            ("restore_us", Value::Span(step.restore)),
            ("planning_us", Value::Span(step.planning)),
            ("h2d_prefetch_bytes", Value::Count(step.h2d_prefetch.get())),
            ("h2d_restore_bytes", Value::Count(step.h2d_restore.get())),
            ("d2h_bytes", Value::Count(step.d2h.get())),
        ];
        args.extend(step.forecast.map(|forecast| ("forecast_us", Value::Span(forecast))));
        args.extend(step.trigger.map(|trigger| ("trigger", Value::Text(trigger.name()))));
        let name = format!("{} {}", step.kind.name(), step.index);
        let when = (step.start, step.start + step.duration);
        self.events.slice(self.server(STEPS), "step", &name, when, &args);
    }

    /// What the step is made of. The last copy is lengthened if it ran on.
    fn parts(&mut self, step: &StepRecord, shown: &Shown) -> Parts {
        if let (Some(end), Some(copy)) = (shown.carried_until(), &mut self.last_copy) {
            copy.end = end;
        }
        Parts::new(step, shown, self.last_copy.as_ref())
    }

    /// Writes what the step is made of, on the tracks of compute and copies.
    fn write(&mut self, step: &StepRecord, parts: &Parts) {
        for copy in &parts.copies {
            self.flush_copy();
            self.last_copy = Some(*copy);
        }
        for part in &parts.compute {
            let name = match part.waits_for {
                Some((request, layer)) => {
                    format!("{}: {} layer {layer}", part.what, self.subject.called(request))
                }
                None => part.what.clone(),
            };
            let args: &[_] = match part.waits_for {
                Some((request, layer)) => &[
                    ("waits_for_request", Value::Text(self.name(request))),
                    ("layer", Value::Count(layer.0.into())),
                ],
                None => &[],
            };
            self.events.slice(self.server(COMPUTE), part.category, &name, part.when, args);
        }
        if let Some(writes) = parts.writes {
            let args = [("bytes", Value::Count(step.d2h.get())), ("busy_us", Value::Span(writes.busy))];
            let name = format!("rows of step {}", step.index);
            self.events.slice(self.server(GPU_TO_HOST), "write", &name, writes.when, &args);
        }
        if let Some(when) = parts.prompts_written {
            let args = [("bytes", Value::Count(step.d2h.get()))];
            let track = self.server(PROMPTS_TO_HOST);
            self.events.slice(track, "prompt_write", "prompts", when, &args);
        }
    }

    fn flush_copy(&mut self) {
        let since = self.since.unwrap_or_default();
        let Some(copy) = self.last_copy.take().filter(|copy| copy.end > since) else { return };
        let Copy { request, layer, bytes, start, end, purpose } = copy;
        let name = format!("{} layer {layer}", self.subject.called(request));
        let args = [
            ("request", Value::Text(self.name(request))),
            ("layer", Value::Count(layer.0.into())),
            ("bytes", Value::Count(bytes.get())),
        ];
        self.events.slice(self.server(HOST_TO_GPU), purpose.name(), &name, (start, end), &args);
    }

    /// What is no slice: plans, placements and arrivals.
    fn happen(&mut self, record: &Record<'_>) {
        match *record {
            Record::Arrived { request, .. } => {
                let name = self.subject.called(request);
                self.events.name_thread(self.request_track(request), &name);
            }
            Record::Planned { at, trigger, solves, infeasible_memory, infeasible_slo, node_cap_hit } => {
                let feasible = infeasible_memory + infeasible_slo == 0;
                let name = format!("plan: {}{}", trigger.name(), if feasible { "" } else { ", infeasible" });
                let args = [
                    ("trigger", Value::Text(trigger.name())),
                    ("solves", Value::Count(solves.into())),
                    ("feasible", Value::Flag(feasible)),
                    ("infeasible_memory", Value::Count(infeasible_memory.into())),
                    ("infeasible_slo", Value::Count(infeasible_slo.into())),
                    ("node_cap_hit", Value::Flag(node_cap_hit)),
                ];
                self.events.instant(self.server(PLANNING), "plan", &name, at, &args);
            }
            Record::PlacementRefused { at } => {
                self.events.instant(self.server(PLANNING), "plan", "placement refused", at, &[]);
            }
            Record::Placed { at, request, placement, restored } => {
                let layers: Vec<String> = placement.offloaded.iter().map(|layer| layer.to_string()).collect();
                let args = [
                    ("layers_on_host", Value::Text(&layers.join(" "))),
                    ("to_restore", Value::Count(restored.into())),
                ];
                let name = format!("placed: {} layers on the host", layers.len());
                self.events.instant(self.request_track(request), "placed", &name, at, &args);
            }
            _ => {}
        }
    }
}

impl<W: Write> Sink for Perfetto<'_, W> {
    fn record(&mut self, record: &Record<'_>) {
        let shown = self.is_shown();
        if shown || (self.next_step < self.window.first && matches!(record, Record::Arrived { .. })) {
            self.happen(record);
        }
        if let Record::Step { step, .. } = record {
            self.step(step);
            self.now = step.start + step.duration;
        }
        let mut over = Vec::new();
        self.states.follow(record, |request, passage| over.push((request, passage)));
        if shown {
            over.into_iter().for_each(|(request, passage)| self.pass(request, passage));
        }
        if let Record::Step { step, .. } = record {
            self.next_step = step.index + 1;
            if shown && !self.is_shown() {
                self.close();
            }
        }
    }

    fn inspects(&self) -> bool {
        self.is_followed()
    }

    fn inspect(&mut self, snapshot: &Snapshot<'_>) {
        if self.is_followed() {
            self.shown = Some(Shown::of(snapshot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{StepKind, Trigger};
    use crate::script::{Script, blank, ms};
    use crate::units::Bytes;

    /// A request with a prefill of 10 ms, and one decode step: two layers of 4 ms, and a copy of 9 ms for the second.
    fn script() -> Script {
        let mut script = Script::default();
        script.arrive(0);
        script.admit(0);
        script.prefill(ms(10), &[0]);
        script.plan(Trigger::LiveSet);
        let parts = StepRecord {
            compute: ms(8),
            stall: ms(5),
            planning: ms(1),
            h2d_prefetch: Bytes::new(7),
            ..blank(StepKind::Decode)
        };
        script.step(parts, &[0]);
        script.finish(0);
        script
    }

    fn lines(window: Window) -> Vec<String> {
        let mut events = Events::new(Vec::new());
        let subject = Subject { place: 0, key: "static-1", requests: vec!["17"] };
        let mut perfetto = Perfetto::new(&mut events, subject, window);
        script().replay(&mut perfetto);
        perfetto.finish();
        let (text, _) = events.finish().unwrap();
        String::from_utf8(text).unwrap().split(",\n").map(str::to_owned).collect()
    }

    fn slices(lines: &[String]) -> Vec<&str> {
        lines.iter().filter(|line| line.starts_with(r#"{"ph":"X""#)).map(String::as_str).collect()
    }

    #[test]
    fn a_stall_names_the_copy_that_it_waits_for() {
        // Prefill 0–10 ms, planning 10–11. The decode part starts at 11: layer 1 11–15, the copy 11–20, layer 2 20–24.
        let lines = lines(Window::ALL);
        let compute: Vec<&str> =
            slices(&lines).into_iter().filter(|line| line.contains(r#""tid":2,"#)).collect();
        assert_eq!(
            compute,
            [
                r#"{"ph":"X","pid":1,"tid":2,"ts":0.000000,"dur":10000.000000,"cat":"prefill","name":"prefill"}"#,
                r#"{"ph":"X","pid":1,"tid":2,"ts":10000.000000,"dur":1000.000000,"cat":"planning","name":"planning"}"#,
                r#"{"ph":"X","pid":1,"tid":2,"ts":11000.000000,"dur":4000.000000,"cat":"layer","name":"layer 1"}"#,
                r#"{"ph":"X","pid":1,"tid":2,"ts":15000.000000,"dur":5000.000000,"cat":"stall","name":"stall: request 17 layer 2","args":{"waits_for_request":"17","layer":2}}"#,
                r#"{"ph":"X","pid":1,"tid":2,"ts":20000.000000,"dur":4000.000000,"cat":"layer","name":"layer 2"}"#,
            ]
        );
        let copy = r#"{"ph":"X","pid":1,"tid":3,"ts":11000.000000,"dur":9000.000000,"cat":"prefetch","name":"request 17 layer 2","args":{"request":"17","layer":2,"bytes":7}}"#;
        assert!(lines.iter().any(|line| line == copy), "{lines:#?}");
    }

    #[test]
    fn states_plans_counters_and_ends_stand_on_their_tracks() {
        let lines = lines(Window::ALL);
        for expected in [
            r#"{"ph":"M","pid":2,"tid":1,"name":"thread_name","args":{"name":"request 17"}}"#,
            r#"{"ph":"X","pid":2,"tid":1,"ts":0.000000,"dur":10000.000000,"cat":"state","name":"prefill"}"#,
            r#"{"ph":"X","pid":2,"tid":1,"ts":10000.000000,"dur":14000.000000,"cat":"state","name":"decode"}"#,
            r#"{"ph":"i","pid":2,"tid":1,"ts":24000.000000,"cat":"end","s":"t","name":"finished"}"#,
            // The script's plan has an instance that no placement serves within the SLO.
            r#"{"ph":"i","pid":1,"tid":6,"ts":10000.000000,"cat":"plan","s":"t","name":"plan: live_set, infeasible","args":{"trigger":"live_set","solves":1,"feasible":false,"infeasible_memory":0,"infeasible_slo":1,"node_cap_hit":false}}"#,
            r#"{"ph":"C","pid":1,"tid":0,"ts":0.000000,"cat":"counter","name":"GPU layer-blocks","args":{"in use":10}}"#,
            r#"{"ph":"C","pid":1,"tid":0,"ts":24000.000000,"cat":"counter","name":"GPU layer-blocks","args":{"in use":0}}"#,
        ] {
            assert!(lines.iter().any(|line| line == expected), "no {expected} in {lines:#?}");
        }
    }

    #[test]
    fn a_window_has_no_step_before_or_after_it() {
        let lines = lines(Window { first: 1, last: 1 });
        let slices = slices(&lines);
        assert!(slices.iter().all(|line| !line.contains(r#""ts":0."#)), "{slices:#?}");
        assert!(slices.iter().any(|line| line.contains(r#""name":"decode 1""#)));
    }
}
