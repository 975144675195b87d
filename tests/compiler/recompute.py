# SPDX-License-Identifier: Apache-2.0
"""Layers that no cache can serve run all the same, by computing their prefix again, with the reference's tokens.

A running sum over tokens (attention beside it is recognised, but the layer is not token-wise) and values shifted by a
token (a convolution, so that attention is not recognised either) are compiled, must say why they have no cache, and
decode as the uncached graph does. Layers in which a token sees later ones cannot generate and are refused.
"""
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE / "raise"))
import attention_spellings as spellings  # noqa: E402
import compiled_graph  # noqa: E402

CAUSAL = {"running_sum": "combines each token", "shifted_values": "computed index"}
NOT_CAUSAL = ("no_mask", "future", "wrong_axis")
MAX_TOKENS = 32
Failure = compiled_graph.girih_cli.Failure


def write_layer(folder, seed, mutation):
    spelling = spellings.Spelling(seed, mutation)
    spelling.window = None
    weights, graph = folder / "weights.gguf", folder / "graph.mlir"
    spellings.write_gguf(weights, spelling.weights_of_model())
    graph.write_text(spelling.text())
    return graph, weights


def check_causal(seed, mutation, folder):
    graph, weights = write_layer(folder, seed, mutation)
    program = compiled_graph.compile_graph(graph, weights, folder / "program.girih", maxTokens=MAX_TOKENS)
    shown = compiled_graph.girih_cli.girih("inspect", program)
    if "each step recomputes" not in shown or CAUSAL[mutation] not in shown or "graph.mlir" not in shown:
        return f"inspect does not say why there is no cache: {shown[-600:]}"
    problem = compiled_graph.check_decoding(program, graph, weights, folder, prompt=[3, 1, 4], count=14)
    if problem:
        return problem
    try:
        compiled_graph.girih_cli.run_tokens(program, [1] * (MAX_TOKENS + 1), 1, folder)
        return "took a prompt that no step holds"
    except Failure as failure:
        return None if f"the context holds {MAX_TOKENS}" in str(failure) else f"too long a prompt: {failure}"


def check_not_raised(seed, mutation, folder):
    """Attention that nobody recognised: no cache, and still the same tokens."""
    graph, weights = write_layer(folder, seed, None)
    program = compiled_graph.compile_graph(graph, weights, folder / "program.girih", maxTokens=MAX_TOKENS,
                                           flags=["--without", "girih-raise-attention"])
    if "each step recomputes" not in compiled_graph.girih_cli.girih("inspect", program):
        return "has a cache"
    return compiled_graph.check_decoding(program, graph, weights, folder, prompt=[3, 1, 4], count=14)


def check_refused(seed, mutation, folder):
    graph, weights = write_layer(folder, seed, mutation)
    try:
        compiled_graph.compile_graph(graph, weights, folder / "program.girih", maxTokens=MAX_TOKENS)
    except Failure as failure:
        return None if "the graph is not causal" in str(failure) else str(failure)
    return "was compiled"


def main():
    if not compiled_graph.has_tools():
        print(f"needs girih and girih-compile in {compiled_graph.BUILD}/bin")
        return 77
    cases = [(check_causal, seed, mutation) for mutation in CAUSAL for seed in (1, 5)]
    cases += [(check_not_raised, seed, "not_raised") for seed in (1, 3)]
    cases += [(check_refused, 2, mutation) for mutation in NOT_CAUSAL]
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for check, seed, mutation in cases:
            try:
                problem = check(seed, mutation, pathlib.Path(folder))
            except Failure as failure:
                problem = str(failure)
            failures += problem is not None
            print(f"{'FAILED' if problem else 'ok':6} {mutation} {seed}{': ' + problem if problem else ''}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
