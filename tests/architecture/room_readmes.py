# SPDX-License-Identifier: Apache-2.0
"""Every room has a README of one screen, the root's names every room, and it or CONTRIBUTING.md every dependency.

room_readmes.py [ROOT]          checks the tree (default: this repository)
room_readmes.py --self-test     shows on small bad trees that each rule fails when broken
"""
import pathlib
import re
import sys
import tempfile

ROOMS = ["dialects", "compiler", "backends", "runtime", "models", "tests", "bench"]
ONE_SCREEN = 100
FIRST_COMMAND_BY = 12


def check_readme(path, text):
    lines = text.split("\n")
    if not re.match(r"# \w+.*: \w+", lines[0]):
        yield f"{path}: the first line is `# name: what it is for`; seen `{lines[0][:60]}`"
    most = ONE_SCREEN
    if len(lines) - 1 > most:
        yield f"{path}: {len(lines) - 1} lines; at most {most}"


def dependencies(root):
    """What CMake looks for and which crates Cargo does, with the file that says so."""
    for cmake in sorted(root.rglob("CMakeLists.txt")):
        path = cmake.relative_to(root)
        if not path.parts[0].startswith(("build", ".")):
            for name in re.findall(r"find_package\((\w+)", cmake.read_text()):
                yield name, path
    for cargo in sorted(root.rglob("Cargo.toml")):
        path = cargo.relative_to(root)
        if path.parts[0].startswith(("build", ".")) or "target" in path.parts:
            continue
        section = re.search(r"^\[dependencies\]\n(.*?)(^\[|\Z)", cargo.read_text(), re.MULTILINE | re.DOTALL)
        for name in re.findall(r"^([\w-]+)\s*=", section.group(1) if section else "", re.MULTILINE):
            yield name, path


# Parts of a tool chain that everybody has, or that belong to a dependency which is named.
UNNAMED = {"Threads", "LLVM"}


def check_tree(root):
    complaints = []
    for path in ["README.md", *(f"{room}/README.md" for room in ROOMS if (root / room).is_dir())]:
        if not (root / path).exists():
            complaints.append(f"{path}: is not there; every room has one")
            continue
        complaints += check_readme(path, (root / path).read_text())
    if not (root / "README.md").exists():
        return complaints
    readme = (root / "README.md").read_text()
    fence = next((number for number, line in enumerate(readme.split("\n"), 1) if line.startswith("```")), None)
    if fence is None or fence > FIRST_COMMAND_BY:
        complaints.append(f"README.md: the first command stands on line {fence}; a stranger finds one by line {FIRST_COMMAND_BY}")
    complaints += [f"README.md: does not name the room {room}/" for room in ROOMS if f"{room}/" not in readme]
    contributing = root / "CONTRIBUTING.md"
    known = (readme + (contributing.read_text() if contributing.exists() else "")).lower()
    for name, path in dependencies(root):
        if name not in UNNAMED and name.lower() not in known:
            complaints.append(f"CONTRIBUTING.md: does not name `{name}`, which {path} needs; say why it is needed")
    return complaints


GOOD = {"README.md": "# Girih: a compiler\n```\n./quickstart\n```\nruntime/ bench/ dialects/ compiler/ backends/ models/ tests/ Boost\n",
        "runtime/README.md": "# runtime: runs programs\n", "runtime/CMakeLists.txt": "find_package(Boost 1.81 REQUIRED)\n"}
BAD_TREES = {
    "a room without README": {**GOOD, "bench/x.txt": ""},
    "a first line that says nothing": {**GOOD, "runtime/README.md": "# runtime\n"},
    "two screens": {**GOOD, "runtime/README.md": "# runtime: runs\n" + "x\n" * 200},
    "no command": {**GOOD, "README.md": GOOD["README.md"].replace("```", "")},
    "an unnamed dependency": {**GOOD, "runtime/CMakeLists.txt": "find_package(OpenSSL)\n"},
    "an unnamed crate": {**GOOD, "runtime/text/Cargo.toml": '[dependencies]\nserde = "1"\n'},
    "an unnamed room": {**GOOD, "README.md": GOOD["README.md"].replace("models/", "")},
}


def complaints_about(files):
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            target = pathlib.Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return check_tree(pathlib.Path(folder))


def self_test():
    missed = [what for what, files in BAD_TREES.items() if not complaints_about(files)]
    wrong = complaints_about(GOOD)
    print("\n".join([f"not caught: {what}" for what in missed] + [f"wrongly reported: {what}" for what in wrong]))
    print(f"{len(BAD_TREES) - len(missed)} of {len(BAD_TREES)} broken rules caught")
    return 1 if missed or wrong else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    complaints = check_tree(pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parents[2])
    print("\n".join(complaints))
    print(f"{len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
