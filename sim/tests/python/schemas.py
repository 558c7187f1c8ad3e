"""Every schema that `orbitflow schema` prints, held against real files and against wrong ones by an independent validator.

    python schemas.py ORBITFLOW SCRATCH     (in the root of the repository)

Right: each scenario and sweep that is shipped, what `init` prints, each line of each shipped trace, each hardware profile,
and the results of each shipped scenario that runs without further files, cut to three requests. Scenarios are TOML: what
is validated is the tree that tomllib reads.
"""
import copy
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from jsonschema import Draft202012Validator

ORBITFLOW, SCRATCH = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
GONE = object()


def orbitflow(*args):
    done = subprocess.run([ORBITFLOW, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return done.stdout


def schema(name):
    text = json.loads(orbitflow("schema", name))
    Draft202012Validator.check_schema(text)
    return Draft202012Validator(text)


SCHEMAS = {name: schema(name) for name in ["scenario", "sweep", "trace", "profile", "results"]}
counts = dict.fromkeys(SCHEMAS, 0)


def right(name, data, place):
    problems = [f"{list(error.absolute_path)}: {error.message[:300]}" for error in SCHEMAS[name].iter_errors(data)]
    assert not problems, f"{place}: refused by the schema of a {name}: {problems[:3]}"
    counts[name] += 1


def wrong(name, data, place):
    assert not SCHEMAS[name].is_valid(data), f"the schema of a {name} takes {place}"
    counts[name] += 1


def changed(data, path, value):
    """A copy of `data` with another value at `path`, or without it."""
    data = copy.deepcopy(data)
    *parents, key = path
    place = data
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place[parent]
    if value is GONE:
        del place[key]
    else:
        place[key] = value
    return data


def wrong_at(name, data, path, *values):
    for value in values:
        wrong(name, changed(data, path, value), f"{path} = {'(absent)' if value is GONE else value!r}")


def scenarios():
    demo = tomllib.loads(Path("scenarios/demo.toml").read_text())
    for file in sorted(Path("scenarios").rglob("*.toml")):
        data = tomllib.loads(file.read_text())
        right("sweep" if "axes" in data else "scenario", data, file)
    right("sweep", demo, "a scenario without axes: a sweep of one point")
    right("scenario", tomllib.loads(orbitflow("init", "traces/demo.json")), "init")
    wrong_at("scenario", demo, ["sede"], 1)
    wrong_at("scenario", demo, ["seed"], -1, 1.5, "1")
    wrong_at("scenario", demo, ["semantics"], "phys")
    for key in ["model", "hardware", "policies", "trace"]:
        wrong_at("scenario", demo, [key], GONE)
    wrong_at("scenario", demo, ["policies"], [], [{"key": "a"}], ["Orbit Flow"], [{"use": "orbitflow", "slots": 2}])
    wrong_at("scenario", demo, ["batch_size"], 0, 1e30)
    wrong_at("scenario", demo, ["link"], 7e9, "7 GB", "-7 GB/s", "fast", "7 GB / s")
    wrong_at("scenario", demo, ["warmup"], "-5 s", "5")
    wrong_at("scenario", demo, ["slo", "scale"], [], [0], [-1], [1, 1])
    wrong_at("scenario", demo, ["slo", "tbt"], 0.07, "70")
    wrong_at("scenario", demo, ["trace", "file"], "", GONE)
    wrong_at("scenario", demo, ["trace", "load"], 0, -1, "1")
    wrong_at("scenario", demo, ["engine", "slots"], 0, 1.5)
    wrong_at("scenario", demo, ["engine", "slotz"], 1)
    wrong_at("scenario", demo, ["planner", "victim"], "nobody")
    wrong("scenario", demo | {"axes": {"seed": [1, 2]}}, "axes")
    for axes in [{"seed": []}, {"seed": 3}, {"seed": [1, 1]}, {"a": [{"seed": 1}]}, {"a": [{"name": "x"}]},
                 {"a": [{"name": "x,y", "seed": 1}]}, {"trace": {"load": 3}}]:
        wrong("sweep", demo | {"axes": axes}, f"axes {axes}")


def traces():
    for file in sorted(Path("traces").glob("*.jsonl")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            right("trace", json.loads(line), f"{file}:{number}")
    line = {"arrival_s": 0.5, "prompt_tokens": 10, "output_tokens": 2}
    right("trace", line | {"session": "a", "slo_s": 0.1, "ttft_slo_s": None}, "null is absent")
    wrong_at("trace", line, ["arrival_s"], GONE, -1, None, "0")
    wrong_at("trace", line, ["prompt_tokens"], 0, 1.5, GONE)
    wrong_at("trace", line, ["output_tokens"], 0, -1)
    wrong_at("trace", line, ["slo_s"], 0, -1, "70 ms")
    wrong_at("trace", line, ["ttft_slo_s"], 0)
    wrong_at("trace", line, ["id"], "", 5)
    wrong_at("trace", line, ["session"], 1.5, -1, True)
    wrong_at("trace", line, ["tokens"], 1)
    wrong_at("trace", line, ["arrival_step"], 1)
    wrong("trace", {"think_s": 1, "prompt_tokens": 1, "output_tokens": 1}, "a later turn of no session")


def profiles():
    for preset in json.loads(orbitflow("list", "profiles", "--format", "json")):
        shown = json.loads(orbitflow("profile", "show", preset["profile"], "--format", "json"))
        right("profile", shown, preset["profile"])
    everything = json.loads(Path("sim/tests/profiles/everything.json").read_text())
    right("profile", everything, "everything.json")
    wrong_at("profile", everything, ["schema"], "another", GONE)
    wrong_at("profile", everything, ["schema_version"], 2, "1", GONE)
    wrong_at("profile", everything, ["kind"], "guess", GONE)
    wrong_at("profile", everything, ["unknown"], 1)
    wrong_at("profile", everything, ["link"], GONE, 5)
    wrong_at("profile", everything, ["device"], GONE)


def results():
    left_out = []
    for file in sorted(Path("scenarios").rglob("*.toml")):
        needs = {"bench": "out/bench", "shared": "../shared/traces", "host-emulation": "out/gpu-host-emulation"}
        if file.parent.name in needs and not Path(needs[file.parent.name]).is_dir():
            left_out.append(str(file))  # traces or a profile that another target makes, or that are not shipped
            continue
        out = SCRATCH / file.with_suffix("").as_posix().replace("/", "-")
        # The first seed of every grid.
        axes = tomllib.loads(file.read_text()).get("axes", {})
        seeds = [f"--set={axis}={axes[axis][0]}" for axis in ["seed"] if axis in axes]
        orbitflow("sweep", file, "--out", out, "--force", "--quiet", "--shard", "0/1", "--set=trace.limit=3", *seeds)
        for point in sorted((out / "points").glob("*.json")):
            right("results", json.loads(point.read_text()), f"{file}: {point.name}")
    print(f"not run for their results: {', '.join(left_out) or 'none'}")
    compared = SCRATCH / "compared"
    orbitflow("compare", "scenarios/demo.toml", "--out", compared, "--force", "--quiet", "--set=trace.limit=3")
    good = json.loads((compared / "results.json").read_text())
    right("results", good, "compare")
    wrong_at("results", good, ["schema_version"], 2, "1", GONE)
    wrong_at("results", good, ["seed"], -1)
    wrong_at("results", good, ["policies"], GONE, {})
    wrong_at("results", good, ["trace", "requests"], 1.5, GONE)
    wrong_at("results", good, ["switches"], {"engine.slots": 2})
    for key in ["key", "event_digest", "requests", "by_slo_scale"]:
        wrong_at("results", good, ["policies", 0, key], 5, GONE)
    wrong_at("results", good, ["policies", 0, "attainment_pct", "e2e"], "95", None, GONE)


scenarios()
traces()
profiles()
results()
print("files and wrong files held against their schema:", ", ".join(f"{name} {n}" for name, n in counts.items()))
