// SPDX-License-Identifier: Apache-2.0
// The whole ladder: the only place where stages are joined.
#include "compiler/pipeline.h"

#include "compiler/allocate/passes.h"
#include "compiler/fuse/passes.h"
#include "compiler/import/passes.h"
#include "compiler/raise/passes.h"
#include "compiler/specialize/passes.h"
#include "compiler/tile/passes.h"

void girih::compiler::buildMachineFreeLadder(mlir::OpPassManager &pipeline, const LadderOptions &options) {
  buildImportPipeline(pipeline);
  buildRaisePipeline(pipeline);
  SpecializeOptions specialize;
  specialize.kvElement = options.kvElement;
  specialize.maxTokens = options.maxTokens;
  specialize.givesHidden = options.givesHidden;
  buildSpecializePipeline(pipeline, specialize);
  // Fusing asks no machine, so that all executables of a file read the same packed weights.
  buildFusePipeline(pipeline);
}

llvm::ArrayRef<llvm::StringRef> girih::compiler::optionalPasses() {
  static const llvm::StringRef kPasses[] = {
      "girih-outline-blocks",     "girih-raise-attention",  "girih-merge-projections",
      "girih-fuse-elementwise",   "girih-narrow-last-layer", "girih-reuse-operands",   "girih-choose-arithmetic",
      "girih-select-strategy",    "girih-split-attention",  "girih-merge-row-dispatches",
      "girih-repeat-cheap-dispatches"};
  return kPasses;
}

void girih::compiler::buildMachineLadder(mlir::OpPassManager &pipeline) {
  buildTilePipeline(pipeline);
  buildAllocatePipeline(pipeline);
}
