# SPDX-License-Identifier: Apache-2.0
"""Compiling holds no more memory for many layers than for few: weights pass through, from the file to the file. And
the file is the same, byte for byte, for any number of threads.

    streamed_weights_test.py
"""
import os
import pathlib
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GENERATOR = REPOSITORY / "bench" / "models" / "make_random_llama.py"
COMPILER = pathlib.Path(os.environ["GIRIH_BUILD"]) / "bin" / "girih-compile"
# 9.4 MB a layer.
SHAPES = ["--hidden", "1024", "--intermediate", "4096", "--heads", "16", "--kv-heads", "16", "--vocabulary", "2048"]
SLACK_BYTES = 60 << 20  # the compiler's own memory varies by some 10 MB from run to run


def compiled(folder, num_layers, *flags, processors=None):
    """(bytes of the checkpoint, peak resident bytes of compiling it, the program's bytes)."""
    checkpoint, program = folder / f"{num_layers}.gguf", folder / "out.girih"
    subprocess.run([sys.executable, GENERATOR, checkpoint, "--layers", str(num_layers), *SHAPES], check=True)
    command = [COMPILER, checkpoint, "-o", program, "--no-golden", "--quiet", "--target", "cpu:avx2", *flags]
    process = subprocess.Popen(command, preexec_fn=processors and (lambda: os.sched_setaffinity(0, processors)))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} exited with {process.returncode}"
    return checkpoint.stat().st_size, usage.ru_maxrss * 1024, program.read_bytes()


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        machine = folder / "machine.json"  # one of fewer processors gets other tiles
        machine.write_bytes(subprocess.run([COMPILER, "--print-machine", "avx2"], check=True, stdout=subprocess.PIPE).stdout)
        few_bytes, few_peak, several = compiled(folder, 2, "--threads", "3", "--machine", machine)
        *_, one = compiled(folder, 2, "--threads", "1", "--machine", machine,
                           processors={min(os.sched_getaffinity(0))})
        many_bytes, many_peak, _ = compiled(folder, 24)
    assert one == several, "the program depends on the number of threads that made it"
    print(f"{(many_bytes - few_bytes) >> 20} MiB more of weights took {(many_peak - few_peak) >> 20} MiB more memory "
          f"(peaks {few_peak >> 20} and {many_peak >> 20} MiB)")
    assert many_bytes - few_bytes > 3 * SLACK_BYTES
    assert many_peak - few_peak < SLACK_BYTES, "weights stay in memory"


if __name__ == "__main__":
    main()
