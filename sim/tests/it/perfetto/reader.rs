//! Reads trace files as a viewer would, but times to the picosecond.

use std::collections::BTreeMap;

use serde_json::Value;

/// Process and thread.
pub type Track = (u64, u64);

/// A slice, or an instant if it takes no time.
#[derive(Clone, Debug)]
pub struct Event {
    pub track: Track,
    pub category: String,
    pub name: String,
    /// Picoseconds.
    pub start: u64,
    /// Picoseconds.
    pub end: u64,
    pub args: Value,
}

impl Event {
    pub fn count(&self, key: &str) -> u64 {
        self.args[key].as_u64().unwrap_or_else(|| panic!("no `{key}` in {self:?}"))
    }

    pub fn text(&self, key: &str) -> &str {
        self.args[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {self:?}"))
    }
}

/// Everything in a file.
#[derive(Debug, Default)]
pub struct Trace {
    /// By track, in the order of their starts.
    pub slices: BTreeMap<Track, Vec<Event>>,
    pub instants: Vec<Event>,
    /// Counter name and instant, with its values.
    pub counters: Vec<Event>,
    pub processes: BTreeMap<u64, String>,
    pub threads: BTreeMap<Track, String>,
    pub about: Value,
}

/// Picoseconds of a number of microseconds that is written with six digits.
pub fn picos(micros: &str) -> u64 {
    let (whole, part) = micros.split_once('.').expect("a point");
    assert_eq!(part.len(), 6, "{micros}");
    format!("{whole}{part}").parse().expect("digits")
}

/// The number that follows `key` in a line.
fn number<'a>(line: &'a str, key: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}: {line}"));
    &rest[..rest.find([',', '}']).expect("an end")]
}

/// The whole file is one JSON object, and its events stand one a line.
pub fn read(text: &str) -> Trace {
    let whole: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(whole["displayTimeUnit"], "ms");
    let mut trace = Trace { about: whole["otherData"].clone(), ..Trace::default() };
    let events = whole["traceEvents"].as_array().expect("events");
    let lines: Vec<&str> = text.lines().skip(1).take_while(|line| *line != "]}").collect();
    assert_eq!(lines.len(), events.len());
    for (event, line) in events.iter().zip(lines) {
        let process = event["pid"].as_u64().expect("pid");
        let track = (process, event["tid"].as_u64().expect("tid"));
        let name = event["name"].as_str().expect("name").to_owned();
        let phase = event["ph"].as_str().expect("ph");
        let args = event["args"].clone();
        if phase == "M" {
            let given = args["name"].as_str().map(str::to_owned);
            match name.as_str() {
                "process_name" => drop(trace.processes.insert(process, given.expect("a name"))),
                "thread_name" => drop(trace.threads.insert(track, given.expect("a name"))),
                "process_sort_index" | "thread_sort_index" => {}
                _ => panic!("{line}"),
            }
            continue;
        }
        let start = picos(number(line, "ts"));
        let category = event["cat"].as_str().expect("cat").to_owned();
        let mut event = Event { track, category, name, start, end: start, args };
        match phase {
            "X" => {
                event.end += picos(number(line, "dur"));
                trace.slices.entry(track).or_default().push(event);
            }
            "i" => trace.instants.push(event),
            "C" => trace.counters.push(event),
            _ => panic!("{line}"),
        }
    }
    trace.slices.values_mut().for_each(|slices| slices.sort_by_key(|slice| slice.start));
    trace
}

impl Trace {
    /// The slices of the process's track of that name.
    pub fn track(&self, process: u64, name: &str) -> &[Event] {
        let track = self.threads.iter().find(|(track, given)| track.0 == process && *given == name);
        let (track, _) = track.unwrap_or_else(|| panic!("no track {name} of {process}"));
        self.slices.get(track).map_or(&[], Vec::as_slice)
    }
}
