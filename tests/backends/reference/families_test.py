# SPDX-License-Identifier: Apache-2.0
"""The imported graph of every family's tiny models, evaluated in f64, against transformers' logits.

Judges import and reference together, without any pass in between: within 2e-5 of the model's largest logit, which is
what f32 (transformers) and f64 (the reference) differ by.

    families_test.py [NAME ...]
"""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models"))
import numpy as np

import reference_cli
import tiny_checkpoints as tiny

BOUND = 2e-5


def judge(name, checkpoint, folder):
    """(problem or None, error relative to the largest logit)"""
    golden = np.load(tiny.GOLDEN / f"{name}.npz")
    tokens = np.concatenate([golden["prompt"], golden["output"]])[:-1]
    try:
        logits = reference_cli.evaluate(checkpoint, tokens, folder)
    except reference_cli.Failure as failure:
        return str(failure), np.nan
    error = float(np.abs(logits[golden["positions"]] - golden["logits"]).max() / golden["largest"])
    chosen = logits[len(golden["prompt"]) - 1 :].argmax(axis=1)
    if chosen.tolist() != golden["output"].tolist():
        return "greedy tokens differ", error
    return (None if error <= BOUND else f"logits differ by {error:.2e} of the largest; bound {BOUND}"), error


def main(names):
    failures = count = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in names or tiny.all_names():
            tiny.write_checkpoint(name, folder / name)
            for checkpoint in (folder / name / "hf", folder / name / "model.gguf"):
                if checkpoint.exists():
                    problem, error = judge(name, checkpoint, folder)
                    count += 1
                    failures += problem is not None
                    print(f"{'FAIL' if problem else 'ok  '} {name} {checkpoint.name} {error:.1e} {problem or ''}", flush=True)
    print(f"{count - failures} of {count} checkpoints agree with transformers")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
