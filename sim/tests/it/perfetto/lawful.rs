//! The laws of a picture: what must be so in the trace file of one run, whatever was run.

use std::collections::BTreeMap;

use super::reader::{Event, Trace, picos};

/// Σ of something by category.
pub type Sums = BTreeMap<String, u64>;

/// What a file says of one run.
#[derive(Debug, Default)]
pub struct Told {
    /// Picoseconds of the compute track by category.
    pub compute: Sums,
    /// Bytes of copies and writes by category.
    pub bytes: Sums,
    /// Steps by the first word of their name.
    pub steps: Sums,
    /// Σ of each part over the steps, in picoseconds or bytes.
    pub parts: Sums,
    /// First arrival to the end of the last step.
    pub end: u64,
}

/// Checks the run of the policy at `place`, and adds up what it says.
pub fn check(trace: &Trace, place: u64) -> Told {
    let (server, requests) = (2 * place + 1, 2 * place + 2);
    for slices in trace.slices.values() {
        for pair in slices.windows(2) {
            assert!(pair[0].end <= pair[1].start, "slices overlap: {pair:#?}");
        }
    }
    let mut told = Told::default();
    let steps = trace.track(server, "steps");
    let compute = trace.track(server, "compute");
    let copies = trace.track(server, "host → GPU");
    told.end = steps.last().map_or(0, |step| step.end);
    let mut left = compute;
    for step in steps {
        let within = left.partition_point(|slice| slice.start < step.end);
        let (own, rest) = left.split_at(within);
        left = rest;
        check_step(step, own, &mut told);
        check_order(step, own, copies);
        *told.steps.entry(step.name.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert!(left.is_empty(), "compute outside of every step: {left:#?}");
    for stall in compute.iter().filter(|slice| slice.args.get("waits_for_request").is_some()) {
        let copy = copies.iter().find(|copy| copy.end == stall.end);
        let copy = copy.unwrap_or_else(|| panic!("no copy ends with {stall:#?}"));
        assert_eq!(copy.text("request"), stall.text("waits_for_request"));
        assert_eq!(copy.count("layer"), stall.count("layer"));
        let named = format!("{} layer {}", copy.text("request"), copy.count("layer"));
        assert!(stall.name.ends_with(&copy.name) && copy.name.ends_with(&named), "{stall:?} {copy:?}");
    }
    for name in ["host → GPU", "GPU → host", "GPU → host, prompts"] {
        for copy in trace.track(server, name) {
            *told.bytes.entry(copy.category.clone()).or_default() += copy.count("bytes");
        }
    }
    for (thread, slices) in trace.slices.range((requests, 0)..(requests + 1, 0)) {
        assert!(slices.iter().all(|slice| slice.category == "state"));
        for pair in slices.windows(2) {
            assert_eq!(pair[0].end, pair[1].start, "{thread:?} is nowhere between two states");
            assert_ne!(pair[0].name, pair[1].name);
        }
    }
    told
}

/// The parts of a step fill it, and are those of its record.
fn check_step(step: &Event, own: &[Event], told: &mut Told) {
    let mut at = step.start;
    let mut sums = Sums::new();
    for slice in own {
        assert_eq!(slice.start, at, "{step:#?}: a gap before {slice:#?}");
        at = slice.end;
        *sums.entry(slice.category.clone()).or_default() += slice.end - slice.start;
    }
    assert_eq!(at, step.end, "{step:#?} is not filled: {own:#?}");
    let part = |key: &str| picos(&step.args[key].to_string_of_six());
    let of = |categories: &[&str]| categories.iter().filter_map(|key| sums.get(*key)).sum::<u64>();
    assert_eq!(of(&["planning"]), part("planning_us"));
    assert_eq!(of(&["restore_wait"]), part("restore_us"));
    assert_eq!(of(&["stall", "intercept"]), part("stall_us"), "{step:#?} {own:#?}");
    assert_eq!(of(&["layer", "tail", "prefill"]), part("compute_us") + part("prefill_us"));
    for key in ["compute_us", "stall_us", "prefill_us", "restore_us", "planning_us"] {
        *told.parts.entry(key.to_owned()).or_default() += part(key);
    }
    for key in ["h2d_prefetch_bytes", "h2d_restore_bytes", "d2h_bytes"] {
        *told.parts.entry(key.to_owned()).or_default() += step.count(key);
    }
    for (category, sum) in sums {
        *told.compute.entry(category).or_default() += sum;
    }
}

/// No layer starts before the copies for it that began in the step have landed.
fn check_order(step: &Event, own: &[Event], copies: &[Event]) {
    let from = copies.partition_point(|copy| copy.start < step.start);
    let begun = copies[from..].iter().take_while(|copy| copy.start < step.end);
    for copy in begun.filter(|copy| copy.category != "prefetch_next") {
        let name = format!("layer {}", copy.count("layer"));
        let layer = own.iter().find(|slice| slice.category == "layer" && slice.name == name);
        let all = || own.iter().find(|slice| slice.name.starts_with("layers 1 to "));
        let layer = layer.or_else(all).unwrap_or_else(|| panic!("no {name} in {step:#?}"));
        assert!(copy.end <= layer.start, "{copy:#?} lands after {layer:#?} has started");
    }
}

trait OfSix {
    fn to_string_of_six(&self) -> String;
}

impl OfSix for serde_json::Value {
    /// A span of less than 2 h is exact in an `f64` of microseconds, to six digits.
    fn to_string_of_six(&self) -> String {
        format!("{:.6}", self.as_f64().expect("a number"))
    }
}
