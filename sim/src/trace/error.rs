//! What can be wrong with a trace file, each as one clear line.

use std::fmt;
use std::io;

use super::format::Format;

/// Where in a trace file something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file as it was named on the command line or in the scenario.
    pub file: &'a str,
    /// The spot inside it.
    pub spot: Spot<'a>,
}

/// The spot inside a trace file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot<'a> {
    /// The file as a whole.
    File,
    /// A line, from 1.
    Line(u64),
    /// A named entry of a JSON document.
    Entry(&'a str),
    /// The n-th entry of a JSON array, from 0.
    Item(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spot {
            Spot::File => write!(f, "`{}`", self.file),
            Spot::Line(line) => write!(f, "`{}` line {line}", self.file),
            Spot::Entry(name) => write!(f, "`{}` entry `{name}`", self.file),
            Spot::Item(index) => write!(f, "`{}` requests[{index}]", self.file),
        }
    }
}

/// A trace that cannot be read. Every one is the input's fault: the run has not started.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file system refused.
    #[error("cannot read trace `{file}`: {cause}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The content starts like gzip and is not, or is cut short.
    #[error("cannot decompress trace `{file}`: {cause}")]
    Gzip {
        /// The file.
        file: String,
        /// What the decoder said.
        cause: io::Error,
    },
    /// The content is no text.
    #[error("{place}: expected UTF-8 text")]
    NotText {
        /// File and line.
        place: String,
    },
    /// There is nothing to simulate.
    #[error("`{file}` holds no requests{detail}")]
    Empty {
        /// The file.
        file: String,
        /// Why nothing is left, if something was there.
        detail: String,
    },
    /// The content is like none of the formats.
    #[error(
        "`{file}` is like no trace format that is known: expected one of {}\n\
         hint: name it with `trace.format`, or `--from`",
        Format::names()
    )]
    Unrecognised {
        /// The file.
        file: String,
    },
    /// A folder where a file was expected.
    #[error("`{file}` is a folder: only the format kv-cache-tester is read from one, not {format}")]
    Folder {
        /// The folder.
        file: String,
        /// The format that was asked for.
        format: Format,
    },
    /// Not JSON, or cut short.
    #[error("{place}: not a complete JSON object: {reason}{}", hint_json(reason))]
    Json {
        /// File, line or entry.
        place: String,
        /// What the parser said.
        reason: String,
    },
    /// Not CSV, or a row of the wrong length.
    #[error("{place}: not a row of the table: {reason}")]
    Csv {
        /// File and line.
        place: String,
        /// What the parser said.
        reason: String,
    },
    /// A column that the format needs is not in the header.
    #[error("{place}: column `{column}` is missing: expected it beside {found}")]
    MissingColumn {
        /// File and line.
        place: String,
        /// The column.
        column: &'static str,
        /// The columns that are there.
        found: String,
    },
    /// A value that cannot be.
    #[error("{place}: `{key}` is {value}: expected {expected}")]
    Value {
        /// File, line or entry.
        place: String,
        /// The key or column.
        key: String,
        /// The value as it stands in the file.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A key that must be there.
    #[error("{place}: `{key}` is missing: expected {expected}")]
    MissingKey {
        /// File, line or entry.
        place: String,
        /// The key.
        key: String,
        /// What would be right.
        expected: String,
    },
    /// A key of our own format that does not exist.
    #[error("{place}: unknown key `{key}`: expected one of {known}{}", hint_nearest(nearest))]
    UnknownKey {
        /// File and line.
        place: String,
        /// The key.
        key: String,
        /// The keys that exist.
        known: String,
        /// The nearest of them, if one is near.
        nearest: Option<String>,
    },
    /// Two requests with one name.
    #[error("{place}: id `{id}` is taken by an earlier request: expected every id once")]
    DuplicateId {
        /// File, line or entry.
        place: String,
        /// The name.
        id: String,
    },
    /// A line in seconds in a trace in steps, or the other way round.
    #[error(
        "{place}: `{key}` in a trace whose earlier requests have `{earlier}`: expected one of the two throughout"
    )]
    MixedArrivals {
        /// File and line.
        place: String,
        /// The key on this line.
        key: &'static str,
        /// The key of the lines before.
        earlier: &'static str,
    },
    /// The format has lengths only, and no arrival process was named.
    #[error(
        "`{file}` holds lengths without arrivals: expected an arrival process\n\
         hint: set `arrivals`, for example to \"poisson:0.5\" (requests per second) or \"at-once\""
    )]
    NoArrivals {
        /// The file.
        file: String,
    },
    /// An arrival process for a file that has arrivals.
    #[error(
        "`arrivals` is {process}, but `{file}` says itself when its requests arrive\n\
         hint: leave `arrivals` out; change the load with `load`"
    )]
    ArrivalsGiven {
        /// The file.
        file: String,
        /// The process that was asked for.
        process: String,
    },
    /// A request that arrives after the end of simulated time.
    #[error("`{file}` request `{id}` arrives after 213 days: expected less, the range of simulated time")]
    TooLate {
        /// The file.
        file: String,
        /// The request.
        id: String,
    },
    /// An option of the reader that cannot be.
    #[error("`{option}` is {value}: expected {expected}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// What people do to JSON, from what the parser says.
fn hint_json(reason: &str) -> &'static str {
    if reason.starts_with("EOF") {
        "\nhint: the file seems to be cut off"
    } else if reason.starts_with("expected value") {
        "\nhint: JSON has no NaN, Infinity, comments or trailing commas"
    } else {
        ""
    }
}

fn hint_nearest(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |key| format!("\nhint: did you mean `{key}`?"))
}
