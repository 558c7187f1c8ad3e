//! JSON files given on the command line: read, decoded, and every mistake said in one line with its place.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use serde::de::DeserializeOwned;

/// Decodes the JSON file at `path`, `-` being stdin.
///
/// # Errors
/// It cannot be read, is no JSON, or holds an unknown key, a missing one or one of the wrong type.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let name = name(path);
    let text = text(path).with_context(|| format!("{name}: cannot be read"))?;
    decode(&text).map_err(|problem| anyhow::anyhow!("{name}: {problem}"))
}

/// How a file is called in messages.
pub fn name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}

fn text(path: &Path) -> std::io::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.trim().is_empty() {
        return Err("it is empty: expected a JSON object".to_owned());
    }
    let mut decoder = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut decoder).map_err(|error| {
        let path = error.path().to_string();
        // Where the text ends or breaks within an object, the path ends with an unknown key.
        let path = path.trim_end_matches('?').trim_end_matches('.');
        let problem = in_words_of_json(&error.into_inner().to_string());
        let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
        format!("{place}{problem}{}", hint(&problem))
    })?;
    decoder.end().map_err(|error| format!("more follows the JSON object: {error}"))?;
    Ok(value)
}

/// serde's names of Rust types, as a user of JSON knows them.
fn in_words_of_json(problem: &str) -> String {
    let words = [
        ("expected f64", "a number"),
        ("expected u32", "a whole number"),
        ("expected u64", "a whole number"),
    ];
    words
        .iter()
        .fold(problem.to_owned(), |problem, (rust, json)| problem.replace(rust, &format!("expected {json}")))
}

/// The nearest of the keys that serde lists after an unknown one: "unknown field `a`, expected one of `b`, `c`".
fn hint(problem: &str) -> String {
    if problem.contains("EOF while parsing") {
        return "\nhint: the file seems to be cut off".to_owned();
    }
    if problem.starts_with("expected value") {
        return "\nhint: JSON has no NaN, Infinity, comments or trailing commas".to_owned();
    }
    if !problem.starts_with("unknown field") {
        return String::new();
    }
    let mut quoted = problem.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next() else { return String::new() };
    let nearest = quoted
        .map(|key| (strsim::damerau_levenshtein(unknown, key), key))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, key)| distance <= key.len().max(unknown.len()) / 2);
    nearest.map_or(String::new(), |(_, key)| format!("\nhint: did you mean `{key}`?"))
}
