# SPDX-License-Identifier: Apache-2.0
"""Names and heads of files: snake_case, no vague words, a pass spelled one way, an SPDX line and a sentence.

naming.py [ROOT]        checks the tree (default: this repository)
naming.py --self-test   shows on small bad trees that each rule fails when broken
"""
import pathlib
import re
import subprocess
import sys
import tempfile

BANNED = set("utils util helper helpers common misc manager handler data info context impl core new v2 fast smart do "
             "process".split())
CLASS = re.compile(r"^\s*(?:class|struct)\s+(?:\[\[\w+\]\]\s*)?(\w+?)(Utils?|Helpers?|Manager|Handler|Impl|Base)\s*"
                   r"(?:final\s*)?(?::[^:]|\{|$)", re.MULTILINE)
# Names that other people's tools prescribe.
PRESCRIBED = {"CMakeLists.txt", "README.md", "CONTRIBUTING.md", "LICENSE", "Cargo.toml", "Cargo.lock", "package.json", "package-lock.json"}
SNAKE = re.compile(r"^[a-z0-9][a-z0-9_]*$")
HEADED = {".h": "//", ".cpp": "//", ".c": "//", ".td": "//", ".fbs": "//", ".rs": "//", ".py": "#", ".cmake": "#"}
MOST_LINES = 800
# Spelled in two halves, so that this file does not find itself.
MACHINE_PATHS = re.compile("/wo" + r"rk/(?:main|hub|shared|h-)|/tm" + "p/girih")


def tracked_files(root):
    if (root / ".git").exists():
        listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, text=True, check=True)
        return sorted(path for path in listed.stdout.split("\0") if path and (root / path).is_file())
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def check_names(path):
    *folders, name = path.split("/")
    if any(folder.startswith(".") for folder in folders) or name.startswith(".") or "golden" in folders or "corpus" in folders:
        return  # dotfiles, and files that a test writes by itself
    for folder in folders:
        if not SNAKE.match(folder) or folder in BANNED:
            yield f"{path}: folder `{folder}`; folders are snake_case nouns, none of {', '.join(sorted(BANNED))}"
    if name in PRESCRIBED:
        return
    stem = name.split(".")[0]
    if not SNAKE.match(stem):
        yield f"{path}: file names are snake_case"
    if stem in BANNED or stem.rsplit("_", 1)[-1] in BANNED:
        yield f"{path}: ends in a word that says nothing; name what is in it"


def check_head(path, text):
    suffix = pathlib.PurePosixPath(path).suffix
    if suffix not in HEADED:
        return
    lines = text.split("\n")
    if lines[0].startswith("#!"):
        lines = lines[1:]
    if "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
        yield f"{path}: the first line is `{HEADED[suffix]} SPDX-License-Identifier: Apache-2.0`"
        return
    sentence = next((line.strip() for line in lines[1:] if line.strip()), "")
    opening = r'(#\s|r?""")' if HEADED[suffix] == "#" else r"(//+!?|/\*+)"
    if not re.match(opening + r"\s*\S+ \S+", sentence):
        yield f"{path}: below the SPDX line one sentence says what the file is; seen `{sentence[:60]}`"


def check_text(path, text):
    if path.endswith((".h", ".cpp")):
        for match in CLASS.finditer(text):
            yield f"{path}: class `{match.group(1)}{match.group(2)}`; a suffix like `{match.group(2)}` names nothing"
        lines = text.count("\n")
        if lines > MOST_LINES and not path.startswith("tests/"):
            yield f"{path}: {lines} lines; over {MOST_LINES} two things live in one file"
        if path.endswith(".h") and re.search(r"^\s*using namespace", text, re.MULTILINE):
            yield f"{path}: `using namespace` in a header"
    if MACHINE_PATHS.search(text):
        yield f"{path}: names a path of one machine: `{MACHINE_PATHS.search(text).group(0)}`"


def check_passes(root, files):
    """Pass flag, class, file and test carry one name."""
    for path in files:
        if not (path.endswith("/passes.td") and path.startswith(("compiler/", "backends/"))):
            continue
        folder, text = path[: -len("/passes.td")], (root / path).read_text()
        for definition, flag in re.findall(r'def\s+(\w+)\s*:\s*Pass<\s*"([\w-]+)"', text):
            if not flag.startswith("girih-"):
                yield f"{path}: flag `{flag}`; flags start with `girih-`"
                continue
            stem = flag[len("girih-"):].replace("-", "_")
            camel = "".join(word.capitalize() for word in stem.split("_"))
            if definition.removesuffix("Pass").lower() != camel.lower():
                yield f"{path}: pass `{definition}` has flag `{flag}`; one of them is misspelled"
            for wanted in (f"{folder}/{stem}.cpp", f"tests/{folder}/{stem}.mlir"):
                if wanted not in files:
                    yield f"{path}: pass `{flag}` has no {wanted}"


def check_tree(root):
    files, complaints = tracked_files(root), []
    for path in files:
        complaints += check_names(path)
        if "golden" in path or "corpus" in path:
            continue
        try:
            text = (root / path).read_text()
        except UnicodeDecodeError:
            continue
        complaints += check_head(path, text)
        complaints += check_text(path, text)
    complaints += check_passes(root, set(files))
    return complaints, len(files)


HEAD = "// SPDX-License-Identifier: Apache-2.0\n// What this file is.\n"
BAD_TREES = {
    "a vague file": {"runtime/base/string_utils.h": HEAD},
    "a vague folder": {"runtime/common/status.h": HEAD},
    "camel case": {"runtime/base/mappedFile.h": HEAD},
    "no SPDX line": {"runtime/base/a.h": "// What this file is.\n"},
    "no sentence": {"runtime/base/a.h": "// SPDX-License-Identifier: Apache-2.0\n#include <a>\n"},
    "a vague class": {"runtime/base/a.h": HEAD + "class BlockManager {\n"},
    "a wide header": {"runtime/base/a.h": HEAD + "using namespace std;\n"},
    "a long file": {"runtime/base/a.cpp": HEAD + "\n" * 900},
    "one machine's path": {"runtime/base/a.cpp": HEAD + "// see /tm" + "p/girih/notes\n"},
    "a pass without test": {"compiler/fuse/passes.td": HEAD + 'def FuseIt : Pass<"girih-fuse-it"> {}\n',
                            "compiler/fuse/fuse_it.cpp": HEAD},
    "a pass spelled two ways": {"compiler/fuse/passes.td": HEAD + 'def FuseIt : Pass<"girih-fuse-that"> {}\n',
                                "compiler/fuse/fuse_that.cpp": HEAD, "tests/compiler/fuse/fuse_that.mlir": "x"},
}
GOOD_TREE = {
    "compiler/fuse/passes.td": HEAD + 'def FuseIt : Pass<"girih-fuse-it"> {}\n',
    "compiler/fuse/fuse_it.cpp": HEAD + "namespace { class FuseIt : public FuseItBase<FuseIt> {} }\n",
    "tests/compiler/fuse/fuse_it.mlir": "// RUN: true\n",
    "runtime/base/CMakeLists.txt": "# The base.\n",
}


def complaints_about(files):
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            target = pathlib.Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return check_tree(pathlib.Path(folder))[0]


def self_test():
    missed = [what for what, files in BAD_TREES.items() if not complaints_about(files)]
    wrong = complaints_about(GOOD_TREE)
    print("\n".join([f"not caught: {what}" for what in missed] + [f"wrongly reported: {what}" for what in wrong]))
    print(f"{len(BAD_TREES) - len(missed)} of {len(BAD_TREES)} broken rules caught")
    return 1 if missed or wrong else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parents[2]
    complaints, count = check_tree(root)
    print("\n".join(complaints))
    print(f"{len(complaints)} violations in {count} files")
    return 1 if complaints or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
