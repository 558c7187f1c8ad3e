//! Every bad input: one clear line with file, place, key, value and what was expected.

use std::path::Path;

use orbitflow_sim::trace::{ReadOptions, read_bytes};
use orbitflow_sim::units::SimDuration;

use super::{AUTHORS, SESSION, gzip, refusal};

#[test]
fn every_bad_line_of_our_own_format_is_named_with_its_remedy() {
    let good = "{\"arrival_s\":0,\"prompt_tokens\":1,\"output_tokens\":1}";
    for (line, message) in [
        (
            r#"{"arrival_s":1,"prompt_tokens":0,"output_tokens":1}"#,
            "`t` line 2: `prompt_tokens` is 0: expected a whole number of tokens from 1",
        ),
        (r#"{"arrival_s":1,"prompt_tokens":-5,"output_tokens":1}"#, "`prompt_tokens` is -5"),
        (r#"{"arrival_s":1,"prompt_tokens":1.5,"output_tokens":1}"#, "`prompt_tokens` is 1.5"),
        (r#"{"arrival_s":1,"prompt_tokens":"9","output_tokens":1}"#, "`prompt_tokens` is \"9\""),
        (r#"{"arrival_s":1,"prompt_tokens":1e30,"output_tokens":1}"#, "`prompt_tokens` is 1e30"),
        (r#"{"arrival_s":1,"prompt_tokens":99999999999,"output_tokens":1}"#, "from 1 to 1000000000"),
        (r#"{"arrival_s":1,"prompt_tokens":1}"#, "`output_tokens` is missing"),
        (r#"{"arrival_s":1,"prompt_tokens":1,"output_tokens":null}"#, "`output_tokens` is missing"),
        (
            r#"{"arrival_s":-1,"prompt_tokens":1,"output_tokens":1}"#,
            "`arrival_s` is -1: expected a number of seconds from 0",
        ),
        (r#"{"arrival_s":1e9,"prompt_tokens":1,"output_tokens":1}"#, "(213 days)"),
        (r#"{"arrival_s":1e999,"prompt_tokens":1,"output_tokens":1}"#, "`arrival_s` is 1e999"),
        (
            r#"{"arrival_s":NaN,"prompt_tokens":1,"output_tokens":1}"#,
            "`t` line 2: not a complete JSON object",
        ),
        (r#"{"arrival_s":1,"prompt_tokens":1,"output_t"#, "`t` line 2: not a complete JSON object"),
        (r#"[1, 2]"#, "`t` line 2: not a complete JSON object"),
        (r#"{"arrival_s":1,"promt_tokens":1,"output_tokens":1}"#, "hint: did you mean `prompt_tokens`?"),
        (r#"{"arrival_s":1,"prompt_tokens":1,"output_tokens":1,"priority":3}"#, "unknown key `priority`"),
        (r#"{"arrival_s":1,"arrival_s":2,"prompt_tokens":1,"output_tokens":1}"#, "given twice"),
        (r#"{"prompt_tokens":1,"output_tokens":1}"#, "`arrival_s` is missing: expected an arrival"),
        (
            r#"{"arrival_step":1,"prompt_tokens":1,"output_tokens":1}"#,
            "`arrival_step` in a trace whose earlier requests have `arrival_s`",
        ),
        (
            r#"{"arrival_s":1,"arrival_step":1,"prompt_tokens":1,"output_tokens":1}"#,
            "given beside `arrival_s`",
        ),
        (r#"{"think_s":1,"prompt_tokens":1,"output_tokens":1}"#, "no earlier turn"),
        (r#"{"think_s":1,"session":"x","prompt_tokens":1,"output_tokens":1}"#, "no earlier turn"),
        (r#"{"arrival_s":1,"session":1.5,"prompt_tokens":1,"output_tokens":1}"#, "`session` is 1.5"),
        (r#"{"id":"0","arrival_s":1,"prompt_tokens":1,"output_tokens":1}"#, "id `0` is taken"),
        (r#"{"id":7,"arrival_s":1,"prompt_tokens":1,"output_tokens":1}"#, "`id` is 7: expected a string"),
        (r#"{"arrival_s":1,"slo_s":0,"prompt_tokens":1,"output_tokens":1}"#, "`slo_s` is 0"),
    ] {
        let error = refusal(&format!("{good}\n{line}\n"), &ReadOptions::default());
        assert!(error.contains(message), "{line}\n{error}");
        assert!(error.contains("line 2"), "{line}\n{error}");
    }
    let session = r#"{"arrival_s":0,"session":1,"prompt_tokens":1,"output_tokens":1}"#;
    let error = refusal(&format!("{session}\n{session}"), &ReadOptions::default());
    assert!(error.contains("expected `think_s`"), "{error}");
    let error =
        refusal(&format!("{session}\n{}", session.replace("\"arrival_s\":0,", "")), &ReadOptions::default());
    assert!(error.contains("`think_s` is missing"), "{error}");
}

#[test]
fn every_bad_file_of_the_world_is_named_with_its_place() {
    let cut = &AUTHORS[..AUTHORS.len() - 40];
    for (text, message) in [
        ("", "holds no requests: it is empty"),
        ("  \n\n", "holds no requests: it is empty"),
        ("hello\nworld\n", "like no trace format that is known: expected one of jsonl, orbitflow, azure"),
        (cut, "`t`: not a complete JSON object"),
        (&AUTHORS.replace("\"request_2\"", "\"second\""), "is `second`: expected names like `request_7`"),
        (&AUTHORS.replace("request_2", "request_10"), "id `request_10` is taken"),
        (
            &AUTHORS.replace("\"input_length\": 20", "\"input_length\": -1"),
            "entry `request_2`: `input_length` is -1",
        ),
        (
            &AUTHORS.replace("\"arrival_time\": 0", "\"arrival_time\": 0.5"),
            "`arrival_time` is 0.5: expected a whole number",
        ),
        (&AUTHORS.replace("\"arrival_time\": 0", "\"sched_time\": 0"), "`arrival_time` is missing"),
        (&AUTHORS.replace("\"batch_size\": 4", "\"batch_size\": 0"), "`batch_size` is 0"),
        ("{\"batch_size\": 4, \"requests\": {}}", "holds no requests"),
        ("{\"batch_size\": 4, \"requests\": [1]}", "entry `requests`: not a complete JSON object"),
        ("TIMESTAMP,ContextTokens\n2023-11-16 18:17:03,1\n", "line 1: column `GeneratedTokens` is missing"),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,1\n",
            "line 2: `TIMESTAMP` is noon: expected a UTC time",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1\n",
            "line 2: not a row of the table: 2 columns: expected 3",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,,1\n",
            "line 2: `ContextTokens` is empty",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,NaN,1\n",
            "line 2: `ContextTokens` is NaN",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,0,1\n",
            "of 1 rows 1 have zero tokens",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2022-01-01 00:00:00,1,1\n2023-01-01 00:00:00,1,1\n",
            "after 213 days",
        ),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no requests"),
        ("{\"timestamp\": -1, \"input_length\": 1, \"output_length\": 1}", "line 1: `timestamp` is -1"),
        ("{\"timestamp\": 0, \"input_length\": 1}", "line 1: `output_length` is missing"),
        ("num_prefill_tokens,tokens\n1,1\n", "column `num_decode_tokens` is missing"),
        ("num_prefill_tokens,num_decode_tokens\n1,inf\n", "line 2: `num_decode_tokens` is inf"),
        (&SESSION.replace("\"in\":120", "\"in\":-1"), "requests[2]: `in` is -1"),
        (&SESSION.replace("\"t\":10.0,", ""), "requests[2]: `t` is missing"),
        (&SESSION.replace("\"think_time\":7.0", "\"think_time\":-7.0"), "`think_time` is -7.0"),
    ] {
        let error = refusal(text, &ReadOptions::default());
        assert!(error.contains(message) && error.contains("`t`"), "{text}\n{error}");
    }
    let error = read_bytes("t", b"{\"arrival_s\":0}\n\xff\n".to_vec(), &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("line 2: expected UTF-8"), "{error}");
    let mut cut = gzip(AUTHORS);
    cut.truncate(60);
    let error = read_bytes("t", cut, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("cannot decompress trace `t`"), "{error}");
    let error = orbitflow_sim::trace::read(Path::new("no/such/file"), &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("cannot read trace `no/such/file`"), "{error}");
}

#[test]
fn options_that_cannot_be_are_refused() {
    for load in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        let options = ReadOptions { load, ..ReadOptions::default() };
        assert!(refusal(AUTHORS, &options).contains("`load` is"), "{load}");
    }
    let options = ReadOptions { limit: Some(0), ..ReadOptions::default() };
    assert!(refusal(AUTHORS, &options).contains("`limit` is 0: expected at least 1"));
    let options = ReadOptions { step_time: Some(SimDuration::ZERO), ..ReadOptions::default() };
    assert!(refusal(AUTHORS, &options).contains("`step_time` is 0 s"));
    let options = ReadOptions { min_prompt_tokens: 1000, ..ReadOptions::default() };
    assert!(
        refusal(AUTHORS, &options)
            .contains("holds no requests: of 3 rows 0 have zero tokens and 3 a prompt below 1000")
    );
    let options =
        ReadOptions { step_time: Some(SimDuration::from_secs(10_000_000)), ..ReadOptions::default() };
    assert!(refusal(AUTHORS, &options).contains("after 213 days"));
}
