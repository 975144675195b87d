// SPDX-License-Identifier: Apache-2.0
// Stage `specialize`: its passes and its pipeline.
#pragma once

#include "dialects/girih/dialect.h"

#include "mlir/Pass/Pass.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/specialize/passes.h.inc"

struct SpecializeOptions {
  std::string kvElement = "f16";                // how the cache stores K and V: f16 or f32
  std::vector<int64_t> maxTokens = {1, 8, 512}; // a step function for each
  bool givesHidden = false;                     // and one that gives hidden states
};

// Makes the raised graph of one sequence the step functions.
void buildSpecializePipeline(mlir::OpPassManager &pipeline, const SpecializeOptions &options);

// Makes the stage's passes and its pipeline `girih-specialize` known by name.
void registerSpecializeStage();

} // namespace girih::compiler
