//! `orbitflow list`: what there is, one line each.

use std::io::Write;
use std::process::ExitCode;

use super::Format;
use super::table::Table;
use crate::cost::{self, PresetInfo};
use crate::model;
use crate::policy::registry;
use crate::scenario::quantity::show_bytes;
use crate::trace;

/// List what there is, one line each
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of what
    #[arg(value_enum)]
    what: Subject,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Subject {
    /// Policies by key, each with its name in figures and what it does
    Policies,
    /// Models by name; a Hugging Face config.json does as well
    Models,
    /// GPUs of the datasheet table
    Gpus,
    /// Hardware profiles by name; a file that gpu-validate wrote does as well
    Profiles,
    /// Trace formats
    Formats,
}

/// Runs the command.
///
/// # Errors
/// Output that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let table = match args.what {
        Subject::Policies => {
            let mut table = Table::new(["policy", "name in figures", "what it does"]);
            registry::METHODS
                .iter()
                .for_each(|entry| table.push([entry.key.into(), entry.label.into(), entry.about.into()]));
            table
        }
        Subject::Models => models(),
        Subject::Gpus => presets("gpu", cost::gpus()),
        Subject::Profiles => presets("profile", cost::presets()),
        Subject::Formats => {
            lines("format", "what it is", trace::FORMATS.iter().map(|(_, name, about)| (*name, *about)))
        }
    };
    std::io::stdout().write_all(table.render(args.format)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// One line each.
fn lines<'a>(what: &str, about: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) -> Table {
    let mut table = Table::new([what, about]);
    for (name, description) in rows {
        table.push([name.into(), description.into()]);
    }
    table
}

fn presets(what: &str, presets: Vec<PresetInfo>) -> Table {
    let rows = presets.iter().map(|preset| (preset.name.as_str(), preset.description.as_str()));
    lines(what, "description", rows)
}

fn models() -> Table {
    let columns =
        ["model", "layers", "heads", "kv_heads", "head_dim", "params_1e9", "kv_bytes_per_token", "block"];
    let mut table = Table::new(columns);
    for preset in model::PRESETS {
        let spec = model::preset(preset.name).expect("Invariant: every preset has a model");
        table.push([
            preset.name.into(),
            spec.layers.into(),
            spec.heads.into(),
            spec.kv_heads.into(),
            spec.head_dim.into(),
            super::table::Cell::Number(spec.params() as f64 / 1e9, 2),
            spec.kv_bytes_per_token().get().into(),
            show_bytes(spec.block_bytes()).into(),
        ]);
    }
    table
}
