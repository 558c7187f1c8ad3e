//! What a model of L layers gives every planning problem: the candidate layer sets and what each copies by layer.
//!
//! A request with copy time `p` at candidate `c` adds `p · F_c(j)` to the copies that must have landed before layer
//! `j` ends its wait, where `F_c(j)` is the number of its offloaded layers among 1…j: `floor(j / (d_c + 1))` at a
//! distance. All requests share `F`, so bounds need only its lower convex hull over the offload counts: a batch with
//! total copy time `P` and average offload count `ν` (weighted by copy time) adds at least `P · hull_j(ν)`.
//!
//! **Free layers.** In the space `layers` the candidates are the **tails**: the last `n` layers, `n = 0 … floor(L/2)`.
//! Under the prefix forecast nothing else is needed. Of any `n` layers at most `L − j` lie behind layer `j`, so at least
//! `max(0, n − (L − j))` lie among 1…j, and the tail has just so many for every `j` at once. So for given counts no
//! choice of layers has a smaller prefix sum anywhere, hence none a shorter forecast; and memory and copied blocks depend
//! on the counts alone. Worked: 4 of 8 layers, the last (5…8) copy `0 0 0 0 1 2 3 4` by layer, distance 1 (2, 4, 6, 8)
//! copies `0 1 1 2 2 3 3 4`.
//!
//! Knows nothing of requests, memory or seconds.

use super::PlacementSpace;
use crate::ids::Layer;
use crate::model::{Distance, LayerSet, Placement};

/// The candidates of a model of L layers and their copies by layer.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Layers L.
    pub layers: u32,
    /// What the candidates are.
    pub space: PlacementSpace,
    /// Which layers each candidate offloads, least offloading first.
    pub offloaded: Vec<LayerSet>,
    /// Layers offloaded at each candidate, ascending from 0.
    pub counts: Vec<u64>,
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
    /// The shape of a model of `layers` layers whose placements are chosen from `space`.
    pub fn new(layers: u32, space: PlacementSpace) -> Self {
        let offloaded: Vec<LayerSet> = match space {
            PlacementSpace::Distance => Distance::candidates(layers)
                .into_iter()
                .map(|distance| Placement::at(distance, layers).offloaded)
                .collect(),
            PlacementSpace::Layers => (0..=layers / 2)
                .map(|count| LayerSet::all(layers).difference(LayerSet::all(layers - count)))
                .collect(),
        };
        let counts = offloaded.iter().map(|set| u64::from(set.len())).collect();
        let any = offloaded.iter().fold(LayerSet::EMPTY, |all, set| all.union(*set));
        let rows: Vec<Layer> = any.iter().collect();
        let copied = offloaded
            .iter()
            .flat_map(|&set| rows.iter().map(move |&row| f64::from(copied_by(set, row))))
            .collect();
        let mut shape = Shape {
            layers,
            space,
            offloaded,
            counts,
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
        self.offloaded.len()
    }

    /// The layers that one candidate per request offloads.
    pub fn sets(&self, choice: &[usize]) -> Vec<LayerSet> {
        choice.iter().map(|&candidate| self.offloaded[candidate]).collect()
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
            let shape = Shape::new(layers, PlacementSpace::Distance);
            for (candidate, distance) in Distance::candidates(layers).into_iter().enumerate().skip(1) {
                let Distance::At(distance) = distance else { panic!("only the first is resident") };
                let expected: Vec<f64> =
                    shape.rows.iter().map(|row| f64::from(row.0 / (distance + 1))).collect();
                assert_eq!(shape.copied(candidate), expected);
            }
        }
    }

    #[test]
    fn no_candidate_lies_below_the_hull_of_any_row() {
        let spaces = [PlacementSpace::Distance, PlacementSpace::Layers];
        for (layers, space) in [2, 3, 32, 80, 126].into_iter().flat_map(|l| spaces.map(|space| (l, space))) {
            let shape = Shape::new(layers, space);
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

    #[test]
    fn of_any_layers_of_a_count_the_last_copy_least_by_every_layer() {
        let layers = 8;
        let shape = Shape::new(layers, PlacementSpace::Layers);
        assert_eq!(shape.counts, [0, 1, 2, 3, 4]);
        for bits in 0u32..1 << layers {
            let any: LayerSet = Layer::all(layers).filter(|layer| bits >> layer.index() & 1 == 1).collect();
            let Some(&tail) = shape.offloaded.get(any.len() as usize) else { continue };
            for layer in Layer::all(layers) {
                assert!(copied_by(tail, layer) <= copied_by(any, layer));
            }
        }
        let by_layer = |set| Layer::all(layers).map(|layer| copied_by(set, layer)).collect::<Vec<_>>();
        assert_eq!(by_layer(shape.offloaded[4]), [0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(by_layer(Placement::at(Distance::At(1), layers).offloaded), [0, 1, 1, 2, 2, 3, 3, 4]);
    }
}
