//! What a key of a scenario is, and finding one: by name, by section, or the nearest to a misspelt one.

pub use super::key_table::KEYS;
use super::quantity::{self, Dimension};

/// A part of the file. Switches of design §3 stand in `[engine]`, those of §4 in `[planner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectionName {
    /// Before the first header.
    Top,
    /// `[trace]`.
    Trace,
    /// `trace.draw`.
    Draw,
    /// `[slo]`.
    Slo,
    /// `[prefill]`.
    Prefill,
    /// `[engine]`.
    Engine,
    /// `engine.noise`.
    Noise,
    /// `[planner]`, and the overrides of one policy.
    Planner,
}

impl SectionName {
    /// Every section, in the order of the file.
    pub const ALL: [SectionName; 8] = [
        SectionName::Top,
        SectionName::Trace,
        SectionName::Draw,
        SectionName::Slo,
        SectionName::Prefill,
        SectionName::Engine,
        SectionName::Noise,
        SectionName::Planner,
    ];

    /// Whether its keys are shown in the one line of the key that holds it.
    pub const fn is_inline(self) -> bool {
        matches!(self, SectionName::Draw | SectionName::Noise)
    }

    /// The dotted path of its table, empty for the top.
    pub const fn path(self) -> &'static str {
        match self {
            SectionName::Top => "",
            SectionName::Trace => "trace",
            SectionName::Draw => "trace.draw",
            SectionName::Slo => "slo",
            SectionName::Prefill => "prefill",
            SectionName::Engine => "engine",
            SectionName::Noise => "engine.noise",
            SectionName::Planner => "planner",
        }
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A string that is not empty.
    Text,
    /// A quantity; `words` may stand instead of it.
    Quantity {
        /// Duration, bytes or rate.
        dimension: Dimension,
        /// Whether zero is allowed.
        zero: bool,
        /// For example `off`.
        words: &'static [&'static str],
    },
    /// A whole number in a range.
    Count {
        /// Smallest.
        least: u64,
        /// Largest.
        most: u64,
    },
    /// A finite number in a range.
    Number {
        /// Smallest.
        least: f64,
        /// Largest.
        most: f64,
    },
    /// One or several different finite numbers in a range.
    Numbers {
        /// Smallest.
        least: f64,
        /// Largest.
        most: f64,
    },
    /// `true` or `false`.
    Switch,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// In which steps prompts are processed: `separate`, `chunked:N` or `chunked:inf`.
    Prefill,
    /// A table of its own, whose keys stand in this table too.
    Section(SectionName),
    /// The list of policies.
    Policies,
}

/// How `orbitflow init` shows a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    /// Set to this TOML value.
    Set(&'static str),
    /// As a comment, with this value.
    Comment(&'static str),
    /// As a comment, with the value that the semantics give it.
    Preset,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Where it stands.
    pub section: SectionName,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// In a printed scenario.
    pub shown: Shown,
    /// What it means, on one line.
    pub about: &'static str,
}

/// Sections that are tables at the top of the file.
pub const TOP_TABLES: [SectionName; 5] =
    [SectionName::Trace, SectionName::Slo, SectionName::Prefill, SectionName::Engine, SectionName::Planner];

/// Keys of `[planner]` that one policy may have its own value for: all but what the engine's admission reads.
pub fn policy_may_override(key: &Key) -> bool {
    key.section == SectionName::Planner && key.name != "admit_past_paused"
}

/// The keys of a section.
pub fn keys_of(section: SectionName) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// The key of that name in that section.
pub fn find(section: SectionName, name: &str) -> Option<&'static Key> {
    keys_of(section).find(|key| key.name == name)
}

/// What a value of an axis is as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AxisNumber {
    /// In seconds, bytes or bytes per second if it has a dimension.
    pub value: f64,
    /// Of a quantity.
    pub dimension: Option<Dimension>,
}

/// The number that a value is, as the key of that dotted name takes it; `None` for words, and for axes with a name of
/// their own, whose values are names.
pub fn axis_number(axis: &str, text: &str) -> Option<AxisNumber> {
    let (path, name) = axis.rsplit_once('.').unwrap_or(("", axis));
    let key = KEYS.iter().find(|key| key.name == name && key.section.path() == path)?;
    let plain = |value: f64| value.is_finite().then_some(AxisNumber { value, dimension: None });
    match key.kind {
        Kind::Count { .. } | Kind::Number { .. } | Kind::Numbers { .. } => plain(text.parse().ok()?),
        Kind::Quantity { dimension, .. } => {
            let value = match dimension {
                Dimension::Duration => quantity::duration(text).ok()?.as_secs_f64(),
                Dimension::Bytes => quantity::bytes(text).ok()?.get() as f64,
                Dimension::Rate => quantity::rate(text).ok()?.get() as f64,
            };
            Some(AxisNumber { value, dimension: Some(dimension) })
        }
        Kind::Text | Kind::Switch | Kind::Choice(_) | Kind::Prefill | Kind::Section(_) | Kind::Policies => {
            None
        }
    }
}

/// What to say about a key that does not exist in `section`: where it belongs, or the nearest one there is.
pub fn hint_for_unknown(section: SectionName, name: &str) -> String {
    let elsewhere = KEYS.iter().find(|key| key.name == name && key.section != section);
    if let Some(key) = elsewhere {
        return match key.section {
            SectionName::Top => format!("`{name}` stands at the top of the file, before the first [section]"),
            section if section.is_inline() => format!("`{name}` belongs in {}", section.path()),
            section => format!("`{name}` belongs in [{}]", section.path()),
        };
    }
    if let Some(table) = TOP_TABLES.iter().find(|table| section != SectionName::Top && table.path() == name) {
        return format!("[{}] is a section of its own, at the top of the file", table.path());
    }
    let tables = TOP_TABLES.iter().filter(|_| section == SectionName::Top).map(|table| table.path());
    let here = nearest(name, keys_of(section).map(|key| key.name).chain(tables));
    let anywhere = nearest(name, KEYS.iter().map(|key| key.name));
    match (here, anywhere) {
        (Some((here, near)), Some((_, nearer))) if near <= nearer => format!("the nearest key is `{here}`"),
        (_, Some((anywhere, _))) => {
            let owner =
                KEYS.iter().find(|key| key.name == anywhere).map_or(SectionName::Top, |key| key.section);
            let path = if owner == SectionName::Top {
                "at the top of the file".to_owned()
            } else {
                format!("in [{}]", owner.path())
            };
            format!("the nearest key is `{anywhere}`, {path}")
        }
        _ => "this section has no keys".to_owned(),
    }
}

/// The hint for a word that is none of `known`: the nearest, if at most half of it would have to change.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let (nearest, edits) = nearest(word, known)?;
    (edits <= nearest.len() / 2).then(|| format!("did you mean `{nearest}`?"))
}

/// The name with the fewest edits from `name`, the first among equals, and how many.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    let distance = |known: &'a str| (known, strsim::damerau_levenshtein(&name.to_lowercase(), known));
    known.map(distance).min_by_key(|(_, edits)| *edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_a_number_where_its_key_takes_one() {
        let number = |axis, text| axis_number(axis, text).map(|number| (number.value, number.dimension));
        assert_eq!(number("trace.load", "2.5"), Some((2.5, None)));
        assert_eq!(number("trace.draw.load", "3"), Some((3.0, None)));
        assert_eq!(number("link", "7 GB/s"), Some((7e9, Some(Dimension::Rate))));
        assert_eq!(number("slo.tbt", "70 ms"), Some((0.07, Some(Dimension::Duration))));
        assert_eq!(number("gpu_kv", "1 GiB"), Some((1_073_741_824.0, Some(Dimension::Bytes))));
        let words = [
            ("planner.max_pause", "off"),
            ("slo.scale", "[1.5, 1]"),
            ("semantics", "physical"),
            ("context", "8"),
        ];
        for (axis, text) in words {
            assert_eq!(number(axis, text), None, "{axis}={text}");
        }
    }
}
