//! Runs scenarios in processes of their own, in which the fake driver is the only one that can be found.

use std::any::type_name_of_val;
use std::collections::BTreeMap;
use std::process::Command;

use gpu_validate::device::Device;
use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::preflight;

use super::libraries;

const CHILD: &str = "FAKE_CUDA_CHILD";

/// What a process is told and which scenario it runs.
#[derive(Clone, Default)]
pub struct Scenario {
    label: String,
    settings: Vec<(&'static str, String)>,
}

/// What became of a process.
pub struct Ended {
    /// Whether the scenario ran to its end.
    pub succeeded: bool,
    /// Everything it said.
    pub said: String,
    /// What the driver counted: calls, launches by kernel, …
    pub counts: BTreeMap<String, u64>,
    /// What was still alive when the context ended, by kind.
    pub left: BTreeMap<String, u64>,
}

/// A scenario; `label` tells it from the others of the same test.
pub fn scenario(label: &str) -> Scenario {
    Scenario { label: label.to_owned(), settings: vec![("FAKE_CUDA_HEAP_INDICES", "1".to_owned())] }
}

impl Scenario {
    /// The order of execution.
    pub fn seed(mut self, seed: u64) -> Self {
        self.label = format!("{}#{seed}", self.label);
        self.set("FAKE_CUDA_SEED", seed)
    }

    /// One more of the driver's settings.
    pub fn set(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.push((name, value.to_string()));
        self
    }

    /// Runs `steps` on a device, in a process of its own. `None` where there is no compiler.
    ///
    /// That process is this same program, told to run the same test: there, the scenario with this label runs and the
    /// process ends; others are passed by.
    pub fn run(&self, steps: impl FnOnce(&mut CudaDevice)) -> Option<Ended> {
        let of = type_name_of_val(&steps);
        let on_device = || {
            let mut device = open();
            steps(&mut device);
        };
        self.run_without_device(on_device, of)
    }

    /// The same where the scenario opens the device itself. `of` is the type's name of a closure of the test.
    pub fn run_without_device(&self, steps: impl FnOnce(), of: &str) -> Option<Ended> {
        if let Some(label) = std::env::var_os(CHILD) {
            if label.to_string_lossy() == self.label {
                steps();
                println!("SCENARIO ENDED");
                std::process::exit(0);
            }
            return None;
        }
        let folder = libraries::folder()?;
        let test = of.trim_end_matches("::{{closure}}");
        let (_, test) = test.split_once("::").expect("a path below the crate");
        let counts = tempfile::NamedTempFile::new().expect("a file for counts");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(CHILD, &self.label).env("LD_LIBRARY_PATH", folder);
        command.env("FAKE_CUDA_COUNTS", counts.path()).env("RUST_BACKTRACE", "0");
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let output = command.output().expect("this program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        let counted = std::fs::read_to_string(counts.path()).unwrap_or_default();
        let (left, counts): (Vec<_>, Vec<_>) = counted.lines().partition(|line| line.starts_with("left "));
        let pair = |text: &str, at: char| {
            let (name, count) = text.rsplit_once(at)?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        Some(Ended {
            succeeded: output.status.success() && said.contains("SCENARIO ENDED"),
            said,
            counts: counts.iter().filter_map(|line| pair(line, ' ')).collect(),
            left: left.iter().flat_map(|line| line.split(' ')).filter_map(|part| pair(part, '=')).collect(),
        })
    }

    /// Runs `steps` and panics unless they succeed and give everything back.
    pub fn succeeds(&self, steps: impl FnOnce(&mut CudaDevice)) -> Option<Ended> {
        let ended = self.run(steps)?;
        assert!(ended.succeeded, "{}:\n{}", self.label, ended.said);
        for kind in ["pinned", "registered", "streams", "events", "graphs"] {
            assert_eq!(
                ended.left.get(kind),
                Some(&0),
                "{kind} left alive by {}:\n{}",
                self.label,
                ended.said
            );
        }
        Some(ended)
    }
}

/// The fake device. Panics on any other: tests must never run on a GPU by accident.
pub fn open() -> CudaDevice {
    let device = try_open().unwrap_or_else(|error| panic!("{error}"));
    assert!(
        device.facts().device.name.starts_with("FAKE CUDA"),
        "{:?} is no fake",
        device.facts().device.name
    );
    device
}

/// The same, with what became of it.
pub fn try_open() -> Result<CudaDevice, gpu_validate::device::DeviceError> {
    let found = preflight::probe();
    if let Some(line) = found.missing_line() {
        panic!("{line}");
    }
    CudaDevice::open(&found, 0)
}
