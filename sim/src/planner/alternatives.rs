//! What each request may choose where restores enter the objective: one list of layer sets per request.
//!
//! In the space `distance` these are the candidate distances, the same for all. In the space `layers` the last layers
//! ([`Shape`]) are no longer enough: a layer that is off the GPU now comes back for a copy, so it matters which layers
//! stay away. With `O` the layers of a request that are off the GPU now and `N` those that are on it, its alternatives are
//! the last `k` layers of `O` with the last `m` of `N`, for every `k + m ≤ floor(L/2)`.
//!
//! **Nothing else is needed under the prefix forecast.** Take any set with `k` layers of `O` and `m` of `N`. It restores
//! `|O| − k` layers, changes `|O| − k + m`, and frees and copies by `k + m`: numbers that depend on `k` and `m` alone. Of any
//! `k` layers of `O` the last ones have the fewest among 1…j, for every `j` at once, and so have the last `m` of `N`; the prefix
//! sums of the set are the sums of both. So no other set has a shorter forecast, and none has a lower objective.
//!
//! Worked: of 4 layers 2 and 4 are off the GPU. `k ≤ 2`, `m ≤ 2`, `k + m ≤ 2`: {}, {4}, {2 4}, {3}, {3 4}, {1 3}, six sets of
//! the eleven with at most two layers. {3 4} restores one layer, {2 4} none, {} two.
//!
//! Knows nothing of step times.

use super::problem::{Problem, changed_by, freed_by, restored_by};
use super::{Instance, PlacementSpace};
use crate::ids::Layer;
use crate::model::{Distance, LayerSet, Placement};

/// One way to place one request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alternative {
    /// Layers off the GPU.
    pub offloaded: LayerSet,
    /// How many.
    pub count: u64,
    /// Layer-blocks freed against being resident.
    pub freed: i64,
    /// Layers that change.
    pub changes: u64,
    /// Layers that are copied back.
    pub restored: u64,
}

impl Alternative {
    fn new(instance: &Instance, request: usize, offloaded: LayerSet) -> Self {
        let request = &instance.requests[request];
        Alternative {
            offloaded,
            count: u64::from(offloaded.len()),
            freed: freed_by(instance, request, offloaded),
            changes: changed_by(instance, request, offloaded),
            restored: restored_by(instance, request, offloaded),
        }
    }

    /// Offloaded layers among 1 … `layer`.
    pub fn copied_by(&self, layer: Layer) -> f64 {
        f64::from(self.offloaded.intersection(LayerSet::all(layer.0)).len())
    }

    /// Its name in listings: a distance, so many of the last layers, or the layers themselves.
    pub fn name(&self, layers: u32, space: PlacementSpace) -> String {
        let placement = Placement { offloaded: self.offloaded };
        let last = LayerSet::all(layers).difference(LayerSet::all(layers - self.offloaded.len()));
        match (space, placement.distance(layers)) {
            (_, Some(Distance::Resident)) => Distance::Resident.to_string(),
            (PlacementSpace::Distance, Some(distance)) => distance.to_string(),
            _ if self.offloaded == last => format!("last {}", self.count),
            _ => {
                let layers: Vec<String> = self.offloaded.iter().map(|layer| layer.0.to_string()).collect();
                format!("layers {}", layers.join("+"))
            }
        }
    }
}

/// The alternatives of every request, fewest layers first, then by the set; the first is resident. Without restores in the
/// objective, or with one choice for all, those of the shape.
pub(super) fn alternatives(problem: &Problem<'_>) -> Vec<Vec<Alternative>> {
    let instance = problem.instance;
    let own = instance.counts_restores() && instance.space == PlacementSpace::Layers && !instance.uniform;
    (0..instance.requests.len())
        .map(|request| {
            let sets = match instance.requests[request].resident_layers {
                Some(now) if own => layer_choices(instance.layers, now),
                _ => problem.shape.offloaded.clone(),
            };
            sets.into_iter().map(|set| Alternative::new(instance, request, set)).collect()
        })
        .collect()
}

/// The last `k` layers that are off the GPU with the last `m` that are on it, `k + m ≤ floor(L/2)`.
fn layer_choices(layers: u32, on_gpu: LayerSet) -> Vec<LayerSet> {
    let most = layers / 2;
    let off_gpu = LayerSet::all(layers).difference(on_gpu);
    let (away, here) = (tails(off_gpu, most), tails(on_gpu, most));
    let mut sets: Vec<LayerSet> = away
        .iter()
        .flat_map(|k| here.iter().map(move |m| k.union(*m)))
        .filter(|set| set.len() <= most)
        .collect();
    sets.sort_unstable_by_key(|set| (set.len(), *set));
    sets
}

/// The last 0, 1, 2 … layers of `set`, at most `most`.
fn tails(set: LayerSet, most: u32) -> Vec<LayerSet> {
    let mut layers: Vec<Layer> = set.iter().collect();
    let mut tails = vec![LayerSet::EMPTY];
    while let Some(layer) = layers.pop()
        && tails.len() <= most as usize
    {
        let mut longer = *tails.last().expect("Invariant: the empty one");
        longer.insert(layer);
        tails.push(longer);
    }
    tails
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_four_layers_away_leave_six_choices() {
        let set = |layers: &[u32]| layers.iter().map(|layer| Layer(*layer)).collect::<LayerSet>();
        let choices = layer_choices(4, set(&[1, 3]));
        assert_eq!(choices, [&[][..], &[3], &[4], &[1, 3], &[2, 4], &[3, 4]].map(set));
        // all of them here: the last layers, as without restores
        assert_eq!(layer_choices(4, LayerSet::all(4)), [&[][..], &[4], &[3, 4]].map(set));
        assert_eq!(layer_choices(4, LayerSet::EMPTY), [&[][..], &[4], &[3, 4]].map(set));
    }

    #[test]
    fn a_listing_names_distances_last_layers_and_other_sets() {
        let name = |layers: &[u32], space| {
            let offloaded = layers.iter().map(|layer| Layer(*layer)).collect();
            Alternative { offloaded, count: layers.len() as u64, freed: 0, changes: 0, restored: 0 }
                .name(4, space)
        };
        let (distance, any) = (PlacementSpace::Distance, PlacementSpace::Layers);
        assert_eq!([name(&[], any), name(&[2, 4], distance)], ["resident", "1"]);
        assert_eq!(
            [name(&[4], any), name(&[3, 4], any), name(&[2, 4], any)],
            ["last 1", "last 2", "layers 2+4"]
        );
    }

    #[test]
    fn every_set_has_an_alternative_that_is_nowhere_worse() {
        let layers = 6;
        let sets = || {
            (0u32..1 << layers).map(|bits| {
                Layer::all(layers).filter(|layer| bits >> layer.index() & 1 == 1).collect::<LayerSet>()
            })
        };
        for now in sets() {
            let choices = layer_choices(layers, now);
            for set in sets().filter(|set| set.len() <= layers / 2) {
                let numbers = |set: LayerSet| (set.len(), now.intersection(set).len());
                let by = |set: LayerSet, layer: Layer| set.intersection(LayerSet::all(layer.0)).len();
                let dominates = |other: &&LayerSet| {
                    numbers(**other) == numbers(set)
                        && Layer::all(layers).all(|layer| by(**other, layer) <= by(set, layer))
                };
                assert!(choices.iter().find(dominates).is_some(), "{set:?} of {now:?}");
            }
        }
    }
}
