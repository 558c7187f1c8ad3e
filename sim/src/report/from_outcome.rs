//! From an outcome in integers to rows in seconds and percent.

use super::rows::{
    AboveBound, Attainment, Busy, Distribution, ForecastError, PauseCounts, PlanCounts, PolicyResult,
    ProofCounts, QuantileRow, RequestCounts, RequestRow, ScaleResult, StateRow, StepCounts, StepRow,
    TimelineRow, TokenCounts, Traffic,
};
use crate::ids::RequestId;
use crate::metrics::{Outcome, RequestEnd, ScaleScores, Sorted};
use crate::record::{StepRecord, Trigger};
use crate::states::{MOST_REQUESTS, MOST_ROWS, Passage};
use crate::timeline::StepGroup;
use crate::units::{PICOS_PER_SEC, SimDuration, SimTime};

/// The entry of one policy in `results.json`. `event_digest` is that of the first scale's run.
pub fn policy_result(key: &str, label: &str, outcome: &Outcome<'_>, event_digest: &str) -> PolicyResult {
    let first = &outcome.scales[0];
    PolicyResult {
        key: key.to_owned(),
        label: label.to_owned(),
        requests: request_counts(outcome),
        tokens: TokenCounts { due: outcome.due_tokens, delivered: outcome.delivered_due_tokens },
        attainment_pct: attainment(first),
        playback_stall_pct: first.playback_stall_pct(),
        by_slo_scale: outcome.scales.iter().map(scale_result).collect(),
        tbt_step_s: distribution(&outcome.tbt_step),
        tbt_gap_s: distribution(&outcome.tbt_gap),
        tpot_step_s: distribution(&outcome.tpot_step),
        tpot_gap_s: distribution(&outcome.tpot_gap),
        ttft_s: distribution(&outcome.ttft),
        e2e_s: distribution(&outcome.e2e),
        makespan_s: outcome.makespan.as_secs_f64(),
        throughput_tokens_per_s: outcome.throughput_per_s,
        requests_per_min: outcome.requests_per_min(),
        goodput_requests_per_s: first.goodput_per_s(),
        busy_s: busy(outcome),
        bytes: Traffic {
            h2d_prefetch: outcome.traffic.h2d_prefetch.get(),
            h2d_restore: outcome.traffic.h2d_restore.get(),
            d2h: outcome.traffic.d2h.get(),
        },
        steps: StepCounts { decode: outcome.decode_steps, prefill: outcome.prefill_steps },
        plans: plans(outcome),
        forecast_error_pct: ForecastError {
            median: percent(outcome.forecast_error.quantile(500)),
            p95: percent(outcome.forecast_error.quantile(950)),
        },
        above_bound_pct: AboveBound {
            mean: outcome.above_bound.mean().map(|parts| parts / 1e10),
            median: percent(outcome.above_bound.quantile(500)),
            p95: percent(outcome.above_bound.quantile(950)),
        },
        pauses: PauseCounts { count: outcome.pauses, longest_s: outcome.longest_pause.as_secs_f64() },
        preemptions: outcome.preemptions,
        refused_placements: outcome.refused_placements,
        peak_gpu_blocks: outcome.peak_gpu_blocks,
        peak_host_bytes: outcome.peak_host.get(),
        event_digest: event_digest.to_owned(),
    }
}

fn request_counts(outcome: &Outcome<'_>) -> RequestCounts {
    let capped = outcome.ended(RequestEnd::Capped);
    RequestCounts {
        arrived: outcome.requests.len() as u64,
        finished: outcome.ended(RequestEnd::Finished),
        rejected: outcome.ended(RequestEnd::Rejected),
        unfinished: outcome.ended(RequestEnd::Unfinished) + capped,
        capped,
    }
}

fn attainment(scores: &ScaleScores) -> Attainment {
    let late = scores.late;
    Attainment {
        tbt_step: scores.tokens_met_pct(late.step),
        tbt_gap: scores.tokens_met_pct(late.gap),
        tbt_step_deposit: scores.tokens_met_pct(late.step_deposit),
        tbt_gap_deposit: scores.tokens_met_pct(late.gap_deposit),
        tpot_step: scores.requests_met_pct(scores.tpot_step_met),
        tpot_gap: scores.requests_met_pct(scores.tpot_gap_met),
        ttft: scores.requests_met_pct(scores.ttft_met),
        e2e: scores.requests_met_pct(scores.e2e_met),
    }
}

fn scale_result(scores: &ScaleScores) -> ScaleResult {
    ScaleResult {
        scale: scores.at.scale,
        slo_s: scores.at.slo.as_secs_f64(),
        rerun: scores.rerun,
        attainment_pct: attainment(scores),
        playback_stall_pct: scores.playback_stall_pct(),
        goodput_requests_per_s: scores.goodput_per_s(),
        ttft_p50_s: seconds(scores.ttft_p50),
        throughput_tokens_per_s: scores.throughput_per_s,
    }
}

fn distribution(sorted: &Sorted) -> Distribution {
    let at = |per_mille| sorted.quantile(per_mille).map(picos_to_seconds);
    Distribution {
        mean: sorted.mean().map(|picos| picos / PICOS_PER_SEC as f64),
        p50: at(500),
        p90: at(900),
        p95: at(950),
        p99: at(990),
        max: sorted.max().map(picos_to_seconds),
    }
}

fn busy(outcome: &Outcome<'_>) -> Busy {
    Busy {
        compute: outcome.busy.compute.as_secs_f64(),
        stall: outcome.busy.stall.as_secs_f64(),
        prefill: outcome.busy.prefill.as_secs_f64(),
        restore: outcome.busy.restore.as_secs_f64(),
        planning: outcome.busy.planning.as_secs_f64(),
        idle: outcome.idle.as_secs_f64(),
    }
}

/// Triggers that never fired are left out.
fn plans(outcome: &Outcome<'_>) -> PlanCounts {
    let planning = &outcome.planning;
    PlanCounts {
        by_trigger: (planning.by_trigger())
            .filter(|(_, count)| *count > 0)
            .map(|(trigger, count)| (trigger.name().to_owned(), count))
            .collect(),
        infeasible_slo: planning.infeasible_slo,
        infeasible_memory: planning.infeasible_memory,
        node_cap_hits: planning.node_cap_hits,
        proofs: (outcome.proofs.steps() > 0).then_some(ProofCounts {
            optimal: outcome.proofs.optimal,
            best_found: outcome.proofs.best_found,
        }),
    }
}

/// From parts per 10¹².
fn percent(parts: Option<u64>) -> Option<f64> {
    parts.map(|parts| parts as f64 / 1e10)
}

/// The rows of `requests.csv`, in trace order. A mean TBT stands for whatever due tokens were made.
pub fn request_rows<'a>(key: &'a str, outcome: &'a Outcome<'_>) -> impl Iterator<Item = RequestRow> + 'a {
    outcome.requests.iter().map(|request| RequestRow {
        policy: key.to_owned(),
        id: request.facts.id.to_owned(),
        state: request.end.name().to_owned(),
        arrival_s: request.arrived_at.as_secs_f64(),
        admitted_s: instant(request.admitted_at),
        first_token_s: instant(request.first_token_at),
        finish_s: instant(request.finished_at),
        prompt_tokens: request.facts.prompt_tokens,
        output_tokens: request.facts.output_tokens,
        delivered_tokens: request.delivered,
        slo_s: request.slo.as_secs_f64(),
        ttft_s: seconds(request.ttft()),
        tpot_step_s: seconds(request.tpot_step()),
        tpot_gap_s: seconds(request.tpot_gap()),
        late_step: request.late.step,
        late_gap: request.late.gap,
        late_step_deposit: request.late.step_deposit,
        late_gap_deposit: request.late.gap_deposit,
        paused_s: request.paused.as_secs_f64(),
        pauses: u64::from(request.pauses),
        preemptions: u64::from(request.preemptions),
    })
}

/// The rows of `quantiles.csv`: 1,001 for each metric that has a value.
pub fn quantile_rows<'a>(key: &'a str, outcome: &'a Outcome<'_>) -> impl Iterator<Item = QuantileRow> + 'a {
    let metrics = [
        ("tbt_step", &outcome.tbt_step),
        ("tbt_gap", &outcome.tbt_gap),
        ("tpot_step", &outcome.tpot_step),
        ("tpot_gap", &outcome.tpot_gap),
        ("ttft", &outcome.ttft),
        ("e2e", &outcome.e2e),
    ];
    metrics.into_iter().flat_map(move |(metric, sorted)| {
        (0..=1000).filter_map(move |per_mille| {
            Some(QuantileRow {
                policy: key.to_owned(),
                metric: metric.to_owned(),
                p: f64::from(per_mille) / 1000.0,
                seconds: picos_to_seconds(sorted.quantile(per_mille)?),
            })
        })
    })
}

/// The rows of `timeline.csv`.
pub fn timeline_rows<'a>(key: &'a str, groups: &'a [StepGroup]) -> impl Iterator<Item = TimelineRow> + 'a {
    groups.iter().map(|group| {
        let step = &group.shown;
        TimelineRow {
            policy: key.to_owned(),
            t_s: step.start.as_secs_f64(),
            running: step.running,
            paused: step.paused,
            waiting: step.waiting,
            gpu_blocks: step.gpu_blocks,
            step_s: step.duration.as_secs_f64(),
            stall_s: step.stall.as_secs_f64(),
            steps: group.steps,
            from_s: group.from.as_secs_f64(),
            to_s: group.to.as_secs_f64(),
            h2d_bytes: group.h2d.get(),
            d2h_bytes: group.d2h.get(),
        }
    })
}

/// The rows of `states.csv` from the states that were kept ([`crate::states`]); `id_of` names the requests.
pub fn state_rows<'a>(
    key: &str,
    kept: &[(RequestId, Vec<Passage>)],
    id_of: impl Fn(RequestId) -> &'a str,
) -> Vec<StateRow> {
    let row = |request: RequestId, passage: &Passage| {
        let (state, start, end) = match *passage {
            Passage::Was { state, start, end } => (state.name(), start, end),
            Passage::Ended { end, at } => (end.name(), at, at),
        };
        StateRow {
            policy: key.to_owned(),
            id: id_of(request).to_owned(),
            state: state.to_owned(),
            start_s: start.as_secs_f64(),
            end_s: end.as_secs_f64(),
        }
    };
    kept.iter()
        .flat_map(|(request, passages)| passages.iter().map(|passage| row(*request, passage)))
        .collect()
}

/// What a reader of `states.csv` must know, if it leaves a request out: `kept` of `arrived` requests of each policy.
pub fn states_note(kept: &[(usize, u64)]) -> Option<String> {
    let (fewest, most) = (kept.iter().min()?.0, kept.iter().max()?.0);
    let arrived = kept.iter().map(|(_, arrived)| *arrived).max()?;
    let whole = kept.iter().all(|(kept, arrived)| *kept as u64 == *arrived);
    let first = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
    (!whole).then(|| {
        format!(
            "states.csv: the first {first} of {arrived} requests (per policy at most {MOST_REQUESTS}, and {MOST_ROWS} rows); a run \
             that it does not hold whole has no Gantt figure"
        )
    })
}

/// A row of `steps.csv`.
pub fn step_row(key: &str, step: &StepRecord) -> StepRow {
    StepRow {
        policy: key.to_owned(),
        step: step.index,
        kind: step.kind.name().to_owned(),
        start_s: step.start.as_secs_f64(),
        duration_s: step.duration.as_secs_f64(),
        compute_s: step.compute.as_secs_f64(),
        stall_s: step.stall.as_secs_f64(),
        prefill_s: step.prefill.as_secs_f64(),
        restore_s: step.restore.as_secs_f64(),
        planning_s: step.planning.as_secs_f64(),
        forecast_s: seconds(step.forecast),
        running: step.running,
        paused: step.paused,
        waiting: step.waiting,
        gpu_blocks: step.gpu_blocks,
        h2d_bytes: (step.h2d_prefetch + step.h2d_restore).get(),
        d2h_bytes: step.d2h.get(),
        trigger: step.trigger.map(|trigger: Trigger| trigger.name().to_owned()),
    }
}

/// What a reader must know of the scoring of these outcomes, by policy key.
pub fn scoring_notes(outcomes: &[(&str, &Outcome<'_>)], warmup: SimDuration) -> Vec<String> {
    let mut notes = Vec::new();
    if warmup == SimDuration::ZERO {
        notes.push("warmup: 0 s, every request is scored".to_owned());
    } else {
        let left_out =
            |outcome: &Outcome<'_>| outcome.requests.iter().filter(|request| !request.scored).count();
        let most = outcomes.iter().map(|(_, outcome)| left_out(outcome)).max().unwrap_or(0);
        notes.push(format!(
            "warmup: {most} requests that arrive before {warmup} are left out of attainment, playback stall, goodput \
             and distributions"
        ));
    }
    let coarse: Vec<&str> =
        outcomes.iter().filter(|(_, outcome)| !outcome.exact).map(|(key, _)| *key).collect();
    if !coarse.is_empty() {
        notes.push(format!(
            "TBT quantiles, forecast errors and distances to the bound of {} are from bins of 0.1 % (more than {} decode steps); attainment \
             and playback are exact",
            coarse.join(", "),
            crate::metrics::EXACT_DECODE_STEPS
        ));
    }
    for (key, outcome) in outcomes {
        let ended = |end| outcome.ended(end);
        let (rejected, outgrown) = (ended(RequestEnd::Rejected), ended(RequestEnd::Capped));
        if rejected + outgrown > 0 {
            notes.push(format!(
                "{key}: of {} requests {rejected} were rejected (they can never fit) and {outgrown} capped (they outgrew \
                 pool or `max_context`): not finished, their missing tokens late",
                outcome.requests.len()
            ));
        }
        if outcome.proofs.steps() > 0 {
            notes.push(format!(
                "{key}: {} of {} decode steps are proven optimal (no placement of their batch makes them shorter); the \
                 others are the best found",
                outcome.proofs.optimal,
                outcome.proofs.steps()
            ));
        }
        let (capped, plans) = (outcome.planning.node_cap_hits, outcome.planning.by_trigger());
        if capped > 0 {
            let all: u64 = plans.map(|(_, count)| count).sum();
            notes.push(format!(
                "{key}: {capped} of {all} plans ran into `planner.node_cap`: they are the best found, not the best, and one \
                 that found nothing counts as infeasible (SLO)"
            ));
        }
    }
    notes
}

fn picos_to_seconds(picos: u64) -> f64 {
    SimDuration::from_picos(picos).as_secs_f64()
}

fn seconds(span: Option<SimDuration>) -> Option<f64> {
    span.map(SimDuration::as_secs_f64)
}

fn instant(at: Option<SimTime>) -> Option<f64> {
    at.map(SimTime::as_secs_f64)
}
