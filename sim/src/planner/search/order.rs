//! The order in which a search decides requests, and what the undecided rest can do at best.
//!
//! Bounds for the requests from a depth on, when they must free `need` layer-blocks: the fewest blocks they copy (a
//! fractional knapsack), the least they add to each row of the step time (the hulls of [`Shape`](super::super::shape)
//! at the average offload count that follows), the fewest layers they change.

use std::cmp::Reverse;

use super::super::problem::Problem;

/// Relative room given to bounds computed in `f64`, far above their rounding errors.
pub(super) const SLACK: f64 = 1e-12;

/// Which requests are interchangeable: among those only ascending candidates are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symmetry {
    /// Equal blocks and growth.
    SameSize,
    /// And the same layers on the GPU now.
    SameSizeAndLayout,
}

/// A decision order with the bounds of every rest of it. A *position* is a place in the order.
pub(super) struct Order {
    /// Position → request.
    pub requests: Vec<usize>,
    /// Time of one copy, by position, nanoseconds.
    pub copy_ns: Vec<f64>,
    /// Blocks per layer, by position.
    pub blocks: Vec<u64>,
    /// The last position before this one whose request is interchangeable with it.
    pub twin_before: Vec<Option<usize>>,
    rests: Vec<Rest>,
    /// Positions, most freed per copied block first.
    by_efficiency: Vec<Efficiency>,
    block_ns: f64,
    latency_ns: f64,
}

/// The requests from one position on.
#[derive(Clone, Copy)]
struct Rest {
    copy_ns: f64,
    most_freed: i64,
    /// Every number of copied blocks is a multiple of it.
    common_blocks: u64,
    /// Most freed by one more offloaded layer of any of them.
    best_freed_per_count: f64,
    largest_blocks: u64,
    smallest_blocks: u64,
    /// Changes that even the closest candidates make.
    least_changes: u64,
    /// Most freed without any change.
    kept_freed: f64,
    /// Fewest copied without any change.
    kept_copied: u64,
}

impl Rest {
    const EMPTY: Rest = Rest {
        copy_ns: 0.0,
        most_freed: 0,
        common_blocks: 0,
        best_freed_per_count: 0.0,
        largest_blocks: 1,
        smallest_blocks: u64::MAX,
        least_changes: 0,
        kept_freed: 0.0,
        kept_copied: 0,
    };
}

#[derive(Clone, Copy)]
struct Efficiency {
    position: usize,
    most_freed: i64,
    densest_copied: u64,
}

impl Order {
    /// Least efficient, then largest requests first, so that the small ones are left to fit exactly.
    pub fn by_efficiency(problem: &Problem<'_>, symmetry: Symmetry) -> Self {
        let mut requests: Vec<usize> = (0..problem.requests()).collect();
        let blocks = |r: usize| problem.instance.requests[r].blocks;
        requests.sort_by(|&a, &b| {
            let (left, right) = (most_freed(problem, a), most_freed(problem, b));
            let efficiency =
                (i128::from(left) * i128::from(blocks(b))).cmp(&(i128::from(right) * i128::from(blocks(a))));
            efficiency.then(blocks(b).cmp(&blocks(a))).then(a.cmp(&b))
        });
        Order::new(problem, requests, symmetry)
    }

    /// As the requests stand in the instance.
    pub fn of_instance(problem: &Problem<'_>) -> Self {
        Order::new(problem, (0..problem.requests()).collect(), Symmetry::SameSizeAndLayout)
    }

    fn new(problem: &Problem<'_>, requests: Vec<usize>, symmetry: Symmetry) -> Self {
        let instance = problem.instance;
        let densest_count = problem.shape.densest_count();
        let blocks: Vec<u64> = requests.iter().map(|&r| instance.requests[r].blocks).collect();
        let mut by_efficiency: Vec<Efficiency> = requests
            .iter()
            .enumerate()
            .map(|(position, &request)| Efficiency {
                position,
                most_freed: most_freed(problem, request),
                densest_copied: densest_count * blocks[position],
            })
            .filter(|item| item.most_freed > 0)
            .collect();
        by_efficiency.sort_by_key(|item| Reverse(item.position));
        by_efficiency.sort_by(|a, b| {
            let left = i128::from(a.most_freed) * i128::from(b.densest_copied);
            let right = i128::from(b.most_freed) * i128::from(a.densest_copied);
            right.cmp(&left)
        });
        Order {
            copy_ns: requests.iter().map(|&r| problem.copy_ns(r)).collect(),
            twin_before: twins(problem, &requests, symmetry),
            rests: rests(problem, &requests),
            by_efficiency,
            block_ns: instance.block_copy_s * 1e9,
            latency_ns: instance.copy_latency_s * 1e9,
            blocks,
            requests,
        }
    }

    /// Most layer-blocks that the requests from `depth` on can free.
    pub fn most_freed(&self, depth: usize) -> i64 {
        self.rests[depth].most_freed
    }

    /// Fewest blocks that the requests from `depth` on copy if they free `need`.
    pub fn fewest_copied(&self, depth: usize, need: i64) -> u64 {
        if need <= 0 || depth == self.requests.len() {
            return 0;
        }
        let (mut need, mut copied) = (need, 0);
        for item in self.by_efficiency.iter().filter(|item| item.position >= depth) {
            if need <= item.most_freed {
                // the last one in part: ceil(copied · need / freed), both below 2^63
                let part = u128::from(item.densest_copied) * u128::from(need.unsigned_abs());
                copied += part.div_ceil(u128::from(item.most_freed.unsigned_abs())) as u64;
                break;
            }
            need -= item.most_freed;
            copied += item.densest_copied;
        }
        let rest = &self.rests[depth];
        if rest.common_blocks > 1 {
            copied = copied.div_ceil(rest.common_blocks) * rest.common_blocks;
        }
        // so many layers at least, each at least the smallest: strong when the requests are nearly equal
        copied.max(copied.div_ceil(rest.largest_blocks) * rest.smallest_blocks)
    }

    /// Least total copy time, in nanoseconds, of the requests from `depth` on if they free `need` and copy at least
    /// `copied` blocks; and their copy time if each copied one layer.
    pub fn least_copy_ns(&self, depth: usize, need: i64, copied: u64) -> (f64, f64) {
        let rest = &self.rests[depth];
        let mut least = copied as f64 * self.block_ns;
        if self.latency_ns > 0.0 && need > 0 {
            least += need as f64 / rest.best_freed_per_count * self.latency_ns;
        }
        (least * (1.0 - SLACK), rest.copy_ns)
    }

    /// Fewest layers that the requests from `depth` on change if they free `need` and copy at most `copied` blocks.
    pub fn fewest_changes(&self, depth: usize, need: i64, copied: u64) -> u64 {
        let rest = &self.rests[depth];
        let mut fewest = rest.least_changes;
        let short = need as f64 - rest.kept_freed;
        if short > 0.0 && rest.best_freed_per_count > 0.0 {
            fewest = fewest.max((short / rest.best_freed_per_count * (1.0 - SLACK) - SLACK).ceil() as u64);
        }
        if rest.kept_copied > copied {
            fewest = fewest.max((rest.kept_copied - copied).div_ceil(rest.largest_blocks));
        }
        fewest
    }

    /// No placement of the whole batch has a lower forecast, nanoseconds.
    pub fn least_forecast_ns(&self, problem: &Problem<'_>) -> f64 {
        let copied = self.fewest_copied(0, problem.need);
        let (least, all) = self.least_copy_ns(0, problem.need, copied);
        let (start, slope) = problem.shape.hull_lines(least / all);
        let rows = problem.shape.rows.iter().zip(start.iter().zip(slope));
        let stall = rows.fold(0.0, |stall: f64, (&row, (start, slope))| {
            stall.max(all * start + slope * least - problem.hidden_ns(row))
        });
        // a batch that needs room copies something; the slack is one of the largest terms
        let base = problem.base_ns(true);
        base + (stall - SLACK * (base + stall)).max(0.0)
    }
}

fn most_freed(problem: &Problem<'_>, request: usize) -> i64 {
    // freed is linear in the offload count but for the staging of the first, so the ends are the extremes
    problem.freed(request, problem.shape.candidates() - 1).max(0)
}

/// The rest from every position on, the empty one included.
fn rests(problem: &Problem<'_>, requests: &[usize]) -> Vec<Rest> {
    let shape = problem.shape;
    let candidates = shape.candidates();
    let densest = shape.densest_count();
    let mut rests = vec![Rest::EMPTY; requests.len() + 1];
    for (position, &index) in requests.iter().enumerate().rev() {
        let request = &problem.instance.requests[index];
        let mut rest = rests[position + 1];
        let freed = most_freed(problem, index);
        let per_count = freed as f64 / densest as f64;
        let changes = &problem.changes[index * candidates..(index + 1) * candidates];
        let kept_count = request.resident_layers.map_or(0, |now| u64::from(shape.layers - now.len()));
        let most_kept = if request.resident_layers.is_some() { kept_count.min(densest) } else { densest };
        rest.copy_ns += problem.copy_ns(index);
        rest.most_freed += freed;
        rest.common_blocks = greatest_common_divisor(rest.common_blocks, request.blocks);
        rest.best_freed_per_count = rest.best_freed_per_count.max(per_count);
        rest.largest_blocks = rest.largest_blocks.max(request.blocks);
        rest.smallest_blocks = rest.smallest_blocks.min(request.blocks);
        rest.least_changes += changes.iter().min().expect("Invariant: resident is always a candidate");
        rest.kept_freed += most_kept as f64 * per_count;
        rest.kept_copied += kept_count * request.blocks;
        rests[position] = rest;
    }
    rests
}

/// For each position the last one before it with an interchangeable request.
fn twins(problem: &Problem<'_>, requests: &[usize], symmetry: Symmetry) -> Vec<Option<usize>> {
    let key = |position: usize| {
        let request = &problem.instance.requests[requests[position]];
        let layout = match symmetry {
            Symmetry::SameSize => None,
            Symmetry::SameSizeAndLayout => request.resident_layers,
        };
        (request.blocks, request.growth_blocks, layout)
    };
    let mut positions: Vec<usize> = (0..requests.len()).collect();
    positions.sort_by_key(|&position| (key(position), position));
    let mut twins = vec![None; requests.len()];
    for pair in positions.windows(2) {
        if key(pair[0]) == key(pair[1]) {
            twins[pair[1]] = Some(pair[0]);
        }
    }
    twins
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
