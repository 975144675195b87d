// SPDX-License-Identifier: Apache-2.0
// compileCheckpoint: the library entry of the compiler: a checkpoint in, a .girih file out.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace girih::compiler {

// One executable of the file: what a backend makes for one of its variants.
struct CompileTarget {
  const girih_backend *backend = nullptr;  // adopted; outlives the compilation
  std::string variant;                     // as its compile table names it; "": one without a name
};

struct CompileOptions {
  std::string inputPath;   // a .gguf file or a Hugging Face folder
  std::string outputPath;  // the .girih file
  std::string graphPath;   // MLIR: a graph of the checkpoint's weights; empty: the one that its config describes
  std::vector<CompileTarget> targets;      // of one backend the better ones later; all read the same packed weights
  std::vector<CompileTarget> rest;         // of one backend: makes what a target declines; empty: such a target is refused
  std::string numerics = "fast";  // "exact", "invariant", "fast"
  std::string kvType;             // "f32", "f16", "int8"; empty: f32 in exact, f16 else
  std::string quantizeTo;         // a format for matrices of floats: "q4_1"; empty: as they are stored
  std::string machineJson;        // a machine to compile for instead of this one; empty: this one
  std::string reportPath;         // JSON: what became of each tensor and dispatch; empty: none
  std::string codeCacheFolder;  // where code is kept for models that differ in weights alone; empty: nowhere
  std::string dumpFolder;         // the IR after each stage; empty: none
  std::vector<std::string> skippedPasses;  // by their flags: what a program is without them, for measurements
  bool hasGolden = true;          // asks the f64 reference for an answer that `girih verify` compares with
  bool judgesPasses = false;      // evaluates the graph after every pass, and fails at the first that changes the answer
  int64_t maxTokensPerStep = 512;
  bool givesHidden = false;  // a program that gives embeddings, too
  int32_t numThreads = 0;  // 0: all that this process may use
  // `stage` is what is being done; `share` of it in [0, 1].
  std::function<void(std::string_view stage, double share)> progress;
};

// Fails: as opening the checkpoint and building its graph do; Unimplemented (an option that is not built);
// InvalidArgument (an option); Internal with the compiler's diagnostic.
Status compileCheckpoint(const CompileOptions &options);

}  // namespace girih::compiler
