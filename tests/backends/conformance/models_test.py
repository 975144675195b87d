# SPDX-License-Identifier: Apache-2.0
"""Level "models" of the suite on the processor: a tiny model of every family, in `exact` and in `fast`.

    models_test.py
"""
import pathlib
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[2] / "models")]
import girih_cli
import mutants_test as mutants
import tiny_checkpoints as tiny

ONE_EACH = ("gemma2_1", "llama_3", "mistral_2", "qwen2_1", "qwen3_2")
SUITE = girih_cli.BUILD / "bin/girih-conformance"


def compile_each(folder, **options):
    """A folder of programs with the reference's answers."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ONE_EACH:
        tiny.write_checkpoint(name, folder / "checkpoints" / name)
        for numerics in ("exact", "fast"):
            girih_cli.compile_model(folder / "checkpoints" / name / "hf", programs / f"{name}-{numerics}.girih", numerics=numerics, **options)
    return programs


def judge(report, backend, programs):
    outcomes = mutants.outcomes(SUITE, backend, "models", more=("--models", programs))
    for case, (outcome, text) in outcomes.items():
        report(f"{case}: {outcome}{': ' + text if text else ''}", outcome == "pass")
    report(f"{len(outcomes)} cases over {len(list(programs.iterdir()))} programs", len(outcomes) == 4)


def main():
    if not (girih_cli.BUILD / "bin/girih-compile").exists():
        print("needs the compiler")
        return girih_cli.SKIPPED
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as temporary:
        judge(report, "cpu", compile_each(pathlib.Path(temporary), target="cpu:native"))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
