//! What can be wrong with a hardware profile, or with asking it for a model it does not know.

use crate::model::BadSplit;

/// A profile that cannot be read or used. The message names the file or preset, the key and the value, what was
/// expected, and ends in a `hint:` line where there is a remedy.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// No preset has this name, and no file does.
    #[error("{name}: no such hardware preset or profile file{}", hint_line(hint))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest preset.
        hint: Option<String>,
    },
    /// The file is there but cannot be read.
    #[error("{file}: cannot be read: {reason}")]
    Unreadable {
        /// Path as given.
        file: String,
        /// Why.
        reason: std::io::Error,
    },
    /// The text is no profile: broken JSON, unknown or missing keys, values of a wrong kind.
    #[error("{place}: {problem}{}", hint_line(hint))]
    Malformed {
        /// File, line, column and key path, as far as known.
        place: String,
        /// The value and what was expected.
        problem: String,
        /// What to do.
        hint: Option<String>,
    },
    /// It is a profile, but one of its checks fails; one line per failure.
    #[error("{}", failures.join("\n"))]
    Unusable {
        /// Each with file, key path, value and what was expected.
        failures: Vec<String>,
    },
    /// The profile knows nothing about this model, or not in the form that was asked for.
    #[error("{device}: {problem}{}", hint_line(hint))]
    WrongModel {
        /// The profile's device.
        device: String,
        /// What it knows and what was asked for.
        problem: String,
        /// What to do.
        hint: Option<String>,
    },
    /// So many GPUs cannot split the model.
    #[error(transparent)]
    BadSplit(#[from] BadSplit),
    /// The scenario's own prefill line is no time.
    #[error("prefill {key} = {value} s is refused: expected a finite number from 0 to {most} s")]
    BadPrefill {
        /// Which of the two numbers.
        key: &'static str,
        /// Its value, seconds.
        value: f64,
        /// The most that is taken, seconds.
        most: f64,
    },
    /// The KV pool cannot be derived from the profile.
    #[error("{device}: the GPU's KV capacity cannot be derived for {model}: {problem}{}", hint_line(hint))]
    NoCapacity {
        /// The profile's device.
        device: String,
        /// The model.
        model: String,
        /// What is missing or too large, with the bytes.
        problem: String,
        /// What to do.
        hint: Option<String>,
    },
}

fn hint_line(hint: &Option<String>) -> String {
    hint.as_ref().map_or(String::new(), |hint| format!("\nhint: {hint}"))
}
