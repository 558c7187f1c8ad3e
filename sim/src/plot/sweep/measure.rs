//! How the figures call the scores of a sweep, and what their axes are: one entry per column of `sweep.csv`.

use crate::plot::panel::{Axis, SHARE, Tick, share_ticks};
use crate::plot::words;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
    /// Neither: it only says what happened.
    Neither,
}

/// One score in figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// Column in `sweep.csv`; its end is the unit.
    pub name: &'static str,
    /// Above a panel.
    pub title: &'static str,
    /// What it counts, in a few words; empty where the title says it.
    pub about: &'static str,
    /// Which way is better.
    pub better: Better,
}

use Better::{Higher, Lower, Neither};

const fn measure(name: &'static str, title: &'static str, about: &'static str, better: Better) -> Measure {
    Measure { name, title, about, better }
}

#[rustfmt::skip]
const MEASURES: &[Measure] = &[
    measure("e2e_pct", "e2e attainment (%)", "requests done in time", Higher),
    measure("ttft_pct", "TTFT attainment (%)", "first tokens in time", Higher),
    measure("tbt_step_pct", "TBT attainment, step (%)", "tokens, no deposit", Higher),
    measure("tbt_gap_pct", "TBT attainment, gap (%)", "tokens, no deposit", Higher),
    measure("tbt_step_deposit_pct", "TBT attainment, step (%)", "tokens, with deposit", Higher),
    measure("tbt_gap_deposit_pct", "TBT attainment, gap (%)", "tokens, with deposit", Higher),
    measure("tpot_step_pct", "TPOT attainment, step (%)", "requests by mean TBT", Higher),
    measure("tpot_gap_pct", "TPOT attainment, gap (%)", "requests by mean TBT", Higher),
    measure("playback_stall_pct", "Playback stall (%)", "of playing time", Lower),
    measure("ttft_p50_s", "TTFT, median", "wait for the first token", Lower),
    measure("throughput_tokens_per_s", "Throughput (tokens/s)", "", Higher),
    measure("goodput_requests_per_s", "Goodput (requests/s)", "", Higher),
    measure("tbt_step_p95_s", "TBT, P95, step", "95 % of tokens take at most this", Lower),
    measure("tbt_gap_p95_s", "TBT, P95, gap", "95 % of tokens take at most this", Lower),
    measure("e2e_p95_s", "Request time, P95", "arrival to last token", Lower),
    measure("requests", "Requests", "", Neither),
    measure("finished", "Requests finished", "", Higher),
    measure("rejected", "Requests rejected", "", Lower),
    measure("unfinished", "Requests unfinished", "", Lower),
    measure("requests_per_min", "Offered load (requests/min)", "", Neither),
    measure("makespan_s", "Makespan", "first arrival to last token", Lower),
    measure("pauses", "Pauses", "", Neither),
    measure("longest_pause_s", "Longest pause", "", Lower),
    measure("preemptions", "Preemptions", "", Lower),
    measure("refused_placements", "Refused placements", "", Lower),
    measure("forecast_error_median_pct", "Forecast error, median (%)", "", Lower),
    measure("forecast_error_p95_pct", "Forecast error, P95 (%)", "", Lower),
    measure("h2d_bytes", "Copied to the GPU (bytes)", "", Neither),
    measure("peak_gpu_blocks", "Peak GPU blocks", "", Neither),
];

/// The score in the column of that name.
pub fn find(name: &str) -> Option<Measure> {
    MEASURES.iter().find(|measure| measure.name == name).copied()
}

/// Every name.
pub fn names() -> impl Iterator<Item = &'static str> {
    MEASURES.iter().map(|measure| measure.name)
}

/// What must stand beside every TBT score (design §6).
const PRICE: [&str; 4] = ["e2e_pct", "playback_stall_pct", "ttft_p50_s", "throughput_tokens_per_s"];

/// A score, and if it is one of TBT, what must stand beside it.
pub fn with_price(name: &'static str) -> Vec<&'static str> {
    let mut names = vec![name];
    if name.starts_with("tbt_") || name.starts_with("tpot_") {
        names.extend(PRICE);
    }
    names
}

impl Measure {
    /// Below the title: what it counts and which way is better.
    pub fn subtitle(&self) -> String {
        let better = match self.better {
            Higher => "higher is better",
            Lower => "lower is better",
            Neither => "",
        };
        [self.about, better].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// Whether it is a share of all, with 100 % its end.
    pub fn is_share(&self) -> bool {
        self.name.ends_with("_pct") && self.better == Higher
    }

    fn is_time(&self) -> bool {
        self.name.ends_with("_s") && !self.name.ends_with("_per_s")
    }

    /// A value as it is written in or beside a figure.
    pub fn write(&self, value: f64) -> String {
        if self.is_time() { words::seconds(value) } else { words::number(value) }
    }

    /// A value in a cell, as short as it can be.
    pub fn write_short(&self, value: f64) -> String {
        if self.name.ends_with("_pct") { format!("{value:.0}") } else { self.write(value) }
    }

    /// A difference of two values in a cell.
    pub fn write_lead(&self, value: f64) -> String {
        if self.name.ends_with("_pct") { format!("{value:.1}") } else { self.write(value) }
    }

    /// The axis for these values: a share's is the same everywhere, a time that spans a decade has a logarithmic one if
    /// that is `allowed`, everything else starts at 0.
    pub fn axis(&self, values: impl Iterator<Item = f64> + Clone, log_allowed: bool) -> Axis {
        if self.is_share() {
            return SHARE;
        }
        let highest = values.clone().fold(0.0, f64::max);
        let lowest = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        if log_allowed && self.is_time() && highest >= 10.0 * lowest {
            return Axis::log_around(values).unwrap_or(Axis::from_zero(highest));
        }
        Axis::from_zero(highest)
    }

    /// Ticks of that axis.
    pub fn ticks(&self, axis: Axis) -> Vec<Tick> {
        match (self.is_share(), self.is_time()) {
            (true, _) => share_ticks(),
            (_, true) => axis.ticks(words::seconds),
            _ => axis.ticks(words::number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grid::SCORES;

    #[test]
    fn every_column_of_the_table_has_its_name_in_figures() {
        let columns: Vec<&str> = SCORES.iter().map(|score| score.name).collect();
        let measures: Vec<&str> = MEASURES.iter().map(|measure| measure.name).collect();
        assert_eq!(measures, columns);
    }

    #[test]
    fn a_tbt_score_never_comes_alone() {
        assert_eq!(with_price("tbt_gap_pct").len(), 5);
        assert_eq!(with_price("e2e_pct"), ["e2e_pct"]);
    }

    #[test]
    fn a_time_over_a_decade_is_logarithmic_and_a_share_ends_at_a_hundred() {
        let axis = |name, values: &[f64]| find(name).unwrap().axis(values.iter().copied(), true);
        assert_eq!(axis("ttft_p50_s", &[0.2, 30.0]), Axis::Log { from: 0.1, to: 50.0 });
        assert_eq!(axis("ttft_p50_s", &[0.2, 0.9]), Axis::Linear { from: 0.0, to: 1.0 });
        assert_eq!(axis("e2e_pct", &[3.0]), SHARE);
        assert_eq!(axis("playback_stall_pct", &[3.0]), Axis::Linear { from: 0.0, to: 3.0 });
    }
}
