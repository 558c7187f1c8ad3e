//! How long a prefill step takes: the scenario's line, a measured table, or the datasheet's tensor rate
//! (design §3.6).
//!
//! All prompts of a step are prefilled one after the other; nothing is shared between them (no prefix cache).

/// How long a prefill step takes.
#[derive(Clone, Debug, PartialEq)]
pub enum PrefillModel {
    /// `base + per_token · Σ prompt tokens`.
    Linear {
        /// Seconds per step.
        base_s: f64,
        /// Seconds per prompt token.
        per_token_s: f64,
    },
    /// `max(weights/HBM, Σ_r (2·params·p + 2·L·heads·head_dim·p²) / rate)` (design §3.6).
    Roofline {
        /// Seconds per prompt token: `2·params / rate`.
        per_token_s: f64,
        /// Seconds per squared prompt token: `2·L·heads·head_dim / rate`.
        per_token_squared_s: f64,
        /// Seconds to read the weights once: the least a prefill takes.
        weights_s: f64,
    },
    /// `Σ_r table(p)`: measured seconds by prompt tokens.
    Table(PromptTable),
}

impl PrefillModel {
    /// Seconds of one prefill step over the given prompts, each in tokens.
    pub fn step_s(&self, prompt_tokens: impl IntoIterator<Item = u64>) -> f64 {
        let prompts = prompt_tokens.into_iter().map(|tokens| tokens as f64);
        match self {
            PrefillModel::Linear { base_s, per_token_s } => base_s + per_token_s * prompts.sum::<f64>(),
            PrefillModel::Roofline { per_token_s, per_token_squared_s, weights_s } => {
                let work: f64 = prompts.map(|p| per_token_s * p + per_token_squared_s * p * p).sum();
                weights_s.max(work)
            }
            PrefillModel::Table(table) => prompts.map(|p| table.at(p)).sum(),
        }
    }
}

/// Seconds of one prompt by its tokens: linear between the measured lengths, the first value below them, the last
/// slope (never a falling one) beyond them.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptTable {
    points: Vec<(f64, f64)>,
}

impl PromptTable {
    /// A table of `(prompt tokens, seconds)`, ascending in tokens, at least one.
    pub fn new(points: Vec<(f64, f64)>) -> Self {
        assert!(!points.is_empty(), "Invariant: a checked prefill table has a point");
        PromptTable { points }
    }

    /// The table with every time divided by `n`.
    pub(super) fn divided(&self, n: f64) -> Self {
        PromptTable { points: self.points.iter().map(|(tokens, seconds)| (*tokens, seconds / n)).collect() }
    }

    /// The longest prompt that was measured, in tokens.
    pub fn longest(&self) -> f64 {
        self.points.last().map_or(0.0, |&(tokens, _)| tokens)
    }

    /// Seconds of a prompt of `tokens` tokens.
    pub fn at(&self, tokens: f64) -> f64 {
        let above = self.points.partition_point(|&(at, _)| at < tokens);
        if above == 0 || self.points.len() == 1 {
            return self.points[0].1;
        }
        let beyond = above == self.points.len();
        let high = above.min(self.points.len() - 1);
        let ((x0, y0), (x1, y1)) = (self.points[high - 1], self.points[high]);
        let slope = (y1 - y0) / (x1 - x0);
        if beyond { y1 + slope.max(0.0) * (tokens - x1) } else { y0 + slope * (tokens - x0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefill_table_is_linear_between_its_points_and_keeps_the_last_slope() {
        let table = PromptTable::new(vec![(100.0, 1.0), (200.0, 2.0), (400.0, 6.0)]);
        // 300: 2 + (6−2)/200·100; 500: 6 + 0.02·100
        for (tokens, seconds) in
            [(1.0, 1.0), (100.0, 1.0), (150.0, 1.5), (200.0, 2.0), (300.0, 4.0), (400.0, 6.0), (500.0, 8.0)]
        {
            assert!((table.at(tokens) - seconds).abs() < 1e-12, "{tokens}: {}", table.at(tokens));
        }
        assert_eq!(PrefillModel::Table(table).step_s([100, 200]), 3.0);
    }
}
