//! Hugging Face `config.json` files: written here from the published sizes of each model, read as models whose parameters
//! are the published number, and everything that must be refused.

use std::path::{Path, PathBuf};

use orbitflow_sim::model::{Imported, preset, read_config};
use orbitflow_sim::scenario::Scenario;
use serde_json::{Map, Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/models")
}

fn fixture(name: &str) -> Imported {
    read_config(&folder().join(format!("{name}.json"))).unwrap_or_else(|error| panic!("{error}"))
}

/// Published parameter counts (the safetensors index or the model card; shared embeddings once), K and V bytes per token.
const PUBLISHED: [(&str, u64, u64); 14] = [
    ("llama-3.1-8b", 8_030_261_248, 131_072),
    ("llama-3.2-1b", 1_235_814_400, 32_768),
    ("mistral-7b-v0.1", 7_241_732_096, 131_072),
    ("mistral-7b-v0.3", 7_248_023_552, 131_072),
    ("mistral-nemo-12b", 12_247_782_400, 163_840),
    ("qwen2-7b", 7_615_616_512, 57_344),
    ("qwen2.5-7b", 7_615_616_512, 57_344),
    ("qwen2.5-0.5b", 494_032_768, 12_288),
    ("qwen3-8b", 8_190_735_360, 147_456),
    ("qwen3-0.6b", 596_049_920, 114_688),
    ("phi-3-mini-4k", 3_821_079_552, 393_216),
    ("phi-3-medium-4k", 13_960_238_080, 204_800),
    ("phi-4", 14_659_507_200, 204_800),
    ("phi-4-mini", 3_836_021_760, 131_072),
];

#[test]
fn every_family_gives_the_published_parameter_count() {
    for (name, params, kv_bytes) in PUBLISHED {
        let model = fixture(name).model;
        assert_eq!(model.params(), params, "{name}");
        // 2 · layers · KV heads · head_dim · 2 B: Llama-3.1-8B 2 · 32 · 8 · 128 · 2 = 131,072
        assert_eq!(model.kv_bytes_per_token().get(), kv_bytes, "{name}");
    }
    let shipped = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(shipped, PUBLISHED.len(), "every file is in the table");
}

#[test]
fn files_of_preset_models_are_those_presets() {
    let pairs = [
        ("llama-3.1-8b", "llama-3.1-8b"),
        ("mistral-7b-v0.1", "mistral-7b"),
        ("mistral-7b-v0.3", "mistral-7b-v0.3"),
        ("qwen2.5-7b", "qwen2.5-7b"),
        ("phi-3-mini-4k", "phi-3-mini"),
        ("phi-3-medium-4k", "phi-3-medium"),
    ];
    for (file, name) in pairs {
        let mut model = fixture(file).model;
        model.name = name.to_owned();
        assert_eq!(Some(model), preset(name));
    }
}

#[test]
fn a_window_shorter_than_the_context_is_noted_and_reaches_the_scenario() {
    let noted: Vec<&str> =
        PUBLISHED.iter().map(|(name, ..)| *name).filter(|name| !fixture(name).notes.is_empty()).collect();
    // Qwen's is switched off, that of Phi-4-mini is longer than its context.
    assert_eq!(noted, ["mistral-7b-v0.1", "phi-3-mini-4k", "phi-3-medium-4k"]);
    let note = "model: its `sliding_window` of 4096 tokens is not simulated: every layer keeps, reads and copies the \
                whole context";
    assert_eq!(fixture("mistral-7b-v0.1").notes, [note]);
    let text = "model = \"mistral-7b-v0.1.json\"\nhardware = \"roofline:l4\"\npolicies = [\"resident\"]\n\
                trace.file = \"t.json\"";
    let scenario = Scenario::parse(text, "s.toml", &folder(), &[]).unwrap();
    assert_eq!(scenario.model_notes, [note]);
}

/// The message for the config of Llama-3.1-8B with `changes` in.
fn refusal(changes: Value) -> String {
    let text = std::fs::read_to_string(folder().join("llama-3.1-8b.json")).unwrap();
    let mut all: Map<String, Value> = serde_json::from_str(&text).unwrap();
    all.extend(changes.as_object().cloned().expect("an object"));
    refusal_of_text(&Value::Object(all).to_string())
}

fn refusal_of_text(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    let error = read_config(&path).expect_err(text).to_string();
    assert!(!error.contains('\n') && error.chars().count() < 400, "one line: {error}");
    error
}

#[test]
fn models_of_another_kind_are_refused_by_the_field_that_says_so() {
    let layer_types = json!(["full_attention", "sliding_attention"]);
    let cases = [
        (
            json!({ "model_type": "mixtral", "num_local_experts": 8 }),
            "num_local_experts: 8: not supported: a mixture of experts",
        ),
        (json!({ "model_type": "qwen3_moe", "num_experts": 128 }), "num_experts: 128: not supported"),
        (
            json!({ "model_type": "deepseek_v3", "n_routed_experts": 256 }),
            "n_routed_experts: 256: not supported",
        ),
        (
            json!({ "model_type": "minicpm3", "kv_lora_rank": 256 }),
            "kv_lora_rank: 256: not supported: latent attention",
        ),
        (
            json!({ "model_type": "qwen3_next", "full_attention_interval": 4 }),
            "full_attention_interval: 4: not supported",
        ),
        (
            json!({ "model_type": "qwen3", "layer_types": layer_types }),
            "layer_types[1]: \"sliding_attention\": not supported",
        ),
        (json!({ "layer_types": 3 }), "layer_types: 3: not supported"),
        (
            json!({ "model_type": "qwen2", "use_sliding_window": true }),
            "use_sliding_window: true: not supported",
        ),
        (
            json!({ "quantization_config": { "quant_method": "awq", "bits": 4 } }),
            "quantization_config: {\"bits\":4",
        ),
        (
            json!({ "model_type": "phi3small", "blocksparse_block_size": 64 }),
            "blocksparse_block_size: 64: not supported",
        ),
        (
            json!({ "model_type": "mllama", "text_config": { "hidden_size": 4096 } }),
            "save the object `text_config` as a config.json",
        ),
        (
            json!({ "model_type": "t5", "is_encoder_decoder": true }),
            "is_encoder_decoder: true: not supported",
        ),
        (
            json!({ "model_type": "gemma" }),
            "model_type: \"gemma\": expected one of llama, mistral, qwen2, qwen3, phi3",
        ),
        (json!({ "model_type": "phi" }), "model_type: \"phi\": expected one of"),
        (json!({ "model_type": 7 }), "model_type: 7: expected one of"),
        (json!({ "torch_dtype": "float8_e4m3fn" }), "torch_dtype: \"float8_e4m3fn\": expected"),
    ];
    for (changes, expected) in cases {
        let error = refusal(changes);
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn numbers_that_cannot_be_are_refused_by_their_key() {
    for value in
        [json!(-4096), json!(0), json!(1.5), json!("4096"), json!([4096]), json!(true), json!(1_u64 << 40)]
    {
        for key in
            ["hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "num_attention_heads"]
        {
            let error = refusal(json!({ key: value.clone() }));
            assert!(
                error.contains(&format!("{key}: {value}: expected a whole number from 1 to ")),
                "{error}"
            );
        }
    }
    for key in ["head_dim", "num_key_value_heads"] {
        let error = refusal(json!({ key: -8 }));
        assert!(error.contains(&format!("{key}: -8: expected a whole number")), "{error}");
    }
    assert!(
        refusal(json!({ "tie_word_embeddings": "yes" }))
            .contains("tie_word_embeddings: \"yes\": expected true or false")
    );
    assert!(refusal(json!({ "sliding_window": -1 })).contains("sliding_window: -1: expected"));
    // A value of any length is shown in a few words.
    let long = refusal(json!({ "model_type": "x".repeat(100_000) }));
    assert!(long.contains('…'), "{long}");
}

#[test]
fn texts_that_are_no_config_are_refused_in_one_line() {
    let whole = std::fs::read_to_string(folder().join("qwen3-8b.json")).unwrap();
    let mut texts: Vec<String> =
        (0..whole.len() - 2).step_by(37).map(|end| whole[..end].to_owned()).collect();
    for bad in ["NaN", "Infinity", "1e999", "-", "4096,,"] {
        texts.push(whole.replace("\"hidden_size\": 4096", &format!("\"hidden_size\": {bad}")));
    }
    texts.extend(["[]", "null", "4096", "\"text\""].map(str::to_owned));
    texts.push("[".repeat(10_000));
    for text in texts {
        let error = refusal_of_text(&text);
        assert!(error.contains("expected a JSON object"), "{error}");
    }
}
