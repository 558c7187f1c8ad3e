//! What a policy sees: plain data, no way back into the engine.

use std::collections::VecDeque;

use crate::deposit::Playback;
use crate::ids::RequestId;
use crate::model::{LayerSet, Placement};
use crate::server::ServerConfig;
use crate::units::{Bytes, SimDuration, SimTime, blocks_for_tokens};

/// What the policy is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Whom to admit now; only [`super::Decision::admit`] and `placements` (to make room) are read.
    Admit,
    /// What the next decode step runs and where its layers live; `admit` is not read.
    Decode,
}

/// Whether a live request decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It is in the batch.
    Running,
    /// It is held back and holds no GPU block.
    Paused {
        /// Since when.
        since: SimTime,
    },
}

/// A request that holds a batch slot, or a preempted one that wants it back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveRequest {
    /// Who.
    pub id: RequestId,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Prompt tokens processed.
    pub prefilled: u64,
    /// Tokens made, the first included.
    pub generated: u64,
    /// Running or paused.
    pub state: RunState,
    /// The layout it has, or had when it was paused or preempted.
    pub placement: Placement,
    /// Layers of the layout that are not on the GPU yet (lazy restores).
    pub missing: LayerSet,
    /// Order of first admission, from 0.
    pub admitted: u64,
    /// Per-token SLO the policies plan for.
    pub slo: SimDuration,
    /// Its playback under that SLO, on real time.
    pub playback: Playback,
}

impl LiveRequest {
    /// Context tokens in its next decode step, the row being written included: `prompt + i`. While its prompt is being
    /// processed it counts whole: its memory is taken.
    pub fn context(&self) -> u64 {
        self.prompt_tokens + self.generated
    }

    /// Blocks per layer in its next step.
    pub fn blocks(&self) -> u64 {
        blocks_for_tokens(self.context())
    }

    /// Tokens that it has memory for between steps: its prompt, and the rows of all tokens but the newest.
    pub fn held_tokens(&self) -> u64 {
        self.prompt_tokens + self.generated.saturating_sub(1)
    }

    /// Blocks per layer that it has taken so far.
    pub fn held_blocks(&self) -> u64 {
        blocks_for_tokens(self.held_tokens())
    }

    /// Whether its prompt is still being processed: it has no token yet (`prefill = "chunked:N"`).
    pub fn is_prefilling(&self) -> bool {
        self.generated == 0
    }

    /// The layers among `layers` that must be copied to the GPU if they are to be there and are not: none before
    /// anything of the prompt is processed.
    pub fn to_restore(&self, layers: LayerSet) -> LayerSet {
        if self.prefilled == 0 { LayerSet::EMPTY } else { layers }
    }

    /// Whether it is in the batch.
    pub fn is_running(&self) -> bool {
        self.state == RunState::Running
    }
}

/// A request in the waiting queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingRequest {
    /// Who.
    pub id: RequestId,
    /// Prompt tokens.
    pub prompt_tokens: u64,
}

/// What the last decode step took, for policies that learn rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured<'a> {
    /// Whether it had neither restores nor a prefill in it.
    pub plain: bool,
    /// Compute of all layers, without tail.
    pub compute: SimDuration,
    /// Σ copy times.
    pub copy: SimDuration,
    /// Context tokens in the batch.
    pub context_tokens: u64,
    /// Requests in the batch.
    pub requests: u32,
    /// Copies over the link: how many of how many bytes each, per request.
    pub copies: &'a [(u32, Bytes)],
}

/// The state of the server at a step boundary.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is asked.
    pub stage: Stage,
    /// Now.
    pub now: SimTime,
    /// Decode and prefill steps done so far.
    pub step: u64,
    /// Layers L.
    pub layers: u32,
    /// Bytes of one layer-block.
    pub block_bytes: Bytes,
    /// The server.
    pub server: &'a ServerConfig,
    /// Requests that hold a slot, in admission order.
    pub live: &'a [LiveRequest],
    /// Preempted requests, in order of first admission.
    pub preempted: &'a [LiveRequest],
    /// The waiting queue, first come first.
    pub waiting: &'a VecDeque<WaitingRequest>,
    /// Host memory in use.
    pub host_used: Bytes,
    /// Whether the live set changed since the last decode step: a prefill ended, a completion, a preemption, the
    /// resume of a preempted request (trigger (a), design §4.1).
    pub live_set_changed: bool,
    /// The last decode step.
    pub measured: Option<Measured<'a>>,
}

impl<'a> View<'a> {
    /// Requests in the batch, in admission order.
    pub fn running(&self) -> impl DoubleEndedIterator<Item = &'a LiveRequest> + Clone {
        self.live.iter().filter(|request| request.is_running())
    }

    /// Requests held back, in admission order.
    pub fn paused(&self) -> impl DoubleEndedIterator<Item = &'a LiveRequest> + Clone {
        self.live.iter().filter(|request| !request.is_running())
    }

    /// Layer-blocks of charged staging that a request of `blocks` blocks needs with that placement and `slots` slots.
    pub fn staging(&self, placement: Placement, blocks: u64, slots: u32) -> u64 {
        if placement.offloaded.is_empty() { 0 } else { self.charged_slots(blocks, slots) }
    }

    /// Layer-blocks of charged staging that a request of `blocks` blocks needs with any layer offloaded.
    pub fn charged_slots(&self, blocks: u64, slots: u32) -> u64 {
        if self.server.switches.charge_staging { u64::from(slots) * blocks } else { 0 }
    }

    /// Layer-blocks that a request of `blocks` blocks per layer takes with that placement, charged staging included.
    pub fn gpu_need(&self, placement: Placement, blocks: u64, slots: u32) -> u64 {
        u64::from(placement.resident(self.layers)) * blocks + self.staging(placement, blocks, slots)
    }
}
