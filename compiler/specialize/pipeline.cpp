// SPDX-License-Identifier: Apache-2.0
// Stage `specialize`: the order of its passes.
#include "compiler/specialize/passes.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

namespace girih::compiler {

#define GEN_PASS_REGISTRATION
#include "compiler/specialize/passes.h.inc"

void buildSpecializePipeline(mlir::OpPassManager &pipeline, const SpecializeOptions &options) {
  // First, on the graph of one sequence: its proof speaks of that graph's tokens.
  InsertKvCacheOptions cache;
  cache.kvElement = options.kvElement;
  pipeline.addPass(createInsertKvCache(cache));
  // After the proof: a gathered row is a token no more.
  pipeline.addPass(createSelectLogitRows());
  pipeline.addPass(createSpellOut());
  pipeline.addPass(createAssignFormats());
  pipeline.addPass(mlir::createCanonicalizerPass());
  pipeline.addPass(mlir::createCSEPass());
  // Everything before is the same for all numbers of tokens.
  SplitPhasesOptions phases;
  phases.maxTokens.assign(options.maxTokens.begin(), options.maxTokens.end());
  pipeline.addPass(createSplitPhases(phases));
  // Last: of one number of tokens alone.
  if (options.givesHidden)
    pipeline.addPass(createGiveHiddenStates());
}

namespace {

// The stage's options as girih-opt reads them.
struct TextOptions : mlir::PassPipelineOptions<TextOptions> {
  Option<std::string> kvElement{*this, "kv-element", llvm::cl::desc("element type of the cache: f16 or f32"),
                                llvm::cl::init(SpecializeOptions().kvElement)};
  Option<bool> givesHidden{*this, "hidden", llvm::cl::desc("also a step function that gives hidden states"),
                           llvm::cl::init(false)};
  ListOption<int64_t> maxTokens{*this, "max-tokens", llvm::cl::desc("most tokens of each step function")};
};

} // namespace

void registerSpecializeStage() {
  registerGirih_specializePasses();
  mlir::PassPipelineRegistration<TextOptions>(
      "girih-specialize", "stage specialize: the ragged step with its KV cache",
      [](mlir::OpPassManager &pipeline, const TextOptions &text) {
        SpecializeOptions options;
        options.kvElement = text.kvElement;
        options.givesHidden = text.givesHidden;
        if (!text.maxTokens.empty())
          options.maxTokens.assign(text.maxTokens.begin(), text.maxTokens.end());
        buildSpecializePipeline(pipeline, options);
      });
}

} // namespace girih::compiler
