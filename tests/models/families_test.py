# SPDX-License-Identifier: Apache-2.0
"""Every family's tiny models, from safetensors and from GGUF, against transformers' logits and greedy tokens.

Judges prefill (logits of the prompt's positions) and decode (those of the generated ones) with one bound: within
1e-3 of the model's largest logit. Greedy tokens must be transformers' own.

    families_test.py [NAME ...]
"""
import pathlib
import sys
import tempfile

import numpy as np

import girih_cli
import tiny_checkpoints as tiny

BOUND = 1e-3


def judge(name, checkpoint, folder, look=lambda program: None, run_options={}, **options):
    """None, or what was wrong in one line: what `look` says of the program, or what transformers would."""
    golden = np.load(tiny.GOLDEN / f"{name}.npz")
    try:
        # One variant is enough here: that variants agree bit for bit is the invariants test.
        program = girih_cli.compile_model(checkpoint, folder / "model.girih", **(options or {"target": "cpu:native"}))
        if problem := look(program):
            return problem
        output, logits = girih_cli.run_tokens(program, golden["prompt"], len(golden["output"]), folder, **run_options)
    except girih_cli.Failure as failure:
        return str(failure)
    finally:
        (folder / "model.girih").unlink(missing_ok=True)
    expected = golden["output"].tolist()
    if output != expected:
        first = next((i for i, pair in enumerate(zip(output, expected)) if pair[0] != pair[1]), len(output))
        return f"greedy token {first} differs: {output[first:first + 4]}, transformers {expected[first:first + 4]}"
    positions = len(golden["prompt"]) + len(expected) - 1
    if len(logits) < positions:
        return f"{len(logits)} rows of logits; {positions} positions were evaluated"
    error = np.abs(logits[golden["positions"]] - golden["logits"]).max(axis=1) / golden["largest"]
    if not error.max() <= BOUND:
        worst = int(np.nanargmax(error))
        return f"logits differ by {error[worst]:.2e} of the largest at position {golden['positions'][worst]}; bound {BOUND}"
    return None


def main(names):
    failures = count = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in names or tiny.all_names():
            tiny.write_checkpoint(name, folder / name)
            for checkpoint in (folder / name / "hf", folder / name / "model.gguf"):
                if not checkpoint.exists():
                    continue
                count += 1
                problem = judge(name, checkpoint, folder)
                failures += problem is not None
                print(f"ok   {name} {checkpoint.name}" if not problem else f"FAIL {name} {checkpoint.name}: {problem}",
                      flush=True)
    print(f"{count - failures} of {count} checkpoints agree with transformers")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
