//! What can be said of the state behind one step by itself: memory sums (law 3) and the order and length of copies
//! and layers (laws 4 and 5).

use crate::record::{Snapshot, StepTimeline};
use crate::units::{Bytes, PICOS_PER_SEC, SimDuration};

/// Calls `broken` with the number of each law that the snapshot breaks, and how.
pub fn check(snapshot: &Snapshot<'_>, broken: &mut impl FnMut(u32, String)) {
    check_memory(snapshot, broken);
    if let Some(timeline) = snapshot.timeline {
        check_order(timeline, broken);
        check_length(snapshot, timeline, broken);
    }
}

fn check_memory(snapshot: &Snapshot<'_>, broken: &mut impl FnMut(u32, String)) {
    let blocks: u64 = snapshot.requests.iter().map(|request| request.gpu_blocks).sum();
    if blocks != snapshot.gpu_blocks {
        broken(3, format!("requests hold {blocks} layer-blocks, the pool says {}", snapshot.gpu_blocks));
    }
    if snapshot.gpu_blocks > snapshot.gpu_capacity {
        broken(3, format!("{} layer-blocks in use of {}", snapshot.gpu_blocks, snapshot.gpu_capacity));
    }
    let host: Bytes = snapshot.requests.iter().map(|request| request.host_bytes).sum();
    if host != snapshot.host_bytes {
        broken(3, format!("requests hold {host} of host memory, the pool says {}", snapshot.host_bytes));
    }
    if let Some(capacity) = snapshot.host_capacity.filter(|capacity| snapshot.host_bytes > *capacity) {
        broken(3, format!("{} of host memory in use of {capacity}", snapshot.host_bytes));
    }
}

fn check_order(timeline: &StepTimeline, broken: &mut impl FnMut(u32, String)) {
    for (place, span) in timeline.layers.iter().enumerate() {
        let free = place.checked_sub(1).map_or(SimDuration::ZERO, |before| timeline.layers[before].end);
        if span.start < free || span.end < span.start {
            broken(
                4,
                format!("layer {} computes {} to {}, free at {free}", span.layer, span.start, span.end),
            );
        }
    }
    for (place, copy) in timeline.copies.iter().enumerate() {
        let free = place.checked_sub(1).map_or(SimDuration::ZERO, |before| timeline.copies[before].end);
        if copy.start < free || copy.end < copy.start {
            broken(4, format!("a copy for layer {} overlaps the one before it", copy.layer));
        }
        let layer = timeline.layers.iter().find(|span| span.layer == copy.layer);
        if layer.is_none_or(|layer| layer.start < copy.end) {
            broken(4, format!("layer {} starts before its copy ends at {}", copy.layer, copy.end));
        }
    }
}

fn check_length(snapshot: &Snapshot<'_>, timeline: &StepTimeline, broken: &mut impl FnMut(u32, String)) {
    let step = snapshot.decode.as_picos();
    let event_driven = timeline.layers.last().map_or(SimDuration::ZERO, |span| span.end);
    if snapshot.decode != event_driven {
        broken(5, format!("step time {} is not the event-driven {event_driven}", snapshot.decode));
    }
    let compute: u64 = timeline.layers.iter().map(|span| length(span.start, span.end)).sum();
    let copies: u64 = timeline.copies.iter().map(|span| length(span.start, span.end)).sum();
    let tolerance = (timeline.layers.len() + timeline.copies.len()) as u64;
    if step + tolerance < compute.max(copies) {
        broken(5, format!("step time {step} ps is below compute {compute} ps or copies {copies} ps"));
    }
    if step > compute + copies + tolerance {
        broken(
            5,
            format!("step time {step} ps is above compute {compute} ps and copies {copies} ps together"),
        );
    }
    if let Some((least, most)) = snapshot.contended_bounds {
        let (least, most) = (least.as_picos(), (most + waits_for_writes(timeline)).as_picos());
        if step + tolerance < least || step > most + tolerance {
            broken(5, format!("step time {step} ps under contention is not within {least} ps and {most} ps"));
        }
    }
    // Not `>`: a forecast that is not a number breaks the law as well.
    let forecast = snapshot.prefix_forecast_s * PICOS_PER_SEC as f64;
    let within = forecast <= (step + tolerance) as f64;
    if !within {
        broken(5, format!("prefix forecast {forecast} ps is above the step time {step} ps"));
    }
}

/// How long compute stood still for writes of the step before: all idle time of the stream that no copy explains.
fn waits_for_writes(timeline: &StepTimeline) -> SimDuration {
    let pairs = timeline.layers.windows(2);
    pairs.map(|pair| pair[1].start.saturating_sub(pair[0].end).saturating_sub(pair[1].stall)).sum()
}

fn length(start: SimDuration, end: SimDuration) -> u64 {
    end.saturating_sub(start).as_picos()
}
