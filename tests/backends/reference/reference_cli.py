# SPDX-License-Identifier: Apache-2.0
"""Drives girih-reference for the Python tests."""
import os
import pathlib
import subprocess

import numpy as np

BUILD = pathlib.Path(os.environ.get("GIRIH_BUILD", pathlib.Path(__file__).resolve().parents[3] / "build"))


class Failure(Exception):
    """girih-reference did not evaluate, with its last words."""


def evaluate(checkpoint, tokens, folder, *extra):
    """Logits [T, V] f32 of the tokens, all evaluated at once."""
    out = pathlib.Path(folder) / "reference.npy"
    command = [BUILD / "bin" / "girih-reference", checkpoint, "--tokens", ",".join(map(str, tokens)), "--dump-logits", out,
               *extra]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise Failure(f"girih-reference exited with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return np.load(out)
