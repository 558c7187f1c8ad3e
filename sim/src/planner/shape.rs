//! What a model of L layers gives every planning problem: the candidate distances and what each copies by layer.
//!
//! A request with copy time `p` at candidate `c` adds `p · F_c(j)` to the copies that must have landed before layer
//! `j` ends its wait, where `F_c(j) = floor(j / (d_c + 1))` is the number of its offloaded layers among 1…j. All
//! requests share `F`, so bounds need only its lower convex hull over the offload counts: a batch with total copy
//! time `P` and average offload count `ν` (weighted by copy time) adds at least `P · hull_j(ν)`.
//!
//! Knows nothing of requests, memory or seconds.

use crate::ids::Layer;
use crate::model::{Distance, LayerSet, Placement};

/// The candidates of a model of L layers and their copies by layer.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Layers L.
    pub layers: u32,
    /// The candidates, least offloading first.
    pub distances: Vec<Distance>,
    /// Layers offloaded at each candidate, ascending from 0.
    pub counts: Vec<u64>,
    /// Which layers each candidate offloads.
    pub offloaded: Vec<LayerSet>,
    /// Layers at which some candidate has an offloaded one. Any other layer copies nothing new and starts
    /// later than the one before it, so its row of the step-time constraint never binds.
    pub rows: Vec<Layer>,
    /// `F_c(j)`: `copied[c · rows + row]`.
    copied: Vec<f64>,
    /// `hull_j(ν) = start + slope · ν` between the offload counts of candidates `k` and `k + 1`:
    /// `hull[k · rows + row]`.
    hull_start: Vec<f64>,
    hull_slope: Vec<f64>,
    /// The `k` whose interval holds an average offload count with that whole part.
    interval_of: Vec<usize>,
}

impl Shape {
    /// The shape of a model of `layers` layers.
    pub fn new(layers: u32) -> Self {
        let distances = Distance::candidates(layers);
        let counts = distances.iter().map(|distance| u64::from(distance.offloaded(layers))).collect();
        let offloaded: Vec<_> =
            distances.iter().map(|&distance| Placement::at(distance, layers).offloaded).collect();
        let any = offloaded.iter().fold(LayerSet::EMPTY, |all, set| all.union(*set));
        let rows: Vec<Layer> = any.iter().collect();
        let copied = offloaded
            .iter()
            .flat_map(|&set| rows.iter().map(move |&row| f64::from(copied_by(set, row))))
            .collect();
        let mut shape = Shape {
            layers,
            distances,
            counts,
            offloaded,
            rows,
            copied,
            hull_start: Vec::new(),
            hull_slope: Vec::new(),
            interval_of: Vec::new(),
        };
        shape.build_hulls();
        shape
    }

    /// Number of candidates.
    pub fn candidates(&self) -> usize {
        self.distances.len()
    }

    /// Layers offloaded at the densest candidate.
    pub fn densest_count(&self) -> u64 {
        *self.counts.last().expect("Invariant: resident is always a candidate")
    }

    /// `F_c(j)` for every row, candidate `candidate`.
    pub fn copied(&self, candidate: usize) -> &[f64] {
        let rows = self.rows.len();
        &self.copied[candidate * rows..(candidate + 1) * rows]
    }

    /// The lines `(start, slope)` of the hulls of all rows around an average offload count.
    pub fn hull_lines(&self, average_count: f64) -> (&[f64], &[f64]) {
        let rows = self.rows.len();
        let whole = (average_count as usize).min(self.interval_of.len() - 1);
        let interval = self.interval_of[whole];
        let range = interval * rows..(interval + 1) * rows;
        (&self.hull_start[range.clone()], &self.hull_slope[range])
    }

    fn build_hulls(&mut self) {
        let rows = self.rows.len();
        let intervals = self.candidates() - 1;
        self.hull_start = vec![0.0; intervals * rows];
        self.hull_slope = vec![0.0; intervals * rows];
        for row in 0..rows {
            let points: Vec<(f64, f64)> =
                (0..=intervals).map(|c| (self.counts[c] as f64, self.copied[c * rows + row])).collect();
            for (interval, (start, slope)) in hull_lines_of(&points).into_iter().enumerate() {
                self.hull_start[interval * rows + row] = start;
                self.hull_slope[interval * rows + row] = slope;
            }
        }
        self.interval_of = (0..=self.densest_count())
            .map(|count| self.counts.partition_point(|&c| c <= count).saturating_sub(1))
            .map(|interval| interval.min(intervals.saturating_sub(1)))
            .collect();
    }
}

/// Layers of `set` among 1 … `layer`.
fn copied_by(set: LayerSet, layer: Layer) -> u32 {
    set.intersection(LayerSet::all(layer.0)).len()
}

/// The lower convex hull of points with ascending abscissae, as one `(start, slope)` per gap between neighbours.
fn hull_lines_of(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let slope = |a: (f64, f64), b: (f64, f64)| (b.1 - a.1) / (b.0 - a.0);
    let mut hull: Vec<(f64, f64)> = Vec::new();
    for &point in points {
        while hull.len() >= 2
            && slope(hull[hull.len() - 2], hull[hull.len() - 1]) >= slope(hull[hull.len() - 2], point)
        {
            hull.pop();
        }
        hull.push(point);
    }
    points
        .windows(2)
        .map(|gap| {
            let edge = hull
                .windows(2)
                .find(|edge| edge[1].0 >= gap[1].0)
                .expect("Invariant: the hull ends at the last point");
            let slope = slope(edge[0], edge[1]);
            (edge[0].1 - slope * edge[0].0, slope)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_by_a_layer_are_the_floor_of_the_layer_over_the_distance_plus_one() {
        for layers in [1, 2, 5, 32, 80, 126, 128] {
            let shape = Shape::new(layers);
            for (candidate, distance) in shape.distances.iter().enumerate().skip(1) {
                let Distance::At(distance) = *distance else { panic!("only the first is resident") };
                let expected: Vec<f64> =
                    shape.rows.iter().map(|row| f64::from(row.0 / (distance + 1))).collect();
                assert_eq!(shape.copied(candidate), expected);
            }
        }
    }

    #[test]
    fn no_candidate_lies_below_the_hull_of_any_row() {
        for layers in [2, 3, 32, 80, 126] {
            let shape = Shape::new(layers);
            for candidate in 0..shape.candidates() {
                let count = shape.counts[candidate] as f64;
                let (start, slope) = shape.hull_lines(count);
                for (row, copied) in shape.copied(candidate).iter().enumerate() {
                    assert!(start[row] + slope[row] * count <= copied + 1e-12);
                }
            }
            // the last layer copies everything, so its hull is the count itself
            let (start, slope) = shape.hull_lines(0.5);
            assert_eq!((start.last(), slope.last()), (Some(&0.0), Some(&1.0)));
        }
    }
}
