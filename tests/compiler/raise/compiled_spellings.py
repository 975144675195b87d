# SPDX-License-Identifier: Apache-2.0
"""The spellings of attention_spellings.py, compiled: each decodes through its cache as the uncached graph does.

    compiled_spellings.py [--count N] [--seed S] [--numerics exact]

Where attention_spellings.py asks the reference what raise and specialize made, here the whole compiler and the runtime
are under test: a program is written for this machine, generates greedily from a short prompt past the first KV block,
and is compared with the spelling itself in f64.
"""
import argparse
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import attention_spellings as spellings  # noqa: E402
import compiled_graph  # noqa: E402

PROMPT = [3, 1, 4]
NUM_NEW_TOKENS = 18  # past the 16 positions of a KV block, and past every window


def check(seed, folder):
    """What is wrong with the compiled spelling, or None."""
    spelling = spellings.Spelling(seed)
    weights, graph, entered = folder / "weights.gguf", folder / "graph.mlir", folder / "entered.mlir"
    spellings.write_gguf(weights, spelling.weights_of_model())
    graph.write_text(spelling.text())
    entered.write_text(spelling.text(spelling.entry))
    try:
        program = compiled_graph.compile_graph(entered, weights, folder / "program.girih")
        return compiled_graph.check_decoding(program, graph, weights, folder, prompt=PROMPT, count=NUM_NEW_TOKENS)
    except compiled_graph.girih_cli.Failure as failure:
        return str(failure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not compiled_graph.has_tools():
        print(f"needs girih and girih-compile in {compiled_graph.BUILD}/bin")
        return 77
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.seed, options.seed + options.count):
            problem = check(seed, pathlib.Path(name))
            if problem:
                failures += 1
                print(f"spelling {seed}: {spellings.Spelling(seed)}\n  {problem}", flush=True)
    print(f"{options.count} spellings compiled and decoded, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
