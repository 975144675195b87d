# SPDX-License-Identifier: Apache-2.0
"""The KV cache in 8 bits on a Vulkan device: its answers are the CPU's over the same cache, and its bits those of any cut.

Both multiply in f32, the CPU since its machine is given no narrower units; what differs are sums' orders, and with them the
codes of values that lie near the middle of two.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[3] / "models")]
import girih_cli
import invariants_test as invariants
import tiny_checkpoints as tiny
import vulkan_machine

CASES = (("llama_4", "software"), ("gemma2_4", "portable"))  # the second has windows and capped scores
PROMPT_TOKENS, GENERATED = 150, 8  # more than a chunk of attention, and blocks that are not full
BOUND = 2e-2  # of a logit: ten times what one code does. An f32 cache is farther off, which is checked too


def machine_of_floats(folder):
    """The description of an AVX2 machine, without units of integers."""
    printed = subprocess.run([girih_cli.BUILD / "bin/girih-compile", "--print-machine", "avx2"], capture_output=True, text=True, check=True)
    machine = json.loads(printed.stdout)
    machine["units"] = [unit for unit in machine["units"] if unit["element"] not in ("i8", "i16")]
    path = folder / "floats.json"
    path.write_text(json.dumps(machine))
    return path


def judge(name, profile, folder, report):
    tiny.write_checkpoint(name, folder / name)
    prompt = np.load(tiny.GOLDEN / f"{name}.npz")["prompt"].tolist()
    prompt = (prompt * PROMPT_TOKENS)[:PROMPT_TOKENS]
    programs = [girih_cli.compile_model(folder / name / "hf", folder / f"{name}_{number}.girih", "invariant", no_golden=True, **options)
                for number, options in enumerate(({"target": "cpu:avx2", "machine": machine_of_floats(folder), "kv": "int8"},
                                                  {"target": f"vulkan:{profile}", "kv": "f32"},
                                                  {"target": f"vulkan:{profile}", "kv": "int8"}))]
    (expected, cpu), (_, wide), (tokens, logits) = (girih_cli.run_tokens(program, prompt, GENERATED, folder) for program in programs)
    difference, other = (float(np.max(np.abs(of[:PROMPT_TOKENS] - cpu[:PROMPT_TOKENS]))) for of in (logits, wide))
    report(f"{name} on {profile}: the CPU's tokens", tokens == expected)
    report(f"{name} on {profile}: {difference:.1e} from the CPU's logits; an f32 cache {other:.1e}", difference < BOUND < other)
    return programs[-1], prompt


@vulkan_machine.needs_device
def main():
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name, profile in CASES:
            program, prompt = judge(name, profile, folder, report)
            result, objections = vulkan_machine.run_validated([girih_cli.GIRIH, "run", program, "--tokens", "1,2,3", "--max-tokens", "2",
                                                               "--no-template"])
            report(f"{name}: the validation layer is silent {objections[:3] or result.stderr[-300:]}", result.returncode == 0 and not objections)
            if profile == "software":
                invariants.check_cuts(f"{name} {profile}", program, prompt, folder, report)
    print(f"{len(report.failed)} checks failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
