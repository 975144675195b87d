# SPDX-License-Identifier: Apache-2.0
"""A tiny model of each family on a Vulkan device, judged as the CPU is; spirv-val accepts all their shaders.

    tiny_models_test.py [NAME ...]
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[3] / "models")]
import families_test as families
import girih_cli
import image_file
import tiny_checkpoints as tiny
import vulkan_machine

# What every device of Vulkan 1.1 grants of invocations, and of shared memory what each profile's devices have, in their order:
# portable, mobile, integrated, desktop, software.
MOST_INVOCATIONS, MOST_SHARED_BYTES = 128, (16 << 10, 32 << 10, 32 << 10, 48 << 10, 32 << 10)
# Models whose graphs have what no shader is written for; the compiler must say which.
NOT_YET = {}
ONE_EACH = ("gemma2_1", "gemma2_5", "llama_1", "llama_6", "mistral_2", "qwen2_1", "qwen3_2")  # `tiny_models_test.py NAME` takes any other


def problem_of_shaders(program):
    images = image_file.shaders(program)
    if len(images) != len(MOST_SHARED_BYTES):
        return f"{len(images)} images"
    every = [(most, shader) for most, image in zip(MOST_SHARED_BYTES, images) for shader in image]
    for most, (name, invocations, shared, spirv) in every:
        if invocations > MOST_INVOCATIONS or shared > most:
            return f"{name}: {invocations} invocations, {shared} shared bytes"
        if not shutil.which("spirv-val"):
            continue
        judged = subprocess.run(["spirv-val", "--target-env", "vulkan1.1", "-"], input=spirv, capture_output=True)
        if judged.returncode != 0:
            return f"{name}: {(judged.stdout + judged.stderr).decode().strip()}"
    return None


@vulkan_machine.needs_device
def main(names):
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in names or ONE_EACH:
            tiny.write_checkpoint(name, folder / name)
            problem = families.judge(name, folder / name / "hf", folder, look=problem_of_shaders, target="vulkan", no_golden=True)
            if expected := NOT_YET.get(name):
                problem = None if problem and expected in problem else f"expected {expected!r}, saw {problem!r}"
            failures += problem is not None
            print(f"{'FAIL' if problem else 'ok  '} {name}{': ' + problem if problem else ''}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
