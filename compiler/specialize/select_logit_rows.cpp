// SPDX-License-Identifier: Apache-2.0
// Computes logits only for the tokens that are asked for.
#include "compiler/specialize/passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

namespace girih::compiler {

#define GEN_PASS_DEF_SELECTLOGITROWS
#include "compiler/specialize/passes.h.inc"

namespace {

using namespace mlir;

bool isPerToken(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == 2 && tensor.isDynamicDim(0) && !tensor.isDynamicDim(1) &&
         tensor.getElementType().isF32();
}

struct SelectLogitRowsPass : impl::SelectLogitRowsBase<SelectLogitRowsPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto main = module.lookupSymbol<func::FuncOp>("main");
    if (!main || main.isExternal() || main.getNumResults() != 1 || !isPerToken(main.getResultTypes()[0])) {
      module.emitError("`main` does not give the logits [T, V] of all tokens; selecting rows needs that");
      return signalPassFailure();
    }
    Type rowsType = RankedTensorType::get({ShapedType::kDynamic}, IntegerType::get(&getContext(), 32));
    SmallVector<Type> types(main.getArgumentTypes());
    types.push_back(rowsType);
    main.setType(FunctionType::get(&getContext(), types, main.getResultTypes()));
    Value rows = main.front().addArgument(rowsType, main.getLoc());
    OpOperand &wanted = selectedOperand(module, main);
    wanted.set(gather(wanted, rows));
  }

  // The operand whose rows are gathered: the head's activations, or what `main` returns.
  OpOperand &selectedOperand(ModuleOp module, func::FuncOp main) {
    OpOperand &logits = main.front().getTerminator()->getOpOperand(0);
    auto call = logits.get().getDefiningOp<func::CallOp>();
    if (!call || call->getNumResults() != 1 || module->hasAttr("girih.recompute"))
      return logits;
    auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
    bool hasCache = false;
    callee.walk(
        [&](Operation *op) { hasCache |= isa<dialect::AttentionOp, dialect::KvAppendOp, func::CallOp>(op); });
    OpOperand *perToken = nullptr;
    for (OpOperand &operand : call->getOpOperands()) {
      auto tensor = dyn_cast<RankedTensorType>(operand.get().getType());
      if (!tensor || tensor.hasStaticShape())
        continue;
      if (perToken || !isPerToken(tensor))
        return logits;
      perToken = &operand;
    }
    return hasCache || !perToken ? logits : *perToken;
  }

  Value gather(OpOperand &operand, Value rows) {
    OpBuilder builder(operand.getOwner());
    Location loc = operand.getOwner()->getLoc();
    auto type = cast<RankedTensorType>(operand.get().getType()); // [T, E]
    Value numRows = tensor::DimOp::create(builder, loc, rows, 0);
    Value init = tensor::EmptyOp::create(builder, loc, type.getShape(), type.getElementType(), numRows);
    return dialect::GatherRowsOp::create(builder, loc, init.getType(), rows, operand.get(), init).getResult();
  }
};

} // namespace
} // namespace girih::compiler
