//! How much can be promised: the largest load, or the smallest GPU pool or link, at which a policy still meets an
//! attainment target (design §2.1, `capacity`).
//!
//! What is varied is multiplied by a factor of 2⁻⁶ to 2⁶. All thirteen powers of two are tried, so that a target that is
//! met, missed and met again is seen and said; between the last power before the first change and that change the
//! factor is bisected to 2 %. For more is harder (load) the search comes from below, for more is easier (pool, link)
//! from above, so the answer is the end of an unbroken stretch. Every seed is searched for itself; the policy's
//! answer is that of its worst seed. A factor at which nothing could be simulated (time beyond 213 days, a link of
//! less than 1 B/s) is listed; it is no miss where the search begins, and counts as one beyond.
//!
//! Worked (a test): met up to a factor of 3. The powers are met up to 2 and missed at 4; √(2·4) = 2.83 is met, 3.36
//! is not, … until the bracket is within 2 %: 2.986 to 3.018.

mod vary;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use vary::{METRICS, Metric, Quantity, Trial, Variation};

/// Factors tried before anything is bisected: 2⁻⁶ to 2⁶.
const POWERS: std::ops::RangeInclusive<i32> = -6..=6;

/// Widest bracket of an answer, as a ratio.
const PRECISION: f64 = 1.02;

/// What a search over factors found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// Met at `met`, missed at `missed`: at most 2 % apart.
    Between {
        /// The last factor tried at which the target is met.
        met: f64,
        /// The first factor tried beyond it at which it is missed.
        missed: f64,
    },
    /// Met at every factor tried: the end of the range.
    Everywhere {
        /// The end.
        met: f64,
    },
    /// Missed where it should be easiest.
    NotReached,
}

impl Answer {
    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Answer::Between { .. } => "between",
            Answer::Everywhere { .. } => "everywhere",
            Answer::NotReached => "not-reached",
        }
    }

    /// The factor that is promised, if there is one.
    pub const fn factor(self) -> Option<f64> {
        match self {
            Answer::Between { met, .. } | Answer::Everywhere { met } => Some(met),
            Answer::NotReached => None,
        }
    }
}

/// One search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// The answer.
    pub answer: Answer,
    /// Powers of two beyond the first miss at which the target is met again: the answer is not the whole truth.
    pub met_again: Vec<f64>,
    /// Powers of two at which it could not be tried.
    pub untried: Vec<f64>,
    /// Attainment at the factor that is promised, percent.
    pub attained_pct: Option<f64>,
}

/// The edge of an unbroken stretch of factors at which `attained` is at least `target`, from where it is easiest.
/// `attained` is `None` where it cannot be tried. The powers are tried side by side.
pub fn search<E: Send>(
    more_is_harder: bool,
    target: f64,
    attained: impl Fn(f64) -> Result<Option<f64>, E> + Sync,
) -> Result<Found, E> {
    // Exponents from the easiest on; `factor` is the true one.
    let sign = if more_is_harder { 1 } else { -1 };
    let factor = |exponent: f64| libm::exp2(exponent * f64::from(sign));
    let powers: Vec<f64> = POWERS.map(f64::from).collect();
    let tried: Vec<Option<f64>> =
        powers.par_iter().map(|exponent| attained(factor(*exponent))).collect::<Result<_, E>>()?;
    let meets = |attained: Option<f64>| attained.is_some_and(|attained| attained >= target);
    let those = |from: usize, which: &dyn Fn(Option<f64>) -> bool| -> Vec<f64> {
        (from..tried.len()).filter(|place| which(tried[*place])).map(|place| factor(powers[place])).collect()
    };
    let untried = those(0, &|attained| attained.is_none());
    let start = tried.iter().position(Option::is_some).unwrap_or(0);
    let Some(miss) = (start..tried.len()).find(|place| !meets(tried[*place])) else {
        let last = powers.len() - 1;
        let answer = Answer::Everywhere { met: factor(powers[last]) };
        return Ok(Found { answer, met_again: Vec::new(), untried, attained_pct: tried[last] });
    };
    let met_again = those(miss, &meets);
    if miss == start {
        return Ok(Found { answer: Answer::NotReached, met_again, untried, attained_pct: None });
    }
    let (mut low, mut high, mut best) = (powers[miss - 1], powers[miss], tried[miss - 1]);
    while high - low > libm::log2(PRECISION) {
        let middle = (low + high) / 2.0;
        let here = attained(factor(middle))?;
        if meets(here) {
            (low, best) = (middle, here);
        } else {
            high = middle;
        }
    }
    let answer = Answer::Between { met: factor(low), missed: factor(high) };
    Ok(Found { answer, met_again, untried, attained_pct: best })
}

/// Which seed's answer holds for every seed: the hardest one's. Of each seed its value, `None` where the target is not
/// reached; values, not factors, since seeds may start from different pools. `None` without seeds.
pub fn of_every_seed(values: &[Option<f64>], more_is_harder: bool) -> Option<usize> {
    let promised = |seed: &usize| match values[*seed] {
        None => f64::NEG_INFINITY,
        Some(value) if more_is_harder => value,
        Some(value) => -value,
    };
    (0..values.len()).min_by(|one, other| promised(one).total_cmp(&promised(other)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn with(more_is_harder: bool, attained: impl Fn(f64) -> f64 + Sync) -> Found {
        search(more_is_harder, 90.0, |factor| Ok::<_, Infallible>(Some(attained(factor)))).unwrap()
    }

    fn step(up_to: f64) -> impl Fn(f64) -> f64 + Sync {
        move |factor| if factor <= up_to { 95.0 } else { 50.0 }
    }

    #[test]
    fn the_worked_number_of_the_header() {
        let found = with(true, step(3.0));
        let Answer::Between { met, missed } = found.answer else { panic!("{found:?}") };
        assert!(met <= 3.0 && 3.0 < missed && missed / met <= 1.02, "{met} {missed}");
        assert_eq!((format!("{met:.3}"), format!("{missed:.3}")), ("2.986".to_owned(), "3.018".to_owned()));
        assert_eq!((found.met_again.len(), found.attained_pct), (0, Some(95.0)));
    }

    #[test]
    fn never_met_and_always_met_are_answers() {
        assert_eq!(with(true, |_| 10.0).answer, Answer::NotReached);
        assert_eq!(with(true, |_| 90.0).answer, Answer::Everywhere { met: 64.0 });
        assert_eq!(with(false, |_| 90.0).answer, Answer::Everywhere { met: 1.0 / 64.0 });
    }

    #[test]
    fn where_more_is_easier_the_smallest_that_does_is_found() {
        let found = with(false, |factor| if factor >= 0.7 { 92.0 } else { 0.0 });
        let Answer::Between { met, missed } = found.answer else { panic!("{found:?}") };
        assert!(missed < 0.7 && 0.7 <= met && met / missed <= 1.02, "{missed} {met}");
    }

    #[test]
    fn a_target_met_again_beyond_a_miss_is_said_and_not_promised() {
        let found = with(true, |factor| if factor <= 1.5 || factor == 8.0 { 95.0 } else { 50.0 });
        assert!(found.answer.factor().is_some_and(|factor| factor <= 1.5));
        assert_eq!(found.met_again, [8.0]);
        let only_later = with(true, |factor| if factor == 8.0 { 95.0 } else { 50.0 });
        assert_eq!((only_later.answer, only_later.met_again), (Answer::NotReached, vec![8.0]));
    }

    #[test]
    fn what_cannot_be_tried_is_listed_and_is_no_answer() {
        let within = |from: f64, to: f64| {
            move |factor: f64| Ok::<_, Infallible>((from..=to).contains(&factor).then_some(95.0))
        };
        let found = search(true, 90.0, within(0.25, 64.0)).unwrap();
        assert_eq!(
            (found.answer, &found.untried[..]),
            (Answer::Everywhere { met: 64.0 }, &[0.015625, 0.03125, 0.0625, 0.125][..])
        );
        // Met as far as it could be tried: the bracket is the edge of that.
        let found = search(true, 90.0, within(0.0, 3.0)).unwrap();
        let Answer::Between { met, missed } = found.answer else { panic!("{found:?}") };
        assert!(met <= 3.0 && 3.0 < missed, "{met} {missed}");
        assert_eq!(found.untried, [4.0, 8.0, 16.0, 32.0, 64.0]);
        let never = search(true, 90.0, |_| Ok::<_, Infallible>(None)).unwrap();
        assert_eq!((never.answer, never.untried.len(), never.attained_pct), (Answer::NotReached, 13, None));
    }

    #[test]
    fn the_worst_seed_decides_by_its_value() {
        assert_eq!(of_every_seed(&[Some(3.0), Some(1.2), Some(9.0)], true), Some(1));
        assert_eq!(of_every_seed(&[Some(3.0), None], true), Some(1), "not reached is worst");
        assert_eq!(of_every_seed(&[Some(400.0), Some(500.0)], false), Some(1), "of pools the larger");
        assert_eq!(of_every_seed(&[], true), None);
    }
}
