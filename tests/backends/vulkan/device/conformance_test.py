# SPDX-License-Identifier: Apache-2.0
"""The first Vulkan device passes the conformance levels that need no kernel, and the validation layer says nothing.

    conformance_test.py GIRIH_CONFORMANCE
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import vulkan_machine

LEVELS = {"abi": 7, "memory": 10}  # the least that must pass


def main():
    if reason := vulkan_machine.missing_device():
        print("SKIP:", reason)
        return vulkan_machine.SKIPPED
    failures = []
    for level, least in LEVELS.items():
        result, objections = vulkan_machine.run_validated([sys.argv[1], "--backend", "vulkan", "--only", level])
        passed = sum(line.startswith("pass ") for line in result.stdout.splitlines())
        if result.returncode != 0 or passed < least or objections:
            failures.append(f"{level}: {passed} pass\n{result.stdout}{result.stderr}")
    print("\n".join(failures) or "conformance: levels " + ", ".join(LEVELS) + " pass"
          + ("" if vulkan_machine.has_layer() else " (without the validation layer, which is not installed)"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
