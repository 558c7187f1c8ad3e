#!/usr/bin/env python3
"""Peak memory of a sweep does not grow with its points: 200 and 2,000 points over short traces, each in one process.

    scenarios/sweep-memory.py [ORBITFLOW]

The peak resident set is what the system counted for the process that ended (wait4). A point that is over leaves one line
in memory, so ten times the points may take a little more, not ten times as much.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ORBITFLOW = Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/orbitflow").resolve()
MOST_RATIO = 1.25
GRID = """
model = "llama-3-8b"
hardware = "engine-fit:a6000"
policies = ["orbitflow", "static-1"]
slo.scale = [1]
[trace.draw]
requests = 6
length_scale = 0.05
[axes]
"trace.load" = [1, 2]
seed = [{seeds}]
"""


def peak_mib(points, folder):
    (folder / "grid.toml").write_text(GRID.format(seeds=", ".join(map(str, range(points // 2)))))
    command = [ORBITFLOW, "sweep", "grid.toml", "--out", f"out-{points}", "--jobs", "2", "--shard", "0/1", "--quiet"]
    with open(folder / f"{points}.csv", "w") as answer:
        child = subprocess.Popen(command, cwd=folder, stdout=answer)
        _, status, used = os.wait4(child.pid, 0)
    answer = (folder / f"{points}.csv").read_text()
    assert status == 0 and answer == f"points,done,failed\n{points},{points},0\n", answer
    return used.ru_maxrss / 1024, used.ru_utime + used.ru_stime


with tempfile.TemporaryDirectory() as folder:
    (few, few_s), (many, many_s) = (peak_mib(points, Path(folder)) for points in (200, 2000))
print(f"  200 points: peak {few:.1f} MiB, {few_s:.1f} s of processor time")
print(f"2,000 points: peak {many:.1f} MiB, {many_s:.1f} s of processor time, {many / few:.2f} times the memory")
assert many <= MOST_RATIO * few, f"expected at most {MOST_RATIO} times the memory of 200 points"
