//! The trace file: one part for each policy, written at the same time, joined and moved into place at the end.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::Events;

/// Why a trace file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PerfettoError {
    /// It cannot be what was asked for.
    #[error("--perfetto: {path:?}: expected the name of a file, in a folder that is there: {problem}")]
    BadPath {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system refused.
    #[error("{path}: cannot be written: {cause}")]
    Io {
        /// On what.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// The events of one policy on their way to the file.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    /// To be written to.
    pub events: Events<BufWriter<File>>,
}

/// A trace file in the making. Dropped without [`TraceFile::finish`], it leaves what was there.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    staging: TempDir,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Trace events.
    pub events: u64,
    /// Bytes of JSON, before compression.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl TraceFile {
    /// A file that will be at `path`, compressed if its name ends in `.gz`. Parts stand beside it until then.
    ///
    /// # Errors
    /// No name, a directory, or a folder that is not there or cannot be written to.
    pub fn open(path: &Path) -> Result<Self, PerfettoError> {
        let bad = |problem: String| PerfettoError::BadPath { path: path.to_owned(), problem };
        if path == Path::new("-") {
            return Err(bad("stdout has the table".to_owned()));
        }
        if path.file_name().is_none() || path.is_dir() {
            return Err(bad("this is a folder".to_owned()));
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let staging = tempfile::Builder::new().prefix(".tmp-").tempdir_in(folder);
        let staging = staging.map_err(|cause| bad(cause.kind().to_string()))?;
        Ok(TraceFile { path: path.to_owned(), staging })
    }

    /// Where parts stand: to be removed if the program is stopped.
    pub fn staging(&self) -> &Path {
        self.staging.path()
    }

    /// A part. Parts may be written at the same time.
    ///
    /// # Errors
    /// Anything the system refuses.
    pub fn part(&self) -> Result<Part, PerfettoError> {
        let (file, path) = tempfile::Builder::new()
            .prefix("part-")
            .tempfile_in(self.staging.path())
            .and_then(|part| part.keep().map_err(|error| error.error))
            .map_err(self.failed())?;
        Ok(Part { path, events: Events::new(BufWriter::new(file)) })
    }

    /// Joins the parts in this order, and moves the file into place. `about` is what the file says of itself.
    ///
    /// # Errors
    /// What a part could not write; anything the system refuses.
    pub fn finish(
        self,
        about: &serde_json::Value,
        parts: impl IntoIterator<Item = Part>,
    ) -> Result<Written, PerfettoError> {
        let joined = self.staging.path().join("joined");
        let written = self.join(about, parts, &joined).map_err(self.failed())?;
        fs::rename(&joined, &self.path).map_err(self.failed())?;
        Ok(written)
    }

    fn join(
        &self,
        about: &serde_json::Value,
        parts: impl IntoIterator<Item = Part>,
        to: &Path,
    ) -> io::Result<Written> {
        let (mut events, mut texts) = (0, Vec::new());
        for part in parts {
            let (_, count) = part.events.finish()?;
            events += count;
            texts.push(BufReader::new(File::open(&part.path)?));
        }
        let out = BufWriter::new(File::create(to)?);
        let compressed = self.path.extension().is_some_and(|extension| extension == "gz");
        let bytes = if compressed {
            let mut packed = GzEncoder::new(out, Compression::default());
            let bytes = assemble(about, texts, &mut packed)?;
            packed.finish()?.flush()?;
            bytes
        } else {
            let mut out = out;
            let bytes = assemble(about, texts, &mut out)?;
            out.flush()?;
            bytes
        };
        Ok(Written { events, bytes, file_bytes: fs::metadata(to)?.len() })
    }

    fn failed(&self) -> impl Fn(io::Error) -> PerfettoError + use<> {
        let path = self.path.clone();
        move |cause| PerfettoError::Io { path: path.clone(), cause }
    }
}

/// Writes the JSON object whose `traceEvents` are these texts of [`Events`], and answers how many bytes that were.
///
/// # Errors
/// What cannot be read or written.
pub fn assemble<R: Read>(
    about: &serde_json::Value,
    texts: impl IntoIterator<Item = R>,
    out: &mut impl Write,
) -> io::Result<u64> {
    let head = format!("{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[\n");
    out.write_all(head.as_bytes())?;
    let mut bytes = head.len() as u64;
    for (index, mut text) in texts.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",\n")?;
            bytes += 2;
        }
        bytes += io::copy(&mut text, out)?;
    }
    out.write_all(b"\n]}\n")?;
    Ok(bytes + 4)
}
