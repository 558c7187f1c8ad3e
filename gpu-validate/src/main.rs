//! `gpu-validate`: the command line.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use gpu_validate::cli::{self, Failure};

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(code) => code,
        // A reader that went away (`gpu-validate … | head`) is no failure.
        Err(Failure::Run(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(failure @ Failure::NoGpu(_)) => {
            eprintln!("gpu-validate: {failure}");
            ExitCode::from(failure.code())
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == ErrorKind::BrokenPipe)
    })
}
