//! A model from a Hugging Face `config.json`: the sizes that a decoder-only transformer's file states.
//!
//! Reads the keys of the Llama, Mistral, Qwen2 and Phi-3 families; whatever else the file holds is not looked at.
//! The KV cache has the type of the weights.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ModelSpec;
use crate::ids::Layer;

/// Why a file is no model.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: cannot read the model: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is no JSON object.
    #[error("{}: expected a JSON object: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        problem: String,
    },
    /// A key is missing or cannot be used.
    #[error("{}: {key}: {value}: expected {expected}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value as written, `missing` if it is not there.
        value: String,
        /// What was expected.
        expected: String,
    },
}

/// Largest width, head count or vocabulary that is taken for meant.
const LARGEST: u64 = 1 << 24;

/// Reads a `config.json`.
///
/// # Errors
/// A file that cannot be read or is no JSON object; sizes that are missing, zero or absurd; more than 128 layers;
/// a number type that is neither of 16 nor of 32 bits.
pub fn read_config(path: &Path) -> Result<ModelSpec, ConfigError> {
    let content = fs::read(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    let object: Map<String, Value> = serde_json::from_slice(&content)
        .map_err(|error| ConfigError::Syntax { path: path.to_owned(), problem: error.to_string() })?;
    let file = File { path, object };
    let hidden = file.size("hidden_size", LARGEST)?;
    let heads = file.size("num_attention_heads", LARGEST)?;
    let head_dim = match file.given("head_dim") {
        Some(_) => file.size("head_dim", LARGEST)?,
        None if hidden % heads == 0 => hidden / heads,
        None => return Err(file.bad("hidden_size", "a multiple of num_attention_heads, or head_dim")),
    };
    let element_bytes = file.element_bytes()?;
    Ok(ModelSpec {
        name: path.display().to_string(),
        layers: file.size("num_hidden_layers", u64::from(Layer::MAX))?,
        hidden,
        heads,
        kv_heads: if file.given("num_key_value_heads").is_some() {
            file.size("num_key_value_heads", u64::from(heads))?
        } else {
            heads
        },
        head_dim,
        intermediate: file.size("intermediate_size", LARGEST)?,
        vocab: file.size("vocab_size", LARGEST)?,
        tied_embedding: file.switch("tie_word_embeddings")?.unwrap_or(false),
        // Qwen2 has the biases and no key that says so.
        qkv_bias: file.switch("attention_bias")?.unwrap_or(file.text("model_type") == Some("qwen2")),
        kv_element_bytes: element_bytes,
        weight_element_bytes: element_bytes,
    })
}

struct File<'a> {
    path: &'a Path,
    object: Map<String, Value>,
}

impl File<'_> {
    /// The value of a key; `null` is not given.
    fn given(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn bad(&self, key: &str, expected: &str) -> ConfigError {
        let value = self.object.get(key).map_or_else(|| "missing".to_owned(), Value::to_string);
        ConfigError::BadValue {
            path: self.path.to_owned(),
            key: key.to_owned(),
            value,
            expected: expected.to_owned(),
        }
    }

    fn size(&self, key: &str, most: u64) -> Result<u32, ConfigError> {
        let size = self.given(key).and_then(Value::as_u64).filter(|size| (1..=most).contains(size));
        let size = size.ok_or_else(|| self.bad(key, &format!("a whole number from 1 to {most}")))?;
        Ok(u32::try_from(size).expect("Invariant: sizes are kept below 2^32"))
    }

    fn switch(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let given = self.given(key);
        given.map(|value| value.as_bool().ok_or_else(|| self.bad(key, "true or false"))).transpose()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.given(key).and_then(Value::as_str)
    }

    /// Bytes of an element of the stated type (`torch_dtype`, in newer files `dtype`); bf16 if none is stated.
    fn element_bytes(&self) -> Result<u32, ConfigError> {
        let key = if self.given("torch_dtype").is_some() { "torch_dtype" } else { "dtype" };
        match self.given(key).map(Value::as_str) {
            None | Some(Some("bfloat16" | "float16")) => Ok(2),
            Some(Some("float32")) => Ok(4),
            Some(_) => Err(self.bad(key, "\"bfloat16\", \"float16\" or \"float32\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ModelSpec, String> {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("config.json");
        fs::write(&path, text).expect("a scratch file");
        read_config(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_config_with_the_sizes_of_a_preset_is_that_model() {
        let text = r#"{ "model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 3584,
            "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944,
            "vocab_size": 152064, "torch_dtype": "bfloat16", "rope_theta": 1000000.0, "head_dim": null }"#;
        let read = ModelSpec { name: "qwen2.5-7b".to_owned(), ..read(text).unwrap() };
        assert_eq!(Some(read), super::super::preset("qwen2.5-7b"));
    }

    #[test]
    fn what_is_no_model_is_refused_with_the_key() {
        let base = r#""hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 9"#;
        let cases = [
            ("[]", "expected a JSON object"),
            ("{", "expected a JSON object"),
            ("{}", "hidden_size: missing: expected a whole number from 1"),
            (&format!("{{ {base} }}"), "num_hidden_layers: missing"),
            (
                &format!("{{ {base}, \"num_hidden_layers\": 0 }}"),
                "num_hidden_layers: 0: expected a whole number",
            ),
            (&format!("{{ {base}, \"num_hidden_layers\": 129 }}"), "from 1 to 128"),
            (
                &format!("{{ {base}, \"num_hidden_layers\": 2, \"dtype\": \"int4\" }}"),
                "dtype: \"int4\": expected",
            ),
            (&format!("{{ {base}, \"num_hidden_layers\": 2, \"num_key_value_heads\": 5 }}"), "from 1 to 4"),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
