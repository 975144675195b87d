# SPDX-License-Identifier: Apache-2.0
"""A machine is data: halving a cache or the vector width changes tiles and code, costs time, and changes no result.

An attention layer with wide heads is compiled for one made-up machine (small caches, so that a small model is cut),
then with its first level, its second level, or its vector width halved. Each time the report's tiles and the object
code must differ, the predicted time must not shrink (half of a small level costs little, and smaller tiles are dealt out
more evenly, the first of them sooner), every footprint must fit the level that the report names, and the logits of the `exact` program
must be the same bits. A machine too small for any tile is refused.
"""
import json
import pathlib
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE / "raise"))
import attention_spellings as spellings  # noqa: E402
import compiled_graph  # noqa: E402

girih_cli = compiled_graph.girih_cli
EVEN = 0.96  # of the time, at least: what smaller tiles may gain by being dealt out evenly and begun sooner
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]


def base_machine():
    machine = json.loads(girih_cli.girih("compile", "--print-machine", "avx2"))
    for level, size_bytes in zip(machine["levels"], (16384, 32768)):
        level["size_bytes"] = size_bytes
    return machine


def scaled(machine, what, factor):
    copy = json.loads(json.dumps(machine))
    if what == "lanes":
        for unit in copy["units"]:
            unit["lanes"] = int(unit["lanes"] * factor)
    else:
        level = next(level for level in copy["levels"] if level["name"] == what)
        level["size_bytes"] = int(level["size_bytes"] * factor)
    return copy


def halved(machine, what):
    return scaled(machine, what, 0.5)


def image_of(program):
    """The ELF image inside a program file, up to the next section."""
    data = program.read_bytes()
    start = data.index(b"\x7fELF")
    return data[start:data.index(b"\0" * 4096, start)] if b"\0" * 4096 in data[start:] else data[start:]


def compile_for(machine, graph, weights, folder, name):
    description, report, program = (folder / f"{name}.{kind}" for kind in ("machine.json", "report.json", "girih"))
    description.write_text(json.dumps(machine))
    compiled_graph.compile_graph(graph, weights, program, maxTokens=64, target="cpu:avx2",
                                 flags=["--machine", description, "--report", report])
    dispatches = json.loads(report.read_text())["dispatches"]
    sizes = {level["name"]: level["size_bytes"] for level in machine["levels"]}
    misfits = [d["name"] for d in dispatches if d["footprint_bytes"] > sizes[d["level"]]]
    _, logits = girih_cli.run_tokens(program, PROMPT, 6, folder, isa="avx2")
    return {"each": dispatches, "tiles": [d["tiles"] for d in dispatches], "seconds": sum(d["predicted_seconds"] for d in dispatches),
            "image": image_of(program), "logits": logits, "misfits": misfits}


def main():
    if not compiled_graph.has_tools():
        print(f"needs girih and girih-compile in {compiled_graph.BUILD}/bin")
        return 77
    spellings.NUM_CHANNELS, spellings.HIDDEN_SIZE = 64, 256
    failures = 0

    def report(what, isGood):
        nonlocal failures
        failures += not isGood
        print(f"{'ok' if isGood else 'FAILED':6} {what}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        spelling = spellings.Spelling(2)
        spelling.num_kv_heads, spelling.group, spelling.num_heads = 1, 2, 2
        spelling.sharing, spelling.window = "broadcast", None
        graph, weights = folder / "graph.mlir", folder / "weights.gguf"
        spellings.write_gguf(weights, spelling.weights_of_model())
        graph.write_text(spelling.text())
        machine = base_machine()
        whole = compile_for(machine, graph, weights, folder, "whole")
        again = compile_for(machine, graph, weights, folder, "again")
        report("the same machine: the same code", again["image"] == whole["image"])
        for what in ("L1", "L2", "lanes"):
            half = compile_for(halved(machine, what), graph, weights, folder, what)
            report(f"{what} halved: other tiles", half["tiles"] != whole["tiles"])
            report(f"{what} halved: other object code", half["image"] != whole["image"])
            report(f"{what} halved: {whole['seconds'] * 1e6:.1f} us predicted, then {half['seconds'] * 1e6:.1f}",
                   half["seconds"] > (1 if what == "lanes" else EVEN) * whole["seconds"])
            report(f"{what} halved: every footprint fits its level", not half["misfits"])
            report(f"{what} halved: the same bits",
                   np.array_equal(half["logits"].view(np.uint32), whole["logits"].view(np.uint32)))
        # Vectors twice as wide as the target's, in registers of as many bytes: the code generator splits them. Half as
        # many registers make some tiles smaller, and those may take longer.
        wider = scaled(machine, "lanes", 2)
        for unit in wider["units"]:
            unit["registers"] //= 2
        wide = compile_for(wider, graph, weights, folder, "wide")
        report("lanes doubled: other tiles", wide["tiles"] != whole["tiles"])
        alike = [pair for pair in zip(whole["each"], wide["each"]) if pair[0]["tiles"] == pair[1]["tiles"]]
        before, after = (sum(pair[side]["predicted_seconds"] for pair in alike) for side in (0, 1))
        report(f"lanes doubled: {before * 1e6:.1f} us predicted where tiles are the same, then {after * 1e6:.1f}",
               after < 0.95 * before)
        report("lanes doubled: the same bits",
               np.array_equal(wide["logits"].view(np.uint32), whole["logits"].view(np.uint32)))
        tiny = halved(machine, "L2")
        tiny["levels"][0]["size_bytes"] = tiny["levels"][1]["size_bytes"] = 512
        try:
            compile_for(tiny, graph, weights, folder, "tiny")
            report("a machine too small for any tile is refused", False)
        except girih_cli.Failure as failure:
            report("a machine too small for any tile is refused", "no smaller tile is made" in str(failure))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
