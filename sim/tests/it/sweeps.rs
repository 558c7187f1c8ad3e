//! Sweeps: the same bytes however they were run, what a stopped one leaves, what a merge refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::Command as Checked;
use orbitflow_sim::random::{Stream, sequence, uniform};

/// 12 points of a few milliseconds.
const GRID: &str = r#"
model = "llama-3-8b"
hardware = "engine-fit:a6000"
policies = ["orbitflow", "static-1"]
slo.scale = [1.5, 1]
[trace]
draw = { requests = 8, length_scale = 0.1 }
[axes]
seed = [1, 2, 3]
"trace.load" = [1, 4]
server = [{ name = "small", batch_size = 2 }, { name = "large", batch_size = 4, engine.slots = 3 }]
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        fs::write(folder.path().join("grid.toml"), GRID).expect("a scratch file");
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `orbitflow sweep grid.toml --out OUT ARGS`, outside of any cluster.
    fn sweep(&self, out: &str, args: &[&str]) -> Checked {
        let mut command = Checked::cargo_bin("orbitflow").expect("the program");
        command.current_dir(self.folder.path()).args(["sweep", "grid.toml", "--out", out]).args(args);
        for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"] {
            command.env_remove(name);
        }
        command
    }

    fn merge(&self, args: &[&str]) -> Checked {
        let mut command = Checked::cargo_bin("orbitflow").expect("the program");
        command.current_dir(self.folder.path()).arg("merge").args(args);
        command
    }

    /// Every file below a folder, with its bytes.
    fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        fn visit(dir: &Path, prefix: &str, all: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(dir).expect("a folder") {
                let entry = entry.expect("an entry");
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() {
                    visit(&entry.path(), &format!("{name}/"), all);
                } else {
                    all.insert(name, fs::read(entry.path()).expect("a file"));
                }
            }
        }
        let mut all = BTreeMap::new();
        visit(&self.path(name), "", &mut all);
        all
    }
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<&String> {
    files.keys().collect()
}

fn stderr(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

/// Two folders hold the same files with the same bytes, said by name.
fn assert_same(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(names(one), names(other));
    let differing: Vec<_> =
        one.iter().filter(|(name, bytes)| other[*name] != **bytes).map(|(n, _)| n).collect();
    assert_eq!(differing, Vec::<&String>::new());
}

#[test]
fn one_thread_two_threads_and_three_shards_leave_the_same_bytes() {
    let place = Place::new();
    let table = place.sweep("one", &["--jobs", "1"]).assert().success();
    assert_eq!(String::from_utf8_lossy(&table.get_output().stdout), "points,done,failed\n12,12,0\n");
    place.sweep("two", &["--jobs", "2"]).assert().success();
    let one = place.files("one");
    // Lines and bars against load and server, lines against the SLO scale, each with its CSV.
    assert_eq!(one.len(), 12 + 2 + 5 * 2, "12 points, the list and the table, and the figures");
    assert_same(&one, &place.files("two"));
    for shard in ["2/3", "0/3", "1/3"] {
        place.sweep(&format!("part-{}", &shard[..1]), &["--shard", shard]).assert().success();
    }
    place.merge(&["part-0", "part-1", "part-2", "--out", "merged"]).assert().success();
    assert_same(&one, &place.files("merged"));
    // 12 points, 2 policies, 2 scales, and the header
    let table = String::from_utf8(one["sweep.csv"].clone()).unwrap();
    assert_eq!(table.lines().count(), 1 + 12 * 2 * 2);
    assert!(table.starts_with("point,seed,trace.load,server,policy,slo_scale,slo_s,e2e_pct,"), "{table}");
    assert!(table.contains("\n\"seed=1,trace.load=1,server=small\",1,1,small,orbitflow,1.5,"), "{table}");
}

#[test]
fn shards_may_share_a_folder_and_take_their_part_from_the_cluster() {
    let place = Place::new();
    place.sweep("one", &[]).assert().success();
    let slurm = |task: &str| {
        let mut command = place.sweep("shared", &[]);
        command.env("SLURM_ARRAY_TASK_ID", task).env("SLURM_ARRAY_TASK_MIN", "1");
        command.env("SLURM_ARRAY_TASK_COUNT", "2").env("SLURM_ARRAY_TASK_STEP", "1");
        command
    };
    let said = stderr(&slurm("1").assert().success());
    assert!(said.contains("Slurm says: shard 0/2"), "{said}");
    let gaps = stderr(&place.merge(&["shared"]).assert().code(2));
    assert!(gaps.contains("6 of 12 points are missing") && gaps.contains("run `--shard 1/2`"), "{gaps}");
    slurm("2").assert().success();
    place.merge(&["shared"]).assert().success();
    let (one, shared) = (place.files("one"), place.files("shared"));
    assert_eq!((&one["sweep.csv"], &one["sweep.json"]), (&shared["sweep.csv"], &shared["sweep.json"]));
    let alone = stderr(&place.sweep("x", &[]).env("JOB_COMPLETION_INDEX", "0").assert().code(2));
    assert!(alone.contains("JOB_COMPLETIONS: absent: expected a whole number"), "{alone}");
}

#[test]
fn a_killed_sweep_goes_on_and_leaves_the_bytes_of_an_undisturbed_one() {
    let place = Place::new();
    place.sweep("whole", &[]).assert().success();
    let whole = place.files("whole");
    // Killed as soon as so many points are there, and once more.
    for points in [1, 5] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("orbitflow"))
            .current_dir(place.folder.path())
            .args(["sweep", "grid.toml", "--out", "killed", "--jobs", "1", "--shard", "0/1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        let done = || fs::read_dir(place.path("killed/points")).map_or(0, Iterator::count);
        while done() < points && child.try_wait().expect("a child").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("a child that may have ended");
        child.wait().expect("a child");
    }
    // What a process that was killed while it wrote leaves, and a point cut short by a broken disk.
    let point = place.files("whole").into_keys().find(|name| name.starts_with("points/")).expect("a point");
    fs::write(place.path("killed").join(&point), "{ \"schema_version\": 1,").unwrap();
    let said = stderr(&place.sweep("killed", &[]).assert().success());
    assert!(said.contains("done before"), "{said}");
    assert_same(&whole, &place.files("killed"));
}

#[test]
fn a_point_that_fails_is_named_with_its_reason_and_stops_no_other() {
    let place = Place::new();
    let grid = GRID.replace("seed = [1, 2, 3]", "\"trace.step_time\" = [\"1 ms\", \"1 h\"]\n");
    // 1 h per step of arrivals: the last one comes after 213 days.
    let grid = grid.replace("\"trace.load\" = [1, 4]", "\"trace.load\" = [0.001]");
    fs::write(place.path("grid.toml"), grid).unwrap();
    let failed = place.sweep("out", &[]).assert().code(1);
    let said = stderr(&failed);
    assert!(said.contains("trace.step_time=1 h,trace.load=0.001,server=small: "), "{said}");
    assert!(said.contains("2 of 4 points failed"), "{said}");
    assert_eq!(String::from_utf8_lossy(&failed.get_output().stdout), "points,done,failed\n4,2,2\n");
    let table = String::from_utf8(place.files("out")["sweep.csv"].clone()).unwrap();
    assert_eq!(table.lines().count(), 1 + 2 * 2 * 2);
}

/// kill -9 at ten moments of a sweep, each drawn uniformly from how long the whole of it takes: whatever it had done,
/// the next run goes on with, and the final files are those of an undisturbed sweep.
#[test]
#[expect(clippy::disallowed_methods, reason = "the moments are of the wall clock; what is compared is not")]
fn ten_kills_at_random_moments_leave_the_bytes_of_an_undisturbed_sweep() {
    let place = Place::new();
    let started = std::time::Instant::now();
    place.sweep("whole", &["--jobs", "2"]).assert().success();
    let whole_takes = started.elapsed();
    let whole = place.files("whole");
    let mut cut_short = 0;
    for seed in 1..=10 {
        let moment = whole_takes.mul_f64(uniform(&mut sequence(seed, Stream::Arrivals)));
        let out = format!("killed-{seed}");
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("orbitflow"))
            .current_dir(place.folder.path())
            .args(["sweep", "grid.toml", "--out", &out, "--jobs", "2", "--shard", "0/1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        std::thread::sleep(moment);
        // On Unix this is SIGKILL: nothing of the program runs after it.
        child.kill().expect("a child that may have ended");
        child.wait().expect("a child");
        // What stands under its name is complete: as the undisturbed sweep has it, or not there.
        if place.path(&out).exists() {
            let left = place.files(&out);
            let complete = left.iter().filter(|(name, _)| !name.ends_with(".tmp"));
            let points = complete.clone().filter(|(name, _)| name.starts_with("points/")).count();
            complete.for_each(|(name, bytes)| assert!(whole[name] == *bytes, "seed {seed}: {name}"));
            cut_short += u32::from(points < 12);
        } else {
            cut_short += 1;
        }
        let said = stderr(&place.sweep(&out, &["--jobs", "1"]).assert().success());
        assert!(said.contains("12 points"), "{said}");
        assert_same(&whole, &place.files(&out));
    }
    assert!(cut_short > 0, "every kill came after the end");
}

#[test]
fn a_sweep_that_goes_on_tries_only_the_failed_points_again() {
    let place = Place::new();
    let line = "{\"arrival_s\": 0, \"prompt_tokens\": 100, \"output_tokens\": 4}\n";
    fs::write(place.path("here.jsonl"), line).unwrap();
    let grid = "model = \"llama-3-8b\"\nhardware = \"engine-fit:a6000\"\nbatch_size = 2\ngpu_kv_blocks = 60\n\
                policies = [\"static-1\"]\nslo.scale = [1]\n[axes]\n\"trace.file\" = [\"here.jsonl\", \"later.jsonl\"]\nseed = [1, 2]\n";
    fs::write(place.path("grid.toml"), grid).unwrap();
    let first = place.sweep("out", &[]).assert().code(1);
    let said = stderr(&first);
    // Both points of the missing trace, by name and with its path; the other two are done.
    for seed in [1, 2] {
        let point = format!("trace.file=later.jsonl,seed={seed}: grid.toml:8: trace.file: ");
        assert!(said.contains(&point) && said.contains("cannot read trace `later.jsonl`"), "{said}");
    }
    assert!(said.contains("2 of 4 points failed"), "{said}");
    assert_eq!(String::from_utf8_lossy(&first.get_output().stdout), "points,done,failed\n4,2,2\n");
    let written = |name: &str| fs::metadata(place.path("out").join(name)).unwrap().modified().unwrap();
    let before = place.files("out");
    let times: Vec<_> = before
        .keys()
        .filter(|name| name.starts_with("points/"))
        .map(|name| (name.clone(), written(name)))
        .collect();
    assert_eq!(times.len(), 2);
    fs::write(place.path("later.jsonl"), line.replace("100", "200")).unwrap();
    let said = stderr(&place.sweep("out", &[]).assert().success());
    assert!(said.contains("4 points, 2 of them done before"), "{said}");
    times.iter().for_each(|(name, time)| assert_eq!(written(name), *time, "{name} was not written again"));
    place.sweep("undisturbed", &[]).assert().success();
    assert_same(&place.files("undisturbed"), &place.files("out"));
}

#[test]
fn a_merge_refuses_gaps_other_sweeps_and_contradictions() {
    let place = Place::new();
    place.sweep("a", &["--shard", "0/2"]).assert().success();
    place.sweep("b", &["--shard", "1/2"]).assert().success();
    let said = |args: &[&str]| stderr(&place.merge(args).assert().code(2));
    let gaps = said(&["a", "--out", "m"]);
    assert!(gaps.contains("6 of 12 points are missing, the first is number 1"), "{gaps}");
    fs::create_dir(place.path("empty")).unwrap();
    assert!(said(&["empty"]).contains("no sweep.json and no shard-K-of-N.json"));
    // Another sweep: one axis less.
    place.sweep("other", &["--shard", "1/2", "--set", "seed=1"]).assert().success();
    assert!(said(&["a", "other", "--out", "m"]).contains("is not of the same sweep or version as"));
    // Another version.
    let list = place.path("b/shard-1-of-2.json");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, text.replace(env!("CARGO_PKG_VERSION"), "0.0.1")).unwrap();
    assert!(said(&["a", "b", "--out", "m"]).contains("is not of the same sweep or version as"));
    // A point of another digest in a second list of the same part.
    let digest = text.split("\"digest\": \"").nth(1).expect("a digest")[..64].to_owned();
    fs::write(&list, &text).unwrap();
    place.sweep("c", &["--shard", "1/2"]).assert().success();
    fs::write(place.path("c/shard-1-of-2.json"), text.replace(&digest, &"0".repeat(64))).unwrap();
    let contradiction = said(&["a", "b", "c", "--out", "m"]);
    assert!(contradiction.contains("contradicts another list of this sweep"), "{contradiction}");
    // A truncated list.
    fs::write(&list, &text[..text.len() / 2]).unwrap();
    assert!(said(&["a", "b", "--out", "m"]).contains("b/shard-1-of-2.json: "));
    assert!(!place.path("m/sweep.json").exists(), "nothing is written before all is well");
}

#[test]
fn a_merge_refuses_two_results_of_one_point_in_any_order_and_leaves_nothing() {
    let place = Place::new();
    for shard in ["0/2", "1/2"] {
        place.sweep(&shard[..1], &["--shard", shard]).assert().success();
    }
    fs::create_dir_all(place.path("copy/points")).expect("a folder");
    for (name, bytes) in place.files("1") {
        fs::write(place.path("copy").join(name), bytes).expect("a copy");
    }
    place.merge(&["0", "1", "copy", "--out", "whole"]).assert().success();
    let points = fs::read_dir(place.path("copy/points")).expect("a folder");
    let point = points.map(|entry| entry.expect("an entry").path()).min().expect("a point");
    let text = fs::read_to_string(&point).expect("a point").replace("\"makespan_s\": ", "\"makespan_s\": 1");
    fs::write(&point, text).expect("it is changed");
    for order in [["0", "1", "copy"], ["copy", "0", "1"]] {
        let refused = place.merge(&[&order[..], &["--out", "none"]].concat()).assert().code(2);
        assert!(stderr(&refused).contains(" differ"), "{}", stderr(&refused));
        assert!(!place.path("none").exists());
    }
}

#[test]
fn a_folder_holds_one_comparison_or_one_sweep_and_says_when_a_sweep_is_not_over() {
    let place = Place::new();
    let orbitflow = |args: &[&str]| {
        let mut command = Checked::cargo_bin("orbitflow").expect("the program");
        command.current_dir(place.path("")).args(args).assert()
    };
    place.sweep("part", &["--shard", "0/2"]).assert().success();
    let said = stderr(&orbitflow(&["plot", "part"]).code(2));
    assert!(said.starts_with("error: part: this sweep is not over") && said.contains("hint: "), "{said}");
    place.sweep("sweep", &[]).assert().success();
    let one = ["--set", "seed=1", "--set", "trace.load=1", "--set", "server=small", "--quiet"];
    let compare = |out: &str, force: &[&str]| {
        orbitflow(&[&["compare", "grid.toml", "--out", out][..], &one, force].concat())
    };
    for force in [&[][..], &["--force"]] {
        let said = stderr(&compare("sweep", force).code(2));
        assert!(said.contains("sweep: holds a sweep: expected a folder for one comparison"), "{said}");
    }
    compare("compared", &[]).success();
    let said = stderr(&place.sweep("compared", &[]).assert().code(2));
    assert!(said.contains("compared: holds the results of one comparison"), "{said}");
    fs::write(place.path("compared/states.csv"), "policy,id,state,start_s,end_s\n").expect("it is emptied");
    let said = stderr(&orbitflow(&["plot", "compared"]).code(2));
    assert!(said.contains("compared/states.csv: no rows, expected the states"), "{said}");
}

#[test]
fn results_do_not_hang_on_where_a_sweep_was_started_from() {
    let place = Place::new();
    place.sweep("here", &[]).assert().success();
    let grid = place.path("grid.toml");
    let mut command = Checked::cargo_bin("orbitflow").expect("the program");
    let there = place.path("there");
    command.args(["sweep", grid.to_str().expect("a name"), "--out", there.to_str().expect("a name")]);
    command.env_remove("SLURM_ARRAY_TASK_ID").env_remove("JOB_COMPLETION_INDEX").assert().success();
    assert_same(&place.files("here"), &place.files("there"));
}

#[test]
fn another_sweep_is_replaced_only_by_force_which_keeps_equal_points() {
    let place = Place::new();
    place.sweep("out", &[]).assert().success();
    let refused = stderr(&place.sweep("out", &["--set", "seed=1"]).assert().code(2));
    assert!(refused.contains("sweep.json: is of another sweep or version"), "{refused}");
    let forced = stderr(&place.sweep("out", &["--set", "seed=1", "--force"]).assert().success());
    assert!(forced.contains("4 points, 4 of them done before"), "{forced}");
}

#[test]
fn a_grid_is_refused_where_one_scenario_is_expected_and_checked_point_by_point() {
    let place = Place::new();
    let orbitflow = |args: &[&str]| {
        let mut command = Checked::cargo_bin("orbitflow").expect("the program");
        command.current_dir(place.folder.path()).args(args);
        command
    };
    let refused = stderr(&orbitflow(&["compare", "grid.toml"]).assert().code(2));
    assert!(
        refused.contains("grid.toml: axes: seed, trace.load, server: expected one scenario"),
        "{refused}"
    );
    assert!(refused.contains("--set seed=1 --set trace.load=1 --set server=small"), "{refused}");
    orbitflow(&["compare", "grid.toml", "--set", "seed=1", "--set", "trace.load=1", "--set", "server=small"])
        .assert()
        .success();
    let checked =
        orbitflow(&["check", "grid.toml", "--set", "seed=1", "--set", "trace.load=4", "--format", "csv"])
            .assert()
            .success();
    let table = String::from_utf8_lossy(&checked.get_output().stdout).into_owned();
    assert!(table.starts_with("point,policy,slo_scale,"), "{table}");
    // orbitflow at 2 scales and static-1 once, at 2 points
    assert_eq!(table.lines().count(), 1 + 2 * 3, "{table}");
}
