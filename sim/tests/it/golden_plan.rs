//! The planner against known answers, against itself, and on the command line.
//!
//! `golden/plan.json` comes from an independent brute force. The three solvers are compared on seeded random
//! instances; microlp is slow on hard ones, so those are few and their sizes chosen.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use orbitflow_sim::model::{Distance, Placement};
use orbitflow_sim::planner::instance::InstanceFile;
use orbitflow_sim::planner::milp::{self, Ties};
use orbitflow_sim::planner::{
    Infeasible, Instance, NoPlan, Plan, Scratch, brute_force, forecast, samples, search, slo_load,
};

fn golden() -> Vec<(Instance, serde_json::Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan.json");
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    cases
        .into_iter()
        .map(|case| {
            let file: InstanceFile = serde_json::from_value(case["instance"].clone()).unwrap();
            (Instance::try_from(&file).unwrap(), case["expect"].clone())
        })
        .collect()
}

fn is_close(value: Option<f64>, expected: &serde_json::Value) -> bool {
    match (value, expected.as_f64()) {
        (Some(value), Some(expected)) => (value - expected).abs() <= 1e-9 * expected,
        (None, None) => true,
        _ => false,
    }
}

fn by_search(instance: &Instance) -> Result<Plan, NoPlan> {
    search(instance, &mut Scratch::default())
}

fn by_milp(instance: &Instance, ties: Ties) -> Result<Plan, NoPlan> {
    milp::solve(instance, ties).unwrap()
}

/// A plan without what tells how it was found.
fn answer(result: Result<Plan, NoPlan>) -> Result<Plan, NoPlan> {
    match result {
        Ok(plan) => Ok(Plan { nodes: 0, ..plan }),
        Err(none) => Err(NoPlan { nodes: 0, ..none }),
    }
}

#[test]
fn search_and_milp_give_every_known_answer() {
    let cases = golden();
    assert_eq!(cases.len(), 10);
    for (instance, expect) in &cases {
        for result in [by_search(instance), by_milp(instance, Ties::Any)] {
            assert_eq!(result.is_ok(), expect["feasible"].as_bool().unwrap());
            let (forecast_s, t_max_s) = match &result {
                Ok(plan) => (Some(plan.forecast_s), plan.t_max_s),
                Err(none) => (None, none.t_max_s),
            };
            assert!(is_close(forecast_s, &expect["forecast_s"]), "{forecast_s:?} against {expect}");
            assert!(is_close(t_max_s, &expect["t_max_s"]), "{t_max_s:?} against {expect}");
            // both infeasible cases fit memory
            assert!(result.is_ok() || matches!(result, Err(NoPlan { reason: Infeasible::Slo, .. })));
        }
    }
}

#[test]
fn the_search_equals_brute_force_up_to_five_requests_ties_included() {
    let (mut plans, mut no_memory, mut no_slo, mut ties_with_changes) = (0, 0, 0, 0);
    for (requests, layers, seeds) in [(1, 33, 60), (2, 12, 300), (3, 16, 200), (4, 10, 200), (5, 6, 200)] {
        for seed in 1000..1000 + seeds {
            let instance = samples::small(requests, layers, seed);
            let found = answer(by_search(&instance));
            assert_eq!(found, answer(brute_force::solve(&instance)), "seed {seed}: {instance:#?}");
            match found {
                Ok(plan) => {
                    plans += 1;
                    ties_with_changes += u32::from(plan.changed_layers > 0 && plan.copied_blocks > 0);
                }
                Err(NoPlan { reason: Infeasible::Memory, .. }) => no_memory += 1,
                Err(NoPlan { reason: Infeasible::Slo, .. }) => no_slo += 1,
            }
        }
    }
    println!("{plans} plans ({ties_with_changes} with changes), {no_memory} memory, {no_slo} slo");
    assert!(plans > 300 && no_memory > 50 && no_slo > 50 && ties_with_changes > 100);
}

#[test]
fn the_milp_with_ties_resolved_equals_brute_force() {
    for (requests, layers, seeds) in [(2, 8, 40), (3, 6, 40), (4, 5, 20)] {
        for seed in 0..seeds {
            let instance = samples::small(requests, layers, seed);
            let (milp, brute) = (by_milp(&instance, Ties::Resolved), brute_force::solve(&instance));
            assert_eq!(answer(milp), answer(brute), "seed {seed}: {instance:#?}");
        }
    }
}

#[test]
fn search_and_milp_reach_the_same_time_up_to_sixteen_requests() {
    let mut compared = 0;
    // microlp takes minutes on single instances of other seeds and sizes; these are quick
    let sizes = [(4, 32, 12), (6, 16, 8), (8, 12, 6), (12, 8, 5), (16, 6, 5), (16, 32, 1)];
    for (requests, layers, seeds) in sizes {
        for seed in 0..seeds {
            let instance = samples::hard(requests, layers, seed);
            match (by_search(&instance), by_milp(&instance, Ties::Any)) {
                (Ok(search), Ok(milp)) => {
                    assert_eq!(search.gap, 0.0, "seed {seed}: the search did not prove its time");
                    // both are measured by the same forecast; microlp's own tolerance is what may differ
                    let (search, milp) = (search.forecast_s, milp.forecast_s);
                    assert!((search - milp).abs() <= 1e-6 * milp, "seed {seed}: {search} against {milp}");
                    assert!(search <= milp + 1e-9, "seed {seed}: the search is worse: {search} > {milp}");
                    compared += 1;
                }
                (search, milp) => {
                    assert_eq!(search.unwrap_err().reason, milp.unwrap_err().reason, "seed {seed}");
                }
            }
        }
    }
    assert!(compared >= 15, "{compared}");
}

#[test]
fn law_8_a_plan_is_feasible_and_no_worse_than_any_single_move() {
    let mut scratch = Scratch::default();
    for (requests, layers) in [(3, 32), (8, 32), (16, 32), (6, 80), (40, 32)] {
        for seed in 0..12 {
            let instance = samples::hard(requests, layers, seed);
            let Ok(plan) = search(&instance, &mut scratch) else { continue };
            assert_eq!(memory_used(&instance, &plan.placements), plan.memory_used);
            assert!(plan.memory_used <= instance.capacity);
            assert_eq!(plan.forecast_s, forecast(&instance, &plan.placements));
            let promises = instance.requests.iter().map(|request| (request.slo_s, request.deposit));
            let load = slo_load(promises, instance.window, plan.forecast_s);
            assert!(load <= instance.failure_budget + 1e-9, "{load}");
            assert!(plan.t_max_s.is_none_or(|t_max| plan.forecast_s <= t_max * (1.0 + 1e-9)));
            for request in 0..requests {
                for other in Distance::candidates(layers) {
                    let mut moved = plan.placements.clone();
                    moved[request] = Placement::at(other, layers);
                    let fits = memory_used(&instance, &moved) <= instance.capacity;
                    // within the half nanosecond by which two times are equal
                    assert!(!fits || !plan.optimal || forecast(&instance, &moved) >= plan.forecast_s - 1e-9);
                }
            }
        }
    }
}

/// Σ (L − n)(b + g), and the staging of every request that offloads.
fn memory_used(instance: &Instance, placements: &[Placement]) -> u64 {
    let requests = instance.requests.iter().zip(placements);
    requests
        .map(|(request, placement)| {
            let offloaded = placement.offloaded.len();
            let staging = if offloaded > 0 { instance.staging_slots * request.blocks } else { 0 };
            u64::from(instance.layers - offloaded) * (request.blocks + request.growth_blocks) + staging
        })
        .sum()
}

#[test]
fn a_search_that_hits_its_node_cap_says_so_and_answers_the_same_each_time() {
    let mut capped = 0;
    for seed in 0..40 {
        let instance = Instance { node_cap: 100, ..samples::hard(12, 32, seed) };
        let (first, again) = (by_search(&instance), by_search(&instance));
        assert_eq!(first, again);
        match first {
            Ok(plan) if !plan.optimal => {
                capped += 1;
                assert!((0.0..1.0).contains(&plan.gap));
                assert!(plan.memory_used <= instance.capacity);
            }
            Ok(plan) => assert_eq!(plan.gap, 0.0),
            Err(none) => capped += u32::from(none.node_cap_hit),
        }
    }
    assert!(capped >= 10, "{capped}");
}

#[test]
fn the_intercept_is_paid_only_by_steps_that_copy() {
    let mut instance = golden().remove(0).0;
    instance.intercept_s = 0.005;
    instance.tail_s = 0.001;
    let resident = [Placement::RESIDENT; 4];
    // 32 · 1.43725 ms = 45.992 ms; the tail is in every step
    assert!((forecast(&instance, &resident) - 0.046992).abs() < 1e-12);
    let mut one = resident;
    one[3] = Placement::at(Distance::At(31), 32);
    // 50 blocks fit behind 31 layers easily
    assert!((forecast(&instance, &one) - 0.051992).abs() < 1e-12);
}

#[test]
fn memory_is_infeasible_only_if_no_combination_fits() {
    // Two layers, two slots: the one candidate offloads layer 2 and charges 2 blocks per block, so it frees
    // 1·b − 2·b < 0. Resident, 10 + 4 blocks in two layers, is what takes least: 28.
    let text = r#"{"layers": 2, "layer_compute_s": 0.001, "link": {"blocks_per_s": 1000, "latency_s": 0},
        "capacity_layer_blocks": 28, "failure_budget": 2, "window": 32, "staging_slots": 2,
        "requests": [{"id": "a", "blocks": 10, "slo_s": 1, "deposit": 0},
                     {"id": "b", "blocks": 4, "slo_s": 1, "deposit": 0}]}"#;
    let file: InstanceFile = serde_json::from_str(text).unwrap();
    let mut instance = Instance::try_from(&file).unwrap();
    assert_eq!(by_search(&instance).unwrap().placements, [Placement::RESIDENT; 2]);
    instance.capacity = 27;
    assert_eq!(by_search(&instance).unwrap_err().reason, Infeasible::Memory);
    assert_eq!(by_milp(&instance, Ties::Any).unwrap_err().reason, Infeasible::Memory);
    // growth makes offloading worth it: at g = 30 layer 2 frees 1·(10 + 30) − 20 > 0
    for request in &mut instance.requests {
        request.growth_blocks = 30;
    }
    // resident 2·(40 + 34) = 148; a offloaded frees 20, b frees 34 − 8 = 26
    instance.capacity = 148 - 46;
    assert_eq!(by_search(&instance).unwrap().placements, [Placement::at(Distance::At(1), 2); 2]);
    instance.capacity -= 1;
    assert_eq!(by_search(&instance).unwrap_err().reason, Infeasible::Memory);
}

// The command line.

fn orbitflow() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("orbitflow"))
}

const GOOD: &str = r#"{"layers": 32, "layer_compute_s": 0.00157205, "link": {"blocks_per_s": 106952, "latency_s": 0.0},
    "capacity_layer_blocks": 17824, "failure_budget": 2.0, "window": 32, "requests": [
    {"id": "r0", "blocks": 300, "slo_s": 0.07, "deposit": 0}, {"id": "r1", "blocks": 250, "slo_s": 0.07, "deposit": 0},
    {"id": "r2", "blocks": 200, "slo_s": 0.07, "deposit": 0}, {"id": "r3", "blocks": 150, "slo_s": 0.07, "deposit": 0}]}"#;

/// Exit code, stdout and stderr of `orbitflow plan - ARGS` on `text`.
fn plan(text: &str, args: &[&str]) -> (i32, String, String) {
    let output = orbitflow().args(["plan", "-"]).args(args).write_stdin(text).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn plan_prints_one_answer_whichever_solver_is_asked() {
    let json = |solver| {
        let (code, stdout, stderr) = plan(GOOD, &["--format", "json", "--solver", solver]);
        assert_eq!((code, stderr.as_str()), (0, ""));
        serde_json::from_str::<serde_json::Value>(&stdout).unwrap()
    };
    let (search, milp) = (json("search"), json("milp"));
    for key in ["feasible", "reason", "forecast_s", "t_max_s", "placements", "memory", "slo_load"] {
        assert_eq!(search[key], milp[key], "{key}");
    }
    assert_eq!(search["feasible"], true);
    assert_eq!(search["memory"]["capacity"], 17_824);
    assert_eq!(search["solver"]["optimal"], true);
    // 4 · 10 choices and t; 4 one-distance rows, memory, compute, 23 layers, the SLO budget
    assert_eq!((&milp["solver"]["variables"], &milp["solver"]["constraints"]), (&41.into(), &30.into()));
    let placement = &search["placements"][1];
    let offloaded: Vec<u64> = placement["offloaded_layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer.as_u64().unwrap())
        .collect();
    let distance = placement["distance"].as_u64().unwrap();
    assert_eq!(offloaded, (1..=32).filter(|layer| layer % (distance + 1) == 0).collect::<Vec<_>>());
}

#[test]
fn plan_tells_a_person_what_binds_and_shows_the_program() {
    let (code, table, _) = plan(GOOD, &[]);
    assert_eq!(code, 0);
    for part in ["forecast 104.421927 ms", "17800  of 17824 layer-blocks", "of 2", "layers 1 to 32", "proven"]
    {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let (code, listing, _) = plan(GOOD, &["--solver", "milp", "--show-model"]);
    assert_eq!(code, 0);
    for part in [
        "minimise t",
        "one distance: r0:",
        "memory: freed ≥ needed:",
        "step time: layer 32:",
        "binaries: r0@resident",
    ] {
        assert!(listing.contains(part), "{part} is not in\n{listing}");
    }
    let (code, csv, _) = plan(GOOD, &["--format", "csv"]);
    assert_eq!((code, csv.lines().next()), (0, Some("request,distance,offloaded_layers,forecast_s")));
    assert_eq!(csv.lines().count(), 5);
}

#[test]
fn infeasible_is_an_answer() {
    for (change, to, reason) in [("17824", "14000", "memory"), ("0.07", "0.03", "slo")] {
        let text = GOOD.replace(change, to);
        let (code, stdout, _) = plan(&text, &["--format", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((code, &answer["feasible"], &answer["reason"]), (0, &false.into(), &reason.into()));
        assert_eq!(answer["placements"], serde_json::json!([]));
        let (code, table, _) = plan(&text, &[]);
        assert_eq!(code, 0);
        assert!(table.starts_with("infeasible: "), "{table}");
    }
}

#[test]
fn a_bad_instance_is_refused_in_one_line_with_its_place() {
    let cases: &[(&str, &str, &str)] = &[
        ("\"window\": 32", "\"window\": 0", "stdin: `window`: 0: expected a whole number from 1 to"),
        ("\"layers\": 32", "\"layers\": 129", "`layers`: 129: expected a whole number from 1 to 128"),
        ("0.00157205", "-1", "`layer_compute_s`: -1: expected a number above 0"),
        ("0.00157205", "0", "`layer_compute_s`: 0: expected a number above 0"),
        ("106952", "0", "`link.blocks_per_s`: 0: expected a number from 1 to"),
        ("106952", "1e999", "number out of range"),
        ("106952", "NaN", "`link.blocks_per_s`: expected value at line 1"),
        ("17824", "-5", "`capacity_layer_blocks`: invalid value: integer `-5`, expected a whole number"),
        ("\"blocks\": 250", "\"blocks\": 0", "`requests[1].blocks`: 0: expected a whole number from 1 to"),
        ("\"blocks\": 250", "\"blocks\": 9000000000", "`requests[1].blocks`: 9000000000: expected"),
        ("\"blocks\": 250", "\"blocks\": \"250\"", "`requests[1].blocks`: invalid type: string"),
        ("\"blocks\": 250", "\"bloks\": 250", "hint: did you mean `blocks`?"),
        ("\"window\"", "\"windwo\"", "hint: did you mean `window`?"),
        (
            "\"id\": \"r2\"",
            "\"id\": \"r1\"",
            "`requests[2].id`: \"r1\": expected a name that no other request has",
        ),
        (
            "\"deposit\": 0}]",
            "\"deposit\": 0, \"resident_layers\": [1, 33]}]",
            "`requests[3].resident_layers[1]`: 33: expected layers from 1 to 32",
        ),
        ("\"window\": 32, ", "", "missing field `window`"),
        ("]}", "", "hint: the file seems to be cut off"),
        ("]}", "]} x", "more follows the JSON object"),
        (GOOD, "", "it is empty: expected a JSON object"),
    ];
    for (from, to, expected) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let (code, stdout, stderr) = plan(&text, &[]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{to}: {stderr}");
        assert!(stderr.contains(expected), "{to}: {stderr}");
        // One line, and one more where there is a remedy.
        let only_hints = stderr.lines().skip(1).all(|line| line.starts_with("hint: "));
        assert!(stderr.starts_with("error: stdin: ") && only_hints, "{stderr}");
    }
}

#[test]
fn a_missing_file_and_an_empty_batch_are_refused() {
    let missing: PathBuf = "no/such/instance.json".into();
    let output = orbitflow().arg("plan").arg(&missing).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.starts_with("error: no/such/instance.json: cannot be read: "), "{stderr}");
    let empty = format!("{}[]}}", &GOOD[..GOOD.find("[\n").unwrap()]);
    let (code, _, stderr) = plan(&empty, &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("`requests`: 0 of them: expected 1 to 4096 requests"), "{stderr}");
    let (code, _, stderr) = plan(GOOD, &["--show-model"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("hint: add `--solver milp`"), "{stderr}");
}
