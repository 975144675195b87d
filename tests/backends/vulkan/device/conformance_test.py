# SPDX-License-Identifier: Apache-2.0
"""The first Vulkan device passes every conformance case that applies to it, and the validation layer says nothing.

    conformance_test.py GIRIH_CONFORMANCE [GIRIH_COMPILE_GRAPH]
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import vulkan_machine

# What does not apply, and why. Whatever else is unsupported fails the test: else a kernel that is refused would go unseen.
NOT_APPLICABLE = {
    "abi/other_major_is_null": "built in, nothing is exported", "abi/other_minor_is_served": "built in, nothing is exported",
    "abi/describes_its_machine": "the compile table is in the compiler", "abi/declines_what_it_does_not_know": "so is this",
    "memory/imported_bytes_are_read": "imports nothing",
    "execution/views_beyond_the_buffer_are_errors": "images hold addresses, not extents",
}
NOT_APPLICABLE_LEVELS = {"machine": "its kernels are C99, ours are SPIR-V", "models": "tiny_models_test.py runs more of them"}
LEVELS_WITHOUT_KERNELS = ("abi", "memory")


def judge(lines, levels):
    """What is wrong with a report: cases that failed or are unsupported without a reason, levels of which nothing passed."""
    cases = [line.split(None, 1) for line in lines if line.split(" ", 1)[0] in ("pass", "fail", "crash", "hang", "unsupported")]
    for result, rest in cases:
        name = rest.split(":", 1)[0].strip()
        known = name in NOT_APPLICABLE or name.split("/")[0] in NOT_APPLICABLE_LEVELS
        if result != "pass" and not (result == "unsupported" and known):
            yield f"{result} {rest}"
    for level in levels:
        if not any(result == "pass" and rest.startswith(level + "/") for result, rest in cases):
            yield f"no case of level {level} passed"


@vulkan_machine.needs_device
def main():
    compiler = sys.argv[2:3]
    levels = LEVELS_WITHOUT_KERNELS + (("execution", "ops", "fused") if compiler else ())
    failures, passed = [], 0
    for level in levels:
        command = [sys.argv[1], "--backend", "vulkan", "--only", level, "--limit", "120"]
        result, objections = vulkan_machine.run_validated(command + (["--compiler", *compiler] if compiler else []))
        lines = result.stdout.splitlines()
        failures += list(judge(lines, [level])) + objections
        passed += sum(line.startswith("pass ") for line in lines)
        if result.returncode != 0 and not failures:
            failures.append(f"{level}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
    print("\n".join(failures) or f"conformance: {passed} cases of levels " + ", ".join(levels) + " pass"
          + ("" if vulkan_machine.has_layer() else " (without the validation layer, which is not installed)"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
