# SPDX-License-Identifier: Apache-2.0
"""The default model in `exact` on a Vulkan device against transformers' goldens, under the validation layer.

    default_model_test.py [PROMPTS]   how many prompts (default 10)
"""
import json
import pathlib
import sys
import tempfile

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[3] / "models")]
import default_model_judge as judge
import default_model_test as of_models
import girih_cli
import vulkan_machine

VOCABULARY = 49152

def moves_more_than_logits(program):
    """Whether any step brings something back that is no row of logits, or copies something to the device."""
    moved = json.loads(girih_cli.girih("bench", program, "--prompt-tokens", 24, "--generate", 4, "--repetitions", 1,
                                       "--format", "json"))
    # A step has one sequence, so one row at most; none is copied where the host sees the device's memory.
    rows = moved["bytes_from_device"] / (4 * VOCABULARY)
    is_wrong = rows > moved["steps"] or rows % 1 or moved["bytes_to_device"] != 0
    print(f"{'FAIL' if is_wrong else 'ok  '} {moved['steps']} steps bring back {rows} rows of logits, and take "
          f"{moved['bytes_to_device']} bytes that are no arguments")
    return is_wrong


@vulkan_machine.needs_device
def main(num_prompts=10):
    model = girih_cli.default_model()
    if model is None:
        print("SKIP: GIRIH_SMOLLM2_GGUF names no file; `./check` fetches the model and sets it")
        return vulkan_machine.SKIPPED
    golden, failures = np.load(judge.GOLDEN), 0
    with tempfile.TemporaryDirectory() as folder:
        program = girih_cli.compile_model(model, pathlib.Path(folder) / "model.girih", target="vulkan", no_golden=True)
        for index in range(num_prompts):
            problem, largest = of_models.check_prompt(program, golden, index, folder)
            failures += problem is not None
            print(f"{'FAIL' if problem else 'ok  '} prompt {index}, {len(golden[f'{index}_prompt'])} tokens, largest "
                  f"difference {largest:.2e}{'; ' + problem if problem else ''}", flush=True)
        failures += moves_more_than_logits(program)
        result, objections = vulkan_machine.run_validated(
            [girih_cli.GIRIH, "run", program, "--tokens", "1,2,3", "--max-tokens", "2", "--no-template"])
        if result.returncode != 0 or objections:
            failures += 1
            print("FAIL the validation layer objects:", *(objections or [result.stderr])[:5], sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
