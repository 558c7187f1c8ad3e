//! A model from a Hugging Face `config.json`: dense decoders of the Llama, Mistral, Qwen (2, 2.5, 3) and Phi (3, 4)
//! families.
//!
//! Reads the sizes; what would make another model of it is refused by name (`unsupported`), and what is neither
//! (rotary embedding, token ids) is not looked at. Which family has which biases and norms is that of the `transformers`
//! library. Qwen3-8B: 36 layers of 4096·(2·4096 + 2·1024) + 3·4096·12,288 + 2·4096 + 2·128 (the norms of q and k)
//! = 192,946,432 parameters, two tables of 151,936·4096 and a last norm of 4096: 8,190,735,360.
//! The KV cache has the type of the weights.

mod unsupported;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ModelSpec;
use crate::ids::Layer;

/// A model that was read, and what a reader of its results must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The model; its name is the path.
    pub model: ModelSpec,
    /// One line each: what the file says and the simulator does otherwise.
    pub notes: Vec<String>,
}

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
    /// It is a model, but of a kind that is not simulated.
    #[error("{}: {key}: {value}: not supported: {why}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key that says so.
        key: String,
        /// Its value as written.
        value: String,
        /// What kind of model that is, and what to do.
        why: &'static str,
    },
}

/// Largest width or vocabulary that is taken for meant.
const LARGEST: u64 = 1 << 24;
/// Most heads, and most elements of a head.
const MOST_HEADS: u64 = 1 << 12;
/// Characters of a value that a message shows.
const SHOWN: usize = 60;

/// Which projections of attention have biases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Biases {
    /// None.
    Never,
    /// Those of q, k and v.
    QueryKeyValue,
    /// All four if `attention_bias` is true.
    IfStated,
}

/// Models that differ in their sizes only.
struct Family {
    model_type: &'static str,
    biases: Biases,
    /// Whether q and k are normed, by one vector of `head_dim` each.
    query_key_norms: bool,
    /// Whether the MLP has biases if `mlp_bias` is true.
    mlp_bias: bool,
    /// Whether an absent `num_key_value_heads` means one per query head.
    may_omit_kv_heads: bool,
    /// Elements of a head if `head_dim` is absent; `None`: `hidden_size / num_attention_heads`.
    head_dim: Option<u32>,
}

const PLAIN: Family = Family {
    model_type: "",
    biases: Biases::Never,
    query_key_norms: false,
    mlp_bias: false,
    may_omit_kv_heads: false,
    head_dim: None,
};

const FAMILIES: [Family; 5] = [
    Family {
        model_type: "llama",
        biases: Biases::IfStated,
        mlp_bias: true,
        may_omit_kv_heads: true,
        ..PLAIN
    },
    Family { model_type: "mistral", ..PLAIN },
    Family { model_type: "qwen2", biases: Biases::QueryKeyValue, ..PLAIN },
    Family {
        model_type: "qwen3",
        biases: Biases::IfStated,
        query_key_norms: true,
        head_dim: Some(128),
        ..PLAIN
    },
    Family { model_type: "phi3", may_omit_kv_heads: true, ..PLAIN },
];

/// Reads a `config.json`.
///
/// # Errors
/// A file that cannot be read or is no JSON object; a model of a kind that is not simulated, or of an unknown
/// `model_type`; sizes that are missing, zero or absurd; more than 128 layers; a number type that is neither of 16 nor of
/// 32 bits.
pub fn read_config(path: &Path) -> Result<Imported, ConfigError> {
    let content = fs::read(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    let object: Map<String, Value> = serde_json::from_slice(&content)
        .map_err(|error| ConfigError::Syntax { path: path.to_owned(), problem: error.to_string() })?;
    let file = File { path, object };
    if let Some((key, value, why)) = unsupported::find(&file.object) {
        return Err(file.unsupported(key, value, why));
    }
    let family = file.family()?;
    let mut notes = Vec::new();
    file.note_window(&mut notes)?;
    let model = file.model(family, &mut notes)?;
    Ok(Imported { model, notes })
}

struct File<'a> {
    path: &'a Path,
    object: Map<String, Value>,
}

impl File<'_> {
    fn family(&self) -> Result<&'static Family, ConfigError> {
        let known = || FAMILIES.iter().map(|family| family.model_type);
        let expected = || format!("one of {}", known().collect::<Vec<_>>().join(", "));
        let Some(Value::String(model_type)) = self.given("model_type") else {
            return Err(self.bad("model_type", &expected()));
        };
        let family = FAMILIES.iter().find(|family| family.model_type == model_type);
        family.ok_or_else(|| self.bad("model_type", &expected()))
    }

    /// Windows: refused where the file turns them on for some layers, noted where they are shorter than the context.
    fn note_window(&self, notes: &mut Vec<String>) -> Result<(), ConfigError> {
        match self.switch("use_sliding_window")? {
            Some(false) => return Ok(()),
            Some(true) => {
                let why = "layers with a sliding window beside layers with full attention: every layer must have full \
                           attention";
                return Err(self.unsupported("use_sliding_window".to_owned(), &Value::Bool(true), why));
            }
            None => {}
        }
        if self.given("sliding_window").is_none() {
            return Ok(());
        }
        let window = self.size("sliding_window", LARGEST)?;
        let context = match self.given("max_position_embeddings") {
            Some(_) => Some(self.size("max_position_embeddings", 1 << 30)?),
            None => None,
        };
        if context.is_none_or(|context| window < context) {
            notes.push(format!(
                "model: its `sliding_window` of {window} tokens is not simulated: every layer keeps, reads and copies the \
                 whole context"
            ));
        }
        Ok(())
    }

    fn model(&self, family: &Family, notes: &mut Vec<String>) -> Result<ModelSpec, ConfigError> {
        let hidden = self.size("hidden_size", LARGEST)?;
        let heads = self.size("num_attention_heads", MOST_HEADS)?;
        let head_dim = self.head_dim(family, hidden, heads)?;
        let kv_heads = self.kv_heads(family, heads)?;
        let intermediate = self.size("intermediate_size", LARGEST)?;
        let (qkv_bias, output_bias) = match (family.biases, self.switch("attention_bias")?.unwrap_or(false)) {
            (Biases::IfStated, stated) => (stated, stated),
            (Biases::QueryKeyValue, _) => (true, false),
            (Biases::Never, false) => (false, false),
            (Biases::Never, true) => return Err(self.bad("attention_bias", "false in this family")),
        };
        let mlp_bias = self.switch("mlp_bias")?.unwrap_or(false);
        if mlp_bias && !family.mlp_bias {
            return Err(self.bad("mlp_bias", "false in this family"));
        }
        let extras = [
            (family.query_key_norms, 2 * head_dim),
            (output_bias, hidden),
            (mlp_bias, 2 * intermediate + hidden),
        ];
        let element_bytes = self.element_bytes(notes)?;
        Ok(ModelSpec {
            name: self.path.display().to_string(),
            layers: self.size("num_hidden_layers", u64::from(Layer::MAX))?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            intermediate,
            vocab: self.size("vocab_size", LARGEST)?,
            tied_embedding: self.switch("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias,
            other_layer_params: extras.iter().map(|(has, params)| if *has { *params } else { 0 }).sum(),
            kv_element_bytes: element_bytes,
            weight_element_bytes: element_bytes,
        })
    }

    fn head_dim(&self, family: &Family, hidden: u32, heads: u32) -> Result<u32, ConfigError> {
        match (self.given("head_dim"), family.head_dim) {
            (Some(_), _) => self.size("head_dim", MOST_HEADS),
            (None, Some(head_dim)) => Ok(head_dim),
            (None, None) if hidden.is_multiple_of(heads) && u64::from(hidden / heads) <= MOST_HEADS => {
                Ok(hidden / heads)
            }
            (None, None) => {
                let expected =
                    format!("a multiple of num_attention_heads, at most {MOST_HEADS} times it, or head_dim");
                Err(self.bad("hidden_size", &expected))
            }
        }
    }

    fn kv_heads(&self, family: &Family, heads: u32) -> Result<u32, ConfigError> {
        if family.may_omit_kv_heads && self.given("num_key_value_heads").is_none() {
            return Ok(heads);
        }
        let kv_heads = self.size("num_key_value_heads", u64::from(heads))?;
        if heads.is_multiple_of(kv_heads) {
            Ok(kv_heads)
        } else {
            Err(self.bad("num_key_value_heads", &format!("a divisor of num_attention_heads, {heads}")))
        }
    }

    /// The value of a key; `null` is not given.
    fn given(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn bad(&self, key: &str, expected: &str) -> ConfigError {
        ConfigError::BadValue {
            path: self.path.to_owned(),
            key: key.to_owned(),
            value: self.object.get(key).map_or_else(|| "missing".to_owned(), shown),
            expected: expected.to_owned(),
        }
    }

    fn unsupported(&self, key: String, value: &Value, why: &'static str) -> ConfigError {
        ConfigError::Unsupported { path: self.path.to_owned(), key, value: shown(value), why }
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

    /// Bytes of an element of the stated type (`torch_dtype`, in newer files `dtype`); bf16 if none is stated, noted.
    fn element_bytes(&self, notes: &mut Vec<String>) -> Result<u32, ConfigError> {
        let key = if self.given("torch_dtype").is_some() { "torch_dtype" } else { "dtype" };
        match self.given(key).map(Value::as_str) {
            None => {
                notes.push("model: its file names no `torch_dtype`: bf16 is taken".to_owned());
                Ok(2)
            }
            Some(Some("bfloat16" | "float16")) => Ok(2),
            Some(Some("float32")) => Ok(4),
            Some(_) => Err(self.bad(key, "\"bfloat16\", \"float16\" or \"float32\"")),
        }
    }
}

/// A value as written, the end of a long one left out.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Imported, String> {
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
        let read = read(text).unwrap();
        assert_eq!(read.notes, Vec::<String>::new());
        let model = ModelSpec { name: "qwen2.5-7b".to_owned(), ..read.model };
        assert_eq!(Some(model), super::super::preset("qwen2.5-7b"));
    }

    /// Llama of two layers; `changes` replace or add keys.
    fn small(changes: &str) -> String {
        let mut all: Map<String, Value> = serde_json::from_str(
            r#"{ "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96,
                "vocab_size": 9, "num_hidden_layers": 2, "torch_dtype": "bfloat16" }"#,
        )
        .expect("JSON");
        let changes: Map<String, Value> = serde_json::from_str(changes).expect("JSON");
        all.extend(changes);
        Value::Object(all).to_string()
    }

    #[test]
    fn biases_and_norms_are_counted_as_the_family_has_them() {
        let params = |changes: &str| read(&small(changes)).unwrap().model.layer_params();
        // q, k, v, o of 64 · 64; three matrices of 64 · 96; two norms of 64
        let plain = 4 * 64 * 64 + 3 * 64 * 96 + 2 * 64;
        assert_eq!(params("{}"), plain);
        assert_eq!(params(r#"{ "attention_bias": true }"#), plain + 4 * 64);
        assert_eq!(params(r#"{ "mlp_bias": true }"#), plain + 2 * 96 + 64);
        let kv = r#""num_key_value_heads": 4"#;
        assert_eq!(params(&format!(r#"{{ "model_type": "qwen2", {kv} }}"#)), plain + 3 * 64);
        // Two norms of head_dim 16; without head_dim, 128: q, k, v, o of 64 · 512
        assert_eq!(params(&format!(r#"{{ "model_type": "qwen3", "head_dim": 16, {kv} }}"#)), plain + 2 * 16);
        let wide = 4 * 64 * 512 + 3 * 64 * 96 + 2 * 64 + 2 * 128;
        assert_eq!(params(&format!(r#"{{ "model_type": "qwen3", {kv} }}"#)), wide);
    }

    #[test]
    fn what_is_no_model_is_refused_with_the_key() {
        let cases = [
            ("[]".to_owned(), "expected a JSON object"),
            ("{".to_owned(), "expected a JSON object"),
            ("{}".to_owned(), "model_type: missing: expected one of llama, mistral, qwen2, qwen3, phi3"),
            (small(r#"{ "hidden_size": null }"#), "hidden_size: null: expected a whole number from 1"),
            (small(r#"{ "num_hidden_layers": 0 }"#), "num_hidden_layers: 0: expected a whole number"),
            (small(r#"{ "num_hidden_layers": 129 }"#), "from 1 to 128"),
            (small(r#"{ "torch_dtype": "int4" }"#), "torch_dtype: \"int4\": expected"),
            (small(r#"{ "num_key_value_heads": 5 }"#), "from 1 to 4"),
            (small(r#"{ "num_key_value_heads": 3 }"#), "num_key_value_heads: 3: expected a divisor of"),
            (small(r#"{ "model_type": "mistral" }"#), "num_key_value_heads: missing"),
            (small(r#"{ "num_attention_heads": 3 }"#), "hidden_size: 64: expected a multiple"),
            (
                small(r#"{ "model_type": "phi3", "attention_bias": true }"#),
                "attention_bias: true: expected false",
            ),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_without_a_number_type_is_taken_as_bf16_and_noted() {
        let read = read(&small(r#"{ "torch_dtype": null }"#)).unwrap();
        assert_eq!((read.model.kv_element_bytes, read.notes.len()), (2, 1));
    }
}
