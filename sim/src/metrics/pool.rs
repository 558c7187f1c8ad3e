//! Many values of one kind, in little memory: every value exactly, or a histogram once there are too many.
//!
//! A pool holds whole numbers (picoseconds, or parts per 10¹²); what they mean is its owner's business. Sum, count,
//! smallest and largest are always exact. As a histogram a value is known to its bin, and a bin is at most
//! 1/1024 of its lower edge wide (0.1 %): 1,024 equal bins for every power of two, found with integer arithmetic.
//!
//! Quantile `p` of `n` values is `sorted[ceil(p·n) − 1]` (design §6).

/// Equal bins for every power of two: 2^10, so that a bin is at most 0.1 % wide.
const BIN_BITS: u32 = 10;

/// A growing collection of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    kept: Kept,
    count: u64,
    sum: u128,
    max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    /// `(value, times)` in order of arrival.
    Exact(Vec<(u64, u32)>),
    /// Times per bin.
    Histogram(Vec<u64>),
}

impl Default for Kept {
    fn default() -> Self {
        Kept::Exact(Vec::new())
    }
}

impl Pool {
    /// Takes `value`, `times` times over.
    pub fn add(&mut self, value: u64, times: u32) {
        if times == 0 {
            return;
        }
        self.count += u64::from(times);
        self.sum += u128::from(value) * u128::from(times);
        self.max = self.max.max(value);
        match &mut self.kept {
            Kept::Exact(values) => values.push((value, times)),
            Kept::Histogram(bins) => count_in(bins, value, times),
        }
    }

    /// Turns to a histogram, for all values so far and to come.
    pub fn coarsen(&mut self) {
        if let Kept::Exact(values) = &self.kept {
            let mut bins = Vec::new();
            for &(value, times) in values {
                count_in(&mut bins, value, times);
            }
            self.kept = Kept::Histogram(bins);
        }
    }

    /// The values in order, ready for quantiles.
    pub fn sorted(&self) -> Sorted {
        let mut values: Vec<(u64, u64)> = match &self.kept {
            Kept::Exact(values) => values.iter().map(|&(value, times)| (value, u64::from(times))).collect(),
            Kept::Histogram(bins) => (bins.iter().enumerate())
                .filter(|&(_, &times)| times > 0)
                .map(|(bin, &times)| (middle_of(bin).min(self.max), times))
                .collect(),
        };
        values.sort_unstable();
        let mut up_to = 0;
        for (_, times) in &mut values {
            up_to += *times;
            *times = up_to;
        }
        Sorted { values, count: self.count, sum: self.sum, max: self.max }
    }

    /// How many values.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether every value is kept as it was.
    pub const fn is_exact(&self) -> bool {
        matches!(self.kept, Kept::Exact(_))
    }
}

impl FromIterator<u64> for Pool {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Self {
        let mut pool = Pool::default();
        for value in values {
            pool.add(value, 1);
        }
        pool
    }
}

/// The values of a [`Pool`] in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// `(value, how many values are not above it)`, by value.
    values: Vec<(u64, u64)>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Sorted {
    /// The quantile at `per_mille / 1000`, the smallest value at 0. `None` without values.
    pub fn quantile(&self, per_mille: u32) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(per_mille)).div_ceil(1000).max(1);
        let place = self.values.partition_point(|&(_, up_to)| u128::from(up_to) < rank);
        let &(value, _) = self.values.get(place)?;
        // The largest value is known exactly even as a histogram.
        Some(if rank == u128::from(self.count) { self.max } else { value })
    }

    /// The arithmetic mean. `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The largest value. `None` without values.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }
}

fn count_in(bins: &mut Vec<u64>, value: u64, times: u32) {
    let bin = bin_of(value);
    if bin >= bins.len() {
        bins.resize(bin + 1, 0);
    }
    bins[bin] += u64::from(times);
}

/// Values below 2^11 have a bin each; above, the top 11 bits of a value and its power of two name the bin.
fn bin_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BIN_BITS + 1);
    ((u64::from(shift) << BIN_BITS) + (value >> shift)) as usize
}

fn middle_of(bin: usize) -> u64 {
    let bin = bin as u64;
    let shift = (bin >> BIN_BITS).saturating_sub(1);
    let lower = (bin - (shift << BIN_BITS)) << shift;
    lower + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quantile_is_the_value_of_rank_ceil_p_n() {
        let sorted: Sorted = [50, 10, 40, 20, 30].into_iter().collect::<Pool>().sorted();
        // n = 5: ceil(0.5·5) = 3 → 30; ceil(0.2·5) = 1 → 10; ceil(0.201·5) = 2 → 20; ceil(0.99·5) = 5 → 50.
        assert_eq!([500, 200, 201, 990, 1000].map(|p| sorted.quantile(p)), [30, 10, 20, 50, 50].map(Some));
        assert_eq!(sorted.quantile(0), Some(10));
        assert_eq!((sorted.mean(), sorted.max()), (Some(30.0), Some(50)));
    }

    #[test]
    fn a_quantile_does_not_suffer_from_binary_fractions() {
        // 0.07·100 is 7.000000000000001 as f64; its rank is 7 all the same.
        let sorted = (1..=100).collect::<Pool>().sorted();
        assert_eq!(sorted.quantile(70), Some(7));
    }

    #[test]
    fn no_value_has_no_quantile() {
        let sorted = Pool::default().sorted();
        assert_eq!((sorted.quantile(500), sorted.mean(), sorted.max()), (None, None, None));
    }

    #[test]
    fn a_value_taken_many_times_counts_as_many() {
        let mut pool = Pool::default();
        pool.add(5, 99);
        pool.add(7, 1);
        pool.add(9, 0);
        let sorted = pool.sorted();
        assert_eq!([990, 991].map(|p| sorted.quantile(p)), [Some(5), Some(7)]);
        assert_eq!(pool.count(), 100);
    }

    #[test]
    fn every_value_falls_into_a_bin_that_holds_it_and_bins_are_in_order() {
        let mut last = None;
        for value in (0..5000).chain([u64::MAX / 3, u64::MAX - 1, u64::MAX]) {
            let bin = bin_of(value);
            assert!(last.is_none_or(|last| last <= bin), "{value}");
            assert_eq!(bin_of(middle_of(bin)), bin, "{value}");
            last = Some(bin);
        }
    }

    proptest! {
        #[test]
        fn a_histogram_is_within_a_thousandth_of_the_exact_quantile(
            values in prop::collection::vec((1u64..u64::MAX / 2, 0u32..48, 1u32..5), 1..200),
            per_mille in 0u32..=1000,
            early in 0usize..200,
        ) {
            let mut exact = Pool::default();
            let mut coarse = Pool::default();
            for (place, &(value, shift, times)) in values.iter().enumerate() {
                if place == early {
                    coarse.coarsen();
                }
                exact.add(value >> shift, times);
                coarse.add(value >> shift, times);
            }
            coarse.coarsen();
            let truth = exact.sorted().quantile(per_mille).unwrap() as f64;
            let found = coarse.sorted().quantile(per_mille).unwrap() as f64;
            prop_assert!((found - truth).abs() <= truth * 0.001, "{found} for {truth}");
            prop_assert_eq!(exact.sorted().mean(), coarse.sorted().mean());
            prop_assert_eq!(exact.sorted().max(), coarse.sorted().max());
        }
    }
}
