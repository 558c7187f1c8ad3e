#!/bin/sh
# The files as Python programs read them. A virtual environment in out/python gets pandas, DuckDB, matplotlib and jsonschema
# from PyPI; every schema is held against real files, every CSV is read by both, and the figure of
# sim/examples/read_results.py is drawn from the demo's results.
set -eu
cd "$(dirname "$0")/../../.."
orbitflow=${1:-target/release/orbitflow}
python=out/python/bin/python
[ -x "$python" ] || python3 -m venv out/python
"$python" -c 'import duckdb, jsonschema, matplotlib, pandas' 2>/dev/null ||
    "$python" -m pip install --quiet --disable-pip-version-check -r sim/tests/python/requirements.txt
"$python" sim/tests/python/schemas.py "$orbitflow" out/python-schemas
"$python" sim/tests/python/loads.py "$orbitflow" out/python-loads
"$orbitflow" compare scenarios/demo.toml --quiet --force --out out/demo > out/demo.txt
"$python" sim/examples/read_results.py out/demo out/read_results.svg
"$python" sim/examples/read_results.py out/demo out/read_results.png
echo "drawn: out/read_results.svg, out/read_results.png"
