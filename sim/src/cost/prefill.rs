//! How long a prefill step takes: the scenario's line, a measured table, or the datasheet's tensor rate
//! (design §3.6).
//!
//! All prompts of a step are prefilled one after the other; nothing is shared between them (no prefix cache).
//!
//! **In chunks** (`engine.prefill = "chunked:N"`; [`crate::cost::CostModel::prefill_chunks`]): with `F(p)` the time of a
//! step that processes a prompt of `p` tokens, a step that takes it from `p₀` to `p₁` tokens takes `F(p₁) − F(p₀)`,
//! `F(0) = 0`, both rounded to the picosecond before. So the chunks of a prompt sum to `F(p)` exactly, however it is
//! cut, and attention is in it as it should be: the tokens of a later chunk attend to all before them, which is the `p²`
//! term. Worked: 10 µs a token and 1 ns a squared token; 1,000 tokens take 11 ms, in chunks of 400 they take 4.16, 4.48
//! and 2.36 ms. Tests: `the_worked_chunks_of_the_header`,
//! `the_chunks_of_a_prompt_sum_to_it_to_the_picosecond_however_it_is_cut`,
//! `whole_prompts_without_decodes_take_what_their_own_step_takes`.
//!
//! What this leaves out: a GPU is less busy with few rows, and every pass reads the weights, launches its kernels and
//! waits for its all-reduces. `base` and the all-reduce's constant are paid once, by the first chunk; reading the
//! weights is the least that a step **without decodes** takes, and beside decodes it is in their compute. So small
//! chunks look cheaper than they are; what they cost is measured in Sarathi-Serve (OSDI 2024, arXiv 2403.02310).

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

/// Tokens `from` to `to` of a prompt of `prompt` tokens: what one step processes of it. `from < to ≤ prompt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptChunk {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens that steps before have processed.
    pub from: u64,
    /// Tokens that are processed at the end of the step.
    pub to: u64,
}

impl PromptChunk {
    /// Tokens that the step processes.
    pub const fn tokens(self) -> u64 {
        self.to - self.from
    }
}

impl PrefillModel {
    /// Seconds of one prefill step over the given prompts, each in tokens.
    pub fn step_s(&self, prompt_tokens: impl IntoIterator<Item = u64>) -> f64 {
        self.work_s(prompt_tokens.into_iter().map(|prompt| (prompt, prompt))).max(self.least_s())
    }

    /// Seconds of work until so many tokens of each prompt are processed, by `(prompt, processed)`; `base` once.
    pub(super) fn work_s(&self, processed: impl Iterator<Item = (u64, u64)>) -> f64 {
        let processed = processed.map(|(prompt, done)| (prompt as f64, done as f64));
        match self {
            PrefillModel::Linear { base_s, per_token_s } => {
                base_s + per_token_s * processed.map(|(_, done)| done).sum::<f64>()
            }
            PrefillModel::Roofline { per_token_s, per_token_squared_s, .. } => {
                processed.map(|(_, p)| per_token_s * p + per_token_squared_s * p * p).sum()
            }
            PrefillModel::Table(table) => processed.map(|(prompt, done)| table.until(done, prompt)).sum(),
        }
    }

    /// The least that a step takes in which nothing else reads the weights.
    pub(super) fn least_s(&self) -> f64 {
        if let PrefillModel::Roofline { weights_s, .. } = self { *weights_s } else { 0.0 }
    }

    /// What a step pays once, however many prompts begin in it.
    pub(super) fn base_s(&self) -> f64 {
        if let PrefillModel::Linear { base_s, .. } = self { *base_s } else { 0.0 }
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

    /// Seconds until `done` of the `prompt` tokens of a prompt are processed: those of a prompt of `done` tokens, but
    /// where a measured table falls never more than those of a longer one on the way, or a chunk would take less than
    /// nothing.
    fn until(&self, done: f64, prompt: f64) -> f64 {
        let between = self.points.iter().filter(|(tokens, _)| done < *tokens && *tokens < prompt);
        between.map(|(_, seconds)| *seconds).fold(self.at(done).min(self.at(prompt)), f64::min)
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
    use crate::cost::{ComputeModel, Contention, CostModel, LayerAllReduce, LinkModel};
    use crate::units::{BytesPerSec, SimDuration};

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

    fn cost(prefill: PrefillModel, all_reduce: LayerAllReduce) -> CostModel {
        let link = LinkModel::line(SimDuration::ZERO, BytesPerSec::try_from_f64(1e9).unwrap());
        CostModel {
            layers: 32,
            compute: ComputeModel::Affine { per_token_s: 0.0, base_s: 1e-2 },
            h2d: link,
            d2h: link,
            prefill,
            fixed_tail: SimDuration::ZERO,
            link_intercept: SimDuration::ZERO,
            contention: Contention::NONE,
            all_reduce,
        }
    }

    /// Per token, per squared token and weights, in seconds.
    fn roofline(per_token_s: f64, per_token_squared_s: f64, weights_s: f64) -> PrefillModel {
        PrefillModel::Roofline { per_token_s, per_token_squared_s, weights_s }
    }

    /// The prompt cut after every `most` tokens.
    fn cut(prompt: u64, most: u64) -> Vec<PromptChunk> {
        let ends = (0..prompt).step_by(most as usize);
        ends.map(|from| PromptChunk { prompt, from, to: prompt.min(from + most) }).collect()
    }

    fn picos(cost: &CostModel, chunks: &[PromptChunk], beside_decodes: bool) -> u64 {
        cost.prefill_chunks(chunks.iter().copied(), beside_decodes).as_picos()
    }

    #[test]
    fn the_worked_chunks_of_the_header() {
        let cost = cost(roofline(1e-5, 1e-9, 0.0), LayerAllReduce::NONE);
        // F(400) = 4 + 0.16, F(800) = 8 + 0.64, F(1000) = 10 + 1 ms
        let of = |chunk| picos(&cost, &[chunk], true);
        let chunks: Vec<u64> = cut(1000, 400).into_iter().map(of).collect();
        assert_eq!(chunks, [4_160_000_000, 4_480_000_000, 2_360_000_000]);
    }

    #[test]
    fn the_chunks_of_a_prompt_sum_to_it_to_the_picosecond_however_it_is_cut() {
        let reduce = LayerAllReduce { base_s: 20.3e-6, per_row_s: 0.163_84e-6 };
        // The third falls from 200 to 300 tokens, as a noisy measurement may.
        let table = PromptTable::new(vec![(100.0, 0.017), (200.0, 0.034_5), (300.0, 0.033_3), (900.0, 0.2)]);
        let models = [
            cost(
                PrefillModel::Linear { base_s: 0.001_234_567, per_token_s: 1.0 / 7e4 },
                LayerAllReduce::NONE,
            ),
            cost(roofline(1.0 / 3e5, 1.0 / 7e9, 0.0), reduce),
            cost(PrefillModel::Table(table), reduce),
        ];
        for cost in &models {
            for prompt in [1, 2, 150, 201, 250, 300, 301, 777, 1000] {
                let whole = cost.prefill([prompt]).as_picos();
                for most in [1, 2, 7, 64, 100, 250, 333, 1000, 5000] {
                    let sum: u64 = cut(prompt, most).into_iter().map(|c| picos(cost, &[c], true)).sum();
                    assert_eq!(sum, whole, "{prompt} in chunks of {most}: {:?}", cost.prefill);
                }
            }
        }
    }

    #[test]
    fn whole_prompts_without_decodes_take_what_their_own_step_takes() {
        let reduce = LayerAllReduce { base_s: 20.3e-6, per_row_s: 0.163_84e-6 };
        let models = [
            PrefillModel::Linear { base_s: 0.001_234_567, per_token_s: 1.0 / 7e4 },
            roofline(1.0 / 3e5, 1.0 / 7e9, 0.008),
            PrefillModel::Table(PromptTable::new(vec![(100.0, 0.017), (900.0, 0.2)])),
        ];
        for model in models {
            let cost = cost(model, reduce);
            for prompts in [&[1][..], &[1000], &[3, 500, 77], &[9000, 1]] {
                let whole = |prompt: &u64| PromptChunk { prompt: *prompt, from: 0, to: *prompt };
                let chunks: Vec<PromptChunk> = prompts.iter().map(whole).collect();
                let step = cost.prefill(prompts.iter().copied()).as_picos();
                assert_eq!(picos(&cost, &chunks, false), step, "{prompts:?}: {:?}", cost.prefill);
            }
        }
    }

    #[test]
    fn weights_are_the_least_of_a_step_without_decodes_and_the_base_is_paid_where_a_prompt_begins() {
        let chunk = |from, to| PromptChunk { prompt: 1000, from, to };
        let floored = cost(roofline(1e-5, 0.0, 8e-3), LayerAllReduce::NONE);
        // 100 tokens are 1 ms of work; reading the weights takes 8 ms, and 900 tokens 9.
        assert_eq!(picos(&floored, &[chunk(0, 100)], true), 1_000_000_000);
        assert_eq!(picos(&floored, &[chunk(0, 100)], false), 8_000_000_000);
        assert_eq!(picos(&floored, &[chunk(100, 1000)], false), 9_000_000_000);
        // 1 ms once and 10 µs a token: a prompt that goes on pays no base, one that begins does, two that begin pay one.
        let based = cost(PrefillModel::Linear { base_s: 1e-3, per_token_s: 1e-5 }, LayerAllReduce::NONE);
        assert_eq!(picos(&based, &[chunk(500, 600)], false), 1_000_000_000);
        assert_eq!(picos(&based, &[chunk(500, 600), chunk(0, 100)], false), 3_000_000_000);
        assert_eq!(picos(&based, &[chunk(0, 100), chunk(0, 100)], false), 3_000_000_000);
        assert_eq!(picos(&based, &[], false), 0);
    }
}
