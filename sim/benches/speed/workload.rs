//! One scenario under one policy, timed in a process of its own.
//!
//! Timed is `runner::compare`: the whole simulation with every metric, the event digest, the timeline and the rows of
//! the results, but neither reading the trace nor writing files. The peak of memory is read after the first run, so
//! that it is that of one run.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use orbitflow_sim::runner::{self, Comparison, Options};
use orbitflow_sim::scenario::Scenario;

const CHILD: &str = "--workload";

/// What to run.
pub struct Workload {
    /// File of `scenarios/bench`, without `.toml`.
    pub scenario: String,
    /// One of its policies.
    pub policy: String,
    /// Trace in place of the scenario's.
    pub trace: Option<PathBuf>,
    /// How often.
    pub runs: u32,
}

/// What it came to.
pub struct Measured {
    pub policy: String,
    pub requests: u64,
    pub steps: u64,
    pub layers: u64,
    pub tokens: u64,
    pub plans: u64,
    /// Of the fastest run.
    pub seconds: f64,
    pub peak_bytes: u64,
}

impl Workload {
    pub fn new(scenario: &str, policy: &str, runs: u32) -> Self {
        Workload { scenario: scenario.to_owned(), policy: policy.to_owned(), trace: None, runs }
    }

    /// The workload that this process is to run, if it is to run one.
    pub fn from_arguments(arguments: &[String]) -> Option<Self> {
        let [child, scenario, policy, trace, runs] = arguments else { return None };
        (child == CHILD).then(|| Workload {
            scenario: scenario.clone(),
            policy: policy.clone(),
            trace: (!trace.is_empty()).then(|| PathBuf::from(trace)),
            runs: runs.parse().expect("a number of runs"),
        })
    }

    pub fn measure_in_own_process(&self) -> Measured {
        let output = Command::new(std::env::current_exe().expect("this program has a file"))
            .args([CHILD, &self.scenario, &self.policy])
            .arg(self.trace.clone().unwrap_or_default())
            .arg(self.runs.to_string())
            .output()
            .expect("this program starts again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Measured::parse(&self.policy, &String::from_utf8_lossy(&output.stdout))
    }

    pub fn measure(&self) -> Measured {
        let file = crate::root().join(format!("scenarios/bench/{}.toml", self.scenario));
        let trace = self.trace.iter().map(|trace| format!("trace.file={}", trace.display()));
        let overrides: Vec<String> = trace.collect();
        let scenario = Scenario::load(&file, &overrides).expect("a scenario of this repository is right");
        let mut prepared = runner::prepare(&scenario).expect("a scenario of this repository can be run");
        let mut contenders = std::mem::take(&mut prepared.contenders);
        contenders.retain(|contender| contender.key == self.policy);
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread starts");
        let run = || {
            let start = Instant::now();
            let results = one_thread.install(|| runner::compare(&prepared, &contenders, Options::default()));
            (start.elapsed().as_secs_f64(), results)
        };
        let (first_s, first) = run();
        let peak_bytes = peak_bytes();
        let digest = |results: &Comparison| results.saved.results.policies[0].event_digest.clone();
        let mut seconds = first_s;
        for _ in 1..self.runs {
            let (again_s, again) = run();
            assert_eq!(digest(&first), digest(&again), "the same workload is the same run");
            seconds = seconds.min(again_s);
        }
        let result = &first.saved.results.policies[0];
        Measured {
            policy: self.policy.clone(),
            requests: result.requests.arrived,
            steps: result.steps.decode,
            layers: u64::from(prepared.model.layers),
            tokens: result.tokens.delivered,
            plans: result.plans.by_trigger.values().sum(),
            seconds,
            peak_bytes,
        }
    }
}

impl Measured {
    pub const HEADER: &str = "workload     policy     requests    steps   seconds      steps/s  layer-steps/s \
                              requests/s    plans/s   memory";

    pub fn row(&self, workload: &Workload) -> String {
        let per_second = |count: u64| count as f64 / self.seconds;
        format!(
            "{:<12} {:<10} {:>8} {:>8} {:>9.4} {:>12.0} {:>14.0} {:>10.0} {:>10.0} {:>4.1} MiB",
            workload.scenario,
            self.policy,
            self.requests,
            self.steps,
            self.seconds,
            per_second(self.steps),
            per_second(self.steps * self.layers),
            per_second(self.requests),
            per_second(self.plans),
            self.peak_bytes as f64 / f64::from(1 << 20),
        )
    }

    pub fn seconds_per_step(&self) -> f64 {
        self.seconds / self.steps as f64
    }

    pub fn seconds_per_token(&self) -> f64 {
        self.seconds / self.tokens as f64
    }

    fn parse(policy: &str, line: &str) -> Self {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let count = |place: usize| fields[place].parse().expect("a whole number");
        Measured {
            policy: policy.to_owned(),
            requests: count(0),
            steps: count(1),
            layers: count(2),
            tokens: count(3),
            plans: count(4),
            peak_bytes: count(5),
            seconds: fields[6].parse().expect("a number"),
        }
    }
}

/// The line that a process of its own hands back.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { requests, steps, layers, tokens, plans, peak_bytes, seconds, .. } = self;
        write!(f, "{requests} {steps} {layers} {tokens} {plans} {peak_bytes} {seconds}")
    }
}

/// `VmHWM` of this process; 0 where there is no `/proc` (not on Linux).
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kb| kb.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
