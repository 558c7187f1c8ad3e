//! A run in at most 4,000 steps: what `timeline.csv` and the timeline plot are made of.
//!
//! The choice ([`CHOICE`]): up to 4,000 steps all of them; beyond, of every 2^k consecutive steps the one with the
//! longest stall, ties to the longer step, then to the earlier one. `k` grows as the run does, so memory is bounded
//! and the outcome does not depend on how long the run was going to be. Knows nothing about files.

use crate::record::{Record, Sink, StepRecord};

/// Most rows kept.
pub const MOST_ROWS: usize = 4000;

/// The choice of rows, in words for readers of the file.
pub const CHOICE: &str = "timeline: all steps up to 4,000; beyond, of every 2^k consecutive steps the one with the \
                          longest stall (ties: the longer step, then the earlier)";

/// A sink that keeps at most [`MOST_ROWS`] steps.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// One step of each group of 2^`group_bits` consecutive ones, in order.
    kept: Vec<StepRecord>,
    group_bits: u32,
    seen: u64,
}

impl Timeline {
    /// The steps kept, in order.
    pub fn finish(self) -> Vec<StepRecord> {
        self.kept
    }

    fn take(&mut self, step: &StepRecord) {
        let opens_group = self.seen.is_multiple_of(1 << self.group_bits);
        self.seen += 1;
        if !opens_group {
            let last = self.kept.last_mut().expect("Invariant: a group that is open has a step");
            *last = the_one_to_keep(*last, *step);
            return;
        }
        if self.kept.len() == MOST_ROWS {
            // 4,000 full groups become 2,000; the new step opens the next.
            self.kept = self.kept.chunks(2).map(|pair| the_one_to_keep(pair[0], pair[1])).collect();
            self.group_bits += 1;
        }
        self.kept.push(*step);
    }
}

fn the_one_to_keep(earlier: StepRecord, later: StepRecord) -> StepRecord {
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

    fn kept_of(steps: u64, stall_of: impl Fn(u64) -> u64) -> Vec<StepRecord> {
        let mut timeline = Timeline::default();
        for index in 0..steps {
            timeline.take(&StepRecord {
                index,
                stall: ms(stall_of(index)),
                duration: ms(10 + stall_of(index)),
                ..blank(StepKind::Decode)
            });
        }
        timeline.finish()
    }

    #[test]
    fn a_short_run_is_kept_whole() {
        let kept = kept_of(4000, |_| 0);
        assert!(kept.iter().map(|step| step.index).eq(0..4000));
    }

    #[test]
    fn a_long_run_keeps_the_longest_stall_of_each_group() {
        // 8,001 steps: groups of 4, so 2,001 rows; the longest stall of group g is at step 4g + 2.
        let kept = kept_of(8001, |index| if index % 4 == 2 { 9 } else { index % 3 });
        assert_eq!(kept.len(), 2001);
        assert!((0..2000).all(|group| kept[group].index == 4 * group as u64 + 2));
        assert_eq!(kept[2000].index, 8000);
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
        assert!(kept.iter().map(|step| step.index).eq(expected));
        assert!(kept.len() <= MOST_ROWS);
    }

    #[test]
    fn among_equal_stalls_the_longer_step_is_kept() {
        let short = StepRecord { duration: ms(1), ..blank(StepKind::Decode) };
        let long = StepRecord { duration: ms(2), index: 1, ..blank(StepKind::Decode) };
        assert_eq!(the_one_to_keep(short, long).index, 1);
        assert_eq!(the_one_to_keep(long, short).duration, ms(2));
        assert_eq!(short.stall, SimDuration::ZERO);
    }
}
