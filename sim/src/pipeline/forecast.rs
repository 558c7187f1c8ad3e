//! The published planner's model of a step, with unbounded look-ahead (design §3.4; facts A.7, closed form of V1).

use crate::model::LayerSet;

/// The **prefix forecast**, in seconds: `t = L·tc + max(0, max_j ( Σ_{k≤j} D_k − (j−1)·tc ))`, where `D_k` is the
/// time of all copies for layer `k`.
///
/// `layer_compute_s` is `tc`, the compute time of one layer; `copies` holds, per request, the layers fetched in
/// the step and the time of one copy, in seconds. It never exceeds the simulated step time: it lets every copy
/// start as early as the link allows, as if there were a slot for each.
pub fn prefix_forecast(layers: u32, layer_compute_s: f64, copies: &[(LayerSet, f64)]) -> f64 {
    let fetched = copies.iter().fold(LayerSet::EMPTY, |all, (set, _)| all.union(*set));
    let mut copied = 0.0;
    let mut stall: f64 = 0.0;
    for layer in fetched.iter() {
        copied += copies.iter().filter(|(set, _)| set.contains(layer)).map(|(_, time)| time).sum::<f64>();
        stall = stall.max(copied - f64::from(layer.0 - 1) * layer_compute_s);
    }
    f64::from(layers) * layer_compute_s + stall
}
