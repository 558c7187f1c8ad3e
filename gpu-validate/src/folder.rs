//! The folder of one run: every file appears whole, by rename, as soon as what it says is known.
//!
//! ```text
//! DIR/profile.json          the hardware profile, at the end
//!     report.md, plots/     for people, at the end
//!     fits.json             every fit's residuals
//!     environment.json      what was there before anything ran
//!     groups/E1.json …      each experiment's rows, as it ends
//!     samples.csv           every timed sample, appended group by group
//!     predictions.json, predictions.sha256   before the first validation step
//! ```
//!
//! Knows nothing about what the files say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::session::SampleRow;

/// Everything a run may leave: what `--force` takes away.
const LEFT_BY_A_RUN: [&str; 9] = [
    "profile.json",
    "fits.json",
    "report.md",
    "environment.json",
    "samples.csv",
    "predictions.json",
    "predictions.sha256",
    "groups",
    "plots",
];

/// Why a folder could not be used or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is something in it.
    #[error(
        "{dir}: holds `{found}` of an earlier run\nhint: choose another `--out`, or replace it with `--force`"
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The first file found.
        found: &'static str,
    },
    /// It could not be written.
    #[error("{path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The folder of one run.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// The folder `dir`, made if it is not there; with `force`, without what an earlier run left in it.
    ///
    /// # Errors
    /// Files of an earlier run without `force`; a folder that cannot be written.
    pub fn create(dir: &Path, force: bool) -> Result<Folder, FolderError> {
        let folder = Folder { dir: dir.to_owned() };
        for name in LEFT_BY_A_RUN {
            let path = dir.join(name);
            if !path.exists() {
                continue;
            }
            if !force {
                return Err(FolderError::InUse { dir: dir.to_owned(), found: name });
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| FolderError::Write { path, source })?;
        }
        folder.make(&dir.join("groups"))?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Writes a file, whole or not at all, and answers where it is. `name` may lead into a folder below.
    ///
    /// # Errors
    /// What the file system said.
    pub fn save(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, FolderError> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            self.make(parent)?;
        }
        let partial = path.with_added_extension("partial");
        let written = File::create(&partial).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        });
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(FolderError::Write { path, source }),
        }
    }

    /// Writes `value` as indented JSON.
    ///
    /// # Errors
    /// What the file system said.
    pub fn save_json(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, FolderError> {
        let mut text = serde_json::to_string_pretty(value).expect("Invariant: results are plain JSON");
        text.push('\n');
        self.save(name, text.as_bytes())
    }

    /// Adds samples to `samples.csv`; the header is written with the first.
    ///
    /// # Errors
    /// What the file system said.
    pub fn append_samples(&self, samples: &[SampleRow]) -> Result<(), FolderError> {
        let path = self.dir.join("samples.csv");
        let failed = |source| FolderError::Write { path: path.clone(), source };
        let new = !path.exists();
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        let mut writer = csv::WriterBuilder::new().has_headers(new).from_writer(file);
        for sample in samples {
            writer.serialize(sample).map_err(|error| failed(io::Error::other(error)))?;
        }
        writer.flush().map_err(failed)
    }

    fn make(&self, dir: &Path) -> Result<(), FolderError> {
        fs::create_dir_all(dir).map_err(|source| FolderError::Write { path: dir.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sample: u32) -> SampleRow {
        SampleRow { experiment: "E1".to_owned(), point: "h2d".to_owned(), sample, seconds: 0.5 }
    }

    #[test]
    fn samples_are_appended_below_one_header() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path(), false).unwrap();
        folder.append_samples(&[sample(0)]).unwrap();
        folder.append_samples(&[sample(1)]).unwrap();
        let text = fs::read_to_string(dir.path().join("samples.csv")).unwrap();
        assert_eq!(text, "experiment,point,sample,seconds\nE1,h2d,0,0.5\nE1,h2d,1,0.5\n");
    }

    #[test]
    fn a_folder_in_use_is_refused_and_force_takes_away_only_what_a_run_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path(), false).unwrap();
        folder.save("profile.json", b"{}").unwrap();
        fs::write(dir.path().join("mine.txt"), "kept").unwrap();
        let error = Folder::create(dir.path(), false).unwrap_err();
        assert!(error.to_string().contains("holds `profile.json` of an earlier run"), "{error}");
        Folder::create(dir.path(), true).unwrap();
        assert!(!dir.path().join("profile.json").exists());
        assert!(dir.path().join("mine.txt").exists());
    }

    #[test]
    fn a_file_appears_whole_and_leaves_no_partial_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path(), false).unwrap();
        let path = folder.save("plots/a.svg", b"<svg/>").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"<svg/>");
        assert_eq!(fs::read_dir(dir.path().join("plots")).unwrap().count(), 1);
    }
}
