//! The paper's claims (facts G.5, I, J), our value for each, and a verdict by rule.
//!
//! * *Up to x* (`up_to`): the largest mean gain over the cells and published baselines. Reproduced if its 95 % interval
//!   reaches x, partly if it is above no gain, else not. Worked numbers (a test): 50 ± 20 against 62 is reproduced, 50 ± 5 partly, 2 ± 5 not.
//! * *Ahead* (`ahead`): every cell, every published baseline, TBT in the paper's scoring and TPOT. Reproduced if every
//!   gain's interval is above 0, partly if more are above than below, else not.
//! * *In order* (`in_order`): each method against the one before it. Reproduced if every step's interval is above 0,
//!   partly if the last is above the first, else not.
//!
//! Gains are taken seed by seed on one trace. The largest of many means is biased upwards; the paper's *up to* is of the same
//! kind. Percentages of attainment are read as points. The reasons are sentences written after looking at the numbers.

use orbitflow_sim::statistics::Interval;

use super::scores::Metric;
use super::table::Table;

/// The methods that the paper compares with.
pub const PUBLISHED_BASELINES: [&str; 4] = ["next-layer", "static-1", "flexgen", "selectn"];

/// Fixed rules that need no planner and that the paper does not compare with.
const SIMPLE: [&str; 4] = ["static-2", "static-4", "static-8", "resident"];

/// What the numbers say of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As claimed.
    Reproduced,
    /// In the claimed direction.
    Partly,
    /// Neither.
    Not,
}

impl Verdict {
    /// The word in the summary.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::Partly => "partly",
            Verdict::Not => "not",
        }
    }
}

/// A gain and where it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// Mean over seeds.
    pub interval: Interval,
    /// Index of its cell.
    pub cell: usize,
    /// The other method.
    pub theirs: &'static str,
}

/// How a gain is taken and written.
#[derive(Clone, Copy)]
pub struct Measure {
    /// What is compared.
    pub metric: Metric,
    /// Ours and theirs.
    pub compare: fn(f64, f64) -> f64,
    /// What `compare` gives for equals.
    pub level: f64,
    /// Behind the number.
    pub unit: &'static str,
}

/// Points more.
pub const fn points(metric: Metric) -> Measure {
    Measure { metric, compare: |ours, theirs| ours - theirs, level: 0.0, unit: " points" }
}

/// How many times as much.
pub const THROUGHPUT_RATIO: Measure =
    Measure { metric: Metric::Throughput, compare: |ours, theirs| ours / theirs, level: 1.0, unit: "×" };

/// Percent less.
pub const P95_REDUCTION: Measure = Measure {
    metric: Metric::P95OverSlo,
    compare: |ours, theirs| (1.0 - ours / theirs) * 100.0,
    level: 0.0,
    unit: " %",
};

/// The cells of one semantics.
pub fn cells<'a>(table: &'a Table, semantics: &'a str) -> impl Iterator<Item = usize> + 'a {
    table
        .cells
        .iter()
        .enumerate()
        .filter(move |(_, cell)| cell.semantics == semantics)
        .map(|(index, _)| index)
}

/// The largest mean gain of OrbitFlow over `theirs`, and its cell; the first of equals.
pub fn largest(table: &Table, semantics: &str, measure: Measure, theirs: &[&'static str]) -> Option<Gain> {
    let mut best: Option<Gain> = None;
    for cell in cells(table, semantics) {
        for theirs in theirs {
            let interval = table.pairs(cell, "orbitflow", theirs, measure.metric, measure.compare);
            let Some(interval) = interval else { continue };
            if best.is_none_or(|best| interval.mean > best.interval.mean) {
                best = Some(Gain { interval, cell, theirs });
            }
        }
    }
    best
}

/// The verdict on *up to `claimed`*.
pub fn up_to(gain: Interval, claimed: f64, level: f64) -> Verdict {
    if gain.high() >= claimed && gain.low() > level {
        Verdict::Reproduced
    } else if gain.low() > level {
        Verdict::Partly
    } else {
        Verdict::Not
    }
}

/// Comparisons by where their intervals lie, and the range of their means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Interval above 0.
    pub above: usize,
    /// Interval around 0.
    pub level: usize,
    /// Interval below 0.
    pub below: usize,
    /// Smallest and largest mean.
    pub range: Option<(f64, f64)>,
}

impl Tally {
    fn count(&mut self, gain: Interval) {
        if gain.low() > 0.0 {
            self.above += 1;
        } else if gain.high() < 0.0 {
            self.below += 1;
        } else {
            self.level += 1;
        }
        let (low, high) = self.range.unwrap_or((gain.mean, gain.mean));
        self.range = Some((low.min(gain.mean), high.max(gain.mean)));
    }

    /// The verdict on *ahead*.
    pub fn verdict(&self) -> Verdict {
        if self.above > 0 && self.level + self.below == 0 {
            Verdict::Reproduced
        } else if self.above > self.below {
            Verdict::Partly
        } else {
            Verdict::Not
        }
    }
}

/// Every comparison of OrbitFlow with `theirs` in the cells that `chosen` accepts.
pub fn ahead(
    table: &Table,
    semantics: &str,
    metrics: &[Metric],
    theirs: &[&str],
    chosen: impl Fn(&str) -> bool,
) -> Tally {
    let mut tally = Tally::default();
    for cell in cells(table, semantics).filter(|cell| chosen(&table.cells[*cell].place)) {
        for metric in metrics {
            for theirs in theirs {
                let gain = table.pairs(cell, "orbitflow", theirs, *metric, |ours, theirs| ours - theirs);
                gain.into_iter().for_each(|gain| tally.count(gain));
            }
        }
    }
    tally
}

/// The step from each method to the next in one cell, and the verdict on *in order*.
pub fn in_order(table: &Table, cell: usize, methods: &[&str], metric: Metric) -> (Vec<Interval>, Verdict) {
    let gain = |ours, theirs| table.pairs(cell, ours, theirs, metric, |ours, theirs| ours - theirs);
    let steps: Vec<Interval> = methods.windows(2).filter_map(|pair| gain(pair[1], pair[0])).collect();
    let whole = gain(methods[methods.len() - 1], methods[0]);
    let verdict = if !steps.is_empty() && steps.iter().all(|step| step.low() > 0.0) {
        Verdict::Reproduced
    } else if whole.is_some_and(|whole| whole.low() > 0.0) {
        Verdict::Partly
    } else {
        Verdict::Not
    };
    (steps, verdict)
}

/// Cells in which some fixed rule is no worse than OrbitFlow in the mean, on TBT in the paper's scoring and on TPOT, and
/// all cells.
pub fn simple_is_no_worse(table: &Table, semantics: &str) -> (usize, usize) {
    let mean = |cell, policy: &str, metric| table.mean(cell, policy, metric).map(|interval| interval.mean);
    let no_worse = |cell: usize, simple: &str| {
        [Metric::TbtPaper, Metric::TpotStep].into_iter().all(|metric| {
            mean(cell, simple, metric) >= mean(cell, "orbitflow", metric)
                && mean(cell, simple, metric).is_some()
        })
    };
    let all: Vec<usize> = cells(table, semantics).collect();
    let beaten = all.iter().filter(|cell| SIMPLE.iter().any(|simple| no_worse(**cell, simple))).count();
    (beaten, all.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(mean: f64, half: f64) -> Interval {
        Interval { mean, half, count: 5 }
    }

    #[test]
    fn an_up_to_claim_is_reproduced_if_the_interval_reaches_it() {
        // The worked numbers of the header.
        assert_eq!(up_to(interval(50.0, 20.0), 62.0, 0.0), Verdict::Reproduced);
        assert_eq!(up_to(interval(50.0, 5.0), 62.0, 0.0), Verdict::Partly);
        assert_eq!(up_to(interval(2.0, 5.0), 62.0, 0.0), Verdict::Not);
        assert_eq!(
            up_to(interval(40.0, 90.0), 62.0, 0.0),
            Verdict::Not,
            "an interval over everything shows nothing"
        );
    }

    #[test]
    fn one_comparison_that_is_not_above_makes_ahead_partly() {
        let mut tally = Tally::default();
        tally.count(interval(3.0, 1.0));
        tally.count(interval(9.0, 2.0));
        assert_eq!((tally.verdict(), tally.range), (Verdict::Reproduced, Some((3.0, 9.0))));
        tally.count(interval(0.5, 1.0));
        assert_eq!((tally.verdict(), tally.level), (Verdict::Partly, 1));
        tally.count(interval(-3.0, 1.0));
        tally.count(interval(-4.0, 1.0));
        assert_eq!((tally.verdict(), tally.above, tally.below), (Verdict::Not, 2, 2));
    }
}
