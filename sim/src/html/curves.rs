//! SLO curves: scores against the SLO's scale. TBT never stands alone: e2e, playback stall, TTFT and throughput have
//! panels of their own beside it (design §6).

use serde_json::json;

use super::Shown;
use super::chart::{Chart, Stops, place};
use crate::plot::canvas::Point;
use crate::plot::panel::{Axis, Tick};
use crate::plot::words;
use crate::report::rows::ScaleResult;

const SIZE: (f64, f64) = (320.0, 232.0);

#[derive(Clone, Copy)]
enum Height {
    Share,
    FromZero,
    Log,
}

struct Score {
    title: &'static str,
    subtitle: &'static str,
    unit: &'static str,
    height: Height,
    of: fn(&ScaleResult) -> Option<f64>,
    write: fn(f64) -> String,
}

const SCORES: [Score; 8] = [
    Score {
        title: "e2e",
        subtitle: "↑ requests whose last token was in time",
        unit: "in time (%)",
        height: Height::Share,
        of: |at| Some(at.attainment_pct.e2e),
        write: words::percent,
    },
    Score {
        title: "TBT, step, with deposit",
        subtitle: "↑ due tokens in time; waiting unseen",
        unit: "in time (%)",
        height: Height::Share,
        of: |at| Some(at.attainment_pct.tbt_step_deposit),
        write: words::percent,
    },
    Score {
        title: "TBT, gap, no deposit",
        subtitle: "↑ due tokens in time, as a client sees",
        unit: "in time (%)",
        height: Height::Share,
        of: |at| Some(at.attainment_pct.tbt_gap),
        write: words::percent,
    },
    Score {
        title: "TPOT, gap",
        subtitle: "↑ requests in time on average",
        unit: "in time (%)",
        height: Height::Share,
        of: |at| Some(at.attainment_pct.tpot_gap),
        write: words::percent,
    },
    Score {
        title: "Playback stall",
        subtitle: "↓ playing time with no token to show",
        unit: "of playing time (%)",
        height: Height::Share,
        of: |at| at.playback_stall_pct,
        write: words::percent,
    },
    Score {
        title: "TTFT, median",
        subtitle: "↓ arrival to first token, logarithmic",
        unit: "time",
        height: Height::Log,
        of: |at| at.ttft_p50_s,
        write: words::seconds,
    },
    Score {
        title: "Throughput",
        subtitle: "↑ delivered tokens over the makespan",
        unit: "tokens/s",
        height: Height::FromZero,
        of: |at| Some(at.throughput_tokens_per_s),
        write: words::number,
    },
    Score {
        title: "Goodput",
        subtitle: "↑ requests that met TPOT and TTFT",
        unit: "requests/s",
        height: Height::FromZero,
        of: |at| Some(at.goodput_requests_per_s),
        write: words::number,
    },
];

/// The section.
pub fn section(policies: &[Shown<'_>]) -> String {
    let charts: String = SCORES.iter().map(|score| draw(score, policies)).collect();
    format!(
        "<p>Left: the tightest SLO. ↑ higher is better, ↓ lower is better. Methods that look at the SLO were run again for \
         each scale, so their TTFT and throughput change with it. The numbers are in the table above.</p>\n\
         <div class=\"charts small\">{charts}</div>\n"
    )
}

/// Scales and their SLO, ascending, each once.
fn scales(policies: &[Shown<'_>]) -> Vec<(f64, f64)> {
    let mut scales: Vec<(f64, f64)> = policies
        .iter()
        .flat_map(|shown| &shown.result.by_slo_scale)
        .map(|at| (at.scale, at.slo_s))
        .filter(|(scale, slo)| scale.is_finite() && slo.is_finite())
        .collect();
    scales.sort_by(|one, other| one.0.total_cmp(&other.0));
    scales.dedup_by(|one, other| one.0 == other.0);
    scales
}

fn value(shown: &Shown<'_>, score: &Score, scale: f64) -> Option<f64> {
    let at = shown.result.by_slo_scale.iter().find(|at| at.scale == scale)?;
    (score.of)(at).filter(|value| value.is_finite())
}

fn draw(score: &Score, policies: &[Shown<'_>]) -> String {
    let scales = scales(policies);
    let values = || {
        policies.iter().flat_map(|shown| scales.iter().filter_map(|(scale, _)| value(shown, score, *scale)))
    };
    let y = match score.height {
        Height::Share => Axis::Linear { from: 0.0, to: 100.0 },
        Height::FromZero => Axis::from_zero(values().fold(0.0, f64::max)),
        Height::Log => Axis::log_around(values()).unwrap_or(Axis::Log { from: 0.1, to: 10.0 }),
    };
    let low = scales.first().map_or(1.0, |scale| scale.0);
    let high = scales.last().map_or(1.0, |scale| scale.0);
    let room = if high > low { (high - low) * 0.12 } else { low.abs().max(1.0) * 0.5 };
    let x = Axis::Linear { from: low - room, to: high + room };
    let mut chart = Chart::new(SIZE, x, y, 1);
    let label = |(scale, slo): &(f64, f64)| Tick {
        value: *scale,
        label: vec![words::factor(*scale), words::seconds(*slo)],
    };
    chart.x_axis(&scales.iter().map(label).collect::<Vec<_>>(), "SLO scale and SLO per token");
    let numbers = if matches!(score.height, Height::Log) { words::seconds } else { words::number };
    chart.y_axis(&y.ticks(numbers), score.unit);
    chart.frame();
    if scales.is_empty() {
        chart.message("no SLO scale was scored");
    }
    for prominent in [false, true] {
        for shown in policies.iter().filter(|shown| shown.style.is_prominent() == prominent) {
            let points: Vec<Point> = (scales.iter())
                .filter_map(|(scale, _)| Some(chart.panel.at(*scale, value(shown, score, *scale)?)))
                .collect();
            chart.series(shown, &points, &points);
        }
    }
    let stops = Stops {
        along: "x",
        at: scales.iter().map(|(scale, _)| place(chart.panel.x_at(*scale))).collect(),
        heads: scales
            .iter()
            .map(|(scale, slo)| format!("SLO scale {}: {}", words::factor(*scale), words::seconds(*slo)))
            .collect(),
        series: policies.iter().map(|shown| json!(shown.index)).collect(),
        values: policies
            .iter()
            .map(|shown| {
                scales.iter().map(|(scale, _)| value(shown, score, *scale).map(score.write)).collect()
            })
            .collect(),
    };
    let at_first = |shown: &Shown<'_>| {
        let at = shown.result.by_slo_scale.first()?;
        Some(format!("{} {}", shown.name, (score.write)((score.of)(at).filter(|value| value.is_finite())?)))
    };
    let described: Vec<String> = policies.iter().filter_map(at_first).collect();
    let first = policies.first().and_then(|shown| shown.result.by_slo_scale.first());
    let description = first.map_or("no SLO scale was scored".to_owned(), |at| {
        format!("Against the SLO scale; at {}: {}", words::factor(at.scale), described.join(", "))
    });
    chart.finish(score.title, score.subtitle, &description, &stops)
}
