//! `gpu-validate kernels --check`: every kernel through the run-time compiler, without a GPU.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::anyhow;

use super::{Failure, Format, OrInput, OrRun};
use crate::kernel_check::{KernelCheckError, check_kernels, default_archs, parse_arch};

/// The kernels: compiles each with NVRTC and lists registers, shared memory and spills. Needs no GPU; exit code 3 without
/// NVRTC, 4 when a kernel spills.
#[derive(clap::Args)]
pub struct Args {
    /// Compile every kernel.
    #[arg(long, required = true)]
    check: bool,
    /// Architectures to compile for, for example `sm_90`. Default: the GPU's, or sm_80 and sm_90.
    #[arg(long, value_delimiter = ',', value_name = "ARCH,…")]
    arch: Vec<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut archs = Vec::new();
    for text in &args.arch {
        let arch = parse_arch(text);
        archs.push(
            arch.ok_or_else(|| anyhow!("--arch: `{text}`: expected an architecture like sm_90"))
                .or_input()?,
        );
    }
    if archs.is_empty() {
        archs = default_archs();
    }
    let check = match check_kernels(&archs) {
        Ok(check) => check,
        Err(KernelCheckError::NoCompiler(missing)) => return Err(Failure::NoGpu(missing)),
        Err(error) => return Err(error).or_run(),
    };
    let text = match args.format {
        Format::Table => check.table(),
        Format::Json => {
            serde_json::to_string_pretty(&check).expect("Invariant: checks are plain JSON") + "\n"
        }
    };
    std::io::stdout().write_all(text.as_bytes()).or_run()?;
    Ok(ExitCode::from(if check.problems.is_empty() { 0 } else { 4 }))
}
