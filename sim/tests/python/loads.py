"""Every CSV that orbitflow writes, read by pandas and DuckDB without options: the types are right, nothing is lost.

    python loads.py ORBITFLOW SCRATCH     (in the root of the repository)

The trace has ids with commas, quotes and line breaks, a policy has a label with quotes, one method delivers nothing and
one has no forecasts, so columns with gaps are among them.
"""
import csv
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd

ORBITFLOW, SCRATCH = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
SCRATCH.mkdir(parents=True, exist_ok=True)
ODD_IDS = ["a, b", 'say "hi"', "two\nlines", "semi;colon", "tab\there", "'", "ü", "plain"]
SCENARIO = """
model = "llama-3-8b"
hardware = "engine-fit:a6000"
batch_size = 4
gpu_kv_blocks = 60
policies = ["static-1", { use = "orbitflow", label = 'Orbit, "flow"' }]
trace.file = "odd.jsonl"
slo.scale = [1.5, 1]
"""
# Columns that are text, and those that may be empty; all others are numbers in every row.
TEXT = {"policy", "id", "state", "metric", "kind", "trigger", "point", "server", "event_digest", "side", "name", "verdict",
        "a_text", "b_text", "label", "answer"}
EMPTY = {"admitted_s", "first_token_s", "finish_s", "ttft_s", "tpot_step_s", "tpot_gap_s", "forecast_s", "trigger",
         "playback_stall_pct", "ttft_p50_s", "tbt_step_p95_s", "tbt_gap_p95_s", "e2e_p95_s", "requests_per_min",
         "forecast_error_median_pct", "forecast_error_p95_pct", "value", "missed_at", "attained_pct", "policy", "side",
         "slo_scale", "a", "b", "difference", "verdict", "a_text", "b_text", "point",
         "load", "missed_at_load", "met_again_at"}


def orbitflow(*args):
    command = [ORBITFLOW, *args, "--quiet"]
    done = subprocess.run(command, cwd=SCRATCH, capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return done.stdout


def write_inputs():
    with open(SCRATCH / "odd.jsonl", "w", encoding="utf-8") as trace:
        for place, name in enumerate(ODD_IDS):
            # The last prompt exceeds the pool of every method: rejected, so it has no times at all.
            prompt = 100 + 37 * place if place < len(ODD_IDS) - 1 else 100_000
            row = {"id": name, "arrival_s": place * 0.5, "prompt_tokens": prompt, "output_tokens": 20 + place}
            trace.write(json.dumps(row) + "\n")
    (SCRATCH / "odd.toml").write_text(SCENARIO, encoding="utf-8")
    axes = '[axes]\nseed = [1, 2]\n"trace.load" = [1, 2.5]\nserver = [{ name = "the \\"one\\"", engine.slots = 1 }, { name = "two", engine.slots = 2 }]\n'
    (SCRATCH / "grid.toml").write_text(SCENARIO + axes, encoding="utf-8")


def check(file):
    with open(file, encoding="utf-8", newline="") as rows:
        header, *plain = list(csv.reader(rows))
    frame = pd.read_csv(file)
    relation = duckdb.sql(f"SELECT * FROM '{file}'")
    types = dict(zip(relation.columns, map(str, relation.types)))
    assert list(frame.columns) == header == relation.columns, f"{file}: {relation.columns} instead of {header}"
    assert len(frame) == len(plain) == len(relation), f"{file}: {len(frame)}, {len(relation)} rows instead of {len(plain)}"
    table = relation.df()
    for place, column in enumerate(header):
        cells = [row[place] for row in plain]
        gaps = sum(cell == "" for cell in cells)
        assert gaps == 0 or column in EMPTY, f"{file}: {column}: {gaps} of {len(cells)} are empty"
        assert frame[column].isna().sum() == gaps, f"{file}: {column}: pandas takes other cells for empty"
        assert table[column].isna().sum() == gaps, f"{file}: {column}: DuckDB takes other cells for empty"
        if gaps == len(cells):
            continue  # no reader can tell the type of nothing
        if column in TEXT:
            assert types[column] == "VARCHAR", f"{file}: {column}: DuckDB takes text for {types[column]}"
            assert list(frame[column].fillna("")) == cells, f"{file}: {column}: pandas reads other text"
            assert list(table[column].fillna("")) == cells, f"{file}: {column}: DuckDB reads other text"
        else:
            assert pd.api.types.is_numeric_dtype(frame[column]), f"{file}: {column}: pandas reads {frame[column].dtype}"
            assert types[column] in ("BIGINT", "DOUBLE", "UBIGINT", "HUGEINT"), f"{file}: {column}: DuckDB reads {types[column]}"
            numbers = [float(cell) for cell in cells if cell]
            assert list(frame[column].dropna().astype(float)) == numbers, f"{file}: {column}: pandas reads other numbers"
            assert list(table[column].dropna().astype(float)) == numbers, f"{file}: {column}: DuckDB reads other numbers"
    print(f"{file.relative_to(SCRATCH)}: {len(plain)} rows, {len(header)} columns")


write_inputs()
orbitflow("compare", "odd.toml", "--out", "compared", "--force", "--steps")
# A pool that no prompt fits: nothing is delivered, and the tables still have their headers.
nothing = ["--set", "gpu_kv_blocks=1"]
orbitflow("compare", "odd.toml", "--out", "nothing", "--force", "--steps", *nothing)
# More steps without a forecast than DuckDB looks at (20,480), of the policy that stands first.
demo = Path("scenarios/demo.toml").resolve()
long = ["--set", "policies=['static-1', 'orbitflow']", "--set", "slo.scale=1.5"]
orbitflow("compare", demo, "--out", "long", "--force", "--steps", *long)
orbitflow("sweep", "grid.toml", "--out", "swept", "--force", "--shard", "0/1")
orbitflow("capacity", "grid.toml", "--attain", "60", "--out", "capacity", "--set", "trace.load=1", "--set", "server=two")
(SCRATCH / "compare.csv").write_text(orbitflow("compare", "odd.toml", "--format", "csv"), encoding="utf-8")
(SCRATCH / "diff.csv").write_text(orbitflow("diff", "compared", "nothing", "--format", "csv"), encoding="utf-8")
names = ["requests.csv", "quantiles.csv", "timeline.csv", "steps.csv"]
for folder in ["compared", "nothing"]:
    for name in names:
        check(SCRATCH / folder / name)
check(SCRATCH / "long" / "steps.csv")
check(SCRATCH / "swept" / "sweep.csv")
check(SCRATCH / "capacity" / "capacity.csv")
check(SCRATCH / "diff.csv")
