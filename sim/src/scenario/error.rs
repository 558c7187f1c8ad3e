//! What can be wrong with a scenario: every message names the place, the key, the value and what was expected.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the scenario file, from 1.
    Line {
        /// The file as it was named, `-` for stdin.
        file: String,
        /// The line.
        line: usize,
    },
    /// An override on the command line, with its text.
    Override(String),
    /// The file as a whole: a key that is missing, a value that is a default.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line { file, line } => write!(f, "{file}:{line}"),
            Place::Override(text) => write!(f, "`--set {text}`"),
            Place::File(file) => f.write_str(file),
        }
    }
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{}: cannot read the scenario: {cause}{}", path.display(), hint_line(hint.as_deref()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The text is not TOML.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser said, on one line.
        message: String,
    },
    /// A key that does not exist there.
    #[error("{place}: {key}: unknown key{}", hint_line(Some(hint)))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The dotted key.
        key: String,
        /// The nearest known key, or the section that it belongs to.
        hint: String,
    },
    /// A key that must be there and is not.
    #[error("{place}: {key}: missing: expected {expected}{}", hint_line(hint.as_deref()))]
    Missing {
        /// The file.
        place: Place,
        /// The dotted key.
        key: String,
        /// What was expected.
        expected: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A value that cannot be used.
    #[error(transparent)]
    BadValue(Box<BadValue>),
}

/// A value that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {key}: {value}: {problem}{}", hint_line(hint.as_deref()))]
pub struct BadValue {
    /// Where.
    pub place: Place,
    /// The dotted key.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// What is wrong: `expected …`.
    pub problem: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<BadValue> for ScenarioError {
    fn from(error: BadValue) -> Self {
        ScenarioError::BadValue(Box::new(error))
    }
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default()
}
