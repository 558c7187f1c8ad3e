//! `orbitflow profile`: what a hardware profile says, and whether it can be used.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;

use super::OrInput;
use crate::cost::profile::{Check, LinkDirection, LinkFit};
use crate::cost::{
    CostModel, CostOptions, HardwareProfile, Verdict, check, kv_capacity_layer_blocks, read, resolve,
};
use crate::model::{self, ModelSpec, TensorParallel};

/// Context tokens over requests at which `show` tells the compute time.
const COMPUTE_POINTS: [(u64, u32); 6] =
    [(1024, 1), (8192, 1), (8192, 4), (32_768, 4), (131_072, 4), (131_072, 16)];
/// Prompt lengths at which `show` tells the prefill time.
const PREFILL_POINTS: [u64; 4] = [1024, 8192, 32_768, 131_072];
/// Context lengths at which `show` tells the time to copy one layer of one request.
const COPY_POINTS: [u64; 3] = [1024, 8192, 32_768];

/// A hardware profile: what it says, what it is good for.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Show(ShowArgs),
    Check(CheckArgs),
}

/// What a profile says: kind, provenance, link, step times for a model, what is missing and why.
#[derive(clap::Args)]
struct ShowArgs {
    /// Preset (`engine-fit:a6000`, `roofline:h100-sxm`), profile file, or `-`.
    profile: String,
    /// Model to tell times for; default: the one the profile was made with, else `llama-3-8b`.
    #[arg(long)]
    model: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: ShowFormat,
}

/// Passes and fails each check, and says what the profile is good for. Exit code 2 when it is not usable.
#[derive(clap::Args)]
struct CheckArgs {
    /// Profile file, preset, or `-`.
    profile: String,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum ShowFormat {
    /// For people.
    #[default]
    Table,
    /// The whole profile, as a file that can be edited and used.
    Json,
}

/// Runs the command.
///
/// # Errors
/// Unknown or malformed profiles, unknown models.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Show(args) => show(&args),
        Command::Check(args) => run_checks(&args),
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let profile = read(&args.profile).or_input()?;
    let text = match args.format {
        ShowFormat::Json => serde_json::to_string_pretty(&profile)? + "\n",
        ShowFormat::Table => {
            let model = model_to_show(&profile, args.model.as_deref())?;
            if args.model.is_some() {
                // Asked for by name, a model that the profile does not know is a wrong input, not an answer.
                resolve(&profile, &model, &CostOptions::default()).or_input()?;
            }
            describe(&args.profile, &profile) + &times(&profile, &model) + &gaps(&profile)
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The model asked for, or the first one the profile was made with that has a preset.
fn model_to_show(profile: &HardwareProfile, asked: Option<&str>) -> anyhow::Result<ModelSpec> {
    if let Some(name) = asked {
        return model::preset(name).ok_or_else(|| unknown_model(name)).or_input();
    }
    let shapes = profile.compute.model_shapes.iter().map(|shape| shape.model.as_str());
    let fitted = profile.compute.affine.iter().map(|fit| fit.model.as_str());
    let known = shapes.chain(fitted).chain(["llama-3-8b"]).find_map(model::preset);
    Ok(known.expect("Invariant: `llama-3-8b` is a preset"))
}

fn unknown_model(name: &str) -> anyhow::Error {
    let names: Vec<&str> = model::PRESETS.iter().map(|preset| preset.name).collect();
    let near = names.iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    let hint = near.map_or(String::new(), |near| format!("\nhint: did you mean `{near}`?"));
    anyhow!("--model {name}: unknown model: expected one of {}{hint}", names.join(", "))
}

fn describe(name: &str, profile: &HardwareProfile) -> String {
    let mut text = format!("{name}\n");
    let mut row = |key: &str, value: String| text += &format!("  {key:<12} {value}\n");
    row("kind", kind(profile));
    row("device", device(profile));
    row("provenance", profile.provenance.summary.clone());
    row("link", format!("host to device {}", direction(&profile.link.h2d)));
    if let Some(d2h) = &profile.link.d2h {
        row("", format!("device to host {}", direction(d2h)));
    }
    for fit in &profile.link.fits {
        row("", link_fit(fit));
    }
    if let Some(intercept) = profile.link.link_intercept_s {
        row("", format!("intercept {} per step that copies, if asked for", time(intercept.get())));
    }
    if let Some(datasheet) = &profile.compute.datasheet {
        let (hbm, flops) = (datasheet.hbm_bytes_per_s.get(), datasheet.bf16_flops_per_s.get());
        row("datasheet", format!("memory {:.0} GB/s, bf16 {:.0} TFLOP/s", hbm / 1e9, flops / 1e12));
    }
    if !profile.checks.is_empty() {
        row("checks", checks(&profile.checks));
    }
    text
}

fn kind(profile: &HardwareProfile) -> String {
    let (key, standing) = (profile.kind.key(), profile.standing());
    if key == standing { key.to_owned() } else { format!("{key}: {standing}") }
}

fn device(profile: &HardwareProfile) -> String {
    let datasheet = profile.compute.datasheet.as_ref().map(|datasheet| datasheet.memory_bytes);
    match profile.device.mem_bytes.or(datasheet) {
        Some(bytes) => format!("{}, {:.1} GiB", profile.device.name, bytes.get() as f64 / f64::from(1 << 30)),
        None => format!("{}, memory size not known", profile.device.name),
    }
}

fn link_fit(fit: &LinkFit) -> String {
    let ways = [fit.granularity.as_str(), fit.line.api.as_deref().unwrap_or_default()];
    let ways: Vec<&str> = ways.into_iter().filter(|way| !way.is_empty()).collect();
    format!("fit of {} ({}) {}", fit.direction.words(), ways.join(", "), direction(&fit.line))
        .replace(" ()", "")
}

fn checks(checks: &[Check]) -> String {
    let count = |holds: fn(&Check) -> bool| checks.iter().filter(|check| holds(check)).count();
    let (passed, failed) = (count(|c| !c.waived && c.pass), count(|c| !c.waived && !c.pass));
    format!("{passed} passed, {failed} failed, {} waived", checks.len() - passed - failed)
}

fn direction(link: &LinkDirection) -> String {
    let mut text = format!("{:.3} GB/s", link.bw_inf_bytes_per_s.get() / 1e9);
    if let (Some(small), Some(knee)) = (link.bw_small_bytes_per_s, link.knee_bytes) {
        text += &format!(" ({:.3} GB/s below {knee} B)", small.get() / 1e9);
    }
    match link.latency_s {
        Some(latency) => text + &format!(", {} per copy", time(latency.get())),
        None => text + ", latency not known",
    }
}

/// Step times for `model`, or why there are none.
fn times(profile: &HardwareProfile, model: &ModelSpec) -> String {
    let mut text = format!("\nwith {}\n", model.name);
    let (cost, notes) = match resolve(profile, model, &CostOptions::default()) {
        Ok(resolved) => resolved,
        Err(error) => return format!("{text}  {}\n", error.to_string().replace('\n', "\n  ")),
    };
    for note in &notes {
        text += &format!("  {note}\n");
    }
    text += &match kv_capacity_layer_blocks(profile, model, TensorParallel::NONE) {
        Ok(blocks) => format!(
            "  KV capacity: {blocks} layer-blocks beside the weights, {} tokens with every layer resident\n",
            blocks / u64::from(model.layers) * 16
        ),
        Err(error) => format!("  {}\n", error.to_string().replace('\n', "\n  ")),
    };
    text + &tables(&cost, model)
}

fn tables(cost: &CostModel, model: &ModelSpec) -> String {
    let mut text = format!("\n  {:>9} {:>9} {:>12} {:>12}\n", "requests", "context", "step", "layer");
    for (context, requests) in COMPUTE_POINTS {
        let step = time(cost.compute_s(context, requests));
        let layer = time(cost.layer_compute_s(context, requests));
        text += &format!("  {requests:>9} {context:>9} {step:>12} {layer:>12}\n");
    }
    text += &format!("\n  {:>9} {:>12} {:>12}\n", "context", "copy a layer", "all layers");
    for context in COPY_POINTS {
        let copy_s = cost.h2d.copy_time_s(model.kv_bytes_per_token_layer() * context);
        let all = time(copy_s * f64::from(model.layers));
        text += &format!("  {context:>9} {:>12} {all:>12}\n", time(copy_s));
    }
    text += &format!("\n  {:>9} {:>12}\n", "prompt", "prefill");
    for prompt in PREFILL_POINTS {
        text += &format!("  {prompt:>9} {:>12}\n", time(cost.prefill.step_s([prompt])));
    }
    text
}

fn gaps(profile: &HardwareProfile) -> String {
    if profile.missing.is_empty() {
        return String::new();
    }
    let mut text = "\nnot known\n".to_owned();
    for (path, reason) in &profile.missing {
        text += &format!("  {path:<28} {reason}\n");
    }
    text
}

/// Four digits of a number of seconds, in the unit that suits it.
fn time(seconds: f64) -> String {
    let (unit, per_second) = match seconds {
        s if s >= 1.0 => ("s", 1.0),
        s if s >= 1e-3 => ("ms", 1e3),
        _ => ("µs", 1e6),
    };
    let value = seconds * per_second;
    let decimals = if value >= 100.0 { 1 } else { 3 };
    format!("{value:.decimals$} {unit}")
}

fn run_checks(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let profile = read(&args.profile).or_input()?;
    let findings = check(&profile);
    let mut text = String::new();
    for finding in &findings {
        let verdict = match finding.verdict {
            Verdict::Pass => "pass",
            Verdict::Warning => "warn",
            Verdict::Failure => "FAIL",
        };
        text += &format!("{verdict}  {:<11} {}\n", finding.check, finding.text);
    }
    let usable = findings.iter().all(|finding| finding.verdict != Verdict::Failure);
    text += "\n";
    if usable {
        text += &uses(&profile);
    } else {
        text += &format!("{}: not usable\n", args.profile);
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::from(if usable { 0 } else { 2 }))
}

/// What the profile is good for, and what not.
fn uses(profile: &HardwareProfile) -> String {
    let compute = &profile.compute;
    let shapes: Vec<&str> = compute.model_shapes.iter().map(|shape| shape.model.as_str()).collect();
    let mut lines = Vec::new();
    let mut line = |good: bool, what: String| {
        lines.push(format!("{:<12} {what}\n", if good { "good for" } else { "not good for" }));
    };
    if !shapes.is_empty() {
        line(true, format!("step times of {} ({})", shapes.join(", "), profile.standing()));
    }
    if let Some(fit) = &compute.affine {
        line(true, format!("step times of models shaped like {} on that serving engine", fit.model));
    }
    line(
        compute.datasheet.is_some(),
        "floors of step times of any model, and prefill by the datasheet's rate".to_owned(),
    );
    let sized = profile.device.mem_bytes.is_some() || compute.datasheet.is_some();
    line(sized, "deriving the GPU's KV capacity".to_owned());
    line(profile.prefill.is_some(), "time to first token by measured prefills".to_owned());
    line(profile.is_measured(), "numbers that may be called measured".to_owned());
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_suits_them() {
        let shown = [46.650e-3, 9.35e-6, 0.25, 12.5, 436.2e-6].map(time);
        assert_eq!(shown, ["46.650 ms", "9.350 µs", "250.0 ms", "12.500 s", "436.2 µs"]);
    }
}
