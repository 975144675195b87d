# SPDX-License-Identifier: Apache-2.0
"""Drives the girih command line for the Python tests: compile, run, and the logits and JSON that come back."""
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GIRIH_BUILD", REPOSITORY / "build"))
GIRIH = BUILD / "bin" / "girih"
SKIPPED = 77  # the exit status by which ctest knows a skipped test (SKIP_RETURN_CODE)


class Reporter:
    """Prints each check as it is made and keeps those that failed: report(what, passed)."""

    def __init__(self):
        self.failed = []

    def __call__(self, what, passed):
        print(f"{'ok  ' if passed else 'FAIL'} {what}", flush=True)
        if not passed:
            self.failed.append(what)


class Failure(Exception):
    """A girih command that did not do what the test needs, with the command and its last words."""


def girih(*arguments, timeout=600):
    command = [str(GIRIH), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` exited with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def flags_of(options):
    """threads=1, no_golden=True -> --threads 1 --no-golden"""
    return [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value) if part is not True]


def compile_model(checkpoint, program, numerics="exact", **options):
    girih("compile", checkpoint, "-o", program, "--numerics", numerics, *flags_of(options))
    return program


def run_tokens(program, tokens, max_tokens, folder, **options):
    """(output token ids, logits [positions, V] f32) of a greedy run; options become flags, e.g. threads=1, isa="avx2"."""
    dump = pathlib.Path(folder) / "logits.npy"
    dump.unlink(missing_ok=True)
    text = girih("run", program, "--tokens", ",".join(map(str, tokens)), "--max-tokens", max_tokens, "--temperature", 0,
                 "--no-template", "--format", "json", "--dump-logits", dump, *flags_of(options))
    answer = json.loads(text)
    if list(answer["prompt_tokens"]) != list(map(int, tokens)):
        raise Failure(f"prompt_tokens is {answer['prompt_tokens'][:8]}...; --tokens must be taken as they are")
    return list(answer["output_tokens"]), np.load(dump)


def granted_isas(program):
    """Those of AVX2 and AVX-512 that this machine can run, found by asking for each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for isa in ("avx2", "avx512"):
            try:
                run_tokens(program, [1], 1, folder, isa=isa)
                found.append(isa)
            except Failure as failure:
                print(f"     variant {isa} is not run here: {str(failure)[-160:]}")
    return found


def default_model():
    """The default model's GGUF, or None: from GIRIH_SMOLLM2_GGUF, else where `./check` puts it."""
    given = os.environ.get("GIRIH_SMOLLM2_GGUF")
    return pathlib.Path(given) if given and pathlib.Path(given).exists() else None
