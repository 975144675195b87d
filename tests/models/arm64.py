# SPDX-License-Identifier: Apache-2.0
"""Runs programs on arm64 by qemu's user emulation: the runtime's engine, cross-compiled, from token ids."""
import pathlib
import shutil
import subprocess

import numpy as np

import girih_cli

RUNNER = girih_cli.BUILD / "bin" / "arm64" / "run_tokens"
# A core for each variant: it grants what the variant needs, and not what the next one does.
CORES = {"neon": "cortex-a57", "dotprod": "neoverse-n1", "i8mm": "max"}


def is_available():
    return RUNNER.exists() and shutil.which("qemu-aarch64") is not None


def run(program, tokens, max_tokens, logits, core, *more, timeout=1200):
    """The finished process; its output is the variant that ran, V and the output's ids."""
    command = ["qemu-aarch64", "-cpu", core, RUNNER, program, ",".join(map(str, tokens)), max_tokens, logits, *more]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout)


def run_tokens(program, tokens, max_tokens, folder, isa, threads=1):
    """As girih_cli.run_tokens, on the core of CORES that is right for `isa`, which the runtime must choose by itself."""
    logits = pathlib.Path(folder) / "arm64.f32"
    done = run(program, tokens, max_tokens, logits, CORES[isa], "", threads)
    if done.returncode != 0:
        raise girih_cli.Failure(f"run_tokens on {CORES[isa]} exited with {done.returncode}: {done.stderr.strip()[-1000:]}")
    chosen, vocab_size, ids = done.stdout.split("\n")[:3]
    if chosen != isa:
        raise girih_cli.Failure(f"on {CORES[isa]} the runtime chose {chosen}, not {isa}")
    output = [int(token) for token in ids.split(",")] if ids else []
    return output, np.fromfile(logits, np.float32).reshape(-1, int(vocab_size))
