# SPDX-License-Identifier: Apache-2.0
"""backends/first_backend.md, followed to the letter: its blocks are put where it says, its commands run in their order.

A block of C replaces what stands below its `/* step N` up to the next such line; the first is the whole file. Each block of
commands must succeed in a folder that holds nothing else, and the counts that the page gives must be those seen.

    first_backend_test.py
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[2] / "models")]
import sdk_test as sdk
import tiny_checkpoints as tiny

PAGE = sdk.ROOT / "backends/first_backend.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(.*?)(?=^```|\Z)", re.M | re.S)
MARK = re.compile(r"^/\* (step \d|the tables)", re.M)


def replaced(file, block):
    """The file with the part that begins with the block's first line replaced by the block."""
    begins = [match.start() for match in MARK.finditer(file)]
    at = file.index(block.split(":")[0])
    return file[:at] + block + "\n" + file[next(begin for begin in begins if begin > at):]


def main():
    if not (sdk.BUILD / "lib/libgirih_runtime.so").exists() or not (sdk.BUILD / "bin/girih-compile-graph").exists():
        print("needs libgirih_runtime.so and the compiler")
        return 77
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        project = folder / "project"
        project.mkdir()
        sdk.run("cmake", "--install", sdk.BUILD, "--prefix", folder / "sdk", "--component", "sdk")
        tiny.write_checkpoint("llama_2", folder / "llama_2")
        environment = dict(os.environ, SDK=folder / "sdk", GIRIH=sdk.BUILD / "bin", MODEL=folder / "llama_2/hf")
        source, numSteps = "", 0
        for language, block, after in BLOCK.findall(PAGE.read_text()):
            if language == "cmake":
                (project / "CMakeLists.txt").write_text(block)
            elif language == "c":
                source = replaced(source, block) if source else block
                (project / "first.c").write_text(source)
            elif language == "sh":
                numSteps += 1
                done = subprocess.run(["bash", "-e", "-c", block], cwd=project, env=environment, capture_output=True, text=True,
                                      timeout=300)
                said = done.stdout + done.stderr
                assert done.returncode == 0, f"{block}\n{said}"
                assert "warning" not in said, said
                seen = re.findall(r": (\d+) pass, (\d+) unsupported", said)
                for wanted, (passed, unsupported) in zip(re.findall(r"`(\d+ pass[^`]*)`", after), seen, strict=True):
                    text = f"{passed} pass" + (f", {unsupported} unsupported" if unsupported != "0" else "")
                    assert wanted == text, f"the page says `{wanted}`, the suite `{text}`\n{said}"
                print(said.strip().splitlines()[-1])
    assert numSteps == 4, numSteps
    print(f"{len(source.splitlines())} lines of C, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
