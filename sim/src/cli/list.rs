//! `orbitflow list`: what there is, one line each.

use std::io::Write;
use std::process::ExitCode;

use super::Format;
use super::table::Table;
use crate::model;
use crate::scenario::quantity::show_bytes;

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
    /// Models by name; a Hugging Face config.json does as well
    Models,
}

/// Runs the command.
///
/// # Errors
/// Output that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let table = match args.what {
        Subject::Models => models(),
    };
    std::io::stdout().write_all(table.render(args.format)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
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
