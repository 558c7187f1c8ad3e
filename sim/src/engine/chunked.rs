//! Chunked prefill: prompt tokens beside the decodes of each step (`prefill = "chunked:N"`, design §3.5.3).
//!
//! Prompts in steps of their own make everyone who decodes wait for the longest newcomer. In chunks they wait for N
//! tokens of it at most (Sarathi-Serve, OSDI 2024; the default of vLLM since 2024, whose token budget counts decodes as
//! well; here N is of prompt tokens alone).
//!
//! **Who**: an admitted request is in the batch at once, with its whole prompt's blocks taken at its placement, on the
//! GPU and on the host (conservative: nothing else can be promised to it). Until it has its first token it takes, first
//! come first served by admission, what is left of the step's `min(N, max_context)` prompt tokens. In the step that
//! processes the last token of its prompt it makes token 0, the live set changes (trigger (a)), and from the next step on
//! it decodes. Everyone else decodes in every step.
//!
//! **Time**: with `C` the time of the step's chunks ([`CostModel::prefill_chunks`](crate::cost::CostModel::prefill_chunks)),
//! layer `j` of L computes for ([`joined_layers`](crate::pipeline::joined_layers))
//!
//! ```text
//! tc_j + R(j·C/L) − R((j−1)·C/L)         R: down to the picosecond, so that they sum to C
//! ```
//!
//! and copies run under it as under any step. A chunk after the first attends to the rows before it: of a request that
//! goes on at token `p₀ > 0` every offloaded layer, and every one that is missing after a pause, is copied at
//! `ceil(p₀/16)` blocks. One whose turn does not come copies nothing. The tail is the decodes'.
//!
//! **A step without decodes** is a prefill step, of chunks: no tail, at least the time to read the weights, and with
//! `write_back = "link"` at least its rows' bytes over the link, as a prefill step of whole prompts. Beside decodes the
//! rows of prompts go to the host as those of decodes do, layer by layer behind its compute, and delay the next step
//! if they are not there by then. So with N without bound, and prompts that meet no decode, every step is the one that
//! `prefill = "separate"` has, to the picosecond.
//!
//! **Policies** see a request whose prompt is being processed as one that decodes at the length of its prompt: it has
//! a placement, counts in forecasts and in the budget of the SLO, may be paused or preempted before its first token,
//! and keeps what was processed. While nobody decodes and nobody is held back there is nothing to decide: no one is
//! asked. A step with a chunk is not forecast and teaches planners nothing (trigger (d)).
//!
//! **Across steps** (`cross_step_prefetch`): a request begins no copy for its next step before it decodes.
//!
//! Worked: four layers of 1 ms, 1 ms per prompt token, one request decodes, another comes with 10 tokens. Separate: the
//! newcomer has its first token after 10 ms, the other one a gap of 10 + 4 = 14 ms. In chunks of 4: steps of 8, 8 and 6
//! ms; the first token comes after 22 ms, and no gap is longer than 8. Tests:
//! `chunks_bound_the_gap_of_those_who_decode_and_the_newcomer_waits_for_it`; step by step against a server written anew,
//! `every_step_is_the_one_of_a_server_written_anew`; against separate prefills,
//! `whole_prompts_that_meet_no_decode_are_separate_ones_event_by_event`.

use super::Engine;
use crate::cost::PromptChunk;
use crate::ids::RequestId;
use crate::policy::LiveRequest;
use crate::record::Sink;
use crate::server::Prefill;

/// What a step processes of one prompt.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    pub(super) request: RequestId,
    pub(super) part: PromptChunk,
}

impl<S: Sink> Engine<'_, S> {
    /// The parts of prompts that the running requests have in the next step, in batch order.
    pub(super) fn collect_chunks(&self, chunks: &mut Vec<Chunk>) {
        chunks.clear();
        let Prefill::Chunked(most) = self.setup.server.switches.prefill else { return };
        let most = most.map_or(u64::MAX, u64::from);
        let mut left = self.setup.server.max_context.map_or(most, |step| most.min(step));
        let running = self.live.iter().filter(|request| request.is_running());
        for request in running.filter(|request| request.is_prefilling()) {
            let (prompt, from) = (request.prompt_tokens, request.prefilled);
            let to = prompt.min(from.saturating_add(left));
            if from < to {
                chunks.push(Chunk { request: request.id, part: PromptChunk { prompt, from, to } });
                left -= to - from;
            }
        }
    }

    /// Whether the next step is made of prompts only, and no policy could have it otherwise.
    pub(super) fn only_prefills(&self) -> bool {
        self.live.iter().all(|request| request.is_running() && request.is_prefilling())
    }
}

/// The part that a step has of the prompt of `request`.
pub(super) fn chunk_of(chunks: &[Chunk], request: &LiveRequest) -> Option<PromptChunk> {
    chunks.iter().find(|chunk| chunk.request == request.id).map(|chunk| chunk.part)
}

/// Prompt tokens in the step.
pub(super) fn tokens(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.part.tokens()).sum()
}
