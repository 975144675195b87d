# SPDX-License-Identifier: Apache-2.0
"""A machine that is not what its backend describes is caught at a named case: quill with one line changed, each time.

    machine_mutants_test.py
"""
import pathlib
import sys
import tempfile

import mutants_test as mutants
import sdk_test as sdk

# mutant: the file, what stands there, what stands there instead, and the case that must fail.
CAUGHT_BY = {
    "more_scratchpad_than_there_is": ("compile_table.cpp", '"size_bytes": 65536', '"size_bytes": 131072', "nearest_memory_is_there"),
    "more_memory_than_there_is": ("compile_table.cpp", '"size_bytes": 4294967296', '"size_bytes": 8589934592', "memory_is_as_described"),
    "more_cores_than_there_are": ("compile_table.cpp", '"cores": 2', '"cores": 4', "cores_are_there"),
    "barrier_that_nobody_waits_at": ("simulator.cpp", "return Stop::Barrier;", "continue;", "barrier_is_met"),
    "rows_that_are_always_dense": ("simulator.cpp", "memoryAt + uint64_t(row * stride)", "memoryAt + uint64_t(row * rowBytes)",
                                   "rows_are_moved"),
    "sums_in_f16": ("simulator.cpp", "sums[m * kTile + n] += left * girih_f32_of_f16(b[k * kTile + n]);",
                    "sums[m * kTile + n] = girih_f32_of_f16(girih_f16_of_f32(sums[m * kTile + n] + left * "
                    "girih_f32_of_f16(b[k * kTile + n])));", "tiles_are_multiplied"),
    "tiles_the_other_way_round": ("simulator.cpp", "b[k * kTile + n]", "b[n * kTile + k]", "tiles_are_multiplied"),
}


def main():
    if not (sdk.BUILD / "lib/libgirih_runtime.so").exists():
        print("needs libgirih_runtime.so")
        return 77
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        prefix, project, built = folder / "sdk", folder / "quill", folder / "quill-build"
        sdk.run("cmake", "--install", sdk.BUILD, "--prefix", prefix, "--component", "sdk")
        library = sdk.build("quill", folder, prefix)
        suite = prefix / "bin/girih-conformance"
        right = mutants.outcomes(suite, library, "machine")
        failures += sum(outcome != "pass" for outcome, _ in right.values()) + (not right)
        for mutant, (file, there, instead, case) in CAUGHT_BY.items():
            text = (project / file).read_text()
            assert text.count(there) == 1, f"{mutant}: `{there}` stands {text.count(there)} times in {file}"
            (project / file).write_text(text.replace(there, instead))
            sdk.run("cmake", "--build", built)
            (project / file).write_text(text)
            outcome, said = mutants.outcomes(suite, library, f"machine/{case}").get(f"machine/{case}", ("absent", ""))
            failures += outcome != "fail"
            print(f"{'ok' if outcome == 'fail' else 'FAILED':6} {mutant}: {outcome} at machine/{case}: {said}", flush=True)
    print(f"{len(CAUGHT_BY)} machines, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
