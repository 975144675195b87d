# SPDX-License-Identifier: Apache-2.0
"""Compiles a graph to a program, decodes it token by token, and holds the answers against the uncached graph's."""
import os
import pathlib
import subprocess
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
import girih_cli  # noqa: E402

BUILD = girih_cli.BUILD
# Of the largest logit: f32 against f64 over sums of a few dozen terms and a softmax; measured below 2e-6.
TOLERANCE = 2e-5


def has_tools():
    return girih_cli.GIRIH.exists() and (BUILD / "bin" / "girih-compile").exists()


def compile_graph(graph, weights, program, *, maxTokens=16, target="cpu:native", numerics="exact", flags=()):
    girih_cli.girih("compile", weights, "--graph", graph, "-o", program, "--numerics", numerics, "--target", target,
                    "--max-tokens-per-step", maxTokens, "--quiet", *flags)
    return program


def reference_logits(graph, weights, tokens, folder):
    """[T, V] f64: the graph as it is, evaluated on all tokens at once."""
    out = pathlib.Path(folder) / "reference.npy"
    command = [str(BUILD / "bin" / "girih-reference"), str(weights), "--graph", str(graph), "--tokens",
               ",".join(map(str, tokens)), "--dump-logits", str(out), "--f64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise girih_cli.Failure(f"girih-reference: {done.stderr.strip()[-1000:]}")
    return np.load(out)


def check_decoding(program, graph, weights, folder, *, prompt, count, tolerance=TOLERANCE):
    """What is wrong with `count` greedy tokens after `prompt`, or None. `graph` is the uncached one, of one sequence.

    The tokens are chosen one at a time through the compiled steps and the cache. Then: the logits of all positions are
    those of the uncached graph on the whole sequence, every token is that graph's first choice too, and one prefill of
    the whole sequence gives the same bits as the single steps did.
    """
    output, decoded = girih_cli.run_tokens(program, prompt, count, folder)
    if len(output) != count:
        return f"gave {len(output)} tokens of {count}"
    whole = list(prompt) + output[:-1]
    expected = reference_logits(graph, weights, whole, folder)
    if decoded.shape != expected.shape:
        return f"logits are {decoded.shape}, the uncached graph's {expected.shape}"
    scale = np.abs(expected).max()
    difference = np.abs(decoded - expected).max() / scale
    if not difference < tolerance:
        return f"logits differ from the uncached graph's by {difference:.2e} of the largest"
    for step, token in enumerate(output):
        row = expected[len(prompt) - 1 + step]
        if row[token] < row.max() - 2 * tolerance * scale:
            return f"token {step} is {token}, the uncached graph's is {int(row.argmax())}"
    _, prefilled = girih_cli.run_tokens(program, whole, 1, folder)
    if not np.array_equal(prefilled[:len(whole)].view(np.uint32), decoded.view(np.uint32)):
        return f"one prefill of {len(whole)} tokens gives other bits than single steps"
    return None
