# SPDX-License-Identifier: Apache-2.0
"""The C and C++ of the tree is as clang-format 22 prints it with the committed .clang-format.

formatting.py [PATH ...]   names the files that differ (default: all of this repository)
formatting.py --write      formats them in place
formatting.py --self-test  shows that a badly formatted file is found
"""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FORMAT = "clang-format-22"  # one version: each prints some constructs in its own way
SUFFIXES = (".c", ".cpp", ".h")
AT_ONCE = 16
# Rooms that are still as they were written by hand; --write formats them too, and then this line goes.
NOT_YET = ("runtime/", "compiler/", "dialects/", "backends/", "tests/runtime/", "tests/backends/")


def tracked_sources(without=()):
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    return [ROOT / path for path in listed.split("\0") if path.endswith(SUFFIXES) and not path.startswith(without)
            and (ROOT / path).is_file()]


def ask(options, files):
    """clang-format's messages about the files."""
    batches = [files[i:i + AT_ONCE] for i in range(0, len(files), AT_ONCE)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return "".join(pool.map(lambda batch: subprocess.run([FORMAT, *options, *batch], capture_output=True, text=True).stderr, batches))


def differing(files):
    messages = ask(["--dry-run"], files)
    return sorted({line.split(":")[0] for line in messages.splitlines() if "clang-formatted" in line})


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / ".clang-format", folder)
        good, bad = pathlib.Path(folder) / "good.cpp", pathlib.Path(folder) / "bad.cpp"
        good.write_text("int main() { return 0; }\n")
        bad.write_text("int main( ) {return 0;}\n")
        assert differing([good, bad]) == [str(bad)], differing([good, bad])
        ask(["-i"], [good, bad])
        assert bad.read_text() == good.read_text()
    print("a badly formatted file is found, and mended")


def main(arguments):
    if not shutil.which(FORMAT):
        print(f"skipped: {FORMAT} is not installed; ./check installs it")
        return 77
    if arguments == ["--self-test"]:
        self_test()
        return 0
    if arguments == ["--write"]:
        ask(["-i"], tracked_sources())
        return 0
    found = differing([pathlib.Path(path).resolve() for path in arguments] or tracked_sources(NOT_YET))
    for path in found:
        print(f"{os.path.relpath(path, ROOT)}: clang-format changes it; tests/architecture/formatting.py --write")
    print(f"{len(found)} files differ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
