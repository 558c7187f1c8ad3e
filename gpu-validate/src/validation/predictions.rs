//! Predictions on disk before anything is measured: one file, its hash, and the proof that both were written.
//!
//! The file holds every case in full and what was predicted of it, in the order of the cases; the same profile and cases
//! give the same bytes. [`Written`] is made only by [`Predictions::write`], after both files and their folder were synced,
//! and [`super::run()`] asks for it. Knows nothing about devices.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use orbitflow_sim::cost::HardwareProfile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::costs::{CostSource, NoCosts};
use super::predict::predict;
use crate::case::{Case, CopyStreams, Granularity, Prediction};

/// Name of the file within the results.
pub const PREDICTIONS_FILE: &str = "predictions.json";
/// Name of the file with its hash, as `sha256sum --check` reads it.
const HASH_FILE: &str = "predictions.sha256";
/// The order of copies that is predicted, by the simulator's word.
pub const COPY_ORDER: &str = "in-order";
const SCHEMA: &str = "gpu-validate/predictions";

/// Why predictions cannot be used. The run must not go on.
#[derive(Debug, thiserror::Error)]
pub enum PredictionsError {
    /// A file cannot be written or read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not the one that was written.
    #[error("{}: sha256 {found}: expected {expected}, written before measuring\nhint: predictions may not change \
             once a step was measured; run the validation again", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// What it is now.
        found: String,
        /// What it was.
        expected: String,
    },
    /// A case has no costs.
    #[error(transparent)]
    NoCosts(#[from] NoCosts),
}

/// One case in full, and what was predicted of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictedCase {
    /// [`Case::workload`].
    pub workload: String,
    /// Name of the model.
    pub model: String,
    /// Layers that run.
    pub layers: u32,
    /// Context tokens of each request.
    pub contexts: Vec<u32>,
    /// Offloaded layers of each request, from 1.
    pub offloaded: Vec<Vec<u32>>,
    /// The placement in words.
    pub placement: String,
    /// Staging slots per request.
    pub slots: u32,
    /// Pieces of a copy.
    pub granularity: Granularity,
    /// Who copies.
    pub streams: CopyStreams,
    /// Spin after each layer, in seconds; above 0 is synthetic.
    pub dilation_s: f64,
    /// Whether no fit has seen this model.
    pub held_out: bool,
    /// What was predicted.
    pub prediction: Prediction,
}

impl PredictedCase {
    fn new(case: &Case, prediction: Prediction) -> Self {
        let layers = |set: &orbitflow_sim::model::LayerSet| set.iter().map(|layer| layer.0).collect();
        PredictedCase {
            workload: case.workload.clone(),
            model: case.model.name.clone(),
            layers: case.layers,
            contexts: case.contexts.clone(),
            offloaded: case.offloaded.iter().map(layers).collect(),
            placement: case.placement.clone(),
            slots: case.slots,
            granularity: case.granularity,
            streams: case.streams,
            dilation_s: case.dilation_s,
            held_out: case.held_out,
            prediction,
        }
    }

    /// Whether this was predicted of `case` as it is.
    pub fn is_of(&self, case: &Case) -> bool {
        self.prediction.case == case.id && *self == PredictedCase::new(case, self.prediction.clone())
    }
}

/// What was predicted, and from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// Always `gpu-validate/predictions`.
    pub schema: String,
    /// Always 1.
    pub schema_version: u32,
    /// Hash of the profile that the predictions are made from ([`profile_sha256`]).
    pub profile_sha256: String,
    /// Always [`COPY_ORDER`].
    pub copy_order: String,
    /// Where the costs are from, one line each.
    pub notes: Vec<String>,
    /// One per case, in their order.
    pub cases: Vec<PredictedCase>,
}

impl Predictions {
    /// Predicts `cases` from `costs`.
    ///
    /// # Errors
    /// A case whose model `costs` does not know.
    pub fn of(
        cases: &[Case],
        costs: &dyn CostSource,
        profile_sha256: &str,
    ) -> Result<Predictions, PredictionsError> {
        let mut notes = BTreeSet::new();
        let mut predicted = Vec::with_capacity(cases.len());
        for case in cases {
            let cost = costs.step_cost(&case.model, case.granularity)?;
            predicted.push(PredictedCase::new(case, predict(case, &cost)));
            notes.extend(cost.notes);
        }
        Ok(Predictions {
            schema: SCHEMA.to_owned(),
            schema_version: 1,
            profile_sha256: profile_sha256.to_owned(),
            copy_order: COPY_ORDER.to_owned(),
            notes: notes.into_iter().collect(),
            cases: predicted,
        })
    }

    /// What was predicted of `case`; `None` if it was not, or if the case is not the one that was predicted.
    pub fn of_case(&self, case: &Case) -> Option<&Prediction> {
        self.cases.iter().find(|predicted| predicted.is_of(case)).map(|predicted| &predicted.prediction)
    }

    /// The bytes of the file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("Invariant: predictions are plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Writes `predictions.json` and `predictions.sha256` into the existing folder `dir`, and returns once both are on
    /// disk.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(self, dir: &Path) -> Result<Written, PredictionsError> {
        let bytes = self.to_json();
        let sha256 = hex_sha256(&bytes);
        write_synced(&dir.join(PREDICTIONS_FILE), &bytes)?;
        write_synced(&dir.join(HASH_FILE), format!("{sha256}  {PREDICTIONS_FILE}\n").as_bytes())?;
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(|source| file_error(dir, source))?;
        let written = Written { path: dir.join(PREDICTIONS_FILE), sha256, predictions: self };
        written.verify()?;
        Ok(written)
    }
}

/// Predictions that are on disk.
#[derive(Clone, Debug)]
pub struct Written {
    path: PathBuf,
    sha256: String,
    predictions: Predictions,
}

impl Written {
    /// Hash of the file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What is in it.
    pub fn predictions(&self) -> &Predictions {
        &self.predictions
    }

    /// Reads the file again: it must be what was written.
    ///
    /// # Errors
    /// It is gone, or another.
    pub fn verify(&self) -> Result<(), PredictionsError> {
        let bytes = fs::read(&self.path).map_err(|source| file_error(&self.path, source))?;
        let found = hex_sha256(&bytes);
        if found == self.sha256 {
            return Ok(());
        }
        Err(PredictionsError::Changed { path: self.path.clone(), found, expected: self.sha256.clone() })
    }
}

/// Hash of what a profile says of the hardware: of its pretty JSON with a newline at the end, without what a validation
/// adds later: its rows, the reasons for their nulls, and the device's states meanwhile.
pub fn profile_sha256(profile: &HardwareProfile) -> String {
    let mut profile = HardwareProfile { validation: None, ..profile.clone() };
    profile.missing.retain(|path, _| path != "validation" && !path.starts_with("validation."));
    profile.device.samples.clear();
    let mut bytes = serde_json::to_vec_pretty(&profile).expect("Invariant: profiles are plain data");
    bytes.push(b'\n');
    hex_sha256(&bytes)
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), PredictionsError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: io::Error) -> PredictionsError {
    PredictionsError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::costs::ProfileCosts;
    use crate::validation::placements::Rule;
    use crate::validation::testing;

    fn some_predictions() -> (Vec<Case>, Predictions) {
        let model = testing::model();
        let profile = testing::profile(&model);
        let cases: Vec<Case> = [Rule::None, Rule::Every(2), Rule::Mixed]
            .into_iter()
            .map(|rule| testing::case(&model, &[800, 160, 333], rule, 2))
            .collect();
        let costs = ProfileCosts { profile: &profile };
        let predictions = Predictions::of(&cases, &costs, &profile_sha256(&profile)).unwrap();
        (cases, predictions)
    }

    #[test]
    fn the_same_profile_and_cases_give_the_same_bytes() {
        assert_eq!(some_predictions().1.to_json(), some_predictions().1.to_json());
    }

    #[test]
    fn a_hash_of_a_profile_ignores_its_validation_and_nothing_else() {
        let profile = testing::profile(&testing::model());
        let mut validated = profile.clone();
        validated.validation = Some(Default::default());
        assert_eq!(profile_sha256(&profile), profile_sha256(&validated));
        validated.device.name.push('!');
        assert_ne!(profile_sha256(&profile), profile_sha256(&validated));
    }

    #[test]
    fn what_was_written_is_read_back_and_its_hash_is_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (cases, predictions) = some_predictions();
        let written = predictions.clone().write(dir.path()).unwrap();
        let text = fs::read(dir.path().join(PREDICTIONS_FILE)).unwrap();
        assert_eq!(serde_json::from_slice::<Predictions>(&text).unwrap(), predictions);
        let hash = fs::read_to_string(dir.path().join(HASH_FILE)).unwrap();
        assert_eq!(hash, format!("{}  predictions.json\n", written.sha256()));
        assert_eq!(written.predictions().of_case(&cases[1]).unwrap().case, cases[1].id);
        written.verify().unwrap();
    }

    #[test]
    fn a_prediction_changed_after_the_fact_is_caught() {
        let dir = tempfile::tempdir().unwrap();
        let written = some_predictions().1.write(dir.path()).unwrap();
        let path = dir.path().join(PREDICTIONS_FILE);
        let tampered = fs::read_to_string(&path).unwrap().replacen("\"rho\": 0.0", "\"rho\": 0.1", 1);
        fs::write(&path, tampered).unwrap();
        let refused = written.verify().unwrap_err();
        assert!(matches!(refused, PredictionsError::Changed { .. }));
        assert!(refused.to_string().contains("written before measuring"), "{refused}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(written.verify(), Err(PredictionsError::File { .. })));
    }

    #[test]
    fn a_case_that_is_not_the_predicted_one_has_no_prediction() {
        let (cases, predictions) = some_predictions();
        let other = Case { slots: 3, ..cases[1].clone() };
        assert_eq!(predictions.of_case(&other), None);
    }
}
