//! What a search varies, and what one trial of it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::rows::{Attainment, PolicyResult};
use crate::runner::{self, Options, RunError, TooLong, within_213_days};
use crate::scenario::{GpuKv, Scenario, TokenSlo};
use crate::units::{BytesPerSec, SimDuration};

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// The trace's load factor: the largest is wanted.
    Load,
    /// Layer-blocks of the GPU pool: the smallest is wanted.
    GpuKv,
    /// The link's rate in bytes per second, both ways: the smallest is wanted.
    Link,
}

impl Quantity {
    /// Whether more of it makes a target harder to meet.
    pub const fn more_is_harder(self) -> bool {
        matches!(self, Quantity::Load)
    }
}

/// Why a trial could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Trial {
    /// The scenario.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The simulation outlived time.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A link of less than 1 B/s, or of more than a `u64` of them.
    #[error("link: {0} B/s: expected 1 B/s to 2^64 B/s")]
    NoLink(f64),
}

impl Trial {
    /// Whether there is nothing wrong but the factor: arrivals or a run beyond 213 days, a link that is none.
    pub const fn is_out_of_range(&self) -> bool {
        matches!(self, Trial::TooLong(_) | Trial::NoLink(_) | Trial::Run(RunError::Trace(_)))
    }
}

/// One quantity of one scenario, with the promise held fixed.
pub struct Variation {
    scenario: Scenario,
    /// Key and label of each policy.
    names: Vec<(String, String)>,
    quantity: Quantity,
    base: f64,
    slo: SimDuration,
    notes: Vec<String>,
}

impl Variation {
    /// The quantity of that scenario. Its SLO is fixed as it is now: a smaller pool must not loosen or tighten it.
    ///
    /// # Errors
    /// Whatever the scenario names and is not there or does not fit together.
    pub fn new(scenario: &Scenario, quantity: Quantity) -> Result<Self, RunError> {
        let prepared = runner::prepare(scenario)?;
        let mut scenario = scenario.clone();
        if matches!(scenario.slo.per_token, TokenSlo::Scale(_)) {
            scenario.slo.per_token = TokenSlo::Absolute(prepared.scoring.scales[0].slo);
        }
        let base = match quantity {
            Quantity::Load => scenario.trace.load,
            Quantity::GpuKv => prepared.server.gpu_blocks as f64,
            Quantity::Link => prepared.truth.h2d.rate.get() as f64,
        };
        let names =
            prepared.contenders.iter().map(|contender| (contender.key.clone(), contender.label.clone()));
        let (names, slo) = (names.collect(), prepared.scoring.scales[0].slo);
        Ok(Variation { scenario, names, quantity, base, slo, notes: prepared.notes })
    }

    /// What the answer rests on: the notes of the scenario as it stands.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The time per token that is promised, whatever the factor.
    pub fn slo(&self) -> SimDuration {
        self.slo
    }

    /// Key and label of the `policy`-th policy of the scenario.
    pub fn name(&self, policy: usize) -> &(String, String) {
        &self.names[policy]
    }

    /// The quantity at a factor, in its own unit.
    pub fn value(&self, factor: f64) -> f64 {
        self.base * factor
    }

    /// The result of one policy, the `policy`-th of the scenario, at a factor.
    ///
    /// # Errors
    /// A factor at which the scenario cannot be run: a pool of less than one block per layer, a link of less than 1 B/s,
    /// time beyond 213 days.
    pub fn try_at(&self, factor: f64, policy: usize) -> Result<PolicyResult, Trial> {
        let mut scenario = self.scenario.clone();
        scenario.policies = vec![scenario.policies[policy].clone()];
        let value = self.value(factor);
        match self.quantity {
            Quantity::Load => scenario.trace.load = value,
            Quantity::GpuKv => {
                let blocks = value as u64;
                scenario.gpu_kv = Some(GpuKv::Bytes(scenario.model.block_bytes() * blocks));
            }
            Quantity::Link => {
                scenario.link = Some(BytesPerSec::try_from_f64(value).map_err(|_| Trial::NoLink(value))?);
            }
        }
        let prepared = runner::prepare(&scenario)?;
        let run = || runner::compare(&prepared, &prepared.contenders, Options::default());
        let mut policies = within_213_days(run)?.saved.results.policies;
        Ok(policies.pop().expect("Invariant: a run of one policy has one result"))
    }
}

/// One score of a run, percent.
pub type Metric = fn(&Attainment) -> f64;

/// Every attainment there is, by its name in `results.json`.
pub const METRICS: [(&str, Metric); 8] = [
    ("e2e", |a| a.e2e),
    ("ttft", |a| a.ttft),
    ("tbt_step", |a| a.tbt_step),
    ("tbt_gap", |a| a.tbt_gap),
    ("tbt_step_deposit", |a| a.tbt_step_deposit),
    ("tbt_gap_deposit", |a| a.tbt_gap_deposit),
    ("tpot_step", |a| a.tpot_step),
    ("tpot_gap", |a| a.tpot_gap),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attainment_of_results_json_is_a_metric() {
        let fields = serde_json::to_value(Attainment::default()).expect("plain data");
        let mut names: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let mut fields: Vec<&String> = fields.as_object().expect("an object").keys().collect();
        fields.sort_unstable();
        assert_eq!(names, fields);
        // Each name reads the field of its name: e2e at 1, the others at 0, and so on.
        for (name, metric) in METRICS {
            let one: Attainment = serde_json::from_value(
                METRICS
                    .iter()
                    .map(|(other, _)| ((*other).to_owned(), f64::from(u8::from(*other == name)).into()))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            )
            .expect("an attainment");
            assert_eq!(metric(&one), 1.0, "{name}");
        }
    }
}
