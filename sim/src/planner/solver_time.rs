//! The modelled time of one [`search`](super::search()), charged by an engine whose `solver_time` is `table`.
//!
//! A simulation never looks at the wall clock, so the time is a table: **medians** over 200 hard random instances
//! each (`samples::hard`, node cap 50,000), the lower of two runs, release build, one thread of an AMD EPYC (2 virtual
//! CPUs, shared with other work), 2026-11-23, made by
//! `cargo run --release -p orbitflow-sim --example planner_timing 200`. Hard means that memory or the SLO binds; a
//! search whose batch fits resident takes a microsecond or two. 95th percentiles are up to ten times the medians up
//! to 16 requests (a hundred times at 8 requests and 32 layers), two to eight times above. From about 32 requests on most
//! hard searches end at the node cap, so times stop growing.

use crate::units::SimDuration;

/// Requests of each row.
const REQUESTS: [u32; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Candidates of each column: models of 32, 80 and 126 layers.
const CANDIDATES: [u32; 3] = [10, 16, 21];
/// Nanoseconds, one row per number of requests.
const MEDIAN_NANOS: [[u64; 3]; 9] = [
    [2_800, 8_400, 15_800],
    [4_000, 10_600, 20_100],
    [13_300, 41_700, 96_200],
    [123_700, 290_700, 993_000],
    [1_098_100, 4_888_400, 7_335_500],
    [2_702_500, 6_411_000, 5_921_100],
    [4_100_800, 8_869_100, 6_913_700],
    [7_091_400, 9_530_700, 8_218_500],
    [6_930_500, 12_483_000, 10_980_300],
];

/// The time that one search for `requests` requests with `candidates` candidates each is taken to last.
///
/// Between two rows it is interpolated linearly, below the first and above the last row it is that row's; numbers of
/// candidates take the next larger column, the last one if there is none.
pub fn solver_time(requests: u32, candidates: u32) -> SimDuration {
    let column = CANDIDATES.partition_point(|&c| c < candidates).min(CANDIDATES.len() - 1);
    let nanos = |row: usize| MEDIAN_NANOS[row][column];
    let above = REQUESTS.partition_point(|&r| r < requests);
    let nanos = if above == 0 {
        nanos(0)
    } else if above == REQUESTS.len() {
        nanos(above - 1)
    } else {
        let (low, high) = (u64::from(REQUESTS[above - 1]), u64::from(REQUESTS[above]));
        let past = u64::from(requests) - low;
        (nanos(above - 1) * (high - low - past) + nanos(above) * past) / (high - low)
    };
    SimDuration::from_picos(nanos * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_met_exactly_and_interpolated_between() {
        let micros = |requests, candidates| solver_time(requests, candidates).as_picos() / 1_000_000;
        for (row, &requests) in REQUESTS.iter().enumerate() {
            for (column, &candidates) in CANDIDATES.iter().enumerate() {
                let expected = MEDIAN_NANOS[row][column] / 1000;
                assert_eq!(micros(requests, candidates), expected);
            }
        }
        // half way from 4 to 8
        let halves = (solver_time(4, 10).as_picos() + solver_time(8, 10).as_picos()) / 2;
        assert_eq!(solver_time(6, 10).as_picos() / 1000, halves / 1000);
        assert_eq!(solver_time(0, 10), solver_time(1, 1));
        assert_eq!(solver_time(1000, 40), solver_time(256, 21));
        assert_eq!(solver_time(4, 11), solver_time(4, 16));
    }
}
