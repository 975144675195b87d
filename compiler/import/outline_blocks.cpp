// SPDX-License-Identifier: Apache-2.0
// Makes one function of all layers that are alike.
//
// Weights move out of the functions first, callees before callers; what differed between two layers only by
// weight names is then the same text, and equality of regions is all that is left to ask.
#include "compiler/import/passes.h"

#include "dialects/girih/dialect.h"

#include "mlir/Analysis/CallGraph.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/SCCIterator.h"
#include "llvm/Support/DebugLog.h"

#define DEBUG_TYPE "girih-outline-blocks"

namespace girih::compiler {

#define GEN_PASS_DEF_OUTLINEBLOCKS
#include "compiler/import/passes.h.inc"

namespace {

using namespace mlir;

// All functions of `module`, callees before their callers. Requires: no recursion (verify_import).
SmallVector<func::FuncOp> calleesFirst(ModuleOp module) {
  SmallVector<func::FuncOp> order;
  llvm::DenseSet<Operation *> visited;
  std::function<void(func::FuncOp)> visit = [&](func::FuncOp function) {
    if (!visited.insert(function).second)
      return;
    function.walk([&](func::CallOp call) {
      if (auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee()))
        visit(callee);
    });
    order.push_back(function);
  };
  for (auto function : module.getOps<func::FuncOp>())
    visit(function);
  return order;
}

SmallVector<func::CallOp> callsOf(ModuleOp module, func::FuncOp callee) {
  SmallVector<func::CallOp> calls;
  module.walk([&](func::CallOp call) {
    if (call.getCallee() == callee.getName())
      calls.push_back(call);
  });
  return calls;
}

// Turns the weights that `function` names into trailing arguments, named by each caller instead.
void liftWeights(ModuleOp module, func::FuncOp function) {
  SmallVector<dialect::WeightOp> weights;
  function.walk([&](dialect::WeightOp weight) { weights.push_back(weight); });
  if (weights.empty())
    return;
  SmallVector<func::CallOp> calls = callsOf(module, function);
  Block &body = function.front();
  SmallVector<Type> argumentTypes(function.getArgumentTypes());
  for (dialect::WeightOp weight : weights) {
    argumentTypes.push_back(weight.getType());
    weight.replaceAllUsesWith(Value(body.addArgument(weight.getType(), weight.getLoc())));
  }
  function.setType(FunctionType::get(function.getContext(), argumentTypes, function.getResultTypes()));
  for (func::CallOp call : calls) {
    OpBuilder builder(call);
    SmallVector<Value> operands(call.getOperands());
    for (dialect::WeightOp weight : weights)
      operands.push_back(builder.clone(*weight)->getResult(0));
    call->setOperands(operands);
  }
  for (dialect::WeightOp weight : weights)
    weight.erase();
}

// Whether two functions compute the same, apart from their names and locations.
bool areTwins(func::FuncOp left, func::FuncOp right) {
  if (left.getFunctionType() != right.getFunctionType())
    return false;
  return OperationEquivalence::isRegionEquivalentTo(&left.getBody(), &right.getBody(),
                                                    OperationEquivalence::IgnoreLocations);
}

struct OutlineBlocksPass : impl::OutlineBlocksBase<OutlineBlocksPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    for (func::FuncOp function : calleesFirst(module))
      if (function.isPrivate() && !function.isExternal())
        liftWeights(module, function);

    // Callees first again: callers are twins only once their callees are one function.
    SmallVector<func::FuncOp> kept;
    SmallVector<int64_t> numTwins;
    for (func::FuncOp function : calleesFirst(module)) {
      if (!function.isPrivate() || function.isExternal())
        continue;
      auto *twin = llvm::find_if(kept, [&](func::FuncOp other) { return areTwins(function, other); });
      if (twin == kept.end()) {
        kept.push_back(function);
        numTwins.push_back(1);
        continue;
      }
      LDBG() << function.getName() << " is " << twin->getName();
      ++numTwins[twin - kept.begin()];
      for (func::CallOp call : callsOf(module, function))
        call.setCallee(twin->getName());
      function.erase();
    }
    nameBlocks(module, kept, numTwins);
  }

  // Blocks are numbered in the order in which the module runs them.
  void nameBlocks(ModuleOp module, ArrayRef<func::FuncOp> kept, ArrayRef<int64_t> numTwins) {
    SymbolTable symbols(module);
    int64_t nextBlock = 0;
    for (auto [function, count] : llvm::zip_equal(kept, numTwins)) {
      if (count < 2)
        continue;
      std::string name;
      do
        name = ("block_" + llvm::Twine(nextBlock++)).str();
      while (symbols.lookup(name));
      func::FuncOp renamed = function;
      if (failed(symbols.rename(renamed, name)))
        return signalPassFailure();
    }
  }
};

} // namespace
} // namespace girih::compiler
