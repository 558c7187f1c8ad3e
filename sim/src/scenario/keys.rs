//! What a key of a scenario is, and finding one: by name, by section, or the nearest to a misspelt one.

pub use super::key_table::KEYS;
use super::quantity::Dimension;

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
