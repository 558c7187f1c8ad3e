//! The JSON Schema of a scenario, made of the key table, so that editors complete and validate.
//!
//! It says what a schema can say: names, types, units, ranges, words. Which keys exclude each other is left to
//! the reader.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind, SectionName};
use super::quantity::Dimension;

/// The schema, draft 2020-12.
pub fn json_schema() -> Value {
    let mut schema = section(SectionName::Top);
    let properties = schema["properties"].as_object_mut().expect("Invariant: a section has properties");
    for table in keys::TOP_TABLES {
        properties.insert(table.path().to_owned(), section(table));
    }
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("OrbitFlow scenario");
    schema["required"] = json!(["model", "hardware", "policies", "trace"]);
    schema["properties"]["trace"]["oneOf"] = json!([{ "required": ["file"] }, { "required": ["draw"] }]);
    schema
}

/// The schema of a sweep: a scenario with `[axes]`.
pub fn sweep_json_schema() -> Value {
    let mut schema = json_schema();
    schema["title"] = json!("OrbitFlow sweep");
    schema["properties"]["axes"] = json!({
        "description": "a key of the scenario with its values, or a name with tables of a `name` and keys that change together",
        "$ref": "#/$defs/axes",
    });
    // A table within the axes is a dotted key of the scenario; a table within a list, keys that change together.
    schema["$defs"]["axes"] = json!({
        "type": "object",
        "additionalProperties": { "anyOf": [
            { "type": "array", "minItems": 1, "uniqueItems": true, "items": { "anyOf": [
                { "not": { "type": "object" } },
                {
                    "type": "object", "required": ["name"], "minProperties": 2,
                    "properties": { "name": { "type": "string", "pattern": "^[^,=]+$" } },
                },
            ] } },
            { "$ref": "#/$defs/axes" },
        ] },
    });
    schema
}

fn section(name: SectionName) -> Value {
    let properties: Map<_, _> = keys::keys_of(name).map(|key| (key.name.to_owned(), property(key))).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Quantity { dimension, words: [], .. } => quantity(dimension),
        Kind::Quantity { dimension, words, .. } => {
            json!({ "anyOf": [quantity(dimension), { "enum": words }] })
        }
        Kind::Count { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Number { least, most } => number(least, most),
        Kind::Numbers { least, most } => json!({ "anyOf": [
            number(least, most),
            { "type": "array", "items": number(least, most), "minItems": 1, "uniqueItems": true },
        ] }),
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Prefill => {
            json!({ "type": "string", "pattern": "^(separate|chunked:(inf|0*[1-9][0-9]*))$" })
        }
        Kind::Section(name) => section(name),
        Kind::Policies => policies(),
    };
    schema["description"] = json!(key.about);
    schema
}

fn number(least: f64, most: f64) -> Value {
    json!({ "type": "number", "minimum": least, "maximum": most })
}

fn quantity(dimension: Dimension) -> Value {
    let unit = match dimension {
        Dimension::Duration => "(ps|ns|us|µs|μs|ms|s|min|h)",
        Dimension::Bytes => "([kMGT]?B|[KMGT]iB)",
        Dimension::Rate => "([kMGT]?B|[KMGT]iB)/s",
    };
    let pattern = format!("^\\s*[0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]+)?\\s*{unit}\\s*$");
    json!({ "type": "string", "pattern": pattern })
}

fn policies() -> Value {
    let name = json!({ "type": "string", "pattern": "^[a-z0-9._-]+$" });
    let mut properties = Map::new();
    properties.insert("use".to_owned(), name.clone());
    properties.insert("key".to_owned(), name.clone());
    properties.insert("label".to_owned(), json!({ "type": "string", "minLength": 1 }));
    for key in keys::KEYS.iter().filter(|key| keys::policy_may_override(key)) {
        properties.insert(key.name.to_owned(), property(key));
    }
    let table = json!({
        "type": "object", "additionalProperties": false, "required": ["use"], "properties": properties,
    });
    json!({ "type": "array", "minItems": 1, "items": { "anyOf": [name, table] } })
}
