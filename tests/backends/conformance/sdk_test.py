# SPDX-License-Identifier: Apache-2.0
"""A vendor's first minutes: install the SDK, build backends/null and backends/quill as projects of their own, run the
installed suite.

Nothing of the repository is seen by those builds, and no LLVM: the project is copied away, only the prefix is given to it,
and where the kernel grants a name space of its own, empty folders lie over the repository and over each LLVM installed.

    sdk_test.py
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ["GIRIH_BUILD"])
COMPILER = BUILD / "bin/girih-compile-graph"
MOST_SECONDS = 30
# Lines: over the first the ABI is too wide, over the second a small machine takes more than an afternoon.
MOST_LINES = {"null": 400, "quill": 1500}
MAY_BE_UNSUPPORTED = {  # what needs memory that the host sees, and programs, which backends_quill brings
    "memory/mapped_buffers_are_aligned", "memory/imported_bytes_are_read", "models/answers_as_the_reference",
    "models/steps_may_be_cut", "models/company_changes_nothing", "models/copies_are_counted"}
COMPLETE = ("quill",)  # passes every level, with the compiler that makes C99 of the suite's graphs


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(f"FAILED {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def check_sdk(prefix):
    for header in (prefix / "include/girih").glob("*.h"):
        foreign = [name for name in re.findall(r'#include "([^"]+)"', header.read_text())
                   if not (header.parent / name).exists()]
        assert not foreign, f"{header.name} includes {foreign}, which is not installed"
    for binary in ("lib/libgirih_runtime.so", "bin/girih-conformance"):
        assert not re.search("LLVM|MLIR", run("ldd", prefix / binary)), f"{binary} links LLVM"


def without_llvm():
    """What begins a command for which neither LLVM nor the repository is there; nothing where the kernel has no such space."""
    folders = [ROOT, *pathlib.Path("/usr/lib").glob("llvm*")]
    files = {file.resolve() for kind in ("LLVM", "MLIR", "clang") for file in pathlib.Path("/usr/lib").glob(f"*/lib{kind}*")}
    hide = [f"mount --bind /dev/null {file}" for file in files] + [f"mount -t tmpfs none {folder}" for folder in folders]
    hidden = ["unshare", "--map-root-user", "--mount", "sh", "-e", "-c", "\n".join(hide) + '\nexec "$@"', "hidden"]
    seen = subprocess.run([*hidden, "ls", ROOT, *folders], capture_output=True, text=True, check=False)
    if seen.returncode:
        print(f"LLVM is in sight of these builds: {seen.stderr.strip()}")
        return []
    assert not re.search("^(?!/.*:$).+", seen.stdout, re.M), f"still in sight: {seen.stdout}"
    return hidden


def lines_of(project):
    return sum(len(file.read_text().splitlines()) for file in project.iterdir() if file.suffix in (".c", ".cpp", ".h"))


def build(name, folder, prefix):
    """The backend's library, built as a vendor would."""
    project, built = folder / name, folder / f"{name}-build"
    shutil.copytree(ROOT / "backends" / name, project)
    lines = lines_of(project)
    assert lines <= MOST_LINES[name], f"{name} has {lines} lines; at most {MOST_LINES[name]} are wanted"
    begin = time.monotonic()
    alone = without_llvm()
    run(*alone, "cmake", "-S", project, "-B", built, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_C_COMPILER=gcc",
        "-DCMAKE_CXX_COMPILER=g++")
    warnings = run(*alone, "cmake", "--build", built)
    seconds = time.monotonic() - begin
    assert "warning" not in warnings, warnings
    assert seconds <= MOST_SECONDS, f"{name} took {seconds:.0f} s to build; at most {MOST_SECONDS} are wanted"
    library = built / f"libgirih_{name}.so"
    exported = [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines() if " T " in line]
    assert exported == ["girih_backend_query"], exported
    print(f"{name}: {lines} lines, built in {seconds:.1f} s")
    return library


def unsupported_in(report):
    return set(re.findall(r"^unsupported +([^:\n]+)", report, re.M))


def main():
    if not (BUILD / "lib/libgirih_runtime.so").exists():
        print("needs libgirih_runtime.so")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        prefix = folder / "sdk"
        run("cmake", "--install", BUILD, "--prefix", prefix, "--component", "sdk")
        check_sdk(prefix)
        for name in MOST_LINES:
            isComplete = name in COMPLETE and COMPILER.exists()
            report = run(prefix / "bin/girih-conformance", "--backend", build(name, folder, prefix), "--limit", 120,
                         *(["--compiler", COMPILER] if isComplete else []))
            assert not isComplete or unsupported_in(report) <= MAY_BE_UNSUPPORTED, report
            print(report.splitlines()[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
