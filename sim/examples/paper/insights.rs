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
        "scoring" => &[
            Metric::TbtStep,
            Metric::TbtStepDeposit,
            Metric::TbtGap,
            Metric::TbtGapDeposit,
            Metric::PlaybackStall,
            Metric::EndToEnd,
            Metric::TtftMedian,
            Metric::Throughput,
        ],
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
const SCORINGS: [Metric; 7] = [
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
        "scoring" => SCORINGS,
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
            "With one staging slot the pipeline forecast changes the optimum of most steps (the plan by the prefix forecast is another one for 139 of 200 random batches, and its step 3.9 % longer in the median), and over a run it is ahead in TBT (62 against 56 %), stall and throughput by about as much as the intervals are wide; with two slots it changes none of the 200, and the runs are alike to a tenth of a point.",
            "A free choice of layers, forecast by the pipeline, shortens the single step by 1.9 % in the median with one slot and by 0.01 % with two, and over a run adds about a token per second (28.0 against 26.7, and 28.5 against 27.8), within the intervals: the stride loses little.",
            "A free choice forecast by the closed form is worse than the stride: its single step is 30 % longer in the median with one slot and 10 % with two, for that model lets every copy start early, so it offloads the last layers of everyone, and the slots do not let their copies start; over a run it costs 12 points of TBT with one slot, 7 within the intervals with two, and nothing that shows with four.",
        ],
        "shares" => [
            "The choice per request, from `uniform-td-pr` to OrbitFlow, is worth one to three tokens per second and four to six points of stall at every load, the most of all parts, though within the intervals; pause-resume is worth the most TBT (13 points at loads 3 and 5, beyond the intervals), up to 2.6 tokens per second, and nothing end to end.",
            "The deposit in the planner is worth nothing to the uniform planner and costs OrbitFlow: from load 2 on `orbitflow-no-deposit` is ahead of it end to end, in TBT, stall and throughput (at load 3 by 8 points of TBT and 1.4 tokens per second), within the intervals: a deposit licenses slower steps and is spent when it is needed.",
            "Planning again when a window is over is worth nothing here: plans kept until the live set changes or the layout does not fit are level at load 1 and one to four points of TBT ahead from load 2 on, within the intervals; feedback never acts while the planner's belief is right, so its two rows are one.",
        ],
        "budget" => [
            "The published F = 2 is the worst value tried in TBT, stall and throughput: from F = 2 to 0 OrbitFlow's TBT rises from 64 to 99 % of the tokens, throughput by a quarter (27.8 to 35.2 tokens per second), and stall falls by a fifth (42.5 to 34.0 %), all beyond the intervals, because the planner pauses one request instead of slowing everyone.",
            "End to end hardly moves (21.5 and 22.6 %, each ± 7), and the median wait for a first token goes from 212 to 409 s, a doubling that the wide intervals of an overloaded queue leave open: what the strict budget gives to running requests, waiting ones pay.",
            "The uniform planner with pause gains as much from a strict budget and comes within two tokens per second of OrbitFlow (33.9 against 35.2 at F = 0); with F = 2 it is behind the heuristic end to end (18.9 against 21.8 %), with F ≤ 0.5 level with it, both within the intervals.",
        ],
        "admit" => [
            "OrbitFlow, the heuristic and SLO-aware offloading gain by admitting less in TBT and stall, far beyond the intervals, and deliver most tokens per second with two live requests, not with the four that the pool was sized for (the heuristic 28.5 against 23.4; OrbitFlow 30.1 against 27.8, within the intervals); FlexGen gains in TBT and stall alone.",
            "No offload and Static 4 deliver more with every slot they may fill (22.6 to 36.3 and 22.4 to 37.9 tokens per second): memory already keeps their batches small, their TBT is the same with one live request and with four, and only their stall grows.",
            "End to end everyone loses by admitting less under this overload, as requests then miss their promise in the queue: with one live request 6 to 8 % meet it, with four 11 to 22 %; only the longest quarter is better off with two than with four under OrbitFlow (16 against 10 %), the heuristic and SLO-aware offloading, within the intervals.",
        ],
        "ceiling" => [
            "Hardly a copy waits in vain: with two slots the mean step of every method is 0 to 3 % above its bound, max(compute, copies) of its own placement (OrbitFlow 0.4 to 1.1 %), so what is left to win lies in how much is copied, not in when: decode takes OrbitFlow 1.2 times its compute alone at load 1 and 1.9 times at load 5, uniform with pause 1.3 and 2.1, FlexGen 1.8 and 2.9, DeepSpeed 3.5 and 6.6.",
            "The oracle is up to three points ahead of OrbitFlow end to end and equal to it in tokens per second, within the intervals, so a better placement of each step has little left to give; the heuristic is one to six points behind the oracle, FlexGen 9 to 33, and Static 4, which is 19 behind at load 2, two points ahead at load 5, within the intervals.",
            "In TBT OrbitFlow is ahead of the oracle from load 2 on (by 6 to 10 points, within the intervals), because it pauses and the oracle does not; and No offload and Static 4, which admit fewer, deliver about a third more tokens per second than the oracle from load 2 on and stall half as long or less: who runs matters more than where layers lie.",
        ],
        "link" => [
            "At 7 and 12.5 GB/s OrbitFlow leads all who may offload half of the layers in TBT, stall and throughput (at 12.5 GB/s 40.1 tokens per second against 37.1 of uniform with pause, within the intervals, and 35.8 of the heuristic, at their edge); from PCIe 4 (25 GB/s) on they all deliver every token in time, and no difference between them is beyond the intervals.",
            "DeepSpeed's next-layer offloading is last in TBT, stall and throughput up to PCIe 4, and from PCIe 5 (50 GB/s) on first by far end to end (66 against 42 %) and for the longest quarter, over C2C (350 GB/s) also in throughput: it keeps no layer on the GPU and so admits everyone, while the others must find room for half of the layers or more.",
            "The link decides whether to offload much at all: Static 4 and No offload, which hardly notice it, deliver 37.9 and 36.3 tokens per second at 7 GB/s against OrbitFlow's 27.8, fewer than it from 12.5 GB/s on, and at PCIe 4 a quarter fewer.",
        ],
        "slots" => [
            "The second slot is worth two to three tokens per second and four to six points of stall to every method that offloads much, about as much as the intervals are wide; from the third on the staging taken from the pool eats what more overlap gives.",
            "The order in throughput is the same with one slot and with four: OrbitFlow, uniform with pause, heuristic, SLO-aware, FlexGen, though neighbours are within each other's intervals; Static 4 and No offload are above them all, and DeepSpeed, with two slots of its own, below.",
            "End to end the heuristic leads the offloading methods with one slot (23.9 %) and falls to 17.8 % with four, as charged staging holds newcomers back, within the intervals; OrbitFlow's TBT grows from 56 to 70 %, beyond them, while its end-to-end score stays.",
        ],
        "scoring" => [
            "The order of the nine is the same by all four TBT scores at every scale, step or gap, with deposit or without: Static 4 and No offload first, then OrbitFlow (at scale 1 behind uniform with pause), DeepSpeed last; deposit playback lifts OrbitFlow by 9 to 17 points and others by up to 18, and step and gap differ by about two points at most, since pauses are few beside tokens.",
            "End to end the order is another one: OrbitFlow is first at every scale (at 1 and 1.5 not told apart from the heuristic), and Static 4 and No offload are sixth to eighth of nine, for they run few and the others wait: 207 and 300 s for a first token in the median at scale 1.5, against less than 3 s.",
            "Playback stall, what a client feels once its answer has begun, and tokens per second side with TBT on those two (14 against OrbitFlow's 33 % stall, 37 and 35 against 28 tokens per second at 1.5) and put OrbitFlow first of the rest at every scale, beyond the intervals seed by seed: who is best of those that offload much hangs little on the scoring, who is best of all does.",
        ],
        "starve" => [
            "Without a bound longest-first keeps the unluckiest request waiting for 16 to 20 minutes in the mean over seeds, shortest-first and random victims for 7 to 14; `max_pause` cuts it to its 240 s.",
            "It is the long requests that wait, and yet the longest quarter meets its promise end to end as often as under the other rules, or with no pause at all, to within the intervals: they were late anyway.",
            "Longest-first is ahead of the other victims by 10 to 19 points of TBT (beyond the intervals from load 3 on) and by one to three tokens per second (within them); the bound costs two to three points of TBT, within the intervals, and nothing end to end.",
        ],
        "belief" => [
            "To a planner that believes in half the true link feedback is worth nothing (94 % TBT with it, 95 % without): copies that come sooner than planned are only hidden earlier.",
            "A planner that believes in twice the true link is helped by feedback: 65 against 59 % TBT, 56 against 58 % stall, 18.5 against 17.4 tokens per second; end to end it is three points behind; all of it is within the intervals.",
            "Even a planner that is wrong by two and never corrected is ahead of the heuristic, which believes nothing, under every link: by two to seven points of stall and about three tokens per second, where the intervals still touch.",
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
    let unit = |metric: &Metric| if *metric == Metric::TtftMedian { " (s)" } else { "" };
    let titles: Vec<String> =
        columns.iter().map(|metric| format!("{}{}", metric.title(), unit(metric))).collect();
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
            let mark = |metric: &Metric| beside(table, cell, key, reference(name), *metric);
            let numbers: Vec<String> =
                columns.iter().map(|metric| format!("{}{}", number(metric), mark(metric))).collect();
            writeln!(text, "| {} | {label} | {} |", place_of(place), numbers.join(" | ")).expect(ANY_TEXT);
        }
    }
}

/// Whom the marks compare with.
fn reference(name: &str) -> &'static str {
    match name {
        "ceiling" => "oracle",
        "starve" => "orbitflow-longest",
        _ => "orbitflow",
    }
}

/// A mark where a method is above or below the reference, seed by seed, with an interval that leaves out 0.
fn beside(table: &Table, cell: usize, key: &str, reference: &str, metric: Metric) -> &'static str {
    match table.pairs(cell, key, reference, metric, |ours, theirs| ours - theirs) {
        Some(gap) if gap.low() > 0.0 => " ▲",
        Some(gap) if gap.high() < 0.0 => " ▼",
        _ => "",
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
        let orders: Vec<String> = (0..table.cells.len()).map(|cell| order(table, cell, metric)).collect();
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
    Written by `make insights`. Physical semantics, SLO 1.5× where it is not the axis, traces drawn by the paper\u{2019}s recipe; means over seeds with 95 % \
    intervals (Student\u{2019}s t). Step and copy times are the authors\u{2019} published fits of an A6000; **nothing here was \
    measured**. Where the intervals of two rows overlap the sentences say so; rows of \
    one place ran the same traces, so their difference can be surer than that: \u{25b2} and \u{25bc} are above and below OrbitFlow (the oracle, \
    longest-first, where the question is about those) seed by seed, beyond the 95 % interval of the difference. TBT counts tokens only, so e2e (arrival + 5 s + output \u{b7} SLO), playback stall and throughput stand beside it.\n";

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
