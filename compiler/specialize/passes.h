// SPDX-License-Identifier: Apache-2.0
// Stage `specialize`: its passes and its pipeline.
#pragma once

#include "dialects/girih/dialect.h"

#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassOptions.h"

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/specialize/passes.h.inc"

struct SpecializeOptions : mlir::PassPipelineOptions<SpecializeOptions> {
  Option<std::string> kvElement{*this, "kv-element", llvm::cl::desc("element type of the cache: f16 or f32"),
                                llvm::cl::init("f16")};
  ListOption<int64_t> maxTokens{*this, "max-tokens", llvm::cl::desc("most tokens of each step function")};
};

// Makes the raised graph of one sequence the step functions.
void buildSpecializePipeline(mlir::OpPassManager &pipeline, const SpecializeOptions &options);

// Makes the stage's passes and its pipeline `girih-specialize` known by name.
void registerSpecializeStage();

}  // namespace girih::compiler
