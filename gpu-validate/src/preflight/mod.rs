//! What this machine has of what a measurement needs, found before anything of CUDA is used (`gpu-measurement.md` §4.5).
//!
//! cudarc panics where a library is missing, so every library is opened here first, and one that lies outside the
//! loader's path is loaded by its full path so that cudarc finds it by name. Needs no rights, changes nothing, measures
//! nothing. It knows no experiment; opening libraries and calling them is `device::cuda::library`'s part.

mod search;

use std::fmt;

use serde::Serialize;

pub use search::Search;

use crate::device::cuda::library::{self, Opened, Wanted};

/// A thing that a measurement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// `libcuda.so.1`.
    DriverLibrary,
    /// `cuInit` succeeds.
    Driver,
    /// At least one GPU.
    Gpu,
    /// Compiles the kernels.
    Nvrtc,
    /// Matrix products.
    Cublas,
    /// Clocks, power, PCIe link; wanted, not needed.
    Nvml,
}

impl Part {
    /// What it is called in messages.
    pub const fn title(self) -> &'static str {
        match self {
            Part::DriverLibrary => "CUDA driver library (libcuda.so.1)",
            Part::Driver => "CUDA driver",
            Part::Gpu => "GPU",
            Part::Nvrtc => "NVRTC (libnvrtc)",
            Part::Cublas => "cuBLAS (libcublas)",
            Part::Nvml => "NVML (libnvidia-ml.so.1)",
        }
    }

    /// Whether nothing can be measured without it.
    pub const fn needed(self) -> bool {
        !matches!(self, Part::Nvml)
    }
}

/// What was found of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// It is there.
    Found {
        /// The file, for a library.
        path: Option<String>,
        /// Its version, or the GPUs' names.
        version: Option<String>,
        /// More to know.
        note: Option<String>,
    },
    /// It is not, or does not work.
    Missing {
        /// Why.
        reason: String,
    },
}

/// One part and what was found of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which part.
    pub part: Part,
    /// Whether nothing can be measured without it.
    pub needed: bool,
    /// What was found.
    #[serde(flatten)]
    pub state: State,
}

/// What is there, what is missing, and where it was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preflight {
    /// Every part, in the order of [`Part`].
    pub findings: Vec<Finding>,
    /// Where libraries were looked for.
    pub searched: Vec<String>,
}

/// Looks for everything on this machine.
pub fn probe() -> Preflight {
    probe_in(&Search::of_this_machine())
}

/// Looks for everything in `search`.
pub fn probe_in(search: &Search) -> Preflight {
    let mut findings = Vec::new();
    let mut found = |part: Part, state: State| findings.push(Finding { part, needed: part.needed(), state });
    let driver = library::open(Wanted::Driver, search);
    match &driver {
        Err(reason) => {
            found(Part::DriverLibrary, State::Missing { reason: reason.clone() });
            found(Part::Driver, missing("there is no driver library to ask"));
            found(Part::Gpu, missing("there is no driver to ask"));
        }
        Ok(opened) => {
            found(Part::DriverLibrary, at(opened, None));
            let (driver, gpu) = ask_driver(opened);
            found(Part::Driver, driver);
            found(Part::Gpu, gpu);
        }
    }
    found(Part::Nvrtc, nvrtc_in(search));
    found(Part::Cublas, versioned(Wanted::Cublas, search, library::cublas_version));
    found(Part::Nvml, versioned(Wanted::Nvml, search, |_| Ok("present".to_owned())));
    Preflight { findings, searched: search.described.clone() }
}

/// Looks for NVRTC alone: all that `kernels --check` needs.
pub fn probe_nvrtc(search: &Search) -> Preflight {
    let finding = Finding { part: Part::Nvrtc, needed: true, state: nvrtc_in(search) };
    Preflight { findings: vec![finding], searched: search.described.clone() }
}

fn nvrtc_in(search: &Search) -> State {
    versioned(Wanted::Nvrtc, search, library::nvrtc_version)
}

fn versioned(wanted: Wanted, search: &Search, version: impl Fn(&Opened) -> Result<String, String>) -> State {
    match library::open(wanted, search) {
        Err(reason) => State::Missing { reason },
        Ok(opened) => match version(&opened) {
            Ok(version) => at(&opened, Some(version)),
            Err(reason) => State::Missing { reason: format!("{}: {reason}", opened.shown()) },
        },
    }
}

fn ask_driver(opened: &Opened) -> (State, State) {
    let answer = match library::ask_driver(opened) {
        Ok(answer) => answer,
        Err(reason) => return (State::Missing { reason }, missing("the driver does not start")),
    };
    let api = format!("CUDA {}.{}", answer.api / 1000, answer.api % 1000 / 10);
    let driver = State::Found { path: None, version: Some(api), note: None };
    let gpu = match answer.gpus.as_slice() {
        [] => missing("the driver counts 0 devices"),
        gpus => {
            let shown: Vec<String> =
                gpus.iter().map(|gpu| format!("{} (sm_{}{})", gpu.name, gpu.arch.0, gpu.arch.1)).collect();
            State::Found { path: None, version: Some(shown.join(", ")), note: None }
        }
    };
    (driver, gpu)
}

fn at(opened: &Opened, version: Option<String>) -> State {
    let note = opened.by_full_path.then(|| "outside the loader's path: loaded by its full path".to_owned());
    State::Found { path: Some(opened.shown()), version, note }
}

fn missing(reason: &str) -> State {
    State::Missing { reason: reason.to_owned() }
}

impl Preflight {
    /// What was found of `part`, if it was looked for.
    pub fn state(&self, part: Part) -> Option<&State> {
        self.findings.iter().find(|finding| finding.part == part).map(|finding| &finding.state)
    }

    /// The one line for exit 3: what is missing of what is needed, and where it was looked for. `None` if a measurement
    /// can begin.
    pub fn missing_line(&self) -> Option<String> {
        let mut gone = self.findings.iter().filter(|finding| finding.needed).filter_map(|finding| {
            let State::Missing { reason } = &finding.state else { return None };
            Some((finding.part, reason))
        });
        let (first, reason) = gone.next()?;
        let others: Vec<&str> =
            gone.filter(|(part, _)| is_library(*part)).map(|(part, _)| part.title()).collect();
        let also =
            if others.is_empty() { String::new() } else { format!("; also missing: {}", others.join(", ")) };
        let what =
            if first == Part::Nvrtc && self.findings.len() == 1 { "cannot compile" } else { "no usable GPU" };
        let mut line = format!("{what}: {}: {reason}{also}", first.title());
        if is_library(first) || !others.is_empty() {
            line.push_str(&format!("; searched {}", self.searched.join(", ")));
        }
        Some(line)
    }

    /// What a report warns of: parts that are wanted and not there.
    pub fn warnings(&self) -> Vec<String> {
        let wanted = self.findings.iter().filter(|finding| !finding.needed);
        wanted
            .filter_map(|finding| match &finding.state {
                State::Missing { reason } => Some(format!(
                    "{} is missing ({reason}): no clocks, power, throttling or link state",
                    finding.part.title()
                )),
                State::Found { .. } => None,
            })
            .collect()
    }
}

fn is_library(part: Part) -> bool {
    matches!(part, Part::DriverLibrary | Part::Nvrtc | Part::Cublas | Part::Nvml)
}

impl Preflight {
    /// The table of `gpu-validate preflight`, with a line's end.
    pub fn table(&self) -> String {
        format!("{self}\n")
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.part.title().len()).max().unwrap_or(0);
        for Finding { part, needed, state } in &self.findings {
            let (word, more) = match state {
                State::Found { path, version, note } => (
                    "found",
                    [version, path, note].into_iter().flatten().cloned().collect::<Vec<_>>().join("; "),
                ),
                State::Missing { reason } if *needed => ("MISSING", reason.clone()),
                State::Missing { reason } => ("missing", format!("{reason} (a warning, no obstacle)")),
            };
            writeln!(f, "{:<width$}  {word:<7}  {more}", part.title())?;
        }
        write!(f, "searched: {}", self.searched.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Preflight {
        probe_in(&Search::only(Vec::new()))
    }

    #[test]
    fn a_machine_without_anything_says_all_of_it_in_one_line() {
        let line = nothing().missing_line().expect("all is missing");
        assert_eq!(line.lines().count(), 1);
        for word in ["no usable GPU", "libcuda.so.1", "libnvrtc", "libcublas", "searched"] {
            assert!(line.contains(word), "{word} in {line}");
        }
        assert!(!line.contains("libnvidia-ml"), "NVML is a warning, no obstacle: {line}");
    }

    #[test]
    fn the_table_names_every_part() {
        let table = nothing().to_string();
        assert_eq!(table.lines().count(), 7); // 6 parts and where they were looked for
        assert_eq!(table.matches("MISSING").count(), 5); // all but NVML are needed
    }

    #[test]
    fn json_has_the_same_findings() {
        let json = serde_json::to_value(nothing()).expect("plain data");
        assert_eq!(json["findings"][0]["part"], "driver-library");
        assert_eq!(json["findings"][0]["state"], "missing");
        assert_eq!(json["findings"][5]["needed"], false);
    }

    #[test]
    fn a_machine_that_lacks_nothing_needed_has_no_line_and_one_warning() {
        let found = |part: Part| Finding {
            part,
            needed: part.needed(),
            state: State::Found { path: None, version: None, note: None },
        };
        let parts = [Part::DriverLibrary, Part::Driver, Part::Gpu, Part::Nvrtc, Part::Cublas];
        let mut findings: Vec<Finding> = parts.map(found).into();
        findings.push(Finding { part: Part::Nvml, needed: false, state: missing("not found") });
        let preflight = Preflight { findings, searched: Vec::new() };
        assert_eq!(preflight.missing_line(), None);
        assert_eq!(preflight.warnings().len(), 1);
    }
}
