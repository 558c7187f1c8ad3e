//! A run in at most 4,000 steps: what `timeline.csv` and the timeline plot are made of.
//!
//! The choice ([`CHOICE`]): up to 4,000 steps all of them; beyond, of every 2^k consecutive steps the one with the
//! longest stall, ties to the longer step, then to the earlier one. `k` grows as the run does, so memory is bounded
//! and the outcome does not depend on how long the run was going to be. What is traffic, though, is summed over the
//! whole group, and its time is kept: a sample would lose bytes. Knows nothing about files.

use crate::record::{Record, Sink, StepRecord};
use crate::units::{Bytes, SimTime};

/// Most rows kept.
pub const MOST_ROWS: usize = 4000;

/// The choice of rows, in words for readers of the file.
pub const CHOICE: &str = "timeline.csv: all steps up to 4,000; beyond, of every 2^k consecutive steps the one with the \
                          longest stall (ties: the longer step, then the earlier), with the bytes of them all";

/// Consecutive steps, and the one that is shown for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepGroup {
    /// The step with the longest stall.
    pub shown: StepRecord,
    /// Steps in the group.
    pub steps: u64,
    /// Start of its first step.
    pub from: SimTime,
    /// End of its last step.
    pub to: SimTime,
    /// Host→device traffic of all its steps, prefetches and restores.
    pub h2d: Bytes,
    /// Device→host traffic of all its steps.
    pub d2h: Bytes,
}

impl StepGroup {
    /// A group of one.
    pub fn of(step: &StepRecord) -> Self {
        StepGroup {
            shown: *step,
            steps: 1,
            from: step.start,
            to: step.start + step.duration,
            h2d: step.h2d_prefetch + step.h2d_restore,
            d2h: step.d2h,
        }
    }

    /// The group of both; `later` follows right after.
    fn joined(self, later: StepGroup) -> StepGroup {
        StepGroup {
            shown: the_one_to_show(self.shown, later.shown),
            steps: self.steps + later.steps,
            from: self.from,
            to: later.to,
            h2d: self.h2d + later.h2d,
            d2h: self.d2h + later.d2h,
        }
    }
}

/// A sink that keeps at most [`MOST_ROWS`] groups of steps.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Groups of 2^`group_bits` consecutive steps, in order; the last may not be full.
    kept: Vec<StepGroup>,
    group_bits: u32,
    seen: u64,
}

impl Timeline {
    /// The groups, in order.
    pub fn finish(self) -> Vec<StepGroup> {
        self.kept
    }

    fn take(&mut self, step: &StepRecord) {
        let opens_group = self.seen.is_multiple_of(1 << self.group_bits);
        self.seen += 1;
        if !opens_group {
            let last = self.kept.last_mut().expect("Invariant: a group that is open has a step");
            *last = last.joined(StepGroup::of(step));
            return;
        }
        if self.kept.len() == MOST_ROWS {
            // 4,000 full groups become 2,000; the new step opens the next.
            self.kept = self.kept.chunks(2).map(|pair| pair[0].joined(pair[1])).collect();
            self.group_bits += 1;
        }
        self.kept.push(StepGroup::of(step));
    }
}

fn the_one_to_show(earlier: StepRecord, later: StepRecord) -> StepRecord {
    let weight = |step: &StepRecord| (step.stall, step.duration);
    if weight(&later) > weight(&earlier) { later } else { earlier }
}

impl Sink for Timeline {
    fn record(&mut self, record: &Record<'_>) {
        if let Record::Step { step, .. } = record {
            self.take(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StepKind;
    use crate::script::{blank, ms};
    use crate::units::SimDuration;

    /// Steps of 10 ms and a stall, one after the other, each with `index` bytes to the device and one back.
    fn kept_of(steps: u64, stall_of: impl Fn(u64) -> u64) -> Vec<StepGroup> {
        let mut timeline = Timeline::default();
        let mut start = SimTime::ZERO;
        for index in 0..steps {
            let duration = ms(10 + stall_of(index));
            timeline.take(&StepRecord {
                index,
                start,
                stall: ms(stall_of(index)),
                duration,
                h2d_prefetch: Bytes::new(index),
                d2h: Bytes::new(1),
                ..blank(StepKind::Decode)
            });
            start += duration;
        }
        timeline.finish()
    }

    #[test]
    fn a_short_run_is_kept_whole() {
        let kept = kept_of(4000, |_| 0);
        assert!(kept.iter().map(|group| group.shown.index).eq(0..4000));
        assert!(kept.iter().all(|group| group.steps == 1 && group.from == group.shown.start));
    }

    #[test]
    fn a_long_run_keeps_the_longest_stall_of_each_group() {
        // 8,001 steps: groups of 4, so 2,001 rows; the longest stall of group g is at step 4g + 2.
        let kept = kept_of(8001, |index| if index % 4 == 2 { 9 } else { index % 3 });
        assert_eq!(kept.len(), 2001);
        assert!((0..2000).all(|group| kept[group].shown.index == 4 * group as u64 + 2));
        assert_eq!(kept[2000].shown.index, 8000);
    }

    #[test]
    fn rows_are_the_same_as_if_the_groups_had_been_known() {
        let stall_of = |index: u64| (index * 7919) % 13;
        let kept = kept_of(50_000, stall_of);
        // 50,000 steps in at most 4,000 groups: groups of 16.
        let expected = (0..50_000u64).collect::<Vec<_>>();
        let expected = expected.chunks(16).map(|group| {
            let most = group.iter().map(|&index| stall_of(index)).max().unwrap();
            group.iter().copied().find(|&index| stall_of(index) == most).unwrap()
        });
        assert!(kept.iter().map(|group| group.shown.index).eq(expected));
        assert!(kept.len() <= MOST_ROWS);
    }

    #[test]
    fn bytes_and_time_of_a_long_run_are_those_of_all_its_steps() {
        // 50,001 steps in groups of 16; the last has one. Σ index = 50,000 · 50,001 / 2.
        let kept = kept_of(50_001, |index| index % 3);
        let sum = |of: fn(&StepGroup) -> u64| kept.iter().map(of).sum::<u64>();
        assert_eq!(sum(|group| group.h2d.get()), 1_250_025_000);
        assert_eq!((sum(|group| group.d2h.get()), sum(|group| group.steps)), (50_001, 50_001));
        // Group 1 is of the steps 16 to 31: Σ index = 376.
        assert_eq!((kept[1].h2d.get(), kept[1].steps), (376, 16));
        assert!(kept.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert!(kept.iter().all(|group| group.from <= group.shown.start && group.shown.start < group.to));
        assert_eq!(kept.last().unwrap().steps, 1);
    }

    #[test]
    fn among_equal_stalls_the_longer_step_is_kept() {
        let short = StepRecord { duration: ms(1), ..blank(StepKind::Decode) };
        let long = StepRecord { duration: ms(2), index: 1, ..blank(StepKind::Decode) };
        assert_eq!(the_one_to_show(short, long).index, 1);
        assert_eq!(the_one_to_show(long, short).duration, ms(2));
        assert_eq!(short.stall, SimDuration::ZERO);
    }
}
