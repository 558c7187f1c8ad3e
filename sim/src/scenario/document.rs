//! A TOML text as a tree that remembers where each value was written, and the overrides of the command line.
//!
//! Knows the syntax only: which keys exist and what they mean is for [`super::keys`] and [`super::section`].

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{BadValue, Place, ScenarioError};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// What.
    pub value: Value,
    /// Where.
    pub place: Place,
}

/// A TOML value. Numbers keep their text: it goes into messages as it was written.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer in decimal digits, sign included.
    Integer(String),
    /// A float as written, `nan` and `inf` included.
    Float(String),
    /// `true` or `false`.
    Switch(bool),
    /// A date or time: no key takes one.
    Datetime(String),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

impl Value {
    /// The value as it reads in TOML, for messages.
    pub fn show(&self) -> String {
        match self {
            Value::Text(text) => toml::Value::String(text.clone()).to_string(),
            Value::Integer(text) | Value::Float(text) | Value::Datetime(text) => text.clone(),
            Value::Switch(on) => on.to_string(),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(|item| item.value.show()).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Table(table) => {
                let entry =
                    |entry: &Entry| format!("{} = {}", entry.key.escape_debug(), entry.node.value.show());
                let entries: Vec<_> = table.entries.iter().map(entry).collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }
}

/// One key of a [`Table`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key, undotted.
    pub key: String,
    /// Where the key was written.
    pub place: Place,
    /// Its value.
    pub node: Node,
}

/// Keys and values in the order of the text, overrides last.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The entries.
    pub entries: Vec<Entry>,
}

impl Table {
    /// The entry of that key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }
}

/// A value in a message: its beginning is enough to find it again.
pub fn shorten(value: &str) -> String {
    const LONGEST: usize = 80;
    if value.chars().count() <= LONGEST {
        return value.to_owned();
    }
    let start: String = value.chars().take(LONGEST - 1).collect();
    format!("{start}…")
}

/// Pairs of keys of which only one may be given: an override of one takes the other out of the file.
pub const EXCLUSIVE: &[[&str; 2]] =
    &[["slo.scale", "slo.tbt"], ["gpu_kv_blocks", "gpu_kv"], ["trace.file", "trace.draw"]];

/// Most parts of an override's key: no section is deeper than 3.
const DEEPEST: usize = 8;

/// Parses a scenario's text; `file` is its name in messages.
///
/// # Errors
/// [`ScenarioError::Syntax`] with the line.
pub fn parse(text: &str, file: &str) -> Result<Table, ScenarioError> {
    let line = Lines { file, text };
    let document = DeTable::parse(text).map_err(|error| ScenarioError::Syntax {
        place: line.place(error.span().map_or(0, |span| span.start)),
        message: one_line(error.message()),
    })?;
    Ok(line.table(document.get_ref()))
}

/// Puts one `KEY=VALUE` of the command line into the tree: dotted key, TOML value. A value that is not TOML and
/// does not begin like a list, a table or a quoted string is taken as a string (`model=qwen2.5-7b`,
/// `slo.tbt=70 ms`); an empty one takes the key out.
///
/// # Errors
/// No `=`, an empty key, a path through a value that is no table, a broken list, table or string.
pub fn apply_override(root: &mut Table, text: &str) -> Result<(), ScenarioError> {
    let place = Place::Override(text.to_owned());
    let refuse = |problem: &str| {
        ScenarioError::from(BadValue {
            place: place.clone(),
            key: "--set".to_owned(),
            value: shorten(&toml::Value::String(text.to_owned()).to_string()),
            problem: problem.to_owned(),
            hint: Some("for example `--set slo.scale=[1]` or `--set engine.slots=1`".to_owned()),
        })
    };
    let (path, value) = text.split_once('=').ok_or_else(|| refuse("expected KEY=VALUE"))?;
    let dotted = path.split('.').map(str::trim).collect::<Vec<_>>().join(".");
    let node = match value.trim() {
        "" => None,
        value => Some(Node {
            value: override_value(value, &place).map_err(|error| refuse(&error))?,
            place: place.clone(),
        }),
    };
    put(root, &dotted, node).map_err(|problem| refuse(&problem))
}

/// Puts a value at a dotted key, or takes the key out, and takes out what may not stand beside it.
///
/// # Errors
/// What is wrong with the key, as `expected …`.
pub fn put(root: &mut Table, dotted: &str, node: Option<Node>) -> Result<(), String> {
    let path: Vec<&str> = dotted.split('.').collect();
    if path.iter().any(|part| part.is_empty()) {
        return Err("expected a dotted key before `=`".to_owned());
    }
    if path.len() > DEEPEST {
        return Err(format!("expected a dotted key of at most {DEEPEST} parts"));
    }
    let is_in =
        |key: &str| dotted == key || dotted.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    for [one, other] in EXCLUSIVE {
        if is_in(one) {
            remove_path(root, other);
        } else if is_in(other) {
            remove_path(root, one);
        }
    }
    let Some(node) = node else {
        remove_path(root, dotted);
        return Ok(());
    };
    let place = node.place.clone();
    let (last, parents) = path.split_last().expect("Invariant: a split string has a part");
    let mut table = root;
    for part in parents {
        let at = match table.entries.iter().position(|entry| entry.key == *part) {
            Some(at) => at,
            None => {
                let node = Node { value: Value::Table(Table::default()), place: place.clone() };
                table.entries.push(Entry { key: (*part).to_owned(), place: place.clone(), node });
                table.entries.len() - 1
            }
        };
        let Value::Table(inner) = &mut table.entries[at].node.value else {
            return Err(format!("expected a key of a table: `{part}` is none"));
        };
        table = inner;
    }
    table.remove(last);
    table.entries.push(Entry { key: (*last).to_owned(), place, node });
    Ok(())
}

fn remove_path(root: &mut Table, dotted: &str) {
    let mut table = root;
    let mut parts = dotted.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            table.remove(part);
            return;
        }
        let entry = table.entries.iter_mut().find(|entry| entry.key == part);
        let Some(Entry { node: Node { value: Value::Table(inner), .. }, .. }) = entry else { return };
        table = inner;
    }
}

fn override_value(text: &str, place: &Place) -> Result<Value, String> {
    match DeValue::parse(text) {
        Ok(value) => {
            let mut node = Lines { file: "", text }.node(&value);
            overwrite_places(&mut node, place);
            Ok(node.value)
        }
        Err(error) if text.starts_with(['[', '{', '"', '\'']) => {
            Err(format!("expected a TOML value: {}", one_line(error.message())))
        }
        Err(_) => Ok(Value::Text(text.to_owned())),
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// Turns byte offsets of one text into lines.
struct Lines<'a> {
    file: &'a str,
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place::Line { file: self.file.to_owned(), line }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let mut spanned: Vec<_> = table.iter().collect();
        spanned.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &Spanned<std::borrow::Cow<'_, str>> = key;
            let place = self.place(key.span().start);
            Entry { key: key.get_ref().to_string(), place, node: self.node(value) }
        };
        Table { entries: spanned.into_iter().map(entry).collect() }
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value.span().start);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Integer(integer_text(number.as_str(), number.radix())),
            DeValue::Float(number) => Value::Float(number.as_str().to_owned()),
            DeValue::Boolean(on) => Value::Switch(*on),
            DeValue::Datetime(when) => Value::Datetime(when.to_string()),
            DeValue::Array(items) => Value::List(items.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, place }
    }
}

fn overwrite_places(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| overwrite_places(item, place)),
        Value::Table(table) => {
            for entry in &mut table.entries {
                entry.place = place.clone();
                overwrite_places(&mut entry.node, place);
            }
        }
        _ => {}
    }
}

/// An integer in decimal, whatever its radix in the text; one beyond 128 bits keeps its digits.
fn integer_text(digits: &str, radix: u32) -> String {
    let plain = digits.trim_start_matches('+');
    if radix == 10 {
        return plain.to_owned();
    }
    i128::from_str_radix(plain, radix).map_or_else(|_| plain.to_owned(), |value| value.to_string())
}
