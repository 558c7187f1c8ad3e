//! The public traces of `../shared/traces` beside the repository: row counts of its README, the pressure of
//! facts G.4.
//!
//! Without that folder each test prints `SKIPPED` and passes, unless `ORBITFLOW_REQUIRE_SHARED` is set (`make
//! shared`).

use std::path::{Path, PathBuf};

use orbitflow_sim::trace::stats::{PressureServer, pressure, stats};
use orbitflow_sim::trace::{Arrival, ReadOptions, Trace, read};
use orbitflow_sim::units::SimTime;

/// A file of the shared folder, or `None` with a visible line.
fn shared(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    if folder.is_dir() {
        return Some(folder.join(name));
    }
    assert!(
        std::env::var_os("ORBITFLOW_REQUIRE_SHARED").is_none(),
        "`{}` is missing and ORBITFLOW_REQUIRE_SHARED is set",
        folder.display()
    );
    crate::say_skipped(&format!("`{}` is not there, {name} was not read", folder.display()));
    None
}

fn read_shared(name: &str, options: &ReadOptions) -> Option<Trace> {
    Some(read(&shared(name)?, options).unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn azure_has_every_row_of_its_hour() {
    for (name, rows) in [("conv", 19_366), ("code", 8_819)] {
        let file = format!("azure/AzureLLMInferenceTrace_{name}.csv");
        let Some(trace) = read_shared(&file, &ReadOptions::default()) else { return };
        assert_eq!(trace.requests.len(), rows);
        assert!(trace.notes.is_empty(), "{:?}", trace.notes);
        let Some(Arrival::At(last)) = trace.requests.last().map(|request| request.arrival) else { panic!() };
        assert!((3400.0..3600.0).contains(&last.as_secs_f64()), "{last}");
    }
}

#[test]
fn azure_stamps_are_exact_to_100_ns() {
    let Some(trace) = read_shared("azure/AzureLLMInferenceTrace_conv.csv", &ReadOptions::default()) else {
        return;
    };
    // 18:15:46.6805900 to 18:15:50.9951690 is 4.314579 s; the last stamp is 19:14:08.4025270: 3,501.721937 s.
    assert_eq!(trace.requests[1].arrival, Arrival::At(SimTime::from_picos(4_314_579_000_000)));
    assert_eq!(trace.requests[19_365].arrival, Arrival::At(SimTime::from_picos(3_501_721_937_000_000)));
}

#[test]
fn mooncake_conversation_is_spread_and_synthetic_is_not() {
    let Some(conversation) = read_shared("mooncake/conversation_trace.jsonl.gz", &ReadOptions::default())
    else {
        return;
    };
    assert_eq!(conversation.requests.len(), 12_031);
    assert!(conversation.notes[0].contains("spread evenly over its 3 s"), "{:?}", conversation.notes);
    // About ten requests a stamp would give gaps of variation √10 or so; spread evenly they are nearly Poisson.
    let gap_cv = stats(&conversation, PressureServer::default()).gap_cv.unwrap();
    assert!((0.9..1.2).contains(&gap_cv), "{gap_cv}");
    let synthetic = read_shared("mooncake/synthetic_trace.jsonl.gz", &ReadOptions::default()).unwrap();
    assert_eq!(synthetic.requests.len(), 3_993);
    assert!(synthetic.notes.iter().all(|note| !note.contains("spread")), "{:?}", synthetic.notes);
}

#[test]
fn the_first_500_long_mooncake_prompts_can_be_asked_for() {
    let options = ReadOptions { min_prompt_tokens: 32_768, limit: Some(500), ..ReadOptions::default() };
    let Some(trace) = read_shared("mooncake/conversation_trace.jsonl.gz", &options) else { return };
    assert_eq!(trace.requests.len(), 500);
    assert!(trace.requests.iter().all(|request| request.prompt_tokens >= 32_768));
    assert!(trace.notes.iter().any(|note| note == "kept the first 500 of 829 requests"), "{:?}", trace.notes);
}

#[test]
fn tables_of_lengths_have_every_row() {
    let options = ReadOptions { arrivals: Some("poisson:0.5".parse().unwrap()), ..ReadOptions::default() };
    for (name, rows) in [
        ("vattention/arxiv_long_online.csv", 10_111),
        ("vattention/arxiv_long_offline.csv", 427),
        ("vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.first5000.csv", 5_000),
        ("etalon/bwb_stats_llama2_tokenizer_filtered_v2.first5000.csv", 5_000),
        ("etalon/sharegpt_8k_filtered_stats_llama2_tokenizer.first5000.csv", 5_000),
    ] {
        let Some(trace) = read_shared(name, &options) else { return };
        assert_eq!(trace.requests.len(), rows, "{name}");
    }
}

#[test]
fn agent_sessions_lose_no_request_without_saying_so() {
    let Some(derived) =
        read_shared("kv-cache-tester/derived/kvct_requests_no_hash.csv.gz", &ReadOptions::default())
    else {
        return;
    };
    // 46,218 rows: 676 of subagents, 27 of zero length.
    assert_eq!(derived.requests.len() + 676 + 27, 46_218);
    assert!(
        derived.notes.iter().any(|note| note == "left out 676 requests of subagents"),
        "{:?}",
        derived.notes
    );
    assert!(
        derived.notes.iter().any(|note| note.starts_with("skipped 27 of 45542 rows")),
        "{:?}",
        derived.notes
    );
    assert_eq!(stats(&derived, PressureServer::default()).sessions, 692);

    let raw = read_shared("kv-cache-tester/raw", &ReadOptions::default()).unwrap();
    let raw_stats = stats(&raw, PressureServer::default());
    assert_eq!((raw_stats.sessions, raw_stats.requests, raw_stats.later_turns), (54, 2_059, 2_005));
    let one = read_shared("kv-cache-tester/raw/trace_0057.json.gz", &ReadOptions::default()).unwrap();
    let Arrival::AfterTurn { think, .. } = one.requests[1].arrival else { panic!("a later turn") };
    assert_eq!(think.as_secs_f64(), 5.0);
}

#[test]
fn raw_and_derived_sessions_agree() {
    let Some(derived) =
        read_shared("kv-cache-tester/derived/kvct_requests_no_hash.csv.gz", &ReadOptions::default())
    else {
        return;
    };
    let raw = read_shared("kv-cache-tester/raw", &ReadOptions::default()).unwrap();
    let turns = |trace: &Trace, session: &str| -> Vec<(String, u64, u64)> {
        trace
            .requests
            .iter()
            .filter(|request| request.id.starts_with(&format!("{session}/")))
            .map(|request| (request.id.clone(), request.prompt_tokens, request.output_tokens))
            .collect()
    };
    for session in ["trace_0038", "trace_0057", "trace_0167"] {
        assert!(!turns(&raw, session).is_empty());
        assert_eq!(turns(&raw, session), turns(&derived, session));
    }
}

#[test]
fn the_papers_traces_have_the_pressure_that_the_facts_table_prints() {
    // facts G.4: N, Σ output, mean live/N, % of steps above N, above 2N, most live/N, mean batch
    for (name, pool, outputs, printed) in [
        ("32k_lambda1.0x_cv1", 561, 93_660, "0.63 17.5 3.6 2.71 1.53"),
        ("32k_lambda2.0x_cv1", 611, 177_325, "0.91 42.1 2.5 2.23 2.11"),
        ("32k_lambda5.0x_cv1", 641, 116_498, "1.69 70.8 44.8 3.41 3.02"),
    ] {
        let Some(trace) = read_shared(&format!("orbitflow-paper/{name}.json"), &ReadOptions::default())
        else {
            return;
        };
        assert_eq!((trace.requests.len(), trace.hints.gpu_kv_blocks), (52, Some(pool)));
        assert_eq!(trace.requests.iter().map(|request| request.output_tokens).sum::<u64>(), outputs);
        let pressure = pressure(&trace, PressureServer::default()).unwrap();
        let measured = format!(
            "{:.2} {:.1} {:.1} {:.2} {:.2}",
            pressure.mean_live_over_n.unwrap(),
            pressure.above_n_pct.unwrap(),
            pressure.above_2n_pct.unwrap(),
            pressure.peak_live_over_n.unwrap(),
            pressure.mean_batch
        );
        assert_eq!(measured, printed, "{name}");
    }
}

#[test]
fn every_trace_of_the_paper_is_read_with_its_server() {
    for (name, pool) in [("lambda2.0x_cv6", 611), ("token_dyn_high", 192)] {
        let Some(trace) = read_shared(&format!("orbitflow-paper/{name}.json"), &ReadOptions::default())
        else {
            return;
        };
        assert_eq!(trace.hints.gpu_kv_blocks, Some(pool));
        assert_eq!(trace.hints.batch_size, Some(4));
        // token_dyn_high has its first requests at one step: they stay in the order of their numbers.
        let numbers: Vec<u64> = trace
            .requests
            .iter()
            .map(|request| request.id.trim_start_matches("request_").parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{name}: {numbers:?}");
    }
}
