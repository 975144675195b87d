# SPDX-License-Identifier: Apache-2.0
"""The default model in `exact` against the goldens that transformers made (see default_model_judge.py)."""
import pathlib
import sys
import tempfile

import numpy as np

import default_model_judge as judge
import girih_cli


def check_prompt(program, golden, index, folder):
    """(problem or None, largest difference of the kept logits)"""
    prompt, expected = golden[f"{index}_prompt"], golden[f"{index}_output"].tolist()
    output, logits = girih_cli.run_tokens(program, prompt, judge.GREEDY_TOKENS, folder)
    problem, agreed = judge.compare_tokens(output, expected, golden[f"{index}_margin"])
    positions, largest = golden[f"{index}_positions"], 0.0
    for row, position in enumerate(positions):
        # Beyond the first differing token, and beyond our end of text, there is nothing to compare.
        if position < min(len(prompt) + max(agreed, 1) - 1, len(logits)):
            columns = golden[f"{index}_columns"][row]
            largest = max(largest, float(np.abs(logits[position, columns] - golden[f"{index}_logits"][row]).max()))
    if not problem and len(logits) < len(prompt):
        problem = f"{len(logits)} rows of logits for {len(prompt)} prompt tokens"
    if not problem and not largest <= judge.LOGIT_BOUND:
        problem = f"logits differ by {largest:.2e}; bound {judge.LOGIT_BOUND}"
    return problem, largest


def main():
    model = girih_cli.default_model()
    if model is None:
        print("skipped: GIRIH_SMOLLM2_GGUF names no file; `./check` fetches the model and sets it")
        return girih_cli.SKIPPED
    golden, failures = np.load(judge.GOLDEN), 0
    with tempfile.TemporaryDirectory() as folder:
        program = girih_cli.compile_model(model, pathlib.Path(folder) / "model.girih")
        for index in range(20):
            problem, largest = check_prompt(program, golden, index, folder)
            failures += problem is not None
            print(f"{'FAIL' if problem else 'ok  '} prompt {index}, {len(golden[f'{index}_prompt'])} tokens, largest "
                  f"difference {largest:.2e}{'; ' + problem if problem else ''}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
