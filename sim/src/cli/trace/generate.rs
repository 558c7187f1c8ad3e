//! `orbitflow trace generate`.

use std::path::PathBuf;

use super::{WriteFormat, show_notes, write_whole};
use crate::cli::OrInput as _;
use crate::trace::generate::{Clock, PaperRecipe, Recipe, SessionRecipe, generate, generate_paper};
use crate::trace::{ArrivalProcess, LENGTHS, LengthDistribution, PROCESSES, Trace};

/// Draw a trace: the same flags give the same bytes.
///
/// Example: orbitflow trace generate --requests 200 --arrivals poisson:2 --prompt uniform:1000:3000
/// --output lognormal:200:0.5 --seed 1 --out t.jsonl
#[derive(clap::Args)]
pub struct Args {
    /// How many requests (sessions, with --turns); the paper's recipe draws 52 if absent
    #[arg(long, required_unless_present = "recipe")]
    requests: Option<usize>,
    #[arg(long, value_name = "PROCESS", help = format!("How they arrive: {PROCESSES}"))]
    #[arg(required_unless_present = "recipe", conflicts_with = "recipe")]
    arrivals: Option<String>,
    /// Rate of an arrival process that is given by name only: `--arrivals poisson --rate 2`
    #[arg(long, requires = "arrivals", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Coefficient of variation of the gaps: for --arrivals gamma or lognormal by name, and for the recipe
    #[arg(long, allow_negative_numbers = true)]
    cv: Option<f64>,
    /// What rates are per and arrivals are in
    #[arg(long, value_enum, default_value_t, conflicts_with = "recipe")]
    unit: Unit,
    #[arg(long, value_name = "LENGTHS", help = format!("Prompt lengths: {LENGTHS}"))]
    #[arg(required_unless_present = "recipe", conflicts_with = "recipe")]
    prompt: Option<LengthDistribution>,
    /// Output lengths, as --prompt; a ratio is of the prompt or of the total
    #[arg(long, value_name = "LENGTHS", required_unless_present = "recipe", conflicts_with = "recipe")]
    output: Option<LengthDistribution>,
    /// Draw sessions of so many turns; each prompt holds the conversation before it
    #[arg(long, conflicts_with = "recipe")]
    turns: Option<u32>,
    /// Mean think time between turns, in seconds (exponential)
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "turns",
        default_value_t = 10.0,
        allow_negative_numbers = true
    )]
    think_s: f64,
    /// A named recipe: `paper` is that of the OrbitFlow paper's traces
    #[arg(long, value_enum)]
    recipe: Option<RecipeName>,
    /// Recipe: offered concurrency, λ in units of requests / Σ output tokens per step
    #[arg(long, requires = "recipe", default_value_t = 1.0, allow_negative_numbers = true)]
    load: f64,
    /// Recipe: most live requests of the server that the trace is for
    #[arg(long, requires = "recipe", default_value_t = 4)]
    batch_size: u32,
    /// Recipe: factor on every length; the paper's 128k traces have 4
    #[arg(long, requires = "recipe", default_value_t = 1.0, allow_negative_numbers = true)]
    length_scale: f64,
    /// Recipe: weights of prompt and output kinds (S, M, L), for example SS=1,SL=2,LS=1; the others are 0
    #[arg(long, requires = "recipe", value_parser = mix)]
    mix: Option<Mix>,
    /// Seed of all draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Format to write; absent: orbitflow for the recipe, else jsonl
    #[arg(long, value_enum)]
    to: Option<WriteFormat>,
    /// File to write, or `-` for stdout
    #[arg(long, default_value = "-")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Unit {
    /// Requests per second, arrivals in seconds
    #[default]
    Seconds,
    /// Requests per engine step, arrivals in steps
    Steps,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RecipeName {
    /// 52 requests, bins of short, medium and long, lognormal gaps in steps, pool of 0.23 times the peak
    Paper,
}

#[derive(Clone, Copy, Debug)]
struct Mix([[f64; 3]; 3]);

fn mix(text: &str) -> Result<Mix, String> {
    let mut weights = [[0.0; 3]; 3];
    for part in text.split(',') {
        let expected = || format!("`{part}`: expected a pair of S, M and L and its weight, like SL=2");
        let (pair, weight) = part.split_once('=').ok_or_else(expected)?;
        let kinds: Vec<usize> = pair.chars().filter_map(|kind| "SML".find(kind)).collect();
        let (&[prompt, output], true) = (kinds.as_slice(), pair.len() == 2) else { return Err(expected()) };
        weights[prompt][output] = weight.parse().map_err(|_| expected())?;
    }
    Ok(Mix(weights))
}

/// Runs the command. `quiet`: no notes on stderr.
pub fn run(args: Args, quiet: bool) -> anyhow::Result<()> {
    let (trace, pattern) = match args.recipe {
        Some(RecipeName::Paper) => paper(&args)?,
        None => free(&args)?,
    };
    let to = args.to.unwrap_or(match args.recipe {
        Some(_) => WriteFormat::Orbitflow,
        None => WriteFormat::Jsonl,
    });
    let text = to.write(&trace, &pattern)?;
    if !quiet {
        show_notes(&trace, to);
    }
    write_whole(&args.out, &text)
}

fn paper(args: &Args) -> anyhow::Result<(Trace, String)> {
    let default = PaperRecipe::default();
    let recipe = PaperRecipe {
        requests: args.requests.unwrap_or(default.requests),
        load: args.load,
        cv: args.cv.unwrap_or(default.cv),
        batch_size: args.batch_size,
        mix: args.mix.map_or(default.mix, |Mix(weights)| weights),
        length_scale: args.length_scale,
        seed: args.seed,
    };
    generate_paper(&recipe).or_input()
}

fn free(args: &Args) -> anyhow::Result<(Trace, String)> {
    const REQUIRED: &str = "Invariant: clap requires it without a recipe";
    let mut process = args.arrivals.clone().expect(REQUIRED);
    for number in [args.rate, args.cv].into_iter().flatten() {
        process.push_str(&format!(":{number}"));
    }
    let arrivals: ArrivalProcess = process.parse().or_input()?;
    let recipe = Recipe {
        requests: args.requests.expect(REQUIRED),
        arrivals,
        clock: match args.unit {
            Unit::Seconds => Clock::Seconds,
            Unit::Steps => Clock::Steps,
        },
        prompt: args.prompt.clone().expect(REQUIRED),
        output: args.output.clone().expect(REQUIRED),
        sessions: args.turns.map(|turns| SessionRecipe { turns, mean_think_s: args.think_s }),
        seed: args.seed,
    };
    Ok((generate(&recipe).or_input()?, arrivals.to_string()))
}
