//! The flags of every command that takes a scenario.

use std::path::PathBuf;

use super::OrInput;
use crate::scenario::{Grid, Scenario};

/// A scenario and its overrides.
#[derive(Clone, Debug, clap::Args)]
pub struct ScenarioArgs {
    /// Scenario file, `-` for stdin; `orbitflow init` prints one
    #[arg(value_name = "SCENARIO")]
    pub scenario: PathBuf,
    /// Override a key: dotted key, TOML value, as in `--set slo.scale=[1]`. A bare word or quantity is a string
    /// (`--set model=qwen2.5-7b`); an empty value takes the key out (`--set gpu_kv_blocks=`)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Leave requests that arrive before S out of the scores: seconds, or a duration with its unit
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub warmup: Option<String>,
}

impl ScenarioArgs {
    /// Reads and checks the scenario with its overrides, `--warmup` last.
    ///
    /// # Errors
    /// [`super::InputError`] with the place, the key, the value and what was expected.
    pub fn load(&self) -> anyhow::Result<Scenario> {
        Scenario::load(&self.scenario, &self.all_overrides()).or_input()
    }

    /// Reads and checks a scenario or a grid, as [`Self::load`].
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_grid(&self) -> anyhow::Result<Grid> {
        Grid::load(&self.scenario, &self.all_overrides()).or_input()
    }

    /// The overrides, `--warmup` last.
    pub fn all_overrides(&self) -> Vec<String> {
        let mut overrides = self.overrides.clone();
        if let Some(warmup) = &self.warmup {
            // The flag is in seconds where it has no unit.
            let unit = if warmup.trim().parse::<f64>().is_ok() { " s" } else { "" };
            overrides.push(format!("warmup={}{unit}", warmup.trim()));
        }
        overrides
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SimDuration;

    #[test]
    fn a_warmup_without_a_unit_is_in_seconds() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let scenario = folder.path().join("demo.toml");
        std::fs::write(
            &scenario,
            crate::scenario::template("t.json", crate::scenario::TraceFacts::default()),
        )
        .expect("a scratch file");
        let load = |warmup: &str| {
            let warmup = Some(warmup.to_owned());
            ScenarioArgs { scenario: scenario.clone(), overrides: Vec::new(), warmup }.load()
        };
        assert_eq!(load("60").unwrap().warmup, SimDuration::from_secs(60));
        assert_eq!(load("3 min").unwrap().warmup, SimDuration::from_secs(180));
        for wrong in ["-1", "nan", "inf", "soon", "3 GiB"] {
            let error = load(wrong).unwrap_err();
            assert!(
                error.is::<super::super::InputError>() && error.to_string().contains("warmup"),
                "{error}"
            );
        }
    }
}
