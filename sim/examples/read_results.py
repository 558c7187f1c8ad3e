"""Draws a figure from a folder that `orbitflow compare --out DIR` wrote, with pandas and matplotlib alone.

    python read_results.py DIR figure.svg

Left: requests answered in time end to end, and tokens in time by gap, at every SLO scale (results.json, whose layout
`orbitflow schema results` prints). Right: how long clients waited between tokens (quantiles.csv).
"""
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

folder, figure = Path(sys.argv[1]), sys.argv[2]
results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
assert results["schema_version"] == 1, "written by another version of orbitflow"
labels = {policy["key"]: policy["label"] for policy in results["policies"]}
# One row per policy and SLO scale; nested keys become columns: attainment_pct.e2e
scales = pd.json_normalize(results["policies"], record_path="by_slo_scale", meta="key").sort_values("scale")
quantiles = pd.read_csv(folder / "quantiles.csv")

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for (key, label), color in zip(labels.items(), plt.get_cmap("tab10").colors * 2):
    at = scales[scales["key"] == key]
    left.plot(at["scale"], at["attainment_pct.e2e"], color=color, marker="o", label=label)
    left.plot(at["scale"], at["attainment_pct.tbt_gap"], color=color, marker="x", linestyle=":")
    gaps = quantiles[(quantiles["policy"] == key) & (quantiles["metric"] == "tbt_gap")]
    right.plot(gaps["seconds"], gaps["p"] * 100, color=color, label=label)
right.axvline(results["slo_s"], color="black", linewidth=0.8, linestyle="--", label="SLO of the first scale")
left.set(xlabel="SLO scale", ylabel="in time, %", ylim=(-2, 102), title="e2e (requests, solid), gap TBT (tokens, dotted)")
right.set(xscale="log", xlabel="time since the previous token, s", ylabel="of delivered tokens, %", title="gap TBT")
right.legend(fontsize=8)
fig.suptitle(f"{results['scenario']}, seed {results['seed']}, orbitflow {results['tool_version']}", fontsize=10)
fig.savefig(figure)
