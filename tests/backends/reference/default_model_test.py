# SPDX-License-Identifier: Apache-2.0
"""The imported graph of the default model, evaluated in f64, against the goldens that transformers made in f32."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models"))
import numpy as np

import default_model_judge as judge
import girih_cli
import reference_cli

PROMPTS = (10, 11, 13)  # short ones, of 1, 4 and 19 tokens: the reference costs 0.2 s a token
BOUND = 2e-4  # of a logit; 6e-5 was measured, over all prompts


def main():
    model = girih_cli.default_model()
    if model is None:
        print("skipped: GIRIH_SMOLLM2_GGUF names no file; `./check` fetches the model and sets it")
        return girih_cli.SKIPPED
    golden, failures = np.load(judge.GOLDEN), 0
    with tempfile.TemporaryDirectory() as folder:
        for index in PROMPTS:
            prompt, output = golden[f"{index}_prompt"], golden[f"{index}_output"]
            logits = reference_cli.evaluate(model, np.concatenate([prompt, output])[:-1], folder)
            rows, columns = golden[f"{index}_positions"], golden[f"{index}_columns"]
            error = np.abs(np.take_along_axis(logits[rows], columns, axis=1) - golden[f"{index}_logits"]).max()
            is_same = logits[len(prompt) - 1 :].argmax(axis=1).tolist() == output.tolist()
            is_good = is_same and error <= BOUND
            failures += not is_good
            print(f"{'ok  ' if is_good else 'FAIL'} prompt {index}: largest difference {error:.2e}, greedy tokens "
                  f"{'equal' if is_same else 'differ'}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
