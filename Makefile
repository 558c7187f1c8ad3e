# What can be done here; `make` alone lists it. A target's line after `##` is its line in that list.

CARGO ?= cargo
ORBITFLOW = target/release/orbitflow
GPU_VALIDATE = target/release/gpu-validate

.DEFAULT_GOAL := help
.PHONY: help demo test bench plots paper insights check-scenarios determinism shared cluster-test browser-test python-test sweep-memory gpu gpu-host-emulation clean release release-gpu-validate

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: release ## the main job: ORBITFLOW beside static offloading on a generated trace; table, files, plots in out/demo
	$(ORBITFLOW) compare scenarios/demo.toml --force --out out/demo

test: ## format, lints, all tests, documentation: what CI runs
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

bench: release ## steps, layer-steps and plans per second, and memory, on fixed workloads
	$(CARGO) bench --package orbitflow-sim --bench speed

plots: release ## the figures of plots/ and the numbers beside them: the demo, its sweeps and its capacity
	$(ORBITFLOW) compare scenarios/demo.toml --quiet --force --out out/demo > out/demo.txt
	for figure in attainment tbt_cdf timeline-orbitflow timeline-static-1 gantt-orbitflow gantt-static-4; do \
		cp out/demo/plots/$$figure.svg out/demo/plots/$$figure.csv plots/ || exit 1; done
	for grid in load link load-link; do \
		$(ORBITFLOW) sweep scenarios/plots/$$grid.toml --quiet --force --out out/plots/$$grid || exit 1; done
	$(ORBITFLOW) plot out/plots/load --quiet --out plots
	$(ORBITFLOW) plot out/plots/link --quiet --x link --out plots
	$(ORBITFLOW) plot out/plots/load-link --quiet --x trace.draw.load --y link --out plots
	$(ORBITFLOW) capacity scenarios/demo.toml --attain 90 --quiet --out plots
	$(ORBITFLOW) capacity scenarios/plots/capacity.toml --attain 90 --quiet --out out/plots/capacity
	cp out/plots/capacity/capacity.svg plots/capacity-seeds.svg
	cp out/plots/capacity/capacity.csv plots/capacity-seeds.csv

paper: ## the paper's experiments: figures, their numbers and summary.md in plots/paper; resumes if it was killed
	$(CARGO) build --release --package orbitflow-sim --example paper
	target/release/examples/paper --out plots

insights: ## the questions the paper leaves open: plots/insights.md, its figures and numbers in plots/insights
	$(CARGO) build --release --package orbitflow-sim --example paper
	target/release/examples/paper --study insights --out plots

check-scenarios: release ## `orbitflow check` on every scenario shipped, at every point of its grids: all laws, and twice the same
	scenarios/check.sh

determinism: ## the demo from debug and release builds, on one thread and many: the same bytes
	$(CARGO) build --package orbitflow-sim
	$(CARGO) build --release --package orbitflow-sim
	scenarios/determinism.sh

shared: release ## tests and runs on the real traces of ../shared/traces; fails without that folder
	ORBITFLOW_REQUIRE_SHARED=1 $(CARGO) test --workspace
	scenarios/shared/run.sh

cluster-test: release ## a sweep as a real Slurm array on this machine, merged = single process (root; installs slurm-wlm)
	scenarios/cluster/test-slurm.sh

python-test: release ## every CSV read by pandas and DuckDB, and a figure drawn in Python (installs them into out/python)
	sim/tests/python/run.sh $(ORBITFLOW)

sweep-memory: release ## peak memory of a sweep of 200 and of 2,000 points: it does not grow
	scenarios/sweep-memory.py $(ORBITFLOW)

browser-test: release ## the HTML report in headless chromium: console, network, keys, pointer; screenshots in out/browser-test
	sim/tests/browser/run.sh

gpu: release-gpu-validate ## measures the GPU of this machine: quick, then full; profiles and reports in out/gpu
	gpu-validate/run-on-host.sh --binary $(GPU_VALIDATE) --out out/gpu -- --force

gpu-host-emulation: release release-gpu-validate ## all of gpu-validate without a GPU; its profile, checked and simulated on
	$(GPU_VALIDATE) run --backend virtual-time --enforce --force --out out/gpu-virtual-time
	$(GPU_VALIDATE) run --backend host --force --out out/gpu-host-emulation
	$(ORBITFLOW) profile check out/gpu-host-emulation/profile.json
	$(ORBITFLOW) compare scenarios/host-emulation/scenario.toml --force --out out/host-emulation-scenario

clean: ## take away everything that was built or written
	$(CARGO) clean
	rm -rf out

release:
	$(CARGO) build --release --package orbitflow-sim
	@mkdir -p out

release-gpu-validate:
	$(CARGO) build --release --package gpu-validate
	@mkdir -p out
