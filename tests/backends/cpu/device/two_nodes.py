# SPDX-License-Identifier: Apache-2.0
"""On a machine that says it has two memory nodes a program answers as on one, and its weights are sent to both.

The second node is imitated in a mount namespace; the kernel refuses to move pages there, as a machine may at any time.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
GENERATOR = REPOSITORY / "bench" / "models" / "make_random_llama.py"
BIN = pathlib.Path(os.environ["GIRIH_BUILD"]) / "bin"
SHAPES = ["--layers", "2", "--hidden", "256", "--intermediate", "512", "--heads", "4", "--kv-heads", "2", "--vocabulary", "512"]
SKIPPED = 77


def imitate(folder, processors):
    for node, own in enumerate((processors[:1], processors[1:])):
        (folder / "node" / f"node{node}").mkdir(parents=True)
        (folder / "node" / f"node{node}" / "cpulist").write_text(",".join(map(str, own)) + "\n")
    (folder / "node" / "has_memory").write_text("0-1\n")
    (folder / "status").write_text("Mems_allowed_list:\t0-1\n")


def run(folder, command, *tracer):
    """Runs a command where /sys and its own /proc tell of two nodes."""
    script = (f'mount --bind "{folder}/node" /sys/devices/system/node && mount --bind "{folder}/status" /proc/$$/status'
              ' && exec "$@"')
    return subprocess.run(["unshare", "-rm", *tracer, "sh", "-c", script, "sh", *map(str, command)], capture_output=True,
                          text=True, timeout=120)


def main():
    processors = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        imitate(folder, processors)
        if len(processors) < 2 or run(folder, ["true"]).returncode != 0:
            print("needs two processors and mount namespaces")
            return SKIPPED
        checkpoint, program = folder / "model.gguf", folder / "model.girih"
        subprocess.run([sys.executable, GENERATOR, checkpoint, *SHAPES], check=True)
        subprocess.run([BIN / "girih-compile", checkpoint, "-o", program, "--no-golden", "--quiet", "--target", "cpu:avx2"],
                       check=True)
        answer = [BIN / "girih", "run", program, "--tokens", "1,2,3", "--max-tokens", "8"]
        alone = subprocess.run(answer, check=True, capture_output=True, text=True).stdout
        for flags in ([], ["--threads", "1"], ["--threads", "5"]):
            done = run(folder, answer + flags)
            assert (done.returncode, done.stdout) == (0, alone), f"{flags}: {done}"
        if shutil.which("strace"):
            traced = run(folder, answer, "strace", "-f", "-e", "trace=mbind", "-o", folder / "calls")
            calls = (folder / "calls").read_text()
            nodes = set(re.findall(r"mbind\(.*MPOL_PREFERRED, \[0x0*(\d)", calls))
            assert traced.stdout == alone and nodes == {"1", "2"}, calls[-2000:]  # masks of node 0 and node 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
