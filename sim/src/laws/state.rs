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
    let mut free = timeline.carried.map_or(SimDuration::ZERO, |carried| carried.end);
    for copy in timeline.copies.iter().chain(&timeline.ahead) {
        if copy.start < free || copy.end < copy.start {
            broken(4, format!("a copy for layer {} overlaps the one before it", copy.layer));
        }
        free = copy.end;
    }
    let own = timeline.copies.iter().map(|copy| (copy.layer, copy.end));
    let carried = timeline.carried.and_then(|carried| Some((carried.layer?, carried.end)));
    for (layer, landed) in own.chain(carried) {
        let span = timeline.layers.iter().find(|span| span.layer == layer);
        if span.is_none_or(|span| span.start < landed) {
            broken(4, format!("layer {layer} starts before its copy ends at {landed}"));
        }
    }
    for copy in &timeline.ahead {
        let used =
            timeline.copies.iter().filter(|own| own.request == copy.request).map(|own| own.layer).max();
        let used = used.and_then(|last| timeline.layers.iter().find(|span| span.layer == last));
        if used.is_some_and(|last| copy.start < last.end) {
            let text =
                format!("a copy of the next step starts at {}, before its request's last layer", copy.start);
            broken(4, text);
        }
    }
}

fn check_length(snapshot: &Snapshot<'_>, timeline: &StepTimeline, broken: &mut impl FnMut(u32, String)) {
    let step = snapshot.decode.as_picos();
    let event_driven = timeline.awaited_write.unwrap_or(last_layer(timeline)).max(last_layer(timeline));
    if snapshot.decode != event_driven {
        broken(5, format!("step time {} is not the event-driven {event_driven}", snapshot.decode));
    }
    let compute: u64 = timeline.layers.iter().map(|span| length(span.start, span.end)).sum();
    let copies: u64 = timeline.copies.iter().map(|span| length(span.start, span.end)).sum();
    let tolerance = (timeline.layers.len() + timeline.copies.len()) as u64;
    if step + tolerance < compute.max(copies) {
        broken(5, format!("step time {step} ps is below compute {compute} ps or copies {copies} ps"));
    }
    let carried = timeline.carried.map_or(0, |carried| carried.end.as_picos());
    let writes = waits_for_writes(timeline).as_picos();
    if step > compute + copies + carried + writes + tolerance {
        broken(
            5,
            format!(
                "step time {step} ps is above compute {compute} ps, copies {} ps and waits for writes {writes} ps together",
                copies + carried
            ),
        );
    }
    if let Some((least, most)) = snapshot.contended_bounds {
        let (least, most) = (least.as_picos(), most.as_picos() + writes);
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

fn last_layer(timeline: &StepTimeline) -> SimDuration {
    timeline.layers.last().map_or(SimDuration::ZERO, |span| span.end)
}

/// How long compute stood still for writes of steps before: all idle time of the stream that no copy explains, and
/// what the step waits for after its last layer.
fn waits_for_writes(timeline: &StepTimeline) -> SimDuration {
    let pairs = timeline.layers.windows(2);
    let between: SimDuration =
        pairs.map(|pair| pair[1].start.saturating_sub(pair[0].end).saturating_sub(pair[1].stall)).sum();
    let behind = timeline.awaited_write.map(|end| end.saturating_sub(last_layer(timeline)));
    between + behind.unwrap_or_default()
}

fn length(start: SimDuration, end: SimDuration) -> u64 {
    end.saturating_sub(start).as_picos()
}
