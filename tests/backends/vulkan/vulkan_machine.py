# SPDX-License-Identifier: Apache-2.0
"""What tests on a Vulkan device share: whether there is one, and a run under the validation layer, which must be silent."""
import functools
import os
import pathlib
import subprocess

BUILD = pathlib.Path(os.environ["GIRIH_BUILD"])
SKIPPED = 77  # the exit status by which ctest knows a skipped test
LAYER = "VK_LAYER_KHRONOS_validation"


def missing_device():
    """Why no device runs programs here; empty when one does."""
    listed = subprocess.run([BUILD / "bin/girih", "machine", "--list", "--backend", "vulkan"], capture_output=True, text=True)
    return "" if " -  " not in listed.stdout and listed.returncode == 0 else (listed.stdout + listed.stderr).strip()


def needs_device(main):
    """A test's `main` that a machine without such a device skips."""
    @functools.wraps(main)
    def skipping(*arguments):
        if reason := missing_device():
            print("SKIP:", reason)
            return SKIPPED
        return main(*arguments)
    return skipping


def run_validated(command, timeout=600):
    """Runs it with the validation layer where that is installed. Returns the result and what the layer objected to."""
    environment = dict(os.environ, VK_INSTANCE_LAYERS=LAYER) if has_layer() else dict(os.environ)
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout, env=environment)
    objections = [line for line in (result.stdout + result.stderr).splitlines() if "VUID" in line or "Validation" in line]
    return result, objections


def has_layer():
    folders = [pathlib.Path(folder) / "vulkan/explicit_layer.d" for folder in ("/usr/share", "/etc", "/usr/local/share")]
    return any((folder / "VkLayer_khronos_validation.json").exists() for folder in folders)
