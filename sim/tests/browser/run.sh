#!/usr/bin/env bash
# The HTML report in a real browser: `make browser-test`. Installs Debian's chromium if it is missing (as root) and
# playwright-core below out/, makes the demo's report, and hands both to check.mjs. Screenshots: out/browser-test/.
set -euo pipefail
cd "$(dirname "$0")/../../.."

orbitflow=${ORBITFLOW:-target/release/orbitflow}
out=out/browser-test
mkdir -p "$out"

if ! command -v chromium > /dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > "$out/apt.log"
fi
for tool in chromium node npm; do
    command -v "$tool" > /dev/null || { echo "browser-test: no $tool, expected it on the PATH" >&2; exit 1; }
done
# The exact version and its hash are in package-lock.json.
cp sim/tests/browser/package.json sim/tests/browser/package-lock.json "$out/"
npm ci --prefix "$out" --silent --no-audit --no-fund

"$orbitflow" compare scenarios/demo.toml --quiet --force --out "$out/demo" > "$out/demo.txt"
"$orbitflow" report "$out/demo"

# A name and a note that would be markup if anything forgot to escape them.
rm -rf "$out/hostile" && cp -r "$out/demo" "$out/hostile"
node -e '
    const fs = require("node:fs");
    const file = process.argv[1] + "/results.json";
    const results = JSON.parse(fs.readFileSync(file));
    results.policies[0].label = "</script><script>alert(1)</script>";
    results.policies[1].label = "\"><img src=x onerror=alert(2)>";
    results.notes.push("<iframe src=\"https://example.com\"></iframe>");
    fs.writeFileSync(file, JSON.stringify(results));
' "$out/hostile"
"$orbitflow" report "$out/hostile"

cp sim/tests/browser/check.mjs "$out/"
node "$out/check.mjs" "$out"
