//! The trace formats that can be read: their names, and how each is recognised by its content.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields;

/// A trace format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Our own: one JSON object per line.
    Jsonl,
    /// The OrbitFlow authors' JSON, arrivals in decode steps.
    Orbitflow,
    /// Azure LLM inference CSV.
    Azure,
    /// Mooncake JSONL.
    Mooncake,
    /// A table of prompt and output lengths.
    Lengths,
    /// Coding-agent sessions.
    KvCacheTester,
}

/// Every format with what `list formats` says of it, in that order.
pub const FORMATS: [(Format, &str, &str); 6] = [
    (
        Format::Jsonl,
        "jsonl",
        "our own, one request per line: arrival_s, arrival_step or (session and) think_s; prompt_tokens, output_tokens",
    ),
    (
        Format::Orbitflow,
        "orbitflow",
        "the OrbitFlow authors' JSON: arrivals in decode steps; brings batch_size and gpu_kv_blocks",
    ),
    (Format::Azure, "azure", "Azure LLM inference CSV: TIMESTAMP, ContextTokens, GeneratedTokens"),
    (
        Format::Mooncake,
        "mooncake",
        "Mooncake JSONL: timestamp in ms (a 3 s grid is spread by a seeded draw), input_length, output_length",
    ),
    (
        Format::Lengths,
        "lengths",
        "CSV with num_prefill_tokens and num_decode_tokens (vidur, etalon, vattention); needs `arrivals`",
    ),
    (
        Format::KvCacheTester,
        "kv-cache-tester",
        "kv-cache-tester sessions, closed loop: one JSON file, a folder of them, or the derived CSV",
    ),
];

impl Format {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        FORMATS[self as usize].1
    }

    /// All names, for messages.
    pub fn names() -> String {
        FORMATS.map(|(_, name, _)| name).join(", ")
    }

    /// Recognises a format by the first 4 KiB of its (decompressed) content: by key names for JSON, which also
    /// tells a file that is cut short, by column names for CSV.
    pub fn recognise(text: &str) -> Option<Format> {
        let start = text.trim_start_matches('\u{feff}').trim_start();
        let head = &start[..start.floor_char_boundary(4096)];
        let has = |key: &str| head.contains(&format!("\"{key}\""));
        if head.starts_with('{') {
            return if has("requests") || has("num_gpu_blocks_override") {
                let is_session = has("hash_id_scope") || has("block_size") || has("system_tokens");
                Some(if is_session { Format::KvCacheTester } else { Format::Orbitflow })
            } else if has("prompt_tokens") || has("arrival_s") || has("arrival_step") {
                Some(Format::Jsonl)
            } else if has("input_length") || has("timestamp") {
                Some(Format::Mooncake)
            } else {
                None
            };
        }
        let header = head.lines().next().unwrap_or("");
        if header.contains("ContextTokens") || header.contains("TIMESTAMP") {
            Some(Format::Azure)
        } else if header.contains("num_prefill_tokens") || header.contains("num_decode_tokens") {
            Some(Format::Lengths)
        } else if header.contains("trace,depth") || header.contains("think_time") {
            Some(Format::KvCacheTester)
        } else {
            None
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        FORMATS.iter().find(|(_, name, _)| *name == text).map(|(format, ..)| *format).ok_or_else(|| {
            let hint = fields::nearest(text, &FORMATS.map(|(_, name, _)| name))
                .map_or_else(String::new, |name| format!("\nhint: did you mean `{name}`?"));
            format!("unknown trace format: expected one of {}{hint}", Format::names())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_enum() {
        for (index, (format, ..)) in FORMATS.iter().enumerate() {
            assert_eq!(*format as usize, index);
        }
    }

    #[test]
    fn what_is_like_nothing_is_not_recognised() {
        for text in ["", "hello", "{}", "{\"a\": 1}", "[1, 2]", "a,b\n1,2\n"] {
            assert_eq!(Format::recognise(text), None, "{text}");
        }
    }
}
