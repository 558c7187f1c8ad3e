//! When requests arrive that have no arrival of their own: the arrival processes, by name.
//!
//! A process is written as one word and its numbers, `gamma:0.5:3`, in scenarios, on the command line and in
//! the note that every trace drawn with it carries. Rates are per second or per step, as the user of the
//! process decides. The first request arrives at 0. Draws come from the stream of arrivals (design §9).

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random;

/// How requests arrive. `rate` is requests per unit of time, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum ArrivalProcess {
    /// `at-once`: everything at 0.
    AtOnce,
    /// `poisson:RATE`: exponential gaps.
    Poisson {
        /// Requests per unit of time.
        rate: f64,
    },
    /// `gamma:RATE:CV`: gamma gaps of mean 1/rate and coefficient of variation `cv`.
    Gamma {
        /// Requests per unit of time.
        rate: f64,
        /// Standard deviation of the gaps over their mean.
        cv: f64,
    },
    /// `lognormal:RATE:CV`: lognormal gaps, σ² = ln(cv² + 1), μ = ln(1/rate) − σ²/2 (facts G.2).
    Lognormal {
        /// Requests per unit of time.
        rate: f64,
        /// Standard deviation of the gaps over their mean.
        cv: f64,
    },
    /// `bimodal:SLOW:FAST:SHARE`: exponential gaps, of rate `slow` with probability `share`, else of rate
    /// `fast`.
    Bimodal {
        /// Rate of the long gaps.
        slow: f64,
        /// Rate of the short gaps.
        fast: f64,
        /// Share of the long gaps, 0 to 1.
        share: f64,
    },
    /// `bursty:RATE:SIZE`: bursts of `size` requests at one instant, exponential gaps of mean size/rate between
    /// them.
    Bursty {
        /// Requests per unit of time.
        rate: f64,
        /// Requests in a burst.
        size: u32,
    },
    /// `periodic:RATE`: every 1/rate.
    Periodic {
        /// Requests per unit of time.
        rate: f64,
    },
    /// `uniform:RATE`: n independent instants, even over n/rate, shifted so that the first is 0.
    Uniform {
        /// Requests per unit of time.
        rate: f64,
    },
}

/// The processes as they are written, for messages and help.
pub const PROCESSES: &str = "at-once, poisson:RATE, gamma:RATE:CV, lognormal:RATE:CV, \
     bimodal:SLOW:FAST:SHARE, bursty:RATE:SIZE, periodic:RATE, uniform:RATE";

impl ArrivalProcess {
    /// `requests` instants in ascending order, the first 0, in the unit that the rates are per.
    pub fn draw(&self, requests: usize, generator: &mut ChaCha8Rng) -> Vec<f64> {
        if let ArrivalProcess::Uniform { rate } = *self {
            return uniform_instants(requests, rate, generator);
        }
        let mut now = 0.0;
        let mut instants = Vec::with_capacity(requests);
        for index in 0..requests {
            if index > 0 {
                now += self.gap(index, generator);
            }
            instants.push(now);
        }
        instants
    }

    /// The gap before request `index`, from 1.
    fn gap(&self, index: usize, generator: &mut ChaCha8Rng) -> f64 {
        match *self {
            ArrivalProcess::AtOnce | ArrivalProcess::Uniform { .. } => 0.0,
            ArrivalProcess::Poisson { rate } => random::exponential(generator, 1.0 / rate),
            ArrivalProcess::Gamma { rate, cv } => random::gamma(generator, 1.0 / (cv * cv), 1.0 / rate),
            ArrivalProcess::Lognormal { rate, cv } => random::lognormal(generator, 1.0 / rate, cv),
            ArrivalProcess::Bimodal { slow, fast, share } => {
                let rate = if random::uniform(generator) < share { slow } else { fast };
                random::exponential(generator, 1.0 / rate)
            }
            ArrivalProcess::Bursty { rate, size } => {
                if index.is_multiple_of(size as usize) {
                    random::exponential(generator, f64::from(size) / rate)
                } else {
                    0.0
                }
            }
            ArrivalProcess::Periodic { rate } => 1.0 / rate,
        }
    }
}

fn uniform_instants(requests: usize, rate: f64, generator: &mut ChaCha8Rng) -> Vec<f64> {
    let horizon = requests as f64 / rate;
    let mut instants: Vec<f64> = (0..requests).map(|_| horizon * random::uniform(generator)).collect();
    instants.sort_by(f64::total_cmp);
    let first = instants.first().copied().unwrap_or(0.0);
    instants.iter().map(|instant| instant - first).collect()
}

/// An arrival process that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("arrival process `{text}`: {reason}\nhint: the processes are {PROCESSES}")]
pub struct BadProcess {
    text: String,
    reason: String,
}

impl FromStr for ArrivalProcess {
    type Err = BadProcess;

    fn from_str(text: &str) -> Result<Self, BadProcess> {
        parse(text).map_err(|reason| BadProcess { text: text.into(), reason })
    }
}

fn parse(text: &str) -> Result<ArrivalProcess, String> {
    let mut words = text.split(':');
    let name = words.next().unwrap_or("");
    let numbers: Vec<f64> = words
        .map(|word| word.parse().map_err(|_| format!("`{word}` is no number")))
        .collect::<Result<_, String>>()?;
    // 1e-9 to 1e9: a request in 30 years to one a nanosecond.
    let within = |what: &str, value: f64, low: f64, high: f64| {
        if (low..=high).contains(&value) {
            Ok(value)
        } else {
            Err(format!("{what} is {value:?}: expected {low} to {high}"))
        }
    };
    let rate = |value: f64| within("the rate", value, 1e-9, 1e9);
    let cv = |value: f64| within("the coefficient of variation", value, 0.01, 100.0);
    Ok(match (name, numbers.as_slice()) {
        ("at-once", []) => ArrivalProcess::AtOnce,
        ("poisson", &[r]) => ArrivalProcess::Poisson { rate: rate(r)? },
        ("gamma", &[r, c]) => ArrivalProcess::Gamma { rate: rate(r)?, cv: cv(c)? },
        ("lognormal", &[r, c]) => ArrivalProcess::Lognormal { rate: rate(r)?, cv: cv(c)? },
        ("bimodal", &[slow, fast, share]) => ArrivalProcess::Bimodal {
            slow: rate(slow)?,
            fast: rate(fast)?,
            share: within("the share", share, 0.0, 1.0)?,
        },
        ("bursty", &[r, size]) if size.fract() == 0.0 => {
            ArrivalProcess::Bursty { rate: rate(r)?, size: within("the burst size", size, 1.0, 1e6)? as u32 }
        }
        ("bursty", &[_, size]) => return Err(format!("the burst size is {size}: expected a whole number")),
        ("periodic", &[r]) => ArrivalProcess::Periodic { rate: rate(r)? },
        ("uniform", &[r]) => ArrivalProcess::Uniform { rate: rate(r)? },
        (
            "at-once" | "poisson" | "gamma" | "lognormal" | "bimodal" | "bursty" | "periodic" | "uniform",
            _,
        ) => {
            return Err(format!("{} numbers are not what `{name}` takes", numbers.len()));
        }
        _ => return Err("unknown name".into()),
    })
}

impl fmt::Display for ArrivalProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArrivalProcess::AtOnce => f.write_str("at-once"),
            ArrivalProcess::Poisson { rate } => write!(f, "poisson:{rate}"),
            ArrivalProcess::Gamma { rate, cv } => write!(f, "gamma:{rate}:{cv}"),
            ArrivalProcess::Lognormal { rate, cv } => write!(f, "lognormal:{rate}:{cv}"),
            ArrivalProcess::Bimodal { slow, fast, share } => write!(f, "bimodal:{slow}:{fast}:{share}"),
            ArrivalProcess::Bursty { rate, size } => write!(f, "bursty:{rate}:{size}"),
            ArrivalProcess::Periodic { rate } => write!(f, "periodic:{rate}"),
            ArrivalProcess::Uniform { rate } => write!(f, "uniform:{rate}"),
        }
    }
}

impl TryFrom<String> for ArrivalProcess {
    type Error = BadProcess;
    fn try_from(text: String) -> Result<Self, BadProcess> {
        text.parse()
    }
}

impl From<ArrivalProcess> for String {
    fn from(process: ArrivalProcess) -> String {
        process.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn every_process_has_the_rate_and_variation_it_names() {
        // Mean gap 0.5 everywhere: bimodal 0.5·0.9 + 0.5·0.1. Its variance: E[g²] = 0.5·2·0.81 + 0.5·2·0.01 =
        // 0.82, less 0.25 = 0.57, cv = √0.57/0.5 = 1.51. Bursts of 4: every fourth gap exponential of mean 2:
        // E[g²] = 8/4 = 2, less 0.25 = 1.75, cv = 2.65.
        for (text, cv) in [
            ("poisson:2", 1.0),
            ("gamma:2:3", 3.0),
            ("lognormal:2:1.5", 1.5),
            ("bimodal:1.1111111:10:0.5", 1.51),
            ("bursty:2:4", 2.65),
            ("periodic:2", 0.0),
            ("uniform:2", 1.0),
        ] {
            let process: ArrivalProcess = text.parse().unwrap();
            let instants = process.draw(40_000, &mut random::sequence(3, Stream::Arrivals));
            assert_eq!(instants[0], 0.0);
            let gaps: Vec<f64> = instants.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().all(|&gap| gap >= 0.0));
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((mean - 0.5).abs() < 0.025, "{text}: mean gap {mean}");
            assert!(
                (variance.sqrt() / mean - cv).abs() < 0.05 * cv.max(1e-6),
                "{text}: cv {}",
                variance.sqrt() / mean
            );
            assert_eq!(process.to_string(), text);
        }
    }

    #[test]
    fn a_process_that_cannot_be_is_refused_with_the_list_of_those_that_can() {
        for (text, reason) in [
            ("", "unknown name"),
            ("possion:2", "unknown name"),
            ("poisson", "0 numbers"),
            ("poisson:1:2", "2 numbers"),
            ("poisson:0", "rate is 0"),
            ("poisson:-1", "rate is -1"),
            ("poisson:NaN", "rate is NaN"),
            ("poisson:inf", "rate is inf"),
            ("poisson:fast", "`fast` is no number"),
            ("gamma:1:0", "variation is 0"),
            ("bimodal:1:2:1.5", "share is 1.5"),
            ("bursty:1:2.5", "whole number"),
            ("bursty:1:0", "burst size is 0"),
        ] {
            let error = text.parse::<ArrivalProcess>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("hint: the processes are"), "{text}: {error}");
        }
    }
}
