// SPDX-License-Identifier: Apache-2.0
// Adds a step function that gives the hidden states of the wanted rows in place of their logits.
#include "compiler/specialize/passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace girih::compiler {

#define GEN_PASS_DEF_GIVEHIDDENSTATES
#include "compiler/specialize/passes.h.inc"

namespace {

using namespace mlir;

bool isRowOfTokens(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && type.getRank() == 2 && type.isDynamicDim(0) && !type.isDynamicDim(1) &&
         type.getElementType().isF32();
}

// The only operand that is computed for each row, of an op that computes each element from the one in its place: what a
// head does to logits (a scale, a cap). Null: there is none.
Value scaledBy(Operation *op) {
  auto structured = dyn_cast_or_null<linalg::LinalgOp>(op);
  if (!structured || structured.getNumReductionLoops() > 0 || !structured.hasPureTensorSemantics())
    return {};
  Value scaled;
  for (OpOperand *input : structured.getDpsInputOperands()) {
    if (!isRowOfTokens(input->get()))
      continue;
    if (scaled || !structured.getMatchingIndexingMap(input).isIdentity())
      return {};
    scaled = input->get();
  }
  return scaled;
}

// What the last projection before `logits` reads, in the same function. Null: something else gives the logits.
Value projectedTo(Value logits) {
  while (logits) {
    if (auto projection = logits.getDefiningOp<dialect::QMatmulOp>())
      return isRowOfTokens(projection.getX()) ? projection.getX() : Value();
    logits = scaledBy(logits.getDefiningOp());
  }
  return {};
}

Value returnedBy(func::FuncOp function) {
  auto returned = cast<func::ReturnOp>(function.front().getTerminator());
  return returned.getNumOperands() == 1 ? returned.getOperand(0) : Value();
}

void eraseDead(func::FuncOp function) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.front())))
    if (isOpTriviallyDead(&op))
      op.erase();
}

// A copy of the function that returns the value which stands there in place of `instead`.
func::FuncOp cloneReturning(func::FuncOp function, Value instead, const Twine &name) {
  OpBuilder builder(function->getContext());
  builder.setInsertionPointToEnd(function->getParentOfType<ModuleOp>().getBody());
  IRMapping mapping;
  auto clone = cast<func::FuncOp>(builder.clone(*function, mapping));
  clone.setName(name.str());
  Value hidden = mapping.lookup(instead);
  clone.front().getTerminator()->setOperand(0, hidden);
  clone.setType(builder.getFunctionType(clone.getArgumentTypes(), hidden.getType()));
  eraseDead(clone);
  return clone;
}

func::FuncOp largestStep(ModuleOp module) {
  func::FuncOp largest;
  int64_t most = 0;
  for (auto function : module.getOps<func::FuncOp>())
    if (auto bound = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
        bound && bound.getInt() > most) {
      largest = function;
      most = bound.getInt();
    }
  return largest;
}

struct GiveHiddenStatesPass : impl::GiveHiddenStatesBase<GiveHiddenStatesPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp step = largestStep(module);
    Value logits = step ? returnedBy(step) : Value();
    // Without a cache the rows are chosen behind the head, which then sees all of them.
    if (!logits || module->hasAttr("girih.recompute"))
      return;
    std::string name = "hidden" + step.getName().substr(step.getName().rfind('_')).str();
    func::FuncOp entry;
    if (auto call = logits.getDefiningOp<func::CallOp>())
      entry = throughHead(module, step, call, name);
    else if (Value hidden = projectedTo(logits))
      entry = cloneReturning(step, hidden, name);
    if (!entry)
      return;
    OpBuilder builder(&getContext());
    entry->setAttr("girih.gives", builder.getStringAttr("hidden"));
    auto type = cast<RankedTensorType>(entry.getResultTypes().front());
    module->setAttr("girih.hidden_size", builder.getI64IntegerAttr(type.getDimSize(1)));
  }

  // The head is a function of its own: so is what is left of it.
  func::FuncOp throughHead(ModuleOp module, func::FuncOp step, func::CallOp call, const std::string &name) {
    auto head = module.lookupSymbol<func::FuncOp>(call.getCallee());
    Value logits = head && !head.isExternal() && call->getNumResults() == 1 ? returnedBy(head) : Value();
    Value hidden = logits ? projectedTo(logits) : Value();
    if (!hidden)
      return {};
    func::FuncOp rest = cloneReturning(head, hidden, head.getName() + "_hidden");
    func::FuncOp entry = cloneReturning(step, call.getResult(0), name);
    auto ofEntry = returnedBy(entry).getDefiningOp<func::CallOp>();
    ofEntry.setCallee(rest.getName());
    ofEntry.getResult(0).setType(rest.getResultTypes().front());
    entry.setType(FunctionType::get(&getContext(), entry.getArgumentTypes(), rest.getResultTypes()));
    return entry;
  }
};

} // namespace
} // namespace girih::compiler
