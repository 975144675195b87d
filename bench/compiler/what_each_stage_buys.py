# SPDX-License-Identifier: Apache-2.0
"""What each stage of the ladder buys: one model compiled with that stage's optimisation off, timed beside the whole.

    python3 bench/compiler/what_each_stage_buys.py model.gguf [--rounds 3] [--only girih-fuse-elementwise,...]

Programs are timed in turns (every round runs each once), and the medians are printed as a Markdown table. "Off" is
`girih compile --without`, or for `tile` a machine description with four registers and caches of 4 KiB.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

GIRIH = pathlib.Path(__file__).resolve().parents[2] / "build" / "bin" / "girih"
NUM_PROMPT, NUM_NEW = 256, 32
# Stage, what is off, passes left out.
ROWS = [
    ("", "nothing off", []),
    ("import", "equal layers outlined", ["girih-outline-blocks"]),
    ("raise", "projections merged", ["girih-merge-projections"]),
    ("raise, specialize", "attention recognised, and with it the cache", ["girih-raise-attention"]),
    ("fuse", "elementwise chains fused", ["girih-fuse-elementwise"]),
    ("fuse", "results written over operands", ["girih-reuse-operands"]),
    ("fuse", "the last layer's end for wanted rows alone", ["girih-narrow-last-layer"]),
    ("tile", "sizes by the machine", "machine"),
    ("tile", "a token's attention cut along the cache", ["girih-split-attention"]),
    ("allocate", "row dispatches merged, cheap ones repeated",
     ["girih-merge-row-dispatches", "girih-repeat-cheap-dispatches"]),
]


def girih(*arguments):
    done = subprocess.run([str(GIRIH), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"girih {arguments[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def smallest_machine(folder):
    machine = json.loads(girih("compile", "--print-machine", "avx512"))
    for level in machine["levels"][:2]:
        level["size_bytes"] = 4096
    for unit in machine["units"]:
        unit["registers"] = 4
    path = folder / "machine.json"
    path.write_text(json.dumps(machine))
    return ["--machine", path]


def compile_without(model, what, program):
    flags = smallest_machine(program.parent) if what == "machine" else ["--without", ",".join(what)] if what else []
    begin = time.monotonic()
    # exact: the arithmetic of every row is the same, so that only the stage differs.
    girih("compile", model, "-o", program, "--target", "cpu:avx512", "--numerics", "exact", "--no-golden", "--quiet", *flags)
    seconds = time.monotonic() - begin
    variant = json.loads(girih("inspect", program, "--format", "json"))["variants"][0]
    return {"compile": seconds, "variant": variant, "prefill": [], "decode": []}


def speed_of(program):
    """Tokens a second of prefill and decode; `bench` times no program that recomputes its prefix, `run` does."""
    try:
        return json.loads(girih("bench", program, "--prompt-tokens", NUM_PROMPT, "--generate", NUM_NEW, "--repetitions",
                                1, "--format", "json"))
    except RuntimeError as failure:
        if "has no KV cache" not in str(failure):
            raise
    tokens = ",".join(str(100 + token) for token in range(NUM_PROMPT))
    return json.loads(girih("run", program, "--tokens", tokens, "--max-tokens", 4, "--format", "json"))["timings"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="of the passes, separated by commas")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else None
    results = []
    with tempfile.TemporaryDirectory() as name:
        for number, (stage, label, what) in enumerate(ROWS):
            if wanted and what and (what if what == "machine" else what[0]) not in wanted:
                continue
            program = pathlib.Path(name) / f"{number}.girih"
            try:
                results.append((stage, label, program, compile_without(options.model, what, program)))
            except RuntimeError as failure:  # later stages rely on it
                print(f"{stage}: without \"{label}\" the model does not compile: {str(failure)[-160:]}")
        for _ in range(options.rounds):
            for _, _, program, result in results:
                bench = speed_of(program)
                result["prefill"].append(bench["prefill_tokens_per_second"])
                result["decode"].append(bench["decode_tokens_per_second"])
    print("| stage | without | decode, tokens/s | prefill, tokens/s | code | arena | compile |")
    print("|---|---|---|---|---|---|---|")
    for stage, label, _, result in results:
        variant = result["variant"]
        print(f"| {stage} | {label} | {statistics.median(result['decode']):.1f} | {statistics.median(result['prefill']):.0f} "
              f"| {variant['code_bytes'] / 1024:.0f} KiB | {variant['arena_bytes'] / 1024:.0f} KiB | {result['compile']:.1f} s |")


if __name__ == "__main__":
    main()
