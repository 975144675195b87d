# SPDX-License-Identifier: Apache-2.0
"""A vendor's first minutes: install the SDK, build backends/null as a project of its own, run the installed suite.

Nothing of the repository is seen by that build: the project is copied away, and only the prefix is given to it.

    sdk_test.py CC
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
MOST_SECONDS = 30
MOST_LINES = 400


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(f"FAILED {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main(arguments):
    if not (BUILD / "lib/libgirih_runtime.so").exists():
        print("needs libgirih_runtime.so")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        prefix, project, build = folder / "sdk", folder / "vendor", folder / "build"
        run("cmake", "--install", BUILD, "--prefix", prefix, "--component", "sdk")
        for header in (prefix / "include/girih").glob("*.h"):
            foreign = [name for name in re.findall(r'#include "([^"]+)"', header.read_text())
                       if not (header.parent / name).exists()]
            assert not foreign, f"{header.name} includes {foreign}, which is not installed"
        for binary in ("lib/libgirih_runtime.so", "bin/girih-conformance"):
            assert not re.search("LLVM|MLIR", run("ldd", prefix / binary)), f"{binary} links LLVM"
        shutil.copytree(ROOT / "backends/null", project)
        lines = len((project / "backend.c").read_text().splitlines())
        assert lines <= MOST_LINES, f"the null backend has {lines} lines; over {MOST_LINES} the ABI is too wide"
        begin = time.monotonic()
        run("cmake", "-S", project, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_C_COMPILER={arguments[0]}")
        warnings = run("cmake", "--build", build)
        seconds = time.monotonic() - begin
        assert "warning" not in warnings, warnings
        assert seconds <= MOST_SECONDS, f"took {seconds:.0f} s"
        exported = run("nm", "-D", "--defined-only", build / "libgirih_null.so").split()[2::3]
        assert exported == ["girih_backend_query"], exported
        print(run(prefix / "bin/girih-conformance", "--backend", build / "libgirih_null.so"))
        print(f"null: {lines} lines, built in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
