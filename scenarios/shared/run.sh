#!/bin/sh
# Runs `compare --laws` and `check` on the real traces of ../shared/traces, which the repository does not hold.
# Usage, from the repository root: scenarios/shared/run.sh [OUT]   (default out/shared; see `make shared`)
set -eu

out=${1:-out/shared}
traces=../shared/traces
orbitflow=target/release/orbitflow

if [ ! -d "$traces" ]; then
    echo "error: $traces: missing: expected the folder of public traces beside the repository" >&2
    exit 1
fi

one() { # NAME SCENARIO [FLAG...]
    name=$1 scenario=$2
    shift 2
    echo "== $name"
    "$orbitflow" compare "$scenario" "$@" --laws --force --out "$out/$name"
    "$orbitflow" check "$scenario" "$@"
}

for trace in "$traces"/orbitflow-paper/*.json; do
    one "$(basename "$trace" .json)" scenarios/shared/paper.toml --set "trace.file=$trace"
done
one mooncake-500 scenarios/shared/mooncake-500.toml
one azure-conv scenarios/shared/azure-conv.toml
