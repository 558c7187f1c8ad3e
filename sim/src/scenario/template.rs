//! The commented scenario that `orbitflow init` prints, made of the key table.

use super::Semantics;
use super::keys::{self, Kind, SectionName, Shown};
use super::switches;

/// Columns for a key and its value; what it means stands behind them, or above a longer one.
const VALUE_WIDTH: usize = 39;

/// What a trace brings, and what it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFacts {
    /// It says its own `batch_size` and `gpu_kv_blocks`, as the authors' traces do.
    pub own_server: bool,
    /// It holds lengths only: arrivals must be drawn.
    pub needs_arrivals: bool,
}

/// A scenario that runs `trace` (`-` is stdin), with every key, its unit, its default and what it means.
pub fn template(trace: &str, facts: TraceFacts) -> String {
    let mut text = String::from(
        "# An OrbitFlow scenario: `orbitflow compare THIS.toml` runs it. Every key there is, with its default\n\
         # where it is a comment. Quantities are strings with their unit: \"70 ms\", \"48 GiB\", \"25.19 GiB/s\".\n",
    );
    for section in SectionName::ALL {
        if section.is_inline() {
            continue;
        }
        if section != SectionName::Top {
            text.push_str(&format!("\n[{}]{}\n", section.path(), section_note(section)));
        }
        for key in keys::keys_of(section) {
            let (line, about) = line(key, trace, facts);
            if line.len() <= VALUE_WIDTH {
                text.push_str(&format!("{line:<VALUE_WIDTH$} # {about}\n"));
            } else {
                text.push_str(&format!("# {about}:\n{line}\n"));
            }
        }
    }
    text
}

fn section_note(section: SectionName) -> &'static str {
    match section {
        SectionName::Engine => "  # switches of the server; absent: the value of the semantics",
        SectionName::Planner => "  # switches of planning and pausing; absent: the value of the semantics",
        _ => "",
    }
}

/// The key with its value, commented out or not, and what stands behind it.
fn line(key: &keys::Key, trace: &str, facts: TraceFacts) -> (String, String) {
    if key.section == SectionName::Trace && key.name == "file" {
        let path = toml::Value::String(trace.to_owned());
        return (format!("{} = {path}", key.name), key.about.to_owned());
    }
    let own = facts.own_server
        && key.section == SectionName::Top
        && matches!(key.name, "batch_size" | "gpu_kv_blocks");
    let drawn = facts.needs_arrivals && key.section == SectionName::Trace && key.name == "arrivals";
    match key.shown {
        Shown::Set(value) if own => {
            (format!("# {} = {value}", key.name), format!("{} (this trace says its own)", key.about))
        }
        Shown::Comment(value) if drawn => (format!("{} = {value}", key.name), key.about.to_owned()),
        Shown::Set(value) => (format!("{} = {value}", key.name), key.about.to_owned()),
        Shown::Comment(value) => (format!("# {} = {value}", key.name), key.about.to_owned()),
        Shown::Preset => {
            let (physical, published) = (preset(key, Semantics::Physical), preset(key, Semantics::Published));
            let about = if physical == published {
                key.about.to_owned()
            } else {
                format!("{}; published: {published}", key.about)
            };
            (format!("# {} = {physical}", key.name), about)
        }
    }
}

/// The value that the semantics give to a switch, as TOML.
fn preset(key: &keys::Key, semantics: Semantics) -> String {
    let name = format!("{}.{}", key.section.path(), key.name);
    let all = switches::preset(semantics);
    let value = all.get(&name).expect("Invariant: a key shown with its preset is a switch of the semantics");
    match key.kind {
        Kind::Switch | Kind::Count { .. } | Kind::Number { .. } => value.clone(),
        _ => format!("\"{value}\""),
    }
}
