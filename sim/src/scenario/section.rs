//! One section of a scenario: refuses keys it does not know and reads the others as the key table says.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ChoiceError;

use super::document::{Node, Table, Value, shorten};
use super::error::{BadValue, Place, ScenarioError};
use super::keys::{self, Key, Kind, SectionName};
use super::quantity::{self, BadQuantity, Dimension};
use crate::server::Prefill;
use crate::units::{Bytes, BytesPerSec, SimDuration};

/// A table of the file with the keys that may stand in it.
pub struct Section<'a> {
    name: SectionName,
    /// Dotted path in messages; differs from the name's for the overrides of one policy.
    path: String,
    table: Option<&'a Table>,
    file: &'a str,
}

/// A quantity or a word that may stand instead of it.
pub enum OrWord<T> {
    /// The quantity.
    Quantity(T),
    /// The word.
    Word,
}

impl<'a> Section<'a> {
    /// The section `name` of the document; an absent one has no keys.
    ///
    /// # Errors
    /// A value in its place that is no table; a key that it does not have.
    pub fn open(root: &'a Table, name: SectionName, file: &'a str) -> Result<Self, ScenarioError> {
        let mut table = Some(root);
        for part in name.path().split('.').filter(|part| !part.is_empty()) {
            table = match table.and_then(|table| table.get(part)) {
                None => None,
                Some(entry) => match &entry.node.value {
                    Value::Table(inner) => Some(inner),
                    _ => return Err(bad_node(&entry.node, name.path(), "expected a table", None)),
                },
            };
        }
        let section = Section { name, path: name.path().to_owned(), table, file };
        section.refuse_unknown()?;
        Ok(section)
    }

    /// The overrides of one policy: the keys of `[planner]` in a table of the list of policies. Its keys have been
    /// checked by the caller.
    pub fn of_policy(path: String, table: &'a Table, file: &'a str) -> Self {
        Section { name: SectionName::Planner, path, table: Some(table), file }
    }

    fn refuse_unknown(&self) -> Result<(), ScenarioError> {
        let tables = keys::TOP_TABLES.iter().filter(|_| self.name == SectionName::Top);
        let known = |key: &str| {
            keys::find(self.name, key).is_some() || tables.clone().any(|table| table.path() == key)
        };
        let entries = self.table.map_or(&[][..], |table| &table.entries);
        match entries.iter().find(|entry| !known(&entry.key)) {
            None => Ok(()),
            Some(entry) => Err(ScenarioError::UnknownKey {
                place: entry.place.clone(),
                key: self.dotted(&entry.key.escape_debug().to_string()),
                hint: keys::hint_for_unknown(self.name, &entry.key),
            }),
        }
    }

    /// Whether the section was written at all, and not empty.
    pub fn is_given(&self) -> bool {
        self.table.is_some_and(|table| !table.entries.is_empty())
    }

    /// The value of a key, if it was given.
    pub fn node(&self, name: &str) -> Option<&'a Node> {
        self.table.and_then(|table| table.get(name)).map(|entry| &entry.node)
    }

    /// Whether the value comes from the command line: its paths start at the working directory.
    pub fn is_override(&self, name: &str) -> bool {
        self.node(name).is_some_and(|node| matches!(node.place, Place::Override(_)))
    }

    /// The dotted path of one of its keys.
    pub fn dotted(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The error for a key that must be given and was not.
    pub fn missing(&self, name: &str, expected: &str, hint: Option<&str>) -> ScenarioError {
        ScenarioError::Missing {
            place: Place::File(self.file.to_owned()),
            key: self.dotted(name),
            expected: expected.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    /// The error for a value that cannot be used. Panics if the key was not given.
    pub fn bad(&self, name: &str, problem: &str, hint: Option<&str>) -> ScenarioError {
        let node = self.node(name).expect("Invariant: only a given value is bad");
        bad_node(node, &self.dotted(name), problem, hint)
    }

    fn key(&self, name: &str) -> &'static Key {
        keys::find(self.name, name).expect("Invariant: every key that is read stands in the key table")
    }

    fn wrong_kind<T>(&self, name: &str) -> T {
        unreachable!("Invariant: `{}` is read as what the key table says", self.dotted(name))
    }

    /// A string that is not empty.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ScenarioError> {
        match self.node(name).map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Text(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(_) => Err(self.bad(name, "expected a string that is not empty", None)),
        }
    }

    /// `true` or `false`.
    pub fn switch(&self, name: &str) -> Result<Option<bool>, ScenarioError> {
        match self.node(name).map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Switch(on)) => Ok(Some(*on)),
            Some(_) => Err(self.bad(name, "expected true or false", Some("without quotes"))),
        }
    }

    /// A whole number in the range of the key.
    pub fn count(&self, name: &str) -> Result<Option<u64>, ScenarioError> {
        let Kind::Count { least, most } = self.key(name).kind else { self.wrong_kind(name) };
        let Some(node) = self.node(name) else { return Ok(None) };
        let Value::Integer(digits) = &node.value else {
            let problem = format!("expected a whole number from {least} to {most}");
            return Err(self.bad(name, &problem, Some("without quotes and without a unit")));
        };
        let value = digits.parse().ok().filter(|value| (least..=most).contains(value));
        match value {
            Some(value) => Ok(Some(value)),
            None => Err(self.bad(name, &format!("expected a whole number from {least} to {most}"), None)),
        }
    }

    /// A count that the key table keeps within 32 bits.
    pub fn small_count(&self, name: &str) -> Result<Option<u32>, ScenarioError> {
        let narrow = |count| u32::try_from(count).expect("Invariant: the key table keeps this count small");
        Ok(self.count(name)?.map(narrow))
    }

    /// A finite number in the range of the key.
    pub fn number(&self, name: &str) -> Result<Option<f64>, ScenarioError> {
        let Kind::Number { least, most } = self.key(name).kind else { self.wrong_kind(name) };
        self.node(name).map(|node| self.number_in(node, name, least, most)).transpose()
    }

    /// One number, or a list of different ones.
    pub fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>, ScenarioError> {
        let Kind::Numbers { least, most } = self.key(name).kind else { self.wrong_kind(name) };
        let Some(node) = self.node(name) else { return Ok(None) };
        let Value::List(items) = &node.value else {
            return Ok(Some(vec![self.number_in(node, name, least, most)?]));
        };
        if items.is_empty() {
            return Err(self.bad(name, "expected at least one number", None));
        }
        let mut numbers: Vec<f64> = Vec::with_capacity(items.len());
        for item in items {
            let number = self.number_in(item, name, least, most)?;
            if numbers.contains(&number) {
                return Err(bad_node(
                    item,
                    &self.dotted(name),
                    "expected different numbers: it stands twice",
                    None,
                ));
            }
            numbers.push(number);
        }
        Ok(Some(numbers))
    }

    fn number_in(&self, node: &Node, name: &str, least: f64, most: f64) -> Result<f64, ScenarioError> {
        let number = match &node.value {
            Value::Integer(text) | Value::Float(text) => text.replace('_', "").parse::<f64>().ok(),
            _ => None,
        };
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            let problem = format!("expected a finite number from {least} to {most}");
            let hint = matches!(node.value, Value::Text(_)).then_some("without quotes");
            bad_node(node, &self.dotted(name), &problem, hint)
        })
    }

    /// One of the words of the key, as the type that bears them.
    pub fn choice<T: Deserialize<'static>>(&self, name: &str) -> Result<Option<T>, ScenarioError> {
        let Kind::Choice(words) = self.key(name).kind else { self.wrong_kind(name) };
        let Some(node) = self.node(name) else { return Ok(None) };
        let expected = format!("expected {}", quoted(words));
        let Value::Text(text) = &node.value else { return Err(self.bad(name, &expected, None)) };
        if let Some(word) = words.iter().find(|word| *word == text) {
            let word: Result<T, ChoiceError> = T::deserialize((*word).into_deserializer());
            return Ok(Some(word.expect("Invariant: the words of the key table are those of the type")));
        }
        let hint =
            keys::nearest(text, words.iter().copied()).map(|(word, _)| format!("the nearest is \"{word}\""));
        Err(self.bad(name, &expected, hint.as_deref()))
    }

    /// In which steps prompts are processed.
    pub fn prefill(&self, name: &str) -> Result<Option<Prefill>, ScenarioError> {
        if self.key(name).kind != Kind::Prefill {
            self.wrong_kind(name)
        }
        let Some(node) = self.node(name) else { return Ok(None) };
        let read = if let Value::Text(text) = &node.value { Prefill::parse(text) } else { None };
        read.map(Some).ok_or_else(|| {
            let most = Prefill::MOST_TOKENS;
            let problem = format!("expected \"separate\", \"chunked:N\" or \"chunked:inf\", N from 1 to {most}");
            let hint = "\"chunked:512\": up to 512 prompt tokens join each decode step; \"chunked:inf\": whole prompts do";
            self.bad(name, &problem, Some(hint))
        })
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Result<Option<SimDuration>, ScenarioError> {
        match self.duration_or_word(name)? {
            None => Ok(None),
            Some(OrWord::Quantity(span)) => Ok(Some(span)),
            Some(OrWord::Word) => self.wrong_kind(name),
        }
    }

    /// A duration, or the word that may stand instead of it.
    pub fn duration_or_word(&self, name: &str) -> Result<Option<OrWord<SimDuration>>, ScenarioError> {
        self.quantity(name, quantity::duration, |span| *span == SimDuration::ZERO)
    }

    /// An amount of memory, more than none.
    pub fn bytes(&self, name: &str) -> Result<Option<Bytes>, ScenarioError> {
        match self.quantity(name, quantity::bytes, |bytes| *bytes == Bytes::ZERO)? {
            None => Ok(None),
            Some(OrWord::Quantity(bytes)) => Ok(Some(bytes)),
            Some(OrWord::Word) => self.wrong_kind(name),
        }
    }

    /// A rate.
    pub fn rate(&self, name: &str) -> Result<Option<BytesPerSec>, ScenarioError> {
        match self.quantity(name, quantity::rate, |_| false)? {
            None => Ok(None),
            Some(OrWord::Quantity(rate)) => Ok(Some(rate)),
            Some(OrWord::Word) => self.wrong_kind(name),
        }
    }

    fn quantity<T>(
        &self,
        name: &str,
        parse: fn(&str) -> Result<T, BadQuantity>,
        is_zero: fn(&T) -> bool,
    ) -> Result<Option<OrWord<T>>, ScenarioError> {
        let Kind::Quantity { dimension, zero, words } = self.key(name).kind else { self.wrong_kind(name) };
        let Some(node) = self.node(name) else { return Ok(None) };
        let refuse = |error: BadQuantity| {
            let or_word = if words.is_empty() { String::new() } else { format!(", or {}", quoted(words)) };
            self.bad(name, &format!("{error}{or_word}"), error.hint.as_deref())
        };
        match &node.value {
            Value::Text(text) if words.contains(&text.as_str()) => Ok(Some(OrWord::Word)),
            Value::Text(text) => {
                let value = parse(text).map_err(refuse)?;
                if is_zero(&value) && !zero {
                    let expected = format!("{}, more than zero", dimension.expected());
                    return Err(refuse(BadQuantity { expected, hint: None }));
                }
                Ok(Some(OrWord::Quantity(value)))
            }
            Value::Integer(number) | Value::Float(number) => Err(refuse(bare_number(dimension, number))),
            _ => Err(refuse(BadQuantity { expected: dimension.expected().to_owned(), hint: None })),
        }
    }
}

/// What to say about a number without a unit; one that is no plain number is said to be none.
fn bare_number(dimension: Dimension, number: &str) -> BadQuantity {
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain {
        return BadQuantity::bare_number(dimension, number);
    }
    let hint = format!("units are {}", dimension.units());
    BadQuantity { expected: dimension.expected().to_owned(), hint: Some(hint) }
}

/// The error for a value anywhere in the file.
pub fn bad_node(node: &Node, key: &str, problem: &str, hint: Option<&str>) -> ScenarioError {
    ScenarioError::from(BadValue {
        place: node.place.clone(),
        key: key.to_owned(),
        value: shorten(&node.value.show()),
        problem: problem.to_owned(),
        hint: hint.map(str::to_owned),
    })
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(" or ")
}
