//! What arrives: requests with an arrival, a prompt length and an output length.
//!
//! A [`Trace`] is what every reader returns and every generator draws. It is sorted stably by arrival; token
//! ids do not exist here, only counts. Knows nothing about models, GPUs or policies.
//!
//! ```text
//! file ─► read ─► a reader (one file per format) ─► rows: filter, draw, load, sort ─► Trace ─► jsonl,
//! orbitflow
//! ```
//!
//! A new format is one file, one [`Format`] variant, one row of [`FORMATS`], one match arm, one test.

mod arrivals;
mod azure;
mod decimal;
mod error;
mod fields;
mod format;
pub mod generate;
pub mod jsonl;
mod kv_cache_tester;
mod length_distribution;
mod lengths;
mod mooncake;
mod options;
pub mod orbitflow;
mod read;
mod rows;
pub mod stats;

pub use arrivals::{ArrivalProcess, BadProcess, PROCESSES};
pub use error::TraceError;
pub use format::{FORMATS, Format};
pub use length_distribution::{BadLengths, Bin, LENGTHS, LengthDistribution};
pub use options::ReadOptions;
pub use read::{read, read_bytes};

use serde::{Deserialize, Serialize};

use crate::ids::RequestId;
use crate::units::{SimDuration, SimTime};

/// When a request enters the waiting queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// At an instant.
    At(SimTime),
    /// When the engine's step counter (prefill and decode steps) reaches this number.
    Step(u64),
    /// A later turn of a session: `think` after the last token of the turn before it.
    AfterTurn {
        /// The turn before, at a lower place in the trace.
        previous: RequestId,
        /// Time between that turn's last token and this arrival.
        think: SimDuration,
    },
}

/// One request of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// Unique name: the trace's own, or the row number.
    pub id: String,
    /// When it arrives.
    pub arrival: Arrival,
    /// Prompt tokens, at least 1.
    pub prompt_tokens: u64,
    /// Output tokens, at least 1.
    pub output_tokens: u64,
    /// The request's own time-between-tokens promise, per token.
    pub slo: Option<SimDuration>,
    /// The request's own time-to-first-token promise.
    pub ttft_slo: Option<SimDuration>,
    /// Session it belongs to, for traces of conversations.
    pub session: Option<u32>,
}

/// What an authors' trace says about the server it was made for; a scenario may override it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceHints {
    /// Most live requests.
    pub batch_size: Option<u32>,
    /// GPU KV pool as blocks per layer if every layer is resident.
    pub gpu_kv_blocks: Option<u64>,
    /// Longest context of the published run: shown, never enforced by itself.
    pub max_model_len: Option<u64>,
}

/// A sorted list of requests and what must be said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Requests, stably sorted by arrival; a later turn of a session stands somewhere after its previous turn.
    pub requests: Vec<TraceRequest>,
    /// The server an authors' trace was made for.
    pub hints: TraceHints,
    /// Sentences a reader of results must see: skipped rows, drawn arrivals, the absence of a prefix cache.
    pub notes: Vec<String>,
}
