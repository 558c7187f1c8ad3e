//! Compiles every kernel with NVRTC and reads what the compiler says of registers, shared memory and spills:
//! `gpu-validate kernels --check`. Needs no GPU.
//!
//! Fails on spills and local memory, and on more registers than the launch bounds leave. Knows no device.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::device::DeviceError;
use crate::device::cuda::compiler::Compiler;
use crate::device::cuda::library::{self, Wanted};
use crate::kernels::source::{
    MOST_LOCAL_BYTES, OPTIONS, SOURCES, Source, VERBOSE_OPTION, arch as arch_name, most_registers,
};
use crate::preflight::{Search, probe_nvrtc};

/// What the compiler says of one kernel for one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelReport {
    /// Its name.
    pub kernel: String,
    /// The file it is in.
    pub source: &'static str,
    /// For example `sm_90`.
    pub arch: String,
    /// Registers of a thread.
    pub registers: u32,
    /// The most registers that its launch bounds leave.
    pub most_registers: u32,
    /// Static shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// Local memory of a thread, in bytes.
    pub stack_bytes: u32,
    /// Bytes that a thread stores and loads because registers ran out.
    pub spill_bytes: u32,
}

/// Every kernel for every architecture that was asked for and that this NVRTC knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCheck {
    /// Version of NVRTC, and its file.
    pub nvrtc: String,
    /// One per kernel and architecture.
    pub kernels: Vec<KernelReport>,
    /// Architectures that were asked for and that this NVRTC does not know.
    pub left_out: Vec<String>,
    /// What must not be: each is a failed check.
    pub problems: Vec<String>,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum KernelCheckError {
    /// There is no NVRTC: exit code 3.
    #[error("{0}")]
    NoCompiler(String),
    /// The compiler refused a source, or failed.
    #[error(transparent)]
    Compiler(#[from] DeviceError),
}

/// Architectures to check where none is named: the GPUs' own, or else those of A100 and H100.
pub fn default_archs() -> Vec<(u32, u32)> {
    let answer = library::open(Wanted::Driver, &Search::of_this_machine())
        .and_then(|opened| library::ask_driver(&opened));
    let mut own: Vec<(u32, u32)> =
        answer.map(|answer| answer.gpus.iter().map(|gpu| gpu.arch).collect()).unwrap_or_default();
    own.sort_unstable();
    own.dedup();
    if own.is_empty() { vec![(8, 0), (9, 0)] } else { own }
}

/// `sm_90` and `9.0` are (9, 0); `sm_120` is (12, 0).
pub fn parse_arch(text: &str) -> Option<(u32, u32)> {
    let digits = text.strip_prefix("sm_").unwrap_or(text);
    let (major, minor) = match digits.split_once('.') {
        Some(parts) => parts,
        None => digits.split_at_checked(digits.len().checked_sub(1)?)?,
    };
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Compiles every kernel for each of `archs`.
///
/// # Errors
/// No NVRTC, or a source that does not compile. Spills are no error but a problem of the answer.
pub fn check_kernels(archs: &[(u32, u32)]) -> Result<KernelCheck, KernelCheckError> {
    check_kernels_in(archs, &Search::of_this_machine())
}

/// The same with NVRTC from `search`.
///
/// # Errors
/// As [`check_kernels`].
pub fn check_kernels_in(archs: &[(u32, u32)], search: &Search) -> Result<KernelCheck, KernelCheckError> {
    let found = probe_nvrtc(search);
    if let Some(line) = found.missing_line() {
        return Err(KernelCheckError::NoCompiler(line));
    }
    let compiler = Compiler::open()?;
    let nvrtc = found.table().lines().next().unwrap_or_default().to_owned();
    let mut check = KernelCheck { nvrtc, kernels: Vec::new(), left_out: Vec::new(), problems: Vec::new() };
    let options: Vec<&str> = OPTIONS.iter().copied().chain([VERBOSE_OPTION]).collect();
    for arch in archs {
        if !compiler.supports(*arch) {
            check.left_out.push(arch_name(arch.0, arch.1));
            continue;
        }
        for source in SOURCES {
            let compiled = compiler.compile(source.name, source.text, *arch, &options)?;
            let reports = reports(&source, *arch, &compiled.log);
            check.problems.extend(problems(&source, *arch, &reports));
            check.kernels.extend(reports);
        }
    }
    if check.kernels.is_empty() {
        check.problems.push(format!("this NVRTC knows none of {}", check.left_out.join(", ")));
    }
    Ok(check)
}

/// Reads `ptxas`'s lines: an entry, its stack and spills, then its registers and shared memory.
fn reports(source: &Source, arch: (u32, u32), log: &str) -> Vec<KernelReport> {
    let mut found: BTreeMap<String, KernelReport> = BTreeMap::new();
    let mut entry: Option<KernelReport> = None;
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            entry = Some(KernelReport {
                most_registers: most_registers(&kernel, arch).unwrap_or(0),
                kernel,
                source: source.name,
                arch: arch_name(arch.0, arch.1),
                registers: 0,
                shared_bytes: 0,
                stack_bytes: 0,
                spill_bytes: 0,
            });
        } else if let Some(mut report) = entry.take() {
            if line.contains("bytes stack frame") {
                report.stack_bytes = number_before(line, " bytes stack frame");
                report.spill_bytes =
                    number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
                entry = Some(report);
            } else if line.contains(" registers") {
                report.registers = number_before(line, " registers");
                report.shared_bytes = number_before(line, " bytes smem");
                found.insert(report.kernel.clone(), report);
            } else {
                entry = Some(report);
            }
        }
    }
    source.kernels.iter().filter_map(|kernel| found.remove(*kernel)).collect()
}

/// The number that ends where `word` begins; 0 where the line has no such word.
fn number_before(line: &str, word: &str) -> u32 {
    let Some(end) = line.find(word) else { return 0 };
    let start = line[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    line[start..end].parse().unwrap_or(0)
}

fn problems(source: &Source, arch: (u32, u32), reports: &[KernelReport]) -> Vec<String> {
    let arch = arch_name(arch.0, arch.1);
    let mut problems = Vec::new();
    for kernel in source.kernels {
        match reports.iter().find(|report| report.kernel == *kernel) {
            None => problems.push(format!("{kernel} for {arch}: the compiler's report lacks it")),
            Some(report) => problems.extend(problem_of(report)),
        }
    }
    problems
}

fn problem_of(report: &KernelReport) -> Option<String> {
    let KernelReport { kernel, arch, stack_bytes, spill_bytes, registers, most_registers, .. } = report;
    if *stack_bytes > MOST_LOCAL_BYTES || *spill_bytes > 0 {
        return Some(format!(
            "{kernel} for {arch}: {stack_bytes} bytes of local memory, {spill_bytes} bytes spilled; expected 0 and 0"
        ));
    }
    let counted = (1..=*most_registers).contains(registers);
    (!counted).then(|| format!("{kernel} for {arch}: {registers} registers; expected 1 to {most_registers}"))
}

impl KernelCheck {
    /// A table for people, with a line's end.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{}\n{:<24} {:<7} {:>9} {:>12} {:>11} {:>11}\n",
            self.nvrtc, "kernel", "arch", "registers", "shared bytes", "local bytes", "spill bytes"
        );
        for report in &self.kernels {
            text.push_str(&format!(
                "{:<24} {:<7} {:>9} {:>12} {:>11} {:>11}\n",
                report.kernel,
                report.arch,
                report.registers,
                report.shared_bytes,
                report.stack_bytes,
                report.spill_bytes
            ));
        }
        for arch in &self.left_out {
            text.push_str(&format!("{arch}: this NVRTC does not know it; left out\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "ptxas info    : 0 bytes gmem\n\
        ptxas info    : Compiling entry function 'hold' for 'sm_90'\n\
        ptxas info    : Function properties for hold\n\
        \x20   0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
        ptxas info    : Used 10 registers, used 0 barriers\n\
        ptxas info    : Compiling entry function 'spin' for 'sm_90'\n\
        ptxas info    : Function properties for spin\n\
        \x20   8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
        ptxas info    : Used 255 registers, used 1 barriers, 1024 bytes smem\n";

    #[test]
    fn registers_shared_memory_and_spills_are_read_from_the_log() {
        let reports = reports(&SOURCES[0], (9, 0), LOG);
        let numbers = |report: &KernelReport| {
            (report.registers, report.shared_bytes, report.stack_bytes, report.spill_bytes)
        };
        assert_eq!(reports.iter().map(numbers).collect::<Vec<_>>(), [(10, 0, 0, 0), (255, 1024, 8, 16)]);
    }

    #[test]
    fn a_spill_and_a_kernel_that_is_not_reported_are_problems() {
        let problems = problems(&SOURCES[0], (9, 0), &reports(&SOURCES[0], (9, 0), LOG));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("spin for sm_90: 8 bytes of local memory, 16 bytes spilled"));
        assert!(problems[1].contains("empty for sm_90") && problems[1].contains("lacks it"));
    }

    #[test]
    fn architectures_are_read_in_both_spellings() {
        assert_eq!(parse_arch("sm_90"), Some((9, 0)));
        assert_eq!(parse_arch("8.6"), Some((8, 6)));
        assert_eq!(parse_arch("sm_120"), Some((12, 0)));
        assert_eq!(parse_arch("90a"), None);
        assert_eq!(parse_arch(""), None);
    }

    #[test]
    fn without_nvrtc_nothing_is_checked_and_one_line_says_so() {
        let error = check_kernels_in(&[(9, 0)], &Search::only(Vec::new())).expect_err("there is none");
        assert!(matches!(&error, KernelCheckError::NoCompiler(line) if line.lines().count() == 1), "{error}");
    }

    #[test]
    fn no_kernel_spills() {
        let Some(folder) = std::env::var_os("GPU_VALIDATE_NVRTC_DIR") else {
            eprintln!("SKIPPED no_kernel_spills: GPU_VALIDATE_NVRTC_DIR names no folder with libnvrtc");
            return;
        };
        let archs = [(8, 0), (9, 0), (10, 0)];
        let check =
            check_kernels_in(&archs, &Search::only(vec![folder.into()])).expect("NVRTC compiles them");
        assert_eq!(check.problems, Vec::<String>::new());
        let kernels: usize = SOURCES.iter().map(|source| source.kernels.len()).sum();
        assert_eq!(check.kernels.len(), 3 * kernels);
    }
}
