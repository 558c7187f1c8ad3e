//! All scores of an experiment by cell: semantics, place along the axis, SLO scale, policy; and their means over seeds.
//!
//! Differences of two policies are taken seed by seed before they are averaged, since both ran the same trace.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use orbitflow_sim::statistics::Interval;

use super::scores::{METRICS, Metric, Score};

/// One score and where it belongs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name of the semantics.
    pub semantics: String,
    /// Along the figure's axis.
    pub place: String,
    /// The seed, as the grid writes it.
    pub seed: String,
    /// The numbers.
    pub score: Score,
}

/// Semantics, place and SLO scale: what a policy is compared within.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Name of the semantics.
    pub semantics: String,
    /// Along the figure's axis.
    pub place: String,
    /// SLO scale.
    pub scale: f64,
}

/// The scores of one experiment.
pub struct Table {
    /// In the order in which they first occur.
    pub cells: Vec<Cell>,
    /// Keys and labels, in the order in which they first occur.
    pub policies: Vec<(String, String)>,
    /// Seeds, in the order in which they first occur.
    pub seeds: Vec<String>,
    /// By index of cell, policy and seed.
    scores: BTreeMap<(usize, usize, usize), Score>,
}

impl Table {
    /// Sorts samples into their cells. Panics if two are of one cell, policy and seed.
    pub fn new(samples: Vec<Sample>) -> Table {
        let mut table =
            Table { cells: Vec::new(), policies: Vec::new(), seeds: Vec::new(), scores: BTreeMap::new() };
        for Sample { semantics, place, seed, score } in samples {
            let cell = index_of(&mut table.cells, Cell { semantics, place, scale: score.scale });
            let policy = index_of(&mut table.policies, (score.policy.clone(), score.label.clone()));
            let seed = index_of(&mut table.seeds, seed);
            let other = table.scores.insert((cell, policy, seed), score);
            assert!(other.is_none(), "Invariant: a policy is scored once per cell and seed");
        }
        table
    }

    fn policy(&self, key: &str) -> Option<usize> {
        self.policies.iter().position(|(known, _)| known == key)
    }

    /// Name of a policy in figures.
    pub fn label(&self, key: &str) -> &str {
        self.policy(key).map_or("", |policy| &self.policies[policy].1)
    }

    /// A policy's mean in a cell, over the seeds that have the number.
    pub fn mean(&self, cell: usize, policy: &str, metric: Metric) -> Option<Interval> {
        self.pairs(cell, policy, policy, metric, |value, _| value)
    }

    /// The mean over seeds of `compare(ours, theirs)`, over the seeds that have both numbers.
    pub fn pairs(
        &self,
        cell: usize,
        ours: &str,
        theirs: &str,
        metric: Metric,
        compare: fn(f64, f64) -> f64,
    ) -> Option<Interval> {
        let (ours, theirs) = (self.policy(ours)?, self.policy(theirs)?);
        let value = |policy, seed| self.scores.get(&(cell, policy, seed))?.get(metric);
        let values: Vec<f64> = (0..self.seeds.len())
            .filter_map(|seed| Some(compare(value(ours, seed)?, value(theirs, seed)?)))
            .collect();
        Interval::of(&values)
    }

    /// Every mean with its interval: one row per cell, policy and metric.
    pub fn csv(&self) -> String {
        let mut text =
            "semantics,place,slo_scale,policy,label,metric,seeds,mean,ci95_low,ci95_high\n".to_owned();
        for (index, cell) in self.cells.iter().enumerate() {
            for (key, label) in &self.policies {
                for (metric, column, _) in METRICS {
                    let Some(interval) = self.mean(index, key, metric) else { continue };
                    let Cell { semantics, place, scale } = cell;
                    let (mean, low, high) = (interval.mean, interval.low(), interval.high());
                    let label = if label.contains(',') { format!("\"{label}\"") } else { label.clone() };
                    writeln!(
                        text,
                        "{semantics},{place},{scale},{key},{label},{column},{},{mean:.4},{low:.4},{high:.4}",
                        interval.count
                    )
                    .expect("Invariant: a string takes any text");
                }
            }
        }
        text
    }
}

fn index_of<T: PartialEq>(all: &mut Vec<T>, item: T) -> usize {
    all.iter().position(|known| *known == item).unwrap_or_else(|| {
        all.push(item);
        all.len() - 1
    })
}
