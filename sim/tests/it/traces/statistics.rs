//! Rate, variation and KV pressure, by hand.

use orbitflow_sim::trace::stats::{PressureServer, pressure, stats};

use super::read;

#[test]
fn pressure_is_that_of_first_come_first_served_slots_without_a_memory_limit() {
    // Two slots. Steps after which request 0 (prompt 15, 3 tokens) holds 16, 17, 18 tokens = 1, 2, 2 blocks;
    // request 1 (prompt 32, 1 token) 33 tokens = 3 blocks in step 0; request 2 waits for its slot: 2 tokens of
    // prompt 1 in steps 1 and 2 = 1, 1. Live blocks: 4, 3, 3; N = 3: above in one step of three. Request 3
    // comes after an idle time: 1.
    let text = "{\"arrival_step\":0,\"prompt_tokens\":15,\"output_tokens\":3}\n\
                {\"arrival_step\":0,\"prompt_tokens\":32,\"output_tokens\":1}\n\
                {\"arrival_step\":0,\"prompt_tokens\":1,\"output_tokens\":2}\n\
                {\"arrival_step\":90,\"prompt_tokens\":1,\"output_tokens\":1}\n";
    let server = PressureServer { batch_size: Some(2), gpu_kv_blocks: Some(3), step_time: None };
    let pressure = pressure(&read(text), server).unwrap();
    assert_eq!((pressure.steps, pressure.peak_live_blocks), (4, 4));
    assert_eq!(pressure.mean_live_blocks, 11.0 / 4.0);
    assert_eq!(pressure.mean_batch, 7.0 / 4.0);
    assert_eq!(pressure.above_n_pct, Some(25.0));
    assert_eq!(pressure.above_2n_pct, Some(0.0));
}

#[test]
fn rate_and_variation_are_those_of_the_gaps() {
    let text = "{\"arrival_s\":1,\"prompt_tokens\":10,\"output_tokens\":1}\n\
                {\"arrival_s\":2,\"prompt_tokens\":20,\"output_tokens\":1}\n\
                {\"arrival_s\":5,\"prompt_tokens\":30,\"output_tokens\":1}\n";
    let stats = stats(&read(text), PressureServer::default());
    // Gaps 1 and 3: mean 2, deviation 1.
    assert_eq!((stats.rate, stats.gap_cv, stats.last_arrival), (Some(0.5), Some(0.5), 5.0));
    assert_eq!((stats.prompt_tokens.p50, stats.prompt_tokens.p90), (20, 30));
    assert_eq!(stats.pressure, None);
}
