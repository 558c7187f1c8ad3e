//! Trace events as text: the only file that knows their JSON.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use crate::units::{SimDuration, SimTime};

/// Where an event stands: a process, and a thread of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Track {
    pub process: u64,
    pub thread: u64,
}

/// The value of an argument.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Count(u64),
    Flag(bool),
    Span(SimDuration),
}

/// Arguments: what a viewer shows of an event that is clicked on.
pub(super) type Args<'a> = &'a [(&'a str, Value<'a>)];

/// Trace events on their way into `out`: one a line, a comma between two. What cannot be written is kept and said at the
/// end; nothing is written after it.
#[derive(Debug)]
pub struct Events<W> {
    out: W,
    line: String,
    count: u64,
    error: Option<io::Error>,
}

impl<W: Write> Events<W> {
    /// Events into `out`.
    pub fn new(out: W) -> Self {
        Events { out, line: String::new(), count: 0, error: None }
    }

    /// Ends the writing: what was written to, and how many events.
    ///
    /// # Errors
    /// The first thing that could not be written.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        match self.error {
            Some(error) => Err(error),
            None => self.out.flush().map(|()| (self.out, self.count)),
        }
    }

    /// The name of a process, and its place among them.
    pub(super) fn name_process(&mut self, process: u64, name: &str) {
        let track = Track { process, thread: 0 };
        self.event('M', track, "process_name", None, &[("name", Value::Text(name))]);
        self.event('M', track, "process_sort_index", None, &[("sort_index", Value::Count(process))]);
    }

    /// The name of a thread; they stand in the order of their numbers.
    pub(super) fn name_thread(&mut self, track: Track, name: &str) {
        self.event('M', track, "thread_name", None, &[("name", Value::Text(name))]);
        self.event('M', track, "thread_sort_index", None, &[("sort_index", Value::Count(track.thread))]);
    }

    /// Something that took from `start` to `end`; nothing if that is no time.
    pub(super) fn slice(
        &mut self,
        track: Track,
        category: &str,
        name: &str,
        (start, end): (SimTime, SimTime),
        args: Args<'_>,
    ) {
        if start < end {
            let when = When { start, span: Some(end.since(start)), category };
            self.event('X', track, name, Some(when), args);
        }
    }

    /// Something that happened at an instant.
    pub(super) fn instant(&mut self, track: Track, category: &str, name: &str, at: SimTime, args: Args<'_>) {
        self.event('i', track, name, Some(When { start: at, span: None, category }), args);
    }

    /// Values that hold from an instant on.
    pub(super) fn counter(&mut self, process: u64, name: &str, at: SimTime, values: Args<'_>) {
        let when = When { start: at, span: None, category: "counter" };
        self.event('C', Track { process, thread: 0 }, name, Some(when), values);
    }

    fn event(&mut self, phase: char, track: Track, name: &str, when: Option<When<'_>>, args: Args<'_>) {
        if self.error.is_some() {
            return;
        }
        self.line.clear();
        let event = Event { phase, track, name, when, args };
        let separator = if self.count == 0 { "" } else { ",\n" };
        let written = write!(self.line, "{separator}{event}").map_err(io::Error::other);
        self.error = written.and_then(|()| self.out.write_all(self.line.as_bytes())).err();
        self.count += 1;
    }
}

#[derive(Clone, Copy)]
struct When<'a> {
    start: SimTime,
    span: Option<SimDuration>,
    category: &'a str,
}

struct Event<'a> {
    phase: char,
    track: Track,
    name: &'a str,
    when: Option<When<'a>>,
    args: Args<'a>,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Track { process, thread } = self.track;
        write!(f, r#"{{"ph":"{}","pid":{process},"tid":{thread}"#, self.phase)?;
        if let Some(When { start, span, category }) = self.when {
            write!(f, r#","ts":{}"#, Micros(start.as_picos()))?;
            if let Some(span) = span {
                write!(f, r#","dur":{}"#, Micros(span.as_picos()))?;
            }
            write!(f, r#","cat":"{category}""#)?;
        }
        if self.phase == 'i' {
            // Its mark is as high as its track.
            f.write_str(r#","s":"t""#)?;
        }
        write!(f, r#","name":{}"#, Quoted(self.name))?;
        for (index, (key, value)) in self.args.iter().enumerate() {
            let before = if index == 0 { r#","args":{"# } else { "," };
            write!(f, r#"{before}"{key}":{value}"#)?;
        }
        f.write_str(if self.args.is_empty() { "}" } else { "}}" })
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{}", Quoted(text)),
            Value::Count(count) => write!(f, "{count}"),
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Span(span) => write!(f, "{}", Micros(span.as_picos())),
        }
    }
}

/// Picoseconds as an exact number of microseconds.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A text as a JSON string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_to_the_picosecond() {
        let micros = |picos: u64| Micros(picos).to_string();
        assert_eq!(
            [0, 1, 999_999, 1_500_000_000, u64::MAX].map(micros),
            ["0.000000", "0.000001", "0.999999", "1500.000000", "18446744073709.551615"]
        );
    }

    #[test]
    fn names_are_free_text() {
        let mut events = Events::new(Vec::new());
        let track = Track { process: 1, thread: 2 };
        events.name_thread(track, "a \"b\" \\ \n ü");
        events.slice(
            track,
            "state",
            "</script>",
            (SimTime::ZERO, SimTime::from_picos(7)),
            &[("who", Value::Text("\u{1}")), ("feasible", Value::Flag(true))],
        );
        events.slice(track, "state", "no time", (SimTime::ZERO, SimTime::ZERO), &[]);
        let (text, count) = events.finish().unwrap();
        let all: serde_json::Value =
            serde_json::from_str(&format!("[{}]", String::from_utf8(text).unwrap())).unwrap();
        assert_eq!((count, all.as_array().unwrap().len()), (3, 3));
        assert_eq!(all[0]["args"]["name"], "a \"b\" \\ \n ü");
        assert_eq!((&all[2]["name"], &all[2]["args"]["who"]), (&"</script>".into(), &"\u{1}".into()));
    }

    #[test]
    fn what_cannot_be_written_is_said_at_the_end() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut events = Events::new(Full);
        events.name_process(1, "server");
        assert_eq!(events.finish().map(|(_, count)| count).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
