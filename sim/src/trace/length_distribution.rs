//! How long prompts and outputs are that nobody measured: length distributions, by name.
//!
//! Written as one word and its numbers, as arrival processes are. Lengths are whole tokens, at least 1. Draws
//! come from the stream of lengths (design §9).

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;

use super::fields::MAX_TOKENS;
use crate::random;

/// A bin spreads evenly over ±20 % of its centre (facts G.2).
const BIN_SPREAD: f64 = 0.2;

/// How long prompts or outputs are, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum LengthDistribution {
    /// `fixed:N`: always N.
    Fixed(u64),
    /// `uniform:LOW:HIGH`: whole numbers, both ends included.
    Uniform {
        /// Least tokens.
        low: u64,
        /// Most tokens.
        high: u64,
    },
    /// `lognormal:MEAN:CV`.
    Lognormal {
        /// Mean tokens.
        mean: f64,
        /// Standard deviation over the mean.
        cv: f64,
    },
    /// `bins:CENTRE=WEIGHT,…`: a bin by its weight (1 if absent), then evenly within ±20 % of its centre.
    Bins(Vec<Bin>),
    /// `ratio:R`, for outputs: R times the prompt.
    RatioOfPrompt(f64),
    /// `ratio-total:R`, for outputs: R times the sum of prompt and output, 0 < R < 1.
    RatioOfTotal(f64),
}

/// One bin of a mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Its centre, in tokens.
    pub centre: u64,
    /// Its weight in the mix.
    pub weight: f64,
}

/// The distributions as they are written, for messages and help.
pub const LENGTHS: &str = "fixed:N, uniform:LOW:HIGH, lognormal:MEAN:CV, bins:CENTRE=WEIGHT,…, ratio:R, ratio-total:R (outputs only)";

impl LengthDistribution {
    /// One length. `prompt` is the prompt that an output belongs to; panics if a ratio is asked for without
    /// one.
    pub fn draw(&self, prompt: Option<u64>, generator: &mut ChaCha8Rng) -> u64 {
        let prompt =
            || prompt.expect("Invariant: only outputs are ratios, and they are drawn after the prompt");
        match self {
            LengthDistribution::Fixed(tokens) => *tokens,
            LengthDistribution::Uniform { low, high } => random::uniform_whole(generator, *low, *high),
            LengthDistribution::Lognormal { mean, cv } => whole(random::lognormal(generator, *mean, *cv)),
            LengthDistribution::Bins(bins) => {
                let weights: Vec<f64> = bins.iter().map(|bin| bin.weight).collect();
                let centre = bins[random::weighted_index(generator, &weights)].centre as f64;
                let (low, high) = (centre * (1.0 - BIN_SPREAD), centre * (1.0 + BIN_SPREAD));
                random::uniform_whole(generator, whole(low.ceil()), whole(high.floor()))
            }
            LengthDistribution::RatioOfPrompt(ratio) => whole(ratio * prompt() as f64),
            LengthDistribution::RatioOfTotal(ratio) => whole(ratio / (1.0 - ratio) * prompt() as f64),
        }
    }

    /// Whether the length hangs on another one.
    pub fn is_ratio(&self) -> bool {
        matches!(self, LengthDistribution::RatioOfPrompt(_) | LengthDistribution::RatioOfTotal(_))
    }
}

/// The nearest number of tokens that may be.
fn whole(tokens: f64) -> u64 {
    tokens.round().clamp(1.0, MAX_TOKENS as f64) as u64
}

/// A length distribution that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lengths `{text}`: {reason}\nhint: the distributions are {LENGTHS}")]
pub struct BadLengths {
    text: String,
    reason: String,
}

impl FromStr for LengthDistribution {
    type Err = BadLengths;

    fn from_str(text: &str) -> Result<Self, BadLengths> {
        parse(text).map_err(|reason| BadLengths { text: text.into(), reason })
    }
}

fn parse(text: &str) -> Result<LengthDistribution, String> {
    let (name, numbers) = text.split_once(':').unwrap_or((text, ""));
    let words: Vec<&str> = numbers.split(':').collect();
    Ok(match (name, words.as_slice()) {
        ("fixed", [tokens]) => LengthDistribution::Fixed(parse_tokens(tokens)?),
        ("uniform", [low, high]) => {
            let (low, high) = (parse_tokens(low)?, parse_tokens(high)?);
            if low > high {
                return Err(format!("{low} is above {high}: expected the lower end first"));
            }
            LengthDistribution::Uniform { low, high }
        }
        ("lognormal", [mean, cv]) => LengthDistribution::Lognormal {
            mean: parse_within("the mean", mean, 1.0, MAX_TOKENS as f64)?,
            cv: parse_within("the coefficient of variation", cv, 0.0, 100.0)?,
        },
        ("bins", [bins]) => LengthDistribution::Bins(parse_bins(bins)?),
        ("ratio", [ratio]) => LengthDistribution::RatioOfPrompt(parse_within("the ratio", ratio, 1e-6, 1e6)?),
        ("ratio-total", [ratio]) => {
            LengthDistribution::RatioOfTotal(parse_within("the ratio", ratio, 1e-6, 0.999_999)?)
        }
        ("fixed" | "uniform" | "lognormal" | "bins" | "ratio" | "ratio-total", _) => {
            return Err(format!("`{numbers}` is not what `{name}` takes"));
        }
        _ => return Err("unknown name".into()),
    })
}

fn parse_bins(text: &str) -> Result<Vec<Bin>, String> {
    let bins: Vec<Bin> = text
        .split(',')
        .map(|bin| {
            let (centre, weight) = bin.split_once('=').unwrap_or((bin, "1"));
            let weight = parse_within("the weight", weight, 0.0, 1e9)?;
            Ok(Bin { centre: parse_tokens(centre)?, weight })
        })
        .collect::<Result<_, String>>()?;
    if bins.iter().any(|bin| bin.weight > 0.0) { Ok(bins) } else { Err("every weight is 0".into()) }
}

fn parse_tokens(text: &str) -> Result<u64, String> {
    super::fields::parse_whole(text)
        .filter(|tokens| (1..=MAX_TOKENS).contains(tokens))
        .ok_or_else(|| format!("`{text}` is no length: expected 1 to {MAX_TOKENS} tokens"))
}

fn parse_within(what: &str, text: &str, low: f64, high: f64) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (low..=high).contains(value))
        .ok_or_else(|| format!("{what} is `{text}`: expected {low} to {high}"))
}

impl fmt::Display for LengthDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LengthDistribution::Fixed(tokens) => write!(f, "fixed:{tokens}"),
            LengthDistribution::Uniform { low, high } => write!(f, "uniform:{low}:{high}"),
            LengthDistribution::Lognormal { mean, cv } => write!(f, "lognormal:{mean}:{cv}"),
            LengthDistribution::Bins(bins) => {
                let words: Vec<String> =
                    bins.iter().map(|bin| format!("{}={}", bin.centre, bin.weight)).collect();
                write!(f, "bins:{}", words.join(","))
            }
            LengthDistribution::RatioOfPrompt(ratio) => write!(f, "ratio:{ratio}"),
            LengthDistribution::RatioOfTotal(ratio) => write!(f, "ratio-total:{ratio}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn every_distribution_stays_in_its_range() {
        // ±20 % of 1000 and of 5; a total of 400 with a quarter of it output: prompt 300, output 100.
        for (text, prompt, low, high) in [
            ("fixed:7", None, 7, 7),
            ("uniform:10:20", None, 10, 20),
            ("lognormal:500:0", None, 500, 500),
            ("bins:1000=1", None, 800, 1200),
            ("bins:5=2,1000=0", None, 4, 6),
            ("ratio:0.5", Some(300), 150, 150),
            ("ratio:0.001", Some(3), 1, 1),
            ("ratio-total:0.25", Some(300), 100, 100),
        ] {
            let lengths: LengthDistribution = text.parse().unwrap();
            let mut generator = random::sequence(1, Stream::Lengths);
            let drawn: Vec<u64> = (0..2000).map(|_| lengths.draw(prompt, &mut generator)).collect();
            assert_eq!(drawn.iter().min(), Some(&low), "{text}");
            assert_eq!(drawn.iter().max(), Some(&high), "{text}");
            assert_eq!(lengths.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_the_list() {
        for (text, reason) in [
            ("", "unknown name"),
            ("unifrom:1:2", "unknown name"),
            ("fixed:0", "1 to 1000000000 tokens"),
            ("fixed:-5", "1 to 1000000000 tokens"),
            ("fixed:NaN", "1 to 1000000000 tokens"),
            ("uniform:5", "not what `uniform` takes"),
            ("uniform:20:10", "20 is above 10"),
            ("lognormal:inf:1", "mean is `inf`"),
            ("bins:100=0", "every weight is 0"),
            ("ratio-total:1", "ratio is `1`"),
            ("ratio:0", "ratio is `0`"),
        ] {
            let error = text.parse::<LengthDistribution>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("hint:"), "{text}: {error}");
        }
    }
}
