//! Decode compute as a function of the batch: a published line, a roofline, or measured tables (design §3.6;
//! `gpu-measurement.md` §3.1).
//!
//! `T` is the number of context tokens of all requests in the batch, `B` the number of requests. Asked every
//! simulated step, so nothing here allocates after it is built.

use std::collections::BTreeMap;

use super::profile::Positive;

/// Decode compute as a function of the batch: `compute(T, B)`.
#[derive(Clone, Debug, PartialEq)]
pub enum ComputeModel {
    /// `A·T + B₀` (published fits; facts H).
    Affine {
        /// Seconds per context token in the batch.
        per_token_s: f64,
        /// Seconds per step.
        base_s: f64,
    },
    /// `max(weights/HBM, 2·params·B/rate) + T·kv/HBM + overhead`.
    Roofline {
        /// Seconds to read the weights of a step once: every layer and the output head.
        weights_s: f64,
        /// Seconds of tensor work per request in the batch.
        flops_s_per_request: f64,
        /// Seconds to read the KV of one context token.
        per_token_s: f64,
        /// Fixed seconds per step.
        overhead_s: f64,
    },
    /// Tables from `gpu-validate`.
    Measured(MeasuredCompute),
}

/// Per layer `w(B) + max(floor, c + T·per_token) + other`; per step, after the last layer, `lm_head(B) + fixed`.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredCompute {
    /// Matrix multiplications of one layer.
    pub layer_weights: BatchTable,
    /// Output head.
    pub lm_head: BatchTable,
    /// Least attention seconds of one layer.
    pub attention_floor_s: f64,
    /// Constant of the attention line, seconds.
    pub attention_constant_s: f64,
    /// Attention seconds of one layer per context token.
    pub attention_s_per_token: f64,
    /// The rest of a layer, seconds.
    pub layer_other_s: f64,
    /// The rest of a step, seconds.
    pub step_fixed_s: f64,
}

impl ComputeModel {
    /// Compute seconds of one layer. Forms that only know whole steps divide them by `layers`.
    pub fn layer_s(&self, context_tokens: u64, requests: u32, layers: u32) -> f64 {
        let tokens = context_tokens as f64;
        match self {
            ComputeModel::Affine { per_token_s, base_s } => {
                (per_token_s * tokens + base_s) / f64::from(layers)
            }
            ComputeModel::Roofline { weights_s, flops_s_per_request, per_token_s, overhead_s } => {
                let weights_s = weights_s.max(flops_s_per_request * f64::from(requests));
                (weights_s + per_token_s * tokens + overhead_s) / f64::from(layers)
            }
            ComputeModel::Measured(measured) => {
                let attention_s = measured.attention_constant_s + measured.attention_s_per_token * tokens;
                measured.layer_weights.at(requests)
                    + attention_s.max(measured.attention_floor_s)
                    + measured.layer_other_s
            }
        }
    }

    /// Compute seconds after the last layer; 0 for the forms that have them in the layers.
    pub fn after_layers_s(&self, requests: u32) -> f64 {
        match self {
            ComputeModel::Affine { .. } | ComputeModel::Roofline { .. } => 0.0,
            ComputeModel::Measured(measured) => measured.lm_head.at(requests) + measured.step_fixed_s,
        }
    }

    /// Compute seconds of the whole step.
    pub fn step_s(&self, context_tokens: u64, requests: u32, layers: u32) -> f64 {
        match self {
            // Not through the layers: the published line is given for whole steps, and L·(x/L) may differ from x.
            ComputeModel::Affine { per_token_s, base_s } => per_token_s * context_tokens as f64 + base_s,
            ComputeModel::Roofline { .. } => self.layer_s(context_tokens, requests, 1),
            ComputeModel::Measured(_) => {
                f64::from(layers) * self.layer_s(context_tokens, requests, layers)
                    + self.after_layers_s(requests)
            }
        }
    }
}

/// Seconds by number of requests: linear between the measured numbers, the first value below them, and the last
/// slope (never a falling one) beyond them. Spread out once, so that asking is one array access.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchTable {
    /// Index is the number of requests, from 0 to the largest measured; empty: nothing was measured, 0 s.
    seconds: Vec<f64>,
    beyond_s_per_request: f64,
}

impl BatchTable {
    /// The largest number of requests a table may hold.
    pub const MAX_BATCH: u32 = 4096;

    /// Spreads out a table of measured points. Panics on a key above [`Self::MAX_BATCH`], which the profile's
    /// checks refuse.
    pub fn new(points: &BTreeMap<u32, Positive>) -> Self {
        let points: Vec<(u32, f64)> = points.iter().map(|(&batch, s)| (batch, s.get())).collect();
        let (Some(&(first, least_s)), Some(&(last, _))) = (points.first(), points.last()) else {
            return BatchTable::default();
        };
        assert!(last <= Self::MAX_BATCH, "Invariant: a checked table ends at {} requests", Self::MAX_BATCH);
        let mut seconds = vec![least_s; first as usize + 1];
        let mut slope = 0.0;
        for pair in points.windows(2) {
            let [(low, low_s), (high, high_s)] = [pair[0], pair[1]];
            slope = (high_s - low_s) / f64::from(high - low);
            seconds.extend((low + 1..high).map(|batch| low_s + slope * f64::from(batch - low)));
            seconds.push(high_s);
        }
        BatchTable { seconds, beyond_s_per_request: slope.max(0.0) }
    }

    /// The table with every time divided by `n`.
    pub(super) fn divided(&self, n: f64) -> Self {
        BatchTable {
            seconds: self.seconds.iter().map(|seconds| seconds / n).collect(),
            beyond_s_per_request: self.beyond_s_per_request / n,
        }
    }

    /// The largest number of requests that was measured.
    pub fn last_batch(&self) -> u32 {
        self.seconds.len().saturating_sub(1) as u32
    }

    /// Seconds with `requests` requests in the batch.
    pub fn at(&self, requests: u32) -> f64 {
        match (self.seconds.get(requests as usize), self.seconds.last()) {
            (Some(&seconds), _) => seconds,
            (None, Some(&last_s)) => {
                last_s + self.beyond_s_per_request * f64::from(requests - self.last_batch())
            }
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(points: &[(u32, f64)]) -> BatchTable {
        BatchTable::new(&points.iter().map(|&(batch, s)| (batch, Positive::literal(s))).collect())
    }

    #[test]
    fn a_table_is_exact_at_its_points_linear_between_and_keeps_the_last_slope_beyond() {
        let table = table(&[(2, 10.0), (4, 14.0), (8, 30.0)]);
        // 3: 10 + (14−10)/2·1; 6: 14 + (30−14)/4·2; 10: 30 + 4·2
        let expected =
            [(0, 10.0), (1, 10.0), (2, 10.0), (3, 12.0), (4, 14.0), (6, 22.0), (8, 30.0), (10, 38.0)];
        for (batch, seconds) in expected {
            assert_eq!(table.at(batch), seconds, "{batch} requests");
        }
        assert_eq!(table.last_batch(), 8);
    }

    #[test]
    fn beyond_a_falling_end_a_table_stays_flat_and_an_empty_one_is_no_time() {
        assert_eq!(table(&[(1, 3.0), (2, 2.0)]).at(100), 2.0);
        assert_eq!(table(&[(1, 3.0)]).at(100), 3.0);
        assert_eq!(table(&[]).at(7), 0.0);
    }
}
