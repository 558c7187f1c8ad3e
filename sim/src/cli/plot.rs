//! `orbitflow plot`: figures from saved results, without simulating.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use super::OrInput;
use crate::plot;
use crate::report::rows::{QuantileRow, Results, SCHEMA_VERSION, TimelineRow};

/// Redraws the figures of saved results, without simulating; prints the files it wrote.
#[derive(clap::Args)]
pub struct Args {
    /// A folder that `orbitflow compare --out DIR` wrote: results.json, quantiles.csv and timeline.csv.
    dir: PathBuf,
    /// Where the figures go; absent: `plots` in DIR.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also write a PNG copy of each figure (in builds with the cargo feature `png`).
    #[arg(long)]
    png: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let saved = load(&args.dir).or_input()?;
    let out = args.out.unwrap_or_else(|| args.dir.join("plots"));
    let drawn = plot::draw_all(&saved.results, &saved.quantiles, &saved.timeline, &out, args.png);
    let files = match drawn {
        // Disks fail; everything else is in what was given.
        Err(error @ (plot::PlotError::Write { .. } | plot::PlotError::Draw { .. })) => {
            return Err(error.into());
        }
        Err(error) => return Err(error).with_context(|| args.dir.display().to_string()).or_input(),
        Ok(files) => files,
    };
    let mut stdout = io::stdout().lock();
    for file in files {
        writeln!(stdout, "{}", file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the figures need of a result folder.
struct Saved {
    results: Results,
    quantiles: Vec<QuantileRow>,
    timeline: Vec<TimelineRow>,
}

fn load(dir: &Path) -> anyhow::Result<Saved> {
    if !dir.is_dir() {
        bail!(
            "{}: no such folder: expected one with results.json\nhint: `orbitflow compare SCENARIO --out DIR` writes it",
            dir.display()
        );
    }
    Ok(Saved {
        results: read_results(&dir.join("results.json"))?,
        quantiles: read_rows(&dir.join("quantiles.csv"))?,
        timeline: read_rows(&dir.join("timeline.csv"))?,
    })
}

fn read_results(path: &Path) -> anyhow::Result<Results> {
    let text = read(path)?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{}: expected JSON", path.display()))?;
    // Another version is named before the field in which it happens to differ.
    match value.get("schema_version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(SCHEMA_VERSION) => {}
        found => bail!(
            "{}: `schema_version` is {}: expected {SCHEMA_VERSION}\nhint: run `orbitflow compare` again with this version",
            path.display(),
            found.map_or("missing".to_owned(), |version| version.to_string()),
        ),
    }
    let mut reader = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut reader)
        .with_context(|| format!("{}: expected the results of `orbitflow compare`", path.display()))
}

fn read_rows<Row: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<Row>> {
    let text = read(path)?;
    csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .collect::<Result<_, _>>()
        .with_context(|| format!("{}: expected the rows of `orbitflow compare`", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| {
        format!("{}: cannot be read (`orbitflow compare SCENARIO --out DIR` writes it)", path.display())
    })
}
