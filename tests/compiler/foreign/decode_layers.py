# SPDX-License-Identifier: Apache-2.0
"""Attention layers in another importer's linalg: raised, given their caches, compiled, and decoded as the graphs are.

The *.mlir files beside this script were written by IREE from ONNX graphs (make_layers.py says how); nothing in them
was made to suit our recognition. The reference evaluates them as they are, batch dimension and all.
"""
import pathlib
import random
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "raise"))
import attention_spellings  # noqa: E402
import compiled_graph  # noqa: E402

# What raise must find in each: kv heads and window, or null.
LAYERS = {"plain_heads": (4, None), "shared_heads_rope_window": (2, 5)}
PROMPT = [3, 1, 4]
NUM_NEW_TOKENS = 24  # past one KV block, and past the window


def random_weights(graph, path):
    """A checkpoint with the weights that a graph names."""
    rng = random.Random(5)
    shapes = re.findall(r'girih\.weight "(\w+)" : tensor<(\d+)x(\d+)xf32,', graph)
    attention_spellings.write_gguf(path, {
        name: ((int(rows), int(columns)), [rng.gauss(0, 0.7) for _ in range(int(rows) * int(columns))])
        for name, rows, columns in shapes})


def check_raised(graph, num_kv_heads, window):
    """What raise did not see, or None."""
    done = subprocess.run([str(compiled_graph.BUILD / "bin" / "girih-opt"), str(graph), "-girih-import", "-girih-raise",
                           "-girih-insert-kv-cache"], capture_output=True, text=True, timeout=60)
    if done.returncode or "girih.recompute" in done.stdout:
        return f"not cached: {done.stderr[-800:]}"
    attention = re.findall(r"girih\.attention .*cache\(.*!girih\.kv<(\d+),.*\{(.*)\}", done.stdout)
    if len(attention) != 1:
        return f"found {len(attention)} attentions"
    seen_window = re.search(r"window = (\d+)", attention[0][1])
    seen = int(attention[0][0]), int(seen_window[1]) if seen_window else None
    return None if seen == (num_kv_heads, window) else f"kv heads and window are {seen}"


def check(name, folder):
    graph, weights = HERE / f"{name}.mlir", folder / "weights.gguf"
    random_weights(graph.read_text(), weights)
    problem = check_raised(graph, *LAYERS[name])
    if problem:
        return problem
    try:
        program = compiled_graph.compile_graph(graph, weights, folder / "program.girih")
        return compiled_graph.check_decoding(program, graph, weights, folder, prompt=PROMPT, count=NUM_NEW_TOKENS)
    except compiled_graph.girih_cli.Failure as failure:
        return str(failure)


def main():
    if not compiled_graph.has_tools():
        print(f"needs girih and girih-compile in {compiled_graph.BUILD}/bin")
        return 77
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in LAYERS:
            problem = check(name, pathlib.Path(folder))
            failures += problem is not None
            print(f"{'FAILED' if problem else 'ok':6} {name}{': ' + problem if problem else ''}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
