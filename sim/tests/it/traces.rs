//! Reading, writing and drawing traces: every format on small samples, every bad input, and what must hold of
//! any trace.

use std::path::{Path, PathBuf};

use orbitflow_sim::trace::{Arrival, ReadOptions, Trace, TraceError, read_bytes};
use orbitflow_sim::units::{SimDuration, SimTime};

mod bad_input;
mod formats;
mod laws;
mod shipped;
mod statistics;

pub fn read(text: &str) -> Trace {
    read_with(text, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

pub fn read_with(text: &str, options: &ReadOptions) -> Result<Trace, TraceError> {
    read_bytes("t", text.as_bytes().to_vec(), options)
}

/// The message for a text that must be refused, with its causes.
pub fn refusal(text: &str, options: &ReadOptions) -> String {
    format!("{:#}", anyhow::Error::from(read_with(text, options).expect_err(text)))
}

pub fn seconds(secs: f64) -> Arrival {
    Arrival::At(SimTime::ZERO + SimDuration::from_secs_f64(secs))
}

pub fn arrivals(trace: &Trace) -> Vec<Arrival> {
    trace.requests.iter().map(|request| request.arrival).collect()
}

pub fn ids(trace: &Trace) -> Vec<&str> {
    trace.requests.iter().map(|request| request.id.as_str()).collect()
}

pub const AUTHORS: &str = r#"{"batch_size": 4, "max_model_len": 32384, "num_gpu_blocks_override": 561,
 "arrival_pattern": "x", "vocab": [200, 30000], "requests": {
 "request_10": {"category": "SSS", "input_length": 30, "output_length": 3, "arrival_time": 5, "sched_time": 1},
 "request_2": {"input_length": 20, "output_length": 2, "arrival_time": 5},
 "request_0": {"input_length": 10, "output_length": 1, "arrival_time": 0}}}"#;

pub const SESSION: &str = r#"{"id":"s","block_size":64,"hash_id_scope":"local","requests":[
 {"t":0.0,"type":"n","in":100,"out":10,"hash_ids":[1],"api_time":2.5,"think_time":0.0},
 {"t":5.0,"type":"subagent","requests":[{"t":0.0,"in":7,"out":7},{"t":1.0,"in":7,"out":7}]},
 {"t":10.0,"type":"s","in":120,"out":10,"hash_ids":[1],"think_time":7.0},
 {"t":30.0,"type":"n","in":140,"out":0,"hash_ids":[1],"api_time":4.0,"think_time":27.5},
 {"t":40.0,"type":"n","in":150,"out":10,"hash_ids":[1],"api_time":1.0}]}"#;

/// Compresses a text.
pub fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
