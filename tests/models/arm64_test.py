# SPDX-License-Identifier: Apache-2.0
"""arm64, run by qemu: whole models give the bits of x86, the right variant is chosen, and what cannot run is refused.

    arm64_test.py          a tiny model and quantised weights
    arm64_test.py --full   more of them and the default model, which must say what the capital of France is
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import arm64
import girih_cli
import quantized_checkpoints
import tiny_checkpoints as tiny

DECODED = 6
PARIS = "What is the capital of France?"
REFUSED = 1  # the exit status of an error; a processor's illegal instruction would be a signal


def same_bits(a, b):
    return a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32))


def check_model(name, checkpoint, prompt, numerics, folder, report):
    program = girih_cli.compile_model(checkpoint, folder / f"{name}.girih", numerics, target="cpu:x86,cpu:arm64", no_golden=True)
    output, logits = girih_cli.run_tokens(program, prompt, DECODED, folder)
    for isa in arm64.CORES:
        got, values = arm64.run_tokens(program, prompt, DECODED, folder, isa, threads=2)
        report(f"{name} in {numerics} on {isa}: tokens and bits of x86", got == output and same_bits(values, logits))


def check_refusals(checkpoint, folder, report):
    programs = {target: girih_cli.compile_model(checkpoint, folder / f"{target}.girih", "fast", target=f"cpu:{target}",
                                                no_golden=True) for target in ("i8mm", "avx2", "arm64")}

    def refusal(program, core, *more):
        done = arm64.run(program, [1], 1, folder / "none", core, *more)
        return done.stderr if done.returncode == REFUSED else f"exit status {done.returncode}"

    def expect(what, text, *words):
        report(f"{what}: {text.strip()[-160:]}", all(word in text for word in words))

    expect("i8mm's file on an older core", refusal(programs["i8mm"], "cortex-a57"), "i8mm", "missing dotprod, i8mm")
    expect("x86's file on arm64", refusal(programs["avx2"], "max"), "avx2", "missing")
    expect("a variant by name on an older core", refusal(programs["arm64"], "cortex-a57", "dotprod"), "missing dotprod")
    try:
        girih_cli.run_tokens(programs["arm64"], [1], 1, folder)
        report("arm64's file on x86 is refused", False)
    except girih_cli.Failure as failure:
        expect("arm64's file on x86", str(failure), "neon (missing neon)")


def check_default_model(folder, report):
    model = girih_cli.default_model()
    if model is None:
        return print("     the default model is not here (GIRIH_SMOLLM2_GGUF): its part is skipped")
    for numerics in ("exact", "invariant"):
        program = girih_cli.compile_model(model, folder / "default.girih", numerics, target="cpu:x86,cpu:arm64", no_golden=True)
        answer = json.loads(girih_cli.girih("run", program, "--prompt", PARIS, "--temperature", 0, "--format", "json",
                                            "--max-tokens", DECODED + 4))
        prompt = answer["prompt_tokens"]
        _, logits = girih_cli.run_tokens(program, prompt, DECODED + 4, folder)
        for isa in arm64.CORES:
            output, values = arm64.run_tokens(program, prompt, DECODED + 4, folder, isa, threads=2)
            report(f"default model in {numerics} on {isa}: {answer['text']!r}",
                   output == answer["output_tokens"] and same_bits(values, logits))
        if numerics == "exact":
            report("it is Paris", "Paris" in answer["text"])


def main(arguments):
    if not arm64.is_available():
        print("needs qemu-user, libstdc++-12-dev-arm64-cross and libc6-dev-arm64-cross when the build is configured")
        return girih_cli.SKIPPED
    report, isWhole = girih_cli.Reporter(), arguments == ["--full"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in ("llama_4", "gemma2_4") if isWhole else ("gemma2_4",):
            tiny.write_checkpoint(name, folder / name)
            prompt = np.load(tiny.GOLDEN / f"{name}.npz")["prompt"].tolist()
            check_model(name, folder / name / "hf", prompt, "exact", folder, report)
        quantized_checkpoints.write_gguf(folder / "q4_1.gguf", "q4_1")
        check_model("q4_1", folder / "q4_1.gguf", list(range(1, 40)), "invariant", folder, report)
        check_refusals(folder / "q4_1.gguf", folder, report)
        if isWhole:
            check_default_model(folder, report)
    print(f"{len(report.failed)} failures")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
