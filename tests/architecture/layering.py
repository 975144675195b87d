# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: one table of rooms, checked against every #include and every CMake link of the tree.

A room sees itself, the rooms its row names, and what those see. The order is
    runtime/abi <- base <- hal <- program <- kv <- engine <- server <- runtime/tools
    MLIR <- dialects <- compiler/analysis <- compiler/<stage> <- compiler (joins) <- compiler/tools
    dialects, runtime/{base,weights} <- models <- compiler/tools
with weights and text on base only. Also: nothing outside the compiler's side includes LLVM or MLIR, and code that all
backends share never spells a backend's name.

    layering.py [ROOT]          checks the tree (default: this repository)
    layering.py --self-test     shows on small bad trees that each rule fails when broken
"""
import pathlib
import re
import sys
import tempfile

STAGES = ["import", "raise", "specialize", "fuse", "place", "tile", "allocate", "emit"]

# room: rooms it may include, transitively closed below. Rooms are matched by their longest folder.
ALLOWED = {
    "runtime/abi": [],
    "runtime/base": ["runtime/abi"],
    "runtime/hal": ["runtime/base"],
    "runtime/weights": ["runtime/base"],
    "runtime/text": ["runtime/base"],
    # The executor turns a program's tensors into buffers: the leaf readers' element types are its vocabulary too.
    "runtime/program": ["runtime/hal", "runtime/weights"],
    "runtime/kv": ["runtime/program"],
    "runtime/engine": ["runtime/kv", "runtime/text"],
    "runtime/server": ["runtime/engine"],
    "runtime": ["runtime/engine"],  # c_api.cpp
    "runtime/tools": ["runtime/server", "runtime"],
    "dialects": ["runtime/abi", "runtime/base", "runtime/weights"],
    "compiler/analysis": ["dialects"],
    **{f"compiler/{stage}": ["compiler/analysis"] for stage in STAGES},
    "compiler": [f"compiler/{stage}" for stage in STAGES] + ["backends/reference"],
    "models": ["dialects", "runtime/base", "runtime/weights"],
    "compiler/tools": ["compiler", "models"],
    "backends/*/codegen": ["dialects", "compiler/backend.h", "runtime/abi", "runtime/base"],
    "backends/*/device": ["runtime/abi", "runtime/base"],
    "backends/reference": ["dialects", "runtime/base", "runtime/weights"],
    "tests": ["*"],
    "bench": ["*"],
}
# Single files that a room may include beyond its row, each with its reason.
EXCEPTIONS = {
    ("backends/*/device", "runtime/hal"): "a device implements the nouns of the runtime's hardware layer",
    ("runtime/tools", "backends/*/device"): "the command line links the devices that were built in",
    ("backends/*/codegen", "backends/*/device"): "both halves describe the same cores",
    ("compiler/emit", "runtime/program"): "the writer and the reader share the file's generated tables",
    ("compiler/emit", "runtime/text"): "the writer stores the tokenizer in the form that loads at once",
    ("compiler", "runtime/program"): "the joined pipeline ends in the writer",
    ("compiler", "models"): "the library entry begins with a checkpoint, whose graph models/ builds; no stage sees it",
    ("compiler", "runtime/hal"): "a backend's answers become a Status in one way",
    ("compiler/tools", "runtime/hal"): "girih-compile opens a vendor's library by the rules of the runtime",
    ("compiler/tools", "runtime/text"): "as the writer does",
    ("compiler/tools", "runtime/program"): "girih-compile writes the program's metadata",
    ("compiler/tools", "backends/*/codegen"): "girih-compile links the backends that were built in",
}
SEES_LLVM = ("dialects", "compiler", "models", "backends/*/codegen", "backends/reference", "tests", "bench")
BACKEND_NAMES = re.compile(r"\b(cpu|cuda|vulkan|rocm|quill|avx2|avx512\w*|amx|neon|rvv)\b", re.IGNORECASE)
# Where a backend's name is no business: what all targets share.
SHARED = [f"compiler/{stage}" for stage in STAGES] + ["compiler/analysis", "compiler", "dialects", "models"] + [
    "runtime", *(f"runtime/{room}" for room in "abi base hal weights text program kv engine server".split())]
# System files that happen to be called so.
FOREIGN_NAMES = re.compile(r"/sys/\S*|/proc/\S*|__builtin_\w+\([^)]*\)|target\([^)]*\)|immintrin\S*")
SOURCES = {".h", ".cpp", ".c", ".td"}
INCLUDE = re.compile(r'^\s*#?\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)
LLVM_HEADER = re.compile(r"^(mlir|llvm|clang)(-c)?/")


def room_of(path):
    """The row of the table that a repository path belongs to, or None."""
    parts = path.split("/")
    if parts[0] == "backends" and len(parts) > 3 and parts[1] != "reference":
        return f"backends/*/{parts[2]}"
    for depth in (2, 1):
        candidate = "/".join(parts[:depth])
        if len(parts) > depth and candidate in ALLOWED:
            return candidate
    return None


def visible_from(room):
    seen, pending = set(), [room]
    while pending:
        current = pending.pop()
        if current not in seen:
            seen.add(current)
            pending += ALLOWED.get(current, [])
    return seen


def backend_folder(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "backends" else None


def without_comments(text):
    """Code alone: also without TableGen's [{...}], where the examples of machines do have names."""
    text = re.sub(r"\[\{.*?\}\]", lambda block: "\n" * block.group(0).count("\n"), text, flags=re.DOTALL)
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def check_include(path, room, quote, header):
    """The complaint about one include, or None."""
    if LLVM_HEADER.match(header):
        if room in SEES_LLVM or room.startswith("compiler/"):
            return None
        return f"{path}: includes <{header}>; {room} builds where no LLVM is installed; move it to the compiler's side"
    target = room_of(header)
    if quote == "<" or target is None or target == room or "*" in ALLOWED[room]:
        foreign = backend_folder(path) and backend_folder(header) and backend_folder(path) != backend_folder(header)
        if foreign and "*" not in ALLOWED[room]:
            return f'{path}: includes "{header}"; no backend sees another; share through compiler/ or runtime/hal'
        return None
    if target in visible_from(room) or header in ALLOWED[room] or (room, target) in EXCEPTIONS:
        return None
    allowed = ", ".join(ALLOWED[room]) or "no other room"
    return f'{path}: includes "{header}" of {target}; {room} may see {allowed}; move the code or the need'


def check_tree(root):
    complaints, count = [], 0
    for file in sorted(p for p in root.rglob("*") if p.suffix in SOURCES and p.is_file()):
        path = file.relative_to(root).as_posix()
        if path.startswith(("build", ".")) or "/target/" in path:
            continue
        room = room_of(path)
        if room is None:
            continue
        count += 1
        text = file.read_text(errors="replace")
        for quote, header in INCLUDE.findall(text):
            complaint = check_include(path, room, quote, header)
            complaints += [complaint] if complaint else []
        if room in SHARED:
            for number, line in enumerate(without_comments(text).split("\n"), 1):
                if (name := BACKEND_NAMES.search(FOREIGN_NAMES.sub("", line))) and not INCLUDE.match(line):
                    complaints.append(f"{path}: shared code spells `{name.group(0)}` in `{line.strip()[:80]}`; "
                                      "it reads #machine attributes, never a backend's name")
    for stage in [*STAGES, "analysis"]:
        cmake = root / "compiler" / stage / "CMakeLists.txt"
        others = [f"girih_{other}" for other in STAGES if other != stage]
        for word in re.findall(r"girih_\w+", cmake.read_text()) if cmake.exists() else []:
            if word in others:
                complaints.append(f"compiler/{stage}/CMakeLists.txt: links {word}; stages never see each other")
    return complaints, count


BAD_TREES = {
    "a lower room sees a higher one": {"runtime/base/a.h": '#include "runtime/hal/device.h"\n'},
    "the runtime sees LLVM": {"runtime/engine/a.cpp": '#include "llvm/ADT/StringRef.h"\n'},
    "the device half sees MLIR": {"backends/cpu/device/a.cpp": '#include "mlir/IR/Builders.h"\n'},
    "stages see each other": {"compiler/fuse/a.cpp": '#include "compiler/raise/passes.h"\n'},
    "a stage links another": {"compiler/fuse/CMakeLists.txt": "target_link_libraries(girih_fuse girih_raise)\n"},
    "the compiler sees the engine": {"compiler/emit/a.cpp": '#include "runtime/engine/engine.h"\n'},
    "a stage sees models": {"compiler/import/a.cpp": '#include "models/config.h"\n'},
    "a backend sees another": {"backends/cuda/codegen/a.cpp": '#include "backends/cpu/codegen/backend.h"\n'},
    "shared code names a backend": {"compiler/tile/a.cpp": 'bool f() { return name == "avx512"; }\n'},
    "the runtime names a backend": {"runtime/program/a.cpp": 'auto *backend = findBackend("vulkan");\n'},
    "text sees weights": {"runtime/text/a.cpp": '#include "runtime/weights/gguf.h"\n'},
}
GOOD_TREE = {
    "runtime/engine/a.cpp": '#include "runtime/kv/block_cache.h"\n#include "runtime/base/status.h"\n#include <vector>\n',
    "compiler/tile/a.cpp": '// as wide as avx512 on a cpu\n#include "compiler/analysis/footprint.h"\n#include "mlir/IR/Builders.h"\n',
    "backends/cpu/codegen/a.cpp": '#include "compiler/backend.h"\n#include "dialects/machine/dialect.h"\n',
    "tests/runtime/kv/a.cpp": '#include "runtime/server/http_server.h"\n',
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
    for what in missed:
        print(f"not caught: {what}")
    for complaint in wrong:
        print(f"wrongly reported: {complaint}")
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
