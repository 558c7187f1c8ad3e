//! Reading a trace: from a file, a folder or stdin, plain or gzipped, of a format that is named or recognised.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::error::{Place, Spot, TraceError};
use super::format::Format;
use super::options::ReadOptions;
use super::rows::Rows;
use super::{Trace, azure, jsonl, kv_cache_tester, lengths, mooncake, orbitflow};

/// Reads a trace from `path`; `-` is stdin, a folder holds kv-cache-tester sessions.
///
/// # Errors
/// [`TraceError`], one clear line for whatever is wrong.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Trace, TraceError> {
    let file = path.display().to_string();
    if path.is_dir() {
        return read_folder(path, &file, options);
    }
    read_bytes(&file, load(path, &file)?, options)
}

/// Reads a trace from memory; `file` is its name in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(file: &str, bytes: Vec<u8>, options: &ReadOptions) -> Result<Trace, TraceError> {
    options.check()?;
    let text = decode(file, bytes)?;
    let rows = rows(file, text, options)?;
    rows.into_trace(file, options)
}

fn rows(file: &str, text: String, options: &ReadOptions) -> Result<Rows, TraceError> {
    if text.trim().is_empty() {
        return Err(TraceError::Empty { file: file.into(), detail: ": it is empty".into() });
    }
    let format = match options.format {
        Some(format) => format,
        None => Format::recognise(&text).ok_or_else(|| TraceError::Unrecognised { file: file.into() })?,
    };
    let content = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match format {
        Format::Jsonl => jsonl::read(file, content),
        Format::Orbitflow => orbitflow::read(file, content),
        Format::Azure => azure::read(file, content),
        Format::Mooncake => mooncake::read(file, content, options.seed),
        Format::Lengths => lengths::read(file, content),
        Format::KvCacheTester if content.trim_start().starts_with('{') => {
            kv_cache_tester::read_documents(&[(file.to_owned(), content.to_owned())])
        }
        Format::KvCacheTester => kv_cache_tester::read_table(file, content),
    }
}

/// All `.json` and `.json.gz` files of a folder, in the order of their names.
fn read_folder(path: &Path, file: &str, options: &ReadOptions) -> Result<Trace, TraceError> {
    options.check()?;
    if let Some(format) = options.format.filter(|format| *format != Format::KvCacheTester) {
        return Err(TraceError::Folder { file: file.into(), format });
    }
    let unreadable = |cause| TraceError::Read { file: file.to_owned(), cause };
    let mut paths = fs::read_dir(path)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, io::Error>>()
        .map_err(unreadable)?;
    paths.retain(|path| {
        let name = path.to_string_lossy();
        name.ends_with(".json") || name.ends_with(".json.gz")
    });
    paths.sort();
    let mut documents = Vec::with_capacity(paths.len());
    for path in &paths {
        let name = path.display().to_string();
        documents.push((name.clone(), decode(&name, load(path, &name)?)?));
    }
    if documents.is_empty() {
        let detail = ": expected files named *.json or *.json.gz in the folder".into();
        return Err(TraceError::Empty { file: file.into(), detail });
    }
    kv_cache_tester::read_documents(&documents)?.into_trace(file, options)
}

fn load(path: &Path, file: &str) -> Result<Vec<u8>, TraceError> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    bytes.map_err(|cause| TraceError::Read { file: file.into(), cause })
}

/// Decompresses what starts with the magic number of gzip, whatever it is called.
fn decode(file: &str, bytes: Vec<u8>) -> Result<String, TraceError> {
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes.as_slice())
            .read_to_end(&mut plain)
            .map_err(|cause| TraceError::Gzip { file: file.into(), cause })?;
        plain
    } else {
        bytes
    };
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
        TraceError::NotText { place: Place { file, spot: Spot::Line(line) }.to_string() }
    })
}
