//! Every key of a scenario, in one table: its section, what it takes, its default and what it means.
//!
//! The reader validates by it, messages find the nearest key in it, `orbitflow init` prints it and
//! `orbitflow schema scenario` is made of it, so none of them can know a key that the others do not.

use super::keys::SectionName::{self, Draw, Engine, Noise, Planner, Prefill, Slo, Top, Trace};
use super::keys::Shown::{self, Comment, Preset, Set};
use super::keys::{Key, Kind};
use super::quantity::Dimension::{self, Bytes, Duration, Rate};

const BLOCKS: u64 = 1_000_000_000;
const TOKENS: u64 = 1_000_000_000_000;

/// Every key, section by section, in the order in which `orbitflow init` prints them.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key(Top, "seed", Kind::Count { least: 0, most: u64::MAX }, Set("42"), "of every random draw"),
    key(Top, "semantics", Kind::Choice(&["physical", "published"]), Set("\"physical\""), "or \"published\": the preset of all switches below"),
    key(Top, "model", Kind::Text, Set("\"llama-3-8b\""), "preset (`orbitflow list models`), or path to a Hugging Face config.json"),
    key(Top, "hardware", Kind::Text, Set("\"engine-fit:a6000\""), "or \"roofline:h100-sxm\", or path to a profile.json"),
    key(Top, "planner_profile", Kind::Text, Comment("\"engine-fit:a5000\""), "the hardware that planners believe in; absent: the true one"),
    key(Top, "link", quantity(Rate, false), Comment("\"25.19 GiB/s\""), "replaces the rate of the hardware's link, both ways; absent: the profile's"),
    key(Top, "kv_cache_dtype", Kind::Choice(&["bf16", "fp8", "fp32"]), Comment("\"bf16\""), "elements of the KV cache: \"bf16\", \"fp8\", \"fp32\"; absent: the model's"),
    key(Top, "batch_size", Kind::Count { least: 1, most: 1_000_000 }, Set("4"), "most live requests; absent: an authors' trace says it"),
    key(Top, "gpu_kv_blocks", Kind::Count { least: 1, most: BLOCKS }, Set("561"), "GPU pool, in blocks of 16 tokens per layer"),
    key(Top, "gpu_kv", quantity(Bytes, false), Comment("\"28 GiB\""), "or its bytes, of all GPUs together; both absent: memory - weights - activations"),
    key(Top, "policies", Kind::Policies, Set("[\"orbitflow\", \"static-1\", \"static-2\", \"static-4\", \"heuristic\", \"next-layer\", \"resident\"]"), "also { use = \"orbitflow\", key = \"patient\", failure_budget = 1 }"),
    key(Top, "warmup", quantity(Duration, true), Comment("\"0 s\""), "requests that arrive before it are left out of the scores"),

    key(Trace, "file", Kind::Text, Set("\"traces/demo.json\""), "relative to this file; \"-\" is stdin"),
    key(Trace, "draw", Kind::Section(Draw), Comment("{ recipe = \"paper\", load = 2.0 }"), "or draw the trace by a recipe, with the scenario's seed"),
    key(Trace, "format", Kind::Text, Comment("\"orbitflow\""), "absent: recognised by content (`orbitflow list formats`)"),
    key(Trace, "load", Kind::Number { least: 1e-6, most: 1e6 }, Comment("1.0"), "load factor: arrivals come this many times as fast"),
    key(Trace, "limit", Kind::Count { least: 1, most: TOKENS }, Comment("500"), "only the first so many requests; absent: all"),
    key(Trace, "min_prompt_tokens", Kind::Count { least: 1, most: TOKENS }, Comment("32768"), "only requests with at least so long a prompt; absent: all"),
    key(Trace, "max_context", Kind::Count { least: 1, most: TOKENS }, Comment("131072"), "longest context, in tokens; absent: no limit"),
    key(Trace, "step_time", quantity(Duration, false), Comment("\"50 ms\""), "turns arrivals in decode steps into seconds; absent: they stay steps"),
    key(Trace, "arrivals", Kind::Text, Comment("\"poisson:0.5\""), "arrival process, rate per second, for traces that have only lengths"),

    key(Draw, "recipe", Kind::Choice(&["paper"]), Comment("\"paper\""), "the OrbitFlow paper's: bins of lengths, lognormal gaps in steps, a pool of 0.23 times the peak"),
    key(Draw, "requests", Kind::Count { least: 1, most: 100_000_000 }, Comment("52"), "how many"),
    key(Draw, "load", Kind::Number { least: 1e-3, most: 1e3 }, Comment("1.0"), "offered concurrency: requests / output tokens per step times this"),
    key(Draw, "cv", Kind::Number { least: 0.01, most: 100.0 }, Comment("1.0"), "coefficient of variation of the gaps"),
    key(Draw, "batch_size", Kind::Count { least: 1, most: 1_000_000 }, Comment("4"), "most live requests of the server that the pool is sized for"),
    key(Draw, "length_scale", Kind::Number { least: 0.05, most: 1e3 }, Comment("1.0"), "factor on every length"),

    key(Slo, "scale", Kind::Numbers { least: 1e-6, most: 1e6 }, Set("[1.5, 1, 2.5]"), "of the base SLO; the first is planned for, all are scored"),
    key(Slo, "tbt", quantity(Duration, false), Comment("\"70 ms\""), "or the time per token itself"),
    key(Slo, "ttft", quantity(Duration, false), Comment("\"5 s\""), "time to the first token; absent: 5 s for `ttft` and `e2e`, none for goodput"),

    key(Prefill, "base", quantity(Duration, true), Comment("\"0 s\""), "per prefill step; this section absent: the profile's"),
    key(Prefill, "per_token", quantity(Duration, true), Comment("\"0.1 ms\""), "per prompt token"),

    key(Engine, "host_kv", quantity(Bytes, false), Comment("\"512 GiB\""), "host memory for KV; absent: unbounded"),
    key(Engine, "charge_staging", Kind::Switch, Preset, "whether staging slots take room in the GPU pool"),
    key(Engine, "slots", Kind::Count { least: 1, most: 128 }, Preset, "staging slots per request with an offloaded layer"),
    key(Engine, "copy_order", Kind::Choice(&["ready-first", "in-order"]), Preset, "or \"in-order\""),
    key(Engine, "cross_step_prefetch", Kind::Switch, Comment("false"), "whether a request's first copy of the next step may start in this one"),
    key(Engine, "write_back", Kind::Choice(&["free", "link"]), Preset, "new KV to the host: \"free\" or real traffic on the \"link\""),
    key(Engine, "restore", Kind::Choice(&["blocking", "lazy"]), Preset, "layers that become resident: \"blocking\" or \"lazy\""),
    key(Engine, "admission", Kind::Choice(&["free", "reclaimable"]), Preset, "what a newcomer may take: \"free\" or \"reclaimable\" blocks"),
    key(Engine, "prefill", Kind::Prefill, Comment("\"separate\""), "prompts in steps of their own; \"chunked:512\": up to 512 prompt tokens join each decode step, \"chunked:inf\": all"),
    key(Engine, "planning", Kind::Choice(&["synchronous", "ahead", "free"]), Preset, "what a step pays of the solver's time: \"synchronous\", \"ahead\", \"free\""),
    key(Engine, "solver_time", Kind::Quantity { dimension: Duration, zero: true, words: &["table"] }, Preset, "modelled time of one solve: \"table\" or a duration"),
    key(Engine, "link_intercept", Kind::Choice(&["drop", "per-step"]), Comment("\"drop\""), "the constant of a published link fit: \"drop\" or \"per-step\""),
    key(Engine, "contention", Kind::Switch, Comment("true"), "whether copies and compute slow each other where the profile says how much"),
    key(Engine, "tensor_parallel", Kind::Count { least: 1, most: 128 }, Comment("1"), "GPUs of the hardware's kind that split weights and KV evenly"),
    key(Engine, "shared_link", Kind::Switch, Comment("false"), "whether they share one host link instead of one each"),
    key(Engine, "noise", Kind::Section(Noise), Comment("{ compute_cv = 0.0, copy_cv = 0.0 }"), "lognormal factors of mean 1 on the true times"),
    key(Noise, "compute_cv", Kind::Number { least: 0.0, most: 10.0 }, Comment("0.0"), "coefficient of variation of a step's compute"),
    key(Noise, "copy_cv", Kind::Number { least: 0.0, most: 10.0 }, Comment("0.0"), "coefficient of variation of a copy"),

    key(Planner, "failure_budget", Kind::Number { least: 0.0, most: 1e6 }, Preset, "requests that may miss the SLO, F"),
    key(Planner, "deposit", Kind::Switch, Preset, "whether the planner counts tokens made ahead"),
    key(Planner, "pause", Kind::Switch, Preset, "whether an infeasible batch pauses a victim"),
    key(Planner, "victim", Kind::Choice(&["longest", "shortest", "random", "tightest-slo", "loosest-slo"]), Preset, "who is paused: \"longest\", \"shortest\", \"random\", \"tightest-slo\", \"loosest-slo\""),
    key(Planner, "replan_at_window_end", Kind::Switch, Preset, "whether a plan is made anew when its window is over"),
    key(Planner, "resume_at_window_end", Kind::Switch, Preset, "whether paused requests are candidates when the window ends"),
    key(Planner, "max_pause", Kind::Quantity { dimension: Duration, zero: false, words: &["off"] }, Preset, "longest pause, or \"off\""),
    key(Planner, "admit_past_paused", Kind::Switch, Preset, "whether new requests are admitted while one is paused"),
    key(Planner, "feedback", Kind::Switch, Preset, "whether measured rates correct the believed ones"),
    key(Planner, "replan_tolerance", Kind::Number { least: 1e-6, most: 1e3 }, Preset, "how far off a rate must be"),
    key(Planner, "replan_patience", Kind::Count { least: 1, most: 1_000_000 }, Preset, "for how many consecutive steps"),
    key(Planner, "uniform", Kind::Switch, Preset, "one common distance for all requests"),
    key(Planner, "as_coded", Kind::Switch, Preset, "`selectn` by its released code instead of its published idea"),
    key(Planner, "node_cap", Kind::Count { least: 1, most: TOKENS }, Preset, "most nodes one search may visit"),
    key(Planner, "placement_space", Kind::Choice(&["distance", "layers"]), Preset, "chosen per request: a \"distance\", or any \"layers\""),
    key(Planner, "objective", Kind::Choice(&["step-time", "goodput"]), Preset, "shortest \"step-time\", or \"goodput\": victims are paused while it grows"),
    key(Planner, "forecast", Kind::Choice(&["prefix", "pipeline"]), Preset, "the planner's model of a step: \"prefix\", or the simulated \"pipeline\""),
    key(Planner, "migration_cost", Kind::Switch, Preset, "whether copies that bring layers back enter the objective, spread over the window"),
];

const fn key(section: SectionName, name: &'static str, kind: Kind, shown: Shown, about: &'static str) -> Key {
    Key { section, name, kind, shown, about }
}

const fn quantity(dimension: Dimension, zero: bool) -> Kind {
    Kind::Quantity { dimension, zero, words: &[] }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::{Scenario, TraceFacts, keys, template};

    fn accepts(overrides: &[String]) {
        let read =
            Scenario::parse(&template("t.json", TraceFacts::default()), "init", Path::new(""), overrides);
        if let Err(error) = read {
            panic!("{overrides:?}: {error}");
        }
    }

    fn dotted(key: &Key) -> String {
        let path = key.section.path();
        if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) }
    }

    #[test]
    fn every_key_takes_the_value_that_init_shows() {
        for key in KEYS {
            if let Set(value) | Comment(value) = key.shown {
                // The first is for `prefill.base`, which needs the other key of its section beside it.
                accepts(&["prefill.per_token=1 us".to_owned(), format!("{}={value}", dotted(key))]);
            }
        }
    }

    #[test]
    fn every_word_of_the_table_is_a_word_of_its_type() {
        for key in KEYS {
            match key.kind {
                Kind::Choice(words) => {
                    words.iter().for_each(|word| accepts(&[format!("{}=\"{word}\"", dotted(key))]));
                }
                Kind::Quantity { words, .. } => {
                    words.iter().for_each(|word| accepts(&[format!("{}=\"{word}\"", dotted(key))]));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn names_are_unique_within_a_section() {
        for (index, key) in KEYS.iter().enumerate() {
            let twin =
                KEYS[..index].iter().find(|other| other.section == key.section && other.name == key.name);
            assert!(twin.is_none(), "{}", dotted(key));
            assert_eq!(keys::find(key.section, key.name), Some(key));
        }
    }
}
