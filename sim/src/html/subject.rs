//! What was compared: trace, SLO, hardware with its provenance, semantics, switches, every note; and the commands
//! that make the page again.

use std::fmt::Write as _;

use super::markup::{grouped, text};
use crate::plot::words;
use crate::report::rows::Results;

/// Notes that say what the server is, by how they begin.
const HARDWARE: [&str; 9] = [
    "hardware:",
    "compute:",
    "link:",
    "prefill:",
    "warning:",
    "planners' belief:",
    "batch_size",
    "gpu_kv_blocks",
    "GPU KV",
];
/// The note that names the set of switches.
const SEMANTICS: &str = "semantics: ";

/// The section on what was compared.
pub fn compared(results: &Results) -> String {
    let is_hardware = |note: &&String| HARDWARE.iter().any(|start| note.starts_with(start));
    let semantics = results.notes.iter().find_map(|note| note.strip_prefix(SEMANTICS));
    let others = |note: &&String| !is_hardware(note) && !note.starts_with(SEMANTICS);
    let mut html = String::from("<dl class=\"facts\">");
    fact(&mut html, "Trace", &text(&trace(results)));
    fact(&mut html, "SLO", &text(&slo(results)));
    let preset = semantics.unwrap_or("unknown: no note says so");
    fact(&mut html, "Semantics", &text(preset));
    fact(&mut html, "Switches off the preset", &switches(results));
    fact(&mut html, "Server", &list(results.notes.iter().filter(is_hardware), "no note says what it is"));
    fact(&mut html, "Notes and assumptions", &list(results.notes.iter().filter(others), "none"));
    html + "</dl>\n"
}

fn fact(html: &mut String, name: &str, value: &str) {
    let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
}

fn list<'a>(notes: impl Iterator<Item = &'a String>, none: &str) -> String {
    let items: String = notes.map(|note| format!("<li>{}</li>", text(note))).collect();
    if items.is_empty() { text(none) } else { format!("<ul>{items}</ul>") }
}

fn switches(results: &Results) -> String {
    let items: String = results
        .switches
        .iter()
        .map(|(switch, value)| format!("<li><code>{} = {}</code></li>", text(switch), text(value)))
        .collect();
    if items.is_empty() { "none".to_owned() } else { format!("<ul>{items}</ul>") }
}

/// Requests, tokens and arrivals in a sentence.
pub fn trace(results: &Results) -> String {
    let trace = &results.trace;
    let arrivals = match (trace.last_arrival_s, trace.last_arrival_step) {
        (Some(seconds), _) => format!(", the last arriving after {}", words::seconds(seconds)),
        (None, Some(step)) => format!(", the last arriving at engine step {}", grouped(step)),
        (None, None) => String::new(),
    };
    format!(
        "{} requests with {} prompt and {} output tokens{arrivals}; seed {}",
        grouped(trace.requests),
        grouped(trace.prompt_tokens),
        grouped(trace.output_tokens),
        results.seed
    )
}

/// Hardware, semantics and switches in a sentence, for the head of the page.
pub fn server(results: &Results) -> String {
    let note = |start: &str| results.notes.iter().find_map(|note| note.strip_prefix(start));
    let switches = match results.switches.len() {
        0 => "every switch at its preset".to_owned(),
        1 => "1 switch off its preset".to_owned(),
        some => format!("{some} switches off their presets"),
    };
    format!(
        "{}; semantics {}, {switches}",
        note("hardware: ").unwrap_or("hardware unknown: no note names it"),
        note(SEMANTICS).unwrap_or("unknown")
    )
}

fn slo(results: &Results) -> String {
    let scales: Vec<String> = results.policies.first().map_or(Vec::new(), |policy| {
        let scored = policy.by_slo_scale.iter();
        scored.map(|at| format!("{} = {}", words::factor(at.scale), words::seconds(at.slo_s))).collect()
    });
    match scales.split_first() {
        None => format!("{} per token", words::seconds(results.slo_s)),
        Some((first, [])) => format!("{first} per token"),
        Some((first, others)) => {
            format!("planned for {first} per token; scored also at {}", others.join(", "))
        }
    }
}

/// The section with the commands. `DIR` stands for the folder: the page is the same wherever it lies.
pub fn commands(results: &Results) -> String {
    let sets: String = results.overrides.iter().map(|set| format!(" --set {}", shell_word(set))).collect();
    let scenario = if results.scenario.starts_with('-') && results.scenario != "-" {
        format!("-- {}", shell_word(&results.scenario))
    } else {
        shell_word(&results.scenario)
    };
    let (simulate, what) = match &results.policies[..] {
        [only] => (
            format!("orbitflow run --policy {}{sets} --out DIR {scenario}", shell_word(&only.key)),
            "simulates the policy",
        ),
        _ => (format!("orbitflow compare{sets} --out DIR {scenario}"), "simulates every policy"),
    };
    let lines = [
        (simulate.as_str(), what),
        ("orbitflow report DIR", "writes this page from DIR, without simulating"),
        ("orbitflow plot DIR", "draws the figures for print as SVG"),
    ];
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let mut listing = String::new();
    for (line, what) in lines {
        let _ = writeln!(listing, "{line:<width$}  # {what}");
    }
    let stdin = if results.scenario == "-" {
        " The scenario came from stdin: the same text must be given again."
    } else {
        ""
    };
    format!(
        "<pre tabindex=\"0\"><code>{}</code></pre>\n<p>In the folder the first was run in, with orbitflow {}: the same \
         inputs give the same bytes. They are the same if the scenario's digest is <code class=\"long\">{}</code>; \
         <code>--out</code> refuses a folder with the results of another one.{stdin}</p>\n",
        text(&listing),
        text(&results.tool_version),
        text(&results.scenario_digest),
    )
}

/// A word of a POSIX shell: as it is if it is plain, otherwise in single quotes.
fn shell_word(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,+@%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_blanks_and_quotes_are_quoted_for_a_shell() {
        let words = ["scenarios/demo.toml", "slo.scale=[1]", "it's", ""].map(shell_word);
        assert_eq!(words, ["scenarios/demo.toml", "'slo.scale=[1]'", "'it'\\''s'", "''"]);
    }
}
