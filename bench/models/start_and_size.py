# SPDX-License-Identifier: Apache-2.0
"""What a model costs before it is fast: compile time and memory, file size, time to the first token, resident memory.

Each figure stands beside its limit (for the default model); the exit status is 1 when one is beyond it.

    start_and_size.py GGUF [--repetitions 10] [--format text|json]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GIRIH = pathlib.Path(os.environ.get("GIRIH_BUILD", REPOSITORY / "build")) / "bin" / "girih"
MB = 1e6


def measured(*arguments):
    """(seconds, peak resident bytes) of one girih command with all its children."""
    begun = time.perf_counter()
    process = subprocess.Popen([GIRIH, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"`girih {' '.join(map(str, arguments))}` exited with {process.returncode}: {said.decode().strip()[-800:]}")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024


def peak_of_compiling(gguf, program):
    """`girih compile` starts the compiler, whose peak the kernel reports with the children's."""
    import resource

    seconds, own = measured("compile", gguf, "-o", program, "--code-cache=")
    return seconds, max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "model.girih"
        seconds, peak = peak_of_compiling(options.gguf, program)
        file_bytes, source_bytes = program.stat().st_size, options.gguf.stat().st_size
        rows.append(("compile", seconds, 15.0, "s"))
        rows.append(("peak memory of compiling", peak / MB, 1200.0, "MB"))
        rows.append(("file beside the GGUF", file_bytes / source_bytes, 1.15, "x"))
        starts = {"start to first token, from ids": (["--tokens", "504,314,260,3575"], 100.0),
                  "start to first token, from text": (["--prompt", "What is the capital of France?"], 150.0)}
        resident = 0
        for name, (prompt, limit) in starts.items():
            runs = [measured("run", program, *prompt, "--max-tokens", 1) for _ in range(options.repetitions)]
            rows.append((name, 1000 * statistics.median(run[0] for run in runs), limit, "ms"))
            resident = max(resident, *(run[1] for run in runs))
        rows.append(("resident beyond the file", (resident - file_bytes) / MB, 150.0, "MB"))
    if options.format == "json":
        print(json.dumps({name: {"value": value, "limit": limit, "unit": unit} for name, value, limit, unit in rows}))
    else:
        for name, value, limit, unit in rows:
            print(f"{name:32} {value:9.2f} {unit:2} (at most {limit:g}){'' if value <= limit else '  BEYOND'}")
    return 1 if any(value > limit for _, value, limit, _ in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
