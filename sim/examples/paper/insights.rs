//! Questions that the paper leaves open: a scenario, a figure and three sentences each, and the numbers they rest on.
//!
//! The sentences were written after looking at the numbers, for this version's program and seeds; who changes a scenario reads
//! them again. The numbers beside them are the program's own.

use std::fmt::Write as _;

use super::experiment::{Across, Experiment};
use super::scores::Metric;
use super::table::Table;

/// Every question, in the order of `insights.md`.
pub const QUESTIONS: [Experiment; 9] = [
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
const COLUMNS: [Metric; 6] = [
    Metric::EndToEnd,
    Metric::EndToEndLongest,
    Metric::PlaybackStall,
    Metric::TbtStepDeposit,
    Metric::TbtGapDeposit,
    Metric::Throughput,
];

/// Three sentences on one question.
fn sentences(name: &str) -> [&'static str; 3] {
    match name {
        "placement" => ["sentences to come"; 3],
        _ => ["sentences to come"; 3],
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
            "{}. `scenarios/insights/{name}.toml`, [figure]({name}.svg), [numbers]({name}.csv).\n",
            experiment.setting
        )
        .expect(ANY_TEXT);
        for sentence in sentences(name) {
            writeln!(text, "* {sentence}").expect(ANY_TEXT);
        }
        text.push('\n');
        numbers(&mut text, table);
    }
    text
}

fn numbers(text: &mut String, table: &Table) {
    let titles: Vec<&str> = COLUMNS.iter().map(|metric| metric.title()).collect();
    writeln!(text, "| at | method | {} |\n|---|---|{}", titles.join(" | "), "---|".repeat(COLUMNS.len()))
        .expect(ANY_TEXT);
    for (cell, place) in table.cells.iter().enumerate() {
        for (key, label) in &table.policies {
            let number = |metric| match table.mean(cell, key, metric) {
                Some(mean) => format!("{:.1} ± {:.1}", mean.mean, mean.half),
                None => "–".to_owned(),
            };
            let numbers: Vec<String> = COLUMNS.into_iter().map(number).collect();
            writeln!(text, "| {} | {label} | {} |", place.place, numbers.join(" | ")).expect(ANY_TEXT);
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
                orbitflow_sim::runner::prepare(&point.scenario)
                    .unwrap_or_else(|error| panic!("{}: {}: {error}", question.name, point.name));
                let Across::Axis(axis, _) = question.across else { panic!("{}", question.name) };
                assert!(coordinate(&point, axis).is_some(), "{}: {axis}", question.name);
            }
            assert!(sentences(question.name).iter().all(|sentence| sentence.len() > 40), "{}", question.name);
        }
    }
}
