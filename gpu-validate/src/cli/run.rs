//! `gpu-validate run`, `measure` and `validate`: measure, fit, predict, compare, report.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use orbitflow_sim::cost::{HardwareProfile, read};
use orbitflow_sim::model::{self, ModelSpec};

use super::progress::Bar;
use super::{BackendName, Failure, OrInput, OrRun};
use crate::device::cuda::CudaDevice;
use crate::device::host::{HostDevice, HostOptions};
use crate::device::virtual_time::{VirtualTimeDevice, VirtualTruth};
use crate::device::{Backend, Device};
use crate::folder::Folder;
use crate::preflight;
use crate::run::{self, Conclusion, RunInfo};
use crate::scale::Scale;
use crate::session::{Deadline, Session};

/// Link of the host emulation, in bytes per second: slow enough that copies of the small models matter beside a CPU's
/// compute, as they do on a GPU.
const EMULATED_LINK: f64 = 0.2e9;

/// Environment variable with which the whole program runs on a driver of tests, at an emulation's scale.
const ON_A_FAKE: &str = "GPU_VALIDATE_FAKE_CUDA";

/// Measures, fits and validates: the profile, the report and everything they rest on, in one folder.
#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Exit with code 5 unless median |error| ≤ 5 %, P95 ≤ 10 % and regret ≤ 2 %.
    #[arg(long)]
    enforce: bool,
}

/// Measures and fits, without comparing predicted with measured steps.
#[derive(clap::Args)]
pub struct MeasureArgs {
    #[command(flatten)]
    common: Common,
}

/// Predicts decode steps from a profile, measures them, compares.
#[derive(clap::Args)]
pub struct ValidateArgs {
    /// Profile to predict from, as `run` or `measure` writes it.
    #[arg(long)]
    profile: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Exit with code 5 unless median |error| ≤ 5 %, P95 ≤ 10 % and regret ≤ 2 %.
    #[arg(long)]
    enforce: bool,
}

#[derive(clap::Args)]
struct Common {
    /// The short run: fewer points, under a minute.
    #[arg(long)]
    quick: bool,
    /// Folder for everything that is written.
    #[arg(long, value_name = "DIR", default_value = "gpu-validate-out")]
    out: PathBuf,
    /// Replace what an earlier run left in the folder.
    #[arg(long)]
    force: bool,
    /// Where the experiments run.
    #[arg(long, value_enum, default_value_t)]
    backend: BackendName,
    /// Model whose steps are fitted, then the one that no fit sees, then more whose matrices are timed; presets or
    /// Hugging Face `config.json` files. Default on a GPU: llama-3-8b, qwen2.5-14b, llama-3-70b.
    #[arg(long, value_delimiter = ',', value_name = "MODEL,…")]
    models: Vec<String>,
    /// Seed of the random data and of the order of measuring.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Seconds after which no new point begins. Default: 330, quick 60.
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<f64>,
    /// The GPU, by its number.
    #[arg(long, default_value_t = 0)]
    gpu: usize,
}

/// Runs `gpu-validate run`.
pub fn run(args: &RunArgs, quiet: bool) -> Result<ExitCode, Failure> {
    let mut work = Work::new(&args.common)?;
    work.in_session(&args.common, quiet, |session, folder, info| {
        let measured = run::measure(session, folder, info)?;
        run::validate(session, folder, info, measured)
    })
    .and_then(|conclusion| finish(&conclusion, args.enforce))
}

/// Runs `gpu-validate measure`.
pub fn measure(args: &MeasureArgs, quiet: bool) -> Result<ExitCode, Failure> {
    let mut work = Work::new(&args.common)?;
    work.in_session(&args.common, quiet, |session, folder, info| {
        let measured = run::measure(session, folder, info)?;
        run::conclude(session, folder, info, measured)
    })
    .and_then(|conclusion| finish(&conclusion, false))
}

/// Runs `gpu-validate validate`.
pub fn validate(args: &ValidateArgs, quiet: bool) -> Result<ExitCode, Failure> {
    let profile = profile_of_model(&args.profile)?;
    let mut work = Work::new(&args.common)?;
    work.in_session(&args.common, quiet, |session, folder, info| {
        run::validate(session, folder, info, run::Measured::given(profile))
    })
    .and_then(|conclusion| finish(&conclusion, args.enforce))
}

fn profile_of_model(path: &std::path::Path) -> Result<HardwareProfile, Failure> {
    let name =
        path.to_str().ok_or_else(|| anyhow!("{}: expected a path in UTF-8", path.display())).or_input()?;
    let profile = read(name).or_input()?;
    if profile.compute.model_shapes.is_empty() {
        let hint = "expected a profile written by `gpu-validate run` or `measure`";
        return Err(anyhow!("{name}: no `compute.model_shapes`: {hint}")).or_input();
    }
    Ok(profile)
}

/// Checked arguments, and the device.
struct Work {
    device: Box<dyn Device>,
    scale: Scale,
    folder: Folder,
}

impl Work {
    fn new(common: &Common) -> Result<Work, Failure> {
        let backend = Backend::from(common.backend);
        let fake = backend == Backend::Cuda && std::env::var_os(ON_A_FAKE).is_some();
        let mut scale = if fake { Scale::fake_gpu(common.quick) } else { Scale::of(backend, common.quick) };
        if let Some(deadline) = common.deadline {
            if !(deadline.is_finite() && deadline > 0.0) {
                return Err(anyhow!("--deadline: {deadline}: expected a number of seconds above 0"))
                    .or_input();
            }
            scale.deadline_s = deadline;
        }
        if !common.models.is_empty() {
            let models = common.models.iter().map(|name| model_of(name)).collect::<Result<Vec<_>, _>>()?;
            scale.set_models(models).map_err(|message| anyhow!("--models: {message}")).or_input()?;
        }
        // The device before the folder: without a GPU nothing is written.
        let device = device(backend, common.gpu, fake)?;
        let folder = Folder::create(&common.out, common.force).or_input()?;
        Ok(Work { device, scale, folder })
    }

    fn in_session(
        &mut self,
        common: &Common,
        quiet: bool,
        body: impl FnOnce(&mut Session<'_>, &Folder, &RunInfo) -> anyhow::Result<Conclusion>,
    ) -> Result<Conclusion, Failure> {
        let mut bar = Bar::new(quiet);
        let info = RunInfo {
            argv: std::env::args().collect(),
            utc: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            seed: common.seed,
            quick: common.quick,
        };
        let deadline = match self.device.backend() {
            // Its run takes no time of its own; the machine's speed must not decide what is left out.
            Backend::VirtualTime if common.deadline.is_none() => Deadline::never(),
            _ => Deadline::after_s(self.scale.deadline_s),
        };
        let mut session = Session::new(self.device.as_mut(), &self.scale, deadline, common.seed, &mut bar);
        body(&mut session, &self.folder, &info).or_run()
    }
}

fn model_of(name: &str) -> Result<ModelSpec, Failure> {
    if let Some(model) = model::preset(name) {
        return Ok(model);
    }
    let known: Vec<&str> = model::PRESETS.iter().map(|preset| preset.name).collect();
    let path = std::path::Path::new(name);
    if !path.exists() {
        let known = known.join(", ");
        return Err(anyhow!(
            "--models: `{name}`: no such preset or file: expected one of {known}, or a config.json"
        ))
        .or_input();
    }
    let imported = model::read_config(path).context("--models").or_input()?;
    Ok(imported.model)
}

fn device(backend: Backend, gpu: usize, fake: bool) -> Result<Box<dyn Device>, Failure> {
    Ok(match backend {
        Backend::Cuda => {
            let found = preflight::probe();
            if let Some(missing) = found.missing_line() {
                return Err(Failure::NoGpu(missing));
            }
            // A driver too old, a library without a symbol, a GPU that cannot be opened: none of it can be used here.
            let device = CudaDevice::open(&found, gpu).map_err(|error| Failure::NoGpu(error.to_string()))?;
            let name = &device.facts().device.name;
            match (fake, device.backend() == Backend::Cuda) {
                (false, false) => {
                    return Err(Failure::NoGpu(format!(
                        "no usable GPU: `{name}` is a driver of tests; hint: {ON_A_FAKE}=1 runs on it as host emulation"
                    )));
                }
                (true, true) => {
                    let message =
                        format!("{ON_A_FAKE} is set and `{name}` is no driver of tests: expected it unset");
                    return Err(Failure::NoGpu(message));
                }
                _ => Box::new(device),
            }
        }
        Backend::Host => Box::new(
            HostDevice::new(HostOptions { link_bytes_per_s: Some(EMULATED_LINK), ..HostOptions::default() })
                .or_run()?,
        ),
        Backend::VirtualTime => Box::new(VirtualTimeDevice::new(VirtualTruth::small())),
    })
}

/// Says what came out, and with which exit code.
fn finish(conclusion: &Conclusion, enforce: bool) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    for line in &conclusion.lines {
        writeln!(out, "{line}").or_run()?;
    }
    for problem in conclusion.problems(enforce) {
        eprintln!("gpu-validate: {problem}");
    }
    Ok(ExitCode::from(conclusion.exit_code(enforce)))
}
