# SPDX-License-Identifier: Apache-2.0
"""On a Vulkan device a token has the same bits however the prompt is cut, and in whichever entry its step is taken.

A prompt of more than one chunk of attention, with and without a window.
"""
import pathlib
import sys
import tempfile

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[3] / "models")]
import girih_cli
import invariants_test as invariants
import tiny_checkpoints as tiny
import vulkan_machine

CHUNK = 128  # positions that attention weighs against one maximum, in models of so short contexts


@vulkan_machine.needs_device
def main():
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name, profile in (("llama_4", "software"), ("gemma2_4", "portable")):
            tiny.write_checkpoint(name, folder / name)
            prompt = np.load(tiny.GOLDEN / f"{name}.npz")["prompt"].tolist()
            program = girih_cli.compile_model(folder / name / "hf", folder / f"{name}.girih", "exact", target=f"vulkan:{profile}")
            invariants.check_cuts(f"{name} {profile}", program, (prompt * CHUNK)[:CHUNK + 40], folder, report)
    print(f"{len(report.failed)} invariants broken")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
