//! Questions that the paper leaves open: a scenario, a figure and three sentences each, and the numbers they rest on.
//!
//! The sentences were written after looking at the numbers, for this version's program and seeds; who changes a scenario reads
//! them again. The numbers beside them are the program's own.

use std::fmt::Write as _;

use orbitflow_sim::planner::DEFAULT_NODE_CAP;
use orbitflow_sim::plot::words;

use super::experiment::{Across, Experiment};
use super::planner_models::{self, Row};
use super::scores::Metric;
use super::table::{Cell, Table};

/// Every question, in the order of `insights.md`.
pub const QUESTIONS: [Experiment; 10] = [
    Experiment {
        name: "placement",
        title: "Does a free choice of layers, or a better forecast, change the answer?",
        setting: "8B on one A6000, published fit; batch size 4, load 3×, cv 1",
        across: Across::Axis("engine.slots", "Staging slots per request"),
    },
    Experiment {
        name: "shares",
        title: "What is each part of OrbitFlow worth?",
        setting: "8B on one A6000, published fit; batch size 4, cv 1",
        across: Across::Axis("trace.draw.load", "Load λ (times n / Σ output)"),
    },
    Experiment {
        name: "budget",
        title: "What does the failure budget do?",
        setting: "8B on one A6000, published fit; batch size 4, load 3×, cv 1",
        across: Across::Axis("planner.failure_budget", "Failure budget F"),
    },
    Experiment {
        name: "admit",
        title: "Who gains by admitting less?",
        setting: "8B on one A6000, published fit; a pool for 4 requests, load 3×, cv 1",
        across: Across::Axis("batch_size", "Most live requests"),
    },
    Experiment {
        name: "ceiling",
        title: "How far is each method from the best placement of every step?",
        setting: "8B on one A6000, published fit; batch size 4, cv 1",
        across: Across::Axis("trace.draw.load", "Load λ (times n / Σ output)"),
    },
    Experiment {
        name: "link",
        title: "How does the ranking change with the link?",
        setting: "8B on one A6000, published fit of compute; batch size 4, load 3×, cv 1",
        across: Across::Axis("link", "Link, each way"),
    },
    Experiment {
        name: "slots",
        title: "How does the ranking change with staging slots?",
        setting: "8B on one A6000, published fit; batch size 4, load 3×, cv 1",
        across: Across::Axis("engine.slots", "Staging slots per request"),
    },
    Experiment {
        name: "scoring",
        title: "How does the ranking change with the scoring?",
        setting: "8B on one A6000, published fit; batch size 4, load 2×, cv 1",
        across: Across::SloScale,
    },
    Experiment {
        name: "starve",
        title: "Who starves under longest-first?",
        setting: "8B on one A6000, published fit; batch size 4, cv 1",
        across: Across::Axis("trace.draw.load", "Load λ (times n / Σ output)"),
    },
    Experiment {
        name: "belief",
        title: "What is feedback worth when the link is not what the planner believes?",
        setting: "8B on one A6000, published fit; batch size 4, load 2×, cv 1",
        across: Across::Axis("belief", "Believed link over the true one"),
    },
];

/// The numbers beside the sentences.
fn columns(name: &str) -> &'static [Metric] {
    match name {
        "ceiling" => &[
            Metric::EndToEnd,
            Metric::PlaybackStall,
            Metric::TbtStepDeposit,
            Metric::AboveBound,
            Metric::OverCompute,
            Metric::Throughput,
        ],
        "scoring" => SCORINGS,
        "starve" => &[
            Metric::EndToEnd,
            Metric::EndToEndLongest,
            Metric::LongestPause,
            Metric::PlaybackStall,
            Metric::TbtStepDeposit,
            Metric::Throughput,
        ],
        _ => &[
            Metric::EndToEnd,
            Metric::EndToEndLongest,
            Metric::PlaybackStall,
            Metric::TtftMedian,
            Metric::TbtStepDeposit,
            Metric::TbtGapDeposit,
            Metric::Throughput,
        ],
    }
}

/// What methods are ranked by: the steps' times without and with deposit, what the client sees likewise, its playback, the
/// whole answer, and the server's own number.
const SCORINGS: &[Metric] = &[
    Metric::TbtStep,
    Metric::TbtStepDeposit,
    Metric::TbtGap,
    Metric::TbtGapDeposit,
    Metric::PlaybackStall,
    Metric::EndToEnd,
    Metric::Throughput,
];

/// The panels of a question's figure.
pub fn panels(question: &Experiment) -> [Metric; 7] {
    match question.name {
        "ceiling" => [
            Metric::AboveBound,
            Metric::OverCompute,
            Metric::TbtStepDeposit,
            Metric::EndToEnd,
            Metric::EndToEndLongest,
            Metric::PlaybackStall,
            Metric::Throughput,
        ],
        "scoring" => [
            Metric::TbtStep,
            Metric::TbtStepDeposit,
            Metric::TbtGap,
            Metric::TbtGapDeposit,
            Metric::PlaybackStall,
            Metric::EndToEnd,
            Metric::Throughput,
        ],
        "budget" | "admit" => [
            Metric::TbtStepDeposit,
            Metric::TbtGapDeposit,
            Metric::EndToEnd,
            Metric::EndToEndLongest,
            Metric::PlaybackStall,
            Metric::TtftMedian,
            Metric::Throughput,
        ],
        _ => [
            Metric::TbtStepDeposit,
            Metric::TbtGapDeposit,
            Metric::EndToEnd,
            Metric::EndToEndLongest,
            Metric::PlaybackStall,
            Metric::LongestPause,
            Metric::Throughput,
        ],
    }
}

/// Three sentences on one question.
fn sentences(name: &str) -> [&'static str; 3] {
    match name {
        "placement" => [
            "With one staging slot the planner that forecasts by the pipeline itself is ahead of the published closed form in TBT, stall and throughput; with two slots or more both plan alike to a tenth of a point: the optimum changes only where slots are short.",
            "A free choice of layers, forecast by the pipeline, adds at most about a token per second to the stride pattern, within the intervals: the stride loses little.",
            "A free choice forecast by the closed form is worse than the stride with one and two slots: that model lets every copy start early, so it offloads the last layers of everyone, and the slots do not let their copies start; the stride is what makes the published forecast usable.",
        ],
        "shares" => [
            "The choice per request is the largest part: from `uniform-td-pr` to OrbitFlow stall falls and throughput grows at every load; pause-resume is worth more TBT (about 13 points at loads 3 and 5) and two to three tokens per second, and nothing end to end: without it e2e is as high.",
            "The deposit in the planner is worth nothing to the uniform planner and costs OrbitFlow: `orbitflow-no-deposit` is ahead in every column from load 2 on, since a deposit licenses slower steps and is spent when it is needed.",
            "Planning again when a window is over is worth nothing here: plans kept until the live set changes or the layout does not fit do as well or better; feedback never acts while the planner's belief is right, so the two rows are one.",
        ],
        "budget" => [
            "The published F = 2 is the worst value tried: from F = 2 to 0 OrbitFlow's TBT rises from two thirds to nearly all tokens, throughput by a quarter, and a fifth less of a client's time is spent waiting for tokens, because the planner pauses one request instead of slowing everyone.",
            "End to end hardly moves, within the intervals, and the median wait for a first token doubles: what the strict budget gives to running requests, waiting ones pay.",
            "The uniform planner with pause gains as much from a strict budget as OrbitFlow does, and comes within two tokens per second of it; with F = 2 it is behind the heuristic end to end, with F ≤ 0.5 it is not.",
        ],
        "admit" => [
            "Everyone who offloads gains by admitting less in TBT, stall and throughput: OrbitFlow, the heuristic and SLO-aware offloading deliver most tokens per second with two live requests, not with the four that the pool was sized for.",
            "No offload and Static 4 do not: memory already keeps their batches small, and their throughput grows with every slot they may fill.",
            "End to end everyone loses by admitting less under this overload, as requests then miss their promise in the queue; only the longest quarter is better off with two or three live requests than with four.",
        ],
        "ceiling" => [
            "Over a run OrbitFlow is within a few points of the oracle end to end and equal to it in throughput, so a better placement of each step has little left to give; the fixed and uniform methods are further off, Static 1 by nine to thirty points.",
            "In TBT OrbitFlow is ahead of the oracle from load 2 on, because it pauses and the oracle does not: what it wins there is who runs, not where layers lie.",
            "Most of the oracle's steps are proven against the bound of compute and forced copies (`plans.proofs` in results.json; 88 % on the demo), yet No offload and Static 4, which admit fewer, deliver a third more tokens per second from load 2 on and stall half as long: admission matters more than placement.",
        ],
        "link" => [
            "Up to PCIe 3 OrbitFlow leads every method that offloads half of the layers in TBT, stall and throughput; from PCIe 4 (25 GB/s) on they all deliver every token in time and differ by less than the intervals.",
            "DeepSpeed's next-layer offloading is last up to PCIe 4 and first by far from PCIe 5 on, end to end, for the longest quarter and in throughput: it keeps no layer on the GPU and so admits everyone, while all others must find room for half of the layers.",
            "The scoring decides as much as the link: at 7 GB/s No offload and Static 4 are first in TBT, stall and throughput and behind OrbitFlow and the heuristic end to end.",
        ],
        "slots" => [
            "The second slot is worth two to three tokens per second and about five points of stall to every method that offloads much; from the third on the staging taken from the pool eats what more overlap gives.",
            "The order in throughput is the same with one slot and with four: OrbitFlow, uniform with pause, heuristic, SLO-aware, FlexGen; Static 4 and No offload are above them all, and DeepSpeed, with two slots of its own, below.",
            "End to end the heuristic leads with one slot and loses a quarter of it with four, as charged staging holds newcomers back; OrbitFlow's TBT grows with every slot while its end-to-end score does not.",
        ],
        "scoring" => [
            "TO BE WRITTEN: to be written after the numbers are there.",
            "TO BE WRITTEN: to be written after the numbers are there.",
            "TO BE WRITTEN: to be written after the numbers are there.",
        ],
        "starve" => [
            "Without a bound longest-first keeps the unluckiest request waiting for 15 to 20 minutes in the mean over seeds, shortest-first and random victims for 7 to 14; `max_pause` cuts it to its 240 s.",
            "It is the long requests that wait, and yet the longest quarter meets its promise end to end as often as under the other rules, or with no pause at all: they were late anyway.",
            "Longest-first is ahead of the other victims by about ten points of TBT or more and by one to three tokens per second; the bound costs at most four points of TBT and nothing end to end.",
        ],
        "belief" => [
            "A planner that believes in half the true link loses nothing by it, and feedback then changes nothing: copies that are faster than planned are only hidden earlier.",
            "A planner that believes in twice the true link is helped by feedback in TBT, stall and throughput, by amounts within the intervals, and loses some points end to end, as it then pauses more.",
            "Even a planner that is wrong by two and never corrected is ahead of the heuristic, which believes nothing, in stall and throughput under every link.",
        ],
        _ => panic!("Invariant: every question has its sentences"),
    }
}

/// The whole file.
pub fn markdown(tables: &[(Experiment, Table)]) -> String {
    let mut text = HEAD.to_owned();
    for (experiment, table) in tables {
        let name = experiment.name;
        write!(text, "\n## {}\n\n", experiment.title).expect(ANY_TEXT);
        writeln!(
            text,
            "{}. `scenarios/insights/{name}.toml`, [figure](insights/{name}.svg), [numbers](insights/{name}.csv).\n",
            experiment.setting
        )
        .expect(ANY_TEXT);
        for sentence in sentences(name) {
            writeln!(text, "* {sentence}").expect(ANY_TEXT);
        }
        text.push('\n');
        if name == "scoring" {
            orders(&mut text, table);
        }
        numbers(&mut text, name, table);
        if name == "placement" {
            batches(&mut text);
        }
    }
    text
}

fn numbers(text: &mut String, name: &str, table: &Table) {
    let columns = columns(name);
    let titles: Vec<&str> = columns.iter().map(|metric| metric.title()).collect();
    writeln!(text, "| at | method | {} |\n|---|---|{}", titles.join(" | "), "---|".repeat(columns.len()))
        .expect(ANY_TEXT);
    for (cell, place) in table.cells.iter().enumerate() {
        for (key, label) in &table.policies {
            let number = |metric: &Metric| match table.mean(cell, key, *metric) {
                Some(mean) if *metric == Metric::OverCompute => {
                    format!("{:.2} ± {:.2}", mean.mean, mean.half)
                }
                Some(mean) => format!("{:.1} ± {:.1}", mean.mean, mean.half),
                None => "–".to_owned(),
            };
            let numbers: Vec<String> = columns.iter().map(number).collect();
            writeln!(text, "| {} | {label} | {} |", place_of(place), numbers.join(" | ")).expect(ANY_TEXT);
        }
    }
}

/// Along the axis; the SLO scale where that is the axis.
fn place_of(cell: &Cell) -> String {
    if cell.place.is_empty() { words::factor(cell.scale) } else { cell.place.clone() }
}

/// The methods from best to worst by each scoring, at each place.
fn orders(text: &mut String, table: &Table) {
    let places: Vec<String> = table.cells.iter().map(place_of).collect();
    writeln!(text, "| best to worst by | {} |\n|---|{}", places.join(" | "), "---|".repeat(places.len()))
        .expect(ANY_TEXT);
    for metric in SCORINGS {
        let orders: Vec<String> = (0..table.cells.len()).map(|cell| order(table, cell, *metric)).collect();
        writeln!(text, "| {} | {} |", metric.title(), orders.join(" | ")).expect(ANY_TEXT);
    }
    text.push_str(
        "\n`>`: the 95 % interval of the difference, seed by seed, is above 0; `≈`: it is not (each beside the next).\n\n",
    );
}

/// The methods by their mean; neighbours that the seeds cannot tell apart are joined by `≈`.
fn order(table: &Table, cell: usize, metric: Metric) -> String {
    let sign = if metric == Metric::PlaybackStall { -1.0 } else { 1.0 };
    let mean = |key: &str| table.mean(cell, key, metric).map_or(f64::NEG_INFINITY, |mean| sign * mean.mean);
    let mut ranked: Vec<&(String, String)> = table.policies.iter().collect();
    ranked.sort_by(|(a, _), (b, _)| mean(b).total_cmp(&mean(a)));
    let mut text = ranked.first().map_or(String::new(), |(_, label)| label.clone());
    for pair in ranked.windows(2) {
        let difference = table.pairs(cell, &pair[0].0, &pair[1].0, metric, |ours, theirs| ours - theirs);
        let apart = difference.is_some_and(|gap| sign * gap.mean - gap.half > 0.0);
        write!(text, " {} {}", if apart { ">" } else { "≈" }, pair[1].1).expect(ANY_TEXT);
    }
    text
}

/// Whether the optimum of one step changes: the ways to plan, on random batches.
fn batches(text: &mut String) {
    writeln!(
        text,
        "\nOne step of {} random batches of four requests under pressure (`sim/examples/planner_models.rs`): whose placements \
         differ, and how much longer the simulated step is.\n\n| slots | planned | instead of | batches that differ | longer, \
         median (%) | 95th percentile (%) | most (%) |\n|---|---|---|---|---|---|---|",
        planner_models::INSTANCES
    )
    .expect(ANY_TEXT);
    for slots in [1, 2] {
        for row in planner_models::table(slots, planner_models::INSTANCES, DEFAULT_NODE_CAP) {
            let Row { way, reference, differ, lost_pct: [median, p95, most], .. } = row;
            writeln!(
                text,
                "| {slots} | {way} | {reference} | {differ} | {median:.2} | {p95:.2} | {most:.2} |"
            )
            .expect(ANY_TEXT);
        }
    }
}

const ANY_TEXT: &str = "Invariant: a string takes any text";

const HEAD: &str = "# Questions the paper leaves open\n\n\
    Written by `make insights`. Physical semantics, SLO 1.5×, traces drawn by the paper\u{2019}s recipe; means over seeds with 95 % \
    intervals (Student\u{2019}s t). Step and copy times are the authors\u{2019} published fits of an A6000; **nothing here was \
    measured**. TBT counts tokens only, so e2e (arrival + 5 s + output \u{b7} SLO), playback stall and throughput stand beside it.\n";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::experiment::coordinate;
    use super::*;

    #[test]
    fn every_question_has_a_file_whose_points_prepare_and_three_sentences() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/insights");
        let files = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, QUESTIONS.len());
        for question in QUESTIONS {
            let grid =
                question.grid(&folder, &["seed=1".to_owned()]).unwrap_or_else(|error| panic!("{error}"));
            for point in grid.points() {
                let prepared = orbitflow_sim::runner::prepare(&point.scenario)
                    .unwrap_or_else(|error| panic!("{}: {}: {error}", question.name, point.name));
                match question.across {
                    Across::Axis(axis, _) => {
                        assert!(coordinate(&point, axis).is_some(), "{}: {axis}", question.name);
                    }
                    Across::SloScale => assert!(prepared.scoring.scales.len() > 1, "{}", question.name),
                    Across::Policies => panic!("{}", question.name),
                }
            }
            assert!(sentences(question.name).iter().all(|sentence| sentence.len() > 40), "{}", question.name);
        }
    }
}
