//! The end of a run: what only the end can tell is added to what was counted as tokens arrived.

use super::outcome::{Outcome, RequestEnd, RequestOutcome, ScaleScores, per_second};
use super::streaming::{Metrics, RequestState, Stage};
use super::{DEFAULT_TTFT_SLO, Pool, RequestFacts, Sorted};
use crate::ids::RequestId;
use crate::units::{SimDuration, SimTime};

impl<'a> Metrics<'a> {
    /// Ends the run: what is still paused stays paused until the newest record, what is not made is late.
    pub fn finish(mut self) -> Outcome<'a> {
        for request in 0..self.requests.len() {
            self.unpause(self.server.now, RequestId(request as u32));
        }
        let requests: Vec<RequestOutcome<'a>> =
            self.arrived().map(|request| self.outcome_of(request)).collect();
        let finished =
            || requests.iter().filter(|request| request.scored && request.end == RequestEnd::Finished);
        let last_token_at = self.server.last_token_at;
        let until_last_token = |from: Option<SimTime>| match (from, last_token_at) {
            (Some(from), Some(last)) => last.saturating_since(from),
            _ => SimDuration::ZERO,
        };
        let makespan = until_last_token(self.server.first_arrival);
        let throughput_per_s = per_second(self.server.delivered, makespan);
        let scored_span = until_last_token(self.server.first_scored_arrival);
        let ttft = sorted(requests.iter().filter(|request| request.scored).filter_map(RequestOutcome::ttft));
        let ttft_p50 = ttft.quantile(500).map(SimDuration::from_picos);
        Outcome {
            scales: (0..self.scores.len())
                .map(|scale| ScaleScores { ttft_p50, throughput_per_s, ..self.scores_at(scale, scored_span) })
                .collect(),
            tpot_step: sorted(finished().filter_map(RequestOutcome::tpot_step)),
            tpot_gap: sorted(finished().filter_map(RequestOutcome::tpot_gap)),
            ttft,
            e2e: sorted(finished().filter_map(RequestOutcome::end_to_end)),
            exact: self.tbt_step.is_exact(),
            tbt_step: self.tbt_step.sorted(),
            tbt_gap: self.tbt_gap.sorted(),
            forecast_error: self.forecast_error.sorted(),
            above_bound: self.above_bound.sorted(),
            due_tokens: requests.iter().map(|request| request.facts.output_tokens - 1).sum(),
            delivered_due_tokens: requests.iter().map(|request| request.delivered.saturating_sub(1)).sum(),
            delivered_tokens: self.server.delivered,
            makespan,
            throughput_per_s,
            last_arrival: self.server.first_arrival.map(|_| self.server.last_arrival),
            idle: makespan.saturating_sub(self.server.busy.sum()),
            busy: self.server.busy,
            traffic: self.server.traffic,
            decode_steps: self.server.decode_steps,
            prefill_steps: self.server.prefill_steps,
            planning: self.server.planning,
            proofs: self.server.proofs,
            pauses: self.server.pauses,
            longest_pause: self.server.longest_pause,
            preemptions: self.server.preemptions,
            refused_placements: self.server.refused_placements,
            peak_gpu_blocks: self.server.peak_gpu_blocks,
            peak_host: self.server.peak_host,
            requests,
        }
    }

    /// Places of the requests that arrived.
    fn arrived(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.requests.len()).filter(|&request| self.requests[request].stage != Stage::Unseen)
    }

    fn outcome_of(&self, request: usize) -> RequestOutcome<'a> {
        let facts = self.facts[request];
        let state = &self.requests[request];
        let finished = state.stage == Stage::Finished;
        let mut late = state.late;
        late.add_all(missing_tokens(&facts, state));
        RequestOutcome {
            facts,
            end: match state.stage {
                Stage::Finished => RequestEnd::Finished,
                Stage::Capped => RequestEnd::Capped,
                Stage::Rejected => RequestEnd::Rejected,
                Stage::Arrived | Stage::Unseen => RequestEnd::Unfinished,
            },
            scored: state.scored,
            arrived_at: state.arrived_at,
            admitted_at: state.admitted.then_some(state.admitted_at),
            first_token_at: (state.delivered > 0).then_some(state.first_token_at),
            last_token_at: (state.delivered > 0).then_some(state.last_token_at),
            finished_at: finished.then_some(state.last_token_at),
            step_clock: state.step_clock,
            delivered: state.delivered,
            slo: self.slos.of(request)[0],
            late,
            paused: state.paused,
            pauses: state.pauses,
            preemptions: state.preemptions,
        }
    }

    /// Adds what only the end can tell to what was counted as tokens arrived.
    fn scores_at(&self, scale: usize, span: SimDuration) -> ScaleScores {
        let at = self.scoring.scales[scale];
        let counted = self.scores[scale];
        let mut scores = ScaleScores::new(at, counted.late, counted.stall, span);
        for request in self.arrived().filter(|&request| self.requests[request].scored) {
            let state = &self.requests[request];
            let facts = &self.facts[request];
            let due = facts.output_tokens - 1;
            let slo = self.slos.of(request)[scale];
            let ttft_slo = facts.ttft_slo.or(self.scoring.ttft_slo);
            scores.arrived += 1;
            scores.due += due;
            scores.late.add_all(missing_tokens(facts, state));
            let first_in_time = |promise: SimDuration| {
                state.delivered > 0 && state.first_token_at.since(state.arrived_at) <= promise
            };
            scores.ttft_met += u64::from(first_in_time(ttft_slo.unwrap_or(DEFAULT_TTFT_SLO)));
            if state.delivered > 0 {
                let shown = self.playbacks[request * self.scores.len() + scale].gap.shown();
                scores.playing += u128::from(shown.since(state.first_token_at).as_picos());
            }
            if state.stage == Stage::Finished {
                let decode_time = state.last_token_at.since(state.first_token_at);
                let tpot_gap_met = picos(decode_time) <= picos(slo) * u128::from(due);
                let answer_promise = picos(slo) * u128::from(facts.output_tokens)
                    + picos(ttft_slo.unwrap_or(DEFAULT_TTFT_SLO));
                scores.tpot_step_met += u64::from(picos(state.step_clock) <= picos(slo) * u128::from(due));
                scores.tpot_gap_met += u64::from(tpot_gap_met);
                scores.e2e_met +=
                    u64::from(picos(state.last_token_at.since(state.arrived_at)) <= answer_promise);
                scores.good += u64::from(tpot_gap_met && ttft_slo.is_none_or(first_in_time));
            }
        }
        scores
    }
}

fn sorted(spans: impl Iterator<Item = SimDuration>) -> Sorted {
    spans.map(SimDuration::as_picos).collect::<Pool>().sorted()
}

/// In 128 bits: a generous promise times many tokens may be more than 213 days.
fn picos(span: SimDuration) -> u128 {
    u128::from(span.as_picos())
}

/// Due tokens that were not made.
fn missing_tokens(facts: &RequestFacts<'_>, state: &RequestState) -> u64 {
    (facts.output_tokens - 1).saturating_sub(state.delivered.saturating_sub(1))
}
