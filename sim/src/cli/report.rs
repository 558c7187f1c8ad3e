//! `orbitflow report`: one HTML page from saved results, without simulating.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::OrInput;
use crate::{html, report};

/// Writes one self-contained HTML page from saved results, without simulating; prints its path.
#[derive(clap::Args)]
pub struct Args {
    /// A folder that `orbitflow compare --out DIR` or `orbitflow run --out DIR` wrote
    dir: PathBuf,
    /// Where the page goes, `-` for stdout; absent: report.html in DIR
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// No results, results of a sweep, files that are cut short or of another run; a page that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    refuse_sweep(&args.dir).or_input()?;
    let saved = report::load(&args.dir).or_input()?;
    let page = html::page(&saved).with_context(|| args.dir.display().to_string()).or_input()?;
    let mut stdout = io::stdout().lock();
    match args.out {
        Some(out) if out == Path::new("-") => stdout.write_all(page.as_bytes())?,
        out => {
            let out = out.unwrap_or_else(|| args.dir.join("report.html"));
            replace(&out, page.as_bytes()).with_context(|| out.display().to_string())?;
            writeln!(stdout, "{}", out.display())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A sweep has no comparison of its own.
fn refuse_sweep(dir: &Path) -> anyhow::Result<()> {
    let is_sweep = dir.join("sweep.json").exists() || dir.join("sweep.csv").exists();
    if is_sweep && !dir.join("results.json").exists() {
        anyhow::bail!(
            "{}: holds a sweep, expected the results of one comparison\n\
             hint: `orbitflow compare GRID --set AXIS=POINT … --out DIR` runs one point of it for `orbitflow report DIR`",
            dir.display()
        );
    }
    Ok(())
}

/// Writes beside `path` and renames: a reader sees the old page or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_added_extension("partial");
    fs::write(&partial, bytes)?;
    fs::rename(&partial, path)
}
