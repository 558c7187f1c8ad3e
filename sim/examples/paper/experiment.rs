//! The experiments of the paper (facts G.5) and our own questions by file, and what their figures show along the axis.
//!
//! A file of `scenarios/paper` or `scenarios/insights` is a grid over semantics, at most one axis of the experiment, and seeds. This table adds only
//! what a figure needs; everything that determines a number stands in the file.

use std::path::Path;

use orbitflow_sim::scenario::{Grid, GridPoint, ScenarioError};

/// What stands along the lower side of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Across {
    /// An axis of the grid: its name there, and here.
    Axis(&'static str, &'static str),
    /// The SLO scales.
    SloScale,
    /// One bar per policy.
    Policies,
}

/// A set of experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Study {
    /// What the paper shows.
    Paper,
    /// What it leaves open.
    Insights,
}

impl Study {
    /// Its name: the folder of its scenarios and figures.
    pub const fn name(self) -> &'static str {
        match self {
            Study::Paper => "paper",
            Study::Insights => "insights",
        }
    }

    /// Its experiments, in order.
    pub const fn experiments(self) -> &'static [Experiment] {
        match self {
            Study::Paper => &EXPERIMENTS,
            Study::Insights => &super::insights::QUESTIONS,
        }
    }
}

/// One file and its figure.
#[derive(Clone, Copy, Debug)]
pub struct Experiment {
    /// The scenario's file name without its ending; the figure's too.
    pub name: &'static str,
    /// Above the figure.
    pub title: &'static str,
    /// Below the title.
    pub setting: &'static str,
    /// Along the axis.
    pub across: Across,
}

/// Every experiment, in the order of the paper.
pub const EXPERIMENTS: [Experiment; 9] = [
    Experiment {
        name: "load",
        title: "Load sweep",
        setting: "8B on one A6000, published fit; batch size 4, cv 1",
        across: Across::Axis("trace.draw.load", "Load λ (times n / Σ output)"),
    },
    Experiment {
        name: "burst",
        title: "Burstiness",
        setting: "8B on one A6000, published fit; batch size 4, load 2×",
        across: Across::Axis("trace.draw.cv", "CV of the gaps"),
    },
    Experiment {
        name: "batch",
        title: "Batch size",
        setting: "8B on one A6000, published fit; load 2×, cv 1",
        across: Across::Axis("trace.draw.batch_size", "Batch size"),
    },
    Experiment {
        name: "victim",
        title: "Whom to pause",
        setting: "8B on one A6000, published fit; batch size 4, load 2×, cv 1",
        across: Across::Policies,
    },
    Experiment {
        name: "design",
        title: "Design validation",
        setting: "8B on one A6000, published fit; batch size 4, load 2×, cv 1",
        across: Across::Policies,
    },
    Experiment {
        name: "context",
        title: "Context length",
        setting: "8B on one A6000, published fit; load 2×, cv 1, batch size 4 (8 at 128k)",
        across: Across::Axis("context", "Context"),
    },
    Experiment {
        name: "tp2",
        title: "Two GPUs",
        setting: "8B on two A5000, taken as their published fit; batch size 4, load 2×, cv 1; true SLO scales",
        across: Across::SloScale,
    },
    Experiment {
        name: "tp4",
        title: "Four GPUs",
        setting: "70B on four A6000, published fit of the four; 128k contexts, batch size 8, load 2×, cv 1; true SLO scales",
        across: Across::SloScale,
    },
    Experiment {
        name: "a100",
        title: "Contexts of up to 1M tokens",
        setting: "8B on one A100, published fit; batch size 16, cv 1; the paper's load is 2×",
        across: Across::Axis("trace.draw.load", "Load λ (times n / Σ output)"),
    },
];

impl Experiment {
    /// Its grid, from the folder of the scenarios.
    ///
    /// # Errors
    /// As [`Grid::load`].
    pub fn grid(&self, scenarios: &Path, overrides: &[String]) -> Result<Grid, ScenarioError> {
        Grid::load(&scenarios.join(format!("{}.toml", self.name)), overrides)
    }

    /// Where a point stands along the figure's axis; empty if the points do not differ there.
    pub fn place(&self, point: &GridPoint) -> String {
        let Across::Axis(name, _) = self.across else { return String::new() };
        coordinate(point, name).unwrap_or_default().to_owned()
    }
}

/// The value of an axis at a point.
pub fn coordinate<'a>(point: &'a GridPoint, axis: &str) -> Option<&'a str> {
    point.coordinates.iter().find(|(name, _)| name == axis).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use orbitflow_sim::runner;

    use super::*;

    fn scenarios() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/paper")
    }

    #[test]
    fn every_file_is_an_experiment_and_every_experiment_a_file() {
        let files: BTreeSet<String> = std::fs::read_dir(scenarios())
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(files, EXPERIMENTS.iter().map(|experiment| experiment.name.to_owned()).collect());
    }

    #[test]
    fn every_point_of_every_file_prepares_under_both_semantics_and_twenty_seeds() {
        for experiment in EXPERIMENTS {
            let grid = experiment.grid(&scenarios(), &[]).unwrap_or_else(|error| panic!("{error}"));
            let mut seeds = BTreeSet::new();
            let mut semantics = BTreeSet::new();
            for point in grid.points() {
                seeds.insert(point.scenario.seed);
                let prepared = runner::prepare(&point.scenario)
                    .unwrap_or_else(|error| panic!("{}: {}: {error}", experiment.name, point.name));
                // A policy may have a victim of its own; nothing else is off the preset of the semantics.
                let off = prepared.off_preset.keys().find(|key| !key.ends_with(".victim"));
                assert_eq!(off, None, "{}", experiment.name);
                assert_eq!(prepared.trace.requests.len(), 52);
                semantics.insert(prepared.semantics);
                if matches!(experiment.across, Across::Axis(..)) {
                    assert_ne!(experiment.place(&point), "");
                }
            }
            assert_eq!(seeds.len(), 20, "{}", experiment.name);
            assert_eq!(Vec::from_iter(semantics), ["physical", "published"], "{}", experiment.name);
        }
    }
}
