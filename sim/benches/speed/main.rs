//! `make bench`: how fast the simulator is on fixed workloads, how much memory it takes, and how fast its parts are.
//!
//! The workloads are the scenarios of `scenarios/bench`; traces too large to ship are drawn into `out/bench` first.
//! Each runs alone in a process of its own, on one thread ([`workload`]); a number is the best of several runs, as
//! whatever else the machine does only ever adds time. Speeds are of one machine; counts and ratios travel.
#![allow(clippy::disallowed_methods)] // measures wall time: that is what it is for

mod parts;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;

use workload::{Measured, Workload};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(workload) = Workload::from_arguments(&arguments) {
        println!("{}", workload.measure());
        return;
    }
    let folder = root().join("out/bench");
    std::fs::create_dir_all(&folder).expect("the folder of drawn traces can be made");
    let traces = [1_000, 10_000, 100_000].map(|requests| draw_trace(&folder, requests));

    println!("Machine: {}.", machine());
    println!("Best of several runs on one thread; a step is a decode step, a layer-step one layer of it.");
    println!("Memory is the peak resident set (VmHWM) of the process, trace and results included.\n");
    println!("{}", Measured::HEADER);
    let resident = show(&Workload::new("no-offload", "resident", 7));
    let offloading = ["static-2", "heuristic", "orbitflow"].map(|policy| {
        let runs = if policy == "orbitflow" { 2 } else { 5 };
        show(&Workload::new("offload", policy, runs))
    });
    show(&Workload::new("paper-like", "orbitflow", 5));

    println!("\nOffloading on top of no offloading, in wall time per decode step and per token:");
    for measured in &offloading {
        println!(
            "  {:<10} {:6.2} x {:6.2} x",
            measured.policy,
            measured.seconds_per_step() / resident.seconds_per_step(),
            measured.seconds_per_token() / resident.seconds_per_token()
        );
    }

    println!("\nScaling of no-offload:");
    let [_, ten, hundred] = traces;
    let ten = show(&Workload { trace: Some(ten), ..Workload::new("no-offload", "resident", 12) });
    let hundred = show(&Workload { trace: Some(hundred), ..Workload::new("no-offload", "resident", 4) });
    let requests = (hundred.requests - ten.requests) as f64;
    println!(
        "  10 times the requests take {:.2} times as long, and {:.0} bytes of memory for each further one",
        hundred.seconds / ten.seconds,
        (hundred.peak_bytes as f64 - ten.peak_bytes as f64) / requests
    );

    println!("\nPlanner, hard instances of 32 layers (`planner::samples`):");
    [2, 4, 8, 16].into_iter().for_each(parts::planner);
    println!(
        "\nOne decode step of 32 layers, in closed form or by recurrence, and by its event-driven twin:"
    );
    parts::pipeline();
}

fn show(workload: &Workload) -> Measured {
    let measured = workload.measure_in_own_process();
    println!("{}", measured.row(workload));
    measured
}

/// The processor and how many cores of it there are.
fn machine() -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", model.map_or("unknown processor", |(_, name)| name))
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

/// Poisson arrivals, 2 per second; 2,000 prompt and 200 output tokens.
fn draw_trace(folder: &Path, requests: u32) -> PathBuf {
    let file = folder.join(format!("poisson-{requests}.jsonl"));
    let drawn = Command::new(env!("CARGO_BIN_EXE_orbitflow"))
        .args(["trace", "generate", "--arrivals", "poisson:2", "--prompt", "fixed:2000"])
        .args(["--output", "fixed:200", "--seed", "1", "--requests", &requests.to_string(), "--out"])
        .arg(&file)
        .output()
        .expect("orbitflow starts");
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    file
}
