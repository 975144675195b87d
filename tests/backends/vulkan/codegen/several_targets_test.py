# SPDX-License-Identifier: Apache-2.0
"""One file for CPU and Vulkan: the weights once, the device chosen or named, and a clear line where one is not there."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[3] / "models")]
import girih_cli
import numpy as np
import tiny_checkpoints as tiny
import vulkan_machine

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
NO_DRIVERS = {"VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent"}


def run(program, *flags, **environment):
    """(exit status, output, what was said beside it)"""
    command = [girih_cli.GIRIH, "run", program, "--tokens", ",".join(map(str, TOKENS)), "--max-tokens", "4", "--temperature", "0",
               "--no-template", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ, **environment))
    return done.returncode, done.stdout, done.stderr


@vulkan_machine.needs_device
def main():
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        tiny.write_checkpoint("llama_1", folder / "model")
        checkpoint = folder / "model/hf"
        both = girih_cli.compile_model(checkpoint, folder / "both.girih", target="cpu:avx2,vulkan")
        alone = girih_cli.compile_model(checkpoint, folder / "alone.girih", target="vulkan")
        report("the weights are there once, as in a file for one of them", tensors_of(both) == tensors_of(alone))

        cpu_tokens, cpu_logits = girih_cli.run_tokens(both, TOKENS, 4, folder, device="cpu")
        vulkan_tokens, vulkan_logits = girih_cli.run_tokens(both, TOKENS, 4, folder, device="vulkan:0")
        report("both devices answer alike", cpu_tokens == vulkan_tokens)
        difference = float(np.max(np.abs(cpu_logits - vulkan_logits)))
        report(f"their logits differ by {difference:.1e}: other kernels ran, of the same model", 0 < difference < 2e-3)
        report("every variant verifies", girih_cli.girih("verify", both).count("ok  ") > 2)
        report("one device's variants verify", " on avx2" not in girih_cli.girih("verify", both, "--device", "vulkan"))

        status, answer, said = run(both)
        report("by itself it runs, and says nothing of devices", status == 0 and "vulkan" not in said)
        status, without, said = run(both, **NO_DRIVERS)
        lines = [line for line in said.splitlines() if "vulkan" in line]
        report(f"without a driver the CPU answers alike, with one line: {lines}",
               status == 0 and without == answer and len(lines) == 1 and lines[0].endswith("running on cpu:0"))
        status, _, said = run(both, "--device", "vulkan", **NO_DRIVERS)
        report(f"a device that was named is not replaced: {said.strip()}", status == 1 and "vulkan" in said.lower())
        status, _, said = run(alone, "--device", "cpu")
        report(f"a file without code for it: {said.strip()}", status == 1 and "for backend vulkan" in said)
        for wrong, words in (("vulkan:99", "99 is asked for"), ("abacus", "there are: cpu"), ("cpu:x", "girih machine --list"),
                             ("1", "girih machine --list")):
            status, _, said = run(both, "--device", wrong)
            report(f"--device {wrong}: {said.strip()}", status != 0 and words in said)
        refused = subprocess.run([girih_cli.GIRIH, "compile", checkpoint, "-o", folder / "no.girih", "--target", "cpu,abacus"],
                                 capture_output=True, text=True)
        report(f"--target cpu,abacus: {refused.stderr.strip()}", refused.returncode == 2 and "there are cpu" in refused.stderr)
    return 1 if report.failed else 0


def tensors_of(program):
    return json.loads(girih_cli.girih("inspect", program, "--format", "json"))["tensors"]


if __name__ == "__main__":
    sys.exit(main())
