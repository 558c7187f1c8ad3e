//! `orbitflow check`: every policy twice, under all laws, and the first event in which the two runs differ.

use rayon::prelude::*;

use super::limits::{TooLong, all_within, within_213_days};
use super::{Prepared, law_totals, request_facts};
use crate::digest::{Difference, EventTrail, TrailComparison};
use crate::engine;
use crate::laws::{Laws, Verdict};
use crate::metrics::{Metrics, ScaleSlo, Scoring};

/// What the check of one policy at one SLO scale found.
pub struct Checked {
    /// The policy.
    pub key: String,
    /// The SLO scale.
    pub scale: f64,
    /// Events of the first run.
    pub events: usize,
    /// The laws, on the first run.
    pub verdict: Verdict,
    /// The first event of the second run that differs from the first run's.
    pub difference: Option<Difference>,
}

impl Checked {
    /// Whether every law held and the runs were the same.
    pub fn holds(&self) -> bool {
        self.verdict.holds() && self.difference.is_none()
    }
}

/// Runs each of the scenario's policies twice at each SLO scale that it looks at. Unwinds, for [`within_213_days`] to
/// catch, if a run outlives time.
pub fn check(prepared: &Prepared, progress: Option<&(dyn Fn(u64) + Sync)>) -> Vec<Checked> {
    let jobs: Vec<(usize, ScaleSlo)> = prepared
        .contenders
        .iter()
        .enumerate()
        .flat_map(|(index, contender)| {
            let scales = &prepared.scoring.scales;
            let own = if contender.make().looks_at_slo() { &scales[..] } else { &scales[..1] };
            own.iter().map(move |scale| (index, *scale))
        })
        .collect();
    let checked: Vec<(&str, Result<Checked, TooLong>)> = jobs
        .into_par_iter()
        .map(|(index, scale)| {
            let checked = within_213_days(|| check_one(prepared, index, scale));
            if let Some(report) = progress {
                report(1);
            }
            (prepared.contenders[index].key.as_str(), checked)
        })
        .collect();
    all_within(checked)
}

/// Runs of [`check`]: what its progress counts to.
pub fn runs(prepared: &Prepared) -> u64 {
    let scales = prepared.scoring.scales.len() as u64;
    let of = |looks: bool| if looks { scales } else { 1 };
    prepared.contenders.iter().map(|contender| of(contender.make().looks_at_slo())).sum()
}

fn check_one(prepared: &Prepared, index: usize, scale: ScaleSlo) -> Checked {
    let contender = &prepared.contenders[index];
    let requests = prepared.engine_requests(scale);
    let facts = prepared.trace.requests.iter().map(request_facts).collect();
    let mut metrics = Metrics::new(facts, Scoring { scales: vec![scale], ..prepared.scoring.clone() });
    let mut laws = Laws::new(prepared.law_facts());
    let mut trail = EventTrail::default();
    let mut sink = ((&mut metrics, &mut laws), &mut trail);
    engine::run(prepared.setup(&requests), &mut *contender.make(), &mut sink);
    let verdict = laws.finish(law_totals(&metrics.finish()));
    let mut again = TrailComparison::with(&trail);
    engine::run(prepared.setup(&requests), &mut *contender.make(), &mut again);
    let difference = again.finish();
    Checked { key: contender.key.clone(), scale: scale.scale, events: trail.len(), verdict, difference }
}
