// SPDX-License-Identifier: Apache-2.0
// Checks that a module is an imported graph.
#include "compiler/import/passes.h"

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "llvm/ADT/StringMap.h"

namespace girih::compiler {

#define GEN_PASS_DEF_VERIFYIMPORT
#include "compiler/import/passes.h.inc"

namespace {

using namespace mlir;

// A float constant of more elements is a weight that an importer left in the IR (a mask or a small table is
// less).
constexpr int64_t kMaxConstantElements = 65536;

LogicalResult verifyMain(ModuleOp module) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal())
    return module.emitError("the module has no function `main` with a body; an imported graph starts there");
  FunctionType type = main.getFunctionType();
  auto tokens = type.getNumInputs() ? dyn_cast<RankedTensorType>(type.getInput(0)) : RankedTensorType();
  if (!tokens || tokens.getRank() < 1 || tokens.getRank() > 2 || !tokens.getElementType().isInteger())
    return main.emitError("`main` takes ")
           << type << "; its first argument is the tokens, an integer tensor of rank 1, or 2 with a batch";
  auto logits = type.getNumResults() ? dyn_cast<RankedTensorType>(type.getResult(0)) : RankedTensorType();
  if (!logits || !logits.getElementType().isF32())
    return main.emitError("`main` gives ")
           << type.getResults() << "; its first result is the logits, an f32 tensor";
  return success();
}

LogicalResult verifyOp(Operation *op, llvm::StringMap<dialect::WeightOp> &weights) {
  if (auto weight = dyn_cast<dialect::WeightOp>(op)) {
    auto [first, isNew] = weights.try_emplace(weight.getName(), weight);
    if (isNew || first->second.getType() == weight.getType())
      return success();
    InFlightDiagnostic diagnostic = weight.emitOpError("weight ")
                                    << weight.getNameAttr() << " has type " << weight.getType()
                                    << " here and " << first->second.getType()
                                    << " elsewhere; a weight has one type";
    diagnostic.attachNote(first->second.getLoc()) << "the other type";
    return diagnostic;
  }
  Dialect *home = op->getDialect();
  // Importers compute extents by affine.apply too, and state by cf.assert what they rely on.
  if (!isa_and_nonnull<BuiltinDialect, func::FuncDialect, arith::ArithDialect, math::MathDialect,
                       tensor::TensorDialect, linalg::LinalgDialect>(home) &&
      !isa<affine::AffineApplyOp, cf::AssertOp>(op))
    return op->emitOpError("is not part of an imported graph; it holds func, arith, math, tensor and linalg "
                           "operations, affine.apply, cf.assert and girih.weight");
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    if (auto dense = dyn_cast<DenseElementsAttr>(constant.getValue()))
      if (!dense.isSplat() && isa<FloatType>(dense.getElementType()) &&
          dense.getNumElements() > kMaxConstantElements)
        return op->emitOpError("holds ") << dense.getNumElements() << " floats; more than "
                                         << kMaxConstantElements << " are a weight, which is a girih.weight";
  return success();
}

// Fails when `function` is reached from itself; `path` holds the functions being visited.
LogicalResult verifyNoRecursion(ModuleOp module, func::FuncOp function, llvm::SetVector<Operation *> &path,
                                llvm::DenseSet<Operation *> &checked) {
  if (checked.contains(function))
    return success();
  if (!path.insert(function))
    return function.emitError("function `")
           << function.getName() << "` calls itself; a graph has no recursion";
  WalkResult result = function.walk([&](func::CallOp call) {
    auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
    if (!callee || callee.isExternal()) {
      call.emitOpError("calls `") << call.getCallee()
                                  << "`, which has no body; the whole graph is in one module";
      return WalkResult::interrupt();
    }
    return succeeded(verifyNoRecursion(module, callee, path, checked)) ? WalkResult::advance()
                                                                       : WalkResult::interrupt();
  });
  path.remove(function);
  checked.insert(function);
  return success(!result.wasInterrupted());
}

struct VerifyImportPass : impl::VerifyImportBase<VerifyImportPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    llvm::StringMap<dialect::WeightOp> weights;
    llvm::SetVector<Operation *> path;
    llvm::DenseSet<Operation *> checked;
    bool isImported = succeeded(verifyMain(module));
    module->walk([&](Operation *op) {
      // A body's scalar operations are of the same dialects; all are asked, so that one run reports all.
      isImported &= succeeded(verifyOp(op, weights));
    });
    for (auto function : module.getOps<func::FuncOp>())
      isImported &= succeeded(verifyNoRecursion(module, function, path, checked));
    if (!isImported)
      return signalPassFailure();
    markAllAnalysesPreserved();
  }
};

} // namespace
} // namespace girih::compiler
