# SPDX-License-Identifier: Apache-2.0
"""Every pass and every op carries an IR example in its TableGen description, and the examples are true.

Each ```mlir block of a description must parse and verify in girih-opt. The first block of a pass is its input: the
pass is run on it and must succeed; what it must give is said by CHECK lines in the block (FileCheck), or by further
blocks, or else it must at least change the IR, unless the description says `Changes nothing`.

    doc_examples.py GIRIH_OPT LLVM_BIN [ROOT]         checks every .td of the tree
    doc_examples.py GIRIH_OPT LLVM_BIN --self-test    shows that a missing, a broken and an idle example fail
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^([ \t]*)```mlir\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


def examples(description):
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in BLOCK.findall(description)]


class Tools:
    def __init__(self, girih_opt, llvm_bin):
        self.girih_opt, self.llvm_bin = girih_opt, pathlib.Path(llvm_bin)

    def records(self, path, root):
        """The TableGen definitions of one file, as JSON."""
        include = self.llvm_bin.parent / "include"
        command = [self.llvm_bin / "llvm-tblgen", "--dump-json", "-I", root, "-I", include, path]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{path}: {done.stderr.strip()[:300]}")
        return json.loads(done.stdout)

    def opt(self, text, *flags):
        """(output, None) or (None, first error)."""
        done = subprocess.run([self.girih_opt, *flags], input=text, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            return None, (done.stderr.strip() or f"exit status {done.returncode}")[:300]
        return done.stdout, None

    def file_check(self, block, output):
        with tempfile.NamedTemporaryFile("w", suffix=".mlir") as file:
            file.write(block)
            file.flush()
            done = subprocess.run([self.llvm_bin / "FileCheck", file.name], input=output, capture_output=True, text=True)
        return None if done.returncode == 0 else done.stderr.strip()[:400]


def check_pass(tools, flag, description):
    """What is wrong with a pass's description: a list of lines."""
    blocks = examples(description)
    if not blocks:
        return ["has no ```mlir example"]
    problems = []
    for number, block in enumerate(blocks):
        _, error = tools.opt(block)
        problems += [f"example {number} does not parse: {error}"] if error else []
    if problems:
        return problems
    before, _ = tools.opt(blocks[0])
    after, error = tools.opt(blocks[0], f"-{flag}")
    if error:
        return [f"fails on its own example: {error}"]
    if "CHECK" in blocks[0]:
        mismatch = tools.file_check(blocks[0], after)
        return [f"its example's CHECK lines do not hold: {mismatch}"] if mismatch else []
    changes_nothing = "hanges nothing" in description
    if changes_nothing != (before == after):
        return ["its example is not changed by it" if before == after else "says `Changes nothing`, and changes its example"]
    return []


def check_op(tools, description):
    blocks = examples(description)
    if not blocks:
        return ["has no ```mlir example"]
    return [f"example {number} does not parse: {error}"
            for number, block in enumerate(blocks) for _, error in [tools.opt(block)] if error]


def check_file(tools, path, root):
    """(complaints, how many passes and ops were seen) of one .td file, counting only what it defines itself."""
    records, complaints, count = tools.records(path, root), [], 0
    own = set(re.findall(r"^def\s+(\w+)", path.read_text(), re.MULTILINE))
    kinds = records["!instanceof"]
    for name in kinds.get("PassBase", []):
        if name in own:
            count += 1
            record = records[name]
            problems = check_pass(tools, record["argument"], record["description"])
            complaints += [f"{path}: pass `{record['argument']}` {problem}" for problem in problems]
    for name in kinds.get("Op", []):
        if name in own:
            count += 1
            record = records[name]
            complaints += [f"{path}: op `{record['opName']}` {problem}" for problem in check_op(tools, record["description"])]
    return complaints, count


def check_tree(tools, root):
    complaints, count = [], 0
    for folder in ("dialects", "compiler", "backends"):
        for path in sorted((root / folder).rglob("*.td")):
            found, seen = check_file(tools, path, root)
            complaints, count = complaints + found, count + seen
    return complaints, count


PASS = 'include "mlir/Pass/PassBase.td"\ndef {name} : Pass<"{flag}"> {{ let summary = "x"; let description = [{{{text}}}]; }}\n'
DEAD = "\nExample:\n```mlir\nfunc.func @f() {\n  %%c = arith.constant 1 : index\n  return\n}\n%s```\n"
SELF_TESTS = {  # what: (text of the description, whether it must be accepted); the pass is upstream's canonicalize
    "a pass without example": ("Nothing here.", False),
    "an example that does not parse": ("\n```mlir\nfunc.func @f( {\n```\n", False),
    "an example that is not changed": ("\n```mlir\nfunc.func @f() {\n  return\n}\n```\n", False),
    "CHECK lines that do not hold": (DEAD % "// CHECK: arith.constant\n", False),
    "CHECK lines that hold": (DEAD % "// CHECK: @f\n// CHECK-NOT: arith.constant\n", True),
    "an example that is changed": (DEAD % "", True),
    "a pass that says it changes nothing, and does": ("Changes nothing.\n" + DEAD % "", False),
}


def self_test(tools):
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "passes.td"
        for what, (text, accepted) in SELF_TESTS.items():
            path.write_text(PASS.format(name="Canonicalize", flag="canonicalize", text=text))
            complaints, count = check_file(tools, path, pathlib.Path(folder))
            if count != 1 or (not complaints) != accepted:
                wrong.append(f"{what}: {'; '.join(complaints) or 'accepted'}")
    print("\n".join(wrong))
    print(f"{len(SELF_TESTS) - len(wrong)} of {len(SELF_TESTS)} cases judged rightly")
    return 1 if wrong else 0


def main(arguments):
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    tools = Tools(*arguments[:2])
    if arguments[2:] == ["--self-test"]:
        return self_test(tools)
    root = pathlib.Path(arguments[2]) if arguments[2:] else pathlib.Path(__file__).resolve().parents[2]
    complaints, count = check_tree(tools, root)
    print("\n".join(complaints))
    print(f"{len(complaints)} complaints about {count} passes and ops")
    return 1 if complaints or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
