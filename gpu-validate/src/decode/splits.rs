//! Into how many parts attention cuts each request's context.
//!
//! A function of the batch, the heads, the longest context and the device alone, never of where KV lies: resident and
//! offloaded runs of one case must give the same bits. Any function of this shape can be handed to
//! [`super::RigOptions`].

/// Splits for a batch: of (requests, KV heads, most context tokens of a request, multiprocessors), at least 1.
pub type SplitRule = fn(u32, u32, u32, u32) -> u32;

/// Tokens below which a part is not worth a thread block of its own.
const LEAST_TOKENS: u32 = 256;

/// Thread blocks per multiprocessor that keep enough bytes in flight (`gpu-measurement.md` §5, last paragraph).
const BLOCKS_PER_MULTIPROCESSOR: u32 = 4;

/// As many parts as (request, KV head, part) run at the same time, so that no second, mostly empty wave follows; none
/// below 256 tokens.
pub fn fill_the_device(batch: u32, kv_heads: u32, most_tokens: u32, sm_count: u32) -> u32 {
    let wanted = BLOCKS_PER_MULTIPROCESSOR * sm_count / (batch * kv_heads).max(1);
    wanted.min(most_tokens.div_ceil(LEAST_TOKENS)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_request_is_cut_until_the_device_is_full_and_a_short_one_is_not_cut() {
        assert_eq!(fill_the_device(1, 8, 32_768, 132), 66); // 4 · 132 / 8
        assert_eq!(fill_the_device(1, 8, 512, 132), 2); // 512 / 256
        assert_eq!(fill_the_device(64, 8, 32_768, 132), 1); // 528 / 512, rounded down
        assert_eq!(fill_the_device(1, 2, 1, 1), 1);
    }
}
