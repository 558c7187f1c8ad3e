#!/bin/sh
# `orbitflow check` on every scenario of this folder: each policy twice, under all laws. From the repository's root, with
# ORBITFLOW naming the program (default target/release/orbitflow).
#
# A grid is checked at each of its points but for the seeds: with seed 1. Traces are cut, or this would take hours:
# REQUESTS requests of those that are drawn (default 10), the first LIMIT of a file (default 40). What needs a file that
# is not there is checked on the nearest thing that is, or skipped; both are said. Fails at the first scenario that does.
set -eu
cd "$(dirname "$0")/.."
orbitflow=${ORBITFLOW:-target/release/orbitflow}
requests=${REQUESTS:-10} limit=${LIMIT:-40}
checked=0 skipped=0
for scenario in $(find scenarios -name '*.toml' | sort); do
    set -- "$scenario"
    case $scenario in
    scenarios/shared/*)
        if [ ! -d ../shared/traces ]; then
            echo "SKIPPED: $scenario needs ../shared/traces"
            skipped=$((skipped + 1))
            continue
        fi
        ;;
    scenarios/bench/*offload.toml)
        if [ ! -f out/bench/poisson-1000.jsonl ]; then
            echo "$scenario: on traces/poisson.jsonl, for out/bench/poisson-1000.jsonl is not there (see its head)"
            set -- "$@" --set trace.file=traces/poisson.jsonl
        fi
        ;;
    scenarios/host-emulation/*)
        if [ ! -f out/gpu-host-emulation/profile.json ]; then
            echo "$scenario: on roofline:rtx-a6000, for out/gpu-host-emulation/profile.json is not there (\`make gpu-host-emulation\`)"
            set -- "$@" --set hardware=roofline:rtx-a6000
        fi
        ;;
    esac
    if grep -q '^seed = \[' "$scenario"; then set -- "$@" --set seed=1; fi
    if grep -q '^\[trace.draw\]' "$scenario"; then
        set -- "$@" --set "trace.draw.requests=$requests"
    else
        set -- "$@" --set "trace.limit=$limit"
    fi
    report=$("$orbitflow" --quiet check "$@" --format csv)
    echo "$scenario: $(echo "$report" | tail -n +2 | wc -l) checks, every law holds, every second run is the same"
    checked=$((checked + 1))
done
echo "$checked scenarios checked, $skipped skipped"
