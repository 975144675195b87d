// SPDX-License-Identifier: Apache-2.0
// girih-reuse-operands: lets an elementwise op update an operand in place.
#include "compiler/fuse/passes.h"

namespace girih::compiler {
#define GEN_PASS_DEF_REUSEOPERANDS
#include "compiler/fuse/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;

namespace {

bool isFresh(Value destination) { return destination.getDefiningOp<tensor::EmptyOp>() != nullptr; }

// Whether `op` is the last in its block that touches `value`, and no other block does.
bool isLastUse(Value value, Operation *op) {
  for (Operation *user : value.getUsers())
    if (user != op && (user->getBlock() != op->getBlock() || op->isBeforeInBlock(user)))
      return false;
  return true;
}

// An operand that can become the destination: read where the result is written, of its type, dead afterwards.
OpOperand *reusableOperand(linalg::GenericOp op) {
  AffineMap resultMap = op.getIndexingMapMatchingResult(op->getResult(0));
  for (OpOperand *input : op.getDpsInputOperands()) {
    auto argument = dyn_cast<BlockArgument>(input->get());
    bool isCarried = argument && argument.getOwner() == op->getBlock() && isa<scf::ForOp>(op->getParentOp());
    if (isCarried && input->get().getType() == op.getResultTypes().front() &&
        op.getMatchingIndexingMap(input) == resultMap && isLastUse(input->get(), op))
      return input;
  }
  return nullptr;
}

void reuse(linalg::GenericOp op, OpOperand &operand) {
  Block *body = op.getBlock();
  unsigned position = operand.getOperandNumber();
  Value destination = operand.get();
  BlockArgument input = body->getArgument(position), output = body->getArguments().back();
  input.replaceAllUsesWith(output);
  SmallVector<Value> inputs(op.getInputs());
  inputs.erase(inputs.begin() + position);
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  maps.erase(maps.begin() + position);
  IRRewriter rewriter(op);
  auto updated = linalg::GenericOp::create(rewriter, op.getLoc(), op.getResultTypes(), inputs, destination, maps,
                                           op.getIteratorTypesArray());
  body->eraseArgument(position);
  updated.getRegion().takeBody(op.getRegion());
  rewriter.replaceOp(op, updated);
}

struct ReuseOperandsPass : girih::compiler::impl::ReuseOperandsBase<ReuseOperandsPass> {
  void runOnOperation() override {
    SmallVector<linalg::GenericOp> ops;
    getOperation().walk([&](linalg::GenericOp op) { ops.push_back(op); });
    for (linalg::GenericOp op : ops) {
      bool writesFresh = op.getNumDpsInits() == 1 && op.hasPureTensorSemantics() && isFresh(op.getDpsInits()[0]) &&
                         op.getNumParallelLoops() == op.getNumLoops();
      if (OpOperand *operand = writesFresh ? reusableOperand(op) : nullptr)
        reuse(op, *operand);
    }
  }
};

}  // namespace
