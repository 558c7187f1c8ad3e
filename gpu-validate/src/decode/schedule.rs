//! In which order a step's copies are submitted, into which slots, and what each waits for (`gpu-measurement.md` §4.2).
//!
//! Pure; knows no device. The `k`-th offloaded layer of a request goes to its slot `k mod slots` and waits for the end of
//! the layer that was there before. A copy may be submitted once that layer's end has been recorded, which is after the
//! layer's kernels were: as early as that, so that the submitting thread is never what a copy waits for.

use orbitflow_sim::ids::Layer;

use crate::case::{Case, CopyStreams};

/// One copy of one layer of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedCopy {
    /// Place in the batch.
    pub request: usize,
    /// What is copied.
    pub layer: Layer,
    /// Which of the request's slots it goes to.
    pub slot: usize,
    /// The layer whose end frees the slot; `None` if the slot is free from the step's start.
    pub freed_by: Option<Layer>,
}

/// All copies of a step: index 0 holds those submitted before the kernels of layer 1, in order, and so on.
pub(super) fn submission_order(case: &Case) -> Vec<Vec<PlannedCopy>> {
    let mut waiting = copies(case);
    Layer::all(case.layers)
        .map(|layer| {
            let can_go = |copy: &PlannedCopy| copy.freed_by.is_none_or(|freeing| freeing < layer);
            match case.streams {
                // One queue: nothing overtakes.
                CopyStreams::One => {
                    let count = waiting.iter().take_while(|copy| can_go(copy)).count();
                    waiting.drain(..count).collect()
                }
                CopyStreams::PerRequest => waiting.extract_if(.., |copy| can_go(copy)).collect(),
            }
        })
        .collect()
}

/// All copies in the order (layer, request).
fn copies(case: &Case) -> Vec<PlannedCopy> {
    let slots = case.slots as usize;
    let mut copies: Vec<PlannedCopy> = Vec::new();
    for (request, offloaded) in case.offloaded.iter().enumerate() {
        let layers: Vec<Layer> = offloaded.iter().collect();
        copies.extend(layers.iter().enumerate().map(|(place, layer)| PlannedCopy {
            request,
            layer: *layer,
            slot: place % slots,
            freed_by: place.checked_sub(slots).map(|previous| layers[previous]),
        }));
    }
    copies.sort_by_key(|copy| (copy.layer, copy.request));
    copies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::case;

    fn names(order: &[Vec<PlannedCopy>]) -> Vec<Vec<(usize, u32)>> {
        order.iter().map(|copies| copies.iter().map(|copy| (copy.request, copy.layer.0)).collect()).collect()
    }

    #[test]
    fn one_stream_keeps_layer_and_request_order_behind_a_slot_that_is_taken() {
        let mut case = case(4, &[16, 16], &[&[1, 2, 4], &[3]], 1);
        // (0,1) at once; (0,2) after layer 1; (1,3) has a free slot but stands behind (0,2); (0,4) after layer 2
        assert_eq!(
            names(&submission_order(&case)),
            [vec![(0, 1)], vec![(0, 2), (1, 3)], vec![(0, 4)], vec![]]
        );
        case.streams = CopyStreams::PerRequest;
        assert_eq!(
            names(&submission_order(&case)),
            [vec![(0, 1), (1, 3)], vec![(0, 2)], vec![(0, 4)], vec![]]
        );
    }

    #[test]
    fn the_kth_copy_takes_slot_k_mod_slots_and_waits_for_who_was_there() {
        let copies = copies(&case(8, &[16], &[&[2, 4, 6, 8]], 2));
        let of = |copy: &PlannedCopy| (copy.slot, copy.freed_by.map(|layer| layer.0));
        assert_eq!(
            copies.iter().map(of).collect::<Vec<_>>(),
            [(0, None), (1, None), (0, Some(2)), (1, Some(4))]
        );
    }

    #[test]
    fn every_copy_is_submitted_before_the_kernels_of_its_layer() {
        for streams in [CopyStreams::One, CopyStreams::PerRequest] {
            for slots in 1..=3 {
                let case = Case { streams, ..case(6, &[16, 16], &[&[1, 2, 3, 4, 5, 6], &[2, 3, 6]], slots) };
                let order = submission_order(&case);
                assert_eq!(order.iter().map(Vec::len).sum::<usize>(), 9);
                for (place, copies) in order.iter().enumerate() {
                    assert!(copies.iter().all(|copy| copy.layer.0 > place as u32), "{copies:?} at {place}");
                }
            }
        }
    }
}
