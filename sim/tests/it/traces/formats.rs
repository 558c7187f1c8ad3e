//! Each format on a small sample, and what our writers make of it.

use std::fs;

use orbitflow_sim::trace::{
    Arrival, ArrivalProcess, FORMATS, Format, ReadOptions, jsonl, orbitflow, read_bytes,
};
use orbitflow_sim::units::{SimDuration, SimTime};

use super::{AUTHORS, SESSION, arrivals, gzip, ids, read, read_with, refusal, seconds};

#[test]
fn our_own_lines_are_sorted_stably_and_sessions_are_chained() {
    let trace = read(
        r#"{"id":"c","arrival_s":2.5,"prompt_tokens":5,"output_tokens":1,"slo_s":0.05,"ttft_slo_s":2}
           {"arrival_s":1,"prompt_tokens":6,"output_tokens":1,"session":"x"}

           {"think_s":0.5,"prompt_tokens":7,"output_tokens":1,"session":"x"}
           {"arrival_s":1.0,"prompt_tokens":8,"output_tokens":1}"#,
    );
    // The turn after "1" can come at 1.5 at the earliest; rows 1 and 3 tie at 1 and keep their order.
    assert_eq!(ids(&trace), ["1", "3", "2", "c"]);
    let Arrival::AfterTurn { previous, think } = trace.requests[2].arrival else { panic!("a later turn") };
    assert_eq!((previous.index(), think), (0, SimDuration::from_secs_f64(0.5)));
    assert_eq!(trace.requests[3].slo, Some(SimDuration::from_secs_f64(0.05)));
    assert_eq!(trace.requests[3].ttft_slo, Some(SimDuration::from_secs(2)));
    assert_eq!(trace.requests[0].session, Some(0));
    assert!(trace.notes.iter().any(|note| note.contains("no prefix cache")), "{:?}", trace.notes);
    assert!(trace.notes.iter().any(|note| note.contains("sorted by arrival")), "{:?}", trace.notes);
}

#[test]
fn the_authors_requests_are_taken_in_numeric_order_with_their_server() {
    let trace = read(AUTHORS);
    assert_eq!(ids(&trace), ["request_0", "request_2", "request_10"]);
    assert_eq!(arrivals(&trace), [0, 5, 5].map(Arrival::Step));
    assert_eq!(trace.hints.batch_size, Some(4));
    assert_eq!(trace.hints.gpu_kv_blocks, Some(561));
    assert_eq!(trace.hints.max_model_len, Some(32_384));
    let bare = read(&AUTHORS.replace("request_", ""));
    assert_eq!(ids(&bare), ["0", "2", "10"]);
}

#[test]
fn azure_stamps_count_from_the_first_row_to_100_ns() {
    // CRLF, no end of the last line, one row of zero length.
    let trace = read(
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 23:59:59.9799600,374,44\r\n\
         2023-11-17 00:00:00.0319601,0,8\r\n2023-11-17 00:00:00.0319601,110,27",
    );
    assert_eq!(trace.requests.len(), 2);
    // 60.0319601 s − 59.9799600 s = 52,000.1 µs
    assert_eq!(trace.requests[1].arrival, Arrival::At(SimTime::from_picos(52_000_100_000)));
    assert_eq!(trace.requests[1].id, "2");
    assert_eq!(trace.notes, ["skipped 1 of 3 rows: prompt or output of zero tokens"]);
}

#[test]
fn a_grid_of_three_seconds_is_spread_by_the_seed_and_other_stamps_are_not() {
    let row = |ms: u64| {
        format!("{{\"timestamp\": {ms}, \"input_length\": 9, \"output_length\": 2, \"hash_ids\": [1]}}\n")
    };
    let grid: String = [0, 0, 0, 3000, 5999, 5999].map(row).concat();
    let seeded = |seed| read_with(&grid, &ReadOptions { seed, ..ReadOptions::default() }).unwrap();
    assert_eq!(arrivals(&seeded(1)), arrivals(&seeded(1)));
    assert_ne!(arrivals(&seeded(1)), arrivals(&seeded(2)));
    for seed in 0..50 {
        for request in &seeded(seed).requests {
            let Arrival::At(at) = request.arrival else { panic!("an instant") };
            let stamp = [0.0, 0.0, 0.0, 3.0, 5.999, 5.999][request.id.parse::<usize>().unwrap()];
            let late = at.as_secs_f64() - stamp;
            assert!((0.0..=3.0).contains(&late), "{late}");
        }
    }
    assert!(seeded(1).notes[0].contains("spread evenly over its 3 s, seed 1"), "{:?}", seeded(1).notes);
    let fine: String = [0, 40, 3000].map(row).concat();
    assert_eq!(arrivals(&read(&fine)), [0.0, 0.04, 3.0].map(seconds));
}

#[test]
fn a_table_of_lengths_needs_a_process_and_says_which_it_got() {
    let table =
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n100,10,110,10\n200,20.0,220,10\n";
    assert!(refusal(table, &ReadOptions::default()).contains("hint: set `arrivals`"));
    let process: ArrivalProcess = "periodic:4".parse().unwrap();
    let options = ReadOptions { arrivals: Some(process), seed: 9, ..ReadOptions::default() };
    let trace = read_with(table, &options).unwrap();
    assert_eq!(arrivals(&trace), [0.0, 0.25].map(seconds));
    assert_eq!(trace.requests[1].output_tokens, 20);
    assert_eq!(trace.notes, ["the file has no arrivals: drawn from periodic:4 (per second), seed 9"]);
    assert!(
        refusal("{\"arrival_s\":0,\"prompt_tokens\":1,\"output_tokens\":1}", &options)
            .contains("says itself")
    );
}

#[test]
fn a_session_thinks_from_the_end_of_the_answer_before() {
    let trace = read(SESSION);
    // Turn 2 follows a recorded answer: its own 7.0. Turn 3 has no output and is skipped. It would have come
    // after an unrecorded answer: min(27.5, 30 − 10) = 20. Turn 4 has no think time: 40 − 30 − 4 = 6, and falls
    // back to turn 2: 20 + 6 = 26.
    let thinks: Vec<Option<(u32, f64)>> = trace
        .requests
        .iter()
        .map(|request| match request.arrival {
            Arrival::AfterTurn { previous, think } => Some((previous.0, think.as_secs_f64())),
            _ => None,
        })
        .collect();
    assert_eq!(thinks, [None, Some((0, 7.0)), Some((1, 26.0))]);
    assert_eq!(ids(&trace), ["s/0", "s/2", "s/4"]);
    assert_eq!(trace.requests[0].arrival, Arrival::At(SimTime::ZERO));
    for said in [
        "left out 2 requests of subagents",
        "2 turns follow",
        "skipped 1 of 4",
        "all are at 0",
        "no prefix cache",
    ] {
        assert!(trace.notes.iter().any(|note| note.contains(said)), "{said}: {:?}", trace.notes);
    }
}

#[test]
fn the_derived_table_of_sessions_reads_as_the_documents_do() {
    let table = "trace,depth,idx,t,type,in,out,api_time,think_time,model\n\
                 s,0,0,0.0,n,100,10,2.5,0.0,m\ns,1,0,0.0,n,7,7,1.0,0.0,m\ns,1,1,1.0,n,7,7,1.0,0.0,m\n\
                 s,0,2,10.0,s,120,10,,7.0,m\ns,0,3,30.0,n,140,0,4.0,27.5,m\ns,0,4,40.0,n,150,10,1.0,,m\n";
    assert_eq!(read(table), read(SESSION));
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.json"), SESSION.replace("\"s\",\"block", "\"b\",\"block")).unwrap();
    fs::write(folder.path().join("a.json.gz"), gzip(&SESSION.replace("\"s\",\"block", "\"a\",\"block")))
        .unwrap();
    fs::write(folder.path().join("README.md"), "no trace").unwrap();
    let options = ReadOptions { arrivals: Some("periodic:0.5".parse().unwrap()), ..ReadOptions::default() };
    let trace = orbitflow_sim::trace::read(folder.path(), &options).unwrap();
    assert_eq!(trace.requests.len(), 6);
    assert_eq!((trace.requests[0].id.as_str(), trace.requests[1].id.as_str()), ("a/0", "b/0"));
    assert_eq!(trace.requests[1].arrival, seconds(2.0));
    let azure = ReadOptions { format: Some(Format::Azure), ..ReadOptions::default() };
    let error = orbitflow_sim::trace::read(folder.path(), &azure).unwrap_err().to_string();
    assert!(error.contains("is a folder"), "{error}");
}

#[test]
fn every_format_is_recognised_by_content_also_when_gzipped() {
    let samples = [
        (Format::Jsonl, "{\"arrival_s\":0,\"prompt_tokens\":1,\"output_tokens\":1}\n"),
        (Format::Orbitflow, AUTHORS),
        (Format::Azure, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n"),
        (Format::Mooncake, "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1}\n"),
        (Format::Lengths, "num_prefill_tokens,num_decode_tokens\n1,1\n"),
        (Format::KvCacheTester, SESSION),
    ];
    assert_eq!(samples.map(|(format, _)| format), FORMATS.map(|(format, ..)| format));
    for (format, text) in samples {
        assert_eq!(Format::recognise(text), Some(format));
        let arrivals = (format == Format::Lengths).then_some(ArrivalProcess::AtOnce);
        let options = ReadOptions { arrivals, ..ReadOptions::default() };
        let zipped = read_bytes("t", gzip(text), &options).unwrap();
        assert_eq!(zipped, read_with(text, &options).unwrap(), "{format}");
        let named = ReadOptions { format: Some(format), ..options };
        assert_eq!(read_with(text, &named).unwrap(), zipped, "{format}");
    }
}

#[test]
fn the_authors_json_survives_a_round_trip_with_its_server() {
    let trace = read(AUTHORS);
    let written = orbitflow::write(&trace, "ours").unwrap();
    let again = read(&written);
    assert_eq!((again.requests, again.hints), (trace.requests, trace.hints));
    // The four largest of 11, 22 and 33 tokens: ceil(66 / 16) = 5.
    assert!(written.contains("\"peak_batch_blocks\": 5,"), "{written}");
    let seconds = read("{\"arrival_s\":0,\"prompt_tokens\":1,\"output_tokens\":1}");
    assert!(orbitflow::write(&seconds, "").unwrap_err().to_string().contains("hint: convert to jsonl"));
}

#[test]
fn the_schema_of_a_line_has_the_keys_that_the_reader_takes() {
    let schema = serde_json::to_value(schemars::schema_for!(jsonl::Line)).unwrap();
    let keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    for key in &keys {
        let error = refusal(
            &format!("{{\"{key}\":[]}}"),
            &ReadOptions { format: Some(Format::Jsonl), ..ReadOptions::default() },
        );
        assert!(!error.contains("unknown key"), "{error}");
    }
    let error = refusal("{\"x\":1}", &ReadOptions { format: Some(Format::Jsonl), ..ReadOptions::default() });
    assert!(keys.iter().all(|key| error.contains(key.as_str())), "{error}");
    assert_eq!(keys.len(), 9);
}
