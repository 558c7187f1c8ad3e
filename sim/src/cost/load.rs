//! From a name to a profile: a preset, a file, or `-` for standard input.

use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::profile::{SCHEMA, SCHEMA_VERSION};
use super::{CostError, HardwareProfile, Verdict, check, preset, presets};

/// The profile of that preset name or file, refused if one of its checks fails.
///
/// # Errors
/// Unknown name, unreadable file, malformed text, failed checks.
pub fn load(name: &str) -> Result<HardwareProfile, CostError> {
    let profile = read(name)?;
    refuse_failures(name, &profile)?;
    Ok(profile)
}

/// The profile of that preset name or file, its checks not looked at.
///
/// # Errors
/// Unknown name, unreadable file, malformed text.
pub fn read(name: &str) -> Result<HardwareProfile, CostError> {
    if let Some(profile) = preset(name) {
        return Ok(profile);
    }
    if name == "-" {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|reason| CostError::Unreadable { file: "standard input".to_owned(), reason })?;
        return parse("standard input", &text);
    }
    match std::fs::read_to_string(Path::new(name)) {
        Ok(text) => parse(name, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CostError::Unknown { name: name.to_owned(), hint: preset_hint(name) })
        }
        Err(reason) => Err(CostError::Unreadable { file: name.to_owned(), reason }),
    }
}

/// A profile from its JSON text; `file` names it in messages. Its checks are not looked at.
///
/// # Errors
/// Broken JSON, another schema or version, unknown or missing keys, values that are no number above 0.
pub fn parse(file: &str, text: &str) -> Result<HardwareProfile, CostError> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        require_schema(file, &value)?;
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let profile = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| malformed(file, &error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| malformed(file, ".", &error))?;
    Ok(profile)
}

/// Every failed check of `profile` as one error; `name` stands before each line.
pub(super) fn refuse_failures(name: &str, profile: &HardwareProfile) -> Result<(), CostError> {
    let failures: Vec<String> = check(profile)
        .into_iter()
        .filter(|finding| finding.verdict == Verdict::Failure)
        .map(|finding| format!("{name}: {}", finding.text))
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(CostError::Unusable { failures }) }
}

fn require_schema(file: &str, value: &Value) -> Result<(), CostError> {
    let refuse = |key: &str, problem: String, hint: &str| {
        Err(CostError::Malformed {
            place: format!("{file}: {key}"),
            problem,
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        })
    };
    let Some(object) = value.as_object() else {
        return refuse("schema", "missing: expected a JSON object, a hardware profile".to_owned(), "");
    };
    match object.get("schema") {
        Some(Value::String(schema)) if schema == SCHEMA => {}
        found => {
            let hint = "is this a hardware profile? `gpu-validate` writes one, `orbitflow profile show NAME \
                        --format json` prints a preset";
            return refuse("schema", format!("{}: expected \"{SCHEMA}\"", shown(found)), hint);
        }
    }
    match object.get("schema_version") {
        Some(Value::Number(version)) if version.as_u64() == Some(u64::from(SCHEMA_VERSION)) => Ok(()),
        found => {
            let hint = "this version of orbitflow reads version 1 only; measure again with the `gpu-validate` \
                        beside it";
            refuse("schema_version", format!("{}: expected {SCHEMA_VERSION}", shown(found)), hint)
        }
    }
}

fn shown(found: Option<&Value>) -> String {
    found.map_or("missing".to_owned(), Value::to_string)
}

/// One line for what serde says, with line, column and key path, and a hint for the mistakes people make.
fn malformed(file: &str, path: &str, error: &serde_json::Error) -> CostError {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let said = text.strip_suffix(&position).unwrap_or(&text);
    let mut place = file.to_owned();
    if error.line() > 0 {
        place = format!("{place}:{}:{}", error.line(), error.column());
    }
    if path != "." && path != "?" {
        place = format!("{place}: {path}");
    }
    let (problem, hint) = explain(said, error);
    CostError::Malformed { place, problem, hint }
}

fn explain(said: &str, error: &serde_json::Error) -> (String, Option<String>) {
    if error.is_eof() {
        return (
            format!("the text ends in the middle ({said}): expected a whole JSON profile"),
            Some("the file is empty or truncated; copy or write it again".to_owned()),
        );
    }
    let mut quoted = said.split('`').skip(1).step_by(2);
    if said.starts_with("unknown field") || said.starts_with("unknown variant") {
        let unknown = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        let what = if said.starts_with("unknown field") { "key" } else { "value" };
        let hint = if unknown == "kind" {
            Some("`kind` stands at the top of the profile".to_owned())
        } else {
            nearest(unknown, &known).map(|near| format!("did you mean `{near}`?"))
        };
        return (format!("unknown {what} `{unknown}`: expected one of {}", known.join(", ")), hint);
    }
    if said.contains("expected a finite number above 0") || said.contains("expected a nonzero") {
        let hint = "what is not known is null, with a reason in `missing`; it is never 0";
        return (said.to_owned(), Some(hint.to_owned()));
    }
    if said.starts_with("number out of range") {
        return ("number out of range: expected a finite number".to_owned(), None);
    }
    (said.to_owned(), None)
}

/// The nearest of `known`, if it is near enough to be meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let best = known.iter().copied().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= 2.max(word.len() / 3)).then_some(best)
}

fn preset_hint(name: &str) -> Option<String> {
    let names: Vec<String> = presets().into_iter().map(|preset| preset.name).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    // `a6000`, `roofline:a6000` and `engine-fit:h100` miss only the family or the maker's prefix.
    let (family, gpu) = name.split_once(':').unwrap_or(("", name));
    let with_gpu = |family: &str| {
        let fits = |known: &&str| !gpu.is_empty() && known.starts_with(family) && known.contains(gpu);
        known.iter().copied().find(fits)
    };
    let same_family = if family.is_empty() { None } else { with_gpu(family) };
    let near = same_family.or_else(|| nearest(name, &known)).or_else(|| with_gpu(""));
    Some(match near {
        Some(near) => format!("did you mean `{near}`? `orbitflow list profiles` names them all"),
        None => "`orbitflow list profiles` names the presets".to_owned(),
    })
}
