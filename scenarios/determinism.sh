#!/bin/sh
# The demo, four times: debug and release build, one thread and many. Every file must be the same, byte for byte.
# Usage, from the repository root: scenarios/determinism.sh [OUT]   (default out/determinism; see `make determinism`)
set -eu

out=${1:-out/determinism}
rm -rf "$out"
mkdir -p "$out"

for build in debug release; do
    for threads in 1 4; do
        to=$out/$build-$threads
        RAYON_NUM_THREADS=$threads "target/$build/orbitflow" compare scenarios/demo.toml --quiet --out "$to" \
            > "$to.stdout"
    done
done

first=$out/debug-1
files=$(cd "$first" && find . -type f | sort)
[ -n "$files" ] || { echo "error: $first: no files were written" >&2; exit 1; }
for other in debug-4 release-1 release-4; do
    cmp "$first.stdout" "$out/$other.stdout"
    [ "$files" = "$(cd "$out/$other" && find . -type f | sort)" ] || {
        echo "error: $out/$other: other files than in $first" >&2
        exit 1
    }
    for file in $files; do
        cmp "$first/$file" "$out/$other/$file"
    done
done
echo "determinism: $(echo "$files" | wc -l) files and the table are the same from debug and release, 1 and 4 threads"
