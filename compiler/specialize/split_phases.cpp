// SPDX-License-Identifier: Apache-2.0
// Makes a step function for each number of tokens worth its own code.
#include "compiler/specialize/passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

namespace girih::compiler {

#define GEN_PASS_DEF_SPLITPHASES
#include "compiler/specialize/passes.h.inc"

namespace {

using namespace mlir;

// One token: decode. Up to 8: a few sequences decoding, or a short draft. 512: chunks of prefill.
constexpr int64_t kDefaultMaxTokens[] = {1, 8, 16, 64, 512};

struct SplitPhasesPass : impl::SplitPhasesBase<SplitPhasesPass> {
  using SplitPhasesBase::SplitPhasesBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto main = module.lookupSymbol<func::FuncOp>("main");
    if (!main || main.isExternal()) {
      module.emitError("the module has no function `main` with a body");
      return signalPassFailure();
    }
    SmallVector<int64_t> bounds(maxTokens.begin(), maxTokens.end());
    if (bounds.empty())
      bounds.assign(std::begin(kDefaultMaxTokens), std::end(kDefaultMaxTokens));
    if (bounds.front() < 1 || !llvm::is_sorted(bounds, std::less_equal<int64_t>())) {
      module.emitError("the step functions' most tokens are not ascending from 1");
      return signalPassFailure();
    }
    SmallVector<func::FuncOp> functions(module.getOps<func::FuncOp>());
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    for (int64_t bound : bounds)
      for (func::FuncOp function : functions)
        cloneFor(builder, function, function == main, bound);
    if (Attribute model = main->getAttr("girih.model"))
      module->setAttr("girih.model", model);
    for (func::FuncOp function : functions)
      function.erase();
  }

  void cloneFor(OpBuilder &builder, func::FuncOp function, bool isMain, int64_t bound) {
    std::string suffix = "_t" + std::to_string(bound);
    auto clone = cast<func::FuncOp>(builder.clone(*function.getOperation()));
    clone.setName(isMain ? "step" + suffix : function.getName().str() + suffix);
    if (isMain) {
      clone->removeAttr("girih.model");
      clone->setAttr("girih.max_tokens", builder.getI64IntegerAttr(bound));
    }
    clone.walk([&](func::CallOp call) { call.setCallee(call.getCallee().str() + suffix); });
  }
};

} // namespace
} // namespace girih::compiler
