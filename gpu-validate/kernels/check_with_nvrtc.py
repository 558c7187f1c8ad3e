#!/usr/bin/env python3
"""Compiles every kernel with NVRTC, without a GPU, and fails unless each is free of spills and local memory.

    check_with_nvrtc.py [--lib DIR] [--arch sm_80 ...] [--markdown]

libnvrtc.so is looked for in --lib DIR, then in LD_LIBRARY_PATH and the system's folders, then in the Python wheel
nvidia-cuda-nvrtc. What it prints is what the compiler says of registers and memory; no GPU takes part. It knows no
kernel by name: it compiles each *.cu beside it after prelude.cu, as the program does.
"""

import argparse
import ctypes
import importlib.util
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
PRELUDE = "prelude.cu"
OPTIONS = ["--std=c++17", "--use_fast_math", "--ptxas-options=-v"]
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def candidates(folder):
    """Paths to try, in order; a bare name lets the loader search."""
    if folder:
        yield from sorted(str(path) for path in pathlib.Path(folder).glob("libnvrtc.so*"))
        return
    yield from ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(str(path) for path in pathlib.Path(root).glob("**/libnvrtc.so.*"))


def load(folder):
    tried = []
    for path in candidates(folder):
        builtins = sorted(pathlib.Path(path).parent.glob("libnvrtc-builtins.so.*")) if "/" in path else []
        try:
            for builtin in builtins:
                ctypes.CDLL(str(builtin), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(path), path
        except OSError:
            tried.append(path)
    sys.exit(f"check_with_nvrtc: no libnvrtc found; tried {', '.join(tried) or folder}\nhint: pip install "
             "nvidia-cuda-nvrtc, or --lib DIR with the folder that has libnvrtc.so.13")


def supported(nvrtc):
    count = ctypes.c_int()
    nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    archs = (ctypes.c_int * count.value)()
    nvrtc.nvrtcGetSupportedArchs(archs)
    return {f"sm_{arch}" for arch in archs}


def compile_log(nvrtc, name, arch):
    """The compiler's log for one source and one architecture."""
    source = (FOLDER / PRELUDE).read_bytes() + (FOLDER / name).read_bytes()
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None)
    options = [option.encode() for option in [f"--gpu-architecture={arch}", *OPTIONS]]
    result = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode(errors="replace")
    if result != 0:
        sys.exit(f"check_with_nvrtc: {name} does not compile for {arch} (NVRTC result {result}):\n{text}")
    return text


def kernels_in(log):
    """(name, registers, shared bytes, stack bytes, spill bytes) of each entry function."""
    found, entry = [], None
    for line in log.splitlines():
        if match := ENTRY.search(line):
            entry = {"name": match.group(1), "stack": 0, "spill": 0, "shared": 0}
        elif entry and (match := SPILLS.search(line)):
            entry["stack"] = int(match.group(1))
            entry["spill"] = int(match.group(2)) + int(match.group(3))
        elif entry and (match := USED.search(line)):
            entry["registers"] = int(match.group(1))
            if match := SHARED.search(line):
                entry["shared"] = int(match.group(1))
            found.append(entry)
            entry = None
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lib", metavar="DIR")
    arguments.add_argument("--arch", nargs="+", default=["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
    arguments.add_argument("--markdown", action="store_true")
    given = arguments.parse_args()
    nvrtc, path = load(given.lib)
    known = supported(nvrtc)
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    archs = [arch for arch in given.arch if arch in known]
    for arch in set(given.arch) - set(archs):
        print(f"{arch}: not supported by this NVRTC, left out", file=sys.stderr)
    print(f"NVRTC {major.value}.{minor.value} from {path}", file=sys.stderr)

    sys.stderr.flush()
    rows, bad = {}, []
    for source in sorted(path.name for path in FOLDER.glob("*.cu") if path.name != PRELUDE):
        for arch in archs:
            declared = len(re.findall(r'^extern "C" __global__', (FOLDER / source).read_text(), re.MULTILINE))
            found = kernels_in(compile_log(nvrtc, source, arch))
            if len(found) < max(declared, 1):
                bad.append(f"{source} for {arch}: {declared} kernels declared, {len(found)} compiled")
            for entry in found:
                rows.setdefault((source, entry["name"]), {})[arch] = entry
                if entry["stack"] or entry["spill"]:
                    bad.append(f"{entry['name']} for {arch}: {entry['stack']} bytes of local memory, "
                               f"{entry['spill']} bytes spilled; expected 0 and 0")
    print(f"| kernel | file | registers ({', '.join(archs)}) | shared bytes | spilled, local bytes |")
    print("|---|---|---|---|---|")
    for (source, name), by_arch in rows.items():
        entries = [by_arch[arch] for arch in archs]
        registers = ", ".join(str(entry["registers"]) for entry in entries)
        shared = max(entry["shared"] for entry in entries)
        lost = sum(entry["spill"] for entry in entries), sum(entry["stack"] for entry in entries)
        print(f"| `{name}` | `{source}` | {registers} | {shared} | {lost[0]}, {lost[1]} |")
    for line in bad:
        print(f"check_with_nvrtc: {line}", file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
