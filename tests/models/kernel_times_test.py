# SPDX-License-Identifier: Apache-2.0
"""`girih bench --kernels`: the report of a compiled file names exactly the dispatches that its steps run, in order.

The bench itself refuses a file whose report and code disagree in number; here the loop over layers must also be seen.
"""
import json
import pathlib
import sys
import tempfile

import girih_cli
import tiny_checkpoints as tiny


def problems(program):
    model = json.loads(girih_cli.girih("inspect", program, "--format", "json"))
    profile = json.loads(girih_cli.girih("bench", program, "--kernels", "--repetitions", 2, "--format", "json"))
    entries = next(v["entries"] for v in model["variants"] if v["isa"] == profile["isa"])
    if [e["entry"] for e in profile["entries"]] != [e["symbol"] for e in entries]:
        yield f"entries {profile['entries']} are timed, the file has {entries}"
    layers, period = model["model"]["layers"], None
    for entry in profile["entries"]:
        runs = {kernel["repetitions"] for kernel in entry["kernels"]}
        # Alternating layers repeat in pairs; in a long step the last layer is another, of the rows that are read.
        period = period or layers // max(runs)
        if period > 2 or max(runs) not in {layers // period, (layers - 1) // period}:
            yield f"{entry['entry']}: of {layers} layers, kernels run {sorted(runs)} times"
        for kernel in entry["kernels"]:
            if not 0 < kernel["seconds_min"] <= kernel["seconds"] <= kernel["seconds_max"]:
                yield f"{entry['entry']}: {kernel['name']} took {kernel['seconds']} s"
            if kernel["bound"] not in ("memory", "compute") or kernel["predicted_seconds"] <= 0:
                yield f"{entry['entry']}: {kernel['name']} has no prediction"
        if not 0 <= entry["median_error"] or "lm_head" not in entry["kernels"][-1]["name"]:
            yield f"{entry['entry']} ends with {entry['kernels'][-1]['name']}"


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in ("llama_4", "gemma2_3"):
            tiny.write_checkpoint(name, folder / name)
            program = girih_cli.compile_model(folder / name / "hf", folder / f"{name}.girih", "fast")
            found = list(problems(program))
            print("\n".join(f"FAIL {name}: {problem}" for problem in found) or f"ok   {name}")
            failed += len(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
