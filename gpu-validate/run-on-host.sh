#!/bin/sh
# Measures the GPU of this host with a binary that was built elsewhere. Needs no Rust, no root and no network.
# It finds CUDA's libraries, runs `preflight`, then the quick run, then the full one, and leaves one folder.
# It never changes a setting of the card: no clocks, no power limits, no persistence.

set -u

usage() {
    cat <<'TEXT'
usage: run-on-host.sh [--binary FILE] [--out DIR] [--quick-only] [-- ARGUMENTS OF `gpu-validate run`]

  --binary FILE   the built `gpu-validate` (default: beside this script, then ../target/release)
  --out DIR       folder for everything, made if it is not there (default: gpu-validate-<host>-<UTC time>)
  --quick-only    no full run after the quick one
  --help          this text

The folder holds: preflight.txt, preflight.json, host.txt, quick/ and full/ (what `gpu-validate run` writes),
*.log (its output), exit-codes.txt, and status (one line: what came out).
Exit code: that of the full run, or of the step that ended it: 0 ok, 1 run error, 2 usage, 3 no usable GPU,
4 a correctness check failed, 5 accuracy target missed, 6 deadline hit with partial results kept.
TEXT
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
binary=
out=
full=yes
while [ $# -gt 0 ]; do
    case $1 in
        --binary) [ $# -ge 2 ] || { usage >&2; exit 2; }; binary=$2; shift 2 ;;
        --out) [ $# -ge 2 ] || { usage >&2; exit 2; }; out=$2; shift 2 ;;
        --quick-only) full=no; shift ;;
        --help | -h) usage; exit 0 ;;
        --) shift; break ;;
        *) echo "run-on-host.sh: \`$1\` is unknown; --help lists what there is" >&2; exit 2 ;;
    esac
done

if [ -z "$binary" ]; then
    for candidate in "$here/gpu-validate" "$here/../target/release/gpu-validate"; do
        if [ -f "$candidate" ] && [ -x "$candidate" ]; then
            binary=$candidate
            break
        fi
    done
fi
if [ -z "$binary" ] || [ ! -x "$binary" ]; then
    echo "run-on-host.sh: no binary: looked for ${binary:-$here/gpu-validate and $here/../target/release/gpu-validate}" >&2
    echo "hint: build it with \`cargo build --release -p gpu-validate\`, copy it beside this script, or --binary FILE" >&2
    exit 2
fi
if ! "$binary" --version >/dev/null 2>&1; then
    echo "run-on-host.sh: $binary does not start here: $("$binary" --version 2>&1 | head -n 1)" >&2
    exit 1
fi

[ -n "$out" ] || out=gpu-validate-$(uname -n)-$(date -u +%Y%m%dT%H%M%SZ)
mkdir -p "$out" || exit 1

# Puts each folder that holds one of the libraries in front of the loader's path, once.
libraries=
add_folder() {
    [ -d "$1" ] || return 0
    case ":$libraries:" in *":$1:"*) return 0 ;; esac
    for library in "$1"/libcuda.so.1 "$1"/libnvrtc.so* "$1"/libcublas.so* "$1"/libnvidia-ml.so.1; do
        if [ -e "$library" ]; then
            libraries=${libraries:+$libraries:}$1
            return 0
        fi
    done
}
for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib /run/opengl-driver/lib /usr/lib/wsl/lib \
    "${CUDA_HOME:-/nonexistent}/lib64" "${CUDA_PATH:-/nonexistent}/lib64" \
    /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 /usr/local/cuda-12*/lib64 /opt/cuda/lib64; do
    add_folder "$folder"
done
if command -v python3 >/dev/null 2>&1; then
    python3 - >"$out/python-folders.txt" 2>/dev/null <<'PYTHON'
import site, sys
for folder in dict.fromkeys(site.getsitepackages() + [site.getusersitepackages()] + sys.path):
    if folder:
        print(folder)
PYTHON
    while IFS= read -r packages; do
        for folder in "$packages"/nvidia/cu13/lib "$packages"/nvidia/*/lib; do
            add_folder "$folder"
        done
    done <"$out/python-folders.txt"
    rm -f "$out/python-folders.txt"
fi
LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH${libraries:+:}}$libraries
export LD_LIBRARY_PATH

{
    echo "date (UTC): $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "binary: $binary ($("$binary" --version))"
    echo "LD_LIBRARY_PATH: $LD_LIBRARY_PATH"
    uname -a
    if command -v nvidia-smi >/dev/null 2>&1; then
        nvidia-smi -q
    else
        echo "nvidia-smi: not there"
    fi
} >"$out/host.txt" 2>&1

# step NAME COMMAND...: runs it, keeps its output, notes its exit code.
: >"$out/exit-codes.txt"
step() {
    name=$1
    shift
    echo "run-on-host.sh: $name ..." >&2
    "$@" >"$out/$name.log" 2>&1
    code=$?
    echo "$name $code" >>"$out/exit-codes.txt"
    return $code
}
finish() {
    echo "$2 (exit $1)" >"$out/status"
    echo "run-on-host.sh: $2; exit $1; all of it is in $out" >&2
    exit "$1"
}

# A hang in the driver must not hold the host for ever; both runs end by themselves long before.
limit_quick=""
limit_full=""
if command -v timeout >/dev/null 2>&1; then
    limit_quick="timeout 180"
    limit_full="timeout 540"
fi

"$binary" preflight >"$out/preflight.txt" 2>"$out/preflight.log"
code=$?
echo "preflight $code" >>"$out/exit-codes.txt"
"$binary" preflight --format json >"$out/preflight.json" 2>/dev/null
cat "$out/preflight.txt"
if [ $code -ne 0 ]; then
    cat "$out/preflight.log" >&2
    finish $code "preflight found that something needed is missing"
fi

step quick $limit_quick "$binary" run --quick --out "$out/quick" "$@"
code=$?
tail -n 15 "$out/quick.log"
if [ $code -ne 0 ] && [ $code -ne 5 ] && [ $code -ne 6 ]; then
    finish $code "the quick run failed; see quick.log"
fi
[ $full = yes ] || finish $code "the quick run is done"

step full $limit_full "$binary" run --out "$out/full" "$@"
code=$?
tail -n 15 "$out/full.log"
case $code in
    0) finish 0 "quick and full run are done" ;;
    4) finish 4 "a correctness check failed in the full run; see full.log" ;;
    5) finish 5 "the full run is done, an accuracy target was missed" ;;
    6) finish 6 "the full run hit its deadline; partial results are kept" ;;
    *) finish $code "the full run failed; see full.log" ;;
esac
