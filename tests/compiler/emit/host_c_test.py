# SPDX-License-Identifier: Apache-2.0
"""Kernels as C99, compiled by this machine's compiler and run by two threads, against transformers and the suite.

Once for a machine whose memory only a DMA unit reaches, once for one whose loads reach it. The compiler's checks of
undefined behaviour end the process: an element beside an array, a shift or a sum that overflows, a crooked pointer.

    host_c_test.py CC [NAME ...]
"""
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[2] / "models")]
import families_test as families
import girih_cli
import tiny_checkpoints as tiny

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
ONE_EACH = ("gemma2_2", "llama_2", "qwen3_1")
LEVEL = {"size_bytes": 65536, "bytes_per_cycle": 8, "latency_cycles": 5, "shared_by": 1, "source": "made up"}
UNIT = {"element": "f32", "lanes": 1, "per_cycle": 1, "latency_cycles": 4, "registers": 32, "source": "made up"}
NEAR = {"name": "loads", "kind": "host", "cores": 2, "clock_mhz": 1000, "barrier_ns": 1000,
        "levels": [{"name": "L1", **LEVEL}, {"name": "memory", **LEVEL, "size_bytes": 1 << 30}], "units": [{"name": "fma", **UNIT}]}
FAR = {**NEAR, "name": "DMA", "barrier": "host_barrier",
       "levels": [NEAR["levels"][0], {**NEAR["levels"][1], "dma_in": "host_dma_in", "dma_out": "host_dma_out"}],
       "units": NEAR["units"] + [{"name": "matrix", **UNIT, "element": "f16", "builtin": "host_multiply",
                                  "tile": {"rows": 16, "columns": 16, "depth": 16}}]}


def build(machine, compiler, folder):
    """The test's backend, for one machine."""
    (folder / "include").mkdir(exist_ok=True)
    if not (folder / "include/girih").exists():
        (folder / "include/girih").symlink_to(ROOT / "runtime/abi")
    kernels = (f"{compiler} -std=c99 -pedantic-errors -Wall -Werror -Wno-unused -O0 -ffp-contract=off -shared -fPIC "
               f"-fsanitize=undefined -fsanitize-undefined-trap-on-error -I {folder}/include -include {HERE}/host_units.h")
    library = folder / f"lib{machine['name']}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Wno-unused-function", "-I", folder / "include", "-I", ROOT,
                    "-DHOST_CC=" + json.dumps(kernels), "-DHOST_MACHINE=" + json.dumps(json.dumps(machine)),
                    HERE / "host_c.c", "-o", library, "-lpthread", "-ldl", "-lm"], check=True, timeout=100)
    return library


def keeps_code_of_its_build(library, checkpoint, folder):
    """Whether a program's code is taken from the cache while the backend's library is the same, and not after."""
    def is_kept():
        done = subprocess.run([girih_cli.BUILD / "bin/girih-compile", checkpoint, "-o", folder / "kept.girih", "--backend", library,
                               "--numerics", "exact", "--no-golden", f"--code-cache={folder}/code"], check=True,
                              stderr=subprocess.PIPE, text=True)
        return "from the cache" in done.stderr

    seen = [is_kept(), is_kept()]
    library.write_bytes(library.read_bytes() + b"\0")  # what a loader does not look at
    return seen + [is_kept()] == [False, True, False]


def main(arguments):
    compiler, names = arguments[0], arguments[1:]
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name in names or ONE_EACH:
            tiny.write_checkpoint(name, folder / name)
        for machine in (FAR, NEAR):
            library = build(machine, compiler, folder)
            report(f"{machine['name']}: code is kept for one build of the library",
                   keeps_code_of_its_build(library, folder / (names or ONE_EACH)[0] / "hf", folder))
            for level in ("execution", "ops", "fused"):
                suite = subprocess.run([girih_cli.BUILD / "bin/girih-conformance", "--backend", library, "--only", level, "--compiler",
                                        girih_cli.BUILD / "bin/girih-compile-graph", "--limit", "120"], capture_output=True, text=True)
                report(f"{machine['name']}: {level}: {suite.stdout.strip().splitlines()[-1]}", suite.returncode == 0)
                print("\n".join(line for line in suite.stdout.splitlines() if line.startswith(("fail", "crash", "hang"))))
            for name in names or ONE_EACH:
                problem = families.judge(name, folder / name / "hf", folder, run_options={"backend": library},
                                         backend=library, max_tokens_per_step=16, no_golden=True)
                report(f"{machine['name']}: {name}{': ' + problem if problem else ''}", not problem)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
