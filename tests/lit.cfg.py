# SPDX-License-Identifier: Apache-2.0
# How lit runs the IR tests: every .mlir file below tests/ with girih-opt and FileCheck.
import os

import lit.formats

config.name = "girih"
config.test_format = lit.formats.ShTest(True)
config.suffixes = [".mlir"]
config.excludes = ["golden", "fuzz", "fresh_machine"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.girih_build_root, "tests")

# FileCheck and `not` come with LLVM; girih-opt is ours.
config.environment["PATH"] = os.pathsep.join(
    [config.girih_tools_dir, config.llvm_tools_dir, config.environment["PATH"]]
)
config.substitutions.append(("%girih_source", config.girih_source_root))
config.substitutions.append(("%python", config.python_executable))
for variable in ("GIRIH_SMOLLM2_GGUF",):
    if variable in os.environ:
        config.environment[variable] = os.environ[variable]
        config.available_features.add(variable.lower())
