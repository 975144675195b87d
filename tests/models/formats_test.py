# SPDX-License-Identifier: Apache-2.0
"""Block formats through whole programs: prefill, several rows and decode, on every ISA, against the f64 reference.

One small llama a format (quantized_checkpoints.py). `fast`, for the best variant of this machine, must be near the
reference; so must `invariant`, whose bits are the same on AVX2, AVX-512 and arm64 (by qemu, where it is installed). Of
formats that share a packed layout one is compiled for all of them.

    formats_test.py             two formats whose layouts differ most
    formats_test.py --full      all of them
    formats_test.py FORMAT ...  these
"""
import concurrent.futures
import pathlib
import re
import sys
import tempfile

import numpy as np

import arm64
import girih_cli
import quantized_checkpoints as checkpoints

sys.path.insert(0, str(girih_cli.REPOSITORY / "tests" / "backends" / "reference"))
import reference_cli  # noqa: E402

PROMPT = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43, 38, 32, 79, 50, 28, 84, 19, 71]
DECODED = 3
# Rows of one step: as many as the prompt (panel kernels), few (direct ones), and then one at a time.
CUTS = (len(PROMPT), 5)
# 4-bit codes with mins, bytes with a scale every 16; the kernels' tests have every layout.
REPRESENTATIVE = ("q4_1", "q6_K")
# Of the logits' spread, the root of the mean square: with f32 activations, with 8-bit ones or bf16. Measured: 2e-4 with
# K and V in f16; 0.01 to 0.023.
BOUNDS = {"float": 2e-3, "rounded": 0.03}


def layouts_of_formats():
    """Format -> packed layout, from the table in the room's README, which a test holds to the code."""
    text = (girih_cli.REPOSITORY / "runtime" / "weights" / "README.md").read_text()
    return {m[1]: m[2] for m in re.finditer(r"^\| (\w+) \| \d+ \|.*?`(p16:[^`]*)`", text, re.MULTILINE)}


def error_of(logits, tokens, checkpoint, folder):
    """Distance to the f64 reference in standard deviations of its logits, over all rows."""
    expected = reference_cli.evaluate(checkpoint, tokens, folder)
    rows = min(len(expected), len(logits))
    return float(np.sqrt(np.mean((logits[:rows] - expected[:rows]) ** 2)) / expected.std())


def judge(name, isWhole, folder):
    """Lines of what was found, and the number of failures among them."""
    lines, failures = [], 0
    checkpoint = folder / "model.gguf"
    checkpoints.write_gguf(checkpoint, name)

    def report(what, isGood):
        nonlocal failures
        failures += not isGood
        lines.append(f"{'ok  ' if isGood else 'FAIL'} {name}: {what}")

    def run_all(program, what, bound, **options):
        found = []
        for cut in CUTS:
            output, logits = girih_cli.run_tokens(program, PROMPT[:cut], DECODED, folder, **options)
            error = error_of(logits, PROMPT[:cut] + output[:-1], checkpoint, folder)
            report(f"{what}: {cut} rows and {len(output) - 1} decodes, {error:.1e} of the spread", error <= bound)
            found.append((output, logits))
        return found

    bound = BOUNDS["float" if name in checkpoints.FLOATS else "rounded"]
    fast = girih_cli.compile_model(checkpoint, folder / "fast.girih", "fast", target="cpu:native", no_golden=True)
    run_all(fast, "fast", BOUNDS["rounded"])
    if not isWhole:
        return lines, failures
    targets = "cpu:x86,cpu:arm64" if arm64.is_available() else "cpu:x86"
    program = girih_cli.compile_model(checkpoint, folder / "all.girih", "invariant", target=targets, no_golden=True)
    runs = run_all(program, "invariant", bound)
    for isa in girih_cli.granted_isas(program):
        again = [girih_cli.run_tokens(program, PROMPT[:cut], DECODED, folder, isa=isa) for cut in CUTS]
        report(f"invariant on {isa}: the same bits", same(again, runs))
    for isa in arm64.CORES if arm64.is_available() else ():
        again = [arm64.run_tokens(program, PROMPT[:cut], DECODED, folder, isa) for cut in CUTS]
        report(f"invariant on {isa}: the same bits", same(again, runs))
    return lines, failures


def same(runs, others):
    return all(a[0] == b[0] and a[1].tobytes() == b[1].tobytes() for a, b in zip(runs, others))


def main(arguments):
    names = {(): REPRESENTATIVE, ("--full",): checkpoints.NAMES}.get(tuple(arguments), arguments)
    layouts = layouts_of_formats()
    if set(layouts) != set(checkpoints.NAMES):
        print(f"FAIL formats without a checkpoint here: {set(layouts) ^ set(checkpoints.NAMES)}")
        return 1
    first = {layout: name for name, layout in reversed(layouts.items())}
    failures = 0
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = []
        for name in names:
            folder = pathlib.Path(scratch) / name
            folder.mkdir()
            running.append(pool.submit(judge, name, first[layouts[name]] == name or len(names) < len(layouts), folder))
        for one in running:
            lines, wrong = one.result()
            failures += wrong
            print("\n".join(lines), flush=True)
    if not arm64.is_available():
        print("     arm64 is left out: needs qemu-user and the arm64 cross libraries when the build is configured")
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
