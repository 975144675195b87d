# SPDX-License-Identifier: Apache-2.0
"""The table in backends/README.md is what the suite's reports say: cases passed, level by level.

    support_table.py            compares
    support_table.py --write    writes it anew
"""
import collections
import pathlib
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[2] / "models")]
import girih_cli
import mutants_test as mutants
import sdk_test as sdk
import tiny_checkpoints as tiny

README = sdk.ROOT / "backends/README.md"
BEGIN, END = "<!-- from girih-conformance: begin -->\n", "<!-- end -->\n"
MODEL = "llama_3"


def compiled(folder, name, **options):
    """A folder with a program for the backend."""
    (folder / name).mkdir()
    girih_cli.compile_model(folder / MODEL / "hf", folder / name / "model.girih", **options)
    return folder / name


def reports(folder):
    """backend: its outcomes, case by case."""
    prefix = folder / "sdk"
    sdk.run("cmake", "--install", sdk.BUILD, "--prefix", prefix, "--component", "sdk")
    tiny.write_checkpoint(MODEL, folder / MODEL)
    suite, compiler = prefix / "bin/girih-conformance", ("--compiler", sdk.COMPILER)
    quill = sdk.build("quill", folder, prefix)
    return {
        "cpu": mutants.outcomes(suite, "cpu", more=(*compiler, "--models", compiled(folder, "for-cpu", target="cpu:native"))),
        "quill": mutants.outcomes(suite, quill, more=(*compiler, "--models", compiled(folder, "for-quill", backend=quill))),
        "null": mutants.outcomes(suite, sdk.build("null", folder, prefix)),
    }


def table_of(reports):
    """Markdown: a row a level, a column a backend, "passed of all" in each."""
    rows = collections.defaultdict(lambda: {backend: [] for backend in reports})
    for backend, outcomes in reports.items():
        for case, (outcome, _) in outcomes.items():
            rows[case.split("/")[0]][backend].append(outcome)
    lines = ["| level | " + " | ".join(f"`{backend}`" for backend in reports) + " |", "|---" * (len(reports) + 1) + "|"]
    for level, outcomes in rows.items():
        cells = [f"{all.count('pass')} of {len(all)}" for all in outcomes.values()]
        lines.append(f"| `{level}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments):
    if not (sdk.BUILD / "lib/libgirih_runtime.so").exists() or not sdk.COMPILER.exists():
        print("needs libgirih_runtime.so and the compiler")
        return girih_cli.SKIPPED
    with tempfile.TemporaryDirectory() as temporary:
        found = reports(pathlib.Path(temporary))
    bad = [(backend, case, *what) for backend, outcomes in found.items() for case, what in outcomes.items()
           if what[0] not in ("pass", "unsupported")]
    assert not bad, bad[:3]
    text = README.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    table = table_of(found)
    print(table, end="")
    if arguments == ["--write"]:
        README.write_text(text[:begin] + table + text[end:])
    elif text[begin:end] != table:
        print("backends/README.md says otherwise; support_table.py --write mends it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
