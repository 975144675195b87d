# SPDX-License-Identifier: Apache-2.0
"""quill, built from the installed SDK alone, runs tiny models of every family, compiled through C99.

Tokens are transformers' own, and so are logits: in `exact` within the bound of the families' test, in `fast`, where the matrix
unit rounds to f16, within what that rounding can do.

    quill_test.py [NAME ...]            a checkpoint each; without names one of every family
"""
import json
import pathlib
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "conformance"), str(pathlib.Path(__file__).resolve().parents[2] / "models")]
import families_test as families
import girih_cli
import models_test as models
import mutants_test as mutants
import numpy as np
import sdk_test as sdk
import tiny_checkpoints as tiny

# A line of the simulator, and one that is a little wrong.
RIGHT_ROOT, WRONG_ROOT = "set(i.d, sqrtf(a))", "set(i.d, sqrtf(a) * 1.01f)"
# Both sides of a product are rounded to f16, by 2^-11 of themselves; a token passes four matmuls a layer, and the head.
ROUNDING = 2 * 2.0 ** -11
MATMULS_OF_LAYER = 4


def judge_rounded(name, checkpoint, folder, library):
    """None, or what is wrong with `fast`."""
    golden = np.load(tiny.GOLDEN / f"{name}.npz")
    layers = json.loads((tiny.GOLDEN / f"{name}.json").read_text())["config"]["num_hidden_layers"]
    program = girih_cli.compile_model(checkpoint, folder / "fast.girih", numerics="fast", backend=library, no_golden=True)
    output, logits = girih_cli.run_tokens(program, golden["prompt"], len(golden["output"]), folder, backend=library)
    if output != golden["output"].tolist():
        return f"greedy tokens {output}, transformers {golden['output'].tolist()}"
    error = (np.abs(logits[golden["positions"]] - golden["logits"]).max(axis=1) / golden["largest"]).max()
    bound = ROUNDING * (MATMULS_OF_LAYER * layers + 1)
    return None if families.BOUND / 10 < error <= bound else f"logits differ by {error:.1e} of the largest; rounding does up to {bound:.1e}"


def main(names):
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        prefix = folder / "sdk"
        sdk.run("cmake", "--install", sdk.BUILD, "--prefix", prefix, "--component", "sdk")
        library = sdk.build("quill", folder, prefix)
        programs = models.compile_each(folder, backend=library)
        models.judge(report, library, programs)
        for name in names or models.ONE_EACH:
            tiny.write_checkpoint(name, folder / name)
            checkpoint = folder / name / "hf"
            problem = families.judge(name, checkpoint, folder, run_options={"backend": library}, backend=library, no_golden=True)
            report(f"{name}{': ' + problem if problem else ''}", not problem)
            problem = judge_rounded(name, checkpoint, folder, library)
            report(f"{name}, rounded{': ' + problem if problem else ''}", not problem)
        simulator = folder / "quill/simulator.cpp"
        simulator.write_text(simulator.read_text().replace(RIGHT_ROOT, WRONG_ROOT))
        sdk.run("cmake", "--build", folder / "quill-build")
        case = "models/answers_as_the_reference"
        outcome, text = mutants.outcomes(models.SUITE, library, case, more=("--models", programs))[case]
        report(f"a wrong square root is caught: {text}", outcome == "fail")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
