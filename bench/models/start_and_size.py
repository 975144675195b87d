# SPDX-License-Identifier: Apache-2.0
"""What a model costs before it is fast: compile time and memory, file size, time to the first token, resident memory;
and what a second thread gives.

Each figure stands beside its limit (for the default model); the exit status is 1 when one is beyond it.

    start_and_size.py GGUF [--repetitions 10] [--large] [--format text|json]
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


def compiled(gguf, program, *flags):
    """(seconds, peak resident bytes); `girih compile` starts the compiler, and the kernel reports the larger of both."""
    return measured("compile", gguf, "-o", program, "--quiet", "--code-cache=", *flags)


def compiling(options, program):
    for what, target, limit in (("compile for one ISA", "cpu:native", 5.0), ("compile for all of x86", "cpu", 10.0)):
        runs = [compiled(options.gguf, program, "--target", target, "--no-golden") for _ in range(options.compilations)]
        yield what, statistics.median(run[0] for run in runs), limit, "s"
    yield "compile with the golden answer", *compiled(options.gguf, program)[:1], 15.0, "s"


def starting(options, program):
    resident, size = 0, program.stat().st_size
    yield "file beside the GGUF", size / options.gguf.stat().st_size, 1.15, "x"
    for what, prompt, limit in (("first token, from ids", ["--tokens", "504,314,260,3575"], 50.0),
                                ("first token, from text", ["--prompt", "What is the capital of France?"], 80.0)):
        runs = [measured("run", program, *prompt, "--max-tokens", 1) for _ in range(options.repetitions)]
        yield what, 1000 * statistics.median(run[0] for run in runs), limit, "ms"
        resident = max(resident, *(run[1] for run in runs))
    long_prompt = ",".join(str(1 + index % 500) for index in range(512))
    resident = max(resident, measured("run", program, "--tokens", long_prompt, "--max-tokens", 16)[1])
    yield "resident beyond the file", (resident - size) / MB, 60.0, "MB"


def scaling(options, program):
    """All threads over one, by turns; at most so much as is read faster, decode can gain."""
    threads, rates = len(os.sched_getaffinity(0)), {}
    for _ in range(3):
        for count in (1, threads):
            said = json.loads(subprocess.run([GIRIH, "bench", program, "--format", "json", "--threads", str(count)], check=True,
                                             stdout=subprocess.PIPE, text=True).stdout)
            rates.setdefault(count, []).append((said["prefill_tokens_per_second"], said["decode_tokens_per_second"]))
    for index, (what, least) in enumerate((("prefill", 0.925 * threads), ("decode", 1.0))):
        one, many = (statistics.median(rate[index] for rate in rates[count]) for count in (1, threads))
        yield f"{what}, {threads} threads over 1", many / one, least, "x at least"


def large(folder, program):
    """Random weights in the shapes of Llama 3 8B, which compile in pieces."""
    gguf = folder / "large.gguf"
    subprocess.run([sys.executable, pathlib.Path(__file__).parent / "make_random_llama.py", gguf], check=True)
    seconds, peak = compiled(gguf, program, "--target", "cpu:native", "--no-golden")
    yield "compile an 8B shape", seconds, 60.0, "s"
    yield "peak memory beyond its weights", (peak - gguf.stat().st_size) / MB, 1000.0, "MB"


def is_beyond(value, limit, unit):
    return value < limit if unit.endswith("at least") else value > limit


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--compilations", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="compile an 8B shape too: 10 GB of disk, minutes")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "model.girih"
        rows = [*compiling(options, program), *starting(options, program), *scaling(options, program)]
        if options.large:
            rows += large(pathlib.Path(folder), program)
    if options.format == "json":
        print(json.dumps({name: {"value": value, "limit": limit, "unit": unit} for name, value, limit, unit in rows}))
    else:
        for name, value, limit, unit in rows:
            least = unit.endswith("at least")
            print(f"{name:32} {value:9.2f} {unit.split()[0]:2} (at {'least' if least else 'most'} {limit:g})"
                  f"{'  BEYOND' if is_beyond(value, limit, unit) else ''}")
    return 1 if any(is_beyond(value, limit, unit) for _, value, limit, unit in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
