//! `orbitflow diff`: two saved results side by side, or two sweeps point by point, without simulating.

mod sweeps;
mod text;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;
use serde_json::Number;

use super::{Format, OrInput};
use crate::report::diff::{self, Diff, PolicyDiff, Row, Setting, Side};
use crate::report::{self, rows::Results};
use crate::sweep::{self, Manifest};

/// Two results side by side: what was run differently, and every number of every policy with its difference.
///
/// A and B are folders that `orbitflow compare --out DIR` wrote, or both folders of `orbitflow sweep --out DIR`, joined
/// by the names of their points. `better` and `worse` are of B, and only where a direction is known.
#[derive(clap::Args)]
pub struct Args {
    /// The first folder
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The second folder: differences are B − A
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Every number in the table, also the equal ones; JSON and CSV always have all
    #[arg(long)]
    all: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command. Results that differ are an answer.
///
/// # Errors
/// A folder without results, or a sweep beside a comparison; files of another layout, cut short or malformed.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (a, b) = (read(&args.a).or_input()?, read(&args.b).or_input()?);
    let mut out = BufWriter::new(io::stdout().lock());
    match (a, b) {
        (Saved::Comparison(a), Saved::Comparison(b)) => compare(&args, &a, &b, &mut out)?,
        (Saved::Sweep(a), Saved::Sweep(b)) => sweeps::compare(&args, &a, &b, &mut out)?,
        (a, b) => {
            let mismatch = anyhow::anyhow!(
                "{}: holds {}: expected {}, as {} does",
                args.b.display(),
                b.what(),
                a.what(),
                args.a.display()
            );
            return Err(mismatch).or_input();
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What a folder holds.
enum Saved {
    Comparison(Box<Results>),
    Sweep(Manifest),
}

impl Saved {
    const fn what(&self) -> &'static str {
        match self {
            Saved::Comparison(_) => "the results of one scenario",
            Saved::Sweep(_) => "a sweep",
        }
    }
}

fn read(dir: &Path) -> anyhow::Result<Saved> {
    if !dir.is_dir() {
        bail!(
            "{}: no such folder: expected one written by `orbitflow compare --out` or `orbitflow sweep --out`",
            dir.display()
        );
    }
    if sweep::is_sweep(dir) {
        return Ok(Saved::Sweep(sweep::load(dir)?));
    }
    Ok(Saved::Comparison(Box::new(report::load_results(dir)?)))
}

/// The two folders and what they have in common, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    a: String,
    b: String,
    #[serde(flatten)]
    diff: &'a Diff,
}

fn compare(args: &Args, a: &Results, b: &Results, out: &mut impl Write) -> anyhow::Result<()> {
    let diff = diff::diff(a, b);
    match args.format {
        Format::Table => {
            out.write_all(text::sides(&args.a, Some(a), &args.b, Some(b)).as_bytes())?;
            out.write_all(text::comparison(&diff, args.all)?.as_bytes())?;
        }
        Format::Json => {
            let (a, b) = (args.a.display().to_string(), args.b.display().to_string());
            serde_json::to_writer_pretty(&mut *out, &Shown { a, b, diff: &diff })?;
            writeln!(out)?;
        }
        Format::Csv => {
            let mut rows = csv::Writer::from_writer(out);
            write_rows(&mut rows, "", &diff)?;
            rows.flush()?;
        }
    }
    Ok(())
}

/// A line of CSV. Numbers and texts have columns of their own, so that each column has one type.
#[derive(Serialize)]
struct Line<'a> {
    point: &'a str,
    policy: &'a str,
    side: Option<Side>,
    slo_scale: Option<f64>,
    name: &'a str,
    a: Option<&'a Number>,
    b: Option<&'a Number>,
    difference: Option<&'a Number>,
    verdict: Option<diff::Verdict>,
    a_text: Option<&'a str>,
    b_text: Option<&'a str>,
}

/// As an error of the system, so that a reader that goes away is no failure.
fn write_line<W: Write>(rows: &mut csv::Writer<W>, line: Line<'_>) -> io::Result<()> {
    rows.serialize(line).map_err(io::Error::from)
}

fn write_rows<W: Write>(rows: &mut csv::Writer<W>, point: &str, diff: &Diff) -> io::Result<()> {
    for setting in &diff.settings {
        write_line(rows, text_line(point, "", None, setting))?;
    }
    for policy in &diff.policies {
        for setting in &policy.texts {
            write_line(rows, text_line(point, &policy.key, Some(policy.side), setting))?;
        }
        for row in &policy.rows {
            write_line(rows, number_line(point, policy, row))?;
        }
    }
    Ok(())
}

fn text_line<'a>(point: &'a str, policy: &'a str, side: Option<Side>, setting: &'a Setting) -> Line<'a> {
    let Setting { name, a, b } = setting;
    let (a_text, b_text) = (a.as_deref(), b.as_deref());
    Line { a_text, b_text, ..empty(point, policy, side, name) }
}

fn number_line<'a>(point: &'a str, policy: &'a PolicyDiff, row: &'a Row) -> Line<'a> {
    Line {
        slo_scale: row.slo_scale,
        a: row.a.as_ref(),
        b: row.b.as_ref(),
        difference: row.difference.as_ref(),
        verdict: row.verdict,
        ..empty(point, &policy.key, Some(policy.side), &row.metric)
    }
}

const fn empty<'a>(point: &'a str, policy: &'a str, side: Option<Side>, name: &'a str) -> Line<'a> {
    Line {
        point,
        policy,
        side,
        slo_scale: None,
        name,
        a: None,
        b: None,
        difference: None,
        verdict: None,
        a_text: None,
        b_text: None,
    }
}
